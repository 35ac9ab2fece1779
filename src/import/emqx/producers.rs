//! Actions that write to Kafka, and the topics that come to them.

use std::collections::HashMap;
use std::fmt::Write;

use super::connector::Connector;
use super::engine::{EngineRule, quoted, rules};
use super::filters::{covering, meet};
use super::sql::Select;
use super::template::{Piece, literal, of_message, pieces};
use super::{Import, consumers};
use crate::import::{naming::name, yaml::text};

/// An action, as it is written.
#[derive(Clone)]
struct Action {
    path: String,
    topic: String,
    key: String,
    value: String,
    timestamp: String,
    acks: Option<&'static str>,
    compression: Option<String>,
    partition: &'static str,
    headers: Vec<(String, String)>,
}

/// Makes the rules of all that send to Kafka, and of those that get from it.
pub(super) fn producers(import: &mut Import) {
    let mut read: HashMap<[String; 3], Result<Action, String>> = HashMap::new();
    let bridges = bridges(import);
    for rule in rules(import) {
        for at in &rule.actions {
            match known(import, &mut read, at) {
                Ok(action) => all_topics(import, &rule, &action),
                Err(why) => not_here(import, &rule, at, &why),
            }
        }
        consumers::republished(import, &rule);
    }
    for rule in bridges {
        let at = ["bridges", "kafka", &rule.id].map(str::to_owned);
        match known(import, &mut read, &at) {
            Ok(action) => all_topics(import, &rule, &action),
            Err(why) => not_here(import, &rule, &at, &why),
        }
    }
    for [section, kind] in [["actions", "kafka_producer"], ["bridges", "kafka"]] {
        for name in import.tree.below(&[section, kind]) {
            let path = [section, kind, &name];
            if !read.contains_key(&path.map(str::to_owned)) {
                import.leave_unused(&path);
            }
        }
    }
    if !import.rules.is_empty() {
        import.note("a PUBLISH is acknowledged when Kafka has its records, not before");
    }
}

/// Bridges that name their topics themselves, as rules.
fn bridges(import: &mut Import) -> Vec<EngineRule> {
    let mut rules = Vec::new();
    for id in import.tree.below(&["bridges", "kafka"]) {
        let path = ["bridges", "kafka", &id];
        let mut take = |key: &[&str]| import.tree.take(&[&path[..], key].concat()).filter(|topic| !topic.is_empty());
        // By the release that has written it; without one only rules send to it.
        let Some(filter) = take(&["local_topic"]).or_else(|| take(&["producer", "mqtt", "topic"])) else {
            continue;
        };
        let (fields, from) = (None, vec![filter]);
        rules.push(EngineRule {
            id,
            select: Select { fields, from },
            actions: vec![],
            republished: vec![],
        });
    }
    rules
}

/// An action that several may send to, and that is read once.
fn known(import: &mut Import, read: &mut HashMap<[String; 3], Result<Action, String>>, at: &[String; 3]) -> Result<Action, String> {
    let known = read.entry(at.clone());
    let path = [at[0].as_str(), &at[1], &at[2]];
    let made = || match action(import, &path) {
        Ok(action) => {
            fallback(import, &path);
            Ok(action)
        }
        Err(why) => {
            import.leave_out(&path);
            Err(why)
        }
    };
    known.or_insert_with(made).clone()
}

/// What a rule sends there is acknowledged here unless another rule takes it: it is told with its filters.
fn not_here(import: &mut Import, rule: &EngineRule, at: &[String; 3], why: &str) {
    let (id, filters) = (&rule.id, quoted(&rule.select.from));
    import.open(format!("rule `{id}` ({filters} to `{}`) is not here: {why}", at.join(".")));
}

