//! Sources that read Kafka, and the topics that their records are published to.

use super::Import;
use super::connector::Connector;
use super::engine::{EngineRule, Republish, quoted};
use super::producers::is_kafka_topic;
use super::template::{Piece, of_record, pieces};
use crate::import::{naming::name, yaml::text};

/// What a source reads.
#[derive(Clone)]
pub(super) struct Reads {
    topics: Vec<String>,
    /// Whether rules are given keys and values in base64.
    encoded: [bool; 2],
    /// What it publishes by itself: Kafka topics, and how.
    mapped: Vec<(String, Republish)>,
}

/// Sources, and the bridges that came before them: section and name of each, in the order of the files.
pub(super) fn all(import: &Import) -> Vec<[String; 2]> {
    let below = |section: &'static str| {
        let names = import.tree.below(&[section, KIND]);
        names.into_iter().map(move |name| [section.to_owned(), name])
    };
    below("sources").chain(below("bridges")).collect()
}

/// The type of both.
const KIND: &str = "kafka_consumer";

/// What a rule of the engine publishes anew of a source.
pub(super) fn republished(import: &mut Import, rule: &EngineRule) {
    for from in &rule.select.from {
        let Some((_, source)) = from.split_once("kafka_consumer:") else {
            if !rule.republished.is_empty() {
                let id = &rule.id;
                import.open(format!(
                    "rule `{id}` publishes anew what devices publish: subscribers read Kafka here, let a rule map both"
                ));
            }
            continue;
        };
        let reads = match source_of(import, from, source) {
            Ok(reads) => reads,
            Err(why) => {
                let to: Vec<String> = rule.republished.iter().map(|republish| republish.topic.clone()).collect();
                let to = if to.is_empty() {
                    to.concat()
                } else {
                    format!(" to {}", quoted(&to))
                };
                import.open(format!("rule `{}` (from `{from}`{to}) is not here: {why}", rule.id));
                continue;
            }
        };
        for republish in &rule.republished {
            for topic in &reads.topics {
                match written(import, &rule.id, (topic, reads.encoded), republish) {
                    Ok(made) => import.rules.push(made),
                    Err(why) => import.open(format!("from `{from}` to `{}`: {why}", republish.topic)),
                }
            }
        }
    }
}

/// What a statement names as `from`; each is read once.
fn source_of(import: &mut Import, from: &str, name: &str) -> Result<Reads, String> {
    let known = |section: &str| {
        let is_there = !import.tree.below(&[section, KIND, name]).is_empty();
        is_there || import.sources.contains_key(&[section, KIND, name].join("."))
    };
    let section = if !known("sources") && known("bridges") {
        "bridges"
    } else {
        "sources"
    };
    let path = [section, KIND, name];
    if let Some(known) = import.sources.get(&path.join(".")) {
        return known.clone();
    }
    let reads = if is_off(import, path) {
        Err(format!("`{from}` is read, and switched off"))
    } else {
        reads(import, path)
    };
    if reads.is_err() {
        import.leave_out(&path);
    }
    let reads = reads.and_then(|reads| match reads.topics.as_slice() {
        [] => Err(format!("`{from}` is read, and has no `topic`")),
        _ => Ok(reads),
    });
    import.sources.insert(path.join("."), reads.clone());
    reads
}

fn is_off(import: &mut Import, path: [&str; 3]) -> bool {
    let is_off = import.tree.is_off(&path);
    if is_off {
        import.tree.leave(&path, "it is switched off");
    }
    is_off
}

/// A source, or a bridge, as it is written. Of one that was a bridge before the topics are still those of its list.
fn reads(import: &mut Import, path: [&str; 3]) -> Result<Reads, String> {
    let inner: &[&str] = match import.tree.below(&path) {
        keys if keys.iter().any(|key| key == "parameters") => &["parameters"],
        _ => &[],
    };
    let inner = [&path[..], inner].concat();
    let topic = import.tree.take(&[&inner[..], &["topic"]].concat());
    let encoded = ["key_encoding_mode", "value_encoding_mode"].map(|mode| {
        let mode = import.tree.take(&[&inner[..], &[mode]].concat());
        mode.is_some_and(|mode| mode == "base64")
    });
    let mut mapped = Vec::new();
    let all = [&inner[..], &["topic_mapping"]].concat();
    for number in import.tree.below(&all) {
        let mut take = |key: &str| import.tree.take(&[&all[..], &[&number, key]].concat());
        let [from, to, qos, payload] = ["kafka_topic", "mqtt_topic", "qos", "payload_template"].map(&mut take);
        let republish = Republish {
            topic: to.unwrap_or_default(),
            payload: payload.unwrap_or_else(|| "${.}".to_owned()),
            qos,
            retain: None,
        };
        mapped.push((from.unwrap_or_default(), republish));
    }
    match import.tree.take(&[&path[..], &["connector"]].concat()) {
        Some(connector) => {
            let path = ["connectors", KIND, &connector];
            Connector { path: &path }.is_ours(import)?;
        }
        None if path[0] == "bridges" => Connector { path: &path }.is_ours(import)?,
        None => {}
    }
    let topics = match mapped.as_slice() {
        [] => topic.into_iter().collect(),
        mapped => mapped.iter().map(|(topic, _)| topic.clone()).collect(),
    };
    Ok(Reads { topics, encoded, mapped })
}

