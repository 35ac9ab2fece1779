//! Packets of all kinds: what the program `explain` says of messages of each QoS, retained or not, to topics that few think of, in both versions of
//! MQTT, and of the records that come of them and of others, and what a running proxy does with them.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use mqttbytes::{QoS, v4, v5};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::back::{self, Got};
use super::program::says;
use super::topics::{CHOSEN, topic};
use super::{PARTITIONS, Random, as_explained, line};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually};

const RULES: &str = r#"  - {name: whole, mqtt: "pk/whole/#", kafka: {topic: pk-whole}}
  - {name: held, mqtt: "pk/held/{a}/{b#}", kafka: {topic: pk-held, key: "{a}", headers: {b: "{b}"}}}
  - {name: copies, also: true, direction: publish, mqtt: "pk/+/{x}/#", kafka: {topic: pk-copies, key: "{x}"}}
  - {name: sites, mqtt: "pk/at/{site}/#", kafka: {topic: "pk-at-{site}"}}
  - {name: quiet, retain: deny, mqtt: "pk/quiet/{x}", kafka: {topic: pk-quiet, key: "{x}"}}
  - {name: words, direction: publish, mqtt_regex: "pk/between/(?<x>[a-z]+)/.*", kafka: {topic: pk-words, key: "{x}"}}
  - {name: levels, mqtt: "pk/between/{x}/{y}", kafka: {topic: pk-levels, key: "{y}", headers: {x: "{x}"}}}
  - {name: said, direction: publish, mqtt: "pk/said/{x}", transform: '{q: $qos, r: $retain, t: $topic, u: $user, x: $x}', kafka: {topic: pk-said, key: "{user.u}"}}
  - {name: skips, direction: publish, on_error: skip, mqtt: "pk/skips/+", kafka: {topic: pk-skips, partition: "{user.n}"}}
  - {name: dollar, mqtt: "$pk/{x}", kafka: {topic: pk-dollar, key: "{x}"}}
  - {name: empty, mqtt: "/pk//{x}", kafka: {topic: pk-empty, key: "{x}"}}
  - {name: placed, direction: subscribe, mqtt: "pk-in/{partition}/{topic}/{key#}", kafka: {topic: pk-placed}}"#;

/// Devices may name the topics of the proxy's own state: these are of the form of a rule.
const STATE: &str = ", topics: {sessions: pk-at-sessions, retained: pk-at-retained, partitions: 1, replication: 1}";
const TOPICS: [&str; 12] = [
    "pk-whole",
    "pk-held",
    "pk-copies",
    "pk-at-a",
    "pk-at-",
    "pk-quiet",
    "pk-words",
    "pk-levels",
    "pk-said",
    "pk-skips",
    "pk-dollar",
    "pk-empty",
];
/// That others write to.
const OF_OTHERS: [&str; 6] = ["pk-whole", "pk-held", "pk-at-a", "pk-dollar", "pk-empty", PLACED];
const PLACED: &str = "pk-placed";
/// What all messages of the proxy match, and what none of those does that begin with `$`.
const FILTERS: [&str; 2] = ["#", "$pk/#"];
struct Message {
    version: Version,
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
    /// Of version 5.
    user: Vec<(String, String)>,
}

/// What becomes of a PUBLISH, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Of QoS 0 nothing is heard.
    Unsaid,
    Taken,
    Refused,
    /// The connection.
    Ended,
}

fn message(random: &mut Random, number: usize) -> Message {
    let payload = match random.below(6) {
        0 => String::new(),
        1 => format!("text {number} é"),
        _ => number.to_string(),
    };
    let version = [Version::V4, Version::V5][random.below(2)];
    let pairs = [
        ("u", random.of(&["v", "ü", ""])),
        ("n", random.of(&["0", "1", "2", "7", "x"])),
        ("b", "1"),
        ("mqtt.topic", "pk/held/x"),
    ];
    let pairs = pairs.into_iter().filter(|_| version == Version::V5 && random.below(3) > 0);
    Message {
        user: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        version,
        topic: topic(random),
        payload,
        qos: random.below(3) as u8,
        retain: random.below(3) == 0,
    }
}

