//! Who is there authenticates again by SCRAM-SHA-256: it stays who it is, or has to go. In a browser: of these clients only MQTT.js speaks AUTH.

use super::replace;
use crate::browser::told_by_browser;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually};
use mqtt_kafka_proxy::auth::scram;
use serde_json::{Value, json};
use std::path::Path;
use std::thread;

/// The Kafka topic, and the MQTT topic that each publishes to.
const TOPIC: &str = "logins-again";

/// Of the last one.
const REVOKED: &str = "revoked";

/// What `vin42` shows when it authenticates again, how it begins ("proven": as it should), and what becomes of it.
const CASES: [(&str, [&str; 2], &str, &str); 6] = [
    ("right", ["vin42", "s3cret"], "proven", "in"),
    ("wrong", ["vin42", "wrong"], "proven", "ended 135"),
    ("wrong user", ["vin44", "s3cret"], "proven", "ended 135"),
    ("another", ["vin43", "s3cret"], "proven", "ended 135"),
    ("malformed", ["vin42", "s3cret"], "n,,r=x,n=vin42", "ended 135"),
    (REVOKED, ["vin42", "s3cret"], "proven", "ended 135"),
];

/// Those that the file knows.
fn write(file: &Path, users: &[&str]) {
    replace(file, users, |user| scram::entry(user, "s3cret", &[7; scram::SALT]).unwrap());
}

/// Each as `integration/browser.html` takes it.
fn logins(proxy: &Proxy) -> Vec<Value> {
    let login = |(state, [user, password], first, _): (&str, [&str; 2], &str, &str)| {
        json!({
            "url": format!("wss://localhost:{}/mqtt", proxy.wss.port()), "version": 5, "client_id": "again",
            "user": "vin42", "password": "s3cret", "enhanced": "proven", "topic": TOPIC, "value": state,
            "again": {
                "user": user, "password": password, "enhanced": first, "value": format!("{state}, again"),
                "until_refused": state == REVOKED,
            },
        })
    };
    CASES.into_iter().map(login).collect()
}

#[test]
fn who_authenticates_again_stays_who_it_is_or_has_to_go() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scram.txt");
    write(&file, &["vin42", "vin43"]);
    let rules = format!(
        "  - {{name: all, mqtt: {TOPIC}, kafka: {{topic: {TOPIC}, key: \"{{identity}}\"}}}}\n\
         authentication: [{{method: scram, file: \"{}\"}}]",
        file.display()
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let logins = logins(&proxy);
    let told = thread::scope(|scope| {
        let told = scope.spawn(|| told_by_browser(&logins));
        eventually("the last one is let in", || {
            let found = kafka.consume(TOPIC, "%s");
            found.iter().any(|value| value == REVOKED).then_some(())
        });
        // Files are looked at once a second. Until then it is let in, again and again.
        write(&file, &["vin43"]);
        told.join().unwrap()
    });
    assert_eq!(told, CASES.map(|(.., told)| told));
    let stored = ["right", "right, again", "wrong", "wrong user", "another", "malformed", REVOKED];
    let stored = stored.map(|value| format!("vin42|{value}"));
    assert_eq!(
        kafka.consume(TOPIC, "%k|%s"),
        stored,
        "as whom it came, and nothing of who had to go"
    );
    for (why, count) in [("wrong_password", 1.0), ("unknown_credentials", 2.0), ("another_identity", 1.0)] {
        assert_eq!(proxy.metric(&["refusals_total", why]), count, "{why}");
    }
    assert!(!proxy.log().contains("s3cret"), "a secret in the log");
}
