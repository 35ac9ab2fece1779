//! Any bytes as the two messages of a SCRAM client: nothing panics, and nobody is let in without the password.
//!
//! What comes first up to a line feed is `client-first-message`, the rest `client-final-message`. Where that is `right`, it is made with the
//! password, as a client would. The file has one user, whose password everybody knows: it opens nothing.

use std::num::NonZeroU32;
use std::sync::LazyLock;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mqtt_kafka_proxy::auth::scram::{Exchange, Verifiers, entry};

const SALT: [u8; 16] = [7; 16];
const PASSWORD: &str = "pencil";
const NONCE: &str = "ours";

static FILE: LazyLock<Verifiers> = LazyLock::new(|| {
    let line = entry("user", PASSWORD, &SALT).expect("name and password are legal");
    Verifiers::parse(&line).expect("it was just made")
});

/// Whether the client is let in.
pub fn check(bytes: &[u8]) -> bool {
    // The same bytes as a file of an operator.
    let _ = Verifiers::parse(&String::from_utf8_lossy(bytes));
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (first, rest) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let begin = || Exchange::begin(std::iter::once(&*FILE), first, NONCE);
    let Ok((exchange, file, challenge)) = begin() else { return false };
    assert_eq!(file, 0);
    let challenge = String::from_utf8(challenge).expect("a challenge is ASCII but for the client's nonce, which is ASCII");
    if rest != b"right" {
        assert!(exchange.finish(rest).is_err(), "let in without the password");
        return false;
    }
    let (last, mut proof) = answer(std::str::from_utf8(first).expect("it was taken"), &challenge);
    let with = |proof: &[u8]| format!("{last},p={}", BASE64.encode(proof));
    let let_in = match exchange.finish(with(&proof).as_bytes()) {
        Ok((principal, ours)) => {
            assert_eq!(&*principal.name, "user");
            assert!(ours.starts_with(b"v="));
            true
        }
        Err(why) => {
            assert_eq!(why, "unknown_credentials");
            false
        }
    };
    // One bit less, and it is nobody's.
    proof[0] ^= 1;
    let (again, ..) = begin().expect("it was taken before");
    assert!(again.finish(with(&proof).as_bytes()).is_err(), "let in with a wrong proof");
    let_in
}

/// `client-final-message-without-proof` and the proof (RFC 5802 §3).
fn answer(first: &str, challenge: &str) -> (String, [u8; 32]) {
    static SALTED: LazyLock<[u8; 32]> = LazyLock::new(|| {
        let mut salted = [0; 32];
        let iterations = NonZeroU32::new(16_384).expect("it is not zero");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &SALT, PASSWORD.as_bytes(), &mut salted);
        salted
    });
    let header: String = first.split_inclusive(',').take(2).collect();
    let nonce = challenge
        .split(',')
        .next()
        .and_then(|part| part.strip_prefix("r="))
        .expect("a nonce comes first");
    assert!(nonce.ends_with(NONCE), "{challenge}");
    let last = format!("c={},r={nonce}", BASE64.encode(&header));
    let said = format!("{},{challenge},{last}", &first[header.len()..]);
    let mac = |key: &[u8], what: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), what);
    let client_key = mac(&*SALTED, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let signature = mac(stored_key.as_ref(), said.as_bytes());
    let mut proof = [0; 32];
    for (at, byte) in proof.iter_mut().enumerate() {
        *byte = client_key.as_ref()[at] ^ signature.as_ref()[at];
    }
    (last, proof)
}
