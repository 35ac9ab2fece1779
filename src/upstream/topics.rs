//! Topics and partitions as the client knows them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicI16, AtomicI32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{accumulator::PartitionQueue, broker::Broker, receipts::Waiters};
use crate::kafka::{Acks, error::ErrorCode};

/// Names without a topic that are kept track of at one time. Bounds what devices can make us remember; names that have a topic are
/// bounded by the cluster.
const MOST_STRANGERS: usize = 10_000;
/// New names between two counts of the strangers, so that a flood of names costs no count each.
const COUNT_EVERY: usize = 64;
/// A missing topic that nobody asked for in this time is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

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
    pub(crate) fn told_leader(self: &Arc<Self>, broker: Option<&Arc<Broker>>, epoch: i32) {
        let slot = self.lock();
        let known = self.leader_epoch.load(Relaxed);
        if epoch < known && epoch >= 0 && !self.topic_id.is_nil() {
            return;
        }
        self.leader_epoch.store(epoch, Relaxed);
        self.hand_to(slot, broker);
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
        Arc::strong_count(self) == 1 && self.family().all(|one| one.lock().queue.is_empty())
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

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum TopicState {
    /// It exists.
    Ready(Arc<Topic>),
    /// The cluster says that it does not exist, or that we may not know it. Asked again every few seconds while somebody wants it.
    Missing,
    /// Not known yet; it has been asked for.
    Unknown,
}

/// All names in use.
#[derive(Default)]
pub(crate) struct Topics {
    names: Mutex<HashMap<Arc<str>, Entry>>,
    /// Partitions of topics that were made anew, as long as somebody may append to them: the janitor settles it, or whoever waits for it
    /// would do so for ever. Locked behind `names`.
    buried: Mutex<Vec<Arc<Partition>>>,
}

pub(crate) struct Entry {
    pub(crate) state: TopicState,
    /// The last topic of that name, also while it is missing: if it comes back with the same id, its partitions go on.
    pub(crate) topic: Option<Arc<Topic>>,
    /// Answers in a row that said it does not exist.
    pub(crate) missing: u32,
    /// The last of them said something else: that we may not know it, for one.
    pub(crate) hidden: bool,
    wanted: Instant,
    pub(crate) asked: Option<Instant>,
}

/// If there are too many names without a topic, the quarter that was wanted least recently goes. Whoever still wants one of them says
/// so again (`Cluster::topic_known`); whoever wants a name that has a topic never meets this bound.
fn forget_strangers(topics: &mut HashMap<Arc<str>, Entry>) {
    let mut wanted: Vec<Instant> = topics.values().filter(|e| e.topic.is_none()).map(|e| e.wanted).collect();
    if wanted.len() < MOST_STRANGERS {
        return;
    }
    let quarter = wanted.len() / 4;
    let cut = *wanted.select_nth_unstable(quarter).1;
    topics.retain(|_, e| e.topic.is_some() || e.wanted > cut);
}

impl Entry {
    /// Whether a topic of this id that is told of now has appeared.
    pub(crate) fn appears(&self, id: TopicId) -> bool {
        let was_away = matches!(self.state, TopicState::Missing);
        match &self.topic {
            None => was_away && !self.hidden,
            Some(known) if !known.id.may_be(id) => true,
            Some(known) => known.appeared && !was_away,
        }
    }
}

impl Topics {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.names.lock().expect("no code that holds this lock panics")
    }

    fn buried(&self) -> MutexGuard<'_, Vec<Arc<Partition>>> {
        self.buried.lock().expect("no code that holds this lock panics")
    }

    /// Lays the partitions of a topic to rest whose name belongs to another by now.
    pub(crate) fn bury(&self, old: &Topic) {
        old.partitions.iter().for_each(Partition::bury);
        self.buried().extend(old.partitions.iter().cloned());
    }

    /// What is known of `name`; the flag says that it is new here and should be asked for.
    pub(crate) fn look_up(&self, name: &str) -> (TopicState, bool) {
        let now = Instant::now();
        let mut topics = self.lock();
        if let Some(entry) = topics.get_mut(name) {
            entry.wanted = now;
            return (entry.state.clone(), false);
        }
        if topics.len() >= MOST_STRANGERS && topics.len().is_multiple_of(COUNT_EVERY) {
            forget_strangers(&mut topics);
        }
        let unknown = Entry {
            state: TopicState::Unknown,
            topic: None,
            missing: 0,
            hidden: false,
            wanted: now,
            asked: None,
        };
        topics.insert(name.into(), unknown);
        (TopicState::Unknown, true)
    }

    /// Whether a partition's topic is missing, or another has its name.
    pub(crate) fn is_away(&self, partition: &Partition) -> bool {
        let names = self.lock();
        let missing = |entry: &Entry| matches!(entry.state, TopicState::Missing);
        partition.is_gone() || names.get(&partition.topic).is_some_and(missing)
    }

    /// Forgets what was missing and is not wanted any more.
    pub(crate) fn forget_unwanted(&self) {
        let now = Instant::now();
        self.lock().retain(|_, e| e.topic.is_some() || now - e.wanted < FORGET_AFTER);
    }

    /// A partition by its topic's id.
    pub(crate) fn by_id(&self, topic: &[u8; 16], index: usize) -> Option<Arc<Partition>> {
        let names = self.lock();
        let topic = names.values().filter_map(|e| e.topic.as_ref()).find(|t| t.id.as_bytes() == topic)?;
        topic.partitions.get(index).cloned()
    }

    /// All partitions, for the sweeps over them.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        let names = self.lock();
        let mut buried = self.buried();
        buried.retain(|partition| !partition.is_forgotten());
        names
            .values()
            .filter_map(|e| e.topic.as_ref())
            .flat_map(|t| &t.partitions)
            .chain(buried.iter())
            .flat_map(Partition::family)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests;