/// Where a message goes that Kafka does not take.
fn fallback(import: &mut Import, path: &[&str]) {
    let all = [path, &["fallback_actions"]].concat();
    let mut others = Vec::new();
    for number in import.tree.below(&all) {
        let mut take = |key: &str| import.tree.take(&[&all[..], &[&number, key]].concat());
        let [kind, of, name] = ["kind", "type", "name"].map(&mut take);
        others.push(match (of, name) {
            (Some(of), Some(name)) => format!("{of}:{name}"),
            _ => kind.unwrap_or_default(),
        });
    }
    if !others.is_empty() {
        import.leave_out(&all);
        let (all, others) = (all.join("."), quoted(&others));
        import.open(format!(
            "{all} ({others}): there gets a message that Kafka does not take, and here its device is refused: `on_error` of the rule may do otherwise, see proxy.yaml"
        ));
    }
}

fn action(import: &mut Import, path: &[&str]) -> Result<Action, String> {
    let name = path.join(".");
    if import.tree.below(path).is_empty() {
        return Err(format!("`{name}` is sent to, and not there"));
    }
    if import.tree.is_off(path) {
        import.tree.leave(path, "it is switched off");
        return Err(format!("`{name}` is sent to, and switched off"));
    }
    match import.tree.take(&[path, &["connector"]].concat()) {
        Some(connector) => {
            let path = ["connectors", "kafka_producer", &connector];
            Connector { path: &path }.is_ours(import)?;
        }
        None => Connector { path }.is_ours(import)?,
    }
    // By the release that has written it.
    let inner: &[&str] = match import.tree.below(path) {
        keys if keys.iter().any(|key| key == "parameters") => &["parameters"],
        keys if keys.iter().any(|key| key == "producer") => &["producer", "kafka"],
        _ => &["kafka"],
    };
    let mut take = |key: &[&str]| import.tree.take(&[path, inner, key].concat());
    let topic = take(&["topic"]).ok_or_else(|| format!("`{name}` has no `topic`"))?;
    let or = |text: Option<String>, default: &str| text.unwrap_or_else(|| default.to_owned());
    let (key, value) = (
        or(take(&["message", "key"]), "${clientid}"),
        or(take(&["message", "value"]), "${.}"),
    );
    let timestamp = or(take(&["message", "timestamp"]), "${timestamp}");
    let acks = match take(&["required_acks"]).as_deref() {
        Some("leader_only") => Some("leader"),
        Some("none") => Some("none"),
        _ => None,
    };
    let compression = take(&["compression"]).map(|codec| codec.replace("no_compression", "none"));
    let by_key = take(&["partition_strategy"]).is_some_and(|strategy| strategy == "key_dispatch");
    let of_user = take(&["kafka_headers"]);
    let mut headers = Vec::new();
    let all = [path, inner, &["kafka_ext_headers"]].concat();
    for number in import.tree.below(&all) {
        let mut take = |key: &str| import.tree.take(&[&all[..], &[&number, key]].concat());
        let (key, value) = (take("kafka_ext_header_key"), take("kafka_ext_header_value"));
        headers.push((key.unwrap_or_default(), value.unwrap_or_default()));
    }
    if by_key {
        import.note("a key has another partition than there: it is murmur2 of it, as with Kafka's Java client");
    }
    if of_user.is_some() {
        import.note("user properties are headers of records in any case; of `kafka_headers` nothing else is");
    }
    Ok(Action {
        path: name,
        topic,
        key,
        value,
        timestamp,
        acks,
        compression,
        partition: if by_key { "hash" } else { "sticky" },
        headers,
    })
}

/// A rule of the engine does a thing once for a message, however many of its filters match.
fn all_topics(import: &mut Import, rule: &EngineRule, action: &Action) {
    let mut siblings: Vec<(&str, bool)> = Vec::new();
    for filter in needed(import, rule, action) {
        // Of ordinary rules one takes a message; so siblings do no more than there, unless one of them is a copy.
        let of_others = |known: &&String| !siblings.iter().any(|(own, also)| !also && own == known);
        let also = import.filters.iter().filter(of_others).any(|known| meet(known, filter));
        match written(import, rule, action, (filter, also)) {
            Ok(written) => {
                let doubled = siblings.iter().find(|(own, copy)| (also || *copy) && meet(own, filter));
                if let Some((other, _)) = doubled {
                    let (id, path) = (&rule.id, &action.path);
                    import.open(format!(
                        "rule `{id}`: what both `{other}` and `{filter}` match goes to `{path}` twice, and there once: write filters that have nothing in common"
                    ));
                }
                if !also {
                    import.filters.push(filter.to_owned());
                }
                siblings.push((filter, also));
                import.rules.push(written);
            }
            Err(why) => import.open(format!("from `{filter}` to `{}`: {why}", action.path)),
        }
    }
}

