//! Each kind of mapping, partition strategy and format between real devices and a real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::process::Command;

use tokio::runtime::Runtime;

use crate::compression::fed;
use crate::deliver::Subscriber;
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, certificates, output, root};

/// Publishes these one after the other at QoS 1, as one client; each is acknowledged.
fn publish(proxy: &Proxy, messages: &[(String, Vec<u8>)]) {
    Runtime::new().unwrap().block_on(async {
        let mut client = Client::connect(proxy.mqtt, Version::V5, "device").await.unwrap();
        for (id, (topic, payload)) in (1..).zip(messages) {
            client.publish(topic, 1, id, payload).unwrap();
            client.flush().await.unwrap();
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(id, 0), "{topic}");
        }
    });
}

fn one(topic: &str, payload: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (topic.to_owned(), payload.into())
}

fn create(kafka: &Kafka, topics: &[&str], partitions: u32) {
    topics.iter().for_each(|topic| kafka.topic(topic, partitions));
}

/// One message to many Kafka topics, many rules to one, and a subscriber of all: nobody gets a message twice because several rules stored it.
#[test]
fn whatever_stores_a_message_how_often_a_subscriber_gets_it_once() {
    let kafka = shared_kafka();
    create(&kafka, &["kinds-all", "kinds-alarms"], 1);
    let rules = r#"  - {name: cars, mqtt: "kinds/cars/{vin}/{what}", kafka: {topic: kinds-all, key: "{vin}", headers: {what: "{what}"}}}
  - {name: ships, mqtt: "kinds/ships/{vin}/{what}", kafka: {topic: kinds-all, key: "{vin}", headers: {what: "{what}"}}}
  - {name: alarms, also: true, direction: publish, mqtt: "kinds/+/{vin}/alarm", kafka: {topic: kinds-alarms, key: "alarm-{vin}"}}
  - {name: audit, also: true, direction: publish, mqtt: "kinds/#", kafka: {topic: kinds-all, key: audit}}"#;
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let all = Subscriber::mosquitto(&proxy, "mqttv5", "kinds/#");
    let ships = Subscriber::mosquitto(&proxy, "mqttv311", "kinds/ships/+/alarm");
    publish(
        &proxy,
        &[
            one("kinds/cars/1/alarm", "a"),
            one("kinds/ships/1/alarm", "b"),
            one("kinds/ships/2/x", "c"),
        ],
    );
    for message in ["kinds/cars/1/alarm|1|a", "kinds/ships/1/alarm|1|b", "kinds/ships/2/x|1|c"] {
        assert_eq!(all.message(), format!("message {message}"));
    }
    assert_eq!(ships.message(), "message kinds/ships/1/alarm|1|b");
    let records = ["1|a", "audit|a", "1|b", "audit|b", "2|c", "audit|c"];
    assert_eq!(kafka.consume("kinds-all", "%k|%s"), records);
    assert_eq!(kafka.consume("kinds-alarms", "%k|%s"), ["alarm-1|a", "alarm-1|b"]);
    // Copies lie behind the messages that both have got: what comes next is next.
    publish(&proxy, &[one("kinds/ships/9/alarm", "end")]);
    assert_eq!(all.message(), "message kinds/ships/9/alarm|1|end");
    assert_eq!(ships.message(), "message kinds/ships/9/alarm|1|end");
}

/// Captures are read back from wherever the rule puts them: Kafka topic, key and header.
#[test]
fn a_record_of_another_producer_finds_the_topic_that_the_rule_would_have_stored_so() {
    let kafka = shared_kafka();
    create(&kafka, &["way-back-nord", "way-back-west"], 2);
    let rules = r#"  - {name: back, qos: 1, mqtt: "back/{site}/{vin}/{rest#}", kafka: {topic: "way-back-{site}", key: "v:{vin}", headers: {rest: "r:{rest}"}}}"#;
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let all = Subscriber::mosquitto(&proxy, "mqttv5", "back/#");
    let one_vin = Subscriber::mosquitto(&proxy, "mqttv311", "back/west/8/+/+");
    kafka.produce("way-back-nord", "v:7", &["rest=r:engine/rpm"], "1");
    assert_eq!(all.message(), "message back/nord/7/engine/rpm|1|1");
    // Not as the rule would have: without the header, and with another key.
    kafka.produce("way-back-nord", "v:7", &[], "none");
    kafka.produce("way-back-nord", "7", &["rest=r:engine/rpm"], "none");
    kafka.produce("way-back-west", "v:8", &["rest=r:engine/rpm"], "2");
    assert_eq!(all.message(), "message back/west/8/engine/rpm|1|2");
    assert_eq!(one_vin.message(), "message back/west/8/engine/rpm|1|2");
    assert!(proxy.metric(&["records_skipped_total", "back"]) >= 2.0);
}

