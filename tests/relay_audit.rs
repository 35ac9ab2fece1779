//! The audit log through the whole proxy: each event says of whom, from where, what and why.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod audit_log;
mod edge_stage;
mod fake_broker;
mod relay_stage;

use std::time::SystemTime;

use audit_log::Log;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fake_broker::Fake;
use mqtt_kafka_proxy::downstream::{ClientAuth, TlsSettings};
use relay_stage::{
    Stage,
    device::{Device, connect, login, subscribe},
};

fn token(key: &Ed25519KeyPair, expires: u64) -> String {
    let claims = format!(r#"{{"sub": "vin42", "exp": {expires}}}"#);
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"EdDSA"}"#), BASE64.encode(claims));
    let signature = BASE64.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A key set of this key.
fn key_set(key: &Ed25519KeyPair) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let x = BASE64.encode(key.public_key());
    let set = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#);
    std::fs::write(file.path(), set).unwrap();
    file
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Nothing but its address is known of who is refused by TLS already.
#[tokio::test]
async fn a_certificate_that_is_refused_is_told() {
    let (log, _logging) = Log::listen();
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
    let (log, _logging) = Log::listen();
    let key = Ed25519KeyPair::generate().unwrap();
    let jwks = key_set(&key);
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

/// Of stored sessions and of those that are not, where it has to wait for the end of the former one.
#[tokio::test]
async fn a_takeover_of_a_stored_session_is_told_of_both() {
    let (log, _logging) = Log::listen();
    let key = Ed25519KeyPair::generate().unwrap();
    let jwks = key_set(&key);
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let rules = format!(
        "rules: [{{name: all, mqtt: \"{{topic#}}\", kafka: {{topic: t, key: \"{{topic}}\"}}}}]\nsessions: {{expiry: {{}}}}\n\
         authentication: [{{method: jwt, jwks: \"{}\"}}, {{method: anonymous}}]\n",
        jwks.path().display()
    );
    let stage = Stage::start(fake, &rules).await;
    for (client, stays) in [("stays", true), ("goes", false)] {
        let mut owner = login(client, "any", &token(&key, now() + 600));
        owner.clean_session = !stays;
        let mut first = Device::connected_as(stage.address, 5, &owner).await;
        let mut stranger = connect(client);
        stranger.clean_session = !stays;
        let _second = Device::connected_as(stage.address, 5, &stranger).await;
        assert_eq!(first.line().await, "disconnect 0x8e");
        assert_eq!(first.line().await, "closed");
        log.assert_told("takeover", client, "", "", "takes_the_client_id");
        log.assert_told("takeover", client, "vin42", "", "client_id_taken");
        assert_eq!(log.told("takeover", client).len(), 2, "{client}");
    }
}

/// Its token is good, so its name is known, and the user name that it claims says nothing.
#[tokio::test]
async fn who_is_known_and_not_let_in_is_told_by_the_name_that_was_verified() {
    let (log, _logging) = Log::listen();
    let key = Ed25519KeyPair::generate().unwrap();
    let jwks = key_set(&key);
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = format!(
        "rules: [{{name: all, mqtt: \"{{topic#}}\", kafka: {{topic: t, key: \"{{topic}}\"}}}}]\n\
         authentication: [{{method: jwt, jwks: \"{}\", client_id: identity_prefix}}]\n\
         limits: {{connections_per_identity: 1}}\n",
        jwks.path().display()
    );
    let stage = Stage::start(fake, &rules).await;
    let good = token(&key, now() + 600);
    let _first = Device::connected_as(stage.address, 5, &login("vin42~a", "claimed", &good)).await;
    for (client, answer, reason) in [
        ("vin43", "connack 0x87", "client_id_not_of_identity"),
        ("vin42~b", "connack 0x97", "identity_limit"),
    ] {
        let mut refused = Device::open(stage.address, 5).await;
        refused.connect(&login(client, "claimed", &good)).await;
        assert_eq!(refused.line().await, answer, "{client}");
        log.assert_told("login_refused", client, "vin42", "", reason);
        assert_eq!(log.told("login_refused", client).len(), 1, "{client}");
    }
    assert!(log.told("login_refused", "vin42~a").is_empty(), "it was let in");
}

/// Who is refused chooses the words: each of these would be written as six bytes.
#[tokio::test]
async fn a_line_is_short_whatever_a_client_calls_itself_and_its_topics() {
    let (log, _logging) = Log::listen();
    let key = Ed25519KeyPair::generate().unwrap();
    let jwks = key_set(&key);
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = format!(
        "rules: [{{name: all, mqtt: \"{{topic#}}\", kafka: {{topic: t, key: \"{{topic}}\"}}}}]\n\
         authentication: [{{method: jwt, jwks: \"{}\"}}]\n\
         authorization: [{{allow: [publish], topics: [\"own/{{identity}}\"]}}]\n",
        jwks.path().display()
    );
    let stage = Stage::start(fake, &rules).await;
    let long = "\u{1}".repeat(30_000);
    let written = format!("{}… (29744 bytes more)", &long[..256]);
    let mut refused = Device::open(stage.address, 5).await;
    refused.connect(&login(&long, &long, "no token")).await;
    assert_eq!(refused.line().await, "connack 0x86");
    let mut known = Device::connected_as(stage.address, 5, &login(&long, "any", &token(&key, now() + 600))).await;
    known.publish(&"x".repeat(30_000), 1, 1, "refused").await;
    assert_eq!(known.line().await, "puback 1 0x87 not_authorized");
    for (event, identity) in [("login_refused", &*written), ("publish_refused", "vin42")] {
        let told = log.told(event, &written);
        assert_eq!(told.len(), 1, "{event}: {told:#?}");
        assert_eq!(told[0]["identity"], identity);
        let length = told[0].to_string().len();
        assert!(length < 8 << 10, "{event}: {length} bytes");
    }
    let topic = format!("{}… (29744 bytes more)", "x".repeat(256));
    log.assert_told("publish_refused", &written, "vin42", &topic, "no_right");
}

#[tokio::test]
async fn a_flood_of_one_event_is_bounded_and_hides_no_other() {
    let (log, _logging) = Log::listen();
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

/// It comes again with the same burst, and nobody else would see why.
#[tokio::test]
async fn a_client_with_too_much_in_flight_is_told() {
    let (log, _logging) = Log::listen();
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = "rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: t, key: \"{topic}\"}}]\nlimits: {receive_maximum: 1}\n";
    let stage = Stage::start(fake, rules).await;
    let mut device = Device::connected(stage.address, 5, "burst").await;
    device.publish("a", 2, 1, "x").await;
    assert_eq!(device.line().await, "pubrec 1");
    device.publish("a", 2, 2, "x").await;
    assert_eq!(device.line().await, "disconnect 0x93");
    assert_eq!(device.line().await, "closed");
    let told = log.told("too_many_in_flight", "burst");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["reason"], "receive_maximum_exceeded");
}
