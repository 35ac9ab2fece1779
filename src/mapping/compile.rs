//! From rules as written to rules as meant; every fault of every rule at once.

use rustc_hash::FxHashMap;

use super::fault::{Fault, Field, Wrong};
use super::filter::{Filter, illegal_kafka_char, illegal_kafka_topic};
use super::rules::{From, Part, Rule, RuleSet, Shape, TopicSlot};
use super::spec::{Direction, RuleSpec, Unmapped};
use super::template::{MAX_CAPTURES, Piece, Template, Token, lex};
use super::trie::Trie;
use crate::mqtt::QoS;

/// Faults of one rule while it is compiled.
struct Faults {
    rule: usize,
    list: Vec<Fault>,
}

impl Faults {
    fn add(&mut self, field: Field, at: Option<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        self.list.push(Fault {
            rule: self.rule,
            field,
            at,
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn wrong(&mut self, field: Field, wrong: Wrong) {
        self.add(field, Some(wrong.at), wrong.message, wrong.remedy);
    }
}

impl RuleSet {
    /// Compiles all rules, or tells all that is wrong with any of them.
    pub fn compile(specs: Vec<RuleSpec>, unmapped: Unmapped) -> Result<RuleSet, Vec<Fault>> {
        let mut faults = Faults { rule: 0, list: Vec::new() };
        let mut names: FxHashMap<String, usize> = FxHashMap::default();
        let mut set = RuleSet {
            rules: Vec::new(),
            trie: Trie::new(),
            slots: Vec::new(),
            by_topic: FxHashMap::default(),
            templated: Vec::new(),
            unmapped,
        };
        let mut ordinary = Trie::new();
        let mut places = Vec::new();
        for (i, spec) in specs.into_iter().enumerate() {
            faults.rule = i;
            check_name(&spec.name, &mut names, i, &mut faults);
            let Some(rule) = compile_rule(spec, &mut faults) else { continue };
            if rule.publishes()
                && !rule.also
                && let Some(filter) = rule.filter()
            {
                if let Some(first) = ordinary.covering(filter) {
                    let first = &set.rules[places[first as usize] as usize].name;
                    let remedy = format!("place it before `{first}`, or make it `also: true` or `direction: subscribe`");
                    faults.add(
                        Field::Mqtt,
                        Some(0),
                        format!("never reached: `{first}` before it takes every topic of this filter"),
                        remedy,
                    );
                }
                ordinary.insert(filter, u32::try_from(places.len()).expect("fewer than 2^32 rules"));
                places.push(set.rules.len() as u32);
            }
            set.add(rule);
        }
        if faults.list.is_empty() { Ok(set) } else { Err(faults.list) }
    }

    fn add(&mut self, mut rule: Rule) {
        let id = u32::try_from(self.rules.len()).expect("fewer than 2^32 rules");
        let constant = rule.topic.constant().map(str::to_owned);
        if let Some(topic) = &constant {
            let known = self.slots.iter().position(|slot| slot == topic);
            rule.slot = Some(TopicSlot(known.unwrap_or(self.slots.len()) as u32));
            if known.is_none() {
                self.slots.push(topic.clone());
            }
        }
        // An earlier rule that reads the same Kafka topic would take this rule's records for its own.
        let earlier = match &constant {
            Some(topic) => !self.readers_of(topic).is_empty(),
            None => !self.by_topic.is_empty() || !self.templated.is_empty(),
        };
        rule.topic_header |= earlier;
        if rule.delivers() {
            match constant {
                Some(topic) => self.by_topic.entry(topic).or_default().push(id),
                None => self.templated.push(id),
            }
        }
        if rule.publishes()
            && let Shape::Filter(filter, _) = &rule.shape
        {
            self.trie.insert(filter, id);
        }
        self.rules.push(rule);
    }
}

fn check_name(name: &str, names: &mut FxHashMap<String, usize>, i: usize, faults: &mut Faults) {
    if name.is_empty() {
        faults.add(
            Field::Name,
            None,
            "the rule has no name",
            "give it a name; it is a label of the metrics",
        );
    } else if let Some(first) = names.insert(name.to_owned(), i) {
        faults.add(
            Field::Name,
            Some(0),
            format!("the name `{name}` is taken by rule {}", first + 1),
            "give each rule a name of its own",
        );
    }
}

fn compile_rule(spec: RuleSpec, faults: &mut Faults) -> Option<Rule> {
    let before = faults.list.len();
    let shape = match spec.direction {
        Direction::Subscribe => {
            refuse_publish_keys(&spec, faults);
            record_template(&spec.mqtt, faults).map(Shape::Record)
        }
        _ => match Filter::parse(&spec.mqtt) {
            Ok(filter) => Some(Shape::Filter(filter, Vec::new())),
            Err(list) => {
                list.into_iter().for_each(|wrong| faults.wrong(Field::Mqtt, wrong));
                None
            }
        },
    };
    let filter = match &shape {
        Some(Shape::Filter(filter, _)) => Some(filter),
        _ => None,
    };
    // Without a filter only the syntax of the templates can be told; unknown names would be a second fault for one cause.
    let known = filter.is_some() || spec.direction == Direction::Subscribe;
    let topic = template(&spec.kafka.topic, Field::KafkaTopic, filter, known, faults);
    let key = spec
        .kafka
        .key
        .as_ref()
        .map(|key| template(key, Field::KafkaKey, filter, known, faults));
    let mut headers = Vec::new();
    for (i, (name, text)) in spec.kafka.headers.iter().enumerate() {
        check_header_name(name, i, &spec.kafka.headers, faults);
        headers.push((name.clone(), template(text, Field::HeaderValue(i), filter, known, faults)));
    }
    check_kafka_topic(&topic, &spec.kafka.topic, faults);
    if let Some(filter) = filter {
        check_unused(filter, &topic, key.as_ref(), &headers, faults);
    }
    if faults.list.len() > before {
        return None;
    }
    let mut rule = Rule {
        name: spec.name,
        direction: spec.direction,
        also: spec.also,
        qos: spec.qos.unwrap_or(QoS::ExactlyOnce),
        retain: spec.retain,
        acknowledge: spec.acknowledge.unwrap_or_default(),
        overflow: spec.overflow.unwrap_or_default(),
        on_error: spec.on_error.unwrap_or_default(),
        partition: spec.kafka.partition.unwrap_or_default(),
        tombstones: spec.kafka.tombstones,
        client_header: spec.kafka.client_header.unwrap_or(true),
        topic,
        slot: None,
        key,
        headers,
        shape: shape?,
        topic_header: false,
    };
    plan_inverse(&mut rule);
    Some(rule)
}

fn refuse_publish_keys(spec: &RuleSpec, faults: &mut Faults) {
    let keys = [
        (spec.also, Field::Also, "also"),
        (spec.acknowledge.is_some(), Field::Acknowledge, "acknowledge"),
        (spec.overflow.is_some(), Field::Overflow, "overflow"),
        (spec.on_error.is_some(), Field::OnError, "on_error"),
        (spec.kafka.key.is_some(), Field::KafkaKey, "kafka.key"),
        (spec.kafka.partition.is_some(), Field::KafkaPartition, "kafka.partition"),
        (!spec.kafka.headers.is_empty(), Field::HeaderName(0), "kafka.headers"),
        (spec.kafka.client_header.is_some(), Field::KafkaClientHeader, "kafka.client_header"),
    ];
    for (_, field, name) in keys.into_iter().filter(|(written, ..)| *written) {
        let remedy = format!("leave `{name}` out, or make the rule `direction: publish` or `both`");
        faults.add(
            field,
            None,
            format!("`{name}` says how messages are written, but this rule only reads"),
            remedy,
        );
    }
}

fn check_header_name(name: &str, i: usize, all: &[(String, String)], faults: &mut Faults) {
    if name.is_empty() {
        faults.add(Field::HeaderName(i), Some(0), "the header has no name", "give it a name");
    } else if name.starts_with("mqtt.") {
        let remedy = "choose a name that does not begin with `mqtt.`";
        faults.add(
            Field::HeaderName(i),
            Some(0),
            format!("`{name}`: names with `mqtt.` are the proxy's own"),
            remedy,
        );
    } else if all[..i].iter().any(|(other, _)| other == name) {
        faults.add(
            Field::HeaderName(i),
            Some(0),
            format!("the header `{name}` is named twice"),
            "name each header once",
        );
    }
}

fn check_kafka_topic(topic: &Template, written: &str, faults: &mut Faults) {
    if let Some(name) = topic.constant() {
        if let Some((at, why)) = illegal_kafka_topic(name) {
            let remedy = "1 to 249 of the ASCII letters, digits, `.`, `_` and `-`";
            faults.add(
                Field::KafkaTopic,
                Some(at),
                format!("`{name}` is not a Kafka topic name: {why}"),
                remedy,
            );
        }
        return;
    }
    for piece in &topic.pieces {
        if *piece == Piece::Client {
            let at = written.find("{client}");
            faults.add(
                Field::KafkaTopic,
                at,
                "`{client}` does not choose a Kafka topic",
                "use it in the key or in a header",
            );
        }
        if let Piece::Text(text) = piece
            && let Some(i) = illegal_kafka_char(text)
        {
            let at = written.find(text.as_str()).map(|start| start + i);
            let remedy = "use ASCII letters, digits, `.`, `_` and `-`";
            faults.add(Field::KafkaTopic, at, "a character that no Kafka topic name has", remedy);
        }
    }
}

fn check_unused(filter: &Filter, topic: &Template, key: Option<&Template>, headers: &[(String, Template)], faults: &mut Faults) {
    for (i, (name, at)) in filter.captures.iter().enumerate() {
        let i = u8::try_from(i).expect("at most MAX_CAPTURES");
        let used = topic.uses(i) || key.is_some_and(|key| key.uses(i)) || headers.iter().any(|(_, value)| value.uses(i));
        if !used {
            let wild = if filter.is_rest(i) { "#" } else { "+" };
            let remedy = format!("use it in kafka.topic, key or headers, or write `{wild}` in its place");
            faults.add(Field::Mqtt, Some(*at), format!("no template uses the capture `{{{name}}}`"), remedy);
        }
    }
}

fn template(written: &str, field: Field, filter: Option<&Filter>, known: bool, faults: &mut Faults) -> Template {
    let mut pieces = Vec::new();
    let tokens = lex(written).unwrap_or_else(|wrong| {
        faults.wrong(field, wrong);
        // A literal that is legal anywhere, so that one fault is not told twice.
        vec![Token::Text { at: 0, text: "x".into() }]
    });
    for token in tokens {
        match token {
            Token::Text { text, .. } => pieces.push(Piece::Text(text)),
            Token::Hole { name, rest: false, .. } if name == "client" => pieces.push(Piece::Client),
            Token::Hole { at, name, rest } => match filter.and_then(|filter| filter.capture(&name)) {
                Some(_) if rest => {
                    faults.add(
                        field,
                        Some(at),
                        format!("`{{{name}#}}`: the `#` belongs to the filter"),
                        format!("write `{{{name}}}` here"),
                    );
                }
                Some(i) => pieces.push(Piece::Capture(i)),
                None if known => {
                    let captures = filter.map(|filter| filter.captures.iter().map(|(name, _)| format!("`{{{name}}}`")).collect::<Vec<_>>());
                    let names = captures
                        .filter(|names| !names.is_empty())
                        .map_or("no capture".to_owned(), |names| names.join(", "));
                    let remedy = format!("the filter has {names}; `{{client}}` is the client id in key and headers");
                    faults.add(field, Some(at), format!("`{{{name}}}` is not a capture of `mqtt`"), remedy);
                }
                None => pieces.push(Piece::Text("x".into())),
            },
        }
    }
    Template { pieces }
}

/// Decides from where the way back takes each capture, and whether `mqtt.topic` must be written.
fn plan_inverse(rule: &mut Rule) {
    let Shape::Filter(filter, froms) = &mut rule.shape else { return };
    if rule.key.is_none() {
        froms.push(From::WholeKey);
        return;
    }
    let mut found = [false; MAX_CAPTURES];
    let places = [(From::Topic, Some(&rule.topic)), (From::Key, rule.key.as_ref())].into_iter();
    let headers = rule
        .headers
        .iter()
        .enumerate()
        .map(|(i, (_, value))| (From::Header(i), Some(value)));
    for (from, template) in places.chain(headers) {
        let Some(template) = template.filter(|template| template.is_unambiguous(|i| filter.is_rest(i))) else {
            continue;
        };
        let new: Vec<u8> = (0..filter.captures.len() as u8)
            .filter(|&i| template.uses(i) && !found[usize::from(i)])
            .collect();
        if !new.is_empty() {
            froms.push(from);
            new.into_iter().for_each(|i| found[usize::from(i)] = true);
        }
    }
    rule.topic_header = filter.has_wildcards() || !found[..filter.captures.len()].iter().all(|found| *found);
}

fn record_template(written: &str, faults: &mut Faults) -> Option<Vec<Vec<Part>>> {
    let before = faults.list.len();
    let tokens = lex(written).map_err(|wrong| faults.wrong(Field::Mqtt, wrong)).ok()?;
    let mut levels: Vec<Vec<Part>> = vec![Vec::new()];
    let mut rest_at = None;
    for token in tokens {
        if let Some(at) = rest_at.take() {
            faults.add(
                Field::Mqtt,
                Some(at),
                "something follows the placeholder that takes the rest",
                "`{name#}` stands last",
            );
        }
        match token {
            Token::Text { at, text } => {
                if let Some(i) = text.find(['+', '#', '\0']) {
                    faults.add(
                        Field::Mqtt,
                        Some(at + i),
                        "a topic name has no `+`, `#` or U+0000",
                        "write a placeholder: {key}, {partition}, {topic}, {header.NAME}",
                    );
                }
                for (i, level) in text.split('/').enumerate() {
                    if i > 0 {
                        levels.push(Vec::new());
                    }
                    if !level.is_empty() {
                        levels.last_mut().expect("never empty").push(Part::Text(level.to_owned()));
                    }
                }
            }
            Token::Hole { at, name, rest } => {
                let part = match (name.as_str(), rest) {
                    ("key", rest) => Part::Key { rest },
                    ("partition", false) => Part::Partition,
                    ("topic", false) => Part::Topic,
                    (other, rest) if other.len() > 7 && other.starts_with("header.") => Part::Header {
                        name: other[7..].to_owned(),
                        rest,
                    },
                    _ => {
                        let remedy = "a subscribe rule knows {key}, {partition}, {topic} and {header.NAME}";
                        faults.add(Field::Mqtt, Some(at), format!("`{{{name}}}` is not a placeholder here"), remedy);
                        continue;
                    }
                };
                rest_at = rest.then_some(at);
                levels.last_mut().expect("never empty").push(part);
            }
        }
    }
    if written.is_empty() || written.len() > 65_535 {
        faults.add(Field::Mqtt, Some(0), "not a topic name", "a topic name has 1 to 65,535 bytes");
    }
    (faults.list.len() == before).then_some(levels)
}
