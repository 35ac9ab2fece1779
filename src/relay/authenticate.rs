//! Asking who a client is, away from the reactor: a password's hash takes tens of milliseconds and megabytes.
//!
//! As many are asked at a time as there are cores, so hashes never take more memory than that many. Others wait, a bounded number, each
//! until its connect deadline. Files of users and keys are looked at before, once a second at most, and read again when they have changed.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

use crate::{
    auth::{self, Certificate, Chain, Credentials, Held, Method, Verdict},
    downstream::CertificateIdentity,
    mqtt::ReasonCode,
};

/// Clients that may wait for their turn.
const MOST_WAITING: usize = 4096;
/// A file is looked at no sooner again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of the largest file of users or keys that is read.
pub const LARGEST_FILE: u64 = 256 << 20;

/// What a client has shown, owned: the question outlives the turn of its connection.
#[derive(Debug)]
pub struct Shown {
    pub client: String,
    pub username: Option<String>,
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub certificate: Option<CertificateIdentity>,
}

impl Shown {
    /// As the chain looks at it.
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials {
            client: &self.client,
            username: self.username.as_deref(),
            password: self.password.as_ref().map(|p| p.as_slice()),
            certificate: self.certificate.as_ref().map(|c| Certificate {
                common_name: c.common_name.as_deref(),
                subject: c.subject.as_deref(),
                dns: &c.dns_names,
                uris: &c.uris,
                emails: &c.emails,
            }),
        }
    }
}

/// All logins of the process.
#[derive(Debug)]
pub struct Logins {
    turns: Semaphore,
    waiting: AtomicUsize,
    /// When each file was looked at last, and what it was then.
    looks: Mutex<HashMap<PathBuf, Look>>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    seen: Option<(SystemTime, u64)>,
}

impl Default for Logins {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Semaphore::new(cores),
            waiting: AtomicUsize::new(0),
            looks: Mutex::default(),
        }
    }
}

impl Logins {
    /// Asks in a task of its own; the answer comes to `tell`, or `tell` is dropped. A question that nobody waits for any more is not asked.
    pub fn ask(self: &Arc<Self>, chain: Arc<Chain>, shown: Shown, tell: oneshot::Sender<Verdict>) {
        let logins = self.clone();
        if logins.waiting.fetch_add(1, Relaxed) >= MOST_WAITING {
            logins.waiting.fetch_sub(1, Relaxed);
            let busy = Verdict::Refused {
                reason: ReasonCode::ServerBusy,
                why: "too_many_logins",
            };
            // Fails only if the connection is gone.
            let _ = tell.send(busy);
            return;
        }
        tokio::spawn(async move {
            let turn = logins.turns.acquire().await;
            logins.waiting.fetch_sub(1, Relaxed);
            if turn.is_err() || tell.is_closed() {
                return;
            }
            let asked = {
                let logins = logins.clone();
                tokio::task::spawn_blocking(move || logins.judge(&chain, &shown))
            };
            if let Ok(verdict) = asked.await {
                let _ = tell.send(verdict);
            }
        });
    }

    fn judge(&self, chain: &Chain, shown: &Shown) -> Verdict {
        for method in chain.methods() {
            match method {
                Method::Passwords(users) => self.refresh(users, auth::passwords::Passwords::parse),
                Method::Jwt { keys, .. } => self.refresh(keys, auth::jwt::KeySet::parse),
                Method::Certificate(_) | Method::Anonymous => {}
            }
        }
        chain.judge(&shown.credentials(), now_seconds())
    }

    /// Reads a file again that has changed. One that cannot be used leaves the last reading in force, and is told.
    fn refresh<T>(&self, held: &Held<T>, parse: impl FnOnce(&str) -> Result<T, String>) {
        let seen = fs::metadata(&held.path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match looks.get_mut(&held.path) {
                Some(look) if now.duration_since(look.at) < LOOK_AGAIN => return,
                Some(look) if look.seen == seen => {
                    look.at = now;
                    return;
                }
                _ => looks.insert(held.path.clone(), Look { at: now, seen }),
            };
        }
        match read(&held.path).and_then(|text| parse(&text)) {
            Ok(value) => held.set(value),
            Err(why) => {
                tracing::error!(file = %held.path.display(), why, "a file of users or keys cannot be used; what was read before stays in force");
            }
        }
    }
}

/// A file of users or keys as text.
///
/// # Errors
/// It cannot be read, is too large or no text.
pub fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text));
    read.map_err(|e| format!("cannot be read: {e}"))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(format!("is larger than {} MiB", LARGEST_FILE >> 20));
    }
    Ok(text)
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
