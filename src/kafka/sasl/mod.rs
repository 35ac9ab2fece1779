//! SASL as Kafka's brokers speak it: the messages of each mechanism, and what the answers to them mean.
//!
//! A [`Conversation`] is bytes in, bytes out; who sends them, in `SaslAuthenticate` requests (KIP-152), is `upstream`'s business.
//! Nothing here shows a secret: not in `Debug`, not in a fault.

mod oauthbearer;
mod plain;
mod scram;

use zeroize::Zeroizing;

pub use scram::{Hash, MOST_ITERATIONS};

/// A message to the broker. It may hold a secret, so it is overwritten when it is dropped.
pub type Message = Zeroizing<Vec<u8>>;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: the password itself.
    Plain,
    /// RFC 5802 and 7677: a proof that the password is known, of both sides.
    Scram(Hash),
    /// RFC 7628: a token that somebody else has made.
    OauthBearer,
}

impl Mechanism {
    /// As `SaslHandshake` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// What an answer of the broker leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and wait for the next answer.
    Send(Message),
    /// Nothing more is to be said, and the broker has proved what it had to.
    Done,
}

/// One authentication, from the first message on.
#[derive(Debug)]
pub struct Conversation(State);

enum State {
    /// The broker's next answer ends it.
    Told,
    /// It has refused the token, and why; it is owed one byte before it says so itself.
    TokenRefused(String),
    /// SCRAM: the broker's challenge comes.
    Challenged(scram::Client),
    /// SCRAM: the broker's own proof comes.
    Proving(scram::Expected),
    Ended,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Told => "Told",
            Self::TokenRefused(_) => "TokenRefused",
            Self::Challenged(_) => "Challenged",
            Self::Proving(_) => "Proving",
            Self::Ended => "Ended",
        })
    }
}

impl Conversation {
    /// PLAIN: one message, no proof of the broker.
    pub fn plain(username: &str, password: &str) -> (Self, Message) {
        (Self(State::Told), plain::message(username, password))
    }

    /// SCRAM. `nonce` must come from a secure random source and be new each time: printable ASCII without a comma.
    pub fn scram(hash: Hash, username: &str, password: &str, nonce: &str) -> (Self, Message) {
        let client = scram::Client::new(hash, username, password, nonce);
        let first = client.first();
        (Self(State::Challenged(client)), first)
    }

    /// OAUTHBEARER with a token as [`is_token`] knows them.
    pub fn oauth_bearer(token: &str) -> (Self, Message) {
        (Self(State::Told), oauthbearer::message(token))
    }

    /// Takes an answer in which the broker reported no error. For SCRAM this is where the processor's time goes: some
    /// milliseconds for a few thousand iterations.
    ///
    /// # Errors
    /// The broker says what it must not, or cannot prove that it knows the password; in words for an operator.
    pub fn answer(&mut self, answer: &[u8]) -> Result<Step, String> {
        match std::mem::replace(&mut self.0, State::Ended) {
            State::Told if answer.is_empty() => Ok(Step::Done),
            State::Told => {
                self.0 = State::TokenRefused(oauthbearer::status(answer));
                Ok(Step::Send(Zeroizing::new(vec![oauthbearer::ACKNOWLEDGED])))
            }
            State::TokenRefused(status) => Err(status),
            State::Challenged(client) => {
                let (last, expected) = client.answer(answer)?;
                self.0 = State::Proving(expected);
                Ok(Step::Send(last))
            }
            State::Proving(expected) => expected.verify(answer).map(|()| Step::Done),
            State::Ended => Err("the broker goes on after the end".to_owned()),
        }
    }

    /// What the broker said of a token before it refused it, if it did.
    pub fn status(&self) -> Option<&str> {
        match &self.0 {
            State::TokenRefused(status) => Some(status),
            _ => None,
        }
    }
}

/// Whether PLAIN can carry it: anything but NUL, which separates (RFC 4616 §2), and not nothing.
pub fn is_plain_text(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

/// Whether Kafka's SCRAM takes it as the name of a user: ASCII but NUL. (RFC 5802 allows all of Unicode, Kafka's brokers do not.)
pub fn is_scram_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x01..0x80).contains(&b))
}

/// Whether it can be a bearer token (RFC 6750 §2.1, `b64token`).
pub fn is_token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// Words of a broker or a token endpoint as they may be shown: one line, not endless.
pub fn shown(words: &str) -> String {
    const LONGEST: usize = 300;
    let mut line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if words.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_three_parts_and_ends_with_the_first_answer() {
        let (mut conversation, first) = Conversation::plain("proxy", "pencil, π");
        assert_eq!(*first, "\0proxy\0pencil, π".as_bytes());
        assert_eq!(conversation.answer(b""), Ok(Step::Done));
        assert!(conversation.answer(b"").is_err());
    }

    #[test]
    fn a_refused_token_is_acknowledged_and_then_told() {
        let (mut conversation, first) = Conversation::oauth_bearer("a.b.c");
        assert_eq!(*first, b"n,,\x01auth=Bearer a.b.c\x01\x01");
        let next = conversation.answer(br#"{"status":"invalid_token"}"#).unwrap();
        assert_eq!(next, Step::Send(Zeroizing::new(vec![1])));
        assert_eq!(conversation.status(), Some("invalid_token"));
        assert_eq!(conversation.answer(b""), Err("invalid_token".to_owned()));
        let (mut conversation, _) = Conversation::oauth_bearer("a.b.c");
        assert_eq!(conversation.answer(b""), Ok(Step::Done));
    }

    #[test]
    fn what_cannot_be_said_is_known_before() {
        assert!(is_plain_text("käfer") && !is_plain_text("") && !is_plain_text("a\0b"));
        assert!(is_scram_name("a=b,c") && !is_scram_name("käfer") && !is_scram_name(""));
        assert!(is_token("eyJhbGciOiJub25lIn0.e30.") && is_token("abc=="));
        for bad in ["", "=", "a b", "a\u{1}b", "a\nb", "ä", "a=b"] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }

    #[test]
    fn words_of_others_stay_on_one_line() {
        assert_eq!(shown("a\r\nb\u{1b}[31m"), "a  b [31m");
        assert_eq!(shown(&"x".repeat(1_000)).chars().count(), 301);
    }

    #[test]
    fn no_state_shows_a_secret() {
        let (scram, _) = Conversation::scram(Hash::Sha256, "user", "pencil", "abc");
        assert!(!format!("{scram:?}").contains("pencil"));
    }
}
