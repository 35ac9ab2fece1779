//! Rules of all kinds, as they stand in a file, with names and texts that mean something to templates, expressions, programs, YAML or URLs: what is
//! published comes back from its record, and published again it makes the same records.

#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use mqtt_kafka_proxy::config;
use mqtt_kafka_proxy::mapping::{
    Draft, Field, Inbound, LocateScratch, NoRoute, PartitionChoice, RefusalReason, Restored, RuleSet, Skip, SkipReason, Stored,
};
use mqtt_kafka_proxy::mqtt::properties::UserProperties;
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};
use proptest::option::{self, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::{Value as Json, json};

const HEAD: &str = r#"listeners: [{name: tcp, address: "0.0.0.0:1883", protocol: mqtt}]
kafka: {bootstrap_servers: ["localhost:9092"]}
rules:
"#;
/// The rule whose messages are looked at.
const NAME: &str = "main: 'rule' #1";
const PARTITIONS: u32 = 20;
const NOW: i64 = 1_300_000_000_000;

/// Levels and texts that are something else to somebody: all but those of MQTT itself.
const SPECIAL: [&str; 32] = [
    "a", "", "-", "{", "}", "{x}", "{{", "}}", "${", "${HOME}", "$x", "$$", "%", "%2F", "%7B", "\\", "\\d", ".*", "[", "(?", "|", "^", "'",
    "\"", ": ", " ", "~", "null", "*a", "&a", "ü", "🦀",
];
/// Of Kafka topics.
const LEGAL: [&str; 6] = ["a", "7", "a-b", "..", "_x", "-"];
const NUMBERS: [&str; 4] = ["0", "1", "7", "19"];
const TIMES: [&str; 4] = ["0", "1200000000000", "2001-02-03T04:05:06Z", "2001-02-03T04:05:06.789Z"];
const HEADERS: [&str; 5] = ["h", "{x}", "a: 'b'", "ü %41", "user.u"];
/// What stands beside captures in keys and headers: alone, or beside each other.
const HOLES: [&str; 8] = [
    "{client}",
    "{identity}",
    "{now}",
    "{now.iso}",
    "{now.date}",
    "{user.u}",
    "{payload.p}",
    "{payload.o.t}",
];

/// Where a capture goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goes {
    Topic,
    Key,
    Header,
    Partition,
    Timestamp,
    Program,
}

/// A level of the rule's filter, with what a message has there.
#[derive(Clone, Debug)]
enum Level {
    Text(&'static str),
    One(Goes, &'static str),
    Wild(&'static str),
}

/// What takes the rest of a topic, and what that is.
#[derive(Clone, Debug)]
struct Tail {
    goes: Option<Goes>,
    rest: Option<&'static str>,
}

/// A rule with the topic of a message to it.
#[derive(Clone, Debug)]
struct Case {
    rule: Json,
    topic: String,
    kinds: Vec<&'static str>,
}

fn level() -> impl Strategy<Value = Level> {
    let one = goes().prop_flat_map(|goes| select(values(goes)).prop_map(move |value| Level::One(goes, value)));
    prop_oneof![
        3 => select(SPECIAL.to_vec()).prop_map(Level::Text),
        4 => one,
        1 => select(SPECIAL.to_vec()).prop_map(Level::Wild),
    ]
}

fn goes() -> impl Strategy<Value = Goes> {
    use Goes::{Header, Key, Partition, Program, Timestamp, Topic};
    select(vec![Topic, Key, Key, Header, Header, Partition, Timestamp, Program])
}

fn values(goes: Goes) -> Vec<&'static str> {
    match goes {
        Goes::Topic => LEGAL.to_vec(),
        Goes::Partition => NUMBERS.to_vec(),
        Goes::Timestamp => TIMES.to_vec(),
        Goes::Key | Goes::Header | Goes::Program => SPECIAL.to_vec(),
    }
}

fn tail() -> impl Strategy<Value = Option<Tail>> {
    let goes = option::of(select(vec![Goes::Key, Goes::Header]));
    let rest = option::of(select(vec!["", "a", "/", "a/b", "%2F/{x}", "//$x", "'/\""]));
    weighted(0.3, (goes, rest).prop_map(|(goes, rest)| Tail { goes, rest }))
}

/// What a rule says of its payloads, and a payload for it.
#[derive(Clone, Debug)]
struct Conversion {
    keys: Json,
    payload: Vec<u8>,
}

fn value(format: &str, payload: &str) -> Json {
    json!({"value": {"format": format, "payload": payload}})
}

/// A payload that the templates find their fields in.
fn fields() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        (0..20_u32).prop_map(Json::from),
        select(vec!["7", "soon", "{x}"]).prop_map(Json::from),
        Just(json!(null)),
    ];
    let at = select(vec![json!(1_200_000_000_000_i64), json!("2001-02-03T04:05:06Z"), json!("soon")]);
    (at, scalar, select(SPECIAL.to_vec())).prop_map(|(at, p, t)| json!({"at": at, "o": {"t": t}, "p": p}))
}

