//! Retained messages (§3.3.1.3): kept in the compacted topic of their own, known to every instance, the same for everybody.
//!
//! * `writer` writes a message there once its mapped record has an offset, and only then it is acknowledged.
//! * `tail` reads the topic into `store`: an ordered map, walked like a trie by `walk`, within a budget of memory; what finds none is read from
//!   the log when it is asked for (`lookup`).
//! * `custodian` mends what compaction would make wrong, and removes what is gone.
//! * `barrier` makes SUBSCRIBE linearizable, `stream` is the walk of one subscription and its delivery.
//! * `unsettled` is what a stored session has open of them from before, read by the places of their records.
//! * `again` decides about messages that were perhaps retained before.
//! * `mapped` is the header that orders them.

mod again;
mod asked;
mod barrier;
mod body;
mod custodian;
mod lookup;
mod mapped;
mod store;
mod stream;
mod tail;
mod unsettled;
mod walk;
mod writer;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
};

use super::{
    RetainedSettings,
    hub::{Hub, stored_source},
};
use crate::{
    mapping::RuleSet,
    metrics::Metrics,
    ownership::Place as StoredPlace,
    upstream::{Cluster, Topic},
};

pub use asked::Asked;
pub use barrier::Starts;
pub use stream::{Late, Message as RetainedMessage, Step as RetainedStep, Stream, Streams};
pub use unsettled::{Turn, Unsettled};
pub use writer::Job;

use store::{Place, Store};
use writer::Writer;

/// Bodies that are read from the log at one time, by all connections together.
const LOOKUPS: usize = 16;

/// How far the topic has been read.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// `None`: it has not been found yet.
    topic: Option<Arc<Topic>>,
    /// All that was there at the start has been read.
    loaded: bool,
    /// By partition: all below has been applied.
    positions: Vec<i64>,
}

/// The retained messages of this instance.
pub struct Retained {
    settings: RetainedSettings,
    cluster: Cluster,
    rules: Arc<RuleSet>,
    metrics: Arc<Metrics>,
    store: Mutex<Store>,
    progress: watch::Sender<Progress>,
    lookups: Semaphore,
    writer: Writer,
    /// It knows the topic.
    reads: bool,
    /// Partitions that this instance looks after.
    custody: watch::Sender<BTreeSet<i32>>,
    began: Instant,
}

/// Ends the tasks with whoever holds it.
pub struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Retained {
    /// Begins to read the topic, and to write to it. Must be called within a tokio runtime.
    pub fn start(settings: RetainedSettings, hub: &Arc<Hub>) -> (Arc<Self>, Tasks) {
        let (cluster, rules, group) = (hub.cluster.clone(), hub.rules.clone(), settings.group.clone());
        let (retained, mut tasks) = Self::begin_to_write(settings, true, cluster, rules, hub.metrics.clone());
        let tail = tokio::spawn(tail::run(retained.clone(), hub.clone()));
        let custodian = tokio::spawn(custodian::run(retained.clone()));
        tasks.0.extend([tail.abort_handle(), custodian.abort_handle()]);
        if let Some(group) = group {
            tasks.0.push(tokio::spawn(custodian::join(retained.clone(), group)).abort_handle());
        }
        (retained, tasks)
    }

    /// The same for who only writes: nothing is read.
    pub fn write_only(topic: String, cluster: Cluster, rules: Arc<RuleSet>, metrics: Arc<Metrics>) -> (Arc<Self>, Tasks) {
        let settings = RetainedSettings {
            topic,
            memory: 0,
            removal_delay: Duration::MAX,
            group: None,
        };
        Self::begin_to_write(settings, false, cluster, rules, metrics)
    }

    fn begin_to_write(
        settings: RetainedSettings,
        reads: bool,
        cluster: Cluster,
        rules: Arc<RuleSet>,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, Tasks) {
        let retained = Arc::new(Self {
            store: Mutex::new(Store::new(settings.memory)),
            cluster,
            rules,
            metrics,
            progress: watch::Sender::default(),
            lookups: Semaphore::new(LOOKUPS),
            writer: Writer::default(),
            reads,
            custody: watch::Sender::default(),
            began: Instant::now(),
            settings,
        });
        let writer = tokio::spawn(writer::run(retained.clone()));
        (retained, Tasks(vec![writer.abort_handle()]))
    }

    /// Whether all that was there at the start has been read, and its changes.
    pub fn loaded(&self) -> watch::Receiver<bool> {
        let mut progress = self.progress.subscribe();
        let (tell, told) = watch::channel(progress.borrow().loaded);
        tokio::spawn(async move {
            loop {
                let loaded = progress.borrow_and_update().loaded;
                tell.send_if_modified(|now| std::mem::replace(now, loaded) != loaded);
                tokio::select! {
                    changed = progress.changed() => if changed.is_err() { return },
                    () = tell.closed() => return,
                }
            }
        });
        told
    }

    /// The id of the topic, as sessions name it, once it is found.
    pub async fn topic_id(&self) -> Option<[u8; 16]> {
        let mut progress = self.progress.subscribe();
        let progress = progress.wait_for(|progress| progress.topic.is_some()).await.ok()?;
        progress.topic.as_ref().map(|topic| *topic.id.as_bytes())
    }

    /// A place in the topic, as sessions name it.
    pub fn stored_place(&self, place: Place) -> Option<StoredPlace> {
        let progress = self.progress.borrow();
        Some(StoredPlace {
            source: stored_source(progress.topic.as_ref()?, place.partition),
            offset: place.offset,
        })
    }

    /// Since it began: the clock of what is read.
    fn second(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Each change of it is one call that does not panic half-way.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
