//! TLS and SASL towards a real Kafka: each way in with the right credentials, and with wrong ones the one line that the operator sees.
//!
//! One Kafka with a listener for each case serves all of these tests.

pub mod authority;
mod certificates;
mod devices;
mod issuer;
mod listeners;
mod renewal;
mod resumed;
mod returning;
mod rights;
mod sasl;
mod tls;
mod tokens;
mod trust;

use crate::deliver::{COMMANDS, Subscriber};
use crate::publish::rule;
use crate::stage::{Kafka, Proxy, eventually, output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub use authority::Authority;
use listeners::secure_kafka;
pub use listeners::{PASSWORD, mechanisms};

/// A device's message becomes a record, and a record reaches a device.
pub fn round_trip(kafka: &Kafka, port: u16, security: &str, environment: &[(&str, &str)]) {
    static TOPICS: AtomicU32 = AtomicU32::new(0);
    let number = TOPICS.fetch_add(1, Relaxed);
    let (up, down) = (format!("secure-up-{number}"), format!("secure-down-{number}"));
    kafka.topic(&up, 1);
    kafka.topic(&down, 1);
    let rules = format!("{}\n{}", rule(&up), COMMANDS.replace("NAME", &down));
    let server = format!("127.0.0.1:{port}");
    let proxy = Proxy::launch_in(environment, &server, &rules, &format!(", security: {security}"));
    eventually("ready", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
    both_ways(kafka, &proxy, &up, &down);
    assert_eq!(warnings(&proxy), [""; 0]);
}

/// One message each way.
fn both_ways(kafka: &Kafka, proxy: &Proxy, up: &str, down: &str) {
    let subscriber = Subscriber::mosquitto(proxy, "mqttv5", &format!("{down}/42/commands"));
    let mqtt = proxy.mqtt.port().to_string();
    let topic = format!("{up}/42/telemetry/rpm");
    output(
        "mosquitto_pub",
        &["-h", "127.0.0.1", "-p", &mqtt, "-q", "1", "-t", &topic, "-m", "1850"],
    );
    assert_eq!(kafka.consume(up, "%k|%s"), ["42|1850"]);
    kafka.produce(down, "42", &[], "unlock");
    assert_eq!(subscriber.message(), format!("message {down}/42/commands|1|unlock"));
}

/// What the operator is told, in /readyz and in one line of the log: each of `words` is in it.
#[track_caller]
fn told(port: u16, security: &str, words: &[&str]) {
    told_of(&format!("127.0.0.1:{port}"), security, words);
}

#[track_caller]
fn told_of(server: &str, security: &str, words: &[&str]) {
    let proxy = Proxy::launch(server, &rule("nothing"), &format!(", security: {security}"));
    let (status, why) = eventually("a reason", || {
        let answer = proxy.get("/readyz").ok()?;
        (answer.1.contains("Kafka is not reached") && !answer.1.contains("not connected yet")).then_some(answer)
    });
    assert_eq!(status, 503, "{why}");
    println!("{}", why.trim_end());
    for word in [&[server], words].concat() {
        assert!(why.contains(word), "/readyz has no {word:?}: {why}");
    }
    assert_eq!(why.trim_end().lines().count(), 1, "{why}");
    let lines = eventually("a line", || Some(warnings(&proxy)).filter(|lines| !lines.is_empty()));
    let [line] = lines.as_slice() else { panic!("one line: {lines:#?}") };
    for word in [&[server], words].concat() {
        assert!(line.contains(word), "the log has no {word:?}: {line}");
    }
    let all = format!("{why}{}", proxy.log());
    assert!(
        !all.contains(listeners::PASSWORD) && !all.contains(issuer::SECRET),
        "a secret is shown"
    );
}

/// What it warned of, but for the machine's own limits.
fn warnings(proxy: &Proxy) -> Vec<String> {
    let log = proxy.log();
    log.lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .filter(|line| !line.contains("limits.connections") && !line.contains("this process did not run"))
        .map(str::to_owned)
        .collect()
}
