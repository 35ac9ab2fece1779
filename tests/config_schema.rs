//! docs/proxy.schema.json, which `mqtt-kafka-proxy schema` prints for editors: it takes what the parser takes, and knows the keys that it knows.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mqtt_kafka_proxy::config;
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Map, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn schema() -> Value {
    serde_json::from_str(config::SCHEMA).unwrap()
}

fn json(yaml: &Yaml<'_>) -> Value {
    if let Some(table) = yaml.as_mapping() {
        let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| (key.as_str().unwrap().to_owned(), json(value));
        return Value::Object(table.iter().map(entry).collect::<Map<_, _>>());
    }
    if let Some(list) = yaml.as_sequence() {
        return Value::Array(list.iter().map(json).collect());
    }
    let number = || yaml.as_integer().map(Value::from).or(yaml.as_floating_point().map(Value::from));
    let scalar = yaml.as_bool().map(Value::from).or_else(number);
    scalar.or(yaml.as_str().map(Value::from)).unwrap_or(Value::Null)
}

fn document(text: &str) -> Value {
    json(&Yaml::load_from_str(text).unwrap()[0])
}

#[test]
fn the_files_that_are_shown_are_as_the_schema_says() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let cookbook = std::fs::read_dir(root().join("docs/cookbook")).unwrap();
    let files = cookbook.map(|entry| entry.unwrap().path()).chain([root().join("proxy.yaml")]);
    let mut count = 0;
    for file in files {
        let document = document(&std::fs::read_to_string(&file).unwrap());
        let faults: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{}: {faults:#?}", file.display());
        count += 1;
    }
    assert_eq!(count, 11);
}

#[test]
fn what_the_parser_refuses_for_its_form_the_schema_refuses() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = "listeners: [{name: a, address: \"0.0.0.0:1\", protocol: mqtt, authentication: none}]\nkafka: {bootstrap_servers: [\"k:1\"], producer: {linger: 5ms}}\n\
                rules: [{name: r, mqtt: \"{t#}\", qos: 1, also: false, kafka: {topic: t, key: \"{t}\"}}]\n";
    let parses = |text: &str| config::parse(text, &root(), &|_| None).is_ok();
    assert!(parses(good) && validator.is_valid(&document(good)));
    for (from, to) in [
        ("linger: 5ms", "linger: 5"),
        ("linger: 5ms", "linger: [5ms]"),
        ("linger: 5ms", "lingr: 5ms"),
        ("protocol: mqtt", "protocol: http"),
        ("qos: 1", "qos: 3"),
        ("also: false", "also: maybe"),
        ("kafka: {topic: t,", "kafka: {topics: t,"),
        ("name: r, ", ""),
        ("rules:", "rule:"),
        (", authentication: none", ""),
        ("authentication: none", "authentication: anonymous"),
        ("authentication: none", "authentication: {method: anonymous}"),
        ("rules: [", "rules: [x, "),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(good, bad);
        assert!(!parses(&bad), "{bad}");
        assert!(!validator.is_valid(&document(&bad)), "{bad}");
    }
}

/// At each listener, or for all of them.
#[test]
fn parser_and_schema_agree_where_it_must_stand_who_is_let_in() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (of_all, of_listeners, is_written) in [
        ("none", ["", ""], true),
        ("[{method: anonymous}]", ["", ""], true),
        ("\"${GONE:-none}\"", ["", ", authentication: none"], false),
        ("", [", authentication: none", ", authentication: [{method: certificate}]"], true),
        ("", [", authentication: none", ""], false),
        ("", ["", ""], false),
    ] {
        let listener = |(port, own)| format!("{{name: l{port}, address: \"0.0.0.0:{port}\", protocol: mqtt{own}}}");
        let listeners: Vec<String> = (1..).zip(of_listeners).map(listener).collect();
        let of_all = if of_all.is_empty() {
            String::new()
        } else {
            format!("authentication: {of_all}\n")
        };
        let text = format!(
            "listeners: [{}]\nkafka: {{bootstrap_servers: [\"k:1\"]}}\nrules: [{{name: r, mqtt: a, kafka: {{topic: t}}}}]\n{of_all}",
            listeners.join(", ")
        );
        assert_eq!(config::parse(&text, &root(), &|_| None).is_ok(), is_written, "{text}");
        assert_eq!(validator.is_valid(&document(&text)), is_written, "{text}");
    }
}

