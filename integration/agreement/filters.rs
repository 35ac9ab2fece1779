//! Filters: what `explain --subscribe` says that a subscriber reads, and what real subscribers of a running proxy get.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::back::{Got, received};
use super::program::says;
use super::{PARTITIONS, Random};
use crate::compression::fed;
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy};

const RULES: &str = r#"  - {name: levels, qos: 1, mqtt: "es/lv/{x}/a/{y}", kafka: {topic: es-levels, key: "{x}", headers: {y: "{y}"}}}
  - {name: sites, qos: 1, mqtt: "es/site/{site}/{k}", kafka: {topic: "es-at-{site}", key: "{k}"}}
  - {name: named, direction: subscribe, qos: 1, mqtt: "es/to/{header.to}", kafka: {topic: es-out}}
  - {name: out, direction: subscribe, qos: 1, mqtt: "es/out/{key}/a", kafka: {topic: es-out}}
  - {name: whole, qos: 1, mqtt: "es/whole/#", kafka: {topic: es-whole}}
  - {name: rest, qos: 1, mqtt: "es/rest/{r#}", kafka: {topic: es-rest, key: "{r}"}}
  - {name: plus, qos: 1, mqtt: "es/plus/+/{k}", kafka: {topic: es-plus, key: "{k}"}}
  - {name: lines, qos: 1, mqtt_regex: "es/re/(?<k>[a-m])/[a-m]+", kafka: {topic: es-re, key: "{k}"}}
  - {name: fixed, qos: 1, mqtt: "es/fixed/{x}", kafka: {topic: es-fixed, key: one, headers: {x: "{x}"}}}
  - {name: in, direction: publish, mqtt: "es/in/{x}", kafka: {topic: es-in, key: "{x}"}}
  - {name: mute, direction: publish, unmapped: drop, mqtt: "es/mute/{x}", kafka: {topic: es-in, key: "{x}"}}
  - {name: system, direction: subscribe, qos: 1, mqtt: "$es/{key}", kafka: {topic: es-system}}"#;

/// The rule of which a filter with wildcards may name more than it can get: of an expression only the beginning is compared.
const BY_EXPRESSION: &str = "lines";
const TOPICS: [&str; 11] = [
    "es-levels",
    "es-at-a",
    "es-at-b",
    "es-out",
    "es-whole",
    "es-rest",
    "es-plus",
    "es-re",
    "es-fixed",
    "es-in",
    "es-system",
];
/// Few, so that a filter meets records of several rules.
const WORDS: [&str; 2] = ["a", "b"];
/// Topics of all rules, of which filters are made.
const BASES: [&str; 13] = [
    "es/lv/b/a/b",
    "es/site/a/b",
    "es/site/b/a",
    "es/to/b",
    "es/out/b/a",
    "es/whole/b/a",
    "es/rest/a/b/b",
    "es/plus/b/a",
    "es/re/a/b",
    "es/fixed/a",
    "es/in/b",
    "es/mute/a",
    "$es/b",
];
/// Exact ones, those that leave one level or the rest open, those that fix a key, and those that nothing maps.
const CHOSEN: [&str; 27] = [
    "#",
    "es/#",
    "+/a",
    "es/lv/a/a/b",
    "es/lv/b/+/+",
    "es/site/a/b",
    "es/site/+/b",
    "es/site/#",
    "es/out/b/a",
    "es/out/+/a",
    "es/to/+",
    "es/whole/a/b",
    "es/whole/#",
    "es/rest/a/b",
    "es/rest/#",
    "es/plus/a/b",
    "es/plus/+/b",
    "es/re/a/b",
    "es/re/+/b",
    "es/re/a/#",
    "es/fixed/b",
    "es/in/a",
    "es/in/#",
    "es/mute/a",
    "es/none/#",
    "$es/a",
    "$es/#",
];
/// All is written twice: what the second time brings lies behind whatever the first brought too much.
const ROUNDS: [u32; 2] = [1, 2];

