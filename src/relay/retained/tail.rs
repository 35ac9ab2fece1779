//! Reads the retained topic into the store, from its beginning and then as it grows, and tells seats what they would miss.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Progress, Retained,
    body::Body,
    mapped::{AS_OF, Mapped},
    store::{Applied, Incoming, Place},
};
use crate::{
    kafka::fetched::{self, RecordView},
    mapping::{Located, Reader, Restored, Stored},
    mqtt::{publish::SharedProperties, topic::validate_name},
    relay::{allowance, feed::LIMITS, hub::Hub, scribe::Clock},
    upstream::{Chunk, State, Table, TableEvent, TopicId},
};

/// The pause before the topic is opened again, after it was made anew or could not be read.
const AGAIN: Duration = Duration::from_millis(200);
/// Damaged batches that are asked for again; more are left out at once.
const MOST_DOUBTED: usize = 1_000;
/// Names that are looked at under one lock, to forget those that are no longer there.
const MOST_FORGOTTEN: usize = 1_000;

/// Runs until it is aborted.
pub(super) async fn run(retained: Arc<Retained>, hub: Arc<Hub>) {
    hub.tables.settled_for_readers().await;
    let mut tail = Tail {
        retained: retained.clone(),
        hub,
        readers: HashMap::new(),
        properties: SharedProperties::new(),
        restored: Restored::default(),
        doubted: HashSet::new(),
        known: None,
    };
    // Not before the topic is there: it would be looked for again only after a while.
    let _ = retained.cluster.state().wait_for(|state| *state == State::Ready).await;
    while let Some(topic) = retained.cluster.topic_appears(&retained.settings.topic).await {
        match retained.cluster.table(&topic).await {
            Ok(table) => tail.read(table).await,
            Err(code) => tracing::warn!(topic = &*topic.name, error = code.name(), "the retained messages cannot be read"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Tail {
    retained: Arc<Retained>,
    hub: Arc<Hub>,
    /// The rules of each mapped Kafka topic that was met.
    readers: HashMap<Box<str>, Reader>,
    properties: SharedProperties,
    restored: Restored,
    /// Where batches began that could not be read when they were first met: those may have been damaged on their way.
    doubted: HashSet<(i32, i64)>,
    /// Which topic was read before, and of each partition how far.
    known: Option<(TopicId, Vec<i64>)>,
}

impl Tail {
    /// Until the topic is made anew, or records of it were lost. What is known from before stays until all has been read.
    async fn read(&mut self, mut table: Table) {
        let topic = table.topic();
        let known = self.known.take().filter(|(id, _)| *id == topic.id).map(|(_, known)| known);
        let mut known = known.unwrap_or_else(|| vec![0; topic.partitions.len()]);
        self.retained.store().begin(known.clone());
        let partitions = topic.partitions.len();
        let positions = (0..partitions as i32).map(|p| table.position(p).unwrap_or(0)).collect();
        self.retained.progress.send_replace(Progress {
            topic: Some(table.topic().clone()),
            loaded: false,
            positions,
        });
        let id = topic.id;
        let (mut cut, mut again, mut loaded) = (None, false, false);
        while let Some(event) = table.next().await {
            match event {
                TableEvent::Records(chunk) if chunk.reset => {
                    cut = Some((chunk.partition as usize, chunk.offset));
                    tracing::error!("records of the retained topic were lost before they were read; it is read anew");
                    break;
                }
                TableEvent::Records(chunk) => {
                    let partition = chunk.partition;
                    again |= self.records(chunk).await;
                    if again && loaded {
                        break;
                    }
                    let position = table.position(partition).unwrap_or(0);
                    self.retained.progress.send_modify(|progress| {
                        if let Some(at) = progress.positions.get_mut(partition as usize) {
                            *at = position;
                        }
                    });
                    self.count();
                    // Much may come at once: others get their turn.
                    tokio::task::yield_now().await;
                }
                TableEvent::CaughtUp { .. } => {}
                TableEvent::Complete if again => break,
                TableEvent::Complete => {
                    loaded = true;
                    self.forget_unmet().await;
                    let messages = self.retained.store().len();
                    tracing::info!(messages, "the retained messages are read");
                    self.retained.progress.send_modify(|progress| progress.loaded = true);
                }
            }
        }
        self.retained.progress.send_modify(|progress| {
            progress.loaded = false;
            known
                .iter_mut()
                .zip(&progress.positions)
                .for_each(|(known, at)| *known = *at.max(known));
        });
        if let Some((partition, offset)) = cut {
            // What is written there from now on is something else.
            known[partition] = known[partition].min(offset);
        }
        self.known = Some((id, known));
    }

    async fn forget_unmet(&self) {
        let mut behind = None;
        loop {
            behind = self.retained.store().forget_unmet(behind.as_deref(), MOST_FORGOTTEN);
            if behind.is_none() {
                return self.count();
            }
            tokio::task::yield_now().await;
        }
    }

    fn count(&self) {
        let store = self.retained.store();
        let metrics = &self.retained.metrics;
        metrics.retained.messages.set(store.len() as i64);
        metrics.retained.bytes.set(store.held() as i64);
    }

    /// Takes what was fetched, in several turns if programs take long. True: a batch cannot be read, and is to be asked for once more.
    async fn records(&mut self, chunk: Chunk) -> bool {
        allowance::begin();
        let (clock, partition, mut again) = (Clock::now(), chunk.partition, false);
        let mut batches = fetched::batches(chunk.bytes, LIMITS).starting_at(chunk.offset);
        while let (Some(base), Some(batch)) = (batches.next_base(), batches.next()) {
            let batch = match batch {
                Ok(batch) if batch.is_control => continue,
                Ok(batch) => batch,
                Err(error) if self.doubted.len() < MOST_DOUBTED && self.doubted.insert((partition, base)) => {
                    self.retained.metrics.batches_read_again.inc();
                    tracing::warn!(partition, base, %error, "a batch of retained messages cannot be read; all of them are asked for again");
                    again = true;
                    continue;
                }
                Err(error) => {
                    self.unreadable(&error);
                    continue;
                }
            };
            for record in batch.records() {
                match record {
                    Ok(record) if record.offset < chunk.offset => {}
                    Ok(record) => self.record(partition, &record, clock),
                    Err(error) => {
                        self.unreadable(&error);
                        break;
                    }
                }
                if allowance::is_used_up() {
                    allowance::next_turn().await;
                }
            }
        }
        again
    }

    fn unreadable(&self, error: &fetched::BatchError) {
        self.retained.metrics.unreadable_batches.inc();
        tracing::error!(%error, "a batch of retained messages cannot be read and is left out");
    }

    /// One record. What is none of the proxy's (no name of a topic as key, no header `mqtt.mapped`) is left out and counted.
    fn record(&mut self, partition: i32, record: &RecordView<'_>, clock: Clock) {
        let topic = record.key.and_then(|key| std::str::from_utf8(key).ok());
        let Some(topic) = topic.filter(|topic| validate_name(topic).is_ok()) else {
            self.retained.metrics.retained.foreign.inc();
            return;
        };
        let header = |wanted: &[u8]| record.headers().find(|(name, _)| *name == wanted).and_then(|(_, value)| value);
        let mapped = Mapped::of(record);
        let as_of = header(AS_OF.as_bytes()).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let place = Place {
            partition,
            offset: record.offset,
        };
        let (Some(value), Some(mapped)) = (record.value, mapped) else {
            match record.value {
                None => self.retained.store().tombstone(topic, place, mapped.as_ref()),
                Some(_) => {
                    self.retained.metrics.retained.foreign.inc();
                }
            }
            return;
        };
        let retained = self.retained.clone();
        let rules = &retained.rules;
        let reader = self
            .readers
            .entry(mapped.topic.into())
            .or_insert_with(|| rules.reader(mapped.topic));
        // The rules have changed since: nobody could subscribe to it, or it is no longer to be kept.
        let Some(rule) = rules.retained_rule(reader, topic) else {
            return retained.store().forget(topic);
        };
        let body = (!value.is_empty()).then_some(()).and_then(|()| {
            let (stored, located) = (
                Stored::from(record),
                Located {
                    rule,
                    topic,
                    kafka_topic: mapped.topic,
                },
            );
            // Its key is that of the retained topic; which the mapped record had is not known. What the rule makes nothing of nobody gets.
            rules
                .restore(&located, &stored, stored.value, None, clock.wall_ms, &mut self.restored)
                .ok()?;
            let mut message = rules.message(&located, &stored, &mut self.properties);
            message.payload = self.restored.payload().unwrap_or(message.payload);
            let expires = message.message_expiry_interval.map(|seconds| clock.end(record.timestamp, seconds));
            Some(Body::copy(&message, expires))
        });
        let applied = retained.store().apply(Incoming {
            topic,
            place,
            mapped,
            as_of,
            rule: rule.0,
            met: retained.second(),
            body,
        });
        if let Applied::New(version) = applied {
            self.tell_late(topic, version);
        }
    }

    /// Tells seats whose start lies behind the mapped record. The version was counted first: a SUBSCRIBE that asks for it later finds the entry
    /// by itself, one that has asked has said before where it starts.
    fn tell_late(&self, topic: &str, version: u64) {
        let (origin, order) = {
            let store = self.retained.store();
            let Some(entry) = store.entry(topic) else { return };
            (store.origin(entry.order).clone(), entry.order)
        };
        self.hub.subscribers(&origin.topic, topic, |subscriber| {
            if let Some(starts) = subscriber.starts.as_ref().filter(|starts| starts.misses(&origin, order)) {
                subscriber.mailbox.late(subscriber.key, topic, version, starts);
            }
        });
    }
}
