//! Values with a schema, and a registry that is away, slow, or has nothing: what devices are told, what waits, and what is passed over.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod http_server;
mod relay_stage;

use fake_broker::{Fake, client::until};
use http_server::HttpServer;
use relay_stage::{Stage, device::Device};

/// One body for whatever is asked: the newest version of a subject, and the schema of an id.
const ANSWER: &str = r#"{"subject": "t-value", "version": 1, "id": 7, "schemaType": "JSON",
    "schema": "{\"type\": \"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"type\": \"integer\"}}}"}"#;

async fn stage(server: &HttpServer, more: &str) -> Stage {
    let fake = Fake::start(1).await;
    for topic in ["t", "dead", "plain"] {
        fake.topic(topic, 1);
    }
    let value = format!(
        "value: {{format: json_schema, registry: \"{}\", subject: t-value{more}}}",
        server.url("/base")
    );
    let rules = format!(
        r#"rules:
  - {{name: told, mqtt: "told/{{k}}", kafka: {{topic: t, key: "told/{{k}}"}}, {value}}}
  - {{name: buried, mqtt: "buried/{{k}}", kafka: {{topic: t, key: "buried/{{k}}"}}, on_error: {{dead_letter: dead}}, {value}}}
  - {{name: skipped, mqtt: "skipped/{{k}}", kafka: {{topic: t, key: "skipped/{{k}}"}}, on_error: skip, {value}}}
  - {{name: plain, mqtt: "plain/{{k}}", kafka: {{topic: plain, key: "plain/{{k}}"}}}}"#
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
