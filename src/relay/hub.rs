//! The Kafka topics that somebody on this instance wants: an index of subscriptions for each, a feed for each partition.
//!
//! A subscription takes a *seat*: it stands in the index, and the partitions it needs are wanted once more. Dropping the
//! seat gives both back; a partition that nobody wants any longer is not read.
//!
//! Why a new subscriber misses nothing, told as a sequence: it sits down first (from then on every record that a running
//! feed hands out reaches its mailbox), then asks for the end offsets (its *start*; records before it are left out by the
//! connection), then makes sure that each partition has a feed. A feed that somebody else began in between starts at an
//! end offset asked for before our SUBACK, so whatever lies below it was stored while our SUBSCRIBE was still unanswered.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::task::AbortHandle;

use super::{chunk::SourceId, feed::Feed, index::Index, mailbox::Mailbox, said::Said};
use crate::{
    mapping::RuleSet,
    metrics::{Metrics, RuleCounters},
    mqtt::QoS,
    session::SubscriptionKey,
    upstream::{Cluster, Topic},
};

/// One subscription of one connection, as the index knows it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Where its messages go.
    pub mailbox: Arc<Mailbox>,
    /// Which subscription of that session it is.
    pub key: SubscriptionKey,
    /// The QoS it was granted.
    pub granted: QoS,
    /// Tells seats apart: while a client repeats a SUBSCRIBE, a subscription may have two for a moment.
    seat: u64,
}

impl Subscriber {
    /// A subscription that is about to sit down.
    pub fn new(mailbox: Arc<Mailbox>, key: SubscriptionKey, granted: QoS) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            mailbox,
            key,
            granted,
            seat: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        self.seat == other.seat
    }
}

/// All topics that are read by this instance.
pub struct Hub {
    pub(super) cluster: Cluster,
    pub(super) rules: Arc<RuleSet>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rule_counters: Arc<[RuleCounters]>,
    pub(super) missing: Arc<Said>,
    topics: Mutex<HashMap<Arc<str>, Arc<TopicHub>>>,
    next_source: AtomicU32,
}

/// One Kafka topic: who wants its records, and which of its partitions are read.
#[derive(Debug)]
pub struct TopicHub {
    name: Arc<str>,
    index: RwLock<Index<Subscriber>>,
    partitions: Mutex<HashMap<i32, Wanted>>,
}

#[derive(Debug)]
struct Wanted {
    seats: usize,
    source: SourceId,
    feed: Option<Running>,
}

#[derive(Debug)]
struct Running {
    first_offset: i64,
    task: AbortHandle,
}

/// The place of one subscription in one Kafka topic; dropping it leaves.
#[derive(Debug)]
pub struct Seat {
    hub: Arc<TopicHub>,
    topic: Arc<Topic>,
    filter: Box<str>,
    subscriber: Subscriber,
    partitions: Vec<i32>,
}

impl Hub {
    /// Nothing is read until somebody sits down.
    pub fn new(
        cluster: Cluster,
        rules: Arc<RuleSet>,
        metrics: Arc<Metrics>,
        rule_counters: Arc<[RuleCounters]>,
        missing: Arc<Said>,
    ) -> Self {
        Self {
            cluster,
            rules,
            metrics,
            rule_counters,
            missing,
            topics: Mutex::default(),
            next_source: AtomicU32::new(0),
        }
    }

    fn topic(&self, name: &str) -> Arc<TopicHub> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return topic.clone();
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(TopicHub {
            name: name.clone(),
            index: RwLock::default(),
            partitions: Mutex::default(),
        });
        topics.insert(name, topic.clone());
        topic
    }

    /// Takes a seat: from now on what the running feeds of these partitions hand out reaches the subscriber.
    pub fn sit(&self, topic: Arc<Topic>, partitions: Vec<i32>, filter: &str, subscriber: Subscriber) -> Seat {
        let hub = self.topic(&topic.name);
        hub.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(filter, subscriber.clone());
        let mut wanted = hub.lock();
        for partition in &partitions {
            let fresh = || Wanted {
                seats: 0,
                source: SourceId(self.next_source.fetch_add(1, Ordering::Relaxed)),
                feed: None,
            };
            wanted.entry(*partition).or_insert_with(fresh).seats += 1;
        }
        drop(wanted);
        Seat {
            hub,
            topic,
            filter: filter.into(),
            subscriber,
            partitions,
        }
    }

    /// Makes sure that a partition of a seat is read, from `end` if nobody reads it yet.
    /// The result is its source and the offset from which the subscriber gets all records.
    pub fn feed(&self, seat: &Seat, partition: i32, end: i64) -> (SourceId, i64) {
        let mut partitions = seat.hub.lock();
        let wanted = partitions.get_mut(&partition).expect("a seat keeps its partitions wanted");
        let source = wanted.source;
        let running = wanted.feed.get_or_insert_with(|| {
            let feed = Feed::new(self, seat.hub.clone(), &seat.topic, partition, source, end);
            Running {
                first_offset: end,
                task: tokio::spawn(feed.run()).abort_handle(),
            }
        });
        (source, running.first_offset.max(end))
    }
}

impl TopicHub {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Wanted>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Kafka topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who wants what. Held for one fetch at a time, never over an await.
    pub fn index(&self) -> RwLockReadGuard<'_, Index<Subscriber>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Changes the QoS that the subscription was granted, when the client subscribes again with the same filter.
    pub fn grant(&mut self, granted: QoS) {
        self.subscriber.granted = granted;
        let mut index = self.hub.index.write().unwrap_or_else(PoisonError::into_inner);
        index.insert(&self.filter, self.subscriber.clone());
    }

    /// Its Kafka topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// The partitions it needs.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.filter, &self.subscriber);
        let mut wanted = self.hub.lock();
        for partition in &self.partitions {
            let Some(entry) = wanted.get_mut(partition) else { continue };
            entry.seats -= 1;
            if entry.seats == 0 {
                let left = wanted.remove(partition).and_then(|w| w.feed);
                left.inspect(|feed| feed.task.abort());
            }
        }
    }
}