#[test]
fn parser_and_schema_know_the_same_names_of_certificates() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (name, known) in [
        ("common_name", true),
        ("subject", true),
        ("dns", true),
        ("uri", true),
        ("email", true),
        ("ip", true),
        ("address", false),
    ] {
        let text = format!(
            "listeners: [{{name: a, address: \"0.0.0.0:1\", protocol: mqtt}}]\nkafka: {{bootstrap_servers: [\"k:1\"]}}\n\
             rules: [{{name: r, mqtt: a, kafka: {{topic: t}}}}]\nauthentication: [{{method: certificate, identity: {name}}}]\n"
        );
        assert_eq!(config::parse(&text, &root(), &|_| None).is_ok(), known, "{text}");
        assert_eq!(validator.is_valid(&document(&text)), known, "{text}");
    }
}

/// A table of the schema: how one is written that has a key more, and the keys it may have.
struct Table {
    written: String,
    keys: BTreeSet<String>,
}

const UNKNOWN: &str = "zzzzzz";

/// All tables below a schema. `around` writes what stands there into a whole file.
fn tables(schema: &Value, part: &Value, around: &dyn Fn(&str) -> String, found: &mut Vec<Table>) {
    if let Some(name) = part["$ref"].as_str() {
        return tables(schema, &schema["$defs"][name.rsplit('/').next().unwrap()], around, found);
    }
    for one in part["anyOf"].as_array().into_iter().flatten() {
        tables(schema, one, around, found);
    }
    if let Some(items) = part.get("items") {
        tables(schema, items, &|text| around(&format!("[{text}]")), found);
    }
    let Some(properties) = part["properties"].as_object() else { return };
    let required: Vec<&str> = part["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let beside = |but: &str| -> String {
        let others = required.iter().filter(|key| **key != but);
        others
            .map(|key| format!("{key}: {}, ", sample(schema, &properties[*key])))
            .collect()
    };
    found.push(Table {
        written: around(&format!("{{{}{UNKNOWN}: 1}}", beside(""))),
        keys: properties.keys().cloned().collect(),
    });
    for (key, value) in properties {
        tables(schema, value, &|text| around(&format!("{{{}{key}: {text}}}", beside(key))), found);
    }
}

/// A value that has this form, more or less.
fn sample(schema: &Value, part: &Value) -> String {
    if let Some(name) = part["$ref"].as_str() {
        return sample(schema, &schema["$defs"][name.rsplit('/').next().unwrap()]);
    }
    let word = |part: &Value| part["enum"][0].as_str().or(part["const"].as_str()).map(str::to_owned);
    let first = part["anyOf"].get(0).and_then(word);
    match part["type"].as_str() {
        Some("object") => {
            let required = part["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let entries: Vec<String> = required
                .map(|key| format!("{key}: {}", sample(schema, &part["properties"][key])))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Some("array") => format!("[{}]", sample(schema, &part["items"])),
        _ => first.or(word(part)).unwrap_or_else(|| "x".to_owned()),
    }
}

#[test]
fn parser_and_schema_know_the_same_keys() {
    let schema = schema();
    let mut found = Vec::new();
    tables(&schema, &schema, &str::to_owned, &mut found);
    assert!(found.len() > 30, "{}", found.len());
    let mut wrong = Vec::new();
    for Table { written, keys } in found {
        let faults = config::parse(&written, &root(), &|_| None).err().unwrap();
        let told = faults
            .iter()
            .find(|fault| fault.message.contains(&format!("unknown key `{UNKNOWN}`")));
        let known = told.and_then(|told| told.remedy.strip_prefix("the keys here are "));
        let known: BTreeSet<String> = known.into_iter().flat_map(|known| known.split(", ")).map(str::to_owned).collect();
        if known != keys {
            wrong.push(format!("{written}: the schema has {keys:?}, the parser {known:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
