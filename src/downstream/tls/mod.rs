//! From the PEM files of a listener to rustls' settings; each fault with its path and its remedy. And again when the files
//! change: connections that are open stay, the next handshake has the new ones.

mod lasting;
mod names;
mod refusal;
mod revocation;
mod tickets;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, crypto, version};
use tokio::sync::Notify;
use tokio::task::JoinError;

pub(super) use self::refusal::certificate_fault;

use self::lasting::LastingTickets;
use self::names::Certificates;
use self::tickets::SharedTickets;
use super::settings::{ClientAuth, TicketKeys, TlsSettings};
use crate::pem::{self, Fault};

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
    tried: Mutex<Option<Vec<Look>>>,
    /// Rung to have the files read at once, changed or not.
    anew: Notify,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// What the files looked like when they were read.
    read: Vec<Look>,
    /// Digest of what a session rests on.
    trust: Vec<u8>,
}

/// Size and time of a file; `None`: it is not there.
type Look = Option<(u64, SystemTime)>;

impl Tls {
    /// Reads and checks everything a TLS listener needs.
    pub(super) fn new(settings: &TlsSettings, alpn: &'static [u8]) -> Result<Self, Fault> {
        let current = read(settings, alpn, None)?;
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
        let verifier = self.current.read().unwrap_or_else(PoisonError::into_inner).verifier.clone();
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let Some(verifier) = verifier.filter(|_| resumed) else {
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
                Err(fault) if told.as_ref() == Some(&fault) => {}
                Err(fault) => {
                    let (message, remedy) = &fault;
                    tracing::warn!(listener = &*listener, "the former certificates stay: {message}; {remedy}");
                    told = Some(fault);
                }
            }
        }
    }

    /// Whether the files had changed, or are read anew in any case, and are in use now. Blocks.
    fn read_again(&self, anew: bool) -> Result<bool, Fault> {
        self.read_again_by(anew, |former| read(&self.settings, self.alpn, Some(former)))
    }

    fn read_again_by(&self, anew: bool, read: impl FnOnce(&Current) -> Result<Current, Fault>) -> Result<bool, Fault> {
        let former = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let tried = || self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks(&self.settings);
        if !anew && (looks == former.read || tried().as_ref() == Some(&looks)) {
            return Ok(false);
        }
        *tried() = Some(looks);
        let current = read(&former);
        // Reached unless that has panicked.
        *tried() = None;
        let current = current?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }
}

/// What came of reading; `None`: the runtime ends. Whatever a file may do to the libraries that read it, the listener goes on.
fn outcome(done: Result<Result<bool, Fault>, JoinError>) -> Option<Result<bool, Fault>> {
    match done {
        Ok(read) => Some(read),
        Err(e) if e.is_panic() => Some(Err((
            "reading the files has panicked".to_owned(),
            "report this as a defect, with the files that are no secret".to_owned(),
        ))),
        Err(_) => None,
    }
}

fn files(settings: &TlsSettings) -> impl Iterator<Item = &PathBuf> {
    let pairs = settings.more.iter().flat_map(|(certificate, key)| [certificate, key]);
    let own = [&settings.certificate, &settings.key];
    let others = [&settings.client_ca, &settings.client_crl];
    let keys = settings.ticket_keys.iter().filter_map(|keys| match keys {
        TicketKeys::File(path) => Some(path),
        TicketKeys::Text(_) => None,
    });
    own.into_iter().chain(pairs).chain(others.into_iter().flatten()).chain(keys)
}

fn looks(settings: &TlsSettings) -> Vec<Look> {
    let look = |path: &PathBuf| fs::metadata(path).and_then(|file| Ok((file.len(), file.modified()?))).ok();
    files(settings).map(look).collect()
}

