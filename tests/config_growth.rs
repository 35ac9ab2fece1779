//! A file of many rules: what loading it costs grows as the file does, and not with its square.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use mqtt_kafka_proxy::config;

/// Nanoseconds that this thread was on a CPU: what others do on the machine is not in there.
fn cpu_time() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split(' ').next().unwrap().parse().unwrap()
}

fn file(count: usize, rule: fn(usize) -> String) -> String {
    let start = "listeners: [{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, authentication: none}]\nkafka: {bootstrap_servers: [\"k:9092\"]}\nrules:\n";
    start.to_owned() + &(0..count).map(|i| format!("  - {}\n", rule(i))).collect::<String>()
}

fn cost(text: &str) -> u64 {
    let before = cpu_time();
    let config = config::parse(text, Path::new("/"), &|_| None).unwrap();
    let cost = cpu_time() - before;
    assert!(config.rules.iter().count() > 0);
    cost
}

/// Eight times the rules. What grows with the square of their number would cost 64 times as much.
#[track_caller]
fn assert_linear(rule: fn(usize) -> String) {
    let (few, many) = (file(500, rule), file(4_000, rule));
    cost(&few);
    let (few, many) = (0..2).fold((u64::MAX, u64::MAX), |(a, b), _| (a.min(cost(&few)), b.min(cost(&many))));
    let growth = many as f64 / few as f64;
    assert!(
        growth < 18.0,
        "{growth:.1} times as much for eight times the rules ({few} and {many} ns)"
    );
}

#[test]
fn rules_with_captures_keys_and_headers() {
    assert_linear(|i| {
        let kafka = format!("{{topic: t{}, key: \"{{vin}}\", headers: {{sensor: \"{{sensor}}\"}}}}", i % 100);
        format!("{{name: r{i}, mqtt: \"fleet{i}/{{vin}}/{{sensor}}\", kafka: {kafka}}}")
    });
}

/// Each copy is looked at: whether some rule takes what it copies.
#[test]
fn copies() {
    assert_linear(|i| {
        let also = if i % 2 == 0 { "" } else { "also: true, direction: publish, " };
        let filter = format!("all/of/our/own/fleets/{}/{{vin}}", i / 2);
        format!("{{name: r{i}, {also}mqtt: \"{filter}\", kafka: {{topic: t, key: \"{{vin}}\"}}}}")
    });
}

/// Of each dead letter topic it is asked whether a rule may write to it, and of each topic whether another may read it.
#[test]
fn dead_letters_and_topics_by_captures() {
    assert_linear(|i| {
        let topic = if i % 2 == 0 { format!("t{i}-{{vin}}") } else { format!("t{i}") };
        let dead = format!("on_error: {{dead_letter: d{i}}}");
        format!("{{name: r{i}, mqtt: \"fleet{i}/{{vin}}\", {dead}, kafka: {{topic: \"{topic}\", key: \"{{vin}}\"}}}}")
    });
}

#[test]
fn rules_that_only_read() {
    assert_linear(|i| format!("{{name: r{i}, direction: subscribe, mqtt: \"out{i}/{{x}}\", kafka: {{topic: \"out{i}-{{x}}\"}}}}"));
}

#[test]
fn programs() {
    assert_linear(|i| {
        let program = "transform: 'select(.a > 90) | {vin: $vin, a}'";
        format!("{{name: r{i}, mqtt: \"fleet{i}/{{vin}}\", {program}, kafka: {{topic: t, key: \"{{vin}}\"}}}}")
    });
}
