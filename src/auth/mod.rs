//! Who a device is, and what it may do: credentials, key sets and rights in; verdicts out.
//!
//! Pure: no socket, no file, no clock. [`Chain`] asks its methods in order who a client is ([`passwords`], [`jwt`], its certificate, or
//! nobody at all), [`Rights`] says what that identity may publish and subscribe. Files are read, and servers asked, by others; what they say is handed over as text.
//!
//! A method answers *yes*, *no* or *not mine*; the first that does not say *not mine* decides. So the order matters only where two
//! methods know the same kind of credentials, and a wrong password never makes somebody anonymous. A server that is asked about logins
//! ([`Decision`]) is a method like the others; the chain stops there until its answer is brought.

mod chain;
mod credentials;
mod decision;
mod held;
pub mod jwt;
mod keys;
pub mod passwords;
mod pattern;
mod rights;
pub mod scram;
mod stand_ins;

use std::sync::Arc;

pub use chain::{Chain, Exchange, Expiry, Inquiry, Method, NOT_ITS_CLIENT_ID, Step, Verdict};
pub use credentials::{Binding, Certificate, CertificateName, Credentials, SEPARATOR};
pub use decision::Decision;
pub use held::{Held, Look};
pub use keys::{Fetched, Keys};
pub use pattern::Pattern;
pub use rights::{Action, Right, Rights, Subject, Who};

/// Bytes of the longest identity. Longer ones are refused: they stand in memory as long as their connection.
pub const LONGEST_IDENTITY: usize = 512;

/// Who a connection belongs to, as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The identity: 1 to [`LONGEST_IDENTITY`] bytes without control characters.
    pub name: Arc<str>,
    /// Of a token's claims those that rights ask for, each with its text.
    pub claims: Box<[(Box<str>, Box<str>)]>,
}

impl Principal {
    /// A name as an identity; `None` if it cannot be one.
    pub fn new(name: &str) -> Option<Self> {
        let legal = !name.is_empty() && name.len() <= LONGEST_IDENTITY && !name.chars().any(char::is_control);
        legal.then(|| Self {
            name: name.into(),
            claims: Box::default(),
        })
    }
}
