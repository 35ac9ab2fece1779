//! What a rule makes of a payload beside mapping its topic: the format is read, a program runs, and what comes out is written. A rule
//! without any of that has no conversion, and its payloads are never looked at.

use std::sync::Arc;

use super::draft::{Draft, Inbound, Record, RecordValue, Text};
use super::fault::{Faults, Field};
use super::filter::{Filter, illegal_kafka_topic};
use super::format::Format;
use super::headers::{Name, Value as HeaderValue, must_escape};
use super::jq::{Output, Program, Trouble, Value, variables};
use super::restore;
use super::route::RefusalReason;
use super::rules::{Rule, RuleId};
use super::spec::{Direction, RuleSpec};
use super::tables::{Lack, Table};
use super::template::Captured;
use super::topic_captures::known_to_programs;

/// Of one rule.
#[derive(Debug)]
pub(super) struct Conversion {
    /// What devices send and get.
    pub(super) payload: Format,
    /// What lies in Kafka.
    pub(super) value: Format,
    /// `transform` may leave payloads otherwise than they came; one that only chooses among them does not.
    pub(super) reshapes: bool,
    /// Formats are written: what has no program is read and written all the same.
    pub(super) checks: bool,
    /// `transform`.
    pub(super) forth: Option<Program>,
    /// `transform_back`.
    pub(super) back: Option<Program>,
    /// Kafka topics that `forth` may choose, beside the rule's own.
    pub(super) topics: Vec<String>,
    /// Tables that its programs look into.
    pub(super) tables: Vec<(String, Arc<Table>)>,
}

/// A run of a rule's conversion, to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Of which rule.
    pub rule: RuleId,
    /// Steps of the interpreter, some 50 ns each; what a run may take is bounded in them.
    pub steps: u64,
    /// What came of it.
    pub made: Made,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// So many records, at least one.
    Records(usize),
    /// None: the message is not wanted.
    Nothing,
    /// It failed.
    Refused(RefusalReason),
}

/// Names of the variables of `transform`, captures aside.
pub(super) const VARIABLES: [&str; 7] = ["$client", "$identity", "$user", "$now", "$topic", "$qos", "$retain"];

impl Conversion {
    /// The tables, each with whether a program names it, or may choose it.
    pub(super) fn tables_looked_into(&self) -> impl Iterator<Item = (&str, &Arc<Table>, bool)> {
        let may_name = |program: &Program, table: &str| match &program.looks_into {
            Some(named) => named.iter().any(|name| name == table),
            None => true,
        };
        let programs = || self.forth.iter().chain(&self.back);
        let is_used = move |table: &str| programs().any(|program| may_name(program, table));
        self.tables.iter().map(move |(name, table)| (name.as_str(), table, is_used(name)))
    }

    /// Whether payloads are looked into on their way to Kafka.
    pub(super) fn converts(&self) -> bool {
        self.forth.is_some() || self.checks
    }

    /// Makes values of a payload, in order; each is handed to `take` with what its record has beside it.
    pub(super) fn forth(
        &self,
        inbound: &Inbound<'_>,
        filter: &Filter,
        captured: &Captured<'_>,
        mut take: impl FnMut(Output) -> Result<(), Trouble>,
    ) -> (Result<(), Trouble>, u64) {
        let payload = inbound.publish.payload;
        let read = || self.payload.decode(payload);
        match &self.forth {
            Some(program) => program.run(payload.len(), read, |name| variable(name, inbound, filter, captured), take),
            None => (read().and_then(|value| take(Output { value, with: None })), 0),
        }
    }
}

fn variable(name: &str, inbound: &Inbound<'_>, filter: &Filter, captured: &Captured<'_>) -> Value {
    let properties = &inbound.publish.properties;
    match name {
        "$client" => Value::text(inbound.client),
        "$identity" => inbound.identity.map_or(Value::Null, Value::text),
        "$user" => Value::object(
            properties
                .user
                .iter()
                .map(|(name, value)| (name.into(), Value::text(value)))
                .collect(),
        ),
        "$now" => Value::int(inbound.now_ms.into()),
        "$topic" => Value::text(inbound.topic),
        "$qos" => Value::int(inbound.publish.qos as i128),
        "$retain" => Value::Bool(inbound.publish.retain),
        capture => {
            let place = filter.capture(capture.trim_start_matches('$'));
            place
                .and_then(|place| captured[usize::from(place)])
                .map_or(Value::Null, Value::text)
        }
    }
}

impl From<&Trouble> for RefusalReason {
    fn from(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::Unreadable("text") => RefusalReason::NotText,
            Trouble::Unreadable("cbor") => RefusalReason::NotCbor,
            Trouble::Unreadable(_) => RefusalReason::NotJson,
            Trouble::Error(_) => RefusalReason::TransformError,
            Trouble::CutOff => RefusalReason::TransformLimit,
            Trouble::Lacks(Lack::NotRead) => RefusalReason::NoTable,
            Trouble::Lacks(Lack::NoRoom) => RefusalReason::TableFull,
            Trouble::Unwritable(_) => RefusalReason::TransformOutput,
        }
    }
}

