//! The chain: who a client is, by the first method that knows its kind of credentials.

use std::sync::Arc;

use super::Principal;
use super::credentials::{Binding, CertificateName, Credentials, SEPARATOR};
use super::decision::Decision;
use super::held::Held;
use super::jwt::{self, Demands};
use super::keys::{Fetched, Keys};
use super::passwords::Passwords;
use super::scram::{self, Verifiers};
use crate::mqtt::ReasonCode;

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
    /// By enhanced authentication, SCRAM-SHA-256.
    Scram(Held<Verifiers>),
    /// By the server of this number, which others ask.
    Http(usize),
    /// Whoever shows neither user name nor password may stay nobody.
    Anonymous,
}

/// The end of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Seconds since 1970.
    pub at: u64,
    /// Whose word it is, for the audit log.
    pub reason: &'static str,
}

/// Who somebody is, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Accepted {
        /// `None`: anonymous.
        principal: Option<Principal>,
        /// When its credentials are good no longer.
        expires: Option<Expiry>,
    },
    /// Not let in.
    Refused {
        /// For CONNACK: 0x86, or 0x87 where no credentials were shown or the client id is not the identity's; 0x88 where nobody can tell now.
        reason: ReasonCode,
        /// For logs and metrics. Clients are not told: it would help to guess.
        why: &'static str,
    },
    /// Not let in, for [`NOT_ITS_CLIENT_ID`]: it is known who it is, and the client id is not for that identity.
    NotBound(Arc<str>),
}

/// What a client is told, and the audit log, whose client id its identity may not have.
pub const NOT_ITS_CLIENT_ID: (ReasonCode, &str) = (ReasonCode::NotAuthorized, "client_id_not_of_identity");

/// Why nothing can be said of a token: its keys were not fetched yet.
const NO_KEYS: &str = "key_set_unavailable";

/// The answer of one method.
enum Look {
    Yes(Option<Principal>, Option<Expiry>),
    No(&'static str),
    WrongPassword,
    Unable(&'static str),
    NotMine,
}

/// How far a chain is with somebody's credentials.
#[derive(Debug, Default)]
pub struct Inquiry {
    /// The method that is looked at.
    at: usize,
    /// The first password file that knows the user, and whether the password is right. One hash for all files.
    password: Option<Option<(usize, bool)>>,
    /// A file knows the user, with another password. The rest goes on as for users that nobody knows, or the time would tell.
    wrong_password: bool,
    heard: Option<Decision>,
    wants_keys: bool,
}

impl Inquiry {
    /// Whether it may come to something else when the key sets of servers are newer. Gone on with, it looks at the token again.
    pub fn wants_newer_keys(&self) -> bool {
        self.wants_keys
    }

    /// Brings the answer that [`Step::Ask`] asked for.
    pub fn hear(&mut self, decision: Decision) {
        self.heard = Some(decision);
    }
}

/// What an inquiry has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The end.
    Decided(Verdict),
    /// The server of this number is to be asked, and the inquiry to go on with what it says.
    Ask(usize),
}

/// Enhanced authentication under way.
#[derive(Debug)]
pub struct Exchange {
    scram: scram::Exchange,
    binding: Binding,
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

    /// Whom credentials name before anybody has judged them, for logs: the user name, or without one what the certificate says of whom the list
    /// asks it; its common name where only servers ask.
    pub fn named<'a>(&self, shown: &Credentials<'a>) -> Option<&'a str> {
        let mut asked = self.methods().filter_map(|method| match method {
            Method::Certificate(name) => Some(*name),
            _ => None,
        });
        let name = asked.next().unwrap_or(CertificateName::CommonName);
        let username = shown.username.filter(|name| !name.is_empty());
        username.or_else(|| name.of(shown.certificate.as_ref()?))
    }

    /// Whether [`Chain::go_on`] may take long for these credentials, as a password's hash does, or stop at a server.
    pub fn is_slow(&self, credentials: &Credentials<'_>) -> bool {
        self.methods().any(|method| match method {
            Method::Passwords(_) | Method::Jwt { .. } => credentials.password.is_some(),
            Method::Http(_) => credentials.are_shown(),
            Method::Certificate(_) | Method::Scram(_) | Method::Anonymous => false,
        })
    }

    /// Who a client is, at `now` in seconds since 1970, or whom to ask. Called again it goes on where it has stopped.
    pub fn go_on(&self, inquiry: &mut Inquiry, credentials: &Credentials<'_>, now: u64) -> Step {
        while let Some((method, binding)) = self.methods.get(inquiry.at) {
            let look = match method {
                Method::Passwords(_) => self.by_password(inquiry, credentials),
                Method::Http(_) if !credentials.are_shown() => Look::NotMine,
                Method::Http(number) => match inquiry.heard.take() {
                    None => return Step::Ask(*number),
                    Some(decision) => by_decision(decision, credentials, now),
                },
                other => other.look(credentials, now),
            };
            inquiry.wants_keys = matches!(look, Look::No(jwt::UNKNOWN_KEY) | Look::Unable(NO_KEYS));
            let verdict = match look {
                Look::NotMine => {
                    inquiry.at += 1;
                    continue;
                }
                Look::WrongPassword => {
                    inquiry.wrong_password = true;
                    inquiry.at += 1;
                    continue;
                }
                // Before the wrong password: users that nobody knows hear the same.
                Look::Unable(why) => refused(ReasonCode::ServerUnavailable, why),
                _ if inquiry.wrong_password => break,
                Look::No(why) => refused(ReasonCode::BadUserNameOrPassword, why),
                Look::Yes(principal, expires) => self.bound(*binding, principal, expires, credentials.client),
            };
            return Step::Decided(verdict);
        }
        Step::Decided(if inquiry.wrong_password {
            refused(ReasonCode::BadUserNameOrPassword, "wrong_password")
        } else if credentials.username.is_some() || credentials.password.is_some() {
            // The same as for a wrong password: whether there is such a user is nobody's business.
            refused(ReasonCode::BadUserNameOrPassword, "unknown_credentials")
        } else {
            refused(ReasonCode::NotAuthorized, "no_credentials")
        })
    }
}

