//! What is said of the mapping is what happens: `explain` and the running proxy over random messages, packets and filters, and the partition of a key
//! and the Java client's over random keys. `SEED=42` repeats what failed.

mod back;
mod filters;
mod packets;
mod program;
mod topics;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::SystemTime;

use bytes::Bytes;
use mqtt_kafka_proxy::auth::passwords;
use mqtt_kafka_proxy::config;
use mqtt_kafka_proxy::mapping::{ExplainedRecord, PartitionChoice, RuleSet, Sample, SamplePacket, murmur2, partition_for_key};
use mqttbytes::QoS;
use mqttbytes::v5::{Connect, Login, Publish, PublishProperties};
use tokio::runtime::Runtime;

use crate::compression::fed;
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, root};

const PARTITIONS: u32 = 3;
const CLIENT: &str = "agreeing";
/// Who that client is, and how it shows it.
const WHO: &str = "who";
const SECRET: &str = "s3cret";
/// Times that messages say lie before it, those of the proxy behind it; both in milliseconds.
const LATEST: i64 = 1_200_000_000_000;

const RULES: &str = r#"  - {name: levels, mqtt: "ag/{a}/t/{b}", kafka: {topic: agree-rest, key: "{a}", headers: {b: "{b}"}}}
  - {name: copies, also: true, direction: publish, mqtt: "ag/+/t/{b}", kafka: {topic: agree-a, key: "{b}:{client}", partition: 1}}
  - {name: lines, direction: publish, mqtt_regex: "ag/(?<k>[ab])-(?<n>[0-9]+)", kafka: {topic: "agree-{k}", key: "{n}"}}
  - {name: said, mqtt: "ag/said/#", kafka: {topic: agree-rest, key: "{user.u}:{client}", partition: "{payload.p}", timestamp: "{payload.at}"}}
  - name: program
    direction: publish
    mqtt: "ag/jq/{x}"
    transform: 'select(.n > 3) | (record({topic: (if .n > 6 then "agree-rest" else "agree-b" end), headers: {n}}), {x: $x, u: $user.u})'
    kafka: {topic: agree-b, topics: [agree-rest], key: "{x}"}
  - {name: strict, direction: publish, mqtt: "ag/strict/+", on_error: {dead_letter: dead-of-agree}, kafka: {topic: agree-b, key: "{payload.id}", partition: "{payload.p}"}}
  - {name: rest, mqtt: "ag/rest/#", kafka: {topic: agree-rest}}
  - {name: reads, direction: subscribe, mqtt: "ag-out/{key}", kafka: {topic: agree-a}}
  - {name: kept, mqtt: "ag/kept/{k}", kafka: {topic: agree-kept, key: "{k}", tombstones: both}}
  - {name: turns, mqtt: "ag/turns/#", kafka: {topic: agree-turns, partition: round-robin}}
  - {name: stays, also: true, direction: publish, mqtt: "ag/turns/#", kafka: {topic: agree-turns, partition: sticky}}
  - name: there
    mqtt: "ag/there/{x}"
    lookup: {sites: "SITES"}
    kafka: {topic: agree-there, key: "{x}", tombstones: both}
    transform: '{site: lookup("sites"; $x).site, n, u: $user.u}'
    transform_back: 'select(.n != 2) | {n: (.n + 1), site: lookup("sites"; $x).site, h: $headers.h, k: $key, t: $topic}'
  - {name: named, direction: subscribe, mqtt: "ag-to/{header.to}", kafka: {topic: agree-foreign}}
  - {name: keyed, direction: subscribe, mqtt: "ag-key/{key}", kafka: {topic: agree-foreign}}
  - {name: whose, mqtt: "ag/whose/{x}", kafka: {topic: agree-texts, key: "{identity}:{x}", headers: {who: "{identity}"}}}
  - {name: texts, mqtt: "ag/texts/{x}", value: {format: json, payload: text}, kafka: {topic: agree-texts, key: "{x}"}}
  - {name: checked, mqtt: "ag/checked/{x}", value: {format: json}, on_error: skip, kafka: {topic: agree-texts, key: "{x}"}}
  - {name: frames, direction: publish, mqtt: "ag/frames/{x}", value: {format: json, payload: cbor}, on_error: {dead_letter: dead-of-agree}, kafka: {topic: agree-texts, key: "{x}"}}
  - {name: bytes, mqtt: "ag/bytes/{x}", value: {format: bytes, payload: text}, transform: '@base64', transform_back: '@base64d | ltrimstr("te")', kafka: {topic: agree-bytes, key: "{x}"}}
  - {name: sited, direction: subscribe, mqtt: "ag-at/{key}", kafka: {topic: "agree-at-{site}"}, transform_back: '{v: ., site: $site}'}
