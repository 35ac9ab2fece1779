//! From the records of one Kafka partition to messages in mailboxes: what the feed at the tail and the sweep behind it share.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::{
    budget::Budget,
    chunk::{ChunkBuilder, Parts, SourceId},
    hub::{Hub, Subscriber, TopicHub, stored_source},
    index::Index,
    mailbox::{Delivered, Item, Keys, Mailbox},
};
use crate::{
    audit::cut,
    kafka::fetched::{BatchError, RecordView},
    mapping::{self, LocateScratch, Located, Made, MissingSchema, Restored, RuleSet, Stored},
    metrics::{Metrics, RuleCounters},
    mqtt::publish::SharedProperties,
    upstream::Topic,
};

/// What a chunk holds for each mailbox.
type Outgoing = FxHashMap<u64, (Arc<Mailbox>, VecDeque<Item>)>;

/// Writes messages into chunks, and hands those to whoever wants something of them.
pub struct Scribe {
    pub(super) hub: Arc<TopicHub>,
    pub(super) partition: i32,
    rules: Arc<RuleSet>,
    rules_of_topic: mapping::Reader,
    metrics: Arc<Metrics>,
    rule_counters: Arc<[RuleCounters]>,
    source: SourceId,
    builder: ChunkBuilder,
    budget: Arc<Budget>,
    outgoing: Outgoing,
    scratch: LocateScratch,
    properties: SharedProperties,
    /// Payloads of values that have a schema.
    payload: Vec<u8>,
    /// The record whose schema was waited for: without it by now, it is passed over.
    waited: Option<i64>,
    /// Rung when a mailbox that did not take all has room again.
    room: Arc<Notify>,
}

impl Scribe {
    /// One for a partition.
    pub fn new(hub: &Hub, topic_hub: Arc<TopicHub>, topic: &Topic, partition: i32, source: SourceId) -> Self {
        Self {
            partition,
            rules_of_topic: hub.rules.reader(topic_hub.name()),
            hub: topic_hub,
            rules: hub.rules.clone(),
            metrics: hub.metrics.clone(),
            rule_counters: hub.rule_counters.clone(),
            source,
            builder: ChunkBuilder::new(source, stored_source(topic, partition), hub.budget.clone()),
            budget: hub.budget.clone(),
            outgoing: FxHashMap::default(),
            scratch: LocateScratch::default(),
            properties: SharedProperties::new(),
            payload: Vec::new(),
            waited: None,
            room: Arc::default(),
        }
    }

    /// The topic was made anew, or the log was cut off: what comes from here on is of another source.
    pub fn renew(&mut self, topic: &Topic) {
        self.source = self.hub.renew(self.partition, self.source);
        self.builder = ChunkBuilder::new(self.source, stored_source(topic, self.partition), self.budget.clone());
    }

    /// What the partition is called at the moment.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Rung when a mailbox that did not take all has room again.
    pub fn room(&self) -> Arc<Notify> {
        self.room.clone()
    }

    /// Counts and tells of a batch that is asked for again, since it may have been damaged on its way.
    pub fn read_again(&self, error: &BatchError) {
        read_again(&self.metrics, self.hub.name(), self.partition, error);
    }

    /// Counts and tells of a batch that nobody gets.
    pub fn unreadable(&self, error: &BatchError) {
        unreadable(&self.metrics, self.hub.name(), self.partition, error);
    }

    /// Counts and tells of records from `from` on up to `to` that were deleted before they were read.
    pub fn deleted(&self, from: i64, to: i64) {
        deleted(
            &self.rule_counters,
            &self.rules_of_topic,
            self.hub.name(),
            self.partition,
            (from, to),
        );
    }

    /// The schema of the record at `offset` was looked for.
    pub fn has_waited(&mut self, offset: i64) {
        self.waited = Some(offset);
    }

