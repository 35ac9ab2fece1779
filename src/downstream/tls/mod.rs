//! From the PEM files of a listener to rustls' settings; each fault with its path and its remedy. And again when the files
//! change: connections that are open stay, the next handshake has the new ones.

mod lasting;
mod names;
mod parts;
mod refusal;
mod revocation;
mod tickets;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, crypto, version};
use tokio::sync::Notify;
use tokio::task::JoinError;

pub(super) use self::refusal::certificate_fault;

use self::lasting::LastingTickets;
use self::names::Certificates;
use self::parts::{Looks, Parts, Trust, looks};
use self::tickets::TimedTickets;
use super::settings::TlsSettings;
use crate::pem::Fault;

/// How often it is looked whether files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the TLS of a listener is at the moment.
#[derive(Debug)]
pub(super) struct Tls {
    settings: TlsSettings,
    /// The protocol that the listener speaks (RFC 7301).
    alpn: &'static [u8],
    /// Held for a clone, and never over an await.
    current: RwLock<Current>,
    /// What the files look like that are being read, or whose reading has panicked: it would again.
    tried: Mutex<Option<Looks>>,
    /// Rung to have the files read at once, changed or not.
    anew: Notify,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    parts: Parts,
    /// What the files looked like when they were read.
    read: Looks,
    /// Of each part, why it stays as it was. Such a one is read again although it looks the same: who may read it has no look.
    faults: Vec<Option<Fault>>,
}

/// What was wrong with files that were read again.
#[derive(Debug, PartialEq, Eq)]
struct Unusable {
    faults: Vec<Fault>,
    /// Something else has changed, and is in use.
    is_rest_new: bool,
}

impl Tls {
    /// Reads and checks everything a TLS listener needs.
    pub(super) fn new(settings: &TlsSettings, alpn: &'static [u8]) -> Result<Self, Fault> {
        let current = first(settings, alpn)?;
        Ok(Self {
            settings: settings.clone(),
            alpn,
            current: RwLock::new(current),
            tried: Mutex::default(),
            anew: Notify::new(),
        })
    }

    /// Has whoever follows the files read them at once, also if they look as before.
    pub(super) fn read_anew(&self) {
        self.anew.notify_one();
    }

    /// For the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// Looks again at the certificate of a device that goes on with a session: the ticket brings what was verified when the session began,
    /// and each use of one brings another, so a certificate would be good long after it has expired.
    pub(super) fn verify_resumed(&self, session: &ServerConnection) -> Result<(), rustls::Error> {
        let trust = self.current.read().unwrap_or_else(PoisonError::into_inner).parts.trust.clone();
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let Some(verifier) = trust.verifier.as_ref().filter(|_| resumed) else {
            return Ok(());
        };
        match session.peer_certificates() {
            Some([device, intermediates @ ..]) => verifier.verify_client_cert(device, intermediates, UnixTime::now()).map(drop),
            _ if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            _ => Ok(()),
        }
    }

    /// Reads the files again whenever they have changed. What cannot be used is told, once for each fault, and tried again: a
    /// certificate and its key are two files, which change one after the other.
    pub(super) async fn follow(self: Arc<Self>, listener: Box<str>) {
        let mut told = None;
        loop {
            let anew = tokio::time::timeout(LOOK_EVERY, self.anew.notified()).await.is_ok();
            if anew {
                told = None;
            }
            let own = self.clone();
            let done = tokio::task::spawn_blocking(move || own.read_again(anew)).await;
            let Some(read) = outcome(done) else { return };
            match read {
                Ok(false) => {}
                Ok(true) => {
                    told = None;
                    tracing::info!(listener = &*listener, "certificates were read again; new handshakes have them");
                }
                Err(Unusable { faults, is_rest_new }) if is_rest_new || told.as_ref() != Some(&faults) => {
                    for (message, remedy) in &faults {
                        tracing::warn!(listener = &*listener, "the former certificates stay: {message}; {remedy}");
                    }
                    if is_rest_new {
                        tracing::info!(listener = &*listener, "all else that has changed is in use");
                    }
                    told = Some(faults);
                }
                Err(_) => {}
            }
        }
    }

    /// Whether the files had changed, or are read anew in any case, and are in use now. Blocks.
    fn read_again(&self, anew: bool) -> Result<bool, Unusable> {
        self.read_again_by(anew, |former| again(&self.settings, self.alpn, former, anew))
    }

