//! Topics and partitions as the client knows them.

mod names;
mod rival;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicI16, AtomicI32, Ordering::Relaxed},
    },
    time::Instant,
};

use uuid::Uuid;

pub use names::TopicState;
pub(crate) use names::{Entry, Topics};
pub(crate) use rival::Teller;

use super::{accumulator::PartitionQueue, broker::Broker, identity::Identities, receipts::Waiters, turn::Worth};
use crate::kafka::{Acks, error::ErrorCode};

/// A topic. Stays usable after its leaders have moved; after it grew, a newer one with the same partitions and more takes its place.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Kafka's id of it; zero if the brokers are too old for ids. A topic that was made anew has another.
    pub id: TopicId,
    /// By index.
    pub partitions: Vec<Arc<Partition>>,
    /// There was no such topic when somebody asked for it, or another had its name: all of it was written since. Not if all that is known
    /// is that it could not be seen, or was away: it may be as old as it likes.
    pub appeared: bool,
}

/// Kafka's id of a topic (KIP-516).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopicId(pub(crate) Uuid);

impl TopicId {
    /// Whether both may name the same topic: a broker too old for ids tells none, and that is no other topic.
    pub fn may_be(self, other: Self) -> bool {
        self == other || self.0.is_nil() || other.0.is_nil()
    }

    /// Its sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// One partition: who leads it, and what it has to send.
pub struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) index: i32,
    /// Broker id, -1 if nobody leads.
    leader: AtomicI32,
    /// Counts its leaders, as last heard (KIP-320); -1 if the brokers are too old to tell.
    leader_epoch: AtomicI32,
    /// The end of the log as last told, and the epoch of the leader that told it.
    end: Mutex<(i64, i32)>,
    /// Its topic was made anew under another id: this one will not come back.
    gone: AtomicBool,
    acks: Acks,
    /// What the same partition is sent with other `acks`: sequences must not be shared with batches that may vanish.
    others: [OnceLock<Arc<Partition>>; 2],
    /// The last code that an operator was told of.
    told: AtomicI16,
    slot: Mutex<Slot>,
}

/// What the partition's short lock guards.
pub(crate) struct Slot {
    pub(crate) queue: PartitionQueue<Waiters>,
    pub(crate) broker: Option<Arc<Broker>>,
    /// It is in a sender's hands or in a broker's list of ready ones, so it must not be put there again.
    pub(crate) listed: bool,
    /// Nothing is sent before; set after a failure.
    pub(crate) not_before: Option<Instant>,
    /// Failures in a row.
    pub(crate) failures: u32,
}

impl Partition {
    /// One of whose topic no other had the name, for records with all `acks`.
    pub(crate) fn new(topic: Arc<str>, topic_id: Uuid, index: i32) -> Arc<Self> {
        Self::with_queue(topic, topic_id, index, Acks::All, PartitionQueue::new(Acks::All))
    }

    /// The one of the same index of a topic that took the name of its topic, which is laid to rest.
    pub(crate) fn heir(&self, topic_id: Uuid) -> Arc<Self> {
        let queue = self.lock().queue.heir(self.acks);
        Self::with_queue(Arc::clone(&self.topic), topic_id, self.index, self.acks, queue)
    }

    fn with_queue(topic: Arc<str>, topic_id: Uuid, index: i32, acks: Acks, queue: PartitionQueue<Waiters>) -> Arc<Self> {
        let slot = Slot {
            queue,
            broker: None,
            listed: false,
            not_before: None,
            failures: 0,
        };
        Arc::new(Self {
            topic,
            topic_id,
            index,
            leader: AtomicI32::new(-1),
            leader_epoch: AtomicI32::new(-1),
            end: Mutex::new((-1, -1)),
            gone: AtomicBool::new(false),
            acks,
            others: [OnceLock::new(), OnceLock::new()],
            told: AtomicI16::new(0),
            slot: Mutex::new(slot),
        })
    }

    /// How many replicas must have what is appended here.
    pub(crate) fn acks(&self) -> Acks {
        self.acks
    }

    /// Where records with `acks` are appended.
    pub(crate) fn with_acks(self: &Arc<Self>, acks: Acks) -> &Arc<Self> {
        let other = match acks {
            Acks::All => return self,
            Acks::Leader => &self.others[0],
            Acks::None => &self.others[1],
        };
        let made = other.get_or_init(|| {
            let made = Self::with_queue(Arc::clone(&self.topic), self.topic_id, self.index, acks, PartitionQueue::new(acks));
            // A leader that is heard of meanwhile is told to it with the next metadata: until then its batches are refused.
            made.lead_by(self.lock().broker.clone().as_ref());
            made
        });
        // Behind it: whoever buries the family meanwhile finds this one there, or has marked `self` before this look.
        made.gone.fetch_or(self.is_gone(), Relaxed);
        made
    }