/// One of each QoS to each chosen topic, with all that the rules ask for: something of every kind.
fn chosen() -> impl Iterator<Item = Message> {
    let each = CHOSEN.iter().enumerate();
    let each = each.flat_map(|(place, topic)| [0, 1, 2].map(|qos| (place, *topic, qos)));
    each.map(|(place, topic, qos)| Message {
        version: Version::V5,
        topic: topic.to_owned(),
        payload: format!("{place}{qos}"),
        qos,
        retain: place % 2 == 1,
        user: [("u", "v"), ("n", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    })
}

fn client_id(version: Version) -> &'static str {
    match version {
        Version::V4 => "packets-4",
        Version::V5 => "packets-5",
    }
}

/// What `explain` says of a message.
fn explained(proxy: &Proxy, message: &Message) -> Value {
    let (qos, partitions) = (message.qos.to_string(), PARTITIONS.to_string());
    let mut arguments: Vec<String> = ["--client", client_id(message.version), "--qos", &qos, "--partitions", &partitions]
        .map(str::to_owned)
        .into();
    arguments.push(format!("--payload={}", message.payload));
    arguments.extend(message.retain.then(|| "--retain".to_owned()));
    arguments.extend(message.user.iter().map(|(name, value)| format!("--property={name}={value}")));
    arguments.extend(["--".to_owned(), message.topic.clone()]);
    says(proxy, &arguments)
}

/// What its client is to see of it.
fn fate(message: &Message, told: &Value) -> Fate {
    let why = told["why"].as_str().unwrap_or_default();
    let is_taken = why.is_empty() || why.contains("the message is acknowledged");
    match (message.qos, message.version) {
        _ if why.contains("denies retained messages") => Fate::Ended,
        (0, _) => Fate::Unsaid,
        _ if is_taken => Fate::Taken,
        (_, Version::V5) => Fate::Refused,
        // It has no word for it.
        (_, Version::V4) => Fate::Ended,
    }
}

/// The records that it says come of a message, with their topics, as kcat prints them.
fn records(told: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let header = |header: &Value| format!("{}={}", text(&header["name"]), text(&header["value"]));
    let record = |record: &Value| {
        let headers: Vec<String> = record["headers"].as_array().unwrap().iter().map(header).collect();
        let (partition, key) = (record["partition"].as_u64().unwrap().to_string(), text(&record["key"]));
        let value = record["value"].as_str().map(str::as_bytes);
        let printed = line(&partition, key.as_bytes(), record["timestamp"].as_i64(), &headers.join(","), value);
        (text(&record["topic"]), printed)
    };
    told["records"].as_array().unwrap().iter().map(record).collect()
}

/// Queues a PUBLISH.
fn write(message: &Message, id: u16, client: &mut Client) {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(message.qos)];
    let payload = Bytes::copy_from_slice(message.payload.as_bytes());
    match message.version {
        Version::V4 => {
            let mut packet = v4::Publish::new(&message.topic, qos, payload.to_vec());
            (packet.pkid, packet.retain) = (id, message.retain);
            packet.write(&mut client.output).unwrap();
        }
        Version::V5 => {
            let mut packet = v5::Publish::new(&message.topic, qos, payload.to_vec());
            (packet.pkid, packet.retain) = (id, message.retain);
            packet.properties = Some(v5::PublishProperties {
                payload_format_indicator: None,
                message_expiry_interval: None,
                topic_alias: None,
                response_topic: None,
                correlation_data: None,
                user_properties: message.user.clone(),
                subscription_identifiers: vec![],
                content_type: None,
            });
            packet.write(&mut client.output).unwrap();
        }
    }
}

