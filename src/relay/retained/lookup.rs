//! The body of a retained message that found no memory, read from the log by its offset.
//!
//! Told as a sequence of events. A message is written twice (a producer did not know, or it was overtaken), so it lies at two places; a walk comes
//! to it and asks at the first; compaction removes that; the tail reads the second. So where nothing is found, the tail has to read all there
//! is, and then the store says where the message lies now.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Retained,
    body::Body,
    mapped::Mapped,
    store::{Content, Place},
    stream::Message,
};
use crate::{
    audit::cut,
    kafka::fetched::{self, RecordView},
    mapping::{Located, Restored, RuleId, Stored},
    mqtt::publish::SharedProperties,
    ownership,
    relay::{feed::LIMITS, scribe::Clock},
    upstream::{Chunk, Start},
};

/// How long the log may take to give a body, before it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before that.
const AGAIN: Duration = Duration::from_millis(500);

impl Retained {
    /// A topic's message of a version, which lay at a place. `None`: it is gone, so something newer has taken its place, and is told
    /// in another way. Asks as long as Kafka says nothing.
    pub(super) async fn follow(&self, topic: String, (version, mut place, rule): (u64, Place, u32)) -> Option<Message> {
        let body = loop {
            if let Some(body) = self.look_up(&topic, place, rule).await {
                break body;
            }
            while !matches!(timeout(PATIENCE, self.caught_up(&[&topic])).await, Ok(Some(_))) {
                tokio::time::sleep(AGAIN).await;
            }
            match self.place_now(&topic, version) {
                Some((now, Some(body))) => {
                    place = now;
                    break body;
                }
                // Written once more: so often this goes on.
                Some((now, None)) if now != place => place = now,
                _ => {
                    tracing::debug!(topic = &*cut(&topic), "a retained message is no longer in the log");
                    return None;
                }
            }
        };
        let rule = rule as usize;
        Some(Message { topic, rule, place, body })
    }

    /// Where a version lies, and its body if that is at hand.
    fn place_now(&self, topic: &str, version: u64) -> Option<(Place, Option<Arc<Body>>)> {
        let store = self.store();
        let entry = store.entry(topic).filter(|entry| entry.version == version)?;
        match &entry.content {
            Content::Here(body) => Some((entry.place, Some(body.clone()))),
            Content::Elsewhere => Some((entry.place, None)),
            Content::Cleared => None,
        }
    }

    /// The message whose record lies at a place that a session has stored. `None`: it is gone. Asks as long as Kafka says nothing.
    pub(super) async fn message_at(&self, place: ownership::Place) -> Option<Message> {
        loop {
            let one = self.lookups.acquire().await.ok()?;
            if let Ok(Some(answer)) = timeout(PATIENCE, self.read_at(place)).await {
                return answer;
            }
            drop(one);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// `None`: the log could not be read.
    async fn read_at(&self, at: ownership::Place) -> Option<Option<Message>> {
        let topic = self.progress.borrow().topic.clone()?;
        let place = Place {
            partition: at.source.partition.cast_signed(),
            offset: at.offset,
        };
        // It was made anew, and what it has now is none of the session's.
        if *topic.id.as_bytes() != at.source.topic || at.source.partition as usize >= topic.partitions.len() {
            return Some(None);
        }
        let ends = self.cluster.end_offsets(&[(topic, place.partition)]).await;
        // Nothing would come of what lies behind the end.
        if *ends.first()?.as_ref().ok()? <= place.offset {
            return Some(None);
        }
        let message = self.record(place, |record| self.message(record, place)).await?;
        Some(message.flatten())
    }

    /// What a record is by itself.
    fn message(&self, record: &RecordView<'_>, place: Place) -> Option<Message> {
        let topic = std::str::from_utf8(record.key?).ok()?;
        let mapped = Mapped::of(record)?;
        let rule = self.rules.retained_rule(&self.rules.reader(mapped.topic), topic)?;
        Some(Message {
            topic: topic.to_owned(),
            rule: rule.0 as usize,
            place,
            body: Arc::new(self.interpret(record, topic, rule.0)?),
        })
    }

    /// `None`: it is not there. A bounded number is read at one time, the others wait.
    async fn look_up(&self, topic: &str, place: Place, rule: u32) -> Option<Arc<Body>> {
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
        let body = self.record(place, |record| self.interpret(record, topic, rule)).await?;
        Some(body.flatten())
    }

    /// What `take` makes of the record at a place. `Some(None)`: it is not there; `None`: the log could not be read.
    pub(super) async fn record<T>(&self, place: Place, take: impl Fn(&RecordView<'_>) -> T) -> Option<Option<T>> {
        let log = self.progress.borrow().topic.clone()?;
        let mut reader = self.cluster.read(&log, place.partition, Start::Offset(place.offset));
        loop {
            let chunk = reader.next().await?;
            if chunk.reset {
                return Some(None);
            }
            if let Some(answer) = find(chunk, place.offset, &take) {
                return Some(answer);
            }
        }
    }

    fn interpret(&self, record: &RecordView<'_>, topic: &str, rule: u32) -> Option<Body> {
        let stored = Stored::from(record);
        let mut properties = SharedProperties::new();
        let located = Located {
            rule: RuleId(rule),
            topic,
            kafka_topic: Mapped::of(record).map_or("", |mapped| mapped.topic),
        };
        let (clock, mut restored) = (Clock::now(), Restored::default());
        // Its key is that of the retained topic; which the mapped record had is not known.
        self.rules
            .restore(&located, &stored, stored.value, None, clock.wall_ms, &mut restored)
            .ok()?;
        let mut message = self.rules.message(&located, &stored, &mut properties);
        message.payload = restored.payload().unwrap_or(message.payload);
        let expires = message.message_expiry_interval.map(|seconds| clock.end(record.timestamp, seconds));
        let has_value = record.value.is_some_and(|value| !value.is_empty());
        (record.key == Some(topic.as_bytes()) && has_value).then(|| Body::copy(&message, expires))
    }
}

/// What `take` makes of the record, if the chunk reaches as far: `Some(None)`, if it is not there.
fn find<T>(chunk: Chunk, offset: i64, take: impl Fn(&RecordView<'_>) -> T) -> Option<Option<T>> {
    let reaches = chunk.next_offset > offset;
    for batch in fetched::batches(chunk.bytes, LIMITS).starting_at(offset) {
        let batch = batch.ok()?;
        let record = batch.records().map_while(Result::ok).find(|record| record.offset == offset);
        if let Some(record) = record {
            return Some(Some(take(&record)));
        }
    }
    reaches.then_some(None)
}
