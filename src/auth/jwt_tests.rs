//! Tokens made here byte by byte, signed by the cryptographic library itself; none of the crate under test.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

fn ed25519() -> (Ed25519KeyPair, Value) {
    let key = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": BASE64.encode(key.public_key())});
    (key, jwk)
}

fn rsa() -> (RsaKeyPair, Value) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = BASE64.encode(key.public_key().modulus().big_endian_without_leading_zero());
    let e = BASE64.encode(key.public_key().exponent().big_endian_without_leading_zero());
    (key, json!({"kty": "RSA", "kid": "rsa", "n": n, "e": e}))
}

fn by_rsa(key: &RsaKeyPair, padding: &'static dyn RsaEncoding, bytes: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), bytes, &mut signature).unwrap();
    signature
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let part = |value: &Value| BASE64.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = BASE64.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}").into_bytes()
}

fn demands() -> Demands {
    Demands {
        claim: "sub".to_owned(),
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(30),
        kept: vec![],
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(&json!({ "keys": keys }).to_string()).unwrap()
}

#[test]
fn every_kind_of_key_verifies_its_own() {
    let (ed, ed_jwk) = ed25519();
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = ec.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
    let ec_jwk = json!({"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "use": "sig", "x": x, "y": y});
    let (rsa, rsa_jwk) = rsa();
    let keys = set(&[ed_jwk, ec_jwk, rsa_jwk]);
    let random = SystemRandom::new();
    let claims = json!({"sub": "vin42", "exp": NOW + 60});
    let good = [
        token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, |b| ed.sign(b).as_ref().to_vec()),
        token(&json!({"alg": "ES256", "kid": "ec"}), &claims, |b| {
            ec.sign(&random, b).unwrap().as_ref().to_vec()
        }),
        token(&json!({"alg": "RS256", "kid": "rsa"}), &claims, |b| {
            by_rsa(&rsa, &RSA_PKCS1_SHA256, b)
        }),
        token(&json!({"alg": "PS256", "kid": "rsa"}), &claims, |b| {
            by_rsa(&rsa, &RSA_PSS_SHA256, b)
        }),
        token(&json!({"alg": "EdDSA"}), &claims, |b| ed.sign(b).as_ref().to_vec()),
    ];
    for token in &good {
        assert!(looks_like_one(token));
        let found = check(token, &keys, &demands(), NOW).unwrap();
        assert_eq!((&*found.principal.name, found.expires), ("vin42", NOW + 90));
        // One byte of the signature, and one of what is signed.
        for at in [token.len() - 20, 60] {
            let mut bad = token.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert!(check(&bad, &keys, &demands(), NOW).is_err());
        }
    }
    let wrong = token(&json!({"alg": "RS256", "kid": "ed"}), &claims, |b| {
        by_rsa(&rsa, &RSA_PKCS1_SHA256, b)
    });
    assert_eq!(check(&wrong, &keys, &demands(), NOW), Err("token_unknown_key"));
}

#[test]
fn the_longer_hashes_are_verified_each_by_its_own_name() {
    let ec = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = ec.public_key().as_ref();
    let (x, y) = (BASE64.encode(&point[1..49]), BASE64.encode(&point[49..]));
    let (rsa, rsa_jwk) = rsa();
    let keys = set(&[json!({"kty": "EC", "crv": "P-384", "kid": "ec", "x": x, "y": y}), rsa_jwk]);
    let sign = |algorithm: &str, bytes: &[u8]| match algorithm {
        "ES384" => ec.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec(),
        "RS384" => by_rsa(&rsa, &RSA_PKCS1_SHA384, bytes),
        "RS512" => by_rsa(&rsa, &RSA_PKCS1_SHA512, bytes),
        "PS384" => by_rsa(&rsa, &RSA_PSS_SHA384, bytes),
        "PS512" => by_rsa(&rsa, &RSA_PSS_SHA512, bytes),
        other => panic!("{other}"),
    };
    let claims = json!({"sub": "vin42", "exp": NOW + 60});
    let said = |token: &[u8]| check(token, &keys, &demands(), NOW).map(|token| token.principal.name.to_string());
    for (algorithm, kid) in [
        ("ES384", "ec"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
    ] {
        let good = token(&json!({"alg": algorithm, "kid": kid}), &claims, |b| sign(algorithm, b));
        assert_eq!(said(&good), Ok("vin42".to_owned()), "{algorithm}");
        // One byte of the signature, and one of what is signed.
        for at in [good.len() - 20, 60] {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(said(&bad), Err("token_signature"), "{algorithm} {at}");
        }
    }
    for (named, used) in [("RS384", "RS512"), ("RS512", "PS512"), ("PS384", "PS512"), ("PS512", "RS384")] {
        let wrong = token(&json!({"alg": named, "kid": "rsa"}), &claims, |b| sign(used, b));
        assert_eq!(said(&wrong), Err("token_signature"), "{used} as {named}");
    }
}

/// CVE-2015-9235 and its kin: no signature, or a public key used as a secret.
#[test]
fn the_token_does_not_choose_how_it_is_checked() {
    let (ed, jwk) = ed25519();
    let keys = set(&[jwk]);
    let claims = json!({"sub": "a", "exp": NOW + 60});
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, ed.public_key().as_ref());
    for (header, why) in [
        (json!({"alg": "none"}), "malformed_token"),
        (json!({"alg": "HS256", "kid": "ed"}), "token_unknown_key"),
        (json!({"alg": "HS256"}), "token_unknown_key"),
        (json!({"alg": "EdDSA", "kid": "other"}), "token_unknown_key"),
        (json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}), "token_critical_header"),
        (json!({"alg": "EdDSA", "kid": "ed"}), "token_signature"),
    ] {
        let bad = token(&header, &claims, |b| aws_lc_rs::hmac::sign(&secret, b).as_ref().to_vec());
        assert_eq!(check(&bad, &keys, &demands(), NOW), Err(why), "{header}");
    }
    let unsigned = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, |_| vec![]);
    assert_eq!(check(&unsigned, &keys, &demands(), NOW), Err("token_signature"));
}

