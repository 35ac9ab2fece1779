//! One task per Kafka partition that somebody wants: fetched records become messages in the mailboxes of those who want them.
//!
//! One fetch serves any number of subscribers. A feed never waits for a subscriber: mailboxes are bounded.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustc_hash::FxHashMap;

use super::{
    chunk::{ChunkBuilder, Parts, SourceId},
    hub::{Hub, Subscriber, TopicHub},
    index::Index,
    mailbox::{Item, Keys, Mailbox},
};
use crate::{
    kafka::fetched::{self, Batch, BatchError, Limits, RecordView},
    mapping::{self, LocateScratch, RuleSet, Stored},
    metrics::{Metrics, RuleCounters},
    mqtt::publish::SharedProperties,
    upstream::{self, Cluster, Reader, Start, Topic, TopicId},
};

/// Bytes that one compressed batch may become.
const MAX_DECOMPRESSED: usize = 64 * 1024 * 1024;

/// How often a partition that the topic has no more is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What a chunk holds for each mailbox.
type Outgoing = FxHashMap<u64, (Arc<Mailbox>, VecDeque<Item>)>;

/// The reader of one partition.
pub struct Feed {
    reader: Reader,
    cluster: Cluster,
    topic_id: TopicId,
    hub: Arc<TopicHub>,
    partition: i32,
    rules: Arc<RuleSet>,
    rules_of_topic: mapping::Reader,
    metrics: Arc<Metrics>,
    rule_counters: Arc<[RuleCounters]>,
    /// Records below it have been handed out; Kafka sends whole batches, so some come again.
    next: i64,
    builder: ChunkBuilder,
    outgoing: Outgoing,
    scratch: LocateScratch,
    properties: SharedProperties,
}

impl Feed {
    /// A feed of a partition from `first` on.
    pub fn new(hub: &Hub, topic_hub: Arc<TopicHub>, topic: &Topic, partition: i32, source: SourceId, first: i64) -> Self {
        Self {
            reader: hub.cluster.read(topic, partition, Start::Offset(first)),
            cluster: hub.cluster.clone(),
            topic_id: topic.id,
            hub: topic_hub,
            partition,
            rules_of_topic: hub.rules.reader(&topic.name),
            rules: hub.rules.clone(),
            metrics: hub.metrics.clone(),
            rule_counters: hub.rule_counters.clone(),
            next: first,
            builder: ChunkBuilder::new(source),
            outgoing: FxHashMap::default(),
            scratch: LocateScratch::default(),
            properties: SharedProperties::new(),
        }
    }

