//! SCRAM (RFC 5802, SHA-256: RFC 7677) of a client without channel binding, which Kafka's brokers do not offer.
//!
//! Where the two differ, Kafka's way is taken: a password is used as it is written, not prepared by SASLprep (RFC 4013), since the
//! brokers and the tools that store its verifier do not prepare it either.

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

use super::{Message, shown};

/// Fewest iterations that are taken: the least that RFC 7677 §4 allows and Kafka stores. Fewer would make a stolen exchange cheap to search.
const FEWEST_ITERATIONS: u32 = 4_096;
/// Most iterations that are taken (Kafka stores at most 16,384): the broker's number is our processor's time.
pub const MOST_ITERATIONS: u32 = 131_072;
/// Longest message of a broker that is looked at.
const LONGEST: usize = 4 * 1024;

/// The hash of the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn mac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), message)
    }
}

/// Waits for the broker's challenge.
pub(super) struct Client {
    hash: Hash,
    password: Zeroizing<String>,
    nonce: String,
    /// `client-first-message-bare`.
    bare: String,
}

/// What the broker must answer to prove that it knows the password.
pub(super) struct Expected(hmac::Tag);

/// The broker's challenge.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl Client {
    pub(super) fn new(hash: Hash, username: &str, password: &str, nonce: &str) -> Self {
        // The two characters with a meaning (§5.1), in this order.
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            password: Zeroizing::new(password.to_owned()),
            nonce: nonce.to_owned(),
            bare: format!("n={name},r={nonce}"),
        }
    }

    /// `client-first-message`: `n`, no channel binding.
    pub(super) fn first(&self) -> Message {
        Message::new(format!("n,,{}", self.bare).into_bytes())
    }

    /// `server-first-message` → `client-final-message`.
    pub(super) fn answer(self, challenge: &[u8]) -> Result<(Message, Expected), String> {
        let text = text(challenge)?;
        let Challenge { nonce, salt, iterations } = read(text, &self.nonce)?;
        let hash = self.hash;
        let mut salted = Zeroizing::new(vec![0; hash.digest().output_len()]);
        pbkdf2::derive(hash.pbkdf2(), iterations, &salt, self.password.as_bytes(), &mut salted);
        // "biws" is the header "n,," of the first message again.
        let without_proof = format!("c=biws,r={nonce}");
        let exchange = format!("{},{text},{without_proof}", self.bare);
        let client_key = hash.mac(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest(), client_key.as_ref());
        let signature = hash.mac(stored_key.as_ref(), exchange.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(k, s)| k ^ s).collect();
        let server_key = hash.mac(&salted, b"Server Key");
        let expected = Expected(hash.mac(server_key.as_ref(), exchange.as_bytes()));
        let last = format!("{without_proof},p={}", BASE64.encode(proof));
        Ok((Message::new(last.into_bytes()), expected))
    }
}

impl Expected {
    /// Checks `server-final-message`.
    pub(super) fn verify(&self, last: &[u8]) -> Result<(), String> {
        let text = text(last)?;
        let first = text.split(',').next().unwrap_or("");
        if let Some(error) = first.strip_prefix("e=") {
            return Err(format!("the broker says: {}", shown(error)));
        }
        let told = first.strip_prefix("v=").and_then(|v| BASE64.decode(v).ok());
        match told {
            Some(told) if constant_time::verify_slices_are_equal(&told, self.0.as_ref()).is_ok() => Ok(()),
            Some(_) => Err("the broker's own proof is wrong: it does not know this password, so it may be another than it says".to_owned()),
            None => Err("the broker gives no proof that it knows the password".to_owned()),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(message)
        .ok()
        .filter(|text| text.len() <= LONGEST)
        .ok_or_else(|| "the broker's message is no text, or too long".to_owned())
}

/// `r=…,s=…,i=…`, in this order (§7); what follows is an extension and may be ignored.
fn read<'a>(text: &'a str, ours: &str) -> Result<Challenge<'a>, String> {
    let mut parts = text.split(',');
    let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
    // An extension before these is mandatory ("m="), and we know none.
    let nonce = part("r=").ok_or("the broker's challenge has no nonce")?;
    if !nonce.starts_with(ours) || nonce.len() == ours.len() {
        return Err("the broker's challenge answers another message than ours".to_owned());
    }
    let salt = part("s=").and_then(|salt| BASE64.decode(salt).ok()).filter(|salt| !salt.is_empty());
    let salt = salt.ok_or("the broker's challenge has no salt")?;
    let iterations = part("i=").and_then(|i| i.parse::<NonZeroU32>().ok());
    let iterations = iterations.ok_or("the broker's challenge has no number of iterations")?;
    if !(FEWEST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations.get()) {
        return Err(format!(
            "the broker asks for {iterations} iterations; {FEWEST_ITERATIONS} to {MOST_ITERATIONS} are taken: store the user's password anew"
        ));
    }
    Ok(Challenge { nonce, salt, iterations })
}

#[cfg(test)]
#[path = "scram/tests.rs"]
mod tests;
