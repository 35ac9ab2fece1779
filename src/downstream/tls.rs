//! From the PEM files of a listener to rustls' settings; each fault with its path and its remedy.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, crypto, version};

use super::settings::{ClientAuth, TlsSettings};

/// What is wrong, what to do.
pub(super) type Fault = (String, String);

/// Reads and checks everything a TLS listener needs.
pub(super) fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, Fault> {
    let chain = certificates(&settings.certificate, "certificate")?;
    let key = private_key(&settings.key)?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|e| (format!("TLS cannot be set up: {e}"), "report this as a defect".to_owned()))?;
    let builder = match client_verifier(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| unfit_pair(settings, &e))?;
    // Offered, not required: a client that names no protocol is taken too. One that names only others is refused by rustls.
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    // Resumption without memory: the state is in the client's ticket, under a key that this process makes and rotates.
    config.ticketer = crypto::aws_lc_rs::Ticketer::new().map_err(|e| {
        (
            format!("no key for session tickets: {e}"),
            "check the system's random source".to_owned(),
        )
    })?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|e| unreadable(key, path, &e))?;
    if found.is_empty() {
        return Err((
            format!("{key} {} holds no certificate", path.display()),
            "it must be PEM with BEGIN CERTIFICATE".to_owned(),
        ));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| match e {
        pem::Error::NoItemsFound => (
            format!("key {} holds no private key", path.display()),
            "it must be PEM with BEGIN PRIVATE KEY, without a pass phrase".to_owned(),
        ),
        e => unreadable("key", path, &e),
    })
}

fn unreadable(key: &str, path: &Path, error: &pem::Error) -> Fault {
    match error {
        pem::Error::Io(e) => (
            format!("{key} {} cannot be read: {e}", path.display()),
            "give the path of a PEM file that this user may read".to_owned(),
        ),
        e => (
            format!("{key} {} is not PEM: {e}", path.display()),
            "convert it, for example with openssl x509 or openssl pkey".to_owned(),
        ),
    }
}

fn unfit_pair(settings: &TlsSettings, error: &rustls::Error) -> Fault {
    let (certificate, key) = (settings.certificate.display(), settings.key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => (
            format!("key {key} does not belong to certificate {certificate}"),
            "give the key that the certificate was requested with; the server's own certificate stands first in its file".to_owned(),
        ),
        e => (
            format!("certificate {certificate} with key {key} cannot be used: {e}"),
            "give an RSA, ECDSA or Ed25519 pair".to_owned(),
        ),
    }
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
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "client_ca")? {
        roots.add(certificate).map_err(|e| {
            (
                format!("client_ca {} holds a certificate that cannot be an authority: {e}", path.display()),
                "remove it".to_owned(),
            )
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if settings.client_auth == ClientAuth::Optional {
        builder.allow_unauthenticated()
    } else {
        builder
    };
    let unusable = |e| {
        (
            format!("client_ca {} cannot be used: {e}", path.display()),
            "give the authority's certificate".to_owned(),
        )
    };
    builder.build().map(Some).map_err(unusable)
}
