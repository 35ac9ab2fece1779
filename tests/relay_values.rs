//! Values with a schema, and a registry that is away, slow, or has nothing: what devices are told, what waits, and what is passed over.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod http_server;
mod relay_stage;

use std::sync::Arc;

use fake_broker::{Fake, client::until};
use http_server::HttpServer;
use relay_stage::{
    Stage,
    device::{Device, taking},
};

/// One body for whatever is asked: the newest version of a subject, and the schema of an id.
const ANSWER: &str = r#"{"subject": "t-value", "version": 1, "id": 7, "schemaType": "JSON",
    "schema": "{\"type\": \"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"type\": \"integer\"}}}"}"#;

async fn stage(server: &HttpServer, more: &str) -> Stage {
    stage_on(fake().await, server, more).await
}

async fn fake() -> Arc<Fake> {
    let fake = Fake::start(1).await;
    for topic in ["t", "dead", "plain", "mqtt-sessions"] {
        fake.topic(topic, 1);
    }
    Arc::new(fake)
}

/// An instance beside others.
async fn stage_on(fake: Arc<Fake>, server: &HttpServer, more: &str) -> Stage {
    let value = format!(
        "value: {{format: json_schema, registry: \"{}\", subject: t-value{more}}}",
        server.url("/base")
    );
    let rules = format!(
        r#"rules:
  - {{name: told, mqtt: "told/{{k}}", kafka: {{topic: t, key: "told/{{k}}"}}, {value}}}
  - {{name: buried, mqtt: "buried/{{k}}", kafka: {{topic: t, key: "buried/{{k}}"}}, on_error: {{dead_letter: dead}}, {value}}}
  - {{name: skipped, mqtt: "skipped/{{k}}", kafka: {{topic: t, key: "skipped/{{k}}"}}, on_error: skip, {value}}}
  - {{name: plain, mqtt: "plain/{{k}}", kafka: {{topic: plain, key: "plain/{{k}}"}}}}
sessions: {{expiry: {{}}}}"#
    );
    Stage::start(fake, &rules).await
}

