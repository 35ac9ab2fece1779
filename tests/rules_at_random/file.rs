//! A file with a rule and its neighbours, as YAML.

use std::path::Path;

use mqtt_kafka_proxy::config;
use mqtt_kafka_proxy::mapping::RuleSet;
use serde_json::{Value as Json, json};

use super::merged;

const HEAD: &str = r#"listeners: [{name: tcp, address: "0.0.0.0:1883", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: ["localhost:9092"]}
rules:
"#;

/// A rule that reads or writes the same: a copy of all or of the same messages, one that reads the same Kafka topic, all of its form, or one that may
/// write to any.
pub fn neighbour(number: usize, kind: usize, main: &Json) -> Json {
    let name = format!("other-{number}");
    let topic = &main["kafka"]["topic"];
    match kind {
        0 => json!({"name": name, "also": true, "direction": "publish", "mqtt": "#", "kafka": {"topic": "copies"}}),
        1 => {
            let mut copy = merged(main.clone(), json!({"name": name, "also": true, "direction": "publish"}));
            let both = copy["kafka"]["tombstones"] == "both";
            let kafka = copy["kafka"].as_object_mut().unwrap();
            kafka.retain(|key, _| key != "tombstones" || both);
            copy.as_object_mut().unwrap().remove("transform_back");
            copy
        }
        2 => json!({"name": name, "direction": "subscribe", "mqtt": "from/{key#}", "kafka": {"topic": "inv"}}),
        3 => json!({"name": name, "direction": "subscribe", "mqtt": "at/{site}/{header.h#}", "kafka": {"topic": "inv-{site}"}}),
        4 => json!({"name": name, "mqtt": "other/{o}", "kafka": {"topic": "{o}", "key": "k"}}),
        _ => {
            json!({"name": name, "mqtt": "+/k/#", "kafka": {"topic": topic.as_str().filter(|topic| !topic.contains('{')).unwrap_or("inv")}})
        }
    }
}

/// As YAML: with JSON's quotes, or with single ones, where only a quote itself is special.
fn yaml(value: &Json, single: bool) -> String {
    match value {
        Json::Object(table) => {
            let pair = |(name, value): (&String, &Json)| format!("{}: {}", quoted(name, single), yaml(value, single));
            format!("{{{}}}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Json::String(text) => quoted(&text.replace("${", "$${"), single),
        other => other.to_string(),
    }
}

fn quoted(text: &str, single: bool) -> String {
    if single && !text.contains('\n') {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        Json::from(text).to_string()
    }
}

/// The rules of a file; `None`: it has a fault.
pub fn rules(all: &[Json], single: bool) -> Option<RuleSet> {
    let lines: String = all.iter().map(|rule| format!("  - {}\n", yaml(rule, single))).collect();
    let parsed = config::parse(&format!("{HEAD}{lines}"), Path::new("/etc/proxy"), &|_| None);
    parsed.ok().map(|config| config.rules)
}
