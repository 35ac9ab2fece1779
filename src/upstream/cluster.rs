//! The handle that everybody else holds, and what all tasks of the client share.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    accumulator::{self, Limits, Settled},
    appender::Appender,
    broker::Broker,
    by_id::ById,
    counters::Counters,
    fetch::{self, Keeping, Orphans, Reader, Start},
    group::{self, Group, GroupSettings, ShareGroup, ShareStart, Terms},
    identity::Identities,
    janitor,
    listing::Listings,
    memory::Memory,
    metadata, offsets,
    pace::Doubts,
    receipts::Waiters,
    security::Security,
    settings::{Settings, StateTopic},
    singles::Spare,
    standing::{Standing, State},
    state_topics::{self, Verdict},
    table::{self, Table},
    topics::{Partition, Topic, Topics},
};
use crate::kafka::error::ErrorCode;

/// How long a shutdown waits for records in flight.
const DRAIN: Duration = Duration::from_secs(10);
/// How long it waits for its own tasks after that.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The Kafka cluster. Cheap to clone; when the last clone is dropped, or after [`shutdown`](Self::shutdown), all its tasks end.
#[derive(Clone)]
pub struct Cluster {
    pub(super) core: Arc<Core>,
    _alive: Arc<Alive>,
}

/// Ends the tasks when the last clone of the handle goes.
struct Alive(Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What the tasks share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
    pub(crate) security: Arc<Security>,
    pub(crate) memory: Memory,
    pub(crate) topics: Topics,
    pub(crate) listings: Listings,
    pub(crate) identities: Identities,
    pub(crate) spare: Spare,
    pub(crate) by_id: ById,
    pub(crate) orphans: Orphans,
    brokers: Mutex<HashMap<i32, Arc<Broker>>>,
    pub(crate) standing: Standing,
    /// Counts changes of topics and leaders.
    pub(crate) changed: watch::Sender<u64>,
    /// Rung to have the metadata of new names asked for.
    pub(crate) refresh: Notify,
    /// Whether all topics are due, not only the new ones.
    pub(crate) doubts: Doubts,
    /// No more records are taken.
    pub(crate) closing: AtomicBool,
    pub(super) stopped: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Cluster {
    /// Starts the client. Never fails: as long as no broker answers, [`state`](Self::state) says so and why.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(settings: Settings) -> Self {
        let counters = Arc::new(Counters::default());
        let core = Arc::new(Core {
            limits: Limits {
                batch_size: settings.producer.batch_size,
                delivery_timeout: settings.producer.delivery_timeout,
            },
            memory: Memory::new(settings.producer.memory, counters.memory_used.clone()),
            topics: Topics::default(),
            listings: Listings::default(),
            identities: Identities::default(),
            spare: Spare::default(),
            by_id: ById::default(),
            orphans: Orphans::default(),
            brokers: Mutex::default(),
            standing: Standing::new(!settings.state_topics.is_empty()),
            changed: watch::Sender::new(0),
            refresh: Notify::new(),
            doubts: Doubts::of_everything(),
            closing: AtomicBool::new(false),
            stopped: watch::Sender::new(false),
            tasks: Mutex::default(),
            security: Arc::new(Security::new(&settings.security)),
            counters,
            settings,
        });
        core.spawn(metadata::run(Arc::clone(&core)));
        core.spawn(janitor::run(Arc::clone(&core)));
        if !core.settings.state_topics.is_empty() {
            core.spawn(state_topics::run(Arc::clone(&core)));
        }
        Self {
            _alive: Arc::new(Alive(Arc::clone(&core))),
            core,
        }
    }

    /// Whether Kafka can be used, and its changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.core.standing.subscribe()
    }

    /// The counters, to be registered once.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.core.counters
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A place to append records at.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.core))
    }

    /// Reads a partition. A partition that the topic does not have gives a reader that ends at once.
    pub fn read(&self, topic: &Topic, partition: i32, from: Start) -> Reader {
        let partition = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
        fetch::read(&self.core, partition, from, Keeping::Answer)
    }

    /// The same with chunks in buffers of their own, for who keeps them a while: a piece of an answer keeps all of that, and an answer has the
    /// records of many partitions.
    pub fn read_copies(&self, topic: &Topic, partition: i32, from: Start) -> Reader {
        let partition = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
        fetch::read(&self.core, partition, from, Keeping::Copy)
    }

    /// The same, and nothing is read ahead: each chunk is asked for when the reader is polled for it.
    pub fn read_one_by_one(&self, topic: &Topic, partition: i32, from: Start) -> Reader {
        let partition = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
        fetch::read(&self.core, partition, from, Keeping::OneCopy)
    }

    /// How long the first chunk of a reader may take, if there is one: polls of others on all lanes, then its own.
    pub fn longest_fetch(&self) -> Duration {
        let settings = &self.core.settings;
        (settings.consumer.max_wait + settings.request_timeout) * 2
    }

    /// The offset up to which a partition holds nothing to be read from `offset` on, although its log begins before and ends behind: compaction has
    /// taken it. A [`Reader`] waits there until something is written. `None` if there is something, or if no broker says so within the
    /// request timeout. What is written later lies behind it.
    pub fn gap(&self, topic: &Topic, partition: i32, offset: i64) -> impl Future<Output = Option<i64>> + Send + use<> {
        let partition = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
        let (core, partition) = (Arc::clone(&self.core), partition.map(Arc::clone));
        async move { fetch::gap(core, partition?, offset).await }
    }

    /// The offsets behind the last record of each partition (ListOffsets; with `read_committed` the last stable offset), asked for
    /// after the call. Calls of the same moment share one request per broker. Retried up to the request timeout.
    ///
    /// # Errors
    /// For each partition the broker's code; 7 REQUEST_TIMED_OUT if none came in time.
    pub async fn end_offsets(&self, of: &[(Arc<Topic>, i32)]) -> Vec<Result<i64, ErrorCode>> {
        offsets::list(&self.core, partitions(of), offsets::LATEST).await
    }

    /// For each partition the offset of the first record whose timestamp is `time` (milliseconds since 1970) or later; the end offset if there is
    /// none. Otherwise as [`end_offsets`](Self::end_offsets).
    ///
    /// # Errors
    /// As there.
    pub async fn offsets_since(&self, of: &[(Arc<Topic>, i32)], time: i64) -> Vec<Result<i64, ErrorCode>> {
        offsets::since(&self.core, partitions(of), time).await
    }

    /// Reads all partitions of a compacted topic from their beginnings on. Where they begin and end is asked for after the call.
    ///
    /// # Errors
    /// The broker's code for a partition whose offsets it does not tell; 7 REQUEST_TIMED_OUT if none came within the request timeout.
    pub async fn table(&self, topic: &Arc<Topic>) -> Result<Table, ErrorCode> {
        table::open(&self.core, topic).await
    }

    /// Whether state topics are as they must be, or Kafka would make them. None is made.
    ///
    /// # Errors
    /// Why no broker tells, after a few attempts.
    pub async fn examine(&self, topics: &[StateTopic]) -> Result<Vec<Verdict>, String> {
        state_topics::examine(&self.core, topics).await
    }

    /// The `cleanup.policy` of a topic, or the code with which Kafka refuses to tell it (DESCRIBE_CONFIGS).
    ///
    /// # Errors
    /// Why no broker tells, after a few attempts.
    pub async fn cleanup_policy(&self, topic: &str) -> Result<Result<String, ErrorCode>, String> {
        state_topics::cleanup_policy(&self.core, topic).await
    }

    /// The ids of the brokers, as last heard.
    pub fn brokers(&self) -> Vec<i32> {
        let mut ids: Vec<i32> = self.core.all_brokers().iter().filter(|b| b.is_listed()).map(|b| b.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Becomes a member of a consumer group. Never fails: what the coordinator refuses comes as an event.
    pub fn join(&self, settings: GroupSettings) -> Group {
        group::join(&self.core, settings)
    }

    /// Becomes a member of a share group (KIP-932). Never fails, as [`join`](Self::join).
    pub fn join_share(&self, group: String, topics: Vec<String>) -> ShareGroup {
        group::share::join(&self.core, group, topics)
    }

    /// Before the first member joins a share group: partitions that were never read by it begin at `starts`, those that appear later at
    /// their beginning. Gives what is set for the group.
    ///
    /// # Errors
    /// Why not, in one word.
    pub async fn prepare_share_group(&self, group: &str, starts: &[ShareStart]) -> Result<Terms, &'static str> {
        group::share::prepare(&self.core, group, starts).await
    }

    /// Which requests of share groups (KIP-932, KIP-1206, KIP-1222) a broker lacks; `None`: it has all.
    ///
    /// # Errors
    /// Why no broker tells.
    pub async fn lacks_share_groups(&self) -> Result<Option<String>, String> {
        group::share::lacking(&self.core).await
    }

    /// Takes no more records, waits a bounded time (10 s) for those in flight, then ends all tasks. What has no outcome by then is reported as expired.
    pub async fn shutdown(&self) {
        self.core.closing.store(true, Relaxed);
        let drained = timeout(DRAIN, self.core.memory.drained()).await.is_ok();
        if !drained {
            tracing::warn!(
                bytes = self.core.memory.used(),
                "records without Kafka's answer are given up at shutdown"
            );
        }
        self.core.stop();
        let mut tasks = std::mem::take(&mut *self.core.tasks());
        let ended = timeout(LAST_CALL, async { while tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tasks.shutdown().await;
        }
    }
}

/// The partitions; `None` where the topic has none of that index.
fn partitions(of: &[(Arc<Topic>, i32)]) -> Vec<Option<&Arc<Partition>>> {
    of.iter()
        .map(|(topic, index)| usize::try_from(*index).ok().and_then(|at| topic.partitions.get(at)))
        .collect()
}

impl Core {
    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().expect("no code that holds this lock panics")
    }

    /// Runs a task of the client until it ends or the client stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stopped.subscribe();
        let mut tasks = self.tasks();
        // Reap those that have ended: the set holds what runs.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = task => {}
            }
        });
    }

    /// Ends everything and breaks the circles of references between partitions and brokers.
    fn stop(&self) {
        self.closing.store(true, Relaxed);
        if self.stopped.send_replace(true) {
            return;
        }
        let mut settled = Vec::new();
        for partition in self.topics.partitions() {
            partition.lead_by(None);
            partition
                .lock()
                .queue
                .abandon(accumulator::Verdict::Expired { sent: true }, &mut settled);
            self.settle(&partition, &mut settled);
        }
        let brokers = std::mem::take(&mut *self.brokers());
        let mut dropped = Vec::new();
        brokers.values().for_each(|b| b.take_all_ready(&mut dropped));
        self.orphans.close();
    }

    fn brokers(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Arc<Broker>>> {
        self.brokers.lock().expect("no code that holds this lock panics")
    }

    /// All brokers that were ever heard of.
    pub(crate) fn all_brokers(&self) -> Vec<Arc<Broker>> {
        self.brokers().values().cloned().collect()
    }

    pub(crate) fn broker(&self, id: i32) -> Option<Arc<Broker>> {
        self.brokers().get(&id).cloned()
    }

    /// Remembers a broker; true if it is new and its tasks must be started.
    pub(crate) fn add_broker(&self, broker: &Arc<Broker>) {
        self.brokers().insert(broker.id, Arc::clone(broker));
    }

    /// Has the metadata of all topics asked for: soon, if the caller has not failed before, and the later the more `failures` in a row it had.
    pub(crate) fn refresh_all(&self, failures: u32) {
        self.doubts.tell(failures);
    }

    /// Tells who waits, gives the memory back and counts. Call it without the partition's lock.
    pub(crate) fn settle(&self, partition: &Partition, settled: &mut Vec<Settled<Waiters>>) {
        use accumulator::Verdict;
        for batch in settled.drain(..) {
            match batch.verdict {
                Verdict::Stored(_) => {
                    self.counters.batches.inc();
                    self.counters.records.inc_by(batch.records.into());
                    self.counters.plain_bytes.inc_by(batch.plain as u64);
                    self.counters.bytes.inc_by(batch.bytes.as_ref().map_or(0, |b| b.len() as u64));
                }
                Verdict::Refused(error) => {
                    self.counters.refused.inc();
                    partition.tell_refused(error, batch.records, batch.bytes.as_ref().map_or(0, Bytes::len));
                }
                Verdict::Unknown | Verdict::Expired { .. } => drop(self.counters.expired.inc()),
            }
            batch.waiters.settle(partition.index, batch.verdict);
            match batch.bytes {
                Some(bytes) => self.memory.give_back(bytes, batch.charged),
                None => self.memory.release(batch.charged),
            }
        }
    }
}