/// Publishes until the schema is known.
async fn warm(device: &mut Device) {
    loop {
        device.publish("told/warm", 1, 1, r#"{"a": 0}"#).await;
        match device.line().await.as_str() {
            "puback 1" => return,
            refused => assert_eq!(refused, "puback 1 0x83 no_schema"),
        }
    }
}

fn framed(id: u8, json: &str) -> String {
    format!("\0\0\0\0{}{json}", char::from(id))
}

fn asked(server: &HttpServer, path: &str) -> usize {
    server
        .asked()
        .iter()
        .filter(|asked| asked.starts_with(&format!("GET {path} ")))
        .count()
}

#[tokio::test]
async fn a_payload_is_checked_and_framed_before_it_is_stored() {
    let server = HttpServer::start(ANSWER).await;
    let stage = stage(&server, "").await;
    let mut device = stage.v5("five").await;
    warm(&mut device).await;
    let mut subscriber = stage.v5("subscriber").await;
    subscriber.subscribed("told/#", 1).await;
    device.publish("told/x", 1, 2, r#"{"a":1}"#).await;
    assert_eq!(device.line().await, "puback 2");
    assert_eq!(stage.fake.all_values("t").last().unwrap(), &framed(7, r#"{"a":1}"#));
    let id = subscriber.message(r#"told/x q1 {"a":1}"#).await;
    subscriber.puback(id).await;
    for (payload, why) in [
        ("no json", "not_json"),
        (r#"{"a": "1"}"#, "schema_mismatch"),
        (r#"{"b": 1}"#, "schema_mismatch"),
    ] {
        device.publish("told/x", 1, 3, payload).await;
        assert_eq!(device.line().await, format!("puback 3 0x99 {why}"));
        device.publish("told/x", 2, 4, payload).await;
        assert_eq!(device.line().await, format!("pubrec 4 0x99 {why}"));
        device.publish("buried/x", 1, 5, payload).await;
        assert_eq!(device.line().await, "puback 5");
        assert_eq!(stage.fake.all_values("dead").last().unwrap(), payload);
        device.publish("skipped/x", 1, 6, payload).await;
        assert_eq!(device.line().await, "puback 6");
    }
    let mismatches = |what: &str, rule: &str| stage.metric(&format!(r#"{what}_total{{rule="{rule}",reason="schema_mismatch"}}"#));
    assert_eq!(
        (mismatches("dead_letters", "buried"), mismatches("records_skipped", "skipped")),
        (2, 2)
    );
    // An empty payload has no value.
    let before = stage.fake.all_values("t").len();
    device.publish("told/x", 1, 7, "").await;
    assert_eq!(device.line().await, "puback 7");
    stage.counted(r#"records_skipped_total{rule="told",reason="tombstone"}"#, 1).await;
    assert_eq!(before, 2, "only what is valid was stored");
    assert_eq!(asked(&server, "/base/subjects/t-value/versions/latest"), 1);
    assert_eq!(asked(&server, "/base/schemas/ids/7"), 0, "what it writes it can read");
}

#[tokio::test]
async fn a_registry_that_is_away_at_the_start_is_asked_until_it_is_there() {
    let server = HttpServer::start(ANSWER).await;
    server.go_away();
    let stage = stage(&server, "").await;
    let mut device = stage.v5("five").await;
    device.publish("told/x", 1, 2, r#"{"a":1}"#).await;
    assert_eq!(device.line().await, "puback 2 0x83 no_schema");
    device.publish("buried/x", 1, 3, r#"{"a":1}"#).await;
    assert_eq!(device.line().await, "puback 3", "it waits as a dead letter");
    device.publish("plain/x", 1, 4, "others are served").await;
    assert_eq!(device.line().await, "puback 4");
    until("it was asked again", || {
        asked(&server, "/base/subjects/t-value/versions/latest") > 1
    })
    .await;
    server.answer("200 OK", "", ANSWER);
    warm(&mut device).await;
    // And what is known stays known.
    server.go_away();
    device.publish("told/x", 1, 5, r#"{"a":1}"#).await;
    assert_eq!(device.line().await, "puback 5");
}

/// A record of a schema that nobody knows: what lies behind it in the partition waits, and nobody else.
#[tokio::test]
async fn a_record_waits_for_its_schema_and_others_do_not() {
    let server = HttpServer::start(ANSWER).await;
    let stage = stage(&server, "").await;
    let mut device = stage.v5("five").await;
    warm(&mut device).await;
    let mut subscribers = [stage.v5("one").await, stage.v4("shared").await];
    for (subscriber, filters) in subscribers
        .iter_mut()
        .zip([["told/#", "plain/#"], ["$share/g/told/#", "$share/g/plain/#"]])
    {
        for filter in filters {
            subscriber.subscribed(filter, 1).await;
        }
    }
    server.go_away();
    stage.fake.record("t", 0, "told/old", &framed(9, r#"{"a":2}"#));
    until("somebody asks for it", || asked(&server, "/base/schemas/ids/9") > 0).await;
    stage.fake.record("t", 0, "told/new", &framed(7, r#"{"a":3}"#));
    device.publish("plain/x", 1, 2, "at once").await;
    assert_eq!(device.line().await, "puback 2");
    for subscriber in &mut subscribers {
        let id = subscriber.message("plain/x q1 at once").await;
        subscriber.puback(id).await;
    }
    server.answer("200 OK", "", ANSWER);
    for subscriber in &mut subscribers {
        for message in [r#"told/old q1 {"a":2}"#, r#"told/new q1 {"a":3}"#] {
            let id = subscriber.message(message).await;
            subscriber.puback(id).await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_passed_over() {
    let server = HttpServer::start(ANSWER).await;
    let stage = stage(&server, "").await;
    let mut device = stage.v5("five").await;
    warm(&mut device).await;
    let mut subscriber = stage.v5("subscriber").await;
    subscriber.subscribed("told/#", 1).await;
    server.answer("404 Not Found", "", r#"{"error_code": 40403}"#);
    for value in [
        framed(8, r#"{"a":1}"#),
        framed(8, r#"{"a":2}"#),
        r#"{"a":3}"#.to_owned(),
        framed(7, "no json"),
        framed(7, r#"{"a":"x"}"#),
        framed(7, r#"{"a":4}"#),
    ] {
        stage.fake.record("t", 0, "told/x", &value);
    }
    let id = subscriber.message(r#"told/x q1 {"a":4}"#).await;
    subscriber.puback(id).await;
    for (reason, count) in [("no_schema", 2), ("not_framed", 1), ("schema_mismatch", 2)] {
        assert_eq!(
            stage.metric(&format!(r#"records_skipped_total{{rule="told",reason="{reason}"}}"#)),
            count,
            "{reason}"
        );
    }
    assert_eq!(asked(&server, "/base/schemas/ids/8"), 1, "one question for all of them");
}

#[tokio::test]
async fn a_registry_is_shown_who_asks() {
    let server = HttpServer::start(ANSWER).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "Tr0ub4dor\n").unwrap();
    for (login, header) in [
        (
            format!(", username: proxy, password: \"file:{}\"", path.display()),
            "authorization: Basic cHJveHk6VHIwdWI0ZG9y",
        ),
        (format!(", token: \"file:{}\"", path.display()), "authorization: Bearer Tr0ub4dor"),
    ] {
        let before = server.asked().len();
        let stage = stage(&server, &login).await;
        warm(&mut stage.v5("five").await).await;
        let asked = server.asked();
        assert!(asked.len() > before);
        assert!(asked[before..].iter().all(|asked| asked.contains(header)), "{asked:?}");
    }
    // One that says no.
    server.answer("401 Unauthorized", "", "");
    let stage = stage(&server, "").await;
    until("it was asked", || stage.metric("schema_registry_failures_total") > 0).await;
    let mut device = stage.v5("five").await;
    device.publish("told/x", 1, 2, r#"{"a":1}"#).await;
    assert_eq!(device.line().await, "puback 2 0x83 no_schema");
}

/// A client whose session outlives its connections.
async fn staying(stage: &Stage) -> Device {
    let mut connect = taking("d", 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    Device::connected_as(stage.address, 5, &connect).await
}

/// Sent to its client and not answered, by an instance that knew the schema; the next one has to ask for it, and its registry is away.
#[tokio::test]
async fn an_open_message_waits_at_the_next_instance_for_its_schema() {
    let (fake, server) = (fake().await, HttpServer::start(ANSWER).await);
    let first = stage_on(fake.clone(), &server, "").await;
    let mut device = staying(&first).await;
    device.subscribed("told/#", 2).await;
    let mut ids = Vec::new();
    for (topic, payload) in [("told/one", r#"{"a":1}"#), ("told/two", r#"{"a":2}"#)] {
        fake.record("t", 0, topic, &framed(9, payload));
        ids.push(device.message(&format!("{topic} q2 {payload}")).await);
    }
    drop(device);
    let other = HttpServer::start(ANSWER).await;
    other.go_away();
    let second = stage_on(fake.clone(), &other, "").await;
    let mut device = staying(&second).await;
    until("somebody asks for it", || asked(&other, "/base/schemas/ids/9") > 0).await;
    assert_eq!(device.fence().await, [""; 0], "nothing is given up, or sent without its payload");
    other.answer("200 OK", "", ANSWER);
    for (id, message) in ids.into_iter().zip([r#"told/one q2 dup {"a":1}"#, r#"told/two q2 dup {"a":2}"#]) {
        assert_eq!(device.message(message).await, id);
    }
}

/// A QoS 2 PUBLISH that is repeated where its schema is not known may be stored already: the client is told neither that it is nor that it is not,
/// and repeats it until that can be told.
#[tokio::test]
async fn a_repeated_publish_is_not_refused_for_want_of_a_schema() {
    let (fake, server) = (fake().await, HttpServer::start(ANSWER).await);
    let first = stage_on(fake.clone(), &server, "").await;
    warm(&mut first.v5("five").await).await;
    let before = fake.all_values("t").len();
    for topic in ["told/x", "buried/x"] {
        let mut device = staying(&first).await;
        device.publish(topic, 2, 1, r#"{"a":1}"#).await;
        assert_eq!(device.line().await, "pubrec 1");
        drop(device);
        let other = HttpServer::start(ANSWER).await;
        other.go_away();
        let second = stage_on(fake.clone(), &other, "").await;
        let mut device = staying(&second).await;
        device.publish(topic, 2, 1, r#"{"a":1}"#).await;
        assert_eq!(device.rest().await, ["disconnect 0x83"], "{topic}");
        other.answer("200 OK", "", ANSWER);
        warm(&mut second.v5("six").await).await;
        let mut device = staying(&second).await;
        device.publish(topic, 2, 1, r#"{"a":1}"#).await;
        assert_eq!(device.line().await, "pubrec 1");
        device.pubrel(1).await;
        assert_eq!(device.line().await, "pubcomp 1");
        assert_eq!(fake.all_values("dead"), [""; 0]);
    }
    // Each once, beside what the second instances were warmed with.
    let once = fake
        .all_values("t")
        .iter()
        .filter(|value| **value == framed(7, r#"{"a":1}"#))
        .count();
    assert_eq!((once, fake.all_values("t").len()), (2, before + 4));
}