    /// Runs until it is aborted or the cluster is shut down.
    pub async fn run(mut self) {
        loop {
            while let Some(chunk) = self.reader.next().await {
                self.hand_out(chunk);
                // A fetch may bring much at once: the connections get their turn before the next.
                tokio::task::yield_now().await;
            }
            // The topic was deleted. If it is made anew it begins at its beginning.
            let Some(topic) = self.cluster.topic_appears(self.hub.name()).await else {
                return;
            };
            if topic.id != self.topic_id {
                tracing::warn!(
                    topic = self.hub.name(),
                    "the Kafka topic was made anew: it is read from its beginning"
                );
                (self.topic_id, self.next) = (topic.id, 0);
            }
            self.reader = self.cluster.read(&topic, self.partition, Start::Offset(self.next));
            // It may have fewer partitions now: then this one is looked for every few seconds.
            if self.partition as usize >= topic.partitions.len() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    fn hand_out(&mut self, chunk: upstream::Chunk) {
        if chunk.reset {
            tracing::error!(
                topic = self.hub.name(),
                partition = self.partition,
                "records were deleted before they were read (retention)"
            );
            self.next = chunk.offset;
        }
        let clock = Clock::now();
        let hub = self.hub.clone();
        let index = hub.index();
        let mut aborted = Aborted::new(chunk.aborted);
        for batch in fetched::batches(
            chunk.bytes,
            Limits {
                max_decompressed: MAX_DECOMPRESSED,
            },
        ) {
            match batch {
                Ok(batch) if aborted.covers(&batch) || batch.is_control || batch.last_offset < self.next => {}
                Ok(batch) => self.batch(&batch, &index, clock),
                Err(error) => self.unreadable(&error),
            }
        }
        self.next = self.next.max(chunk.next_offset);
        self.flush();
    }

    fn unreadable(&self, error: &BatchError) {
        self.metrics.unreadable_batches.inc();
        tracing::error!(topic = self.hub.name(), partition = self.partition, %error, "a record batch cannot be read and is left out");
    }

    fn batch(&mut self, batch: &Batch, index: &Index<Subscriber>, clock: Clock) {
        for record in batch.records() {
            match record {
                Ok(record) if record.offset < self.next => {}
                Ok(record) => self.record(&record, index, clock),
                Err(error) => return self.unreadable(&error),
            }
        }
    }

    fn record(&mut self, record: &RecordView<'_>, index: &Index<Subscriber>, clock: Clock) {
        let RecordView { timestamp, key, value, .. } = *record;
        let stored = Stored {
            timestamp,
            key,
            value,
            headers: record.headers(),
        };
        let located = match self.rules.locate(&self.rules_of_topic, self.partition, &stored, &mut self.scratch) {
            Ok(located) => located,
            Err(skip) => {
                if let Some(rule) = skip.rule {
                    self.rule_counters[rule.0 as usize].skipped(skip.reason.as_str());
                }
                return;
            }
        };
        let mut pushed = None;
        index.matches(located.topic, &mut |subscriber| {
            let message = *pushed.get_or_insert_with(|| {
                let delivered = self.rules.message(&located, &stored, &mut self.properties);
                let rule = delivered.rule.0 as usize;
                self.rule_counters[rule].headers_left_out.inc_by(u64::from(delivered.left_out));
                self.builder.push(&Parts {
                    offset: record.offset,
                    qos: delivered.qos,
                    retain: delivered.retain,
                    expires: delivered.message_expiry_interval.map(|seconds| clock.end(timestamp, seconds)),
                    rule,
                    topic: delivered.topic,
                    client: delivered.client,
                    properties: delivered.shared_properties,
                    payload: delivered.payload,
                })
            });
            address(&mut self.outgoing, subscriber, message);
        });
        if self.builder.is_full() {
            self.flush();
        }
    }

    /// Hands the chunk to everybody who wants something of it.
    fn flush(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let chunk = Arc::new(self.builder.finish());
        for (_, (mailbox, items)) in self.outgoing.drain() {
            for rule in mailbox.deliver(&chunk, items) {
                self.rule_counters[rule].dropped("mailbox_full");
            }
        }
    }
}

/// Notes that a subscriber gets a message; once, however many of its subscriptions match.
fn address(outgoing: &mut Outgoing, subscriber: &Subscriber, message: usize) {
    let (_, items) = outgoing
        .entry(subscriber.mailbox.id())
        .or_insert_with(|| (subscriber.mailbox.clone(), VecDeque::new()));
    match items.back_mut().filter(|item| item.message == message) {
        Some(item) => {
            item.granted = item.granted.max(subscriber.granted);
            // While a SUBSCRIBE is repeated, one subscription may have two seats for a moment.
            if !item.keys.as_slice().contains(&subscriber.key) {
                item.keys.push(subscriber.key);
            }
        }
        None => items.push_back(Item {
            message,
            keys: Keys::One([subscriber.key]),
            granted: subscriber.granted,
        }),
    }
}

/// The same moment on both clocks: records carry wall time, deadlines are monotonic.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    wall_ms: i64,
}

impl Clock {
    fn now() -> Self {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Self {
            instant: Instant::now(),
            wall_ms,
        }
    }

    /// When an expiry interval ends that began at a record's timestamp. A timestamp ahead of our clock counts as now.
    fn end(&self, timestamp: i64, seconds: u32) -> Instant {
        let age = Duration::from_millis(self.wall_ms.saturating_sub(timestamp).max(0) as u64);
        self.instant + Duration::from_secs(u64::from(seconds)).saturating_sub(age)
    }
}

/// Which batches of a fetch belong to aborted transactions (KIP-98).
struct Aborted {
    /// (producer id, first offset), ordered by first offset, the lowest last.
    ahead: Vec<(i64, i64)>,
    open: Vec<i64>,
}

impl Aborted {
    fn new(mut list: Vec<(i64, i64)>) -> Self {
        list.sort_unstable_by_key(|(_, first)| std::cmp::Reverse(*first));
        Self {
            ahead: list,
            open: Vec::new(),
        }
    }

    fn covers(&mut self, batch: &Batch) -> bool {
        while let Some((producer, _)) = self.ahead.pop_if(|(_, first)| *first <= batch.last_offset) {
            self.open.push(producer);
        }
        if !batch.is_transactional {
            return false;
        }
        if batch.is_control {
            // The marker ends the transaction; a later one of the same producer may be committed.
            self.open.retain(|producer| *producer != batch.producer_id);
        }
        self.open.contains(&batch.producer_id)
    }
}
