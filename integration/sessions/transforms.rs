//! Programs of rules against a real Kafka, with mosquitto and with clients whose every answer is looked at.

use super::{Greeting, connect, runtime};
use crate::deliver::Subscriber;
use crate::load::client::Event;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, output};

const RULES: &str = r#"
  - name: select
    mqtt: "tf/{vin}/celsius"
    kafka: {topic: tf-hot, key: "{vin}"}
    transform: 'select(.celsius > 90) | {vin: $vin, celsius, by: $client, unit: $user.unit}'
  - name: split
    mqtt: "tf/{vin}/batch"
    on_error: {dead_letter: tf-dead}
    kafka: {topic: tf-lines, topics: [tf-odd], key: "{vin}"}
    transform: |
      .readings[]
      | if . == "fail" then error("this one fails") else . end
      | record({key: "\($vin)-\(.)", headers: {n: .}, topic: (if . % 2 == 1 then "tf-odd" else "tf-lines" end)})
  - name: endless
    mqtt: "tf/{vin}/endless"
    kafka: {topic: tf-lines, key: "{vin}"}
    transform: 'until(. == 0; . - 1)'
  - name: raw
    mqtt: "tf/{vin}/raw"
    kafka: {topic: tf-raw, key: "{vin}"}
    value: {payload: bytes, format: json}
    transform: '{vin: $vin, bytes: .}'
"#;

fn stage(kafka: &Kafka) -> Proxy {
    for topic in ["tf-hot", "tf-lines", "tf-odd", "tf-dead", "tf-raw"] {
        kafka.topic(topic, 1);
    }
    let topics = ", topics: {sessions: tf-sessions, retained: tf-retained, partitions: 1, replication: 1}";
    let rules = format!("{}sessions: {{expiry: {{}}, instance_timeout: 2s}}", RULES.trim_start_matches('\n'));
    Proxy::start_in(&[], &kafka.bootstrap, &rules, topics)
}

fn publish(proxy: &Proxy, topic: &str, message: &str, more: &[&str]) {
    let port = proxy.mqtt.port().to_string();
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-i",
        "device-1",
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        message,
    ];
    output("mosquitto_pub", &[&arguments[..], more].concat());
}

