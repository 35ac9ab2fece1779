//! Where wills of stored sessions go, and where not.

use super::{Greeting, connect, runtime};
use crate::shared_kafka;
use crate::stage::{Proxy, eventually};

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