/// What sources publish by themselves, without a rule: those that have, or had as bridges, their topics in a list.
pub(super) fn consumers(import: &mut Import, all: &[[String; 2]]) {
    for [section, name] in all {
        let path = [section.as_str(), KIND, name.as_str()];
        let key = path.join(".");
        if !import.sources.contains_key(&key) {
            let has_list = |at: &[&str]| !import.tree.below(&[&path[..], at].concat()).is_empty();
            if !has_list(&["topic_mapping"]) && !has_list(&["parameters", "topic_mapping"]) || is_off(import, path) {
                import.leave_unused(&path);
                continue;
            }
            let read = reads(import, path).map_err(|why| {
                import.open(format!("what `{key}` publishes is not here: {why}"));
                import.leave_out(&path);
            });
            import.sources.insert(key.clone(), read.map_err(|()| String::new()));
        }
        let Some(Ok(reads)) = import.sources.get(&key).cloned() else {
            continue;
        };
        // Without a topic its records are for rules only.
        for (topic, republish) in reads.mapped.iter().filter(|(_, republish)| !republish.topic.is_empty()) {
            match written(import, name, (topic, reads.encoded), republish) {
                Ok(made) => import.rules.push(made),
                Err(why) => import.open(format!("from `{topic}` to `{}`: {why}", republish.topic)),
            }
        }
    }
}

/// A rule as it stands in the file, of a Kafka topic whose keys and values may be given on in base64.
fn written(import: &mut Import, like: &str, (from, [key, value]): (&str, [bool; 2]), republish: &Republish) -> Result<String, String> {
    let (payload, to) = (&republish.payload, &republish.topic);
    if !matches!(payload.as_str(), "${value}" | "${.value}") {
        return Err(format!(
            "the payload `{payload}` is not the record's value: write a `transform_back`"
        ));
    }
    if !is_kafka_topic(from) {
        return Err(format!("`{from}` is no Kafka topic"));
    }
    let is_wild = |piece: &Piece<'_>| matches!(piece, Piece::Text(text) if text.contains(['+', '#']));
    if to.is_empty() || pieces(to).iter().any(is_wild) {
        return Err("that is no topic of a message".to_owned());
    }
    let mqtt = of_record(to)?;
    if key && pieces(to).contains(&Piece::Hole("key")) {
        return Err("`key_encoding_mode` is base64, and a topic has the key as it is: have programs write keys that are levels".to_owned());
    }
    if republish.retain.as_deref() == Some("true") {
        return Err(
            "`retain` is true, and of records only those are retained that a device has published so: let a device publish them".to_owned(),
        );
    }
    if let Some(known) = import.read.get(from) {
        return Err(format!(
            "a record becomes one message here, and those of `{from}` are messages of `{known}` already: let devices subscribe to that, or write \
             such records to a Kafka topic of their own, too"
        ));
    }
    import.read.insert(from.to_owned(), to.clone());
    let qos = republish
        .qos
        .as_deref()
        .filter(|qos| matches!(*qos, "0" | "1" | "2"))
        .unwrap_or("0");
    let name = text(&name(like, &mut import.names));
    let (mqtt, topic) = (text(&mqtt), text(from));
    let value = if value { "value: {format: bytes, payload: text}, " } else { "" };
    import.note("records are not published into a broker, but read by those who subscribe, and by each stored session from where it was");
    Ok(format!(
        "  - {{name: {name}, direction: subscribe, mqtt: {mqtt}, qos: {qos}, {value}kafka: {{topic: {topic}}}}}\n"
    ))
}
