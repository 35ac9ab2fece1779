//! Rules of all kinds as a file has them, made at random, each with the topic and the payload of a message to it.

mod file;

pub use file::{neighbour, rules};
use proptest::option::{self, weighted};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};

/// The rule whose messages are looked at.
const NAME: &str = "main.rule-1";
/// Levels and texts that are something else to somebody: all but those of MQTT itself.
pub const SPECIAL: [&str; 32] = [
    "a", "", "-", "{", "}", "{x}", "{{", "}}", "${", "${HOME}", "$x", "$$", "%", "%2F", "%7B", "\\", "\\d", ".*", "[", "(?", "|", "^", "'",
    "\"", ": ", " ", "~", "null", "*a", "&a", "ü", "🦀",
];
/// Of Kafka topics.
const LEGAL: [&str; 6] = ["a", "7", "a-b", "..", "_x", "-"];
pub const NUMBERS: [&str; 4] = ["0", "1", "7", "19"];
pub const TIMES: [&str; 4] = ["0", "1200000000000", "2001-02-03T04:05:06Z", "2001-02-03T04:05:06.789Z"];
pub const HEADERS: [&str; 5] = ["h", "{x}", "a: 'b'", "ü %41", "user.u"];
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
pub struct Case {
    pub rule: Json,
    pub topic: String,
    /// What is counted of it.
    pub kinds: Vec<&'static str>,
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
    let Json::Object(other) = other else { panic!("no table: {other}") };
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

pub fn case() -> impl Strategy<Value = (Case, Vec<u8>)> {
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
