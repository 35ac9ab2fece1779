//! Kafka topics that come later and that subscriptions of one connection read by their names (`plant-*`): each is read from its first record.
//!
//! A session has one place in a log. So whoever of a connection sits down in a topic looks first whether there are others that would find it
//! with the next list, and these take their seats before ([`Lookouts::come`]). Told as a sequence: a subscription to `plants/+/x` looks out,
//! `plant-a` is made, the client subscribes to `plants/a/#`, whose place is the end of `plant-a`; then the list tells of it, and the first
//! subscription would have to be taken back to the beginning, with the second in the same mailbox.
//! A topic that a subscription waits for by its full name is left to that wait (`hub::grow`), which the others join before it is there.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout_at},
};

use super::{
    frontier::Reached,
    hub::{Hub, Seat, Subscriber, stored_source, to_come},
    mailbox::Mailbox,
};
use crate::{
    kafka::TopicPattern,
    mapping::{KafkaTopics, Source},
    mqtt::QoS,
    ownership::Source as StoredSource,
    session::SubscriptionKey,
    upstream::{Lookout, Topic},
};

/// Partitions of topics that are gone whose places are kept.
const MOST_PLACES: usize = 10_000;

/// What the subscriptions of one connection look out for.
#[derive(Debug)]
pub struct Lookouts {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<SubscriptionKey, Outlook>,
    /// Topics that are away and that subscriptions wait for by their full names.
    awaited: BTreeSet<Box<str>>,
    /// Where the session stood in partitions that were read before.
    places: HashMap<StoredSource, i64>,
    /// The connection is gone.
    closed: bool,
}

/// What one subscription looks out for.
#[derive(Debug)]
struct Outlook {
    filter: Box<str>,
    granted: QoS,
    patterns: Vec<TopicPattern>,
    /// Topics that it sits in, or that are somebody else's to bring.
    known: HashSet<Arc<str>>,
    /// Those that have come.
    seats: Vec<Seat>,
    watch: AbortHandle,
}

impl Drop for Outlook {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Outlook {
    fn wants(&self, topic: &str) -> bool {
        !self.known.contains(topic) && self.patterns.iter().any(|pattern| pattern.matches(topic))
    }
}

/// A subscription that begins to look out.
#[derive(Debug)]
pub struct Looking<'a> {
    /// Which.
    pub key: SubscriptionKey,
    /// Its filter.
    pub filter: &'a str,
    /// The QoS it was granted.
    pub granted: QoS,
    /// The names that it looks out for.
    pub patterns: Vec<TopicPattern>,
    /// Topics in which it takes its seats otherwise.
    pub known: HashSet<Arc<str>>,
}

/// The patterns of sources.
pub fn patterns(sources: &[Source]) -> Vec<TopicPattern> {
    let pattern = |source: &Source| match &source.kafka_topics {
        KafkaTopics::Like(pattern) => Some(pattern.clone()),
        KafkaTopics::One(_) => None,
    };
    sources.iter().filter_map(pattern).collect()
}

/// The topics of sources: those that are named, and of the cluster those with names that the others may have. `None`: Kafka did not say in time
/// which there are. The lookout has told of these.
pub async fn topics(hub: &Hub, sources: &[Source], until: Instant) -> Option<(BTreeSet<String>, Option<Lookout>)> {
    let mut names: BTreeSet<String> = sources.iter().filter_map(Source::named).map(str::to_owned).collect();
    let patterns = patterns(sources);
    if patterns.is_empty() {
        return Some((names, None));
    }
    let mut lookout = hub.cluster.look_out(patterns);
    let found = timeout_at(until, lookout.now()).await.ok()??;
    names.extend(found.iter().filter(|name| !hub.is_own(name)).map(|name| name.to_string()));
    Some((names, Some(lookout)))
}

