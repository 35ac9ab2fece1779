//! Session tickets whose keys all instances share: a device resumes its TLS session at any of them (RFC 8446 §2.2, RFC 5077).
//!
//! The keys of the file are not used as they are. Each is bound to what a session rests on: whether certificates are asked
//! for, who signs them, what is revoked. A ticket must be worth nothing where that is different: at a listener that asks for
//! more, or once a revocation list has grown. Time passes all the same, so `super::lasting` and
//! `super::Tls::verify_resumed` look at certificates again.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::pem::Fault;

/// How long a ticket is good.
const LIFETIME: u32 = 12 * 60 * 60;
/// Bytes of a key in the file, at least.
const SHORTEST_KEY: usize = 32;
/// Keys of the file, at most: the one in use, its heir, and former ones.
const MOST_KEYS: usize = 8;
const LARGEST_FILE: u64 = 16 * 1024;
/// How a ticket begins: which key it is under.
const NAME: usize = 16;
const NONCE: usize = 12;
/// A clock may be ahead of the one that made the ticket.
const AHEAD: u64 = 60;

/// Makes and opens tickets.
pub(super) struct SharedTickets {
    /// The first seals, each opens.
    keys: Vec<Key>,
}

struct Key {
    name: [u8; NAME],
    key: RandomizedNonceKey,
}

/// Keys as they are written; they become those of tickets by what sessions rest on.
pub(super) struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("keys", &self.0.len()).finish()
    }
}

impl Secrets {
    /// Reads the keys of a file: one to eight lines of base64 (`openssl rand -base64 48`), `#` begins a comment.
    pub(super) fn read(path: &Path) -> Result<Self, Fault> {
        let fault = |what: String| (format!("ticket_keys {} {what}", path.display()), remedy());
        let mut text = Zeroizing::new(String::new());
        let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text));
        read.map_err(|e| fault(format!("cannot be read: {e}")))?;
        if text.len() as u64 > LARGEST_FILE {
            return Err(fault("is larger than 16 KiB".to_owned()));
        }
        let lines = text.lines().map(str::trim);
        Self::of(lines.filter(|line| !line.is_empty() && !line.starts_with('#')), fault)
    }

    /// The same keys as a variable of the environment holds them: apart by blanks or line ends.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |what: String| (format!("ticket_keys {what}"), remedy());
        Self::of(text.split_ascii_whitespace(), fault)
    }

    fn of<'a>(written: impl Iterator<Item = &'a str>, fault: impl Fn(String) -> Fault) -> Result<Self, Fault> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(written) {
            let decoded = STANDARD.decode(line).ok().map(Zeroizing::new);
            let secret = decoded.filter(|secret| secret.len() >= SHORTEST_KEY);
            keys.push(secret.ok_or_else(|| fault(format!("holds a key that is none, the {number}. of it")))?);
        }
        match keys.len() {
            0 => Err(fault("holds no key".to_owned())),
            1..=MOST_KEYS => Ok(Self(keys)),
            _ => Err(fault(format!("holds more than {MOST_KEYS} keys"))),
        }
    }

    /// Tickets under these keys; `trust` says what the sessions rest on.
    pub(super) fn bound(&self, trust: &[u8]) -> Result<SharedTickets, Fault> {
        let keys = self.0.iter().map(|secret| Key::bound(secret, trust)).collect::<Option<_>>();
        let keys = keys.ok_or_else(|| ("ticket_keys cannot be used".to_owned(), remedy()))?;
        Ok(SharedTickets { keys })
    }
}

impl SharedTickets {
    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut sealed = [&now.to_be_bytes(), plain].concat();
        let nonce = key.key.seal_in_place_append_tag(Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE)?;
        // Names are no secret.
        let key = self.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = key.key.open_in_place(nonce, Aad::from(key.name), &mut sealed).ok()?;
        fresh(opened, now)
    }
}

/// What was sealed behind the time of it, if that is not too long ago.
fn fresh(opened: &[u8], now: u64) -> Option<Vec<u8>> {
    let (made, plain) = opened.split_first_chunk::<8>()?;
    let made = u64::from_be_bytes(*made);
    let good = made <= now + AHEAD && now < made.saturating_add(LIFETIME.into());
    good.then(|| plain.to_vec())
}

/// Tickets under keys that this process makes, as long as shared ones are good: the former key is known until the next ticket is asked
/// for, which may be days later where nobody comes.
#[derive(Debug)]
pub(super) struct TimedTickets(pub(super) Arc<dyn ProducesTickets>);

