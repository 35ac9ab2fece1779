//! Any bytes as a key set and a token, or as the claims of a token that is signed rightly: nothing panics, and whom a token lets in may be.
//!
//! What comes first up to a line feed is a key set, or `signed`: then the next line is the token's header, and the rest its claims. The key
//! is made of a seed that everybody knows: it opens nothing.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use mqtt_kafka_proxy::auth::LONGEST_IDENTITY;
use mqtt_kafka_proxy::auth::jwt::{Demands, KeySet, check as judge, looks_like_one};

/// Seconds since 1970.
const NOW: u64 = 1_800_000_000;

/// Whether the token is good.
pub fn check(bytes: &[u8]) -> bool {
    let (first, rest) = line(bytes);
    if first != b"signed" {
        let Ok(Ok(keys)) = std::str::from_utf8(first).map(KeySet::parse) else {
            return false;
        };
        return is_good(rest, &keys);
    }
    let (header, claims) = line(rest);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed is 32 bytes");
    let public = BASE64.encode(pair.public_key());
    let set = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "{public}"}}]}}"#);
    let keys = KeySet::parse(&set).expect("it is a key set");
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = BASE64.encode(pair.sign(signed.as_bytes()));
    let good = is_good(format!("{signed}.{signature}").as_bytes(), &keys);
    // One bit of the signature less, and it is nobody's.
    let mut other = pair.sign(signed.as_bytes()).as_ref().to_vec();
    other[0] ^= 1;
    let forged = format!("{signed}.{}", BASE64.encode(other));
    assert!(!is_good(forged.as_bytes(), &keys), "a token that nobody has signed");
    good
}

fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// By any of the demands that a configuration may make.
fn is_good(token: &[u8], keys: &KeySet) -> bool {
    let _ = looks_like_one(token);
    let text = |text: &str| Some(text.to_owned());
    [(None, None), (text("issuer"), None), (None, text("audience"))]
        .into_iter()
        .any(|(issuer, audience)| {
            let demands = Demands {
                claim: "sub".to_owned(),
                issuer,
                audience,
                leeway: Duration::from_secs(30),
                kept: vec!["fleet".to_owned(), "sub".to_owned()],
            };
            let Ok(token) = judge(token, keys, &demands, NOW) else {
                return false;
            };
            let name = &*token.principal.name;
            assert!(
                !name.is_empty() && name.len() <= LONGEST_IDENTITY && !name.contains(char::is_control),
                "{name:?}"
            );
            assert!(token.expires > NOW, "it has expired: {}", token.expires);
            let claims = token.principal.claims.iter();
            assert!(claims.clone().all(|(_, text)| text.len() <= LONGEST_IDENTITY), "{claims:?}");
            true
        })
}
