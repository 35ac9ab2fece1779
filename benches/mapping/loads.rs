//! How long files of rules take to load, by what the rules have that costs something then: each row with the goal of all.

use std::path::Path;
use std::time::Instant;

use mqtt_kafka_proxy::config;

use super::{judge, numbered};

/// Seconds of a file with the most rules there may be.
const LOAD: f64 = 1.0;

/// Writes the rule of this number.
type WriteRule = fn(usize) -> String;

/// Rules by what they have that costs something when a file is loaded.
const KINDS: [(&str, WriteRule); 12] = [
    ("captures, key and header", |i| {
        let kafka = format!("{{topic: t{}, key: \"{{vin}}\", headers: {{sensor: \"{{sensor}}\"}}}}", i % 100);
        format!("{{name: r{i}, mqtt: \"fleet{i}/{{vin}}/{{sensor}}\", kafka: {kafka}}}")
    }),
    ("copies of half of them", |i| {
        let (also, topic) = match i % 2 {
            0 => ("", i % 100),
            _ => ("also: true, direction: publish, ", 100),
        };
        format!(
            "{{name: r{i}, {also}mqtt: \"fleets/{}/{{vin}}\", kafka: {{topic: t{topic}, key: \"{{vin}}\"}}}}",
            i / 2
        )
    }),
    ("dead letters, topics by captures", |i| {
        let topic = if i % 2 == 0 { format!("t{i}-{{vin}}") } else { format!("t{i}") };
        format!(
            "{{name: r{i}, mqtt: \"fleet{i}/{{vin}}\", on_error: {{dead_letter: d{i}}}, kafka: {{topic: \"{topic}\", key: \"{{vin}}\"}}}}"
        )
    }),
    ("only read, one topic", |i| {
        format!("{{name: r{i}, direction: subscribe, mqtt: \"out{i}/{{header.h{i}}}\", kafka: {{topic: out}}}}")
    }),
    ("only read, topics by their form", |i| {
        format!("{{name: r{i}, direction: subscribe, mqtt: \"out{i}/{{x}}\", kafka: {{topic: \"out{i}-{{x}}\"}}}}")
    }),
    ("a program in one of ten", |i| {
        let program = if i % 10 == 0 {
            "transform: 'select(.a > 90) | {vin: $vin, a}', "
        } else {
            ""
        };
        format!("{{name: r{i}, mqtt: \"fleet{i}/{{vin}}\", {program}kafka: {{topic: t, key: \"{{vin}}\"}}}}")
    }),
    ("a program in each", |i| {
        numbered(
            r#"{name: r@, mqtt: "fleet@/{vin}", transform: 'select(.a > @) | {vin: $vin, a}', kafka: {topic: t, key: "{vin}"}}"#,
            i,
        )
    }),
    // A file may have a thousand of each of these two.
    ("an example in one of ten", |i| {
        let examples = match i % 20 {
            0 => r#"examples: [{topic: fleet@/42/rpm, payload: "7", becomes: {topic: t@, key: "42", value: "7"}}], "#,
            10 => {
                r#"examples: [{record: {key: "42", headers: {sensor: rpm}, value: "7"}, becomes: {topic: fleet@/42/rpm, payload: "7"}}], "#
            }
            _ => "",
        };
        let kafka = r#"{topic: t@, key: "{vin}", headers: {sensor: "{sensor}"}}"#;
        numbered(
            &format!(r#"{{name: r@, mqtt: "fleet@/{{vin}}/{{sensor}}", {examples}kafka: {kafka}}}"#),
            i,
        )
    }),
    ("an expression in one of ten", |i| {
        let mqtt = match i % 10 {
            0 => r#"mqtt_regex: "fleet@/(?<vin>[A-Z0-9]+)/(?<sensor>[a-z]+)""#,
            _ => r#"mqtt: "fleet@/{vin}/{sensor}""#,
        };
        let kafka = r#"{topic: t, key: "{vin}", headers: {sensor: "{sensor}"}}"#;
        numbered(&format!("{{name: r@, {mqtt}, kafka: {kafka}}}"), i)
    }),
    ("a table of a file in each", |i| looking("sites.csv", i)),
    ("a table of a topic in each", |i| looking("{topic: sites, key: vin}", i)),
    ("a schema of its own in each", |i| {
        let value = "{format: avro, registry: \"http://localhost:8081\"}";
        numbered(
            &format!("{{name: r@, mqtt: \"fleet@/{{vin}}\", value: {value}, kafka: {{topic: t@, key: \"{{vin}}\"}}}}"),
            i,
        )
    }),
];

/// A rule that looks into a table, in a program of its own.
fn looking(table: &str, i: usize) -> String {
    let program = "'{vin: $vin, site: lookup(\"sites\"; $vin).site, over: (.a > @)}'";
    numbered(
        &format!(
            "{{name: r@, mqtt: \"fleet@/{{vin}}\", lookup: {{sites: {table}}}, transform: {program}, kafka: {{topic: t, key: \"{{vin}}\"}}}}"
        ),
        i,
    )
}

/// Seconds in which a file of so many rules is loaded that lies in this folder; the best of three.
fn load(count: usize, rule: WriteRule, folder: &Path) -> f64 {
    let mut text =
        "listeners: [{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, authentication: none}]\nkafka: {bootstrap_servers: [\"k:9092\"]}\nrules:\n"
            .to_owned();
    (0..count).for_each(|i| text += &format!("  - {}\n", rule(i)));
    let once = || {
        let start = Instant::now();
        let config = config::parse(&text, folder, &|_| None);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(config.expect("the file is right").rules.iter().count(), count);
        seconds
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// Files of all kinds of rules.
pub(super) fn judge_all(missed: &mut Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder for files");
    let rows: String = (0..100).map(|i| format!("WVW{i:014},north\n")).collect();
    std::fs::write(folder.path().join("sites.csv"), format!("vin,site\n{rows}")).expect("the folder was just made");
    println!("{:<34} {:>8} {:>8}   goal {LOAD} s", "seconds to load, by rules", 1_000, 10_000);
    for (kind, rule) in KINDS {
        let [few, many] = [1_000, 10_000].map(|count| load(count, rule, folder.path()));
        println!("{kind:<34} {few:>8.3} {many:>8.3}");
        judge(missed, &format!("load of 10,000 rules, {kind}"), many, LOAD);
    }
}