#[test]
fn programs_select_reshape_split_and_fail_between_devices_and_kafka() {
    let kafka = shared_kafka();
    let proxy = stage(&kafka);
    publish(&proxy, "tf/42/celsius", r#"{"celsius":90.0,"x":1}"#, &[]);
    publish(
        &proxy,
        "tf/42/celsius",
        r#"{"celsius":91.5,"x":1}"#,
        &["-D", "publish", "user-property", "unit", "C"],
    );
    publish(&proxy, "tf/7/batch", r#"{"readings":[1,2,3,4]}"#, &[]);
    publish(&proxy, "tf/7/raw", "Hi!", &[]);
    assert_eq!(
        kafka.consume("tf-hot", "%k|%s"),
        [r#"42|{"vin":"42","celsius":91.5,"by":"device-1","unit":"C"}"#]
    );
    assert_eq!(kafka.consume("tf-lines", "%k|%s"), ["7-2|2", "7-4|4"]);
    assert_eq!(kafka.consume("tf-odd", "%k|%s"), ["7-1|1", "7-3|3"]);
    assert!(kafka.consume("tf-odd", "%h")[0].ends_with("n=1"));
    assert_eq!(kafka.consume("tf-raw", "%s"), [r#"{"vin":"7","bytes":"SGkh"}"#]);
    assert_eq!(proxy.metric(&["messages_dropped_total", "select", "not_selected"]), 1.0);
    assert!(proxy.metric(&["transform_steps_total", "split"]) > 10.0);

    runtime().block_on(async {
        let greeting = Greeting {
            expiry: 600,
            clean: false,
            ..Greeting::staying("tf-stored")
        };
        let (mut client, _) = connect(proxy.mqtt, greeting).await;
        let messages = [
            // The program's own fault, at both; no JSON; a loop that ends, and one that does not.
            (1, "tf/8/batch", r#"{"readings":[6,"fail"]}"#, Event::PubAck(1, 0)),
            (2, "tf/8/batch", r#"{"readings":[6,"fail"]}"#, Event::PubRec(2, 0)),
            (1, "tf/8/celsius", "no json", Event::PubAck(3, 0x99)),
            (2, "tf/8/celsius", "no json", Event::PubRec(4, 0x99)),
            (1, "tf/8/endless", "3", Event::PubAck(5, 0)),
            (1, "tf/8/endless", "-1", Event::PubAck(6, 0x83)),
            (2, "tf/8/endless", "-1", Event::PubRec(7, 0x83)),
            // As many records of one message as its pairs may be in a partition, and one more.
            (2, "tf/9/batch", r#"{"readings":[2,4,6,8,10]}"#, Event::PubRec(8, 0)),
            (2, "tf/9/batch", r#"{"readings":[2,4,6,8,10,12]}"#, Event::PubRec(9, 0x83)),
            (2, "tf/9/celsius", r#"{"celsius":1}"#, Event::PubRec(10, 0)),
        ];
        for (id, (qos, topic, payload, expected)) in (1..).zip(messages) {
            client.publish(topic, qos, id, payload.as_bytes()).unwrap();
            client.flush().await.unwrap();
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), expected, "{topic} {payload}");
        }
    });
    let nine = ["9-2|2", "9-4|4", "9-6|6", "9-8|8", "9-10|10"];
    assert_eq!(kafka.consume("tf-lines", "%k|%s"), [&["7-2|2", "7-4|4", "8|0"][..], &nine].concat());
    let dead = kafka.consume("tf-dead", "%k|%s|%h");
    assert_eq!(dead.len(), 2);
    for letter in dead {
        assert!(letter.starts_with(r#"tf/8/batch|{"readings":[6,"fail"]}|"#), "{letter}");
        assert!(letter.ends_with("__connect.errors.exception.message=transform_error"), "{letter}");
    }
    assert_eq!(proxy.metric(&["transform_failures_total", "endless", "transform_limit"]), 2.0);
    assert_eq!(proxy.metric(&["transform_failures_total", "split", "transform_error"]), 2.0);
    eventually("the proxy lives", || proxy.get("/healthz").ok());
}

const BACK: &str = r#"
  - name: down
    direction: subscribe
    mqtt: "tb/{key}/commands"
    kafka: {topic: tb-commands}
    transform_back: 'select(.on != null) | {set: .on, for: $key, unit: $headers.unit, to: $topic}'
  - name: packed
    mqtt: "tb/{vin}/packed"
    kafka: {topic: tb-packed, key: "{vin}"}
    value: {payload: cbor, format: json}
    transform: '{vin: $vin, c: .c}'
  - name: kept
    mqtt: "tb/{vin}/kept"
    kafka: {topic: tb-kept, key: "{vin}"}
    transform: '{vin: $vin, c: .c}'
    transform_back: '{back: .c, vin: $vin}'
"#;

#[test]
fn programs_make_payloads_of_records_for_subscribers_at_the_tail_retained_and_shared() {
    let kafka = shared_kafka();
    ["tb-commands", "tb-packed", "tb-kept"]
        .iter()
        .for_each(|topic| kafka.topic(topic, 1));
    let topics = ", topics: {sessions: tb-sessions, retained: tb-retained, partitions: 1, replication: 1}";
    let proxy = Proxy::start_in(&[], &kafka.bootstrap, BACK.trim_matches('\n'), topics);
    let tail = Subscriber::mosquitto(&proxy, "mqttv5", "tb/+/commands");
    let shared = Subscriber::mosquitto(&proxy, "mqttv311", "$share/g/tb/+/commands");
    for value in ["no json", "{}", "[1]", r#"{"on":true}"#] {
        kafka.produce("tb-commands", "7", &["unit=C"], value);
    }
    let expected = r#"message tb/7/commands|2|{"set":true,"for":"7","unit":"C","to":"tb/7/commands"}"#;
    assert_eq!(tail.message(), expected);
    assert_eq!(shared.message(), expected);
    drop(shared);
    for (reason, least) in [("not_json", 1.0), ("not_selected", 1.0), ("transform_error", 1.0)] {
        assert!(proxy.metric(&["records_skipped_total", "down", reason]) >= least, "{reason}");
    }

    // {"c": 21.5} in CBOR, and what is none.
    let payload = b"\xa1\x61c\xf9\x4d\x60";
    runtime().block_on(async {
        let (mut client, _) = connect(
            proxy.mqtt,
            Greeting {
                clean: true,
                expiry: 0,
                ..Greeting::staying("tb")
            },
        )
        .await;
        client.publish("tb/1/packed", 1, 1, b"\xa1").unwrap();
        client.publish("tb/1/packed", 1, 2, payload).unwrap();
        client.flush().await.unwrap();
        assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(1, 0x99));
        assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(2, 0));
    });
    assert_eq!(kafka.consume("tb-packed", "%k|%s"), [r#"1|{"vin":"1","c":21.5}"#]);
    // Live and retained it is the same.
    let live = Subscriber::mosquitto(&proxy, "mqttv311", "tb/+/kept");
    publish(&proxy, "tb/1/kept", r#"{"c":1}"#, &["-r"]);
    let late = Subscriber::mosquitto(&proxy, "mqttv31", "tb/+/kept");
    for subscriber in [live, late] {
        assert_eq!(subscriber.message(), r#"message tb/1/kept|1|{"back":1,"vin":"1"}"#);
    }
}