/// A topic of a rule with some levels left open, some changed, or its end left open.
fn filter(random: &mut Random) -> String {
    let base = random.of(&BASES);
    let mut levels: Vec<&str> = base.split('/').collect();
    // No wildcard takes the first level of a topic of the server's own.
    let first = usize::from(base.starts_with('$'));
    for level in &mut levels[first..] {
        match random.below(6) {
            0 | 1 => *level = "+",
            2 => *level = random.of(&WORDS),
            _ => {}
        }
    }
    if random.below(3) == 0 {
        levels.truncate(first + random.below(levels.len() - first));
        levels.push("#");
    }
    levels.join("/")
}

/// Records of one Kafka topic that have the same header: their keys, and the MQTT topics that the rules make of them.
struct Written {
    kafka_topic: &'static str,
    header: Option<String>,
    records: Vec<(String, String)>,
}

impl Written {
    fn one(kafka_topic: &'static str, header: String, key: &str, topic: String) -> Self {
        Self {
            kafka_topic,
            header: Some(header),
            records: vec![(key.to_owned(), topic)],
        }
    }

    /// A record of each word as the key.
    fn each(kafka_topic: &'static str, header: Option<String>, topic: impl Fn(&str) -> String) -> Self {
        Self {
            kafka_topic,
            header,
            records: WORDS.iter().map(|key| ((*key).to_owned(), topic(key))).collect(),
        }
    }

    /// It says where it lies.
    fn payload(&self, partition: u32, round: u32, key: &str) -> String {
        format!("{round} {} {partition} {key}", self.kafka_topic)
    }

    /// Writes all of them to each partition.
    fn write(&self, bootstrap: &str, round: u32) {
        let write = |partition: u32| {
            let line = |(key, _): &(String, String)| format!("{key}:{}\n", self.payload(partition, round, key));
            let lines: String = self.records.iter().map(line).collect();
            let mut kcat = Command::new("kcat");
            kcat.args(["-P", "-K:", "-b", bootstrap, "-t", self.kafka_topic, "-p", &partition.to_string()]);
            fed(kcat.args(self.header.iter().flat_map(|header| ["-H", header.as_str()])), &lines);
        };
        std::thread::scope(|scope| {
            for partition in 0..PARTITIONS {
                scope.spawn(move || write(partition));
            }
        });
    }
}

/// Records of all topics: whatever the filters leave open is there.
fn written(filters: &[String]) -> Vec<Written> {
    let mut all = vec![
        Written::each("es-at-a", None, |key| format!("es/site/a/{key}")),
        Written::each("es-at-b", None, |key| format!("es/site/b/{key}")),
        Written::each("es-out", None, |key| format!("es/out/{key}/a")),
        Written::each("es-in", None, |key| format!("es/in/{key}")),
        Written::each("es-system", None, |key| format!("$es/{key}")),
    ];
    for word in WORDS {
        all.push(Written::each("es-levels", Some(format!("y={word}")), |key| {
            format!("es/lv/{key}/a/{word}")
        }));
        all.push(Written::each("es-out", Some(format!("to={word}")), |_| format!("es/to/{word}")));
        all.push(Written::one("es-fixed", format!("x={word}"), "one", format!("es/fixed/{word}")));
        for key in WORDS {
            let [plus, line] = [format!("es/plus/{word}/{key}"), format!("es/re/{key}/{word}")];
            all.push(Written::one("es-plus", format!("mqtt.topic={plus}"), key, plus));
            all.push(Written::one("es-re", format!("mqtt.topic={line}"), key, line));
        }
    }
    let ends = ends(filters);
    let whole = |end: &String| (format!("es/whole/{end}"), format!("es/whole/{end}"));
    let rest = |end: &String| (end.clone(), format!("es/rest/{end}"));
    for (kafka_topic, records) in [
        ("es-whole", ends.iter().map(whole).collect::<Vec<_>>()),
        ("es-rest", ends.iter().map(rest).collect::<Vec<_>>()),
    ] {
        all.push(Written {
            kafka_topic,
            header: None,
            records,
        });
    }
    all
}

