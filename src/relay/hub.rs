//! The Kafka topics that somebody on this instance wants: an index of subscriptions for each, a feed for each partition.
//!
//! A subscription takes a *seat*: it stands in the index, and the topic is wanted once more. Dropping the seat gives both
//! back; a topic that nobody wants any longer is not read. Partitions that a topic gains are read from their beginning.
//!
//! Why a new subscriber misses nothing, told as a sequence: it sits down first (from then on every record that a running
//! feed hands out reaches its mailbox), then asks for the end offsets (its *start*; records before it are left out by the
//! connection), then makes sure that each partition has a feed. A feed that somebody else began in between starts at an
//! end offset asked for before our SUBACK, so whatever lies below it was stored while our SUBSCRIBE was still unanswered.

mod grow;
mod known;
mod seat;

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::task::AbortHandle;

use super::{
    arrivals::Arrivals, budget::Budget, chunk::SourceId, feed::Feed, frontier::Frontier, index::Index, mailbox::Mailbox, retained::Starts,
    said::Said, sweep_cache::SweepCache,
};
use crate::{
    mapping::RuleSet,
    metrics::{Metrics, RuleCounters},
    mqtt::QoS,
    ownership::Source,
    resources::{LiveTables, Registries},
    session::SubscriptionKey,
    upstream::{Cluster, Topic, TopicId},
};

use grow::grow;
use known::Known;
pub use seat::Seat;

/// A partition of a topic as sessions name it.
pub fn stored_source(topic: &Topic, partition: i32) -> Source {
    Source {
        topic: *topic.id.as_bytes(),
        partition: partition.cast_unsigned(),
    }
}

/// A topic that is not there, or cannot be seen, to sit down for.
pub fn to_come(name: &str) -> Arc<Topic> {
    Arc::new(Topic {
        name: name.into(),
        id: TopicId::default(),
        partitions: Vec::new(),
        appeared: false,
    })
}

/// One subscription of one connection, as the index knows it.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Where its messages go.
    pub mailbox: Arc<Mailbox>,
    /// Which subscription of that session it is.
    pub key: SubscriptionKey,
    /// The QoS it was granted.
    pub granted: QoS,
    /// Where it starts, for retained messages that come late; `None` if it gets none.
    pub starts: Option<Arc<Starts>>,
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
            starts: None,
            seat: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The same, which gets retained messages: also those that come late.
    pub fn with_starts(self, starts: Option<Arc<Starts>>) -> Self {
        Self { starts, ..self }
    }
}

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        self.seat == other.seat
    }
}

impl Eq for Subscriber {}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.seat.hash(state);
    }
}

/// All topics that are read by this instance.
pub struct Hub {
    pub(super) cluster: Cluster,
    pub(super) rules: Arc<RuleSet>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rule_counters: Arc<[RuleCounters]>,
    pub(super) missing: Arc<Said>,
    pub(super) sweeps: Arc<SweepCache>,
    pub(super) budget: Arc<Budget>,
    /// Names of the topics of the proxy's own state.
    own: Vec<String>,
    pub(super) registries: Arc<Registries>,
    pub(super) tables: Arc<LiveTables>,
    topics: Mutex<Known>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// One Kafka topic: who wants its records, and which of its partitions are read.
#[derive(Debug)]
pub struct TopicHub {
    name: Arc<str>,
    index: RwLock<Index<Subscriber>>,
    reading: Mutex<Reading>,
}

/// What is read of a topic, and for how many.
#[derive(Debug, Default)]
struct Reading {
    seats: usize,
    /// Somebody who sits here has seen the topic.
    is_seen: bool,
    /// The topic that is read; of all zeros while there is none.
    id: [u8; 16],
    /// Partitions that were there when somebody sat down, or are read from their beginning since. Further ones are younger than a seat.
    known: usize,
    partitions: HashMap<i32, Wanted>,
    /// Looks out for further partitions as long as there are seats.
    growth: Option<AbortHandle>,
}

impl Reading {
    /// So many more sit down who know the topic as it is here.
    fn sit(&mut self, topic: &Topic, seats: usize) {
        self.see(topic, self.seats > 0);
        self.seats += seats;
    }