fn conversion() -> impl Strategy<Value = Conversion> {
    let of = |keys: Json, payload: Vec<u8>| Conversion { keys, payload };
    let json_bytes = |json: &Json| serde_json::to_vec(json).unwrap();
    let plain = fields().prop_map(move |json| of(json!({}), json_bytes(&json)));
    let raw = prop::collection::vec(any::<u8>(), 0..9).prop_map(move |payload| of(json!({}), payload));
    let programs = select(vec![
        json!({}),
        json!({"transform": "{v: ., at: $topic, who: $client}", "transform_back": ".v"}),
        json!({"transform": "[., $qos, $user]", "transform_back": "first"}),
        json!({"transform": "record({key: \"own: '{x}'\"})", "transform_back": "."}),
        json!({"transform": "# all of it\n{\"a b\": .}", "transform_back": ".[\"a b\"]"}),
    ]);
    let kinds = select(vec!["json", "cbor"]);
    let structured = (programs, kinds.clone(), kinds, fields()).prop_map(move |(programs, payload, format, json)| {
        let mut written = Vec::new();
        match payload {
            "cbor" => ciborium::into_writer(&json, &mut written).unwrap(),
            _ => written = json_bytes(&json),
        }
        of(merged(programs, value(format, payload)), written)
    });
    let texts = select(vec![
        value("json", "text"),
        value("cbor", "text"),
        value("text", "bytes"),
        value("json", "bytes"),
        merged(
            value("bytes", "text"),
            json!({"transform": "@base64", "transform_back": "@base64d"}),
        ),
        merged(value("text", "text"), json!({"transform": ". + \"!\"", "transform_back": ".[:-1]"})),
    ]);
    let of_texts = (texts, select(SPECIAL.to_vec())).prop_map(move |(keys, text)| of(keys, text.as_bytes().to_vec()));
    let any = prop_oneof![3 => plain, 1 => raw, 4 => structured, 2 => of_texts];
    (any, prop::bool::weighted(0.15)).prop_map(|(mut conversion, is_empty)| {
        if is_empty {
            conversion.payload.clear();
        }
        conversion
    })
}

/// One table of both.
fn merged(mut table: Json, other: Json) -> Json {
    let other = other.as_object().unwrap().clone();
    table.as_object_mut().unwrap().extend(other);
    table
}

