//! From the PEM files of a listener to rustls' settings; each fault with its path and its remedy.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, crypto, version};

use super::settings::{ClientAuth, TlsSettings};
use crate::pem::{self, Fault};

/// Reads and checks everything a TLS listener needs. `alpn`: the protocol that it speaks (RFC 7301).
pub(super) fn server_config(settings: &TlsSettings, alpn: &[u8]) -> Result<Arc<ServerConfig>, Fault> {
    let chain = pem::certificates(&settings.certificate, "certificate")?;
    let key = pem::private_key(&settings.key)?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|e| (format!("TLS cannot be set up: {e}"), "report this as a defect".to_owned()))?;
    let builder = match client_verifier(settings, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| pem::unfit(&settings.certificate, &settings.key, &e))?;
    // Offered, not required: a client that names no protocol is taken too. One that names only others is refused by rustls.
    config.alpn_protocols = vec![alpn.to_vec()];
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