    /// The topic is there. All that it has was written since the others have `waited` for it, if it was seen to appear; otherwise they
    /// have to have what is written from now on.
    fn see(&mut self, topic: &Topic, waited: bool) {
        if topic.partitions.is_empty() {
            return;
        }
        let is_new = waited && topic.appeared;
        if !std::mem::replace(&mut self.is_seen, true) && !is_new {
            self.known = topic.partitions.len();
        }
        self.id = *topic.id.as_bytes();
    }
}

#[derive(Debug)]
struct Wanted {
    source: SourceId,
    arrivals: Arc<Arrivals>,
    frontier: Arc<Frontier>,
    feed: Option<Running>,
}

impl Wanted {
    fn new() -> Self {
        Self {
            source: SourceId::fresh(),
            arrivals: Arc::default(),
            frontier: Arc::default(),
            feed: None,
        }
    }
}

#[derive(Debug)]
struct Running {
    first_offset: i64,
    task: AbortHandle,
}

impl Hub {
    /// Nothing is read until somebody sits down.
    pub fn new(
        cluster: Cluster,
        (rules, rule_counters): (Arc<RuleSet>, Arc<[RuleCounters]>),
        metrics: Arc<Metrics>,
        missing: Arc<Said>,
        sweeps: Arc<SweepCache>,
        budget: Arc<Budget>,
        (registries, tables): (Arc<Registries>, Arc<LiveTables>),
    ) -> Self {
        Self {
            cluster,
            rules,
            metrics,
            rule_counters,
            missing,
            sweeps,
            budget,
            own: Vec::new(),
            registries,
            tables,
            topics: Mutex::default(),
        }
    }

    /// The same, with these topics of the proxy's own state: nobody reads them by a name with holes.
    pub fn with_own(self, own: &[String]) -> Self {
        Self { own: own.to_vec(), ..self }
    }

    /// Whether a topic is of the proxy's own state.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `found` for each subscription in a Kafka topic that matches an MQTT topic.
    pub fn subscribers(&self, kafka_topic: &str, topic: &str, mut found: impl FnMut(&Subscriber)) {
        let hub = self.known().get(kafka_topic);
        if let Some(hub) = hub {
            hub.index().matches(topic, &mut |subscriber| found(subscriber));
        }
    }

    /// Takes a seat: from now on what the running feeds of these partitions hand out reaches the subscriber.
    pub fn sit(self: &Arc<Self>, topic: Arc<Topic>, partitions: Vec<i32>, filter: &str, subscriber: Subscriber) -> Seat {
        let hub = self.known().topic(&topic.name);
        hub.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(filter, subscriber.clone());
        let mut reading = hub.lock();
        reading.sit(&topic, 1);
        for partition in &partitions {
            reading.partitions.entry(*partition).or_insert_with(Wanted::new);
        }
        let watch = || tokio::spawn(grow(self.clone(), hub.clone(), topic.clone())).abort_handle();
        reading.growth.get_or_insert_with(watch);
        drop(reading);
        Seat {
            hub,
            topic,
            filter: filter.into(),
            subscriber,
            partitions,
        }
    }

