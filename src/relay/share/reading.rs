//! One partition of a shared subscription: records that are read become messages that can be handed out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{sync::Notify, task::JoinSet, time::Instant};

use super::{
    Message,
    messages::{Scratch, finish},
    room::Room,
    state::PartId,
};
use crate::{
    kafka::{
        aborted::Aborted,
        fetched::{self, Batch, Batches},
    },
    mapping::{self, MissingSchema},
    relay::{
        allowance,
        budget::Budget,
        chunk::{ChunkBuilder, SourceId},
        feed::LIMITS,
        hub::{Hub, stored_source},
        scribe::{self, Clock},
    },
    upstream::{Chunk, Reader, Start, Tenure, Topic, TopicState},
};

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
    /// `None`: what it has brought was thrown away for want of memory, and nothing more is wanted yet.
    reader: Option<Reader>,
    rules_of_topic: mapping::Reader,
    builder: ChunkBuilder,
    /// Messages that were made and are not settled.
    held: Arc<Budget>,
    room: Room,
    fetched: Option<Fetched>,
    /// The batch it is in.
    batch: Option<Batch>,
    /// Set when the schema was looked for that the record at `next` waits for.
    looked: Option<Arc<AtomicBool>>,
    look_up: JoinSet<()>,
    /// The record whose schema was waited for: without it by now, it is passed over.
    waited: Option<i64>,
    bell: Arc<Notify>,
    /// Records below it were read.
    next: i64,
    /// Batches that begin here or below have been asked for again: what cannot be read of them now is left out.
    doubted: i64,
}

struct Fetched {
    batches: Batches,
    aborted: Aborted,
    end: i64,
    size: usize,
}

/// Bytes of messages of one partition that may be with members, or wait for them: with all memory in use, and otherwise.
const HELD: std::ops::RangeInclusive<usize> = 256 * 1024..=8 * 1024 * 1024;

/// What came of a batch.
pub(super) struct Read {
    /// With their offsets.
    pub(super) messages: Vec<(i64, Message)>,
    /// Below it there is nothing else.
    pub(super) reached: i64,
}

impl Reading {
    /// `bell` is rung when there may be room for more messages.
    pub(super) fn new(hub: &Arc<Hub>, bell: &Arc<Notify>, (part, tenure): (PartId, Tenure), topic: Arc<Topic>, from: i64) -> Self {
        let held = hub.budget.part(bell);
        Self {
            part,
            reader: Some(hub.cluster.read_one_by_one(&topic, tenure.of.partition, Start::Offset(from))),
            rules_of_topic: hub.rules.reader(&topic.name),
            builder: ChunkBuilder::new(SourceId::fresh(), stored_source(&topic, tenure.of.partition), held.clone()),
            held,
            room: Room::new(&hub.sweeps),
            hub: hub.clone(),
            tenure,
            topic,
            is_committed: false,
            is_over: false,
            fetched: None,
            batch: None,
            looked: None,
            look_up: JoinSet::new(),
            waited: None,
            bell: bell.clone(),
            next: from,
            doubted: -1,
        }
    }

    fn read_from_next(&mut self) {
        (self.fetched, self.batch) = (None, None);
        let (cluster, partition) = (&self.hub.cluster, self.tenure.of.partition);
        self.reader = Some(cluster.read_one_by_one(&self.topic, partition, Start::Offset(self.next)));
    }

    /// Whether the record at `next` waits for its schema.
    fn waits_for_schema(&self) -> bool {
        self.looked.as_ref().is_some_and(|looked| !looked.load(Ordering::Acquire))
    }

    /// Whether more messages may be made: those there are take memory until they are settled.
    pub(super) fn has_room(&self) -> bool {
        !self.waits_for_schema() && self.held.used() <= self.held.share(*HELD.start(), *HELD.end())
    }

    /// Keeps what cannot be handed out yet, if there is memory for it.
    pub(super) fn park(&mut self) {
        if let Some(bytes) = self.keeps()
            && !self.room.keep(bytes)
        {
            self.throw_away();
        }
    }

    /// Bytes that it keeps of what was fetched.
    fn keeps(&self) -> Option<usize> {
        let batch = self.batch.as_ref().map_or(0, Batch::decompressed);
        self.fetched.as_ref().map(|fetched| fetched.size + batch)
    }

    /// Its reader stands behind what is thrown away.
    fn throw_away(&mut self) {
        (self.fetched, self.batch, self.reader) = (None, None, None);
    }

    /// When it has to make way, if others wait for memory.
    pub(super) fn leaves_at(&self) -> Option<Instant> {
        self.room.leaves_at()
    }

    /// Others wait for memory.
    pub(super) fn make_way(&mut self, now: Instant) {
        if self.leaves_at().is_some_and(|at| at <= now) {
            let bytes = self.keeps();
            if bytes.is_some() {
                self.throw_away();
            }
            self.room.make_way(bytes.unwrap_or(0));
        }
    }