/// Text in a template, or in a filter.
fn in_template(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The filter of a rule, or the expression, while it is made; with a topic, and where each capture goes.
#[derive(Clone, Debug)]
struct Side {
    written: Vec<String>,
    topic: Vec<String>,
    captures: Vec<(String, Goes)>,
    by_regex: bool,
}

impl Side {
    /// A name of the next capture.
    fn capture(&mut self, goes: Goes) -> String {
        let names = if self.by_regex {
            ["x", "_", "a.b", "y_1", "Z"]
        } else {
            ["x", "-", "a.b", "y_1", "0"]
        };
        let name = names[self.captures.len()].to_owned();
        self.captures.push((name.clone(), goes));
        name
    }

    fn push(&mut self, level: &Level) {
        let (written, found) = match *level {
            Level::Text(text) if self.by_regex => (regex_syntax::escape(text), text),
            Level::Text(text) => (in_template(text), text),
            Level::One(goes, found) => {
                let name = self.capture(goes);
                let written = if self.by_regex {
                    format!("(?<{name}>[^/]*)")
                } else {
                    format!("{{{name}}}")
                };
                (written, found)
            }
            Level::Wild(found) => (if self.by_regex { "[^/]*" } else { "+" }.to_owned(), found),
        };
        self.written.push(written);
        self.topic.push(found.to_owned());
    }

    fn push_tail(&mut self, tail: &Tail) {
        let name = tail.goes.map(|goes| self.capture(goes));
        let written = match (name, self.by_regex) {
            (Some(name), false) => format!("/{{{name}#}}"),
            (None, false) => "/#".to_owned(),
            (Some(name), true) => format!("(?:/(?<{name}>(?s:.*)))?"),
            (None, true) => "(?:/.*)?".to_owned(),
        };
        self.written.last_mut().unwrap().push_str(&written);
        self.topic.extend(tail.rest.map(str::to_owned));
    }
}

fn side() -> impl Strategy<Value = Side> {
    // Four captures and one of the rest are the most.
    (prop::collection::vec(level(), 1..5), tail(), prop::bool::weighted(0.25)).prop_map(|(levels, tail, by_regex)| {
        let mut side = Side {
            written: vec![],
            topic: vec![],
            captures: vec![],
            by_regex,
        };
        levels.iter().for_each(|level| side.push(level));
        tail.iter().for_each(|tail| side.push_tail(tail));
        side
    })
}

/// What stands in the templates beside captures.
#[derive(Clone, Debug)]
struct Beside {
    separator: &'static str,
    texts: [&'static str; 2],
    hole: Option<&'static str>,
    has_key: bool,
    /// Captures of partition, timestamp and program stand in headers, too.
    all_told: bool,
    partition: Option<Json>,
    timestamp: Option<&'static str>,
    tombstones: Option<&'static str>,
    client_header: Option<bool>,
}

fn beside() -> impl Strategy<Value = Beside> {
    let partition = select(vec![
        json!("hash"),
        json!("round-robin"),
        json!("sticky"),
        json!(3),
        json!("{user.n}"),
        json!("{payload.p}"),
    ]);
    (
        select(vec!["/", "/", "-", "", "}/{", "%2F"]),
        select(SPECIAL.to_vec()),
        select(SPECIAL.to_vec()),
        weighted(0.25, select(HOLES.to_vec())),
        prop::bool::weighted(0.7),
        any::<bool>(),
        weighted(0.5, partition),
        weighted(0.3, select(vec!["{user.at}", "{payload.at}"])),
        (option::of(select(vec!["skip", "deliver", "both"])), option::of(any::<bool>())),
    )
        .prop_map(
            |(separator, before, behind, hole, has_key, all_told, partition, timestamp, (tombstones, client_header))| Beside {
                separator,
                texts: [before, behind],
                hole,
                has_key,
                all_told,
                partition,
                timestamp,
                tombstones,
                client_header,
            },
        )
}

/// The names of captures that go there, each as a hole.
fn holes(side: &Side, wanted: Goes) -> Vec<String> {
    let there = side.captures.iter().filter(|(_, goes)| *goes == wanted);
    there.map(|(name, _)| format!("{{{name}}}")).collect()
}

/// The Kafka side of a rule.
fn kafka_side(side: &Side, beside: &Beside) -> (Json, Vec<&'static str>) {
    let [before, behind] = beside.texts.map(in_template);
    let topic = ["inv".to_owned()]
        .into_iter()
        .chain(holes(side, Goes::Topic))
        .collect::<Vec<_>>()
        .join("-");
    let (mut kafka, mut kinds) = (json!({"topic": topic}), vec![]);
    let (keys, mut headers) = (holes(side, Goes::Key), serde_json::Map::new());
    let mut told = holes(side, Goes::Header);
    if beside.has_key || !keys.is_empty() {
        let hole = beside.hole.filter(|_| keys.len() < 2).unwrap_or_default();
        kafka["key"] = json!(format!("{before}{}{hole}{behind}", keys.join(&in_template(beside.separator))));
    } else {
        kinds.push("keyless");
    }
    for (goes, field) in [(Goes::Partition, "partition"), (Goes::Timestamp, "timestamp")] {
        let mut captures = holes(side, goes);
        if let Some(first) = captures.first() {
            kafka[field] = json!(first);
            kinds.push(field);
            // One is enough for a number or a time.
            let others = captures.split_off(1);
            told.extend(others);
            told.extend(captures.into_iter().filter(|_| beside.all_told));
        }
    }
    told.extend(
        holes(side, Goes::Program)
            .into_iter()
            .filter(|hole| hole != "{x}" || beside.all_told),
    );
    for (name, hole) in HEADERS.iter().zip(&told) {
        headers.insert((*name).to_owned(), json!(format!("{behind}{hole}{before}")));
    }
    if let Some(hole) = beside.hole {
        headers.insert("said".to_owned(), json!(hole));
        kinds.push("said");
    }
    if !headers.is_empty() {
        kafka["headers"] = Json::Object(headers);
    }
    let set = |kafka: &mut Json, field: &str, value: Option<Json>| {
        if let Some(value) = value.filter(|_| kafka.get(field).is_none()) {
            kafka[field] = value;
        }
    };
    set(&mut kafka, "partition", beside.partition.clone());
    set(&mut kafka, "timestamp", beside.timestamp.map(Json::from));
    set(&mut kafka, "tombstones", beside.tombstones.map(Json::from));
    set(&mut kafka, "client_header", beside.client_header.map(Json::from));
    (kafka, kinds)
}

/// A program that has a capture, if one goes there that programs can name.
fn with_capture(side: &Side, keys: Json) -> Json {
    let goes = side.captures.iter().any(|(name, goes)| name == "x" && *goes == Goes::Program);
    let has_room = keys.get("transform").is_none() && keys["value"]["payload"] == "json";
    if goes && has_room {
        merged(
            keys,
            json!({"transform": "{v: ., x: $x}", "transform_back": "select(.x == $x) | .v"}),
        )
    } else {
        keys
    }
}

fn case() -> impl Strategy<Value = (Case, Vec<u8>)> {
    (side(), beside(), conversion()).prop_map(|(side, beside, conversion)| {
        let (kafka, mut kinds) = kafka_side(&side, &beside);
        let keys = with_capture(&side, conversion.keys);
        let by = if side.by_regex { "mqtt_regex" } else { "mqtt" };
        kinds.extend(side.by_regex.then_some("regex"));
        kinds.extend(keys.get("transform").map(|_| "program"));
        kinds.extend(keys.get("value").map(|_| "format"));
        kinds.extend((kafka["tombstones"] == "both" && conversion.payload.is_empty()).then_some("tombstone"));
        kinds.extend((!holes(&side, Goes::Topic).is_empty()).then_some("pattern"));
        let rule = merged(json!({"name": NAME, (by): side.written.join("/"), "kafka": kafka}), keys);
        let topic = side.topic.join("/");
        (Case { rule, topic, kinds }, conversion.payload)
    })
}

/// A rule that reads or writes the same: a copy of all or of the same messages, one that reads the same Kafka topic, all of its form, or one that may
/// write to any.
fn neighbour(number: usize, kind: usize, main: &Json) -> Json {
    let name = format!("other {number}");
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
fn rules(all: &[Json], single: bool) -> Option<RuleSet> {
    let lines: String = all.iter().map(|rule| format!("  - {}\n", yaml(rule, single))).collect();
    let parsed = config::parse(&format!("{HEAD}{lines}"), Path::new("/etc/proxy"), &|_| None);
    parsed.ok().map(|config| config.rules)
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    /// Encoded.
    user: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    kafka_topic: String,
    partition: Option<PartitionChoice>,
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

/// The records of a message, and whether the first is that of its ordinary rule.
fn publish(set: &RuleSet, message: &Message) -> Result<(Vec<Record>, bool), NoRoute> {
    let properties = PublishProperties {
        user: UserProperties::from_block(&message.user),
        ..PublishProperties::default()
    };
    let packet = Publish {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        topic: &message.topic,
        packet_id: None,
        properties,
        payload: &message.payload,
    };
    let inbound = Inbound {
        publish: &packet,
        topic: &message.topic,
        client: "c/{x}",
        identity: Some("who %2F"),
        now_ms: NOW,
    };
    let mut draft = Draft::new();
    set.route(&inbound, &mut draft)?;
    let record = |i| {
        let fields = draft.fields(i, set, &inbound);
        let header = |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.unwrap().to_vec());
        Record {
            kafka_topic: draft.kafka_topic(i, set).to_owned(),
            partition: draft.partition(i, set, &inbound, PARTITIONS).ok(),
            timestamp: fields.timestamp,
            key: fields.key.unwrap().to_vec(),
            value: fields.value.map(<[u8]>::to_vec),
            headers: fields.headers.map(header).collect(),
        }
    };
    let records = (0..draft.len()).map(record).collect();
    Ok((records, draft.ordinary(set).is_some()))
}

/// The message that a record becomes.
fn read(set: &RuleSet, record: &Record) -> Result<Message, Skip> {
    let headers = record.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_slice())));
    let stored = Stored {
        timestamp: record.timestamp,
        key: Some(&record.key),
        value: record.value.as_deref(),
        headers,
    };
    let (mut scratch, mut block, mut restored) = (LocateScratch::default(), SharedProperties::new(), Restored::default());
    let reader = set.reader(&record.kafka_topic);
    let located = set.locate(&reader, 0, &stored, &mut scratch)?;
    set.restore(&located, &stored, stored.value, stored.key, NOW, &mut restored)?;
    let message = set.message(&located, &stored, &mut block);
    Ok(Message {
        topic: message.topic.to_owned(),
        payload: restored.payload().unwrap_or(message.payload).to_vec(),
        qos: message.qos,
        retain: message.retain,
        user: message.shared_properties.to_vec(),
    })
}

