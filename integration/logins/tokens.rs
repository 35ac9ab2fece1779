//! Tokens under each kind of key that a set may hold, and what they must say beside their signature: by each real client in each version.

use super::Wanted::In;
use super::clients::{Client, VERSIONS};
use super::{BAD, Case, Login, now, run};
use crate::shared_kafka;
use crate::stage::Proxy;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use std::fs;

/// The Kafka topic, and the MQTT topic that each publishes to.
const TOPIC: &str = "logins-by-token";
const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "mqtt";

/// The signature of a text.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key that signs tokens.
struct Signer {
    /// Its only one, and its name in the set. Whoever shows a token of it has that for an identity, too.
    algorithm: &'static str,
    /// As the set has it.
    public: Value,
    sign: Sign,
}

impl Signer {
    /// One of each kind.
    fn each() -> [Self; 3] {
        [Self::ed25519(), Self::rsa(), Self::p256()]
    }

    fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let x = BASE64.encode(key.public_key());
        Self {
            algorithm: "EdDSA",
            public: json!({"kid": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": x}),
            sign: Box::new(move |bytes| key.sign(bytes).as_ref().to_vec()),
        }
    }

    fn rsa() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let n = BASE64.encode(key.public_key().modulus().big_endian_without_leading_zero());
        let e = BASE64.encode(key.public_key().exponent().big_endian_without_leading_zero());
        Self {
            algorithm: "RS256",
            public: json!({"kid": "RS256", "kty": "RSA", "n": n, "e": e}),
            sign: Box::new(move |bytes| {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).unwrap();
                signature
            }),
        }
    }

    fn p256() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point: &[u8] = key.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        Self {
            algorithm: "ES256",
            public: json!({"kid": "ES256", "kty": "EC", "crv": "P-256", "x": x, "y": y}),
            sign: Box::new(move |bytes| key.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()),
        }
    }

    /// What a good token of it says.
    fn claims(&self) -> Value {
        json!({"sub": self.algorithm, "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600})
    }

    /// A token that says that, edited.
    fn token(&self, edit: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        edit(&mut claims);
        self.signed(self.algorithm, &claims)
    }

    /// Signed by this key, which the header names, and by this algorithm, as the header has it.
    fn signed(&self, algorithm: &str, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let header = json!({"alg": algorithm, "kid": self.algorithm});
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = BASE64.encode((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// The table. Of these forgers are keys of the same names that the set does not have.
fn cases(signers: &[Signer; 3], forgers: &[Signer; 3]) -> Vec<Case> {
    let mut cases = vec![];
    for (at, signer) in signers.iter().enumerate() {
        let case = |state, token, wanted| Case {
            method: signer.algorithm,
            state,
            login: Login::Password("any", token),
            wanted,
        };
        let but = |claim: &str, value: Value| signer.token(|claims| claims[claim] = value);
        let another = signers[(at + 1) % signers.len()].algorithm;
        cases.extend([
            case("right", signer.token(|_| ()), In(signer.algorithm)),
            case("wrong: forged", forgers[at].token(|_| ()), BAD),
            case("wrong: another algorithm", signer.signed(another, &signer.claims()), BAD),
            case("wrong: for another", but("aud", json!("kafka")), BAD),
            case("wrong: by another", but("iss", json!("https://login.example.org")), BAD),
            case("not yet good", but("nbf", json!(now() + 3600)), BAD),
            case("expired", but("exp", json!(now() - 60)), BAD),
        ]);
        if at == 0 {
            let without = |claim: &str| signer.token(|claims| drop(claims.as_object_mut().unwrap().remove(claim)));
            cases.extend([
                case("right: for several", but("aud", json!(["kafka", AUDIENCE])), In(signer.algorithm)),
                case("right: good by now", but("nbf", json!(now() - 60)), In(signer.algorithm)),
                case("wrong: for nobody", without("aud"), BAD),
                case("wrong: by nobody", without("iss"), BAD),
            ]);
        }
    }
    cases
}

#[test]
fn a_token_under_each_kind_of_key_is_taken_if_it_is_meant_for_the_proxy_and_good_now() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 1);
    let (signers, forgers) = (Signer::each(), Signer::each());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.public).collect();
    fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    let file = file.display();
    let rules = format!(
        "  - {{name: all, mqtt: {TOPIC}, kafka: {{topic: {TOPIC}, key: \"{{identity}}\"}}}}\n\
         authentication: [{{method: jwt, jwks: \"{file}\", issuer: \"{ISSUER}\", audience: {AUDIENCE}}}]"
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let cases = cases(&signers, &forgers);
    let (table, mut stored) = run(&cases, TOPIC, |_| &proxy);
    println!("{table}");
    let mut found = kafka.consume(TOPIC, "%k|%s");
    found.sort_unstable();
    stored.sort_unstable();
    assert_eq!(found, stored, "who was let in, as whom, and nobody else");
    // Each refusal for its own reason.
    let logins = Client::ALL.len() * VERSIONS.len();
    for (why, cases) in [
        ("token_signature", 3),
        ("token_unknown_key", 3),
        ("token_audience", 4),
        ("token_issuer", 4),
        ("token_not_yet_valid", 3),
        ("token_expired", 3),
    ] {
        assert_eq!(proxy.metric(&["refusals_total", why]), (cases * logins) as f64, "{why}");
        assert!(proxy.log().contains(why), "no {why} in the audit log");
    }
    assert!(!proxy.log().contains("eyJ"), "a secret in the log");
}