    /// Notes a record for all that match it and for whom `wants` says so. Hand it out when [`is_full`](Self::is_full).
    ///
    /// # Errors
    /// Somebody wants it, and it cannot be read before its schema is known. Nothing of it is noted.
    pub fn record(
        &mut self,
        record: &RecordView<'_>,
        index: &Index<Subscriber>,
        clock: Clock,
        wants: impl Fn(&Subscriber) -> bool,
    ) -> Result<(), MissingSchema> {
        let stored = Stored::from(record);
        let located = match self.rules.locate(&self.rules_of_topic, self.partition, &stored, &mut self.scratch) {
            Ok(located) => located,
            Err(skip) => {
                if let Some(rule) = skip.rule {
                    self.rule_counters[rule.0 as usize].skipped(skip.reason.as_str());
                }
                return Ok(());
            }
        };
        let missing = self.rules.missing_schema(located.rule, record.value);
        let mut missing = missing.filter(|_| self.waited != Some(record.offset));
        let (mut pushed, mut waits) = (None, None);
        index.matches(located.topic, &mut |subscriber| {
            if waits.is_some() || !wants(subscriber) {
                return;
            }
            if missing.is_some() {
                waits = missing.take();
                return;
            }
            let message = *pushed.get_or_insert_with(|| {
                let with = Making {
                    rules: &self.rules,
                    counters: &self.rule_counters,
                    properties: &mut self.properties,
                    payload: &mut self.payload,
                };
                push(&mut self.builder, with, &located, &stored, record.offset, clock)
            });
            if let Some(message) = message {
                address(&mut self.outgoing, subscriber, message);
            }
        });
        waits.map_or(Ok(()), Err)
    }

    /// Whether what is noted should be handed out.
    pub fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// Hands the chunk to everybody who wants something of it. `fell` is told whose mailbox did not take it, and the offset from which
    /// on it has nothing.
    pub fn flush(&mut self, mut fell: impl FnMut(Arc<Mailbox>, i64)) {
        if self.builder.is_empty() {
            return;
        }
        let chunk = Arc::new(self.builder.finish());
        for (_, (mailbox, items)) in self.outgoing.drain() {
            let left_out = match mailbox.deliver(&chunk, items, &self.room) {
                Delivered::Taken => continue,
                Delivered::LeftOut(rules) => rules,
                Delivered::Full { left_out, from } => {
                    fell(mailbox, from);
                    left_out
                }
            };
            left_out.iter().for_each(|rule| self.rule_counters[*rule].dropped("mailbox_full"));
        }
    }
}

/// Counts and tells of a batch that is asked for again, since it may have been damaged on its way.
pub fn read_again(metrics: &Metrics, topic: &str, partition: i32, error: &BatchError) {
    metrics.batches_read_again.inc();
    tracing::warn!(topic, partition, %error, "a record batch cannot be read and is asked for again");
}

/// Counts and tells of a batch that nobody gets.
pub fn unreadable(metrics: &Metrics, topic: &str, partition: i32, error: &BatchError) {
    metrics.unreadable_batches.inc();
    tracing::error!(topic, partition, %error, "a record batch cannot be read and is left out");
}

/// Counts and tells of records that were deleted before they were read, by the rules that read the topic. How many there were nobody knows: at
/// most as many as offsets.
pub fn deleted(counters: &[RuleCounters], of: &mapping::Reader, topic: &str, partition: i32, (from, to): (i64, i64)) {
    let offsets = to.saturating_sub(from);
    if offsets <= 0 {
        return;
    }
    let counters = of.rules().map(|rule| &counters[rule.0 as usize]);
    let rules: Vec<&str> = counters
        .inspect(|rule| _ = rule.offset_resets.inc())
        .map(RuleCounters::name)
        .collect();
    tracing::error!(
        topic,
        partition,
        from,
        to,
        offsets,
        ?rules,
        "records were deleted before they were read (retention)"
    );
}