    /// More is wanted: what was thrown away is fetched again, as soon as there is memory for it.
    pub(super) fn resume(&mut self) {
        let rests = self.reader.is_none() && !self.room.waits() && !self.is_over;
        if rests && !self.room.queue_up() {
            self.read_from_next();
        }
    }

    /// It is about to be given up: nothing more is read.
    pub(super) fn stop(&mut self) {
        self.throw_away();
        self.room = Room::new(&self.hub.sweeps);
    }

    /// Its reader has ended. What it had its turn for will not come.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.room.clear();
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

    /// Its turn for memory: what was thrown away can be fetched again.
    pub(super) fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.room.poll_turn(context).map(|()| self.read_from_next())
    }

    /// The next fetch, which is asked for if it is `wanted`; what was asked for before comes in any case.
    pub(super) fn poll_fetch(&mut self, context: &mut Context<'_>, wanted: bool) -> Poll<Option<Chunk>> {
        match &mut self.reader {
            Some(reader) if wanted => {
                self.room.ask();
                reader.poll_next(context)
            }
            Some(reader) => reader.poll_asked(context),
            None => Poll::Pending,
        }
    }

    /// Takes a fetch. Gives the offset at which the log was cut off, if it was: then all that is known of what lies there or above is void.
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
            scribe::deleted(&self.hub.rule_counters, &self.rules_of_topic, topic, partition, (self.next, offset));
        }
        self.next = offset;
        self.batch = None;
        self.fetched = Some(Fetched {
            end: chunk.next_offset,
            size: chunk.bytes.len(),
            batches: fetched::batches(chunk.bytes, LIMITS),
            aborted: Aborted::new(chunk.aborted),
        });
        cut.then_some(offset)
    }

    /// Makes the next messages of what was fetched: a chunk of them at most, since the rest may have to wait, and none where the turn is over.
    pub(super) fn read(&mut self, filter: &str, scratch: &mut Scratch) -> Read {
        let mut messages = Vec::new();
        while messages.is_empty()
            && !self.waits_for_schema()
            && !allowance::is_used_up()
            && let Some(batch) = self.next_batch()
        {
            if self.piece(&batch, filter, scratch, &mut messages) {
                self.batch = Some(batch);
            }
        }
        let reached = self.next;
        Read { messages, reached }
    }

    fn next_batch(&mut self) -> Option<Batch> {
        if let Some(batch) = self.batch.take() {
            return Some(batch);
        }
        while let Some(fetched) = &mut self.fetched {
            let (base, batch) = (fetched.batches.next_base(), fetched.batches.next());
            let (Some(base), Some(batch)) = (base, batch) else {
                self.next = self.next.max(fetched.end);
                self.fetched = None;
                self.room.clear();
                break;
            };
            match batch {
                Ok(batch) if fetched.aborted.covers(&batch) || batch.last_offset < self.next => {}
                Ok(batch) => return Some(batch),
                Err(error) if base <= self.doubted || !error.may_pass() => {
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
        None
    }

    /// Whether there is more in the batch.
    fn piece(&mut self, batch: &Batch, filter: &str, scratch: &mut Scratch, messages: &mut Vec<(i64, Message)>) -> bool {
        let clock = Clock::now();
        for record in batch.records() {
            match record {
                Ok(record) if record.offset < self.next => continue,
                Ok(record) => {
                    let waited = self.waited == Some(record.offset);
                    let with = (&*self.hub, &self.rules_of_topic, self.tenure.of.partition);
                    let written = scratch.write(with, &mut self.builder, &record, (filter, clock, waited));
                    if let Err(missing) = written {
                        self.next = record.offset;
                        self.await_schema(missing);
                        finish(&mut self.builder, messages);
                        return true;
                    }
                    self.next = record.offset.saturating_add(1);
                }
                Err(error) => {
                    scribe::unreadable(&self.hub.metrics, &self.topic.name, self.tenure.of.partition, &error);
                    break;
                }
            }
            if self.builder.is_full() || allowance::is_used_up() {
                finish(&mut self.builder, messages);
                return self.next <= batch.last_offset;
            }
        }
        finish(&mut self.builder, messages);
        self.next = self.next.max(batch.last_offset.saturating_add(1));
        false
    }

    /// Nothing more is made of the partition until the schema was looked for, or the order would be lost; that is bounded.
    fn await_schema(&mut self, missing: MissingSchema) {
        let looked = Arc::new(AtomicBool::new(false));
        (self.looked, self.waited) = (Some(looked.clone()), Some(self.next));
        let (registries, bell) = (self.hub.registries.clone(), self.bell.clone());
        self.look_up = JoinSet::new();
        self.look_up.spawn(async move {
            registries.look_up(&missing.catalog, missing.id).await;
            looked.store(true, Ordering::Release);
            bell.notify_one();
        });
    }
}
