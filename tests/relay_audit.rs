//! The audit log through the whole proxy: each event says of whom, from where, what and why.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod edge_stage;
mod fake_broker;
mod relay_stage;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fake_broker::Fake;
use mqtt_kafka_proxy::downstream::{ClientAuth, TlsSettings};
use relay_stage::{
    Stage,
    device::{Device, login, subscribe},
};
use serde_json::Value;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines of one event and one client.
    fn told(&self, event: &str, client: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["target"] == "audit" && line["event"] == event && line["client"] == client)
            .collect()
    }

    /// There is one, and it has all that an operator asks for.
    #[track_caller]
    fn assert_told(&self, event: &str, client: &str, identity: &str, topic: &str, reason: &str) {
        let told = self.told(event, client);
        let line = told.iter().find(|line| line["reason"] == reason);
        let line = line.unwrap_or_else(|| panic!("no {event} of {client} for {reason}: {told:#?}"));
        assert_eq!(
            (line["identity"].as_str(), line["topic"].as_str()),
            (Some(identity), Some(topic)),
            "{line}"
        );
        assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
}

fn token(key: &Ed25519KeyPair, expires: u64) -> String {
    let claims = format!(r#"{{"sub": "vin42", "exp": {expires}}}"#);
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"EdDSA"}"#), BASE64.encode(claims));
    let signature = BASE64.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Nothing but its address is known of who is refused by TLS already.
#[tokio::test]
async fn a_certificate_that_is_refused_is_told() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_ansi(false);
    let _guard = tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish());
    let files = edge_stage::Files::new();
    let settings = TlsSettings {
        client_crl: Some(files.write("ca.crl", &files.authority.list(1, &[3]))),
        ..files.settings(ClientAuth::Required)
    };
    let (address, ..) = edge_stage::start(&edge_stage::tls(settings), mqtt_kafka_proxy::downstream::Limits::default());
    let foreign = edge_stage::Authority::new("others");
    let unlisted = files.authority.intermediate("depot", 4);
    for (identity, reason) in [
        (Some(files.authority.sign("vin1", true)), "certificate_expired"),
        (Some(foreign.sign("vin2", false)), "certificate_of_unknown_authority"),
        (Some(files.authority.issue("vin3", 3)), "certificate_revoked"),
        (Some(unlisted.issue_chain("vin5", 5)), "certificate_without_revocation_list"),
        (None, "certificate_missing"),
    ] {
        let connected = files.connect(address, &[&rustls::version::TLS13], identity, &[]).await;
        // The client of TLS 1.3 hears of it only when it reads.
        if let Ok(mut stream) = connected {
            assert!(edge_stage::greeting(&mut stream).await.is_err(), "{reason}");
        }
        log.assert_told("certificate_refused", "", "", "", reason);
    }
}

#[tokio::test]
async fn each_event_tells_client_identity_address_and_reason() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(move || writer.clone());
    // The runtime of a test is this one thread.
    let _logging = tracing::subscriber::set_default(lines.finish());
    let key = Ed25519KeyPair::generate().unwrap();
    let jwks = tempfile::NamedTempFile::new().unwrap();
    let x = BASE64.encode(key.public_key());
    let set = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#);
    std::fs::write(jwks.path(), set).unwrap();
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = format!(
        "rules: [{{name: all, mqtt: \"{{topic#}}\", kafka: {{topic: t, key: \"{{topic}}\"}}}}]\n\
         authentication: [{{method: jwt, jwks: \"{}\", leeway: 0s}}]\n\
         authorization: [{{allow: [publish], topics: [\"own/{{identity}}\"]}}]\n",
        jwks.path().display()
    );
    let stage = Stage::start(fake, &rules).await;

    let mut refused = Device::open(stage.address, 5).await;
    refused.connect(&login("late", "somebody", &token(&key, now() - 1))).await;
    assert_eq!(refused.line().await, "connack 0x86");
    log.assert_told("login_refused", "late", "somebody", "", "token_expired");

    let expires = now() + 3;
    let mut brief = Device::connected_as(stage.address, 5, &login("brief", "any", &token(&key, expires))).await;
    brief.publish("other/topic", 1, 1, "refused").await;
    assert_eq!(brief.line().await, "puback 1 0x87 not_authorized");
    log.assert_told("publish_refused", "brief", "vin42", "other/topic", "no_right");
    brief.send_subscribe(&subscribe("other/#", 1)).await;
    assert_eq!(brief.line().await, "suback 1 0x87");
    log.assert_told("subscribe_refused", "brief", "vin42", "other/#", "no_right");

    let good = login("taken", "any", &token(&key, now() + 60));
    let mut first = Device::connected_as(stage.address, 5, &good).await;
    let _second = Device::connected_as(stage.address, 5, &good).await;
    assert_eq!(first.line().await, "disconnect 0x8e");
    assert_eq!(first.line().await, "closed");
    log.assert_told("takeover", "taken", "vin42", "", "takes_the_client_id");
    log.assert_told("takeover", "taken", "vin42", "", "client_id_taken");

    assert!(log.told("credentials_expired", "brief").is_empty(), "they have not expired yet");
    assert_eq!(brief.line().await, "disconnect 0x87");
    assert_eq!(brief.line().await, "closed");
    assert!(now() >= expires);
    let told = log.told("credentials_expired", "brief");
    assert_eq!(told.len(), 1, "{told:#?}");
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(!reason.is_empty(), "{told:#?}");
    assert_eq!(reason, "token_expired");
    log.assert_told("credentials_expired", "brief", "vin42", "", reason);
}

#[tokio::test]
async fn a_flood_of_one_event_is_bounded_and_hides_no_other() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(lines.finish());
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = "rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: t, key: \"{topic}\"}}]\n\
                 authorization: [{allow: [publish], topics: [\"own/{client}\"]}]\n";
    let stage = Stage::start(fake, rules).await;
    let began = std::time::Instant::now();
    let mut device = stage.v5("flood").await;
    for _ in 0..200 {
        device.publish("other", 1, 1, "refused").await;
        assert_eq!(device.line().await, "puback 1 0x87 not_authorized");
    }
    device.send_subscribe(&subscribe("other", 1)).await;
    assert_eq!(device.line().await, "suback 1 0x87");
    let windows = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let written = log.told("publish_refused", "flood").len();
    assert!((20..=20 * windows).contains(&written), "{written} lines in {windows} windows");
    assert_eq!(log.told("subscribe_refused", "flood").len(), 1);
}
