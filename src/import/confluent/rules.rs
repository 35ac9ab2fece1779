//! `topic.regex.list`: pairs of a Kafka topic and an expression, `TOPIC:EXPRESSION`, with commas between.

use std::collections::HashSet;
use std::fmt::Write;

use super::{
    Import,
    producer::{acks, partition},
};
use crate::import::{
    expression::rust,
    naming::name,
    yaml::{comment, text},
};

const NO_LIST: &str = "there is no `topic.regex.list`; give the `kafka-mqtt.properties` of a Confluent MQTT Proxy, or a file with the `KAFKA_MQTT_*` \
                       variables of its image: one a line, or as a compose file, a script with `docker run -e`, or the `env` of a manifest of Kubernetes has \
                       them";

/// `rules`, with what becomes of topics that none maps.
pub(super) fn rules(import: &mut Import) -> Result<String, String> {
    let list = import.take("topic.regex.list");
    // What was not read may be what is missing.
    let list = list.ok_or_else(|| {
        [NO_LIST]
            .into_iter()
            .chain(import.open.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    let more = more(import);
    let mut out = String::from("rules:\n");
    let (mut names, mut seen) = (HashSet::new(), HashSet::new());
    let mut takes_all = false;
    let mut written = 0;
    for pair in pairs(&list.value) {
        let Some((topic, expression)) = pair.split_once(':') else {
            import
                .open
                .push(format!("{}: `{pair}` is no pair of a Kafka topic and an expression", list.place()));
            continue;
        };
        let (topic, expression) = (topic.trim(), expression.trim());
        let is_all = expression == ".*";
        if takes_all || !seen.insert(expression.to_owned()) {
            out.push_str(&comment(&format!(
                "{topic}:{expression} is never reached: what it takes goes to one before it."
            )));
            continue;
        }
        takes_all |= is_all;
        let mqtt = match rust(expression) {
            Ok(_) if is_all => "mqtt: \"#\"".to_owned(),
            Ok((expression, notes)) => {
                for note in notes {
                    if !import.notes.iter().any(|known| known == note) {
                        import.notes.push(note.to_owned());
                    }
                }
                format!("mqtt_regex: {}", text(&expression))
            }
            Err(why) => {
                import
                    .open
                    .push(format!("{}: the expression `{expression}` of `{topic}`: {why}", list.place()));
                continue;
            }
        };
        let name = text(&name(topic, &mut names));
        let kafka = format!("{{topic: {}{more}}}", text(&topic.replace('{', "{{").replace('}', "}}")));
        writeln!(out, "  - {{name: {name}, direction: publish, {mqtt}, kafka: {kafka}}}").expect("a String takes all");
        written += 1;
    }
    if written == 0 {
        return Err(format!("no rule can be made of `topic.regex.list`: {}", import.open.join("; ")));
    }
    import
        .notes
        .push("topics that begin with `$` are taken only by an expression whose first level is written out".to_owned());
    out.push_str(
        "\n# As there: what no expression matches is acknowledged and stored nowhere, and a SUBSCRIBE is granted, though nothing comes.\n",
    );
    out.push_str("# `reject` tells the devices.\nunmapped: drop\n");
    Ok(out)
}

/// What all rules have beside their Kafka topic.
fn more(import: &mut Import) -> String {
    let partition = partition(import).map(|partition| format!(", partition: {partition}"));
    let acks = acks(import).map(|acks| format!(", acks: {acks}"));
    [partition, acks].into_iter().flatten().collect()
}

/// The pairs: a comma in an expression belongs to it, unless what looks like a Kafka topic and a colon follows.
fn pairs(list: &str) -> Vec<String> {
    let mut pairs: Vec<String> = Vec::new();
    for piece in list.split(',') {
        let begins = piece.split_once(':').is_some_and(|(topic, _)| {
            let topic = topic.trim();
            !topic.is_empty() && topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        });
        match pairs.last_mut() {
            Some(last) if !begins => {
                last.push(',');
                last.push_str(piece);
            }
            _ => pairs.push(piece.to_owned()),
        }
    }
    pairs
        .iter()
        .map(|pair| pair.trim().to_owned())
        .filter(|pair| !pair.is_empty())
        .collect()
}