/// The next packet; `None`: the connection has ended.
async fn next(client: &mut Client) -> Option<Event> {
    match client.next_within(DEADLINE).await {
        Ok(Event::Disconnect(_)) => None,
        Ok(event) => Some(event),
        Err(error) if [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset].contains(&error.kind()) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Publishes it, and completes the exchange.
async fn publish(client: &mut Client, message: &Message, id: u16) -> Fate {
    write(message, id, client);
    if message.qos == 0 {
        // PINGREQ: its answer comes behind whatever would come of the message.
        client.output.extend_from_slice(&[0xC0, 0]);
    }
    client.flush().await.unwrap();
    let Some(answer) = next(client).await else { return Fate::Ended };
    match (message.qos, &answer) {
        (0, Event::Other) => Fate::Unsaid,
        (1, Event::PubAck(own, reason)) if *own == id => [Fate::Taken, Fate::Refused][usize::from(*reason >= 0x80)],
        (2, Event::PubRec(own, reason)) if *own == id && *reason >= 0x80 => Fate::Refused,
        (2, Event::PubRec(own, _)) if *own == id => {
            client.answer(&answer).unwrap();
            client.flush().await.unwrap();
            assert_eq!(next(client).await, Some(Event::PubComp(id)));
            Fate::Taken
        }
        _ => panic!("{answer:?}"),
    }
}

/// Subscribers of everything with QoS 2, one of each version.
async fn subscribers(proxy: &Proxy) -> Vec<Client> {
    let mut clients = vec![];
    for version in [Version::V4, Version::V5] {
        let mut client = Client::connect(proxy.mqtt, version, &format!("all-of-{version:?}")).await.unwrap();
        for filter in FILTERS {
            assert_eq!(client.subscribe(filter, 2).await.unwrap(), 2);
        }
        clients.push(client);
    }
    clients
}

/// What is said of each, in order; a program takes its time to start, so several are asked at once.
fn of_each<T: Sync, A: Send>(asked: &[T], say: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let (part, say) = (asked.len().div_ceil(4).max(1), &say);
    std::thread::scope(|scope| {
        let parts: Vec<_> = asked
            .chunks(part)
            .map(|part| scope.spawn(move || part.iter().map(say).collect::<Vec<A>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Publishes all messages, one after the other, and compares what their clients see with what was told; gives how often each fate of each QoS was met.
async fn publish_all(proxy: &Proxy, messages: &[Message], told: &[Value], seed: u64) -> BTreeMap<(Fate, u8), usize> {
    let (mut clients, mut fates) = ([None, None], BTreeMap::new());
    for ((message, told), id) in messages.iter().zip(told).zip(1..) {
        let client = &mut clients[usize::from(message.version == Version::V5)];
        if client.is_none() {
            let id = client_id(message.version);
            *client = Some(Client::connect(proxy.mqtt, message.version, id).await.unwrap());
        }
        let met = publish(client.as_mut().unwrap(), message, id).await;
        let Message { topic, qos, retain, .. } = message;
        assert_eq!(
            met,
            fate(message, told),
            "SEED={seed}: {topic:?}, QoS {qos}, retain {retain}: {told}"
        );
        if met == Fate::Ended {
            *client = None;
        }
        *fates.entry((met, message.qos)).or_default() += 1;
    }
    fates
}

/// The records that are told, by topic, are all that there are.
fn assert_stored(kafka: &Kafka, told: &[Value], seed: u64) {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (topic, record) in told.iter().flat_map(records) {
        all.entry(topic).or_default().push(record);
    }
    let named: Vec<&str> = all.keys().map(String::as_str).collect();
    let mut topics = TOPICS;
    topics.sort_unstable();
    assert_eq!(named, topics, "SEED={seed}");
    for (topic, mut wanted) in all {
        // Nobody waits for the answer to a message of QoS 0.
        let read = eventually("all records are stored", || {
            let read = kafka.consume(&topic, "%p|%k|%T|%h|%S|%s");
            (read.len() >= wanted.len()).then_some(read)
        });
        let mut stored: Vec<String> = read.iter().map(|read| as_explained(&topic, read)).collect();
        stored.sort();
        wanted.sort();
        assert_eq!(stored, wanted, "SEED={seed}: {topic}");
    }
}

#[test]
fn explain_says_of_packets_of_all_kinds_what_the_running_proxy_does() {
    let kafka = shared_kafka();
    TOPICS.iter().chain(&[PLACED]).for_each(|topic| kafka.topic(topic, PARTITIONS));
    let proxy = Proxy::start(&kafka.bootstrap, RULES, STATE);
    let mut random = Random::seeded();
    let seed = random.0;
    let runtime = Runtime::new().unwrap();
    let mut clients = runtime.block_on(subscribers(&proxy));
    let at_random = (1_000..1_500).map(|number| message(&mut random, number));
    let messages: Vec<Message> = chosen().chain(at_random).collect();
    let told = of_each(&messages, |message| explained(&proxy, message));
    let fates = runtime.block_on(publish_all(&proxy, &messages, &told, seed));
    let all = [
        (Fate::Unsaid, 0),
        (Fate::Ended, 0),
        (Fate::Taken, 1),
        (Fate::Refused, 1),
        (Fate::Ended, 1),
        (Fate::Taken, 2),
        (Fate::Refused, 2),
        (Fate::Ended, 2),
    ];
    assert!(all.iter().all(|fate| fates.contains_key(fate)), "SEED={seed}: {fates:?}");
    assert_stored(&kafka, &told, seed);
    for turn in 0..60 {
        back::foreign(&mut random, &kafka.bootstrap, OF_OTHERS[turn % OF_OTHERS.len()]);
    }
    let (mut wanted, mut passed_over): (Vec<Got>, _) = (vec![], 0);
    for topic in TOPICS.iter().chain(&[PLACED]) {
        let records = back::records(&kafka.bootstrap, topic);
        let told = of_each(&records, |record| back::explained(&proxy, topic, record));
        passed_over += told.iter().filter(|told| told.is_none()).count();
        wanted.extend(told.into_iter().flatten());
    }
    let qualities = [0, 1, 2].map(|qos| wanted.iter().filter(|(_, own, _)| *own == qos).count());
    assert!(
        passed_over > 20 && qualities.iter().all(|count| *count > 10),
        "SEED={seed}: {passed_over}, {qualities:?}"
    );
    wanted.sort();
    for client in &mut clients {
        let mut got = runtime.block_on(back::received(client, wanted.len()));
        got.sort();
        assert_eq!(got, wanted, "SEED={seed}");
        // Anything more that came would be in the place of the answer.
        for filter in FILTERS {
            let answered = runtime.block_on(client.unsubscribe(filter));
            answered.unwrap_or_else(|more| panic!("SEED={seed}: {filter}: {more}"));
        }
    }
}