    fn read_again_by(&self, anew: bool, read: impl FnOnce(&Current) -> Result<Current, Fault>) -> Result<bool, Unusable> {
        let former = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let tried = || self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks(&self.settings);
        let is_read = looks == former.read && former.faults.iter().all(Option::is_none);
        if !anew && (is_read || tried().as_ref() == Some(&looks)) {
            return Ok(false);
        }
        *tried() = Some(looks);
        let current = read(&former);
        // Reached unless that has panicked.
        *tried() = None;
        let current = current.map_err(|fault| Unusable {
            faults: vec![fault],
            is_rest_new: false,
        })?;
        let faults: Vec<Fault> = current.faults.iter().flatten().cloned().collect();
        let is_new = !Arc::ptr_eq(&current.config, &former.config);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        if faults.is_empty() {
            return Ok(true);
        }
        Err(Unusable {
            faults,
            is_rest_new: is_new,
        })
    }
}

/// What came of reading; `None`: the runtime ends. Whatever a file may do to the libraries that read it, the listener goes on.
fn outcome(done: Result<Result<bool, Unusable>, JoinError>) -> Option<Result<bool, Unusable>> {
    match done {
        Ok(read) => Some(read),
        Err(e) if e.is_panic() => Some(Err(Unusable {
            faults: vec![(
                "reading the files has panicked".to_owned(),
                "report this as a defect, with the files that are no secret".to_owned(),
            )],
            is_rest_new: false,
        })),
        Err(_) => None,
    }
}

fn first(settings: &TlsSettings, alpn: &[u8]) -> Result<Current, Fault> {
    // Before the files: what changes while they are read is read again.
    let read = looks(settings);
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let parts = Parts::read(settings, &provider)?;
    Ok(Current {
        config: config(&parts, alpn, &provider, None)?,
        parts,
        faults: vec![None; read.len()],
        read,
    })
}

/// What has changed since, was at fault, or is to be read anew with all.
fn again(settings: &TlsSettings, alpn: &[u8], former: &Current, anew: bool) -> Result<Current, Fault> {
    let read = looks(settings);
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let is_stale = |at: usize| anew || read[at] != former.read[at] || former.faults[at].is_some();
    let (parts, faults) = former.parts.read_again(settings, &provider, is_stale);
    let config = match parts.are(&former.parts) {
        true => former.config.clone(),
        false => config(&parts, alpn, &provider, Some(former))?,
    };
    Ok(Current {
        config,
        parts,
        read,
        faults,
    })
}

fn config(parts: &Parts, alpn: &[u8], provider: &Arc<CryptoProvider>, former: Option<&Current>) -> Result<Arc<ServerConfig>, Fault> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|e| (format!("TLS cannot be set up: {e}"), "report this as a defect".to_owned()))?;
    let Trust { verifier, digest, .. } = &*parts.trust;
    let builder = match verifier.clone() {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (first, more) = parts.pairs.split_first().expect("there is one");
    let mut config = builder.with_cert_resolver(Arc::new(Certificates::new(first.clone(), more)));
    // Offered, not required: a client that names no protocol is taken too. One that names only others is refused by rustls.
    config.alpn_protocols = vec![alpn.to_vec()];
    // Resumption without memory: the state is in the client's ticket, and TLS 1.2 has no cache beside it, which knows neither keys nor their time.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = match (&parts.secrets, former) {
        (Some(secrets), _) => lasting(Arc::new(secrets.bound(digest)?), verifier.as_ref()),
        // The keys that this process has made stay with what they were made for.
        (None, Some(former)) if former.parts.trust.digest == *digest => former.config.ticketer.clone(),
        (None, _) => lasting(own_tickets()?, verifier.as_ref()),
    };
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Where devices show certificates their tickets are good no longer than those.
fn lasting(tickets: Arc<dyn ProducesTickets>, verifier: Option<&Arc<dyn ClientCertVerifier>>) -> Arc<dyn ProducesTickets> {
    match verifier {
        Some(verifier) => Arc::new(LastingTickets::new(tickets, verifier.clone())),
        None => tickets,
    }
}

