//! Sources that read Kafka, and the topics that their records are published to.

use super::Import;
use super::connector::Connector;
use super::engine::{EngineRule, Republish};
use super::template::{Piece, of_record, pieces};
use crate::import::{naming::name, yaml::text};

/// What a source reads.
#[derive(Clone)]
pub(super) struct Reads {
    topic: String,
    /// Whether rules are given keys and values in base64.
    encoded: [bool; 2],
}

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
        let known = import.sources.get(source).cloned();
        let reads = known.unwrap_or_else(|| reads(import, from, source));
        import.sources.insert(source.to_owned(), reads.clone());
        let reads = match reads {
            Ok(reads) => reads,
            Err(why) => {
                import.open(why);
                continue;
            }
        };
        for republish in &rule.republished {
            match written(import, &rule.id, &reads, republish) {
                Ok(made) => import.rules.push(made),
                Err(why) => import.open(format!("from `{from}` to `{}`: {why}", republish.topic)),
            }
        }
    }
}

/// A source, as it is written; `from` is how a statement names it.
fn reads(import: &mut Import, from: &str, source: &str) -> Result<Reads, String> {
    let path = ["sources", "kafka_consumer", source];
    if import.tree.take(&[&path[..], &["enable"]].concat()).is_some_and(|on| on == "false") {
        import.tree.leave(&path, "it is switched off");
        return Err(format!("`{from}` is read, and switched off"));
    }
    let inner = [&path[..], &["parameters"]].concat();
    let topic = import.tree.take(&[&inner[..], &["topic"]].concat());
    let topic = topic.ok_or_else(|| format!("`{from}` is read, and has no `topic`"))?;
    let encoded = encoded(import, &inner);
    if let Some(connector) = import.tree.take(&[&path[..], &["connector"]].concat()) {
        let path = ["connectors", "kafka_consumer", &connector];
        Connector { path: &path }.is_ours(import)?;
    }
    Ok(Reads { topic, encoded })
}

/// Whether keys and values are given on in base64.
fn encoded(import: &mut Import, path: &[&str]) -> [bool; 2] {
    ["key_encoding_mode", "value_encoding_mode"].map(|mode| {
        let mode = import.tree.take(&[path, &[mode]].concat());
        mode.is_some_and(|mode| mode == "base64")
    })
}

/// The bridges that had their topics in a list.
pub(super) fn consumers(import: &mut Import) {
    for bridge in import.tree.below(&["bridges", "kafka_consumer"]) {
        let path = ["bridges", "kafka_consumer", &bridge];
        if import.tree.take(&[&path[..], &["enable"]].concat()).is_some_and(|on| on == "false") {
            import.tree.leave(&path, "it is switched off");
            continue;
        }
        if let Err(why) = (Connector { path: &path }).is_ours(import) {
            import.open(why);
            continue;
        }
        let encoded = encoded(import, &path);
        let all = [&path[..], &["topic_mapping"]].concat();
        for number in import.tree.below(&all) {
            let mut take = |key: &str| import.tree.take(&[&all[..], &[&number, key]].concat());
            let [from, to, qos, payload] = ["kafka_topic", "mqtt_topic", "qos", "payload_template"].map(&mut take);
            let topic = from.unwrap_or_default();
            let (reads, to) = (Reads { topic, encoded }, to.unwrap_or_default());
            let republish = Republish {
                topic: to,
                payload: payload.unwrap_or_default(),
                qos,
                retain: None,
            };
            match written(import, &bridge, &reads, &republish) {
                Ok(made) => import.rules.push(made),
                Err(why) => import.open(format!("from `{}` to `{}`: {why}", reads.topic, republish.topic)),
            }
        }
    }
}

/// A rule as it stands in the file.
fn written(import: &mut Import, like: &str, reads: &Reads, republish: &Republish) -> Result<String, String> {
    let (payload, to) = (&republish.payload, &republish.topic);
    if !matches!(payload.as_str(), "${value}" | "${.value}") {
        return Err(format!(
            "the payload `{payload}` is not the record's value: write a `transform_back`"
        ));
    }
    let mqtt = of_record(to)?;
    let [key, value] = reads.encoded;
    if key && pieces(to).contains(&Piece::Hole("key")) {
        return Err("`key_encoding_mode` is base64, and a topic has the key as it is: have programs write keys that are levels".to_owned());
    }
    if republish.retain.as_deref() == Some("true") {
        return Err(
            "`retain` is true, and of records only those are retained that a device has published so: let a device publish them".to_owned(),
        );
    }
    let qos = republish
        .qos
        .as_deref()
        .filter(|qos| matches!(*qos, "0" | "1" | "2"))
        .unwrap_or("0");
    let name = text(&name(like, &mut import.names));
    let (mqtt, topic) = (text(&mqtt), text(&reads.topic));
    let value = if value { "value: {format: bytes, payload: text}, " } else { "" };
    import.note("records are not published into a broker, but read by those who subscribe, and by each stored session from where it was");
    Ok(format!(
        "  - {{name: {name}, direction: subscribe, mqtt: {mqtt}, qos: {qos}, {value}kafka: {{topic: {topic}}}}}\n"
    ))
}
