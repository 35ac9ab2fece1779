//! What is known of the names of topics that are in use.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    Identities, Partition, Topic, TopicId,
    rival::{Rivals, Teller},
};

/// Names without a topic that are kept track of at one time. Bounds what devices can make us remember; names that have a topic are
/// bounded by the cluster.
const MOST_STRANGERS: usize = 10_000;
/// New names between two counts of the strangers, so that a flood of names costs no count each.
const COUNT_EVERY: usize = 64;
/// A name without a topic that nobody asked for in this time is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

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
    /// What late brokers may tell of this name.
    rivals: Rivals,
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
    /// An answer told of a topic of this id. False: it may be one that was, told by a broker that is late; others are to be asked.
    pub(crate) fn believes(&mut self, id: TopicId, by: Teller) -> bool {
        match &self.topic {
            Some(known) if !known.id.may_be(id) => {
                let vacant = matches!(self.state, TopicState::Missing);
                self.rivals.believe(id, by, vacant, Instant::now())
            }
            _ => {
                self.rivals.withdrawn();
                true
            }
        }
    }

    /// Another topic has its name.
    pub(crate) fn is_over(&mut self, id: TopicId) {
        self.rivals.bury(id);
    }

    /// Under the lock of the names, which is the only place to get a topic from that nobody holds.
    fn is_unwanted(&self, now: Instant, unused: Duration) -> bool {
        let since = now - self.wanted;
        let Some(topic) = &self.topic else { return since >= FORGET_AFTER };
        let ours = 1 + usize::from(matches!(self.state, TopicState::Ready(_)));
        since >= unused && Arc::strong_count(topic) == ours && topic.partitions.iter().all(Partition::is_forgotten)
    }

    /// Whether an answer told of another topic, which is not believed yet.
    pub(crate) fn is_contested(&self) -> bool {
        self.rivals.are_told()
    }

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
            rivals: Rivals::default(),
            wanted: now,
            asked: None,
        };
        topics.insert(name.into(), unknown);
        (TopicState::Unknown, true)
    }

    /// Forgets what is not wanted any more: a name without a topic after a minute, a topic after `unused`, be it deleted or not, unless somebody
    /// holds it or something waits in it. Those who want it again ask again.
    pub(crate) fn forget_unwanted(&self, unused: Duration, identities: &Identities) {
        let now = Instant::now();
        self.lock().retain(|_, entry| {
            let forgets = entry.is_unwanted(now, unused);
            if forgets {
                let partitions = entry.topic.iter().flat_map(|topic| &topic.partitions);
                partitions.for_each(|partition| partition.retire(identities));
            }
            !forgets
        });
    }

    /// Whether a partition's topic is missing, or another has its name.
    pub(crate) fn is_away(&self, partition: &Partition) -> bool {
        let names = self.lock();
        let missing = |entry: &Entry| matches!(entry.state, TopicState::Missing);
        partition.is_gone() || names.get(&partition.topic).is_some_and(missing)
    }

    /// A partition by its topic's id.
    pub(crate) fn by_id(&self, topic: &[u8; 16], index: usize) -> Option<Arc<Partition>> {
        let names = self.lock();
        let topic = names.values().filter_map(|e| e.topic.as_ref()).find(|t| t.id.as_bytes() == topic)?;
        topic.partitions.get(index).cloned()
    }

    /// A topic that is there, by its id.
    pub(crate) fn there(&self, id: TopicId) -> Option<Arc<Topic>> {
        let names = self.lock();
        names.values().find_map(|entry| match &entry.state {
            TopicState::Ready(topic) if topic.id == id => Some(Arc::clone(topic)),
            _ => None,
        })
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
