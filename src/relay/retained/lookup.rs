//! The body of a retained message that found no memory, read from the log by its offset.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Retained, body::Body, store::Place};
use crate::{
    kafka::fetched::{self, RecordView},
    mapping::{Located, RuleId, Stored},
    mqtt::publish::SharedProperties,
    relay::{feed::LIMITS, scribe::Clock},
    upstream::{Chunk, Start},
};

/// How long the log may take to give a body, before it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before that.
const AGAIN: Duration = Duration::from_millis(500);

impl Retained {
    /// Reads the body of a topic's message. `None`: it is gone, so something newer has taken its place. Asks as long as Kafka says nothing; a bounded
    /// number is read at one time, the others wait.
    pub(super) async fn look_up(&self, topic: &str, place: Place, rule: u32) -> Option<Arc<Body>> {
        loop {
            let one = self.lookups.acquire().await.ok()?;
            if let Ok(Some(answer)) = timeout(PATIENCE, self.read(topic, place, rule)).await {
                return answer.map(Arc::new);
            }
            drop(one);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// `None`: the log could not be read.
    async fn read(&self, topic: &str, place: Place, rule: u32) -> Option<Option<Body>> {
        let log = self.progress.borrow().topic.clone()?;
        let mut reader = self.cluster.read(&log, place.partition, Start::Offset(place.offset));
        loop {
            let chunk = reader.next().await?;
            if chunk.reset {
                return Some(None);
            }
            if let Some(answer) = self.find(chunk, topic, place.offset, rule) {
                return Some(answer);
            }
        }
    }

    /// The body, if the chunk reaches as far: `Some(None)`, if it is not there.
    fn find(&self, chunk: Chunk, topic: &str, offset: i64, rule: u32) -> Option<Option<Body>> {
        let reaches = chunk.next_offset > offset;
        for batch in fetched::batches(chunk.bytes, LIMITS).starting_at(offset) {
            let batch = batch.ok()?;
            let record = batch.records().map_while(Result::ok).find(|record| record.offset == offset);
            if let Some(record) = record {
                return Some(self.interpret(&record, topic, rule));
            }
        }
        reaches.then_some(None)
    }

    fn interpret(&self, record: &RecordView<'_>, topic: &str, rule: u32) -> Option<Body> {
        let stored = Stored {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers(),
        };
        let mut properties = SharedProperties::new();
        let located = Located { rule: RuleId(rule), topic };
        let message = self.rules.message(&located, &stored, &mut properties);
        let expires = message
            .message_expiry_interval
            .map(|seconds| Clock::now().end(record.timestamp, seconds));
        (record.key == Some(topic.as_bytes()) && record.value.is_some()).then(|| Body::copy(&message, expires))
    }
}
