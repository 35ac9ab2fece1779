//! A compacted Kafka topic as a lookup table, with a real Kafka, kcat and mosquitto.

use std::process::Command;

use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually, output};

const RULES: &str = r#"  - name: enrich
    mqtt: "NAME/{vin}/up"
    on_error: {dead_letter: NAME-dead}
    kafka: {topic: NAME-up, key: "{vin}"}
    lookup: {sites: {topic: NAME-sites, key: vin}}
    transform: '{vin: $vin, site: (lookup("sites"; $vin).site // "nowhere"), ok: (.code | test("^[A-Z]{2}\\d+$"))}'"#;
const TOPICS: &str = ", topics: {sessions: NAME-sessions, retained: NAME-retained, partitions: 1, replication: 1}";

/// The rules, and what stands under `kafka`, of a test of this name.
fn settings(name: &str) -> [String; 2] {
    [RULES, TOPICS].map(|text| text.replace("NAME", name))
}

fn publish(proxy: &Proxy, name: &str, vin: &str) {
    let (port, topic) = (proxy.mqtt.port().to_string(), format!("{name}/{vin}/up"));
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

/// Writes a row of the table.
fn put(kafka: &Kafka, name: &str, vin: &str, site: &str) {
    let (key, value) = (format!(r#"{{"vin":"{vin}"}}"#), format!(r#"{{"site":"{site}"}}"#));
    kafka.produce(&format!("{name}-sites"), &key, &[], &value);
}

fn delete(kafka: &Kafka, name: &str, vin: &str) {
    // An empty line with -Z is a null value.
    let status = Command::new("sh")
        .args(["-c", "printf '%s\\t\\n' \"$KEY\" | kcat -P -Z -K '\t' -b \"$AT\" -t \"$TABLE\""])
        .env("KEY", format!(r#"{{"vin":"{vin}"}}"#))
        .env("TABLE", format!("{name}-sites"))
        .env("AT", &kafka.bootstrap)
        .status();
    assert!(status.expect("kcat can be run").success());
}

fn enriched(vin: &str, site: &str) -> String {
    format!(r#"{{"vin":"{vin}","site":"{site}","ok":true}}"#)
}

fn becomes(kafka: &Kafka, proxy: &Proxy, name: &str, vin: &str, site: &str) {
    eventually(&format!("{vin} is at {site}"), || {
        publish(proxy, name, vin);
        (kafka.consume(&format!("{name}-up"), "%s").pop()? == enriched(vin, site)).then_some(())
    });
}

#[test]
fn programs_look_into_a_compacted_topic_that_is_kept_live() {
    let kafka = shared_kafka();
    for topic in ["lt-up", "lt-dead"] {
        kafka.topic(topic, 1);
    }
    kafka.topic("lt-sites", 3);
    (0..5).for_each(|number| put(&kafka, "lt", &number.to_string(), &format!("s{number}")));
    let [rules, topics] = settings("lt");
    let proxy = Proxy::start(&kafka.bootstrap, &rules, &topics);
    // Ready is: read to its end.
    publish(&proxy, "lt", "3");
    publish(&proxy, "lt", "9");
    assert_eq!(kafka.consume("lt-up", "%s"), [enriched("3", "s3"), enriched("9", "nowhere")]);
    let rows = || proxy.metric(&["lookup_table_rows", "lt-sites"]);
    assert_eq!((rows(), proxy.metric(&["lookup_table_complete", "lt-sites"])), (5.0, 1.0));
    put(&kafka, "lt", "9", "s9");
    becomes(&kafka, &proxy, "lt", "9", "s9");
    put(&kafka, "lt", "3", "elsewhere");
    becomes(&kafka, &proxy, "lt", "3", "elsewhere");
    delete(&kafka, "lt", "3");
    becomes(&kafka, &proxy, "lt", "3", "nowhere");
    assert_eq!(rows(), 5.0);
    assert!(kafka.consume("lt-dead", "%s").is_empty());

    let (code, said) = Proxy::check_online(&kafka.bootstrap, &rules, &topics);
    assert!(said.contains("lt-sites: 3 partitions, readable (lookup)"), "{said}");
    assert!(said.contains("warning: lt-sites (lookup): cleanup.policy is `delete`"), "{said}");
    assert_eq!(code, 0, "{said}");
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &rules.replace("lt-sites", "lt-none"), &topics);
    assert!(code == 69 && said.contains("lt-none (lookup) does not exist"), "{code} {said}");
}

/// A log that Kafka has compacted has gaps, and of each key its last record: what a table is made of that is older than its proxy.
#[test]
fn programs_look_into_a_topic_of_which_kafka_has_removed_what_is_outdated() {
    let kafka = shared_kafka();
    ["lc-up", "lc-dead"].into_iter().for_each(|topic| kafka.topic(topic, 1));
    // Each record begins a segment, and all segments but the last may be compacted at once.
    let compacted = ["cleanup.policy=compact", "segment.ms=1", "min.cleanable.dirty.ratio=0.01"];
    kafka.command(&[&["topic", "lc-sites", "1", "1"], &compacted[..]].concat());
    for (vin, site) in [("1", "old"), ("2", "old"), ("3", "old"), ("1", "north"), ("2", "west")] {
        put(&kafka, "lc", vin, site);
    }
    delete(&kafka, "lc", "3");
    put(&kafka, "lc", "4", "east");
    let left = ["3|{\"site\":\"north\"}", "4|{\"site\":\"west\"}", "5|", "6|{\"site\":\"east\"}"];
    eventually("Kafka has compacted", || (kafka.consume("lc-sites", "%o|%s") == left).then_some(()));
    let [rules, topics] = settings("lc");
    let proxy = Proxy::start(&kafka.bootstrap, &rules, &topics);
    let sites = [("1", "north"), ("2", "west"), ("3", "nowhere"), ("4", "east")];
    sites.iter().for_each(|(vin, _)| publish(&proxy, "lc", vin));
    assert_eq!(kafka.consume("lc-up", "%s"), sites.map(|(vin, site)| enriched(vin, site)));
    let told = |metric: &str| proxy.metric(&[metric, "lc-sites"]);
    assert_eq!((told("lookup_table_rows"), told("lookup_table_complete")), (3.0, 1.0));
    put(&kafka, "lc", "3", "south");
    becomes(&kafka, &proxy, "lc", "3", "south");
    delete(&kafka, "lc", "1");
    becomes(&kafka, &proxy, "lc", "1", "nowhere");
    assert!(kafka.consume("lc-dead", "%s").is_empty());

    let (code, said) = Proxy::check_online(&kafka.bootstrap, &rules, &topics);
    assert!(said.contains("lc-sites: 1 partition, readable (lookup)"), "{said}");
    assert!(!said.contains("warning: lc-sites"), "{said}");
    assert_eq!(code, 0, "{said}");
}
