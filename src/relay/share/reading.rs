//! One partition of a shared subscription: records that are read become messages that can be handed out.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{Message, state::PartId};
use crate::{
    kafka::fetched::{self, Batch, Batches, RecordView},
    mapping::{self, LocateScratch, Stored},
    mqtt::{publish::SharedProperties, topic},
    relay::{
        aborted::Aborted,
        chunk::{ChunkBuilder, SourceId},
        feed::LIMITS,
        hub::{Hub, stored_source},
        scribe::{self, Clock},
    },
    upstream::{Chunk, Reader, Start, Tenure, Topic, TopicState},
};

/// Memory that is used again, for all partitions of a shared subscription.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    locate: LocateScratch,
    properties: SharedProperties,
}

/// A partition as it is read.
pub(super) struct Reading {
    pub(super) part: PartId,
    pub(super) tenure: Tenure,
    pub(super) topic: Arc<Topic>,
    /// Kafka has where it begins.
    pub(super) is_committed: bool,
    /// Its reader has ended.
    pub(super) is_over: bool,
    hub: Arc<Hub>,
    reader: Reader,
    rules_of_topic: mapping::Reader,
    builder: ChunkBuilder,
    fetched: Option<Fetched>,
    /// Records below it were read.
    next: i64,
    /// Batches that begin here or below have been asked for again: what cannot be read of them now is left out.
    doubted: i64,
}

struct Fetched {
    batches: Batches,
    aborted: Aborted,
    end: i64,
}

/// What came of a batch.
pub(super) struct Read {
    /// With their offsets.
    pub(super) messages: Vec<(i64, Message)>,
    /// Below it there is nothing else.
    pub(super) reached: i64,
}

impl Reading {
    pub(super) fn new(hub: &Arc<Hub>, part: PartId, tenure: Tenure, topic: Arc<Topic>, from: i64) -> Self {
        Self {
            part,
            reader: hub.cluster.read(&topic, tenure.of.partition, Start::Offset(from)),
            rules_of_topic: hub.rules.reader(&topic.name),
            builder: ChunkBuilder::new(SourceId::fresh(), stored_source(&topic, tenure.of.partition), hub.budget.clone()),
            hub: hub.clone(),
            tenure,
            topic,
            is_committed: false,
            is_over: false,
            fetched: None,
            next: from,
            doubted: -1,
        }
    }

    fn read_from_next(&mut self) {
        self.fetched = None;
        self.reader = self
            .hub
            .cluster
            .read(&self.topic, self.tenure.of.partition, Start::Offset(self.next));
    }

    /// Its reader has ended: the topic is gone, or was made anew, which the group notices, too. Or the group has heard of a new partition
    /// before we have: then it is there by now.
    pub(super) fn revive(&mut self) {
        if !self.is_over {
            return;
        }
        let TopicState::Ready(topic) = self.hub.cluster.topic(&self.topic.name) else {
            return;
        };
        if topic.id == self.topic.id && (self.tenure.of.partition as usize) < topic.partitions.len() {
            self.topic = topic;
            self.is_over = false;
            self.read_from_next();
        }
    }

    /// Whether all that was fetched has been read.
    pub(super) fn wants_fetch(&self) -> bool {
        self.fetched.is_none()
    }

    pub(super) fn poll_fetch(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        self.reader.poll_next(context)
    }

    /// Takes a fetch. Gives the offset at which the log was cut off, if it was: then all that is known of the partition is void.
    pub(super) fn take(&mut self, chunk: Chunk) -> Option<i64> {
        let (topic, partition, offset) = (&*self.topic.name, self.tenure.of.partition, chunk.offset);
        let cut = chunk.reset && offset < self.next;
        if cut {
            tracing::error!(
                topic,
                partition,
                offset,
                "the log was cut off: a shared subscription goes on with what it holds from there on"
            );
            self.doubted = -1;
        } else if chunk.reset {
            tracing::error!(
                topic,
                partition,
                offset,
                "records of a shared subscription were deleted before they were read (retention)"
            );
        }
        self.next = offset;
        self.fetched = Some(Fetched {
            end: chunk.next_offset,
            batches: fetched::batches(chunk.bytes, LIMITS),
            aborted: Aborted::new(chunk.aborted),
        });
        cut.then_some(offset)
    }

    /// Reads the next batch that holds something for somebody, of what was fetched.
    pub(super) fn read(&mut self, filter: &str, scratch: &mut Scratch) -> Read {
        let mut messages = Vec::new();
        while let Some(fetched) = &mut self.fetched {
            let (base, batch) = (fetched.batches.next_base(), fetched.batches.next());
            let (Some(base), Some(batch)) = (base, batch) else {
                self.next = self.next.max(fetched.end);
                self.fetched = None;
                break;
            };
            match batch {
                Ok(batch) if fetched.aborted.covers(&batch) || batch.last_offset < self.next => {}
                Ok(batch) => {
                    self.batch(&batch, filter, scratch, &mut messages);
                    self.next = self.next.max(batch.last_offset.saturating_add(1));
                    if !messages.is_empty() {
                        break;
                    }
                }
                Err(error) if base <= self.doubted => {
                    scribe::unreadable(&self.hub.metrics, &self.topic.name, self.tenure.of.partition, &error);
                    self.next = self.next.max(fetched.batches.next_base().unwrap_or(self.next));
                }
                Err(error) => {
                    scribe::read_again(&self.hub.metrics, &self.topic.name, self.tenure.of.partition, &error);
                    self.doubted = base;
                    self.read_from_next();
                }
            }
        }
        let reached = self.next;
        Read { messages, reached }
    }

    fn batch(&mut self, batch: &Batch, filter: &str, scratch: &mut Scratch, messages: &mut Vec<(i64, Message)>) {
        let clock = Clock::now();
        for record in batch.records() {
            match record {
                Ok(record) if record.offset < self.next => {}
                Ok(record) => self.record(&record, filter, clock, scratch),
                Err(error) => {
                    scribe::unreadable(&self.hub.metrics, &self.topic.name, self.tenure.of.partition, &error);
                    break;
                }
            }
            if self.builder.is_full() {
                self.finish(messages);
            }
        }
        self.finish(messages);
    }

    fn record(&mut self, record: &RecordView<'_>, filter: &str, clock: Clock, scratch: &mut Scratch) {
        let stored = Stored::from(record);
        let hub = &self.hub;
        let partition = self.tenure.of.partition;
        let located = match hub.rules.locate(&self.rules_of_topic, partition, &stored, &mut scratch.locate) {
            Ok(located) => located,
            Err(skip) => {
                if let Some(rule) = skip.rule {
                    hub.rule_counters[rule.0 as usize].skipped(skip.reason.as_str());
                }
                return;
            }
        };
        if !topic::matches(filter, located.topic) {
            return;
        }
        let with = (&*hub.rules, &*hub.rule_counters, &mut scratch.properties);
        scribe::push(&mut self.builder, with, &located, &stored, record.offset, clock);
    }

    fn finish(&mut self, messages: &mut Vec<(i64, Message)>) {
        if self.builder.is_empty() {
            return;
        }
        let chunk = Arc::new(self.builder.finish());
        let each = (0..chunk.messages.len()).map(|at| {
            let chunk = chunk.clone();
            (chunk.messages[at].offset, Message { chunk, at })
        });
        messages.extend(each);
    }
}
