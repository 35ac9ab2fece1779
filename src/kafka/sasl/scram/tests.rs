//! The examples of the RFCs, an independent verifier of the proofs, and challenges that must not be taken.

use super::*;
use proptest::prelude::*;

/// RFC 7677 §3.
#[test]
fn the_example_of_rfc_7677() {
    let client = Client::new(Hash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
    assert_eq!(*client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let (last, expected) = client.answer(challenge).unwrap();
    assert_eq!(
        std::str::from_utf8(&last).unwrap(),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    assert_eq!(expected.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
}

/// Of SHA-512 no RFC has an example. These values come from another implementation of RFC 5802 (Python's hashlib and hmac).
#[test]
fn an_example_of_sha_512() {
    let client = Client::new(Hash::Sha512, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
    let challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=Yin2FuHTt/M0kJWb0t9OI32n2VmOGi3m+JfjOvuDF88=,i=4096";
    let (last, expected) = client.answer(challenge).unwrap();
    let proof = std::str::from_utf8(&last).unwrap().rsplit_once(",p=").unwrap().1;
    assert_eq!(proof, SHA_512_PROOF);
    assert_eq!(expected.verify(format!("v={SHA_512_SIGNATURE}").as_bytes()), Ok(()));
}

const SHA_512_PROOF: &str = "/3obeUE1tHCJjbQttd+ChF5ox2IU1rNjj2wVDnbQ5LdNT126oy4QgLz2tHw/Uj7Gwb6PRuHOS3HC+45exxT58A==";
const SHA_512_SIGNATURE: &str = "5AwW78p+EVPirB3A5lrHcvrN8pVKRlR3opLuRoxXrN9ubKokkPzVPzWNNNuBbrtZrv5mpfKZ7+QCDSZWeZQEqw==";

/// A broker that stores what Kafka stores, written from the RFC's other side: `StoredKey` and `ServerKey`, never the password.
struct Broker {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Broker {
    fn knows(hash: Hash, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let mut salted = vec![0; hash.digest().output_len()];
        let count = NonZeroU32::new(iterations).unwrap();
        pbkdf2::derive(hash.pbkdf2(), count, &salt, password.as_bytes(), &mut salted);
        let client_key = hash.mac(&salted, b"Client Key");
        Self {
            hash,
            salt,
            iterations,
            stored_key: digest::digest(hash.digest(), client_key.as_ref()).as_ref().to_vec(),
            server_key: hash.mac(&salted, b"Server Key").as_ref().to_vec(),
        }
    }

    fn challenge(&self, first: &[u8]) -> String {
        let nonce = std::str::from_utf8(first).unwrap().rsplit_once(",r=").unwrap().1;
        format!("r={nonce}+more,s={},i={}", BASE64.encode(&self.salt), self.iterations)
    }

    /// The user's name, and `server-final-message`; `None`: the proof is wrong.
    fn check(&self, first: &[u8], challenge: &str, last: &[u8]) -> Option<(String, String)> {
        let bare = std::str::from_utf8(first).unwrap().strip_prefix("n,,").unwrap();
        let (without_proof, proof) = std::str::from_utf8(last).unwrap().rsplit_once(",p=").unwrap();
        let exchange = format!("{bare},{challenge},{without_proof}");
        let signature = self.hash.mac(&self.stored_key, exchange.as_bytes());
        let proof = BASE64.decode(proof).unwrap();
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(p, s)| p ^ s).collect();
        if digest::digest(self.hash.digest(), &client_key).as_ref() != self.stored_key {
            return None;
        }
        let name = bare.strip_prefix("n=").unwrap().split(',').next().unwrap();
        let signature = self.hash.mac(&self.server_key, exchange.as_bytes());
        Some((
            name.replace("=2C", ",").replace("=3D", "="),
            format!("v={}", BASE64.encode(signature.as_ref())),
        ))
    }
}

fn any_hash() -> impl Strategy<Value = Hash> {
    prop_oneof![Just(Hash::Sha256), Just(Hash::Sha512)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever knows the password is believed by both sides, whatever is in it; whoever does not, by none.
    #[test]
    fn both_sides_believe_who_knows(
        hash in any_hash(),
        name in "[ -~]{1,20}",
        password in "\\PC{1,40}",
        other in "\\PC{1,40}",
        salt in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let broker = Broker::knows(hash, &password, salt, FEWEST_ITERATIONS);
        for (tried, right) in [(&password, true), (&other, other == password)] {
            let client = Client::new(hash, &name, tried, "0123456789");
            let first = client.first();
            let challenge = broker.challenge(&first);
            let (last, expected) = client.answer(challenge.as_bytes()).unwrap();
            match broker.check(&first, &challenge, &last) {
                Some((known, proof)) => {
                    prop_assert!(right);
                    prop_assert_eq!(known, name.clone());
                    prop_assert_eq!(expected.verify(proof.as_bytes()), Ok(()));
                }
                None => prop_assert!(!right),
            }
        }
    }

    /// A broker that does not know the password cannot prove it, and one bit makes the difference.
    #[test]
    fn one_bit_less_is_no_proof(hash in any_hash(), at in 0usize..1_000, bit in 0u8..8) {
        let broker = Broker::knows(hash, "pencil", vec![1, 2, 3], FEWEST_ITERATIONS);
        let client = Client::new(hash, "user", "pencil", "abc");
        let first = client.first();
        let challenge = broker.challenge(&first);
        let (last, expected) = client.answer(challenge.as_bytes()).unwrap();
        let (_, proof) = broker.check(&first, &challenge, &last).unwrap();
        let mut bytes = BASE64.decode(&proof[2..]).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let told = expected.verify(format!("v={}", BASE64.encode(&bytes)).as_bytes()).unwrap_err();
        prop_assert!(told.contains("proof is wrong"), "{}", told);
    }

    /// Whatever a broker says: a fault, no panic, and nothing of the password in it.
    #[test]
    fn nonsense_is_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[rsievm=,a-c0-9+/]{0,60}") {
        for said in [bytes, text.into_bytes()] {
            let client = Client::new(Hash::Sha256, "user", "pencil", "abcdefghijklmnop");
            if let Err(fault) = client.answer(&said) {
                prop_assert!(!fault.contains("pencil"));
            } else {
                prop_assert!(false, "taken: {:?}", said);
            }
            let expected = Expected(Hash::Sha256.mac(b"k", b"m"));
            prop_assert!(expected.verify(&said).is_err());
        }
    }
}

#[test]
fn a_challenge_that_is_not_for_us_or_asks_too_much_is_refused() {
    for (challenge, words) in [
        ("r=abc,s=AAAA,i=4096", "another message"),
        ("r=xbcd,s=AAAA,i=4096", "another message"),
        ("m=x,r=abcd,s=AAAA,i=4096", "no nonce"),
        ("s=AAAA,r=abcd,i=4096", "no nonce"),
        ("r=abcd,i=4096", "no salt"),
        ("r=abcd,s=,i=4096", "no salt"),
        ("r=abcd,s=A,i=4096", "no salt"),
        ("r=abcd,s=AAAA", "no number of iterations"),
        ("r=abcd,s=AAAA,i=0", "no number of iterations"),
        ("r=abcd,s=AAAA,i=-1", "no number of iterations"),
        ("r=abcd,s=AAAA,i=1", "asks for 1 iterations"),
        ("r=abcd,s=AAAA,i=4095", "asks for 4095 iterations"),
        ("r=abcd,s=AAAA,i=131073", "asks for 131073 iterations"),
        ("r=abcd,s=AAAA,i=4294967295", "asks for 4294967295 iterations"),
        ("r=abcd,s=AAAA,i=4294967296", "no number of iterations"),
        ("e=other-error", "no nonce"),
    ] {
        let client = Client::new(Hash::Sha256, "user", "pencil", "abc");
        let fault = client.answer(challenge.as_bytes()).err().unwrap();
        assert!(fault.contains(words), "{challenge}: {fault}");
    }
    let client = Client::new(Hash::Sha256, "user", "pencil", "abc");
    assert!(client.answer(b"r=abcd,s=AAAA,i=4096,x=an extension").is_ok());
    let client = Client::new(Hash::Sha256, "user", "pencil", "abc");
    assert!(client.answer(&[b'r'; LONGEST + 1]).is_err());
}

#[test]
fn an_error_of_the_broker_is_told() {
    let expected = Expected(Hash::Sha256.mac(b"k", b"m"));
    assert_eq!(
        expected.verify(b"e=invalid-proof"),
        Err("the broker says: invalid-proof".to_owned())
    );
    assert!(expected.verify(b"").unwrap_err().contains("no proof"));
    assert!(expected.verify(b"v=").unwrap_err().contains("proof is wrong"));
}