/// The filters of a rule without those that match nothing of their own; which these are is told.
fn needed<'r>(import: &mut Import, rule: &'r EngineRule, action: &Action) -> Vec<&'r str> {
    let all: Vec<&str> = rule.select.from.iter().map(String::as_str).collect();
    // One that no rule can be made of takes nothing from others.
    let (made, others): (Vec<&str>, Vec<&str>) = all
        .into_iter()
        .partition(|filter| !is_event(filter) && behind_group(filter).is_none() && kafka_topic(&action.topic, filter).is_ok());
    let mut needed = Vec::new();
    for (at, filter) in made.iter().enumerate() {
        match covering(&made, at) {
            Some(wide) => {
                let id = &rule.id;
                import.note(&format!(
                    "rule `{id}`: all that `{filter}` matches `{wide}` does, too, and EMQX does what a rule says once for a message"
                ));
            }
            None => needed.push(*filter),
        }
    }
    needed.extend(others);
    needed
}

/// Whether what a statement names is no filter of topics.
fn is_event(from: &str) -> bool {
    ["$events/", "$bridges/", "$sources/"].iter().any(|begin| from.starts_with(begin))
}

/// The filter of a shared subscription.
fn behind_group(from: &str) -> Option<&str> {
    let of_group = from.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    of_group.map(|(_, filter)| filter).or_else(|| from.strip_prefix("$queue/"))
}

/// A rule as it stands in the file, for a filter, with whether it is a copy.
fn written(import: &mut Import, rule: &EngineRule, action: &Action, (filter, also): (&str, bool)) -> Result<String, String> {
    if is_event(filter) {
        return Err("it is no topic that devices publish to".to_owned());
    }
    if let Some(filter) = behind_group(filter) {
        return Err(format!(
            "rules see what is published, and no device publishes to a shared subscription, so it matches nothing there either: is `{filter}` meant?"
        ));
    }
    let select = &rule.select;
    for piece in [&action.topic, &action.key, &action.value]
        .into_iter()
        .flat_map(|template| pieces(template))
    {
        if let Piece::Hole(path) = piece
            && !path.is_empty()
            && !select.has(path)
        {
            return Err(format!("`{path}` is not selected"));
        }
    }
    let (mqtt, topic) = kafka_topic(&action.topic, filter)?;
    let mut kafka = format!("topic: {}", text(&topic));
    if action.key != "${topic}" && action.key != "${.topic}" {
        write!(kafka, ", key: {}", text(&of_message(&action.key)?)).expect("a String takes all");
    }
    write!(kafka, ", partition: {}", action.partition).expect("a String takes all");
    let timestamp = of_message(&action.timestamp)?;
    if timestamp != "{now}" {
        write!(kafka, ", timestamp: {}", text(&timestamp)).expect("a String takes all");
    }
    if let Some(acks) = action.acks {
        write!(kafka, ", acks: {acks}").expect("a String takes all");
    }
    if let Some(compression) = &action.compression {
        write!(kafka, ", compression: {compression}").expect("a String takes all");
    }
    let header = |(name, value): &(String, String)| Ok(format!("{}: {}", text(name), text(&of_message(value)?)));
    let headers = action.headers.iter().map(header).collect::<Result<Vec<_>, String>>()?;
    if !headers.is_empty() {
        write!(kafka, ", headers: {{{}}}", headers.join(", ")).expect("a String takes all");
    }
    let value = value(import, select, &action.value)?;
    what_may_be_refused(import, select, action);
    let also = if also { "also: true, " } else { "" };
    let name = text(&name(&rule.id, &mut import.names));
    Ok(format!(
        "  - {{name: {name}, direction: publish, {also}mqtt: {}, {value}kafka: {{{kafka}}}}}\n",
        text(&mqtt)
    ))
}