    /// Takes the seats of a session that comes back, at the places where it stands. The result is one seat for each subscription.
    pub fn sit_again(self: &Arc<Self>, topic: &Arc<Topic>, places: &[(i32, i64)], subscribers: Vec<(Box<str>, Subscriber)>) -> Vec<Seat> {
        // A watch for further partitions ends where nobody sits.
        if subscribers.is_empty() {
            return Vec::new();
        }
        let hub = self.known().topic(&topic.name);
        let mut reading = hub.lock();
        reading.sit(topic, subscribers.len());
        let arrivals = |(partition, position): &(i32, i64)| {
            let wanted = reading.partitions.entry(*partition).or_insert_with(Wanted::new);
            (wanted.arrivals.clone(), *position)
        };
        let mut arrivals: Vec<_> = places.iter().map(arrivals).collect();
        // Partitions that the topic gained since it was looked at: others read them already, and it has to have them from their beginning.
        let gained = reading
            .partitions
            .iter()
            .filter(|(partition, _)| **partition >= places.len() as i32);
        arrivals.extend(gained.map(|(_, wanted)| (wanted.arrivals.clone(), 0)));
        let watch = || tokio::spawn(grow(self.clone(), hub.clone(), topic.clone())).abort_handle();
        reading.growth.get_or_insert_with(watch);
        drop(reading);
        let mut index = hub.index.write().unwrap_or_else(PoisonError::into_inner);
        for (arrivals, position) in arrivals {
            if let Some((_, subscriber)) = subscribers.first() {
                arrivals.add(subscriber.mailbox.clone(), position);
            }
        }
        let seat = |(filter, subscriber): (Box<str>, Subscriber)| {
            index.insert(&filter, subscriber.clone());
            Seat {
                hub: hub.clone(),
                topic: topic.clone(),
                filter,
                subscriber,
                partitions: places.iter().map(|(partition, _)| *partition).collect(),
            }
        };
        subscribers.into_iter().map(seat).collect()
    }

    /// Makes sure that a partition of a seat is read, from `end` if nobody reads it yet.
    /// The result is its source and the offset from which the subscriber gets all records.
    pub fn feed(&self, seat: &Seat, partition: i32, end: i64) -> (SourceId, i64) {
        let mut reading = seat.hub.lock();
        // Somebody who has sat here longer has to have all of a younger partition, and `grow` may not have come to it yet.
        let from = if (partition as usize) < reading.known { end } else { 0 };
        let wanted = reading.partitions.get_mut(&partition).expect("a seat keeps its partitions wanted");
        let first_offset = self.run(wanted, &seat.hub, &seat.topic, partition, from);
        (wanted.source, first_offset.max(end))
    }

    /// Where all partitions of a topic end; `None` if Kafka does not say so of each.
    pub(super) async fn ends_of(&self, topic: &Arc<Topic>) -> Option<Vec<i64>> {
        let partitions: Vec<_> = (0..topic.partitions.len() as i32).map(|at| (topic.clone(), at)).collect();
        let ends = self.cluster.end_offsets(&partitions).await;
        ends.into_iter().collect::<Result<_, _>>().ok()
    }

    /// Begins a feed if there is none; the offset that the feed began with.
    fn run(&self, wanted: &mut Wanted, hub: &Arc<TopicHub>, topic: &Arc<Topic>, partition: i32, from: i64) -> i64 {
        let source = wanted.source;
        let places = (wanted.arrivals.clone(), wanted.frontier.clone());
        let running = wanted.feed.get_or_insert_with(|| {
            let feed = Feed::new(self, hub.clone(), topic, partition, (source, from), places);
            Running {
                first_offset: from,
                task: tokio::spawn(feed.run()).abort_handle(),
            }
        });
        running.first_offset
    }
}

impl TopicHub {
    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Kafka topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic was made anew and a partition is read from its beginning. It becomes another source: the starts of those who sit here
    /// are offsets of the topic that is gone, and what lies below them in the new one was stored after their SUBSCRIBE.
    pub fn renew(&self, partition: i32, former: SourceId) -> SourceId {
        let source = SourceId::fresh();
        let mut reading = self.lock();
        // A feed that is aborted, but not yet gone, has no say about the one after it.
        if let Some(wanted) = reading.partitions.get_mut(&partition).filter(|w| w.source == former) {
            wanted.source = source;
            wanted.feed.iter_mut().for_each(|feed| feed.first_offset = 0);
        }
        source
    }

    /// Who wants what. Held for one fetch at a time, never over an await.
    pub fn index(&self) -> RwLockReadGuard<'_, Index<Subscriber>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