/// Messages for each way to choose a partition.
const COUNT: usize = 60;

/// Partition and value of each record, in the order in which they were published.
fn places(kafka: &Kafka, topic: &str) -> Vec<usize> {
    let read = kafka.consume(topic, "%p|%S|%s");
    let number = |line: &String| line.split('|').nth(2).unwrap().trim_start().parse::<usize>().unwrap();
    let by_number: BTreeMap<usize, usize> = read
        .iter()
        .map(|line| (number(line), line.split('|').next().unwrap().parse().unwrap()))
        .collect();
    assert_eq!(by_number.len(), read.len(), "{read:?}");
    by_number.into_values().collect()
}

fn take_turns(places: &[usize]) {
    assert_eq!(places.len(), COUNT);
    assert!(places.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{places:?}");
}

/// Some fourteen messages are one.
fn stay_for_a_batch(places: &[usize]) {
    assert_eq!(places.len(), COUNT);
    let moves = places.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let used: BTreeSet<&usize> = places.iter().collect();
    assert!((2..=6).contains(&moves) && used.len() == 3, "{places:?}");
}

#[test]
fn partitions_are_those_of_the_key_in_turns_sticky_fixed_and_named() {
    let kafka = shared_kafka();
    let topics = ["spread-hash", "spread-turns", "spread-sticky", "spread-fixed", "spread-named"];
    create(&kafka, &topics, 3);
    create(&kafka, &["spread-theirs"], 3);
    let rules = r#"  - {name: hash, mqtt: "spread/hash/{k}/{lane}", kafka: {topic: spread-hash, key: "{k}", headers: {lane: "{lane}"}}}
  - {name: turns, direction: publish, mqtt: "spread/turns/{k}/+", kafka: {topic: spread-turns, key: "{k}", partition: round-robin}}
  - {name: sticky, direction: publish, mqtt: "spread/sticky/{k}/+", kafka: {topic: spread-sticky, key: "{k}", partition: sticky}}
  - {name: fixed, direction: publish, mqtt: "spread/fixed/{k}/+", kafka: {topic: spread-fixed, key: "{k}", partition: 2}}
  - {name: named, direction: publish, mqtt: "spread/named/{k}/{lane}", kafka: {topic: spread-named, key: "{k}", partition: "{lane}"}}"#;
    let proxy = Proxy::start(&kafka.bootstrap, rules, ", producer: {batch_size: 4KiB}");
    for topic in topics {
        let word = topic.strip_prefix("spread-").unwrap();
        let message = |i: usize| one(&format!("spread/{word}/key-{}/{}", i % 20, i % 3), format!("{i:>200}"));
        publish(&proxy, &(0..COUNT).map(message).collect::<Vec<_>>());
    }
    // As another producer places the same keys that hashes as the Java client does.
    let lines: String = (0..COUNT).map(|i| format!("key-{}:{i}\n", i % 20)).collect();
    let mut theirs = Command::new("kcat");
    fed(
        theirs.args([
            "-P",
            "-K:",
            "-X",
            "partitioner=murmur2",
            "-b",
            &kafka.bootstrap,
            "-t",
            "spread-theirs",
        ]),
        &lines,
    );
    assert_eq!(places(&kafka, "spread-hash"), places(&kafka, "spread-theirs"));
    take_turns(&places(&kafka, "spread-turns"));
    stay_for_a_batch(&places(&kafka, "spread-sticky"));
    assert_eq!(places(&kafka, "spread-fixed"), [2; COUNT]);
    assert_eq!(places(&kafka, "spread-named"), (0..COUNT).map(|i| i % 3).collect::<Vec<_>>());
}

/// Publishes numbers in 200 digits at QoS 1: by mosquitto in version 3.1.1, the second half by paho over WebSocket. Each is acknowledged.
fn devices_publish(proxy: &Proxy, topic: &str) {
    let lines = |numbers: Range<usize>| numbers.map(|i| format!("{i:0>200}\n")).collect::<String>();
    let (mqtt, wss) = (proxy.mqtt.port().to_string(), proxy.wss.port().to_string());
    let mut mosquitto = Command::new("mosquitto_pub");
    mosquitto.args([
        "-h",
        "127.0.0.1",
        "-p",
        &mqtt,
        "-V",
        "mqttv311",
        "-i",
        "mosquitto",
        "-q",
        "1",
        "-t",
        topic,
        "-l",
    ]);
    fed(&mut mosquitto, &lines(0..COUNT / 2));
    let mut paho = Command::new(root().join(".run/python/bin/python"));
    paho.arg(root().join("integration/paho_lines.py"));
    paho.args([wss.as_str(), "paho", topic]).arg(certificates().join("ca.pem"));
    fed(&mut paho, &lines(COUNT / 2..COUNT));
}

/// The rule takes turns, not the client: who comes goes on where the one before has ended.
#[test]
fn messages_of_mosquitto_and_paho_are_in_turns_sticky_and_in_a_fixed_partition() {
    let kafka = shared_kafka();
    create(&kafka, &["lanes-turns", "lanes-sticky", "lanes-fixed"], 3);
    let rules = r#"  - {name: turns, direction: publish, mqtt: "lanes/turns/{k}", kafka: {topic: lanes-turns, key: "{k}", partition: round-robin}}
  - {name: sticky, direction: publish, mqtt: "lanes/sticky/{k}", kafka: {topic: lanes-sticky, key: "{k}", partition: sticky}}
  - {name: fixed, direction: publish, mqtt: "lanes/fixed/{k}", kafka: {topic: lanes-fixed, key: "{k}", partition: 2}}"#;
    let proxy = Proxy::start(&kafka.bootstrap, rules, ", producer: {batch_size: 4KiB}");
    for word in ["turns", "sticky", "fixed"] {
        devices_publish(&proxy, &format!("lanes/{word}/key"));
    }
    take_turns(&places(&kafka, "lanes-turns"));
    stay_for_a_batch(&places(&kafka, "lanes-sticky"));
    assert_eq!(places(&kafka, "lanes-fixed"), [2; COUNT]);
}

/// An empty payload becomes a null value, and a null value an empty payload, where the rule says so; elsewhere neither.
#[test]
fn tombstones_go_both_ways() {
    let kafka = shared_kafka();
    create(&kafka, &["graves", "no-graves"], 1);
    let rules = r#"  - {name: graves, qos: 1, mqtt: "graves/{k}", kafka: {topic: graves, key: "{k}", tombstones: both}}
  - {name: none, qos: 1, mqtt: "no-graves/{k}", kafka: {topic: no-graves, key: "{k}"}}
sessions: {expiry: {}, instance_timeout: 6s}"#;
    let state = ", topics: {sessions: graves-sessions, retained: graves-retained, partitions: 1, replication: 1}";
    let proxy = Proxy::start(&kafka.bootstrap, rules, state);
    let graves = Subscriber::mosquitto(&proxy, "mqttv5", "graves/#");
    let none = Subscriber::mosquitto(&proxy, "mqttv311", "no-graves/#");
    let port = proxy.mqtt.port().to_string();
    for (topic, qos) in [("graves/1", "1"), ("graves/2", "2"), ("no-graves/1", "1")] {
        let to = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "mqttv5",
            "-i",
            "empty",
            "-q",
            qos,
            "-t",
            topic,
            "-n",
        ];
        output("mosquitto_pub", &to);
    }
    // A null value has the length -1.
    assert_eq!(kafka.consume("graves", "%k|%S"), ["1|-1", "2|-1"]);
    assert_eq!(kafka.consume("no-graves", "%k|%S"), ["1|0"]);
    assert_eq!(none.message(), "message no-graves/1|1|");
    for topic in ["graves", "no-graves"] {
        let mut kcat = Command::new("kcat");
        fed(kcat.args(["-P", "-Z", "-K:", "-b", &kafka.bootstrap, "-t", topic]), "3:\n4:x\n");
    }
    for message in ["graves/1|1|", "graves/2|1|", "graves/3|1|", "graves/4|1|x"] {
        assert_eq!(graves.message(), format!("message {message}"));
    }
    assert_eq!(none.message(), "message no-graves/4|1|x");
    assert_eq!(proxy.metric(&["records_skipped_total", "none", "tombstone"]), 1.0);
    // It clears what is retained; at QoS 2 of a stored session it is stored by its pair.
    for more in [&["-r", "-m", "kept"][..], &["-r", "-n"]] {
        let to = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "mqttv5",
            "-i",
            "keeper",
            "-c",
            "-x",
            "60",
            "-q",
            "2",
            "-t",
            "graves/5",
        ];
        output("mosquitto_pub", &[&to[..], more].concat());
    }
    assert_eq!(kafka.consume("graves", "%k|%S")[4..], ["5|4", "5|-1"]);
    let late = Subscriber::mosquitto(&proxy, "mqttv31", "graves/5");
    kafka.produce("graves", "5", &[], "end");
    assert_eq!(late.message(), "message graves/5|1|end");
}

