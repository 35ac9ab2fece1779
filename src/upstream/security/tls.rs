//! TLS as a client: rustls' settings from the files as they are now.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use rustls::{
    ClientConfig, RootCertStore, crypto,
    pki_types::{InvalidDnsNameError, ServerName},
    version,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    peer::{Peer, Remedies},
    settings::TlsSettings,
};
use crate::{
    pem::{self, Fault},
    upstream::connection::CallError,
};

/// Makes TLS of sockets.
pub(in crate::upstream) struct Tls {
    settings: TlsSettings,
    remedies: &'static Remedies,
    /// The last that was good, and of which files. Kept also for the sake of TLS sessions that can be resumed.
    last: Mutex<Option<(digest::Digest, Arc<ClientConfig>)>>,
}

impl Tls {
    pub(in crate::upstream) fn new(settings: TlsSettings, remedies: &'static Remedies) -> Self {
        Self {
            settings,
            remedies,
            last: Mutex::default(),
        }
    }

    /// The handshake, with the host name of `address` as it is checked and sent (SNI).
    pub(in crate::upstream) async fn connect(
        self: &Arc<Self>,
        tcp: TcpStream,
        address: &str,
    ) -> Result<(TlsStream<TcpStream>, Peer), CallError> {
        let host = host(address);
        let name = server_name(host).map_err(|_| CallError::Refused(format!("{host} is no name that a certificate can have").into()))?;
        let this = Arc::clone(self);
        // Files are read, which may take.
        let config = tokio::task::spawn_blocking(move || this.config())
            .await
            .map_err(|_| CallError::Broken("closed by us".into()))?
            .map_err(|(wrong, remedy)| CallError::Refused(format!("TLS: {wrong}; {remedy}").into()))?;
        let peer = Peer {
            remedies: self.remedies,
            host: host.to_owned(),
            ca: self.settings.ca.clone(),
            certificate: self.settings.identity.as_ref().map(|(certificate, _)| certificate.clone()),
        };
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(stream) => Ok((stream, peer)),
            Err(e) => Err(peer.in_handshake(&e)),
        }
    }

    /// The settings from the files as they are now; as long as these are not good, the last that were.
    fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        let fingerprint = self.fingerprint();
        let last = self.last.lock().expect("no code that holds this lock panics").clone();
        if let (Some(now), Some((then, config))) = (fingerprint, &last)
            && now.as_ref() == then.as_ref()
        {
            return Ok(Arc::clone(config));
        }
        match (client_config(&self.settings, self.remedies), last) {
            (Ok(config), _) => {
                let config = Arc::new(config);
                *self.last.lock().expect("no code that holds this lock panics") = fingerprint.map(|f| (f, Arc::clone(&config)));
                Ok(config)
            }
            (Err((wrong, remedy)), Some((_, config))) => {
                let of = self.remedies.ca;
                tracing::warn!(of, wrong, remedy, "the former certificates stay in use");
                Ok(config)
            }
            (Err(fault), None) => Err(fault),
        }
    }

    /// Of the contents of the files; `None` if one cannot be read.
    fn fingerprint(&self) -> Option<digest::Digest> {
        let TlsSettings { ca, identity } = &self.settings;
        let pair = identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        let mut context = digest::Context::new(&digest::SHA256);
        for path in ca.iter().chain(pair) {
            let content = zeroize::Zeroizing::new(std::fs::read(path).ok()?);
            context.update(digest::digest(&digest::SHA256, &content).as_ref());
        }
        Some(context.finish())
    }
}

fn client_config(settings: &TlsSettings, remedies: &Remedies) -> Result<ClientConfig, Fault> {
    let roots = match &settings.ca {
        Some(path) => pem::authorities(path, "ca")?,
        None => system_roots(remedies)?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|e| (format!("TLS cannot be set up: {e}"), "report this as a defect".to_owned()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &settings.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, private) = pem::pair(certificate, key)?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|e| pem::unfit(certificate, key, &e))
}

/// The authorities that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
fn system_roots(remedies: &Remedies) -> Result<RootCertStore, Fault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or(String::new(), |e| format!(" ({e})"));
    Err((
        format!("the system has no certificate authorities{why}"),
        format!("install them (Debian, Ubuntu: ca-certificates), or set {}", remedies.ca),
    ))
}

/// `host:port` without the port, an IPv6 address without its brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    // The dot of a fully qualified name stands in no certificate.
    ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        assert_eq!(host("kafka-1.example:9093"), "kafka-1.example");
        assert_eq!(host("[::1]:9093"), "::1");
        assert!(matches!(server_name("127.0.0.1"), Ok(ServerName::IpAddress(_))));
        assert!(matches!(server_name("::1"), Ok(ServerName::IpAddress(_))));
        assert_eq!(server_name("kafka.example.").unwrap().to_str(), "kafka.example");
        assert!(server_name("kafka_1.internal").is_ok());
        assert!(server_name("").is_err());
    }
}