impl Chain {
    /// Takes the first message of enhanced authentication: the exchange, and what the client is to answer. `nonce` as in
    /// [`scram::Exchange::begin`]. None of the other methods is asked, whatever else the client shows.
    ///
    /// # Errors
    /// The client is refused: there is no such method in this list (0x8C), or it is no such message.
    pub fn begin(&self, message: &[u8], nonce: &str) -> Result<(Exchange, Vec<u8>), Verdict> {
        let files = self.methods.iter().filter_map(|(method, binding)| match method {
            Method::Scram(users) => Some((users.get(), *binding)),
            _ => None,
        });
        let files: Vec<_> = files.collect();
        if files.is_empty() {
            return Err(refused(ReasonCode::BadAuthenticationMethod, "authentication_method"));
        }
        let begun = scram::Exchange::begin(files.iter().map(|(users, _)| &**users), message, nonce);
        match begun {
            Ok((scram, at, challenge)) => Ok((
                Exchange {
                    scram,
                    binding: files[at].1,
                },
                challenge,
            )),
            Err(why) => Err(refused(ReasonCode::BadUserNameOrPassword, why)),
        }
    }

    /// Takes the second one: the verdict, and where that is good our own proof for the client.
    pub fn finish(&self, exchange: Exchange, message: &[u8], client: &str) -> (Verdict, Vec<u8>) {
        match exchange.scram.finish(message) {
            Ok((principal, proof)) => (self.bound(exchange.binding, Some(principal), None, client), proof),
            Err(why) => (refused(ReasonCode::BadUserNameOrPassword, why), Vec::new()),
        }
    }

    /// Whether there is a method of enhanced authentication.
    pub fn is_enhanced(&self) -> bool {
        self.methods().any(|method| matches!(method, Method::Scram(_)))
    }

    /// The first password file that knows the user, and whether the password is right. One hash, whoever knows him and if nobody does: else
    /// the time would tell.
    fn check_password(&self, shown: &Credentials<'_>) -> Option<(usize, bool)> {
        let (username, password) = (shown.username?, shown.password?);
        let files = self.methods().enumerate().filter_map(|(at, method)| match method {
            Method::Passwords(users) => Some((at, users.get())),
            _ => None,
        });
        let (at, users) = Passwords::that_asks(files.collect(), username)?;
        users.check(username, password).map(|right| (at, right))
    }

    fn by_password(&self, inquiry: &mut Inquiry, shown: &Credentials<'_>) -> Look {
        match inquiry.password.get_or_insert_with(|| self.check_password(shown)) {
            Some((file, true)) if *file == inquiry.at => match shown.username.and_then(Principal::new) {
                Some(principal) => Look::Yes(Some(principal), None),
                None => Look::No("identity_not_legal"),
            },
            Some((file, false)) if *file == inquiry.at => Look::WrongPassword,
            _ => Look::NotMine,
        }
    }

    /// Who somebody is, if the client id may be his.
    fn bound(&self, binding: Binding, principal: Option<Principal>, expires: Option<Expiry>, client: &str) -> Verdict {
        let own = match &principal {
            Some(known) if binding != Binding::Any && known.name.contains(SEPARATOR) => {
                return refused(ReasonCode::BadUserNameOrPassword, "identity_not_legal");
            }
            Some(known) => binding.holds(&known.name, client),
            None => !self.binds || client.is_empty(),
        };
        match principal {
            _ if own => Verdict::Accepted { principal, expires },
            Some(known) => Verdict::NotBound(known.name),
            None => refused(NOT_ITS_CLIENT_ID.0, NOT_ITS_CLIENT_ID.1),
        }
    }
}

fn by_decision(decision: Decision, shown: &Credentials<'_>, now: u64) -> Look {
    let (identity, claims, expires) = match decision {
        Decision::Ignore => return Look::NotMine,
        Decision::Deny => return Look::No("denied_by_server"),
        Decision::Unable => return Look::Unable("login_server_unavailable"),
        Decision::Allow { identity, claims, expires } => (identity, claims, expires),
    };
    if expires.is_some_and(|at| now >= at) {
        return Look::No("credentials_expired");
    }
    match identity.or_else(|| Principal::new(shown.username?)) {
        Some(Principal { name, .. }) => {
            let reason = "decision_expired";
            Look::Yes(Some(Principal { name, claims }), expires.map(|at| Expiry { at, reason }))
        }
        None => Look::No("identity_not_legal"),
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
            // By the chain: all password files together are asked once, and servers by others. What SCRAM takes comes in no CONNECT alone.
            Self::Passwords(_) | Self::Http(_) | Self::Scram(_) => Look::NotMine,
            Self::Jwt { keys, demands } => match shown.password.filter(|password| jwt::looks_like_one(password)) {
                None => Look::NotMine,
                Some(token) => match keys.get().map(|keys| jwt::check(token, &keys, demands, now)) {
                    Some(Ok(token)) => {
                        let (at, reason) = (token.expires, "token_expired");
                        Look::Yes(Some(token.principal), Some(Expiry { at, reason }))
                    }
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