#[test]
fn claims_are_judged() {
    let (ed, jwk) = ed25519();
    let keys = set(&[jwk]);
    let mut demands = demands();
    let said = |claims: Value, demands: &Demands| {
        let token = token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, |b| ed.sign(b).as_ref().to_vec());
        check(&token, &keys, demands, NOW).map(|t| t.principal)
    };
    for (claims, why) in [
        (json!({"sub": "a"}), "token_without_expiry"),
        (json!({"sub": "a", "exp": "soon"}), "token_without_expiry"),
        (json!({"sub": "a", "exp": -5}), "token_without_expiry"),
        (json!({"sub": "a", "exp": NOW - 30}), "token_expired"),
        (json!({"sub": "a", "exp": NOW + 60, "nbf": NOW + 31}), "token_not_yet_valid"),
        (
            json!({"sub": "a", "exp": NOW + 60, "nbf": NOW as f64 + 30.5}),
            "token_not_yet_valid",
        ),
        (json!({"sub": "a", "exp": NOW + 60, "nbf": "x"}), "malformed_token"),
        (json!({"sub": "a", "exp": NOW + 60, "aud": "other"}), "token_audience"),
        (json!({"exp": NOW + 60}), "token_without_identity"),
        (json!({"sub": 7, "exp": NOW + 60}), "token_without_identity"),
        (json!({"sub": "", "exp": NOW + 60}), "identity_not_legal"),
        (json!({"sub": "a\u{7}", "exp": NOW + 60}), "identity_not_legal"),
    ] {
        assert_eq!(said(claims.clone(), &demands), Err(why), "{claims}");
    }
    assert!(said(json!({"sub": "a", "exp": NOW - 29}), &demands).is_ok(), "within the leeway");
    assert!(said(json!({"sub": "a", "exp": 1e300, "nbf": NOW + 30}), &demands).is_ok());
    demands.leeway = Duration::from_millis(29_001);
    assert!(
        said(json!({"sub": "a", "exp": NOW - 29, "nbf": NOW + 30}), &demands).is_ok(),
        "30 s"
    );
    assert_eq!(said(json!({"sub": "a", "exp": NOW - 30}), &demands), Err("token_expired"));
    demands.issuer = Some("https://id".to_owned());
    demands.audience = Some("mqtt".to_owned());
    demands.kept = vec!["fleet".to_owned(), "level".to_owned(), "gone".to_owned()];
    let whole = json!({"sub": "a", "exp": NOW + 60, "iss": "https://id", "aud": ["x", "mqtt"], "fleet": "north", "level": 3, "more": 1});
    let principal = said(whole.clone(), &demands).unwrap();
    assert_eq!(*principal.claims, [("fleet".into(), "north".into()), ("level".into(), "3".into())]);
    for (name, value, why) in [
        ("iss", json!("https://id.evil"), "token_issuer"),
        ("iss", Value::Null, "token_issuer"),
        ("aud", json!(["x"]), "token_audience"),
        ("aud", json!({"mqtt": 1}), "token_audience"),
    ] {
        let mut claims = whole.clone();
        claims[name] = value;
        assert_eq!(said(claims, &demands), Err(why), "{name}");
    }
}

#[test]
fn sets_that_are_of_no_use_are_refused() {
    let (_, jwk) = ed25519();
    for (text, words) in [
        ("{", "no JSON Web Key Set (line 1)".to_owned()),
        ("[]", "no JSON Web Key Set".to_owned()),
        (r#"{"keys": []}"#, "holds no key".to_owned()),
        (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#, "shared secret".to_owned()),
    ] {
        let fault = KeySet::parse(text).unwrap_err();
        assert!(fault.contains(&words), "{text}: {fault}");
    }
    let mut for_encryption = jwk.clone();
    for_encryption["use"] = json!("enc");
    assert!(KeySet::parse(&json!({ "keys": [for_encryption] }).to_string()).is_err());
    let many = vec![jwk; MOST_KEYS + 1];
    assert!(
        KeySet::parse(&json!({ "keys": many }).to_string())
            .unwrap_err()
            .contains("more than")
    );
}

#[test]
fn what_is_no_token_is_a_password() {
    for password in [&b"secret"[..], b"", b"a.b.c", b"eyJ", b"eyJ.x", b"eyJ.x.y.z"] {
        assert!(!looks_like_one(password));
    }
}
