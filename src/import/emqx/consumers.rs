//! Sources that read Kafka, and the topics that their records are published to.

use super::Import;
use super::connector::Connector;
use super::engine::EngineRule;
use super::template::of_record;
use crate::import::{naming::name, yaml::text};

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
        let path = ["sources", "kafka_consumer", source];
        let topic = import.tree.take(&[&path[..], &["parameters", "topic"]].concat());
        let topic = topic.or_else(|| import.topics.get(source).cloned());
        let Some(topic) = topic else {
            import.open(format!("`{from}` is read, and has no `topic`"));
            continue;
        };
        import.topics.insert(source.to_owned(), topic.clone());
        let connector = import.tree.take(&[&path[..], &["connector"]].concat());
        let connector = connector.map_or(Ok(()), |connector| {
            let path = ["connectors", "kafka_consumer", &connector];
            Connector { path: &path }.is_ours(import)
        });
        if let Err(why) = connector {
            import.open(why);
            continue;
        }
        for republish in &rule.republished {
            let made = written(
                import,
                &rule.id,
                &topic,
                &republish.topic,
                republish.qos.as_deref(),
                &republish.payload,
            );
            match made {
                Ok(made) => import.rules.push(made),
                Err(why) => import.open(format!("from `{from}` to `{}`: {why}", republish.topic)),
            }
        }
    }
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
        let all = [&path[..], &["topic_mapping"]].concat();
        for number in import.tree.below(&all) {
            let mut take = |key: &str| import.tree.take(&[&all[..], &[&number, key]].concat()).unwrap_or_default();
            let [from, to, qos, payload] = ["kafka_topic", "mqtt_topic", "qos", "payload_template"].map(&mut take);
            match written(import, &bridge, &from, &to, Some(&qos), &payload) {
                Ok(made) => import.rules.push(made),
                Err(why) => import.open(format!("from `{from}` to `{to}`: {why}")),
            }
        }
    }
}

/// A rule as it stands in the file.
fn written(import: &mut Import, like: &str, topic: &str, to: &str, qos: Option<&str>, payload: &str) -> Result<String, String> {
    if !matches!(payload, "${value}" | "${.value}") {
        return Err(format!(
            "the payload `{payload}` is not the record's value: write a `transform_back`"
        ));
    }
    let mqtt = of_record(to)?;
    let qos = qos.filter(|qos| matches!(*qos, "0" | "1" | "2")).unwrap_or("0");
    let name = text(&name(like, &mut import.names));
    let (mqtt, topic) = (text(&mqtt), text(topic));
    import.note("records are not published into a broker, but read by those who subscribe, and by each stored session from where it was");
    Ok(format!(
        "  - {{name: {name}, direction: subscribe, mqtt: {mqtt}, qos: {qos}, kafka: {{topic: {topic}}}}}\n"
    ))
}
