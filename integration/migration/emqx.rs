//! An EMQX with Kafka connectors is replaced: its file is imported, and what it did between devices and Kafka is done.
//!
//! What it did says its documentation: a message is stored by the actions of every rule whose filter matches it, with the key and the value of
//! the action's templates; a record of a source is published to the topic of a template, and reaches who subscribes to it.

use serde_json::Value;

use super::started;
use crate::deliver::Subscriber;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually, output};

/// As `cluster.hocon` is written there; Kafka and the listener are this run's.
const CLUSTER: &str = r#"
listeners.tcp.default { bind = "LISTENER", max_connections = infinity }
dashboard.listeners.http.bind = 18083
connectors.kafka_producer.plant { bootstrap_hosts = "KAFKA", connect_timeout = 5s }
connectors.kafka_consumer.plant { bootstrap_hosts = "KAFKA" }
actions.kafka_producer {
  readings {
    connector = plant
    parameters {
      topic = emq-readings
      message { key = "${.clientid}", value = "${.payload}", timestamp = "${.timestamp}" }
      partition_strategy = key_dispatch
      required_acks = leader_only
      compression = snappy
      kafka_ext_headers = [{ kafka_ext_header_key = source, kafka_ext_header_value = "${.clientid}" }]
    }
  }
  events { connector = plant, parameters { topic = emq-events, message { key = "${topic}", value = "${.}" } } }
  states { connector = plant, parameters { topic = emq-states, message { key = "${topic}", value = "${payload}" } } }
}
sources.kafka_consumer {
  orders { connector = plant, parameters { topic = emq-orders, group_id = emqx } }
  news {
    connector = plant
    parameters {
      topic = emq-news
      value_encoding_mode = base64
      topic_mapping = [{ kafka_topic = emq-news, mqtt_topic = "news/${.key}", qos = 2, payload_template = "${.value}" }]
    }
  }
}
rule_engine.rules {
  readings { sql = "SELECT * FROM \"line/+/reading\"", actions = ["kafka_producer:readings"] }
  events { sql = "SELECT * FROM \"line/#\"", actions = ["kafka_producer:events"] }
  states { sql = "SELECT payload, topic FROM \"state/+\", \"old/state\"", actions = ["kafka_producer:states"] }
  orders {
    sql = "SELECT * FROM \"$sources/kafka_consumer:orders\""
    actions = [{ function = republish, args { topic = "vehicles/${key}/orders", payload = "${value}", qos = 1 } }]
  }
}
"#;

/// Who publishes where, and what. Each has another quality of service than the one before; that of `elsewhere`, which no rule takes, is one that
/// is answered.
const MESSAGES: [[&str; 3]; 6] = [
    ["meter-1", "line/7/reading", "21.5"],
    ["meter-2", "line/8/reading", "{\"celsius\": 20}"],
    ["meter-1", "line/7/state", "on"],
    ["panel", "state/door", "open"],
    ["panel", "elsewhere", "nobody's"],
    ["panel", "old/state", "gone"],
];

fn imported(kafka: &Kafka) -> Proxy {
    started("emqx", "cluster.hocon", CLUSTER, &kafka.bootstrap)
}

fn publish(proxy: &Proxy, qos: usize, [client, topic, payload]: [&str; 3]) {
    let (port, qos) = (proxy.mqtt.port().to_string(), qos.to_string());
    let who = ["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-i", client];
    let what = ["-q", &qos, "-t", topic, "-m", payload];
    output("mosquitto_pub", &[&who[..], &what].concat());
}

/// Keys and values of a topic that is to have so many records. Nobody answers QoS 0, so one may come a moment later.
fn stored(kafka: &Kafka, topic: &str, count: usize) -> Vec<String> {
    let mut records = eventually(topic, || {
        let records = kafka.consume(topic, "%k|%s");
        (records.len() >= count).then_some(records)
    });
    records.sort();
    records
}

#[test]
fn messages_become_the_records_that_emqx_made_of_them() {
    let kafka = shared_kafka();
    let topics = ["emq-readings", "emq-events", "emq-states"];
    topics.into_iter().for_each(|topic| kafka.topic(topic, 3));
    let proxy = imported(&kafka);
    for (at, message) in MESSAGES.into_iter().enumerate() {
        publish(&proxy, at % 3, message);
    }
    let readings = ["meter-1|21.5", "meter-2|{\"celsius\": 20}"];
    assert_eq!(stored(&kafka, "emq-readings", 2), readings);
    for record in kafka.consume("emq-readings", "%k|%h") {
        let (key, headers) = record.split_once('|').unwrap();
        assert!(headers.contains(&format!("source={key}")), "{record}");
    }
    assert_eq!(stored(&kafka, "emq-states", 2), ["old/state|gone", "state/door|open"]);
    // Of each message below `line`, whatever other rule has it: all that is said of it.
    let events = stored(&kafka, "emq-events", 3);
    assert_eq!(events.len(), 3, "{events:?}");
    for [client, topic, payload] in MESSAGES.into_iter().filter(|[_, topic, _]| topic.starts_with("line/")) {
        let mut pairs = events.iter().filter_map(|record| record.split_once('|'));
        let (_, event) = pairs.find(|(key, _)| *key == topic).unwrap();
        let event: Value = serde_json::from_str(event).unwrap();
        let said = ["clientid", "topic", "payload"].map(|field| event[field].clone());
        assert_eq!(said, [client, topic, payload].map(Value::from), "{event}");
    }
    let dropped = || proxy.metric(&["refusals_total", "unmapped"]) == 1.0;
    eventually("what no rule takes is acknowledged and counted", || dropped().then_some(()));
}

#[test]
fn records_become_the_messages_that_emqx_made_of_them() {
    let kafka = shared_kafka();
    ["emq-orders", "emq-news"].into_iter().for_each(|topic| kafka.topic(topic, 3));
    let proxy = imported(&kafka);
    let orders = Subscriber::mosquitto(&proxy, "mqttv311", "vehicles/42/orders");
    let news = Subscriber::mosquitto(&proxy, "mqttv5", "news/#");
    for (vehicle, order) in [("7", "not for it"), ("42", "stop"), ("42", "go on")] {
        kafka.produce("emq-orders", vehicle, &[], order);
    }
    assert_eq!(orders.message(), "message vehicles/42/orders|1|stop");
    assert_eq!(orders.message(), "message vehicles/42/orders|1|go on");
    // In base64, as that source says.
    kafka.produce("emq-news", "north/coast", &[], "snow");
    assert_eq!(news.message(), "message news/north/coast|2|c25vdw==");
}
