//! Who a device's certificate says it is: the names in it, as text.
//!
//! The certificate has been verified by rustls when this runs; here it is only read. The kinds of names stay apart: a
//! URI that looks like a DNS name must never pass for one.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The names of a verified client certificate. Texts are as the authority signed them; length is bounded by the
/// handshake's 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The subject's common name, if there is exactly one: which of two is meant cannot be known.
    pub common_name: Option<String>,
    /// The whole subject as text (RFC 4514): the last part first, as `CN=vin42,O=Fleet`. `None` if a part of it is no text.
    pub subject: Option<String>,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Of type URI, SPIFFE ids among them.
    pub uris: Vec<String>,
    /// Of type e-mail.
    pub emails: Vec<String>,
    /// Of type IP address, as they are written: `10.1.2.3`, `2001:db8::7` (RFC 5952).
    pub addresses: Vec<String>,
}

impl CertificateIdentity {
    /// Of a certificate that somebody else has read; without a name if there was none.
    pub(super) fn named(common_name: Option<String>) -> Self {
        Self {
            common_name,
            ..Self::default()
        }
    }

    /// Reads the names; `None` if the certificate is not what RFC 5280 says (rustls reads more loosely than this).
    pub(super) fn from_der(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut identity = Self::default();
        let mut names = certificate.subject().iter_common_name();
        if let (Some(name), None) = (names.next(), names.next()) {
            identity.common_name = name.as_str().ok().map(str::to_owned);
        }
        identity.subject = subject(&certificate);
        let alternative = certificate.subject_alternative_name().ok()?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            identity.add(name);
        }
        Some(identity)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(address) => self.emails.push((*address).to_owned()),
            GeneralName::IPAddress(octets) => self.addresses.extend(address(octets).map(|address| address.to_string())),
            _ => {}
        }
    }
}

/// The subject by RFC 4514 §2: what could be taken for the end of a value is escaped, so no name can pass for several.
fn subject(certificate: &X509Certificate<'_>) -> Option<String> {
    let parts: Vec<_> = certificate.subject().iter_rdn().collect();
    let mut out = String::new();
    for part in parts.into_iter().rev() {
        if !out.is_empty() {
            out.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                out.push('+');
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(name) => out += name,
                Err(_) => out += &attribute.attr_type().to_id_string(),
            }
            out.push('=');
            escape(attribute.as_str().ok()?, &mut out);
        }
    }
    (!out.is_empty()).then_some(out)
}

fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_the_edge = c == ' ' && (at == 0 || at == last) || c == '#' && at == 0;
        if at_the_edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn every_kind_of_name_keeps_its_place() {
        let mut params = CertificateParams::new(vec!["vin42.example.org".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "vin42");
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://fleet/vin42".try_into().unwrap()));
        params
            .subject_alt_names
            .push(SanType::Rfc822Name("vin42@example.org".try_into().unwrap()));
        for address in ["10.1.2.3", "2001:db8:0:0::7", "::ffff:10.1.2.3"] {
            params.subject_alt_names.push(SanType::IpAddress(address.parse().unwrap()));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = CertificateIdentity::from_der(certificate.der()).unwrap();
        assert_eq!(identity.common_name.as_deref(), Some("vin42"));
        assert_eq!(identity.dns_names, ["vin42.example.org"]);
        assert_eq!(identity.uris, ["spiffe://fleet/vin42"]);
        assert_eq!(identity.emails, ["vin42@example.org"]);
        assert_eq!(identity.addresses, ["10.1.2.3", "2001:db8::7", "::ffff:10.1.2.3"]);
    }

    #[test]
    fn a_name_in_a_subject_does_not_pass_for_two() {
        let subject = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Fleet");
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            CertificateIdentity::from_der(certificate.der()).unwrap().subject.unwrap()
        };
        assert_eq!(subject("vin42"), "CN=vin42,O=Fleet");
        assert_eq!(subject("a,O=Other"), "CN=a\\,O\\=Other,O=Fleet");
        assert_eq!(subject(" #a+b "), "CN=\\ #a\\+b\\ ,O=Fleet");
        assert_eq!(subject("#a\\"), "CN=\\#a\\\\,O=Fleet");
    }

    #[test]
    fn what_is_no_certificate_is_nobody() {
        assert_eq!(CertificateIdentity::from_der(b"0\x82\xff\xff"), None);
        assert_eq!(CertificateIdentity::from_der(&[]), None);
    }
}