impl TimedTickets {
    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        self.0.encrypt(&Zeroizing::new([&now.to_be_bytes(), plain].concat()))
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        fresh(&Zeroizing::new(self.0.decrypt(ticket)?), now)
    }
}

impl ProducesTickets for TimedTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime().min(LIFETIME)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, now())
    }
}

fn remedy() -> String {
    "write one to eight keys, each a line, with 32 bytes or more in base64: openssl rand -base64 48".to_owned()
}

impl Key {
    fn bound(secret: &[u8], trust: &[u8]) -> Option<Self> {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive = |purpose: &[u8]| {
            let mut context = hmac::Context::with_key(&hmac);
            for part in [purpose, b"\0", trust] {
                context.update(part);
            }
            context.sign()
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM, derive(b"mqtt-kafka-proxy ticket key").as_ref()).ok()?;
        let name = derive(b"mqtt-kafka-proxy ticket name").as_ref().first_chunk::<NAME>().copied()?;
        Some(Self { name, key })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, now())
    }
}

impl fmt::Debug for SharedTickets {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTickets").field("keys", &self.keys.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(lines: &[&str], trust: &[u8]) -> Result<SharedTickets, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tickets");
        std::fs::write(&path, lines.join("\n")).unwrap();
        Secrets::read(&path)
            .and_then(|secrets| secrets.bound(trust))
            .map_err(|(message, _)| message)
    }

    const ONE: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const TWO: &str = "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

    #[test]
    fn who_has_the_key_and_the_trust_opens_for_twelve_hours() {
        let made = tickets(&[ONE], b"ca").unwrap();
        let ticket = made.seal(b"session", 1_000_000).unwrap();
        let other = tickets(&["# rotated", TWO, "", ONE], b"ca").unwrap();
        let open = |at: &SharedTickets, now| at.open(&ticket, now);
        assert_eq!(open(&other, 1_000_000).as_deref(), Some(&b"session"[..]));
        assert_eq!(open(&other, 1_000_000 + 43_199).as_deref(), Some(&b"session"[..]));
        assert_eq!(open(&other, 999_950).as_deref(), Some(&b"session"[..]), "clocks differ a little");
        assert_eq!(open(&other, 1_000_000 + 43_200), None, "it is too old");
        assert_eq!(open(&other, 900_000), None, "it is from the future");
        assert_eq!(open(&tickets(&[TWO], b"ca").unwrap(), 1_000_000), None, "the key is gone");
        assert_eq!(
            open(&tickets(&[ONE], b"ca, revoked: 1").unwrap(), 1_000_000),
            None,
            "it rests on something else"
        );
    }

    #[test]
    fn those_of_this_process_are_good_as_long() {
        let own = TimedTickets(rustls::crypto::aws_lc_rs::Ticketer::new().unwrap());
        let ticket = own.seal(b"session", 1_000_000).unwrap();
        let open = |now| own.open(&ticket, now);
        for good in [999_950, 1_000_000, 1_043_199] {
            assert_eq!(open(good).as_deref(), Some(&b"session"[..]));
        }
        assert_eq!((open(1_043_200), open(900_000)), (None, None));
    }

    #[test]
    fn a_ticket_that_was_touched_or_cut_is_none() {
        let made = tickets(&[ONE], b"").unwrap();
        let ticket = made.seal(b"session", 5).unwrap();
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(made.open(&touched, 5), None, "byte {at}");
            assert_eq!(made.open(&ticket[..at], 5), None, "the first {at} bytes");
        }
        assert_ne!(made.seal(b"session", 5), Some(ticket), "no nonce comes twice");
    }

    #[test]
    fn a_file_at_fault_is_told_without_what_is_in_it() {
        let many = [ONE; 9];
        let long = "a".repeat(20_000);
        for (lines, said) in [
            (&["# nothing"][..], "holds no key"),
            (&[ONE, "c2hvcnQ="], "holds a key that is none, the 2. of it"),
            (&["no base64!"], "holds a key that is none, the 1. of it"),
            (&many, "holds more than 8 keys"),
            (&[&long], "is larger than 16 KiB"),
        ] {
            let fault = tickets(lines, b"").unwrap_err();
            assert!(fault.contains(said) && !fault.contains("c2hv"), "{fault}");
        }
        assert!(!format!("{:?}", tickets(&[ONE], b"").unwrap()).contains("MDEy"));
    }
}
