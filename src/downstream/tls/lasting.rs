//! Session tickets that last no longer than what the device has shown when its session began.
//!
//! A ticket brings the certificates of then. A device that has renewed its own still goes on with the former ones, and were its
//! connection refused for those it would try the same again. A ticket that is not taken costs a full handshake only, in
//! which the device shows what it has now. `super::Tls::verify_resumed` stands behind this, and does not read rustls' values.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;

/// How long it is remembered what was found of a session. A ClientHello of TLS 1.3 may hold a ticket hundreds of times, each of which rustls has opened.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Tickets of others, as long as the certificates in them are good.
pub(super) struct LastingTickets {
    tickets: Arc<dyn ProducesTickets>,
    verifier: Arc<dyn ClientCertVerifier>,
    last: Mutex<Option<Found>>,
}

/// What was found of a session.
struct Found {
    /// SHA-256 of it: it holds a secret.
    session: [u8; 32],
    is_good: bool,
    at: Instant,
}

impl LastingTickets {
    pub(super) fn new(tickets: Arc<dyn ProducesTickets>, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self {
            tickets,
            verifier,
            last: Mutex::default(),
        }
    }

    /// Whether the certificates of a session are good; of the same one as the last time they are not verified again at once.
    fn is_good(&self, plain: &[u8], now: Instant) -> bool {
        let Some(chain) = certificates(plain) else { return true };
        let [device, intermediates @ ..] = &chain[..] else { return true };
        let hash = digest(&SHA256, plain);
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |last: &&Found| last.session == hash.as_ref() && now.saturating_duration_since(last.at) < REMEMBERED;
        if let Some(is_good) = last().as_ref().filter(is_same).map(|last| last.is_good) {
            return is_good;
        }
        let is_good = self.verifier.verify_client_cert(device, intermediates, UnixTime::now()).is_ok();
        *last() = hash.as_ref().try_into().ok().map(|session| Found { session, is_good, at: now });
        is_good
    }
}

impl ProducesTickets for LastingTickets {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.tickets.decrypt(ticket)?;
        self.is_good(&plain, Instant::now()).then_some(plain)
    }
}

impl fmt::Debug for LastingTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastingTickets").field("tickets", &self.tickets).finish()
    }
}

/// The certificates in a session as rustls writes it: an optional name, version and suite, a secret, a flag, the optional chain. `None`: it
/// is written in another way, which the tests of resumption would show.
fn certificates(mut session: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let rest = &mut session;
    if take(rest, 1)? == [1] {
        counted(rest, 1)?;
    }
    take(rest, 4)?;
    counted(rest, 1)?;
    take(rest, 1)?;
    if take(rest, 1)? == [0] {
        return Some(Vec::new());
    }
    let mut chain = counted(rest, 3)?;
    let mut found = Vec::new();
    while !chain.is_empty() {
        found.push(CertificateDer::from(counted(&mut chain, 3)?));
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// What stands behind its length, which is itself of `width` bytes.
fn counted<'a>(bytes: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = take(bytes, width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(bytes, length)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::client::danger::HandshakeSignatureValid;
    use rustls::server::danger::ClientCertVerified;
    use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

    use super::*;

    const SESSION: &[u8] = b"\x01\x01h\x03\x04\x13\x02\x03abc\x01\x01\x00\x00\x09\x00\x00\x02AA\x00\x00\x01B\x01\x04mqtt";

    #[test]
    fn the_chain_of_a_session_is_found() {
        let found = certificates(SESSION).unwrap();
        assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>(), [&b"AA"[..], b"B"]);
        assert_eq!(
            certificates(b"\x00\x03\x03\xc0\x2f\x00\x01\x00\x00"),
            Some(vec![]),
            "without name and certificate"
        );
    }

    #[test]
    fn what_is_cut_has_none() {
        let end = SESSION.len() - 6;
        assert!(certificates(&SESSION[..end]).is_some());
        for at in 0..end {
            assert_eq!(certificates(&SESSION[..at]), None, "the first {at} bytes");
        }
    }

    /// Counts what it verifies; a device `AA` is good.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl ClientCertVerifier for Counting {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            device: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match &**device {
                b"AA" => Ok(ClientCertVerified::assertion()),
                _ => Err(Error::DecryptError),
            }
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::DecryptError)
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::DecryptError)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    /// Tickets that are their sessions.
    #[derive(Debug)]
    struct Open;

    impl ProducesTickets for Open {
        fn enabled(&self) -> bool {
            true
        }

        fn lifetime(&self) -> u32 {
            1
        }

        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            Some(plain.to_vec())
        }

        fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
            Some(ticket.to_vec())
        }
    }

    #[test]
    fn copies_of_a_ticket_are_verified_once_a_second() {
        let verifier = Arc::new(Counting::default());
        let tickets = LastingTickets::new(Arc::new(Open), verifier.clone());
        let verified = || verifier.0.load(Ordering::Relaxed);
        let with = |from, to| {
            SESSION
                .iter()
                .map(|byte| if *byte == from { to } else { *byte })
                .collect::<Vec<u8>>()
        };
        let (bad, other) = (with(b'A', b'C'), with(b'h', b'i'));
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        for millis in 0..999 {
            assert!(tickets.is_good(SESSION, after(millis)));
            assert_eq!(verified(), 1);
        }
        assert!(tickets.is_good(SESSION, after(1_000)));
        assert_eq!(verified(), 2, "however often it is asked, the second is over");
        for _ in 0..60 {
            assert!(!tickets.is_good(&bad, after(1_000)));
        }
        assert_eq!(verified(), 3);
        assert!(tickets.is_good(&other, after(1_000)) && tickets.is_good(SESSION, after(1_000)));
        assert_eq!(verified(), 5, "only the last is remembered");
        assert!(tickets.decrypt(&bad).is_none() && tickets.decrypt(SESSION).as_deref() == Some(SESSION));
    }
}
