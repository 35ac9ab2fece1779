//! Asking who a client is, away from the reactor: a password's hash takes tens of milliseconds and megabytes.
//!
//! As many are asked at a time as there are cores, so hashes never take more memory than that many. Others wait, a bounded number and in a fair
//! order (`line`), each until its connect deadline or its client is seen to be gone: of one that has sent more behind its CONNECT only the answer's
//! write tells. Who waits for a server, or for newer keys, has no turn. Files of users and keys are looked at before, once a second at most, and read again when they have changed.

use std::{
    fs::{self, File},
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{line::Line, mailbox::Mailbox, settings::Access};
use crate::{
    auth::{
        Certificate, Chain, Credentials, Exchange, Held, Inquiry, Keys, Look, Method, Step, Verdict, jwt::KeySet, passwords::Passwords,
        scram::Verifiers,
    },
    downstream::{CertificateIdentity, network_of},
    mqtt::ReasonCode,
    resources::{KeySets, LoginServers},
};

/// A file is looked at no sooner again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of the largest file of users or keys that is read.
pub const LARGEST_FILE: u64 = 256 << 20;

/// What a client has shown, owned: the question outlives the turn of its connection. Without `Debug`: it holds a password.
pub struct Shown {
    pub client: String,
    pub username: Option<String>,
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub certificate: Option<CertificateIdentity>,
    /// Where it comes from, if that is known.
    pub address: Option<SocketAddr>,
}

impl Shown {
    /// As the chain looks at it.
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials {
            client: &self.client,
            username: self.username.as_deref(),
            password: self.password.as_ref().map(|p| p.as_slice()),
            certificate: self.certificate.as_ref().map(names_of),
        }
    }
}

/// The names in a certificate, as the chain looks at them.
pub fn names_of(certificate: &CertificateIdentity) -> Certificate<'_> {
    Certificate {
        common_name: certificate.common_name.as_deref(),
        subject: certificate.subject.as_deref(),
        dns: &certificate.dns_names,
        uris: &certificate.uris,
        emails: &certificate.emails,
        addresses: &certificate.addresses,
    }
}

/// What the first message of enhanced authentication comes to: the exchange with what the client is to answer, or a refusal.
pub type Begun = Result<(Exchange, Vec<u8>), Verdict>;

/// All logins of the process.
#[derive(Debug)]
pub struct Logins {
    pub(super) line: Arc<Line>,
    key_sets: KeySets,
    servers: LoginServers,
}

impl Logins {
    /// With these key sets and servers.
    pub fn new(key_sets: KeySets, servers: LoginServers) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            line: Line::new(cores),
            key_sets,
            servers,
        }
    }

    /// Has the key sets of servers fetched anew.
    pub fn refresh_key_sets(&self) {
        self.key_sets.refresh();
    }

    /// Asks in a task of its own; the answer comes to `tell`, or `tell` is dropped. A question that nobody waits for any more is not asked: a
    /// connection looks meanwhile whether its client is gone.
    pub fn ask(self: &Arc<Self>, chain: Arc<Chain>, shown: Shown, mut tell: oneshot::Sender<Verdict>) {
        let logins = self.clone();
        tokio::spawn(async move {
            let decided = tokio::select! {
                decided = logins.decide(chain, shown) => decided,
                () = tell.closed() => return,
            };
            // Dropped without a word: it ended by a panic.
            if let Some(verdict) = decided {
                let _ = tell.send(verdict);
            }
        });
    }

    /// Takes the first message of enhanced authentication of a client that comes from this address; the answer comes to `tell`, or `tell` is
    /// dropped. `mailbox` is rung then. A client that has gone keeps its place from nobody.
    pub fn begin(
        self: &Arc<Self>,
        chain: Arc<Chain>,
        (message, from): (Vec<u8>, IpAddr),
        mut tell: oneshot::Sender<Begun>,
        mailbox: Arc<Mailbox>,
    ) {
        let logins = self.clone();
        tokio::spawn(async move {
            let begun = tokio::select! {
                begun = logins.begun(chain, message, from) => begun,
                () = tell.closed() => return,
            };
            answer(tell, begun, &mailbox);
        });
    }

    async fn begun(&self, chain: Arc<Chain>, message: Vec<u8>, from: IpAddr) -> Option<Begun> {
        let turn = match self.line.turn(network_of(from)).await {
            Ok(turn) => turn,
            Err(why) => return Some(Err(busy(why))),
        };
        let asked = tokio::task::spawn_blocking(move || {
            let begun = begin(&chain, &message);
            drop(turn);
            begun
        });
        asked.await.ok()
    }

    /// `None`: it ended by a panic. Cancel-safe.
    async fn decide(&self, chain: Arc<Chain>, shown: Shown) -> Option<Verdict> {
        let (shown, ended) = (Arc::new(shown), self.key_sets.ended());
        let (mut inquiry, mut waited) = (Inquiry::default(), false);
        let address = shown.address.map(|address| address.ip());
        let network = network_of(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()));
        let mut turn = match self.line.turn(network).await {
            Ok(turn) => turn,
            Err(why) => return Some(busy(why)),
        };
        loop {
            let (chain_too, shown_too) = (chain.clone(), shown.clone());
            // The turn goes along: what was begun takes its memory to its end, whether somebody waits for it or not.
            let asked = tokio::task::spawn_blocking(move || {
                let step = go_on(&chain_too, &mut inquiry, &shown_too);
                drop(turn);
                (step, inquiry)
            });
            let step;
            (step, inquiry) = asked.await.ok()?;
            match step {
                Step::Ask(number) => {
                    inquiry.hear(self.servers.ask(number, &shown.credentials(), address).await);
                }
                Step::Decided(verdict) if waited || !inquiry.wants_newer_keys() => return Some(verdict),
                Step::Decided(verdict) => {
                    waited = true;
                    if !self.key_sets.newer(chain.fetched(), ended).await {
                        return Some(verdict);
                    }
                }
            }
            // What a server has decided is not to be lost because others came meanwhile.
            turn = self.line.another_turn(network).await;
        }
    }
}

