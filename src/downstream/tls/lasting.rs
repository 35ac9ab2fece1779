//! Session tickets that last no longer than what the device has shown when its session began.
//!
//! A ticket brings the certificates of then. A device that has renewed its own still goes on with the former ones, and were its
//! connection refused for those it would try the same again. A ticket that is not taken costs a full handshake only, in
//! which the device shows what it has now. `super::Tls::verify_resumed` stands behind this, and does not read rustls' values.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;

/// Tickets of others, as long as the certificates in them are good.
pub(super) struct LastingTickets {
    tickets: Arc<dyn ProducesTickets>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl LastingTickets {
    pub(super) fn new(tickets: Arc<dyn ProducesTickets>, verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self { tickets, verifier }
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
        let good = match certificates(&plain).as_deref() {
            Some([device, intermediates @ ..]) => self.verifier.verify_client_cert(device, intermediates, UnixTime::now()).is_ok(),
            Some([]) | None => true,
        };
        good.then_some(plain)
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
}
