//! What TLS with another failed of, in the one line that an operator needs.

use std::{io, path::PathBuf};

use rustls::{AlertDescription, CertificateError};

use crate::upstream::connection::CallError;

/// What a failure is told with. Kept beside the connection: TLS 1.3 refuses a client's certificate only after the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(super) remedies: &'static Remedies,
    pub(super) host: String,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
}

/// What an operator can do, in the words of the configuration.
#[derive(Debug)]
pub struct Remedies {
    /// Where the authorities are named.
    pub(super) ca: &'static str,
    /// Where our own certificate is named.
    certificate: &'static str,
    /// How not to speak TLS.
    plain: &'static str,
    /// What to do about another name.
    name: &'static str,
}

pub(super) const OF_BROKERS: &Remedies = &Remedies {
    ca: "`kafka.security.tls.ca`",
    certificate: "`kafka.security.tls.certificate` and `key`",
    plain: "set `kafka.security.protocol` to plaintext or sasl_plaintext",
    name: "use one of its names in `bootstrap_servers` and in the brokers' advertised.listeners, or issue it for this name",
};

/// Of token endpoints.
pub const OF_TOKEN_ENDPOINTS: &Remedies = &Remedies {
    ca: "`kafka.security.sasl.token_endpoint_ca`",
    certificate: "another `token_endpoint`: client certificates are not for it",
    plain: "write http:// in `kafka.security.sasl.token_endpoint`",
    name: "use one of its names in `kafka.security.sasl.token_endpoint`",
};

/// Of key sets by URL.
pub const OF_KEY_SETS: &Remedies = &Remedies {
    ca: "`authentication[].ca`",
    certificate: "another `jwks`: client certificates are not for it",
    plain: "write http:// in `authentication[].jwks`",
    name: "use one of its names in `authentication[].jwks`",
};

/// Of servers that are asked about logins.
pub const OF_LOGINS: &Remedies = &Remedies {
    ca: "`authentication[].ca`",
    certificate: "another `url`: client certificates are not for it",
    plain: "write http:// in `authentication[].url`",
    name: "use one of its names in `authentication[].url`",
};

/// Of schema registries.
pub const OF_REGISTRIES: &Remedies = &Remedies {
    ca: "`rules[].value.ca`",
    certificate: "another `registry`: client certificates are not for it",
    plain: "write http:// in `rules[].value.registry`",
    name: "use one of its names in `rules[].value.registry`",
};

impl Peer {
    /// A handshake that failed.
    pub(super) fn in_handshake(&self, error: &io::Error) -> CallError {
        match tls_error(error) {
            Some(error) => self.refused(error),
            None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => CallError::Broken(
                format!(
                    "TLS: closed by the other side during the handshake; if this port does not speak TLS, {}",
                    self.remedies.plain
                )
                .into(),
            ),
            None => CallError::Broken(format!("TLS: {error}").into()),
        }
    }

    /// A read that failed after the handshake.
    pub(crate) fn while_reading(&self, error: &io::Error) -> CallError {
        match tls_error(error) {
            Some(error) => self.refused(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => CallError::Broken("closed by the broker".into()),
            None => CallError::Broken(format!("read: {error}").into()),
        }
    }

    fn refused(&self, error: &rustls::Error) -> CallError {
        let host = &self.host;
        let why = match error {
            rustls::Error::InvalidCertificate(why) => self.bad_certificate(why),
            rustls::Error::AlertReceived(alert) => self.alert(*alert),
            rustls::Error::InvalidMessage(_) => {
                format!("this port does not speak TLS: {}, or give another port", self.remedies.plain)
            }
            rustls::Error::PeerIncompatible(why) => format!("{host} has no TLS version or cipher in common with us ({why:?})"),
            error => error.to_string(),
        };
        CallError::Refused(format!("TLS: {why}").into())
    }

    fn bad_certificate(&self, why: &CertificateError) -> String {
        let host = &self.host;
        let Remedies { ca: key, name: remedy, .. } = self.remedies;
        match why {
            CertificateError::UnknownIssuer => match &self.ca {
                Some(ca) => format!(
                    "the certificate of {host} is signed by no authority in {}, which {key} names: put the one that does into it",
                    ca.display()
                ),
                None => {
                    format!("the certificate of {host} is signed by no authority that the system trusts: name the one that does in {key}")
                }
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {host} has expired: renew it there (or this machine's clock is wrong)")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {host} is not valid yet: this machine's clock may be wrong")
            }
            CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                let names = presented.iter().take(5).map(|name| bare(name)).collect::<Vec<_>>().join(", ");
                format!("the certificate shown is not valid for {host}, only for {names}: {remedy}")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate shown is not valid for {host}: {remedy}")
            }
            CertificateError::Other(why) if why.to_string().contains("CaUsedAsEndEntity") => {
                format!("{host} shows the certificate of an authority as its own: issue one for it, and put the authority's into {key}")
            }
            why => format!("the certificate of {host} is not good: {why}"),
        }
    }

    fn alert(&self, alert: AlertDescription) -> String {
        use AlertDescription as A;
        let host = &self.host;
        match (alert, &self.certificate) {
            (A::CertificateRequired | A::BadCertificate, None) => {
                format!("{host} asks for a client certificate: set {}", self.remedies.certificate)
            }
            (
                A::BadCertificate
                | A::CertificateUnknown
                | A::UnknownCA
                | A::CertificateExpired
                | A::CertificateRevoked
                | A::UnsupportedCertificate
                | A::CertificateRequired
                | A::AccessDenied,
                Some(path),
            ) => format!(
                "{host} does not accept our certificate {} ({alert:?}): its issuer must be trusted there, and it must not have expired",
                path.display()
            ),
            (A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity, _) => {
                format!("{host} has no TLS version or cipher in common with us, or wants a client certificate ({alert:?})")
            }
            _ => format!("{host} refuses the connection ({alert:?})"),
        }
    }
}

/// rustls gives names as `DnsName("kafka.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