/// What the filters want behind the second level, with a word in the place of each wildcard.
fn ends(filters: &[String]) -> BTreeSet<String> {
    let mut ends = BTreeSet::from([WORDS[0].to_owned()]);
    for filter in filters {
        let levels = filter.split('/').skip(2);
        let word = |level| if ["+", "#"].contains(&level) { WORDS[0] } else { level };
        let end: Vec<&str> = levels.map(word).collect();
        if !end.is_empty() {
            ends.insert(end.join("/"));
        }
    }
    ends
}

/// What the program says of a filter.
fn explained(proxy: &Proxy, filter: &str) -> Value {
    says(proxy, &[format!("--subscribe={filter}"), format!("--partitions={PARTITIONS}")])
}

fn sources(told: &Value) -> &[Value] {
    told["sources"].as_array().unwrap()
}

/// Whether it is this Kafka topic, or one of this form, all partitions of it.
fn is_named(source: &Value, kafka_topic: &str) -> bool {
    assert_eq!(source["partitions"], "all");
    let named = source["topic"].as_str().unwrap();
    match named.split_once('*') {
        Some((head, tail)) => kafka_topic.starts_with(head) && kafka_topic.ends_with(tail),
        None => named == kafka_topic,
    }
}

/// Whether the filter matches the topic (§4.7).
fn fits(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (word, Some(level)) if word == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Topics that the filter matches, of records in the Kafka topics of a source.
fn fitting<'a>(source: &'a Value, filter: &'a str, written: &'a [Written]) -> impl Iterator<Item = &'a str> {
    let there = written.iter().filter(move |one| is_named(source, one.kafka_topic));
    let topics = there.flat_map(|one| &one.records).map(|(_, topic)| topic.as_str());
    topics.filter(move |topic| fits(filter, topic))
}

/// What a subscriber gets if it reads what is named, and nothing else.
fn wanted(filter: &str, told: &Value, written: &[Written]) -> Vec<Got> {
    let mut wanted: Vec<Got> = vec![];
    let is_read = |one: &&Written| sources(told).iter().any(|source| is_named(source, one.kafka_topic));
    for one in written.iter().filter(is_read) {
        for (key, topic) in one.records.iter().filter(|(_, topic)| fits(filter, topic)) {
            for partition in 0..PARTITIONS {
                let got = |round: u32| (topic.clone(), 1, one.payload(partition, round, key));
                wanted.extend(ROUNDS.map(got));
            }
        }
    }
    wanted
}

/// Whether such a SUBSCRIBE is granted.
fn is_granted(told: &Value) -> bool {
    told["why"].as_str().is_none_or(|why| why.contains("unmapped: drop"))
}

/// The answer to it.
fn answer(told: &Value, version: Version) -> u8 {
    match (is_granted(told), version) {
        (true, _) => 1,
        (false, Version::V4) => 0x80,
        (false, Version::V5) => 0x8F,
    }
}

/// A client for each filter, in their order, of one version or the other.
async fn subscribed(proxy: SocketAddr, asked: &[(String, Value)]) -> Vec<Client> {
    let mut clients = vec![];
    for (place, (filter, told)) in asked.iter().enumerate() {
        let id = format!("filter-{place}");
        let version = [Version::V4, Version::V5][place % 2];
        let mut client = Client::connect(proxy, version, &id).await.unwrap();
        let answered = client.subscribe(filter, 1).await.unwrap();
        assert_eq!(answered, answer(told, version), "{filter}, {version:?}: {told}");
        clients.push(client);
    }
    clients
}

/// Publishes to a topic of each source of which `explain` tells the partition of the proxy's own records: these sources, and the payloads.
async fn publish_own<'a>(proxy: SocketAddr, asked: &'a [(String, Value)], written: &[Written]) -> Vec<(&'a Value, String)> {
    let mut client = Client::connect(proxy, Version::V5, "own").await.unwrap();
    let mut published = vec![];
    for (filter, told) in asked {
        for source in sources(told).iter().filter(|source| source["own_partition"].is_u64()) {
            let id = u16::try_from(published.len() + 1).unwrap();
            let payload = format!("own-{id}");
            let topic = fitting(source, filter, written).next().unwrap();
            client.publish(topic, 1, id, payload.as_bytes()).unwrap();
            client.flush().await.unwrap();
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(id, 0), "{topic}");
            published.push((source, payload));
        }
    }
    published
}

