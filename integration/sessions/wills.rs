//! Where wills of stored sessions go, and where not.

use super::{Greeting, connect, endings::wills_kept, instance, instance_in, runtime};
use crate::shared_kafka;
use crate::stage::{Proxy, eventually, output};

/// A rule that skips what it may not write lets such a will through CONNECT: it must not reach the proxy's own topics by the store either.
#[test]
fn a_stored_will_is_not_written_to_a_state_topic() {
    let kafka = shared_kafka();
    kafka.topic("forged", 1);
    let rules = "  - {name: any, mqtt: \"forged/{kafka}\", on_error: skip, kafka: {topic: \"{kafka}\"}}
  - {name: copy, also: true, direction: publish, mqtt: \"forged/+\", kafka: {topic: forged}}
sessions: {expiry: {}, instance_timeout: 2s}";
    let topics = ", topics: {sessions: forged-sessions, retained: forged-retained, partitions: 4, replication: 1}";
    let proxy = Proxy::start(&kafka.bootstrap, rules, topics);
    for topic in ["forged-retained", "forged-sessions"] {
        let will = format!("forged/{topic}");
        let greeting = Greeting {
            client: topic,
            will: Some((&will, "forged", 0)),
            ..Greeting::default()
        };
        runtime().block_on(async { drop(connect(proxy.mqtt, greeting).await) });
    }
    // The copy is written behind the record that must not be.
    eventually("both wills are sent", || {
        (kafka.consume("forged", "%s") == ["forged", "forged"]).then_some(())
    });
    for topic in ["forged-retained", "forged-sessions"] {
        let values = kafka.consume(topic, "%s");
        assert!(!values.iter().any(|value| value == "forged"), "{topic}: {values:?}");
    }
}

/// One client is lost and its own instance sends the will. Of another the instance dies between the two records of its will; with it a
/// third one, of which nothing was sent yet. For those two the custodian does it.
#[test]
fn a_retained_will_of_a_stored_session_is_retained_whoever_sends_it_and_wherever_its_owner_dies() {
    let kafka = shared_kafka();
    kafka.topic("keptwills", 2);
    let mut dies = instance_in(&[("MQTT_KAFKA_PROXY_DIES_AT", "mapped:1")], &kafka, "keptwills", "");
    let stays = instance(&kafka, "keptwills", "");
    runtime().block_on(async {
        let greeting = |client, will| Greeting {
            will: Some((will, client, 0)),
            retain: true,
            ..Greeting::staying(client)
        };
        let (third, _) = connect(dies.mqtt, greeting("third", "keptwills/3")).await;
        let (second, _) = connect(dies.mqtt, greeting("second", "keptwills/2")).await;
        let (first, _) = connect(stays.mqtt, greeting("first", "keptwills/1")).await;
        drop((first, second));
        eventually("an instance dies between the two records", || dies.is_dead().then_some(()));
        drop(third);
    });
    eventually("no session holds a will any more", || {
        wills_kept(&kafka, "keptwills").is_empty().then_some(())
    });
    let mut sent = kafka.consume("keptwills", "%s");
    sent.sort();
    assert_eq!(sent, ["first", "second", "third"], "each was sent once");
    let port = stays.mqtt.port().to_string();
    let subscribe = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-t",
        "keptwills/#",
        "-C",
        "3",
        "-W",
        "30",
        "-F",
        "%t %r %p",
    ];
    let got = output("mosquitto_sub", &subscribe);
    let mut got: Vec<&str> = got.lines().collect();
    got.sort_unstable();
    assert_eq!(got, ["keptwills/1 1 first", "keptwills/2 1 second", "keptwills/3 1 third"]);
}