/// Gives an answer, or none if it ended by a panic: then `tell` is dropped. Either before the mailbox is rung: who is woken finds which it is, and
/// would not be woken for it again.
fn answer(tell: oneshot::Sender<Begun>, begun: Option<Begun>, mailbox: &Mailbox) {
    match begun {
        // An error: nobody waits for it any more.
        Some(begun) => drop(tell.send(begun)),
        None => drop(tell),
    }
    mailbox.ring();
}

fn busy(why: &'static str) -> Verdict {
    Verdict::Refused {
        reason: ReasonCode::ServerBusy,
        why,
    }
}

fn go_on(chain: &Chain, inquiry: &mut Inquiry, shown: &Shown) -> Step {
    refresh_all(chain);
    chain.go_on(inquiry, &shown.credentials(), now_seconds())
}

fn begin(chain: &Chain, message: &[u8]) -> Begun {
    refresh_all(chain);
    let mut chance = [0; 18];
    if aws_lc_rs::rand::fill(&mut chance).is_err() {
        return Err(Verdict::Refused {
            reason: ReasonCode::UnspecifiedError,
            why: "login_failed",
        });
    }
    chain.begin(message, &BASE64.encode(chance))
}

/// Reads the files of a chain that have changed.
fn refresh_all(chain: &Chain) {
    let now = Instant::now();
    for method in chain.methods() {
        match method {
            Method::Passwords(users) => refresh(users, now, Passwords::parse),
            Method::Scram(users) => refresh(users, now, Verifiers::parse),
            Method::Jwt {
                keys: Keys::File(keys), ..
            } => refresh(keys, now, KeySet::parse),
            Method::Jwt { .. } | Method::Certificate(_) | Method::Http(_) | Method::Anonymous => {}
        }
    }
}

/// Reads a file again that has changed. One that cannot be used leaves the last reading in force, is told once, and read again at the next
/// look: what was wrong with it need not show in its time and length.
fn refresh<T>(held: &Held<T>, now: Instant, parse: impl FnOnce(&str) -> Result<T, String>) {
    if let Some(mut look) = held.look(now, LOOK_AGAIN) {
        read_changed(held, &mut look, parse);
    }
}

/// Reads all files of users and keys again, also those that look as before. Blocks.
pub fn read_anew(access: &Access) {
    fn anew<T>(held: &Held<T>, parse: impl FnOnce(&str) -> Result<T, String>) {
        if read_changed(held, &mut held.look_anew(Instant::now()), parse) {
            tracing::info!(file = %held.path.display(), "users or keys were read again");
        }
    }
    let chains = access.chain.iter().chain(access.listeners.values().flatten());
    for method in chains.flat_map(|chain| chain.methods()) {
        match method {
            Method::Passwords(users) => anew(users, Passwords::parse),
            Method::Scram(users) => anew(users, Verifiers::parse),
            Method::Jwt {
                keys: Keys::File(keys), ..
            } => anew(keys, KeySet::parse),
            Method::Jwt { .. } | Method::Certificate(_) | Method::Http(_) | Method::Anonymous => {}
        }
    }
}

/// Whether there is a new reading.
fn read_changed<T>(held: &Held<T>, look: &mut Look, parse: impl FnOnce(&str) -> Result<T, String>) -> bool {
    // Before it is read: a change in between is found at the next look.
    let seen = fs::metadata(&held.path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
    if seen.is_some() && look.read == seen {
        return false;
    }
    match read(&held.path).and_then(|text| parse(&text)) {
        Ok(value) => {
            held.set(value);
            look.read = seen;
            look.told = None;
            return true;
        }
        Err(why) if look.told.as_ref() == Some(&why) => {}
        Err(why) => {
            tracing::error!(file = %held.path.display(), why, "a file of users or keys cannot be used; what was read before stays in force");
            look.told = Some(why);
        }
    }
    false
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

#[cfg(test)]
#[path = "authenticate_tests.rs"]
mod tests;