/// Whether a message may be refused so: it lacks what the rule asks for, or has it in another form.
fn may_be(reason: RefusalReason) -> bool {
    use RefusalReason::{NoPayloadField, NoUserProperty, NotAPartition, NotATimestamp, NotCbor, NotJson};
    let lacks = [NoPayloadField, NoUserProperty, NotAPartition, NotATimestamp, NotCbor, NotJson];
    lacks.contains(&reason)
}

/// Among other rules: the ordinary record is the message, the copies are no messages, and what is delivered makes the same records. Whether there was an
/// ordinary record.
fn goes_round_among(set: &RuleSet, message: &Message) -> Result<bool, TestCaseError> {
    let (records, is_ordinary) = match publish(set, message) {
        Ok(made) => made,
        Err(NoRoute::Refused(refusal)) => {
            prop_assert!(may_be(refusal.reason), "{refusal:?}");
            return Ok(false);
        }
        Err(NoRoute::Unmapped(_)) => {
            prop_assert!(message.topic.starts_with('$'));
            return Ok(false);
        }
    };
    let copies = &records[usize::from(is_ordinary)..];
    for copy in copies {
        let (rule, reason) = (None, SkipReason::Copy);
        prop_assert_eq!(read(set, copy), Err(Skip { rule, reason }));
    }
    if is_ordinary {
        let back = read(set, &records[0]);
        prop_assert_eq!(back.as_ref(), Ok(message), "{:?}", records[0]);
        prop_assert_eq!(publish(set, &back.unwrap()), Ok((records.clone(), true)));
    }
    Ok(is_ordinary)
}