fn read(settings: &TlsSettings, alpn: &[u8], former: Option<&Current>) -> Result<Current, Fault> {
    // Before the files: what changes while they are read is read again.
    let looks = looks(settings);
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let trust = trust(settings);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|e| (format!("TLS cannot be set up: {e}"), "report this as a defect".to_owned()))?;
    let verifier = client_verifier(settings, provider.clone())?;
    let builder = match verifier.clone() {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates(settings, &provider)?));
    // Offered, not required: a client that names no protocol is taken too. One that names only others is refused by rustls.
    config.alpn_protocols = vec![alpn.to_vec()];
    // Resumption without memory: the state is in the client's ticket.
    config.ticketer = match (&settings.ticket_keys, former) {
        (Some(keys), _) => lasting(shared_tickets(keys, &trust)?, verifier.as_ref()),
        // The keys that this process has made stay with what they were made for.
        (None, Some(former)) if former.trust == trust => former.config.ticketer.clone(),
        (None, _) => lasting(own_tickets()?, verifier.as_ref()),
    };
    config.send_tls13_tickets = 1;
    Ok(Current {
        config: Arc::new(config),
        verifier,
        read: looks,
        trust,
    })
}

fn shared_tickets(keys: &TicketKeys, trust: &[u8]) -> Result<Arc<dyn ProducesTickets>, Fault> {
    Ok(Arc::new(match keys {
        TicketKeys::File(path) => SharedTickets::read(path, trust)?,
        TicketKeys::Text(text) => SharedTickets::parse(text, trust)?,
    }))
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
    crypto::aws_lc_rs::Ticketer::new().map_err(|e| {
        (
            format!("no key for session tickets: {e}"),
            "check the system's random source".to_owned(),
        )
    })
}

fn certificates(settings: &TlsSettings, provider: &crypto::CryptoProvider) -> Result<Certificates, Fault> {
    let pair = |certificate: &PathBuf, key: &PathBuf| {
        let (chain, private) = pem::pair(certificate, key)?;
        let pair = CertifiedKey::from_der(chain, private, provider).map_err(|e| pem::unfit(certificate, key, &e))?;
        Ok(Arc::new(pair))
    };
    let first = pair(&settings.certificate, &settings.key)?;
    let more = settings.more.iter().map(|(certificate, key)| pair(certificate, key));
    Ok(Certificates::new(first, &more.collect::<Result<Vec<_>, Fault>>()?))
}

/// What a session rests on, as its digest: whether devices show certificates, who signs them, which are revoked. A file that
/// cannot be read is a fault elsewhere.
fn trust(settings: &TlsSettings) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[settings.client_auth as u8]);
    for path in [&settings.client_ca, &settings.client_crl].into_iter().flatten() {
        let content = fs::read(path).unwrap_or_default();
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(&content);
    }
    context.finish().as_ref().to_vec()
}

fn client_verifier(settings: &TlsSettings, provider: Arc<crypto::CryptoProvider>) -> Result<Option<Arc<dyn ClientCertVerifier>>, Fault> {
    if settings.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let Some(path) = &settings.client_ca else {
        return Err((
            "client_auth asks for certificates, but there is no client_ca".to_owned(),
            "name the authority's PEM file".to_owned(),
        ));
    };
    let roots = pem::authorities(path, "client_ca")?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = match &settings.client_crl {
        // A certificate whose authority has no list here is refused: it could not be known to be good.
        Some(path) => revocation::verifier(builder, pem::revocations(path)?),
        None => builder.build(),
    };
    let unusable = |e| {
        (
            format!("client_ca {} cannot be used: {e}", path.display()),
            "give the authority's certificate, and its own revocation list".to_owned(),
        )
    };
    verifier.map(Some).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;

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

    #[tokio::test]
    async fn only_the_end_of_the_runtime_ends_the_watch_over_files() {
        let panicked = tokio::task::spawn_blocking(|| panic!("a file that nobody has thought of")).await;
        let (message, _) = outcome(panicked).expect("it goes on").unwrap_err();
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
            let (message, _) = tls.read_again(false).unwrap_err();
            assert!(message.contains("does not belong to certificate"), "{message}");
            assert!(Arc::ptr_eq(&tls.config(), &former));
        }
        fs::remove_file(&settings.key).unwrap();
        assert!(tls.read_again(false).unwrap_err().0.contains("cannot be read"));
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
