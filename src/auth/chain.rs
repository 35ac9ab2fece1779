//! The chain: who a client is, by the first method that knows its kind of credentials.

use std::sync::Arc;

use super::Principal;
use super::held::Held;
use super::jwt::{self, Demands};
use super::keys::{Fetched, Keys};
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
    fn holds(self, identity: &str, client: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equal => client == identity,
            Self::Prefix => client.split(SEPARATOR).next() == Some(identity),
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
        keys: Keys,
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
        /// For CONNACK: 0x86, or 0x87 where no credentials were shown or the client id is not the identity's; 0x88 where nobody can tell now.
        reason: ReasonCode,
        /// For logs and metrics. Clients are not told: it would help to guess.
        why: &'static str,
    },
}

/// Why nothing can be said of a token: its keys were not fetched yet.
const NO_KEYS: &str = "key_set_unavailable";

impl Verdict {
    /// Whether it may be another when the key sets are fetched anew.
    pub fn wants_newer_keys(&self) -> bool {
        matches!(self, Self::Refused { why, .. } if [jwt::UNKNOWN_KEY, NO_KEYS].contains(why))
    }
}

/// The answer of one method.
enum Look {
    Yes(Option<Principal>, Option<u64>),
    No(&'static str),
    Unable(&'static str),
    NotMine,
}

/// Methods in order.
#[derive(Debug)]
pub struct Chain {
    methods: Vec<(Method, Binding)>,
    /// Some method binds client ids: who is nobody has none of his choice.
    binds: bool,
}

impl Chain {
    /// Of these methods.
    pub fn new(methods: Vec<(Method, Binding)>) -> Self {
        let binds = methods.iter().any(|(_, binding)| *binding != Binding::Any);
        Self { methods, binds }
    }

    /// The methods, for who reads their files.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().map(|(method, _)| method)
    }

    /// Its key sets that come from servers.
    pub fn fetched(&self) -> impl Iterator<Item = &Arc<Fetched>> {
        self.methods().filter_map(|method| match method {
            Method::Jwt {
                keys: Keys::Fetched(fetched),
                ..
            } => Some(fetched),
            _ => None,
        })
    }

    /// Whether [`Chain::judge`] may take long for these credentials, as a password's hash does.
    pub fn is_slow(&self, credentials: &Credentials<'_>) -> bool {
        credentials.password.is_some() && self.methods().any(|m| matches!(m, Method::Passwords(_) | Method::Jwt { .. }))
    }

    /// Who a client is, at `now` in seconds since 1970.
    pub fn judge(&self, credentials: &Credentials<'_>, now: u64) -> Verdict {
        let mut password = None;
        for (at, (method, binding)) in self.methods.iter().enumerate() {
            let look = match method {
                Method::Passwords(_) => match password.get_or_insert_with(|| self.check_password(credentials)) {
                    Some((file, right)) if *file == at => self.by_password(at, *right, credentials, now),
                    _ => Look::NotMine,
                },
                other => other.look(credentials, now),
            };
            match look {
                Look::NotMine => {}
                Look::No(why) => return refused(ReasonCode::BadUserNameOrPassword, why),
                Look::Unable(why) => return refused(ReasonCode::ServerUnavailable, why),
                Look::Yes(principal, expires) => return self.bound(*binding, principal, expires, credentials.client),
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

impl Chain {
    /// The first password file that knows the user, and whether the password is right. One hash, whoever knows him and if nobody does: else
    /// the time would tell.
    fn check_password(&self, shown: &Credentials<'_>) -> Option<(usize, bool)> {
        let (username, password) = (shown.username?, shown.password?);
        let files = || {
            self.methods().enumerate().filter_map(|(at, method)| match method {
                Method::Passwords(users) => Some((at, users.get())),
                _ => None,
            })
        };
        let known = files().find(|(_, users)| users.knows(username));
        let (at, users) = known.or_else(|| files().next())?;
        users.check(username, password).map(|right| (at, right))
    }

    fn by_password(&self, at: usize, right: bool, shown: &Credentials<'_>, now: u64) -> Look {
        if right {
            return match shown.username.and_then(Principal::new) {
                Some(principal) => Look::Yes(Some(principal), None),
                None => Look::No("identity_not_legal"),
            };
        }
        // An unknown user's would be looked at as a token as well: a known one's takes that time, too.
        for (method, _) in &self.methods[at + 1..] {
            if matches!(method, Method::Jwt { .. }) {
                std::hint::black_box(method.look(shown, now));
            }
        }
        Look::No("wrong_password")
    }

    /// Who somebody is, if the client id may be his.
    fn bound(&self, binding: Binding, principal: Option<Principal>, expires: Option<u64>, client: &str) -> Verdict {
        let own = match &principal {
            Some(known) if binding != Binding::Any && known.name.contains(SEPARATOR) => {
                return refused(ReasonCode::BadUserNameOrPassword, "identity_not_legal");
            }
            Some(known) => binding.holds(&known.name, client),
            None => !self.binds || client.is_empty(),
        };
        if !own {
            return refused(ReasonCode::NotAuthorized, "client_id_not_of_identity");
        }
        Verdict::Accepted { principal, expires }
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
            // All password files together are asked once, by the chain.
            Self::Passwords(_) => Look::NotMine,
            Self::Jwt { keys, demands } => match shown.password.filter(|password| jwt::looks_like_one(password)) {
                None => Look::NotMine,
                Some(token) => match keys.get().map(|keys| jwt::check(token, &keys, demands, now)) {
                    Some(Ok(token)) => Look::Yes(Some(token.principal), Some(token.expires)),
                    Some(Err(why)) => Look::No(why),
                    None => Look::Unable(NO_KEYS),
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
