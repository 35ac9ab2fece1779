//! Single records by a pair: written once, whoever sends them again.

use std::time::Duration;

use mqtt_kafka_proxy::kafka::batch::{BatchBuilder, Producer};
use mqtt_kafka_proxy::kafka::{Compression, Header, RecordFields};
use mqtt_kafka_proxy::upstream::{Cluster, ProducerSettings, Settings, SingleOutcome};

use super::runtime;
use crate::shared_kafka;

fn batch(value: &str, (producer_id, producer_epoch): (i64, i16), base_sequence: i32) -> bytes::Bytes {
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(value.as_bytes()),
        headers: std::iter::empty::<Header<'_>>(),
    };
    let mut batch = BatchBuilder::new();
    batch.append(&fields).unwrap();
    let producer = Producer {
        producer_id,
        producer_epoch,
        base_sequence,
    };
    batch.seal(&producer, Compression::None).bytes
}

#[test]
fn a_record_that_is_sent_again_by_its_pair_is_there_once() {
    let kafka = shared_kafka();
    kafka.topic("singles", 1);
    let cluster = || {
        Cluster::start(Settings {
            bootstrap_servers: vec![kafka.bootstrap.clone()],
            producer: ProducerSettings {
                delivery_timeout: Duration::from_secs(30),
                ..ProducerSettings::default()
            },
            ..Settings::default()
        })
    };
    runtime().block_on(async {
        // Two instances that share nothing.
        let (one, other) = (cluster(), cluster());
        let id = one.fresh_producer().await;
        assert_ne!(id, other.fresh_producer().await, "nobody has used it");
        let (here, there) = (
            one.topic_appears("singles").await.unwrap(),
            other.topic_appears("singles").await.unwrap(),
        );
        for (value, sequence) in [("a", 0), ("b", 1)] {
            for _ in 0..2 {
                assert_eq!(
                    one.produce_single(&here, 0, batch(value, id, sequence)).await,
                    SingleOutcome::Stored
                );
                assert_eq!(
                    other.produce_single(&there, 0, batch("other", id, sequence)).await,
                    SingleOutcome::Stored
                );
            }
        }
        assert_eq!(one.produce_single(&here, 0, batch("c", id, 7)).await, SingleOutcome::Gap);
        let next = (id.0, id.1 + 1);
        assert_eq!(other.produce_single(&there, 0, batch("d", next, 0)).await, SingleOutcome::Stored);
        assert_eq!(
            one.produce_single(&here, 0, batch("e", id, 2)).await,
            SingleOutcome::Unknown,
            "a later epoch has decided"
        );
        one.shutdown().await;
        other.shutdown().await;
    });
    assert_eq!(kafka.consume("singles", "%s"), ["a", "b", "d"]);
}