/// Under keys that this process makes and rotates.
fn own_tickets() -> Result<Arc<dyn ProducesTickets>, Fault> {
    let made = crypto::aws_lc_rs::Ticketer::new().map_err(|e| {
        (
            format!("no key for session tickets: {e}"),
            "check the system's random source".to_owned(),
        )
    })?;
    Ok(Arc::new(TimedTickets(made)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::super::settings::ClientAuth;
    use super::*;

    /// The one fault.
    #[track_caller]
    fn fault(read: Result<bool, Unusable>) -> Fault {
        let Unusable { mut faults, is_rest_new } = read.unwrap_err();
        assert!(faults.len() == 1 && !is_rest_new, "{faults:?}");
        faults.remove(0)
    }

    fn pair(folder: &Path) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pair = (made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(folder.join("server.pem"), &pair.0).unwrap();
        fs::write(folder.join("server.key"), &pair.1).unwrap();
        pair
    }

    fn settings(folder: &Path) -> TlsSettings {
        TlsSettings {
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            more: vec![],
            client_ca: None,
            client_auth: ClientAuth::None,
            client_crl: None,
            ticket_keys: None,
        }
    }

    #[test]
    fn what_panicked_is_read_again_only_when_it_looks_different_or_somebody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path());
        let settings = settings(folder.path());
        let tls = Tls::new(&settings, b"mqtt").unwrap();
        let panics = |anew| {
            catch_unwind(AssertUnwindSafe(|| {
                tls.read_again_by(anew, |_| panic!("a file that nobody has thought of"))
            }))
        };
        fs::write(&settings.key, format!("{key}\n")).unwrap();
        assert!(panics(false).is_err());
        assert_eq!(panics(false).unwrap(), Ok(false), "not once more");
        assert!(panics(true).is_err(), "whoever asks knows better");
        fs::write(&settings.certificate, format!("{certificate}\n")).unwrap();
        assert_eq!(tls.read_again(false), Ok(true));
        assert_eq!(tls.read_again(false), Ok(false));
    }

    /// Each second, and so that what else is new is known.
    #[test]
    fn of_files_at_fault_it_is_said_whether_all_else_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path());
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let settings = TlsSettings {
            more: vec![(write("b.pem", &certificate), write("b.key", &key))],
            ..settings(folder.path())
        };
        let tls = Tls::new(&settings, b"mqtt").unwrap();
        write("b.key", "none");
        for _ in 0..2 {
            assert!(fault(tls.read_again(false)).0.contains("holds no private key"));
        }
        let former = tls.config();
        pair(folder.path());
        let Unusable { faults, is_rest_new } = tls.read_again(false).unwrap_err();
        assert!(faults.len() == 1 && faults[0].0.contains("b.key") && is_rest_new, "{faults:?}");
        assert!(!Arc::ptr_eq(&tls.config(), &former) && Arc::ptr_eq(&tls.config().ticketer, &former.ticketer));
        assert!(fault(tls.read_again(false)).0.contains("b.key"), "nothing else is new any more");
        write("b.key", &key);
        assert_eq!(tls.read_again(false), Ok(true));
        assert_eq!(tls.read_again(false), Ok(false));
    }

    #[tokio::test]
    async fn only_the_end_of_the_runtime_ends_the_watch_over_files() {
        let panicked = tokio::task::spawn_blocking(|| panic!("a file that nobody has thought of")).await;
        let (message, _) = fault(outcome(panicked).expect("it goes on"));
        assert!(message.contains("panicked"), "{message}");
        let cancelled = tokio::spawn(std::future::pending());
        cancelled.abort();
        assert_eq!(outcome(cancelled.await), None);
        assert_eq!(outcome(Ok(Ok(true))), Some(Ok(true)));
    }

    #[test]
    fn what_cannot_be_used_changes_nothing_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let (_, former_key) = pair(folder.path());
        let settings = settings(folder.path());
        let tls = Tls::new(&settings, b"mqtt").unwrap();
        let former = tls.config();
        assert_eq!(tls.read_again(false), Ok(false));
        let (_, key) = pair(folder.path());
        fs::write(&settings.key, format!("{former_key}\n")).unwrap();
        for _ in 0..2 {
            let (message, _) = fault(tls.read_again(false));
            assert!(message.contains("does not belong to certificate"), "{message}");
            assert!(Arc::ptr_eq(&tls.config(), &former));
        }
        fs::remove_file(&settings.key).unwrap();
        assert!(fault(tls.read_again(false)).0.contains("cannot be read"));
        fs::write(&settings.key, key).unwrap();
        assert_eq!(tls.read_again(false), Ok(true));
        assert!(!Arc::ptr_eq(&tls.config(), &former));
        assert!(
            Arc::ptr_eq(&tls.config().ticketer, &former.ticketer),
            "sessions go on: they rest on the same"
        );
        assert_eq!(tls.read_again(false), Ok(false));
        let second = tls.config();
        assert_eq!(tls.read_again(true), Ok(true), "whoever asks knows better than times and lengths");
        assert!(!Arc::ptr_eq(&tls.config(), &second));
    }
}
