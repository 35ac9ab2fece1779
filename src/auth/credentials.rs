//! What clients show of themselves, and which client ids they may have then.

use std::fmt;

/// What a client shows with its CONNECT.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The client id, empty if it has none yet.
    pub client: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// The names of its verified certificate.
    pub certificate: Option<Certificate<'a>>,
}

impl fmt::Debug for Credentials<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client", &self.client)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "…"))
            .field("certificate", &self.certificate)
            .finish()
    }
}

impl Credentials<'_> {
    /// Whether there is anything that could prove something.
    pub fn are_shown(&self) -> bool {
        self.username.is_some() || self.password.is_some() || self.certificate.is_some()
    }
}

/// The names of a verified client certificate.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// The subject's only common name.
    pub common_name: Option<&'a str>,
    /// The whole subject (RFC 4514).
    pub subject: Option<&'a str>,
    /// Alternative names of type DNS.
    pub dns: &'a [String],
    /// Of type URI.
    pub uris: &'a [String],
    /// Of type e-mail.
    pub emails: &'a [String],
    /// Of type IP address.
    pub addresses: &'a [String],
}

/// Which name of a certificate is the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The subject's common name.
    CommonName,
    /// The whole subject.
    Subject,
    /// The alternative name of type DNS.
    Dns,
    /// Of type URI.
    Uri,
    /// Of type e-mail.
    Email,
    /// Of type IP address.
    Ip,
}

impl CertificateName {
    /// The name, if there is exactly one of its kind: which of two is meant cannot be known.
    pub(super) fn of<'a>(self, certificate: &Certificate<'a>) -> Option<&'a str> {
        let only = |names: &'a [String]| match names {
            [one] => Some(one.as_str()),
            _ => None,
        };
        match self {
            Self::CommonName => certificate.common_name,
            Self::Subject => certificate.subject,
            Self::Dns => only(certificate.dns),
            Self::Uri => only(certificate.uris),
            Self::Email => only(certificate.emails),
            Self::Ip => only(certificate.addresses),
        }
    }
}

/// Ends the identity in a client id of [`Binding::Prefix`]. Identities that are bound have none: what stands before the first one in a client
/// id is its owner, so no identity owns another's.
pub const SEPARATOR: char = '~';

/// How client ids are bound to identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// Any client id.
    #[default]
    Any,
    /// The identity itself.
    Equal,
    /// The identity itself, or it, [`SEPARATOR`] and anything.
    Prefix,
}

impl Binding {
    pub(super) fn holds(self, identity: &str, client: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equal => client == identity,
            Self::Prefix => client.split(SEPARATOR).next() == Some(identity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Connect, Version};

    /// In whatever a debug line says.
    #[test]
    fn a_password_is_not_shown() {
        let shown = Credentials {
            client: "c",
            username: Some("u"),
            password: Some(b"s3cret"),
            certificate: None,
        };
        let connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "c",
            will: None,
            username: Some("u"),
            password: Some(b"s3cret"),
            properties: Default::default(),
        };
        for text in [format!("{shown:?}"), format!("{connect:?}"), format!("{connect:#?}")] {
            assert!(text.contains('u') && text.contains('…'), "{text}");
            assert!(!text.contains("s3cret") && !text.contains("115"), "{text}");
        }
    }
}