/// Has the payload made that the rule makes of a record's value; false: nobody gets the record, which is counted.
fn restore<'r, H>(
    (rules, counters, restored): (&RuleSet, &[RuleCounters], &mut Restored),
    located: &Located<'_>,
    stored: &Stored<'r, H>,
    value: &[u8],
    now_ms: i64,
) -> bool
where
    H: Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + Clone,
{
    let counters = &counters[located.rule.0 as usize];
    let outcome = rules.restore(located, stored, Some(value), stored.key, now_ms, restored);
    if let Some(ran) = restored.ran {
        counters.transform_steps.inc_by(ran.steps);
        if let Made::Refused(reason) = ran.made {
            counters.transform_failed(reason.as_str());
            let (topic, why, words) = (cut(located.topic), reason.as_str(), restored.trouble.as_deref().map(cut));
            tracing::debug!(topic = &*topic, why, words = words.as_deref(), "a transform back failed");
        }
    }
    outcome.inspect_err(|skip| counters.skipped(skip.reason.as_str())).is_ok()
}

/// What messages are made with.
pub struct Making<'s> {
    /// By these rules.
    pub rules: &'s RuleSet,
    /// Theirs.
    pub counters: &'s [RuleCounters],
    /// Memory that is used again.
    pub properties: &'s mut SharedProperties,
    /// The same, for payloads.
    pub payload: &'s mut Vec<u8>,
}

/// Makes the message of a record; its place in the chunk. `None`: its value cannot be read, which is counted.
pub fn push<'s, 'r: 's, H>(
    builder: &mut ChunkBuilder,
    Making {
        rules,
        counters,
        properties,
        payload,
    }: Making<'s>,
    located: &Located<'s>,
    stored: &Stored<'r, H>,
    offset: i64,
    clock: Clock,
) -> Option<usize>
where
    H: Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + Clone,
{
    let rule = located.rule.0 as usize;
    let payload = match rules.payload(located.rule, stored.value, payload) {
        Ok(payload) => payload,
        Err(reason) => {
            counters[rule].skipped(reason.as_str());
            return None;
        }
    };
    let mut restored = Restored::default();
    if !restore((rules, counters, &mut restored), located, stored, payload, clock.wall_ms) {
        return None;
    }
    let payload = restored.payload().unwrap_or(payload);
    let delivered = rules.message(located, stored, properties);
    counters[rule].headers_left_out.inc_by(u64::from(delivered.left_out));
    Some(
        builder.push(&Parts {
            offset,
            qos: delivered.qos,
            retain: delivered.retain,
            expires: delivered
                .message_expiry_interval
                .map(|seconds| clock.end(stored.timestamp, seconds)),
            rule,
            topic: delivered.topic,
            client: delivered.client,
            properties: delivered.shared_properties,
            payload,
        }),
    )
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
pub struct Clock {
    instant: Instant,
    /// Milliseconds since the epoch.
    pub(super) wall_ms: i64,
}

impl Clock {
    /// This moment.
    pub fn now() -> Self {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Self {
            instant: Instant::now(),
            wall_ms,
        }
    }

    /// When an expiry interval ends, or ended, that began at a record's timestamp. A timestamp ahead of our clock counts as now.
    ///
    /// One that is over ended before now: the turn of a connection may have begun before this moment, and looks at the clock once.
    pub fn end(&self, timestamp: i64, seconds: u32) -> Instant {
        let age = Duration::from_millis(self.wall_ms.saturating_sub(timestamp).max(0) as u64);
        let whole = Duration::from_secs(u64::from(seconds));
        let over = || self.instant.checked_sub(age.saturating_sub(whole)).unwrap_or(self.instant);
        whole.checked_sub(age).map_or_else(over, |left| self.instant + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_ends_where_its_record_says_also_in_the_past() {
        let clock = Clock::now();
        let began = |ago: i64| clock.wall_ms - ago;
        assert_eq!(clock.end(began(400), 1), clock.instant + Duration::from_millis(600));
        assert_eq!(clock.end(began(1_400), 1) + Duration::from_millis(400), clock.instant);
        assert_eq!(clock.end(began(-5_000), 1), clock.instant + Duration::from_secs(1));
        // Longer ago than this machine runs.
        assert!(clock.end(0, 1) <= clock.instant && clock.end(i64::MIN, 0) <= clock.instant);
    }
}