/// By payload, Kafka topic and partition of what the proxy wrote itself.
fn own_places(kafka: &Kafka) -> BTreeMap<String, (&'static str, String)> {
    let mut places = BTreeMap::new();
    for topic in TOPICS {
        for line in kafka.consume(topic, "%p|%s") {
            let (partition, value) = line.split_once('|').unwrap();
            if value.starts_with("own-") {
                let before = places.insert(value.to_owned(), (topic, partition.to_owned()));
                assert_eq!(before, None, "{value}");
            }
        }
    }
    places
}

/// It names no more than it needs: something came of each.
fn assert_needed(filter: &str, told: &Value, written: &[Written], seed: u64) {
    for source in sources(told) {
        let may_miss = source["rule"] == BY_EXPRESSION && filter.contains(['+', '#']);
        let is_needed = may_miss || fitting(source, filter, written).next().is_some();
        assert!(is_needed, "seed {seed}: {filter}: {source}");
    }
}

/// What the proxy writes lies where its partition is told.
fn assert_own_places(kafka: &Kafka, published: &[(&Value, String)], seed: u64) {
    let places = own_places(kafka);
    assert!(published.len() > 10 && places.len() == published.len(), "seed {seed}");
    for (source, payload) in published {
        let (topic, partition) = &places[payload];
        let is_there = is_named(source, topic) && source["own_partition"].as_i64() == partition.parse().ok();
        assert!(is_there, "seed {seed}: {source}: partition {partition} of {topic}");
    }
}

#[test]
fn explain_names_for_a_filter_what_its_subscriber_reads() {
    let kafka = shared_kafka();
    TOPICS.iter().for_each(|topic| kafka.topic(topic, PARTITIONS));
    let state = ", topics: {sessions: es-sessions, retained: es-retained, partitions: 1, replication: 1}";
    let proxy = Proxy::start(&kafka.bootstrap, RULES, state);
    let mut random = Random::seeded();
    let seed = random.0;
    let mut filters: Vec<String> = CHOSEN.iter().map(|filter| (*filter).to_owned()).collect();
    filters.extend((0..40).map(|_| filter(&mut random)));
    let written = written(&filters);
    let ask = |filter: String| (filter.clone(), explained(&proxy, &filter));
    let asked: Vec<(String, Value)> = filters.into_iter().map(ask).collect();
    let runtime = Runtime::new().unwrap();
    let mut clients = runtime.block_on(subscribed(proxy.mqtt, &asked));
    for round in ROUNDS {
        written.iter().for_each(|one| one.write(&kafka.bootstrap, round));
    }
    let (mut read, mut unmapped) = (0, 0);
    for ((filter, told), client) in asked.iter().zip(&mut clients) {
        let mut wanted = wanted(filter, told, &written);
        let mut got = runtime.block_on(received(client, wanted.len()));
        got.sort();
        wanted.sort();
        assert_eq!(got, wanted, "seed {seed}: {filter}: {told}");
        assert_needed(filter, told, &written, seed);
        read += usize::from(!wanted.is_empty());
        unmapped += usize::from(!is_granted(told));
    }
    assert!(read > 20 && unmapped > 2, "seed {seed}: {read} read, {unmapped} unmapped");
    // Anything more that came would be in the place of the answer.
    for ((filter, _), client) in asked.iter().zip(&mut clients) {
        let answered = runtime.block_on(client.unsubscribe(filter));
        answered.unwrap_or_else(|more| panic!("seed {seed}: {filter}: {more}"));
    }
    let published = runtime.block_on(publish_own(proxy.mqtt, &asked, &written));
    assert_own_places(&kafka, &published, seed);
}