/// Compiles what a rule says of its payloads; `None`: nothing, or what is wrong has been told. `of_topic` are the captures of a Kafka topic
/// that is only read.
pub(super) fn conversion(spec: &RuleSpec, of_topic: &Filter, faults: &mut Faults) -> Option<Box<Conversion>> {
    check_topics(spec, faults);
    check_lookup(spec, faults);
    if spec.transform.is_none() && spec.transform_back.is_none() && spec.value.is_none() {
        return None;
    }
    let parsed = match (&spec.mqtt_regex, spec.direction) {
        (_, Direction::Subscribe) => None,
        (Some(expression), _) => Filter::expression(expression).ok(),
        (None, _) => Filter::parse(&spec.mqtt).ok(),
    };
    let before = faults.list.len();
    let filter = parsed.as_ref().or_else(|| known_to_programs(spec, of_topic));
    let (forth, back) = programs(spec, filter, faults);
    let value = spec.value.unwrap_or_default();
    (faults.list.len() == before).then(|| {
        Box::new(Conversion {
            payload: value.payload.unwrap_or_default(),
            value: value.format,
            reshapes: spec.transform.as_deref().is_some_and(|program| !only_chooses(program)),
            checks: spec.value.is_some(),
            forth,
            back,
            topics: spec.kafka.topics.clone(),
            tables: spec.lookup.clone(),
        })
    })
}

/// `transform` and `transform_back`. Without a filter, which could not be read and is told elsewhere, any capture is taken for one.
fn programs(spec: &RuleSpec, filter: Option<&Filter>, faults: &mut Faults) -> (Option<Program>, Option<Program>) {
    let mut compiled = |text: &Option<String>, own: &[&str], field| {
        let text = text.as_deref()?;
        let mut variables: Vec<String> = own.iter().map(|name| (*name).to_owned()).collect();
        match filter {
            Some(filter) => variables.extend(captures(filter)),
            None => variables.extend(dollars(text)),
        }
        let program = Program::compile(text, variables, spec.lookup.clone());
        program
            .map_err(|wrong| wrong.into_iter().for_each(|wrong| faults.wrong(field, wrong)))
            .ok()
    };
    let forth = compiled(&spec.transform, &VARIABLES, Field::Transform);
    let back = compiled(&spec.transform_back, &restore::VARIABLES, Field::TransformBack);
    (forth, back)
}

/// Tells what is wrong with the programs of a rule that is not compiled.
pub(super) fn check_programs(spec: &RuleSpec, filter: Option<&Filter>, faults: &mut Faults) {
    programs(spec, filter, faults);
}

/// Whether a capture's name is one of jq's.
fn is_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The captures of a filter as variables.
fn captures(filter: &Filter) -> impl Iterator<Item = String> {
    let names = filter.captures.iter().filter(|(name, _)| is_name(name));
    names.map(|(name, _)| format!("${name}"))
}

/// Whether a program is `.` or `select(…)`, as far as brackets tell it.
fn only_chooses(program: &str) -> bool {
    let program = program.trim();
    let Some(chosen) = program.strip_prefix("select(") else {
        return program == ".";
    };
    let (mut open, mut in_text, mut escaped) = (1, false, false);
    let end = chosen.find(|c| {
        match c {
            '"' if !escaped => in_text = !in_text,
            '(' if !in_text => open += 1,
            ')' if !in_text => open -= 1,
            _ => {}
        }
        escaped = in_text && c == '\\' && !escaped;
        open == 0
    });
    end.is_some_and(|end| end + 1 == chosen.len())
}

/// The variables that programs name, with their `$`.
pub(super) fn named_in<'s>(programs: impl IntoIterator<Item = &'s String>) -> Vec<String> {
    let of = |program: &String| variables(program).unwrap_or_else(|| dollars(program).collect());
    programs.into_iter().flat_map(of).collect()
}

/// All that looks like a variable of a program.
fn dollars(text: &str) -> impl Iterator<Item = String> {
    let names = text.split('$').skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    names
        .filter(|name| !name.is_empty() && is_name(name))
        .map(|name| format!("${name}"))
}

/// Tables are for programs that look into them.
fn check_lookup(spec: &RuleSpec, faults: &mut Faults) {
    let programs = [&spec.transform, &spec.transform_back];
    let used = programs.into_iter().flatten().any(|program| program.contains("lookup"));
    if !spec.lookup.is_empty() && !used {
        let message = "no program of the rule looks into these tables";
        faults.add(
            Field::Lookup,
            None,
            message,
            "leave `lookup` out, or write `lookup(\"NAME\"; KEY)` in the program",
        );
    }
}