/// JSON, text, base64 bytes and CBOR of devices; JSON, CBOR and bytes in Kafka; and back. A table in a file enriches.
#[test]
fn programs_read_and_write_every_format_both_ways() {
    let kafka = shared_kafka();
    create(&kafka, &["form-json", "form-text", "form-cbor", "form-bytes"], 1);
    let sites = tempfile::NamedTempFile::with_suffix(".csv").unwrap();
    std::fs::write(sites.path(), "vin,site\n7,nord\n").unwrap();
    let rules = format!(
        r#"  - name: json
    mqtt: "fm/{{vin}}/json"
    kafka: {{topic: form-json, key: "{{vin}}"}}
    lookup: {{sites: "{}"}}
    transform: '{{site: lookup("sites"; $vin).site, n, by: $client, at: ($now > 1700000000000), user: $user}}'
    transform_back: '{{n: (.n + 1)}}'
  - name: text
    mqtt: "fm/{{vin}}/text"
    value: {{payload: text, format: json}}
    kafka: {{topic: form-text, key: "{{vin}}"}}
    transform: 'split(",") | {{first: .[0], last: .[-1]}}'
    transform_back: '"\(.first) and \(.last)"'
  - name: cbor
    mqtt: "fm/{{vin}}/cbor"
    value: {{payload: json, format: cbor}}
    kafka: {{topic: form-cbor, key: "{{vin}}"}}
    transform: '{{a: .a}}'
    transform_back: '{{a: (.a * 2)}}'
  - name: bytes
    mqtt: "fm/{{vin}}/bytes"
    value: {{payload: cbor, format: bytes}}
    kafka: {{topic: form-bytes, key: "{{vin}}"}}
    transform: '.raw'
    transform_back: '{{raw: .}}'"#,
        sites.path().display()
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let devices = ["json", "text", "cbor", "bytes"].map(|word| {
        let mut command = Command::new("stdbuf");
        let port = proxy.mqtt.port().to_string();
        command.args([
            "-oL",
            "mosquitto_sub",
            "-d",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "mqttv5",
            "-q",
            "1",
        ]);
        command.args(["-t", &format!("fm/+/{word}"), "-F", "message %t|%x"]);
        Subscriber::start(&mut command, "Subscribed")
    });
    let raw = b"\xa1craw\x44\x00\xff|A";
    publish(
        &proxy,
        &[
            one("fm/7/json", r#"{"n": 41, "x": 1}"#),
            one("fm/8/json", r#"{"n": 18446744073709551615}"#),
            one("fm/7/text", "a,b,ü"),
            one("fm/7/cbor", r#"{"a": 21}"#),
            one("fm/7/bytes", raw.to_vec()),
        ],
    );
    assert_eq!(
        kafka.consume("form-json", "%k|%s"),
        [
            r#"7|{"site":"nord","n":41,"by":"device","at":true,"user":{}}"#,
            r#"8|{"site":null,"n":18446744073709551615,"by":"device","at":true,"user":{}}"#
        ]
    );
    assert_eq!(kafka.consume("form-text", "%s"), [r#"{"first":"a","last":"ü"}"#]);
    // {"a": 21} in CBOR, and four bytes as they are; what is no UTF-8 shows as U+FFFD.
    assert_eq!(kafka.consume("form-cbor", "%S|%s"), ["4|\u{fffd}aa\u{15}"]);
    assert_eq!(kafka.consume("form-bytes", "%S|%s"), ["4|\0\u{fffd}|A"]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let back: [(&str, &[u8]); 4] = [
        ("json", br#"{"n":42}"#),
        ("text", "a and ü".as_bytes()),
        ("cbor", br#"{"a":42}"#),
        // A text in base64, for that is what bytes are to a program.
        ("bytes", b"\xa1craw\x68AP98QQ=="),
    ];
    for (device, (word, payload)) in devices.iter().zip(back) {
        assert_eq!(device.message(), format!("message fm/7/{word}|{}", hex(payload)));
    }
}
