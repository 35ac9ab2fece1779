//! The chain: who a client is, by the first method that knows its kind of credentials.

use super::Principal;
use super::held::Held;
use super::jwt::{self, Demands, KeySet};
use super::passwords::Passwords;
use crate::mqtt::ReasonCode;

/// What a client shows with its CONNECT.
#[derive(Clone, Copy, Debug)]
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
}

impl CertificateName {
    /// The name, if there is exactly one of its kind: which of two is meant cannot be known.
    fn of<'a>(self, certificate: &Certificate<'a>) -> Option<&'a str> {
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
        }
    }
}

/// How client ids are bound to identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// Any client id.
    #[default]
    Any,
    /// The identity itself.
    Equal,
    /// The identity itself, or it and then more that begins with neither a letter nor a digit: `vin4` does not own `vin42`.
    Prefix,
}

impl Binding {
    fn holds(self, identity: &str, client: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equal => client == identity,
            Self::Prefix => client
                .strip_prefix(identity)
                .is_some_and(|more| !more.starts_with(char::is_alphanumeric)),
        }
    }
}

/// One way to tell who a client is.
#[derive(Debug)]
pub enum Method {
    /// By the name in its certificate.
    Certificate(CertificateName),
    /// By user name and password.
    Passwords(Held<Passwords>),
    /// By a token that is its password.
    Jwt {
        /// The keys.
        keys: Held<KeySet>,
        /// What tokens must say.
        demands: Demands,
    },
    /// Whoever shows neither user name nor password may stay nobody.
    Anonymous,
}

/// Who somebody is, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Accepted {
        /// `None`: anonymous.
        principal: Option<Principal>,
        /// When its credentials are good no longer, seconds since 1970.
        expires: Option<u64>,
    },
    /// Not let in.
    Refused {
        /// For CONNACK: 0x86, or 0x87 where no credentials were shown or the client id is not the identity's.
        reason: ReasonCode,
        /// For logs and metrics. Clients are not told: it would help to guess.
        why: &'static str,
    },
}

/// The answer of one method.
enum Look {
    Yes(Option<Principal>, Option<u64>),
    No(&'static str),
    NotMine,
}

/// Methods in order.
#[derive(Debug)]
pub struct Chain {
    methods: Vec<(Method, Binding)>,
}

impl Chain {
    /// Of these methods.
    pub fn new(methods: Vec<(Method, Binding)>) -> Self {
        Self { methods }
    }

    /// The methods, for who reads their files.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().map(|(method, _)| method)
    }

    /// Whether [`Chain::judge`] may take long for these credentials, as a password's hash does.
    pub fn is_slow(&self, credentials: &Credentials<'_>) -> bool {
        credentials.password.is_some() && self.methods().any(|m| matches!(m, Method::Passwords(_) | Method::Jwt { .. }))
    }

    /// Who a client is, at `now` in seconds since 1970.
    pub fn judge(&self, credentials: &Credentials<'_>, now: u64) -> Verdict {
        for (method, binding) in &self.methods {
            match method.look(credentials, now) {
                Look::NotMine => {}
                Look::No(why) => return refused(ReasonCode::BadUserNameOrPassword, why),
                Look::Yes(principal, expires) => {
                    let bound = principal.as_ref().is_none_or(|p| binding.holds(&p.name, credentials.client));
                    if !bound {
                        return refused(ReasonCode::NotAuthorized, "client_id_not_of_identity");
                    }
                    return Verdict::Accepted { principal, expires };
                }
            }
        }
        if credentials.username.is_some() || credentials.password.is_some() {
            // The same as for a wrong password: whether there is such a user is nobody's business.
            refused(ReasonCode::BadUserNameOrPassword, "unknown_credentials")
        } else {
            refused(ReasonCode::NotAuthorized, "no_credentials")
        }
    }
}

fn refused(reason: ReasonCode, why: &'static str) -> Verdict {
    Verdict::Refused { reason, why }
}

impl Method {
    fn look(&self, shown: &Credentials<'_>, now: u64) -> Look {
        match self {
            Self::Certificate(name) => {
                let Some(name) = shown.certificate.as_ref().and_then(|certificate| name.of(certificate)) else {
                    return Look::NotMine;
                };
                match Principal::new(name) {
                    Some(principal) => Look::Yes(Some(principal), None),
                    None => Look::No("identity_not_legal"),
                }
            }
            Self::Passwords(users) => {
                let (Some(username), Some(password)) = (shown.username, shown.password) else {
                    return Look::NotMine;
                };
                match users.get().check(username, password) {
                    None => Look::NotMine,
                    Some(false) => Look::No("wrong_password"),
                    Some(true) => Look::Yes(Principal::new(username), None),
                }
            }
            Self::Jwt { keys, demands } => match shown.password.filter(|password| jwt::looks_like_one(password)) {
                None => Look::NotMine,
                Some(token) => match jwt::check(token, &keys.get(), demands, now) {
                    Ok(token) => Look::Yes(Some(token.principal), Some(token.expires)),
                    Err(why) => Look::No(why),
                },
            },
            Self::Anonymous if shown.username.is_none() && shown.password.is_none() => Look::Yes(None, None),
            Self::Anonymous => Look::NotMine,
        }
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
