//! Programs of rules against a real Kafka, with mosquitto and with clients whose every answer is looked at.

use super::{Greeting, connect, runtime};
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
