//! Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 §3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::downstream::identity::CertificateIdentity;

/// The certificates of a listener.
#[derive(Debug)]
pub(super) struct Certificates {
    /// For who names nothing, or what no certificate is for.
    first: Arc<CertifiedKey>,
    /// By DNS name in lower case, which may begin with `*.`.
    named: HashMap<String, Arc<CertifiedKey>>,
}

/// The DNS names in a certificate, by which clients ask for it.
pub(super) fn dns_names(pair: &CertifiedKey) -> Vec<String> {
    let identity = pair.cert.first().and_then(|certificate| CertificateIdentity::from_der(certificate));
    identity.map(|identity| identity.dns_names).unwrap_or_default()
}

impl Certificates {
    /// `more` are taken for the DNS names in them; of two for one name the one that stands earlier.
    pub(super) fn new(first: Arc<CertifiedKey>, more: &[Arc<CertifiedKey>]) -> Self {
        let mut named = HashMap::new();
        for pair in std::iter::once(&first).chain(more) {
            for name in dns_names(pair) {
                named.entry(name.to_ascii_lowercase()).or_insert_with(|| pair.clone());
            }
        }
        Self { first, named }
    }

    fn of(&self, name: &str) -> &Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        // A star stands for one label (RFC 6125 §6.4.3).
        let starred = || self.named.get(&format!("*.{}", name.split_once('.')?.1));
        self.named.get(&name).or_else(starred).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or(&self.first, |name| self.of(name)).clone())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    fn pair(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Arc::new(CertifiedKey::from_der(vec![certificate.der().clone()], der, &provider).unwrap())
    }

    #[test]
    fn the_nearest_name_wins() {
        let (first, exact, starred) = (pair(&["one.example"]), pair(&["a.fleet.example"]), pair(&["*.Fleet.example"]));
        let certificates = Certificates::new(first.clone(), &[exact.clone(), starred.clone()]);
        for (name, expected) in [
            ("one.example", &first),
            ("A.fleet.EXAMPLE", &exact),
            ("b.fleet.example", &starred),
            ("c.b.fleet.example", &first),
            ("fleet.example", &first),
            ("elsewhere", &first),
        ] {
            assert!(Arc::ptr_eq(certificates.of(name), expected), "{name}");
        }
    }
}