/// Tells of placeholders that a message may have nothing for: there it is stored all the same.
fn what_may_be_refused(import: &mut Import, select: &Select, action: &Action) {
    if matches!(pieces(&action.value).as_slice(), [Piece::Hole("")]) && select.has("payload") {
        import.note(
            "a message is refused if its payload is no UTF-8 where the event `${.}` is written, which is JSON: for other payloads write \
             `value: {format: json, payload: bytes}`, and programs have them in base64",
        );
    }
    let headers = action.headers.iter().map(|(_, value)| value);
    let templates = [&action.key, &action.timestamp].into_iter().chain(headers);
    for piece in templates.flat_map(|template| pieces(template)) {
        match piece {
            Piece::Hole("username") => import.note(
                "`{identity}` is who a client was recognised as: configure `authentication`; a message of a client without one is refused, where EMQX stores it",
            ),
            Piece::Hole(path) if path.starts_with("payload.") => import.note(
                "a message is refused if its payload is no JSON or lacks the field of a `{payload.…}`, where EMQX stores it",
            ),
            Piece::Hole(_) | Piece::Text(_) => {}
        }
    }
}

/// The filter and the Kafka topic of a rule. A Kafka topic has no `/`, so the MQTT topic is one only where it has one level.
fn kafka_topic(template: &str, filter: &str) -> Result<(String, String), String> {
    let (mut topic, mut mqtt) = (String::new(), literal(filter));
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => topic.push_str(&literal(text)),
            Piece::Hole("topic") if filter == "+" => {
                topic.push_str("{level}");
                mqtt = "{level}".to_owned();
            }
            Piece::Hole("topic") if is_kafka_topic(filter) => topic.push_str(filter),
            Piece::Hole("topic") => return Err(format!("`${{topic}}` is no Kafka topic where `{filter}` has several levels")),
            Piece::Hole(path) => return Err(format!("`${{{path}}}` does not choose a Kafka topic: a filter with captures may")),
        }
    }
    Ok((mqtt, topic))
}

pub(super) fn is_kafka_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name.chars().all(legal) && name != "." && name != ".."
}

/// What stands in front of `kafka` for a value that is not the payload as it came.
fn value(import: &mut Import, select: &Select, template: &str) -> Result<String, String> {
    match pieces(template).as_slice() {
        [Piece::Hole("payload")] => return Ok(String::new()),
        [Piece::Hole("")] => {}
        _ => {
            return Err(format!(
                "the value `{template}` is neither the payload nor all that is selected: write a `transform`"
            ));
        }
    }
    let all = ["clientid", "username", "topic", "qos", "flags", "payload", "timestamp"].map(str::to_owned);
    let fields = select.fields.as_deref().unwrap_or(&all);
    let field = |name: &String| match name.as_str() {
        "clientid" => Ok("clientid: $client"),
        "username" => Ok("username: $identity"),
        "topic" => Ok("topic: $topic"),
        "qos" => Ok("qos: $qos"),
        "flags" => Ok("flags: {retain: $retain, dup: false}"),
        "payload" => Ok("payload: ."),
        "timestamp" => Ok("timestamp: $now"),
        other => Err(format!("`{other}` is not known to programs")),
    };
    let fields = fields.iter().map(field).collect::<Result<Vec<_>, String>>()?;
    if select.fields.is_none() {
        import.note(
            "of the event `${.}` a record has clientid, username, topic, qos, flags, payload and timestamp; the rest is not known here",
        );
    }
    let program = text(&format!("{{{}}}", fields.join(", ")));
    Ok(format!("transform: {program}, value: {{format: json, payload: text}}, "))
}
