//! Single records by a pair: written once, whoever sends them again.

use std::time::Duration;

use mqtt_kafka_proxy::kafka::batch::Producer;
use mqtt_kafka_proxy::kafka::{Header, RecordFields};
use mqtt_kafka_proxy::upstream::{Cluster, Fate, ProducerSettings, Settings, Topic, WriteOptions};

use super::runtime;
use crate::shared_kafka;

type Identity = (i64, i16);

async fn produce(
    cluster: &Cluster,
    topic: &Topic,
    value: &str,
    (producer_id, producer_epoch): Identity,
    (base_sequence, timestamp): (i32, i64),
) -> Fate {
    let fields = RecordFields {
        timestamp,
        key: None,
        value: Some(value.as_bytes()),
        headers: std::iter::empty::<Header<'_>>(),
    };
    let single = cluster.appender().single(&fields, WriteOptions::default()).unwrap();
    let stamp = Producer {
        producer_id,
        producer_epoch,
        base_sequence,
    };
    cluster.produce_single(&single, &topic.partitions[0], &stamp, false).await
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
        let id = one.fresh_producer_id().await;
        assert_ne!(id, other.fresh_producer_id().await, "nobody has used it");
        let (here, there) = (
            one.topic_appears("singles").await.unwrap(),
            other.topic_appears("singles").await.unwrap(),
        );
        for (value, sequence) in [("a", 0), ("b", 1)] {
            // Also who says it again hears where it was appended first, and of which time that is.
            let there_at = |timestamp| Fate::Appended {
                offset: sequence.into(),
                timestamp,
            };
            assert_eq!(produce(&one, &here, value, id, (sequence, 7)).await, there_at(None));
            for _ in 0..2 {
                assert_eq!(produce(&other, &there, "other", id, (sequence, 8)).await, there_at(Some(7)));
                assert_eq!(produce(&one, &here, value, id, (sequence, 9)).await, there_at(Some(7)));
            }
        }
        assert_eq!(produce(&one, &here, "c", id, (7, 7)).await, Fate::Gap);
        let next = (id.0, id.1 + 1);
        let appended = Fate::Appended {
            offset: 2,
            timestamp: None,
        };
        assert_eq!(produce(&other, &there, "d", next, (0, 7)).await, appended);
        assert_eq!(
            produce(&one, &here, "e", id, (2, 7)).await,
            Fate::Fenced,
            "a later epoch has decided"
        );
        one.shutdown().await;
        other.shutdown().await;
    });
    assert_eq!(kafka.consume("singles", "%s"), ["a", "b", "d"]);
}