/// The topics that a program may choose.
fn check_topics(spec: &RuleSpec, faults: &mut Faults) {
    for (place, topic) in spec.kafka.topics.iter().enumerate() {
        let field = Field::KafkaTopics(place);
        if let Some((at, why)) = illegal_kafka_topic(topic) {
            let remedy = "write a name without placeholders: 1 to 249 of the ASCII letters, digits, `.`, `_` and `-`";
            faults.add(field, Some(at), why, remedy);
        } else if spec.dead_letter.as_ref() == Some(topic) {
            let message = format!("`{topic}` is the rule's dead letter topic, too");
            faults.add(field, Some(0), message, "give dead letters a topic that no rule writes to");
        }
    }
    let chooses = spec
        .transform
        .as_deref()
        .is_some_and(|program| program.contains("record") && program.contains("topic"));
    if !spec.kafka.topics.is_empty() && !chooses {
        let message = "`kafka.topics` are for a `transform` that chooses, and this rule's does not";
        faults.add(
            Field::KafkaTopics(0),
            None,
            message,
            "leave it out, or write `record({topic: …})` in the program",
        );
    }
}

impl Draft {
    /// Makes records of a payload: as many as its rule's program has outputs. `like` is what they have in common.
    pub(super) fn convert(
        &mut self,
        conversion: &Conversion,
        rule: &Rule,
        like: &Record,
        inbound: &Inbound<'_>,
        filter: &Filter,
        captured: &Captured<'_>,
    ) -> Result<(), RefusalReason> {
        let (before, id) = (self.records.len(), like.rule());
        let (outcome, steps) = conversion.forth(inbound, filter, captured, |output| {
            self.take(&output, conversion, rule, like, inbound)
        });
        let made = match &outcome {
            Ok(()) if self.records.len() == before => Made::Nothing,
            Ok(()) => Made::Records(self.records.len() - before),
            Err(trouble) => Made::Refused(trouble.into()),
        };
        self.ran.push(Ran { rule: id, steps, made });
        outcome.map_err(|trouble| {
            self.records.truncate(before);
            let reason = RefusalReason::from(&trouble);
            self.trouble = trouble.words();
            reason
        })
    }

    fn take(&mut self, output: &Output, conversion: &Conversion, rule: &Rule, like: &Record, inbound: &Inbound<'_>) -> Result<(), Trouble> {
        let start = self.values.len();
        conversion.value.encode(&output.value, &mut self.values)?;
        let mut record = like.clone();
        record.value = RecordValue::Own(start..self.values.len());
        for (name, value) in output.with.iter().flatten() {
            match (&**name, value) {
                ("topic", Value::Text(topic)) => self.choose_topic(&mut record, topic, rule, inbound)?,
                ("key", Value::Text(key)) if rule.chooses_keys() => {
                    let start = self.text.len();
                    self.text.push_str(key);
                    record.key = Text::Own(start..self.text.len());
                }
                ("headers", Value::Object(headers)) => self.add_headers(&mut record, headers.names_and_values(), rule)?,
                ("key", Value::Text(_)) => return Err(unfit(NO_KEY.to_owned())),
                ("topic" | "key", value) => return Err(not_a_string(name, value)),
                ("headers", value) => return Err(unfit(format!("`headers` of a record are an object, and not a {}", value.kind()))),
                _ => return Err(unfit(format!("a record has `topic`, `key` and `headers`, and no `{name}`"))),
            }
        }
        self.records.push(record);
        Ok(())
    }

    /// Only what the rule names: nothing that a device sends leads elsewhere.
    fn choose_topic(&self, record: &mut Record, topic: &str, rule: &Rule, inbound: &Inbound<'_>) -> Result<(), Trouble> {
        let own = match rule.kafka_topic() {
            Some(own) => own == topic,
            None => self.text_of(record) == topic,
        };
        record.chosen = rule.topics().iter().position(|known| known == topic);
        if own || record.chosen.is_some() {
            return Ok(());
        }
        let (name, from) = (&rule.name, inbound.topic);
        Err(unfit(format!(
            "rule `{name}` may not write to `{topic}` (of `{from}`): `kafka.topics` names what it may choose"
        )))
    }

    fn add_headers<'v>(
        &mut self,
        record: &mut Record,
        more: impl Iterator<Item = (&'v str, &'v Value)>,
        rule: &Rule,
    ) -> Result<(), Trouble> {
        let start = self.headers.len();
        self.headers.extend_from_within(record.headers.clone());
        for (name, value) in more {
            if name.is_empty() || must_escape(name, rule) {
                return Err(unfit(format!("the header `{name}` is not for a program to write")));
            }
            let at = self.text.len();
            self.text.push_str(name);
            let end = self.text.len();
            match value {
                Value::Text(value) => self.text.push_str(value),
                Value::Int(_) | Value::Float(_) | Value::Bool(_) => self.text.push_str(&value.to_json()),
                other => {
                    return Err(unfit(format!(
                        "the header `{name}` is a string, a number or a truth value, and not a {}",
                        other.kind()
                    )));
                }
            }
            self.headers
                .push((Name::Own(at, end), HeaderValue::Text(Text::Own(end..self.text.len()))));
        }
        record.headers = start..self.headers.len();
        Ok(())
    }
}

const NO_KEY: &str = "a program that gives a record a `key` has that word in it: `record({key: …})`";

fn not_a_string(name: &str, value: &Value) -> Trouble {
    let remedy = "put `tostring` behind it, if the field is there that it is made of";
    unfit(format!("`{name}` of a record is a string, and not a {}: {remedy}", value.kind()))
}

fn unfit(why: String) -> Trouble {
    Trouble::Unwritable(why)
}