/// Alone: without what the proxy writes for itself, as of another producer, the record of a rule with an inverse has the same topic and payload, and one
/// of a rule without has none, which is told as a warning. Whether it has one; `None`: it made no record.
fn goes_round_alone(set: &RuleSet, message: &Message, has_absent_rest: bool) -> Result<Option<bool>, TestCaseError> {
    let Ok((mut records, true)) = publish(set, message) else {
        return Ok(None);
    };
    let warnings = set.warnings();
    let has_inverse = !warnings
        .iter()
        .any(|warning| matches!(warning.field, Field::Mqtt | Field::MqttRegex));
    let mut record = records.remove(0);
    let names_topic = record.headers.iter().any(|(name, _)| name == "mqtt.topic");
    prop_assert!(!has_inverse || !names_topic || has_absent_rest, "{record:?}");
    // Nothing else tells a rest of no level from an empty one.
    record
        .headers
        .retain(|(name, _)| !name.starts_with("mqtt.") || has_inverse && name == "mqtt.topic");
    let back = read(set, &record);
    if !has_inverse {
        prop_assert!(back.is_err(), "{back:?} of {record:?}");
        return Ok(Some(false));
    }
    let back = back.map(|back| (back.topic, back.payload));
    prop_assert_eq!(back, Ok((message.topic.clone(), message.payload.clone())), "{:?}", record);
    Ok(Some(true))
}

