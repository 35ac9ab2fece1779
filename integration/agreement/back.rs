//! The way back: what `explain` says of the records that lie in Kafka, and what a subscriber has got of them.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mqtt_kafka_proxy::mapping::{RuleSet, SampleRecord};
use serde_json::Value;

use super::program::says;
use super::{LATEST, Random};
use crate::load::client::{Client, Event, Version};
use crate::stage::{DEADLINE, Proxy, output};

/// What a subscriber gets: topic, QoS and payload.
pub(super) type Got = (String, u8, String);

/// A record of somebody else's: with or without what the rules look for, with values that programs can take, and others.
pub(super) fn foreign(random: &mut Random, bootstrap: &str, topic: &str) {
    let key = random.of(&["7", "8", "a", "é", "a/b", "+", "$x", "none"]);
    let value = random.of(&["{\"n\":1}", "{\"n\":2}", "{\"n\":\"x\"}", "[1]", "text", "", "18446744073709551615"]);
    let to = random.of(&["to=here", "to=a/b", "to=#", "to=", "h=1"]);
    let mqtt = random.of(&["mqtt.topic=ag/there/7", "mqtt.topic=ag/rest/x", "mqtt.qos=0", "mqtt.copy=1", "h=2"]);
    let mut kcat = Command::new("kcat")
        // `-Z`: an empty value is none.
        .args(["-P", "-Z", "-b", bootstrap, "-t", topic, "-H", to, "-H", mqtt])
        .args((key != "none").then_some(["-k", key]).into_iter().flatten())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // An empty line is a record without a value; no input at all would be no record.
    writeln!(kcat.stdin.take().unwrap(), "{value}").unwrap();
    assert!(kcat.wait().unwrap().success());
}

/// A record as it lies in a topic.
pub(super) struct Record {
    pub(super) partition: i32,
    pub(super) key: Option<String>,
    /// `None`: null.
    pub(super) value: Option<String>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// All records of a topic.
pub(super) fn records(bootstrap: &str, topic: &str) -> Vec<Record> {
    let read = output("kcat", &["-C", "-q", "-e", "-J", "-b", bootstrap, "-t", topic, "-o", "beginning"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pair = |pair: &[Value]| (text(&pair[0]), text(&pair[1]).into_bytes());
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let headers = record["headers"].as_array().map_or(&[][..], Vec::as_slice);
        Record {
            partition: i32::try_from(record["partition"].as_i64().unwrap()).unwrap(),
            key: record["key"].as_str().map(str::to_owned),
            value: record["payload"].as_str().map(str::to_owned),
            headers: headers.chunks(2).map(pair).collect(),
        }
    };
    read.lines().map(record).collect()
}

/// What `explain` says that a subscriber of everything gets of all records of a topic, and how many it says are passed over.
pub(super) fn expected(rules: &RuleSet, bootstrap: &str, topic: &str) -> (Vec<Got>, usize) {
    let (mut got, mut passed_over) = (vec![], 0);
    for record in records(bootstrap, topic) {
        let explained = rules.explain_record(&SampleRecord {
            kafka_topic: topic,
            partition: record.partition,
            key: record.key.as_deref().map(str::as_bytes),
            value: record.value.as_deref().map(str::as_bytes),
            headers: &record.headers,
            now_ms: LATEST,
        });
        match explained.outcome {
            Ok(message) => got.push((message.topic, message.qos.min(1), String::from_utf8(message.payload).unwrap())),
            Err(_) => passed_over += 1,
        }
    }
    (got, passed_over)
}

/// What `explain --kafka` says that subscribers get of a record; `None`: it is passed over.
pub(super) fn explained(proxy: &Proxy, topic: &str, record: &Record) -> Option<Got> {
    let in_base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let mut arguments = vec![format!("--kafka={topic}"), format!("--partition={}", record.partition)];
    arguments.extend(record.key.as_ref().map(|key| format!("--key-base64={}", in_base64(key.as_bytes()))));
    let headers = record.headers.iter();
    arguments.extend(headers.map(|(name, value)| format!("--header-base64={name}={}", in_base64(value))));
    arguments.push(match &record.value {
        Some(value) => format!("--payload-base64={}", in_base64(value.as_bytes())),
        None => "--tombstone".to_owned(),
    });
    let told = says(proxy, &arguments);
    let message = told["message"].as_object()?;
    let text = |name: &str| message[name].as_str().unwrap().to_owned();
    Some((text("topic"), message["qos"].as_u64().unwrap() as u8, text("payload")))
}

/// A subscriber of everything, with QoS 1.
pub(super) async fn subscriber(proxy: SocketAddr) -> Client {
    let mut client = Client::connect(proxy, Version::V5, "everything").await.unwrap();
    assert_eq!(client.subscribe("#", 1).await.unwrap(), 1);
    client
}

/// So many messages with their exchanges, or those that come before the deadline.
pub(super) async fn received(client: &mut Client, count: usize) -> Vec<Got> {
    let (mut got, mut open) = (vec![], 0);
    while got.len() < count || open > 0 {
        let Ok(event) = client.next_within(DEADLINE).await else { break };
        client.answer(&event).unwrap();
        client.flush().await.unwrap();
        match event {
            Event::Publish { topic, payload, qos, .. } => {
                open += usize::from(qos == 2);
                got.push((topic, qos, String::from_utf8(payload.to_vec()).unwrap()));
            }
            Event::PubRel(_) => open -= 1,
            other => panic!("{other:?}"),
        }
    }
    got
}
