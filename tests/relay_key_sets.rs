//! Tokens whose keys come from a server: keys that come later, a server that is away, and how often it is asked.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod http_server;
mod relay_stage;

use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fake_broker::{Fake, client::until};
use http_server::HttpServer;
use mqtt_kafka_proxy::resources::KeySetSettings;
use relay_stage::{
    Stage,
    device::{Device, login},
};

const RULES: &str = "rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: t, key: \"{topic}\"}}]\n";

/// A proxy with these keys of `jwt`, which attempts at key sets with unknown keys may follow so soon.
async fn stage(jwt: &str, apart: Duration) -> Stage {
    stage_with(jwt, |set| set.apart = apart).await
}

/// The same with other settings of its key sets.
async fn stage_with(jwt: &str, change: impl FnMut(&mut KeySetSettings)) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    Stage::with(fake, &format!("{RULES}authentication: [{{method: jwt, {jwt}}}]\n"), |config| {
        config.access.key_sets.iter_mut().for_each(change);
    })
    .await
}

struct Key(Ed25519KeyPair, &'static str);

impl Key {
    fn new(name: &'static str) -> Self {
        Self(Ed25519KeyPair::generate().unwrap(), name)
    }

    fn token(&self) -> String {
        let expires = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 600;
        let header = BASE64.encode(format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.1));
        let claims = BASE64.encode(format!(r#"{{"sub":"vin42","exp":{expires}}}"#));
        let signature = BASE64.encode(self.0.sign(format!("{header}.{claims}").as_bytes()));
        format!("{header}.{claims}.{signature}")
    }
}

fn set(keys: &[&Key]) -> String {
    let jwk = |Key(pair, name): &&Key| {
        let x = BASE64.encode(pair.public_key());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{name}","x":"{x}"}}"#)
    };
    format!(r#"{{"keys":[{}]}}"#, keys.iter().map(jwk).collect::<Vec<_>>().join(","))
}

async fn answer(stage: &Stage, version: u8, token: &str) -> String {
    let mut device = Device::open(stage.address, version).await;
    device.connect(&login("a", "any", token)).await;
    device.line().await
}

#[tokio::test]
async fn a_key_that_comes_later_is_fetched_when_a_token_names_it() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let server = HttpServer::start(&set(&[&old])).await;
    let stage = stage(&format!("jwks: \"{}\"", server.url("/keys?tenant=a")), Duration::ZERO).await;
    assert_eq!(answer(&stage, 5, &old.token()).await, "connack 0x00");
    assert_eq!(server.asked().len(), 1);
    assert!(
        server.asked()[0].starts_with("GET /keys?tenant=a HTTP/1.1\r\n"),
        "{:?}",
        server.asked()
    );
    server.answer("200 OK", "", &set(&[&new]));
    assert_eq!(
        answer(&stage, 4, &new.token()).await,
        "connack 0x00",
        "the login waits for the new set"
    );
    assert_eq!(server.asked().len(), 2);
    assert_eq!(answer(&stage, 5, &old.token()).await, "connack 0x86", "it is in no set any more");
    assert_eq!(stage.metric("refusals_total{reason=\"token_unknown_key\"}"), 1);
    assert_eq!(stage.metric("key_set_fetches_total"), 3, "a key that is gone is asked for, too");
}

/// Whoever has no credentials must not decide how often the server is asked.
#[tokio::test]
async fn keys_that_do_not_exist_cost_the_server_nothing() {
    let (known, unknown) = (Key::new("known"), Key::new("unknown"));
    let server = HttpServer::start(&set(&[&known])).await;
    let stage = stage(&format!("jwks: \"{}\"", server.url("/")), Duration::from_secs(3600)).await;
    assert_eq!(answer(&stage, 5, &known.token()).await, "connack 0x00");
    for _ in 0..20 {
        assert_eq!(answer(&stage, 5, &unknown.token()).await, "connack 0x86");
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_leaves_the_last_set_in_force() {
    let (known, unknown) = (Key::new("known"), Key::new("unknown"));
    let server = HttpServer::start(&set(&[&known])).await;
    let stage = stage(&format!("jwks: \"{}\"", server.url("/")), Duration::ZERO).await;
    assert_eq!(answer(&stage, 5, &known.token()).await, "connack 0x00");
    server.go_away();
    assert_eq!(answer(&stage, 5, &unknown.token()).await, "connack 0x86");
    for (status, body) in [
        ("500 Oops", set(&[&unknown])),
        ("302 Found", set(&[&unknown])),
        ("200 OK", r#"{"keys":[]}"#.to_owned()),
        ("200 OK", format!("{{\"x\":\"{}\"}}", "x".repeat(2 << 20))),
    ] {
        server.answer(status, "", &body);
        assert_eq!(answer(&stage, 5, &unknown.token()).await, "connack 0x86", "{status}");
    }
    assert!(stage.metric("key_set_fetch_failures_total") >= 5);
    assert_eq!(answer(&stage, 5, &known.token()).await, "connack 0x00");
}

#[tokio::test]
async fn until_there_are_keys_clients_are_told_to_come_again() {
    let key = Key::new("a");
    let server = HttpServer::start("").await;
    server.go_away();
    let stage = stage(&format!("jwks: \"{}\"", server.url("/")), Duration::ZERO).await;
    assert_eq!(answer(&stage, 5, &key.token()).await, "connack 0x88");
    assert_eq!(answer(&stage, 4, &key.token()).await, "connack 0x03");
    server.answer("200 OK", "", &set(&[&key]));
    assert_eq!(answer(&stage, 5, &key.token()).await, "connack 0x00");
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate() {
    let key = Key::new("a");
    let (server, ca) = HttpServer::start_tls(&set(&[&key])).await;
    let (url, ca) = (server.url("/keys"), ca.display());
    let by_ca = stage(&format!("jwks: \"{url}\", ca: \"{ca}\""), Duration::ZERO).await;
    assert_eq!(answer(&by_ca, 5, &key.token()).await, "connack 0x00");
    let by_system = stage(&format!("jwks: \"{url}\""), Duration::ZERO).await;
    assert_eq!(answer(&by_system, 5, &key.token()).await, "connack 0x88");
    assert!(by_system.metric("key_set_fetch_failures_total") > 0);
}

/// Nobody asks for it, neither a token nor an operator.
#[tokio::test]
async fn a_set_is_fetched_anew_before_it_is_old() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let server = HttpServer::start(&set(&[&old])).await;
    let stage = stage_with(&format!("jwks: \"{}\"", server.url("/")), |set| {
        (set.refresh, set.apart) = (Duration::from_millis(50), Duration::from_secs(3600));
    })
    .await;
    assert_eq!(answer(&stage, 5, &old.token()).await, "connack 0x00");
    server.answer("200 OK", "", &set(&[&new]));
    // What it was asked by now it may have answered with the old one.
    let asked = server.asked().len() as u64;
    until("it is fetched after the interval", || stage.metric("key_set_fetches_total") > asked).await;
    assert_eq!(stage.metric("key_set_fetch_failures_total"), 0);
    assert_eq!(answer(&stage, 5, &new.token()).await, "connack 0x00");
    assert_eq!(answer(&stage, 5, &old.token()).await, "connack 0x86", "it is in no set any more");
}

/// SIGHUP asks at once.
#[tokio::test]
async fn an_operator_can_have_it_fetched() {
    let (old, new) = (Key::new("a"), Key::new("a"));
    let server = HttpServer::start(&set(&[&old])).await;
    let stage = stage(&format!("jwks: \"{}\"", server.url("/")), Duration::ZERO).await;
    assert_eq!(answer(&stage, 5, &old.token()).await, "connack 0x00");
    server.answer("200 OK", "", &set(&[&new]));
    stage.relay.read_credentials_anew();
    until("it is fetched", || stage.metric("key_set_fetches_total") == 2).await;
    assert_eq!(answer(&stage, 5, &new.token()).await, "connack 0x00");
    assert_eq!(
        answer(&stage, 5, &old.token()).await,
        "connack 0x86",
        "another key of the same name"
    );
}