authentication: [{method: password_file, file: "USERS"}, {method: anonymous}]"#;

/// Rows for keys of topics and of records.
const SITES: &str = "x,site\n7,north\né,süd\n";
/// Where only the running proxy knows the partition, and what stands for it.
const TURNS: &str = "agree-turns";
const ANY: &str = "*";
const TOPICS: [&str; 9] = [
    "agree-a",
    "agree-b",
    "agree-rest",
    "dead-of-agree",
    "agree-kept",
    TURNS,
    "agree-there",
    "agree-texts",
    "agree-bytes",
];
/// Written by others, too, or by nobody else.
const OF_OTHERS: [&str; 7] = [
    "agree-there",
    "agree-kept",
    "agree-a",
    "agree-texts",
    "agree-bytes",
    FOREIGN[0],
    FOREIGN[1],
];
const FOREIGN: [&str; 2] = ["agree-foreign", "agree-at-north"];

/// Marsaglia's xorshift: what it gives is found again by its seed.
struct Random(u64);

impl Random {
    /// That of SEED, else another one in each run.
    fn seeded() -> Self {
        let now = || SystemTime::UNIX_EPOCH.elapsed().expect("the clock runs").as_nanos() as u64;
        let seed = std::env::var("SEED").map_or_else(|_| now(), |seed| seed.parse().expect("SEED is a number"));
        // Of zero nothing comes.
        let seed = seed | 1;
        println!("SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

struct Message {
    topic: String,
    payload: String,
    user: Vec<(String, String)>,
    packet: SamplePacket<'static>,
}

/// To topics of all rules, and of none; with payloads that they can map, and others.
fn message(random: &mut Random, number: usize) -> Message {
    let second = random.of(&[
        "x", "y", "said", "jq", "strict", "rest", "a-7", "b-12", "c-1", "a-", "é", "kept", "turns", "there", "whose", "texts", "checked",
        "frames", "bytes",
    ]);
    let rest = random.of(&["", "/t/rpm", "/t", "/1", "/2", "/7", "/é", "/t/", "//", "/1/2"]);
    let payload = match random.below(7) {
        6 => String::new(),
        0 => format!("text {number}"),
        1 => format!("[{number}]"),
        _ => {
            let p = random.of(&["0", "1", "2", "3", "-1", "\"1\"", "null"]);
            let at = random.of(&["1", "999999999999", "\"2001-02-03T04:05:06Z\"", "\"soon\"", "1.5"]);
            let id = random.of(&["7", "\"id\"", "true", "null", "[1]"]);
            let n = random.below(10);
            format!("{{\"i\":{number},\"p\":{p},\"at\":{at},\"id\":{id},\"n\":{n}}}")
        }
    };
    let user = match random.below(3) {
        0 => vec![],
        1 => vec![("u".to_owned(), random.of(&["v", "ü", ""]).to_owned())],
        _ => vec![
            ("u".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
            ("mqtt.qos".to_owned(), "3".to_owned()),
        ],
    };
    let mut packet = SamplePacket {
        is_utf8: [None, None, Some(false), Some(true)][random.below(4)],
        ..SamplePacket::default()
    };
    if random.below(3) == 0 {
        packet.content_type = Some(random.of(&["text/plain", "ü", ""]));
        packet.response_topic = Some("re/1").filter(|_| random.below(2) == 0);
        packet.correlation_data = Some(b"c7".as_slice()).filter(|_| random.below(2) == 0);
    }
    Message {
        topic: format!("ag/{second}{rest}"),
        payload,
        user,
        packet,
    }
}

fn line(partition: &str, key: &[u8], timestamp: Option<i64>, headers: &str, value: Option<&[u8]>) -> String {
    let (key, value) = (String::from_utf8_lossy(key), value.map_or("null".into(), String::from_utf8_lossy));
    let timestamp = timestamp
        .filter(|at| *at < LATEST)
        .map_or_else(|| "-".to_owned(), |at| at.to_string());
    format!("{partition}|{key}|{timestamp}|{headers}|{value}")
}

/// A record as kcat prints it.
fn explained(record: &ExplainedRecord) -> String {
    let partition = match record.partition {
        Some(PartitionChoice::Index(partition)) => partition.to_string(),
        Some(PartitionChoice::RoundRobin | PartitionChoice::Sticky) => {
            assert_eq!(record.kafka_topic, TURNS);
            ANY.to_owned()
        }
        None => panic!("{record:?}"),
    };
    let header = |(name, value): &(String, Vec<u8>)| format!("{name}={}", String::from_utf8_lossy(value));
    let headers: Vec<String> = record.headers.iter().map(header).collect();
    line(
        &partition,
        &record.key,
        record.timestamp,
        &headers.join(","),
        record.value.as_deref(),
    )
}

/// The records of a message by `explain`, with their topics, and whether it is taken.
fn expected(rules: &RuleSet, message: &Message) -> (Vec<(String, String)>, bool) {
    let sample = Sample {
        state_topics: &[],
        topic: &message.topic,
        client: CLIENT,
        identity: Some(WHO),
        now_ms: LATEST,
        payload: message.payload.as_bytes(),
        user: &message.user,
        packet: message.packet,
        partitions: Some(PARTITIONS),
    };
    let told = rules.explain_publish(&sample).unwrap();
    let is_taken = told.outcome.is_ok() && told.denied.is_none();
    let record = |record: ExplainedRecord| (record.kafka_topic.clone(), explained(&record));
    (told.outcome.unwrap_or_default().into_iter().map(record).collect(), is_taken)
}

/// A client that is known.
async fn publisher(proxy: SocketAddr) -> Client {
    let mut client = Client::open(proxy, Version::V5).await.unwrap();
    let mut connect = Connect::new(CLIENT);
    connect.keep_alive = 0;
    connect.login = Some(Login {
        username: WHO.to_owned(),
        password: SECRET.to_owned(),
    });
    connect.write(&mut client.output).unwrap();
    client.flush().await.unwrap();
    let answer = client.next_within(DEADLINE).await.unwrap();
    assert!(matches!(answer, Event::ConnAck { accepted: true, .. }), "{answer:?}");
    client
}

/// Publishes a message of QoS 1, and whether it is taken.
async fn publish(client: &mut Client, message: &Message, id: u16) -> bool {
    let mut packet = Publish::new(message.topic.clone(), QoS::AtLeastOnce, message.payload.clone());
    packet.pkid = id;
    packet.properties = Some(PublishProperties {
        payload_format_indicator: message.packet.is_utf8.map(u8::from),
        message_expiry_interval: None,
        topic_alias: None,
        response_topic: message.packet.response_topic.map(str::to_owned),
        correlation_data: message.packet.correlation_data.map(Bytes::from_static),
        user_properties: message.user.clone(),
        subscription_identifiers: vec![],
        content_type: message.packet.content_type.map(str::to_owned),
    });
    packet.write(&mut client.output).unwrap();
    client.flush().await.unwrap();
    match client.next_within(DEADLINE).await.unwrap() {
        Event::PubAck(acknowledged, reason) if acknowledged == id => reason < 0x80,
        other => panic!("{other:?}"),
    }
}

#[test]
fn explain_says_of_random_messages_and_records_what_the_running_proxy_does() {
    let kafka = shared_kafka();
    TOPICS.iter().chain(&FOREIGN).for_each(|topic| kafka.topic(topic, PARTITIONS));
    let sites = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    std::fs::write(sites.path(), SITES).unwrap();
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), passwords::entry(WHO, SECRET.as_bytes()).unwrap()).unwrap();
    let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    let rules = RULES.replace("SITES", &path(&sites)).replace("USERS", &path(&users));
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let rules = config::load(&proxy.configuration()).unwrap().rules;
    let mut random = Random::seeded();
    let seed = random.0;
    let mut wanted: BTreeMap<String, Vec<String>> = TOPICS.iter().map(|topic| ((*topic).to_owned(), vec![])).collect();
    let (mut taken, mut refused) = (0, 0);
    let runtime = Runtime::new().unwrap();
    let mut everything = runtime.block_on(back::subscriber(proxy.mqtt));
    runtime.block_on(async {
        let mut client = publisher(proxy.mqtt).await;
        for id in 1..=600_u16 {
            let message = message(&mut random, id.into());
            let (records, must_be_taken) = expected(&rules, &message);
            let said = (&message.topic, &message.payload, &message.user);
            let is_taken = publish(&mut client, &message, id).await;
            assert_eq!(is_taken, must_be_taken, "seed {seed}: {said:?}");
            taken += usize::from(is_taken);
            refused += usize::from(!is_taken);
            for (topic, record) in records {
                wanted.get_mut(&topic).unwrap().push(record);
            }
        }
    });
    assert!(
        taken > 50 && refused > 50 && wanted.values().all(|records| !records.is_empty()),
        "seed {seed}"
    );
    for (topic, mut wanted) in wanted {
        let read = kafka.consume(&topic, "%p|%k|%T|%h|%S|%s");
        let mut stored: Vec<String> = read.iter().map(|read| as_explained(&topic, read)).collect();
        stored.sort();
        wanted.sort();
        assert_eq!(stored, wanted, "seed {seed}: {topic}");
    }
    for turn in 0..120 {
        back::foreign(&mut random, &kafka.bootstrap, OF_OTHERS[turn % OF_OTHERS.len()]);
    }
    let (mut wanted, mut passed_over) = (vec![], 0);
    for topic in TOPICS.iter().chain(&FOREIGN) {
        let (got, without) = back::expected(&rules, &kafka.bootstrap, topic);
        wanted.extend(got);
        passed_over += without;
    }
    assert!(wanted.len() > 100 && passed_over > 20, "seed {seed}");
    let mut got = runtime.block_on(back::received(&mut everything, wanted.len()));
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted, "seed {seed}");
    // Nothing else was on its way in the partition of this one.
    let last = Message {
        topic: "ag/rest/last".to_owned(),
        payload: String::new(),
        user: vec![],
        packet: SamplePacket::default(),
    };
    runtime.block_on(async {
        let mut client = publisher(proxy.mqtt).await;
        assert!(publish(&mut client, &last, 1).await);
        assert_eq!(
            back::received(&mut everything, 1).await,
            [(last.topic, 1, last.payload)],
            "seed {seed}"
        );
    });
}

/// What kcat prints, without the times of the proxy's own clock, and without the partitions of its own choice.
fn as_explained(topic: &str, read: &str) -> String {
    let mut parts = read.splitn(6, '|');
    let [partition, key, timestamp, headers, size, value] = [(); 6].map(|()| parts.next().unwrap());
    line(
        if topic == TURNS { ANY } else { partition },
        key.as_bytes(),
        Some(timestamp.parse().unwrap()),
        headers,
        (size != "-1").then_some(value.as_bytes()),
    )
}

#[test]
fn keys_are_hashed_as_the_java_client_does() {
    let mut random = Random::seeded();
    let seed = random.0;
    let keys: Vec<(u32, Vec<u8>)> = (0..5_000)
        .map(|i| {
            let length = if i < 64 { i } else { random.below(64) };
            let key = (0..length).map(|_| random.below(256) as u8).collect();
            ([1, 2, 3, 7, 12, 1_000][i % 6], key)
        })
        .collect();
    let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = keys.iter().map(|(count, key)| format!("{count} {}\n", hex(key))).collect();
    let mut java = Command::new(root().join("integration/kafka/kafka"));
    let told = fed(java.arg("java").arg(root().join("integration/kafka/Keys.java")), &lines);
    assert_eq!(told.lines().count(), keys.len());
    for ((count, key), told) in keys.iter().zip(told.lines()) {
        let ours = format!("{} {}", murmur2(key), partition_for_key(key, *count));
        assert_eq!(ours, told, "seed {seed}: {count} {}", hex(key));
    }
}
