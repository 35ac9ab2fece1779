//! A compacted Kafka topic as a lookup table, with a real Kafka, kcat and mosquitto.

use std::process::Command;

use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually, output};

const RULES: &str = r#"- name: enrich
    mqtt: "lt/{vin}/up"
    on_error: {dead_letter: lt-dead}
    kafka: {topic: lt-up, key: "{vin}"}
    lookup: {sites: {topic: lt-sites, key: vin}}
    transform: '{vin: $vin, site: (lookup("sites"; $vin).site // "nowhere"), ok: (.code | test("^[A-Z]{2}\\d+$"))}'"#;

fn publish(proxy: &Proxy, vin: &str) {
    let (port, topic) = (proxy.mqtt.port().to_string(), format!("lt/{vin}/up"));
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-t",
        &topic,
        "-m",
        r#"{"code":"AB12"}"#,
    ];
    output("mosquitto_pub", &arguments);
}

fn delete(kafka: &Kafka, key: &str) {
    // An empty line with -Z is a null value.
    let status = Command::new("sh")
        .args(["-c", "printf '%s\\t\\n' \"$KEY\" | kcat -P -Z -K '\t' -b \"$AT\" -t lt-sites"])
        .env("KEY", key)
        .env("AT", &kafka.bootstrap)
        .status();
    assert!(status.expect("kcat can be run").success());
}

fn becomes(kafka: &Kafka, proxy: &Proxy, vin: &str, site: &str) {
    let wanted = format!(r#"{{"vin":"{vin}","site":"{site}","ok":true}}"#);
    eventually(&format!("{vin} is at {site}"), || {
        publish(proxy, vin);
        (kafka.consume("lt-up", "%s").pop()? == wanted).then_some(())
    });
}

#[test]
fn programs_look_into_a_compacted_topic_that_is_kept_live() {
    let kafka = shared_kafka();
    for topic in ["lt-up", "lt-dead"] {
        kafka.topic(topic, 1);
    }
    kafka.topic("lt-sites", 3);
    for number in 0..5 {
        kafka.produce(
            "lt-sites",
            &format!(r#"{{"vin":"{number}"}}"#),
            &[],
            &format!(r#"{{"site":"s{number}"}}"#),
        );
    }
    let topics = ", topics: {sessions: lt-sessions, retained: lt-retained, partitions: 1, replication: 1}";
    let proxy = Proxy::start(&kafka.bootstrap, &format!("  {RULES}"), topics);
    // Ready is: read to its end.
    publish(&proxy, "3");
    publish(&proxy, "9");
    assert_eq!(
        kafka.consume("lt-up", "%s"),
        [r#"{"vin":"3","site":"s3","ok":true}"#, r#"{"vin":"9","site":"nowhere","ok":true}"#]
    );
    let rows = || proxy.metric(&["lookup_table_rows", "lt-sites"]);
    assert_eq!((rows(), proxy.metric(&["lookup_table_complete", "lt-sites"])), (5.0, 1.0));
    kafka.produce("lt-sites", r#"{"vin":"9"}"#, &[], r#"{"site":"s9"}"#);
    becomes(&kafka, &proxy, "9", "s9");
    kafka.produce("lt-sites", r#"{"vin":"3"}"#, &[], r#"{"site":"elsewhere"}"#);
    becomes(&kafka, &proxy, "3", "elsewhere");
    delete(&kafka, r#"{"vin":"3"}"#);
    becomes(&kafka, &proxy, "3", "nowhere");
    assert_eq!(rows(), 5.0);
    assert!(kafka.consume("lt-dead", "%s").is_empty());

    let (code, said) = Proxy::check_online(&kafka.bootstrap, &format!("  {RULES}"), topics);
    assert!(said.contains("lt-sites: 3 partitions, readable (lookup)"), "{said}");
    assert!(said.contains("warning: lt-sites (lookup): cleanup.policy is `delete`"), "{said}");
    assert_eq!(code, 0, "{said}");
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &format!("  {}", RULES.replace("lt-sites", "lt-none")), topics);
    assert!(code == 69 && said.contains("lt-none (lookup) does not exist"), "{code} {said}");
}