    /// This one and those for other `acks`.
    pub(crate) fn family(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(self.others.iter().filter_map(OnceLock::get))
    }

    /// Logs that Kafka refused `records` for good: loudly if it is another reason than the last time, since devices repeat themselves.
    pub(crate) fn tell_refused(&self, error: ErrorCode, records: u32, bytes: usize) {
        let (topic, partition, code) = (&*self.topic, self.index, error.name());
        if self.told.swap(error.code(), Relaxed) == error.code() {
            tracing::debug!(topic, partition, error = code, records, bytes, "Kafka refused records");
        } else {
            tracing::warn!(
                topic,
                partition,
                error = code,
                records,
                bytes,
                "Kafka refused records; repeats of this are counted only"
            );
        }
    }

    /// Its index in the topic.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// The broker that leads it, as last heard; `None` if nobody does.
    pub fn leader(&self) -> Option<i32> {
        Some(self.leader.load(Relaxed)).filter(|id| *id >= 0)
    }

    /// Counts its leaders (KIP-320): what a request says with it, a broker that knows another refuses. -1 if not known.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Relaxed)
    }

    /// A leader of this epoch says that the log ends at `offset`.
    pub(crate) fn told_end(&self, offset: i64, epoch: i32) {
        *self.end.lock().expect("no code that holds this lock panics") = (offset, epoch);
    }

    /// In which epoch the log was told to end at `offset`; -1 if that is not what was told last.
    pub(crate) fn epoch_of_end(&self, offset: i64) -> i32 {
        let (end, epoch) = *self.end.lock().expect("no code that holds this lock panics");
        if end == offset { epoch } else { -1 }
    }

    /// Takes what metadata say. A broker that is late tells of a leader that there was before: an older epoch changes nothing,
    /// where topic ids make sure that it is the same topic.
    pub(crate) fn told_leader(self: &Arc<Self>, broker: Option<&Arc<Broker>>, epoch: i32) -> Worth {
        let slot = self.lock();
        let known = self.leader_epoch.load(Relaxed);
        if epoch < known && epoch >= 0 && !self.topic_id.is_nil() {
            return Worth::LATE;
        }
        let news = epoch != known || broker.map(|b| b.id) != self.leader();
        self.leader_epoch.store(epoch, Relaxed);
        self.hand_to(slot, broker);
        Worth { news, late: false }
    }

    /// Whether it will not come back.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Lays it to rest: readers end, and nothing is sent from here on. What waits in it is the janitor's.
    fn bury(self: &Arc<Self>) {
        for one in self.family() {
            let slot = one.lock();
            one.gone.store(true, Relaxed);
            one.hand_to(slot, None);
        }
    }

    /// Whether nothing waits in it and nobody else holds it, so nothing ever will.
    fn is_forgotten(self: &Arc<Self>) -> bool {
        self.family().all(|one| Arc::strong_count(one) == 1 && one.lock().queue.is_empty())
    }

    /// It is forgotten: the one that comes in its place, should its topic be wanted again, knows nothing of its sequences.
    fn retire(&self, identities: &Identities) {
        let (used, dead) = self.lock().queue.stamps();
        identities.retire(used, dead);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no code that holds this lock panics")
    }

    /// Sets the leader. If it is another than before and there is something to send, the new one gets it at once.
    pub(crate) fn lead_by(self: &Arc<Self>, broker: Option<&Arc<Broker>>) {
        self.hand_to(self.lock(), broker);
    }

    /// Epoch, leader and broker change together, under the lock: metadata and the fetchers of all brokers tell of leaders, and were the one's
    /// id to stand beside the other's broker, senders and fetchers would hand the partition to each other for ever.
    fn hand_to(self: &Arc<Self>, mut slot: MutexGuard<'_, Slot>, broker: Option<&Arc<Broker>>) {
        // A late answer may still tell of a leader.
        let broker = broker.filter(|_| !self.is_gone());
        let id = broker.map_or(-1, |b| b.id);
        let moved = self.leader.swap(id, Relaxed) != id;
        let mut due = false;
        if moved {
            slot.broker = broker.cloned();
            (slot.not_before, slot.failures) = (None, 0);
            due = broker.is_some() && !slot.listed && slot.queue.is_ready();
            slot.listed |= due;
        }
        drop(slot);
        if let Some(broker) = broker.filter(|_| due) {
            broker.list(Arc::clone(self), true);
        }
        self.others.iter().filter_map(OnceLock::get).for_each(|other| other.lead_by(broker));
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{} led by {:?}", self.topic, self.index, self.leader())
    }
}
