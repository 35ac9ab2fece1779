//! Rules of every kind between real devices and a real Kafka: what `proxy.yaml` says is what is stored and delivered.

use crate::deliver::Subscriber;
use crate::shared_kafka;
use crate::stage::{Proxy, output};

/// Publishes by mosquitto at QoS 1; returns once that is acknowledged.
fn publish(proxy: &Proxy, id: &str, topic: &str, payload: &str, more: &[&str]) {
    let port = proxy.mqtt.port().to_string();
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-i",
        id,
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ];
    output("mosquitto_pub", &[&arguments[..], more].concat());
}

#[test]
fn an_expression_takes_what_a_filter_cannot_and_gives_it_back() {
    let kafka = shared_kafka();
    ["regex-nord", "regex-rest"].into_iter().for_each(|topic| kafka.topic(topic, 1));
    let rules =
        "  - {name: lines, mqtt_regex: \"plants/(?<site>[a-z]+)-(?<hall>[0-9]+)/.*\", kafka: {topic: \"regex-{site}\", key: \"{hall}\"}}
  - {name: rest, mqtt: \"plants/#\", kafka: {topic: regex-rest}}";
    let proxy = Proxy::start(&kafka.bootstrap, rules, "");
    let one = Subscriber::mosquitto(&proxy, "mqttv5", "plants/nord-7/temperature");
    let all = Subscriber::mosquitto(&proxy, "mqttv311", "plants/nord/#");
    publish(&proxy, "device", "plants/nord-7/temperature", "21.5", &[]);
    publish(&proxy, "device", "plants/nord/temperature", "22.5", &[]);
    assert_eq!(one.message(), "message plants/nord-7/temperature|1|21.5");
    assert_eq!(all.message(), "message plants/nord/temperature|1|22.5");
    assert_eq!(kafka.consume("regex-nord", "%k|%s"), ["7|21.5"]);
    assert_eq!(kafka.consume("regex-rest", "%k|%s"), ["plants/nord/temperature|22.5"]);
    // Records of others belong to a topic only if they say to which.
    kafka.produce("regex-nord", "7", &[], "nowhere");
    kafka.produce("regex-nord", "8", &["mqtt.topic=plants/nord-7/temperature"], "not its key");
    kafka.produce("regex-nord", "7", &["mqtt.topic=plants/nord-7/temperature"], "23.5");
    assert_eq!(one.message(), "message plants/nord-7/temperature|2|23.5");
    assert!(proxy.metric(&["records_skipped_total", "lines", "no_inverse"]) >= 2.0);
}
