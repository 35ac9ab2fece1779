//! The files of a listener's TLS in parts that stand for themselves: one that cannot be used stays as it was, and keeps no other from being used.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::names::dns_names;
use super::revocation;
use super::tickets::Secrets;
use crate::downstream::settings::{ClientAuth, TicketKeys, TlsSettings};
use crate::pem::{self, Fault};

/// Size and time of a file; `None`: it is not there.
type Look = Option<(u64, SystemTime)>;

/// What the files of each part look like: of each certificate with its key, of what devices are verified by, of the keys of tickets.
pub(super) type Looks = Vec<Vec<Look>>;

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// The certificate for who asks for no name, then the others.
    pub(super) pairs: Vec<Arc<CertifiedKey>>,
    pub(super) trust: Arc<Trust>,
    /// Of tickets, if they are those of a file or of the environment.
    pub(super) secrets: Option<Arc<Secrets>>,
}

/// What devices are verified by.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// What a session rests on: whether devices show certificates, who signs them, which are revoked.
    pub(super) digest: Vec<u8>,
    /// `client_ca`, for lists that are newer than what it has become.
    authorities: Option<(Arc<RootCertStore>, Vec<u8>)>,
}

/// What the files look like now.
pub(super) fn looks(settings: &TlsSettings) -> Looks {
    let look = |path: &PathBuf| fs::metadata(path).and_then(|file| Ok((file.len(), file.modified()?))).ok();
    let mut looks: Looks = pairs(settings)
        .map(|(certificate, key)| vec![look(certificate), look(key)])
        .collect();
    let trust = [&settings.client_ca, &settings.client_crl];
    looks.push(trust.into_iter().flatten().map(look).collect());
    looks.push(match &settings.ticket_keys {
        Some(TicketKeys::File(path)) => vec![look(path)],
        Some(TicketKeys::Text(_)) | None => vec![],
    });
    looks
}

/// The first is for who asks for no name.
fn pairs(settings: &TlsSettings) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
    let more = settings.more.iter().map(|(certificate, key)| (certificate, key));
    std::iter::once((&settings.certificate, &settings.key)).chain(more)
}

impl Parts {
    /// Reads all of them, which must be good.
    pub(super) fn read(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Self, Fault> {
        let pairs = pairs(settings)
            .enumerate()
            .map(|(at, files)| pair(at, files, provider).map(Arc::new));
        Ok(Self {
            pairs: pairs.collect::<Result<_, _>>()?,
            trust: Arc::new(trust(settings, provider, None)?.0),
            secrets: secrets(settings)?.map(Arc::new),
        })
    }

    /// Reads those that are stale, by their place in [`Looks`]. Of each what is wrong with it, for which it stays as it was.
    pub(super) fn read_again(
        &self,
        settings: &TlsSettings,
        provider: &Arc<CryptoProvider>,
        is_stale: impl Fn(usize) -> bool,
    ) -> (Self, Vec<Option<Fault>>) {
        let (mut parts, mut faults) = (self.clone(), vec![]);
        for (at, (part, files)) in parts.pairs.iter_mut().zip(pairs(settings)).enumerate() {
            faults.push(match is_stale(at).then(|| pair(at, files, provider)) {
                Some(Ok(new)) => {
                    *part = Arc::new(new);
                    None
                }
                Some(Err(fault)) => Some(fault),
                None => None,
            });
        }
        // Also lists that look as they did: they may not have been readable then.
        faults.push(match is_stale(faults.len()).then(|| trust(settings, provider, Some(&self.trust))) {
            Some(Ok((new, fault))) => {
                if fault.is_none() || new.digest != self.trust.digest {
                    parts.trust = Arc::new(new);
                }
                fault
            }
            Some(Err(fault)) => Some(fault),
            None => None,
        });
        faults.push(match is_stale(faults.len()).then(|| secrets(settings)) {
            Some(Ok(new)) => {
                parts.secrets = new.map(Arc::new);
                None
            }
            Some(Err(fault)) => Some(fault),
            None => None,
        });
        (parts, faults)
    }

    /// Whether all parts are the very same.
    pub(super) fn are(&self, other: &Self) -> bool {
        let are_same = |(own, other): (&Arc<CertifiedKey>, &Arc<CertifiedKey>)| Arc::ptr_eq(own, other);
        let same_secrets = match (&self.secrets, &other.secrets) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        };
        self.pairs.iter().zip(&other.pairs).all(are_same) && Arc::ptr_eq(&self.trust, &other.trust) && same_secrets
    }
}

fn pair(at: usize, (certificate, key): (&PathBuf, &PathBuf), provider: &CryptoProvider) -> Result<CertifiedKey, Fault> {
    let (chain, private) = pem::pair(certificate, key)?;
    let pair = CertifiedKey::from_der(chain, private, provider).map_err(|e| pem::unfit(certificate, key, &e))?;
    if at > 0 && dns_names(&pair).is_empty() {
        return Err((
            format!(
                "certificate {} of `more` has no DNS name, so no client can ask for it",
                certificate.display()
            ),
            "give it a subject alternative name, or remove it".to_owned(),
        ));
    }
    Ok(pair)
}

fn secrets(settings: &TlsSettings) -> Result<Option<Secrets>, Fault> {
    Ok(match &settings.ticket_keys {
        Some(TicketKeys::File(path)) => Some(Secrets::read(path)?),
        Some(TicketKeys::Text(text)) => Some(Secrets::parse(text)?),
        None => None,
    })
}

/// What devices are verified by. Where `client_ca` cannot be used the former one, if there is any, goes on with the lists of now, and it is said what
/// is wrong. Where the lists cannot be used there are none to verify by.
fn trust(settings: &TlsSettings, provider: &Arc<CryptoProvider>, former: Option<&Trust>) -> Result<(Trust, Option<Fault>), Fault> {
    let content = |path: &Option<PathBuf>| path.as_ref().map(|path| fs::read(path).unwrap_or_default());
    let ca = content(&settings.client_ca);
    if settings.client_auth == ClientAuth::None {
        let trust = Trust {
            verifier: None,
            digest: digest_of(settings, &[ca, content(&settings.client_crl)]),
            authorities: None,
        };
        return Ok((trust, None));
    }
    let Some(path) = &settings.client_ca else {
        return Err((
            "client_auth asks for certificates, but there is no client_ca".to_owned(),
            "name the authority's PEM file".to_owned(),
        ));
    };
    let (roots, ca, fault) = match (
        pem::authorities(path, "client_ca"),
        former.and_then(|former| former.authorities.clone()),
    ) {
        (Ok(roots), _) => (Arc::new(roots), ca.unwrap_or_default(), None),
        (Err(fault), Some((roots, ca))) => (roots, ca, Some(fault)),
        (Err(fault), None) => return Err(fault),
    };
    // Each before it is read as what it is: what changes meanwhile is read again.
    let lists = content(&settings.client_crl);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
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
    let trust = Trust {
        verifier: Some(verifier.map_err(unusable)?),
        digest: digest_of(settings, &[Some(ca.clone()), lists]),
        authorities: Some((roots, ca)),
    };
    Ok((trust, fault))
}

fn digest_of(settings: &TlsSettings, contents: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[settings.client_auth as u8]);
    for content in contents.iter().flatten() {
        context.update(&(content.len() as u64).to_be_bytes());
        context.update(content);
    }
    context.finish().as_ref().to_vec()
}