impl Lookouts {
    /// Of a connection whose session stands at these places, if it goes on.
    pub fn new(hub: Arc<Hub>, mailbox: Arc<Mailbox>, places: HashMap<StoredSource, i64>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            mailbox,
            inner: Mutex::new(Inner {
                places,
                ..Inner::default()
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Short sections, each of which leaves it consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscription looks out from now on; `lookout` has told of the topics that there are. One that does so already goes on.
    pub fn begin(self: &Arc<Self>, looking: Looking<'_>, lookout: Lookout) {
        let mut inner = self.lock();
        if inner.closed || inner.by_key.contains_key(&looking.key) {
            return;
        }
        let Looking {
            key,
            filter,
            granted,
            patterns,
            known,
        } = looking;
        let mut outlook = Outlook {
            filter: filter.into(),
            granted,
            patterns,
            known,
            seats: Vec::new(),
            watch: tokio::spawn(watch(Arc::downgrade(self), lookout)).abort_handle(),
        };
        for name in &inner.awaited {
            self.wait_along(key, &mut outlook, name);
        }
        inner.by_key.insert(key, outlook);
    }

    /// A subscription waits for a topic by its full name, which is away. Those that look out for it wait along.
    pub fn awaits(&self, name: &str) {
        let mut inner = self.lock();
        let Inner { by_key, awaited, .. } = &mut *inner;
        awaited.insert(name.into());
        for (key, outlook) in by_key {
            self.wait_along(*key, outlook, name);
        }
    }

    fn wait_along(&self, key: SubscriptionKey, outlook: &mut Outlook, name: &str) {
        if outlook.wants(name) {
            let subscriber = Subscriber::new(self.mailbox.clone(), key, outlook.granted);
            let seat = self.hub.sit(to_come(name), Vec::new(), &outlook.filter, subscriber);
            outlook.seats.push(seat);
            outlook.known.insert(name.into());
        }
    }

    /// A topic is there: whoever looks out for it and does not sit in it takes its seat, at the place where the session stands, or at the beginning.
    pub fn come(&self, topic: &Arc<Topic>) {
        let mut inner = self.lock();
        let wants = |outlook: &Outlook| outlook.wants(&topic.name);
        if self.hub.is_own(&topic.name) || !inner.by_key.values().any(wants) {
            return;
        }
        let Inner { by_key, places, .. } = &mut *inner;
        let of_partition = |partition| (partition, places.get(&stored_source(topic, partition)).copied().unwrap_or(0));
        let places: Vec<(i32, i64)> = (0..topic.partitions.len() as i32).map(of_partition).collect();
        let comers = by_key.iter_mut().filter(|(_, outlook)| wants(outlook));
        let (mut outlooks, mut subscribers) = (Vec::new(), Vec::new());
        for (key, outlook) in comers {
            let subscriber = Subscriber::new(self.mailbox.clone(), *key, outlook.granted);
            subscribers.push((outlook.filter.clone(), subscriber));
            outlooks.push(outlook);
        }
        let seats = self.hub.sit_again(topic, &places, subscribers);
        for (outlook, seat) in outlooks.into_iter().zip(seats) {
            for (partition, place) in &places {
                self.hub.feed(&seat, *partition, *place);
            }
            outlook.known.insert(topic.name.clone());
            outlook.seats.push(seat);
        }
    }

    /// Seats in topics that were deleted are given up: whoever makes and deletes many would have them asked for for ever. Should one come back
    /// that was only hidden, it is read on from where it was.
    fn leave_deleted(&self) {
        let mut inner = self.lock();
        let Inner {
            by_key, awaited, places, ..
        } = &mut *inner;
        let mut left = Vec::new();
        for outlook in by_key.values_mut() {
            let is_deleted = |seat: &mut Seat| self.hub.cluster.is_away(seat.topic()) && !awaited.contains(&*seat.topic().name);
            for seat in outlook.seats.extract_if(.., is_deleted) {
                outlook.known.remove(&seat.topic().name);
                left.push(seat);
            }
        }
        if places.len() > MOST_PLACES {
            places.clear();
        }
        let reached = left.iter().flat_map(Seat::frontiers);
        places.extend(reached.map(|reached| (reached.source, reached.next)));
        drop(inner);
        drop(left);
    }

    /// Names of topics that some subscription looks out for and does not sit in.
    fn wanted(&self, names: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let inner = self.lock();
        let is_wanted = |name: &Arc<str>| !self.hub.is_own(name) && inner.by_key.values().any(|outlook| outlook.wants(name));
        names.into_iter().filter(is_wanted).collect()
    }

    /// A subscription was granted another QoS.
    pub fn grant(&self, key: SubscriptionKey, granted: QoS) {
        if let Some(outlook) = self.lock().by_key.get_mut(&key) {
            outlook.granted = granted;
            outlook.seats.iter_mut().for_each(|seat| seat.grant(granted));
        }
    }

    /// A subscription is over.
    pub fn end(&self, key: SubscriptionKey) {
        let ended = self.lock().by_key.remove(&key);
        drop(ended);
    }

    /// The connection is gone.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let ended = std::mem::take(&mut inner.by_key);
        drop(inner);
        drop(ended);
    }

    /// Whether a partition is read for one of these subscriptions.
    pub fn reads(&self, place: &StoredSource) -> bool {
        let inner = self.lock();
        inner
            .by_key
            .values()
            .flat_map(|outlook| &outlook.seats)
            .any(|seat| seat.reads(place))
    }

    /// How far all partitions are read in which they sit.
    pub fn frontiers(&self) -> Vec<Reached> {
        let inner = self.lock();
        let seats = inner.by_key.values().flat_map(|outlook| &outlook.seats);
        seats.flat_map(Seat::frontiers).collect()
    }
}

/// Has the seats taken in what comes. A name of the list is waited for until it can be read, or a later list does not have it.
async fn watch(lookouts: Weak<Lookouts>, mut lookout: Lookout) {
    let mut waits = JoinSet::new();
    loop {
        tokio::select! {
            names = lookout.change() => {
                let (Some(names), Some(lookouts)) = (names, lookouts.upgrade()) else { return };
                lookouts.leave_deleted();
                waits = JoinSet::new();
                for name in lookouts.wanted(names) {
                    let cluster = lookouts.hub.cluster.clone();
                    waits.spawn(async move { cluster.topic_appears(&name).await });
                }
            }
            Some(found) = waits.join_next() => {
                if let (Ok(Some(topic)), Some(lookouts)) = (found, lookouts.upgrade()) {
                    lookouts.come(&topic);
                }
            }
        }
    }
}