fn user() -> impl Strategy<Value = Vec<u8>> {
    let names = [&HEADERS[..], &["mqtt.topic", "mqtt.copy", "mqtt.user.h", ""][..]].concat();
    let other = prop::collection::vec((select(names), select(SPECIAL.to_vec())), 0..3);
    let known = (select(SPECIAL.to_vec()), select(NUMBERS.to_vec()), select(TIMES.to_vec()));
    (weighted(0.9, known), other).prop_map(|(known, other)| {
        let mut block = SharedProperties::new();
        let known = known.map(|(u, n, at)| [("u", u), ("n", n), ("at", at)]);
        for (name, value) in known.into_iter().flatten().chain(other) {
            assert!(block.user(name, value));
        }
        block.as_bytes().to_vec()
    })
}

/// Rules are written at random, so some have a fault, and some messages lack what their rule asks for: it is counted that there are many of each kind that
/// have an inverse, and of those that have none.
#[test]
fn rules_of_all_kinds_give_back_what_they_took() {
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(3_000)
    };
    let counted: RefCell<BTreeMap<&str, usize>> = RefCell::default();
    let count = |kind: &'static str| *counted.borrow_mut().entry(kind).or_default() += 1;
    let qos = select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let neighbours = prop::collection::vec((0..6_usize, any::<bool>()), 0..4);
    let all = (case(), qos, prop::bool::weighted(0.2), user(), neighbours, any::<bool>());
    let outcome = TestRunner::new(config).run(&all, |((case, payload), qos, retain, user, neighbours, single)| {
        let message = Message {
            topic: case.topic.clone(),
            payload,
            qos,
            retain,
            user,
        };
        let Some(alone) = rules(std::slice::from_ref(&case.rule), single).filter(|_| !message.topic.is_empty()) else {
            count("fault");
            return Ok(());
        };
        let written = case.rule["mqtt"].as_str().or(case.rule["mqtt_regex"].as_str()).unwrap();
        let has_absent_rest = written.ends_with("#}") && written.split('/').count() > message.topic.split('/').count();
        let has_inverse = goes_round_alone(&alone, &message, has_absent_rest)?;
        count(match has_inverse {
            Some(true) => "inverse",
            Some(false) => "none",
            None => "refused",
        });
        if has_inverse == Some(true) {
            case.kinds.iter().copied().for_each(count);
        }
        goes_round_among(&alone, &message)?;
        let (mut listed, mut behind) = (vec![], vec![]);
        for (number, (kind, is_before)) in neighbours.into_iter().enumerate() {
            let list = if is_before { &mut listed } else { &mut behind };
            list.push(neighbour(number, kind, &case.rule));
        }
        listed.push(case.rule.clone());
        listed.append(&mut behind);
        if listed.len() > 1
            && let Some(among) = rules(&listed, single)
            && goes_round_among(&among, &message)?
        {
            count("among others");
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let counted = counted.into_inner();
    let kinds = [
        "inverse",
        "none",
        "among others",
        "regex",
        "keyless",
        "pattern",
        "partition",
        "timestamp",
        "said",
        "program",
        "format",
        "tombstone",
    ];
    let few: Vec<_> = kinds
        .into_iter()
        .filter(|kind| counted.get(kind).is_none_or(|count| *count < 10))
        .collect();
    assert!(few.is_empty() && counted["inverse"] > 300, "{few:?} of {counted:?}");
}
