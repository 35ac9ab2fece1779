//! Wills of stored sessions on their way into Kafka.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::Around;
use crate::{
    mapping::{Draft, Inbound, PartitionChoice},
    mqtt::{Publish, PublishProperties, UserProperties, publish::SharedProperties},
    ownership::StoredWill,
    relay::inbound::now_ms,
    upstream::{AppendError, Appender, Outcome, Receipts, Topic, TopicState, WriteOptions},
};

/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// Sends a will until Kafka has all records that the rules make of it.
pub(super) async fn send(around: &Around, client: &str, will: &StoredWill) {
    let mut user = SharedProperties::new();
    for (name, value) in &will.user {
        user.user(name, value);
    }
    let publish = publish(will, user.as_bytes());
    let inbound = Inbound {
        publish: &publish,
        topic: publish.topic,
        client,
        now_ms: now_ms(),
    };
    let mut draft = Draft::new();
    if around.rules.route(&inbound, &mut draft).is_err() {
        return tracing::warn!(client, topic = will.topic, "no rule maps a will any more: it is dropped");
    }
    for record in 0..draft.len() {
        while !send_one(around, &draft, record, &inbound).await {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// False: it is to be tried again.
async fn send_one(around: &Around, draft: &Draft, record: usize, inbound: &Inbound<'_>) -> bool {
    let name = draft.kafka_topic(record, &around.rules);
    let topic = match around.cluster.topic_known(name).await {
        TopicState::Ready(topic) => topic,
        TopicState::Unknown => return false,
        TopicState::Missing => {
            tracing::error!(
                client = inbound.client,
                topic = name,
                "the Kafka topic of a will does not exist: it is dropped"
            );
            return true;
        }
    };
    let Ok(choice) = draft.partition(record, &around.rules, inbound, topic.partitions.len() as u32) else {
        return true;
    };
    let partition = match choice {
        PartitionChoice::Index(index) => index as usize,
        // Wills are rare: no turn is kept for them.
        PartitionChoice::RoundRobin | PartitionChoice::Sticky => 0,
    };
    let came = Arc::new(Notify::new());
    let receipts = Receipts::new(came.clone());
    let mut appender = around.cluster.appender();
    while let Err(error) = append(around, &mut appender, &topic, partition, (draft, record, inbound), &receipts) {
        match error {
            AppendError::MemoryFull => appender.memory_available().await,
            AppendError::Closed => return false,
            AppendError::TooLarge | AppendError::NoPartition => return true,
        }
    }
    appender.kick();
    let mut outcomes = Vec::new();
    while outcomes.is_empty() {
        came.notified().await;
        receipts.take(&mut outcomes);
    }
    matches!(outcomes[0].outcome, Outcome::Stored { .. } | Outcome::Refused(_))
}

fn append(
    around: &Around,
    appender: &mut Appender,
    topic: &Topic,
    partition: usize,
    (draft, record, inbound): (&Draft, usize, &Inbound<'_>),
    receipts: &Arc<Receipts>,
) -> Result<(), AppendError> {
    let rule = around.rules.rule(draft.rule(record));
    let options = WriteOptions {
        compression: rule.compression,
        ..WriteOptions::default()
    };
    let fields = draft.fields(record, &around.rules, inbound);
    appender.append(topic, partition, &fields, options, Some((receipts, 0)))
}

/// The PUBLISH that a will stands for.
fn publish<'a>(will: &'a StoredWill, user: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: will.qos,
        retain: will.retain,
        topic: &will.topic,
        packet_id: None,
        properties: PublishProperties {
            payload_format: will.payload_format,
            message_expiry_interval: will.expiry,
            topic_alias: None,
            response_topic: will.response_topic.as_deref(),
            correlation_data: will.correlation_data.as_deref(),
            subscription_ids: Default::default(),
            content_type: will.content_type.as_deref(),
            user: UserProperties { block: user },
        },
        payload: &will.payload,
    }
}
