//! What makes SUBSCRIBE linearizable: whatever was acknowledged on any instance before it is delivered with it.
//!
//! Told as a sequence of events. A retained PUBLISH is acknowledged when its mapped record *and* its retained record are in Kafka. A SUBSCRIBE takes
//! the mapped end offsets first: its start, from which on it gets mapped records. Then it takes the end offsets here and waits until
//! the own tail has read as far. So of a message that was acknowledged before, the mapped record lies below the start and the retained one
//! is known. One whose mapped record lies at or behind the start comes as an ordinary message and is not delivered from here as well. One whose mapped
//! record lies below the start, but whose retained record is read later, would come by neither way: the tail asks each seat for its
//! start, and delivers it then ([`Starts::misses`]). The tail may do so between start and walk; the walk gives it by then, so what came late counts only
//! above the walk's version (found by the test of two instances, in some twenty tries).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use tokio::time::{Instant, timeout_at};

use super::{
    Retained, Stream,
    store::{Order, Origin},
};
use crate::{mapping::partition_for_key, ownership::Source, session::SubscriptionKey};

/// From where on a subscription gets the records of the partitions that it reads. Unknown until its SUBSCRIBE knows.
#[derive(Debug, Default)]
pub struct Starts {
    /// A partition that is not in here came later and is read from its beginning.
    offsets: OnceLock<HashMap<Source, i64>>,
    /// The version up to which its SUBSCRIBE delivers.
    version: OnceLock<u64>,
}

impl Starts {
    /// Says where it starts, once: an offset for each partition.
    pub fn begin(&self, starts: impl IntoIterator<Item = (Source, i64)>) {
        // Said before: the first start counts.
        let _ = self.offsets.set(starts.into_iter().collect());
    }

    fn start(&self, origin: &Origin, partition: i32) -> Option<i64> {
        let source = Source {
            topic: origin.id,
            partition: partition.cast_unsigned(),
        };
        self.offsets.get()?.get(&source).copied()
    }

    /// The version up to which its SUBSCRIBE delivers; `None` before that is known.
    pub fn version(&self) -> Option<u64> {
        self.version.get().copied()
    }

    /// Whether the mapped record comes as an ordinary message.
    pub fn covers(&self, origin: &Origin, order: Order) -> bool {
        self.start(origin, order.partition).is_some_and(|start| order.offset >= start)
    }

    /// Whether the subscription has a start, and the mapped record lies before it.
    pub fn misses(&self, origin: &Origin, order: Order) -> bool {
        self.start(origin, order.partition).is_some_and(|start| order.offset < start)
    }
}

/// A subscription that gets retained messages: its place in the SUBSCRIBE, its key, its filter, and where it starts, if that is new.
pub type Wanted = (usize, SubscriptionKey, Box<str>, Option<Arc<Starts>>);

impl Retained {
    /// Waits until all that was acknowledged before this call is known; then the walks of some subscriptions. `None`: not in time.
    pub async fn streams(&self, wanted: &[Wanted], until: Instant) -> Option<Vec<Stream>> {
        let filters: Vec<&str> = wanted.iter().map(|(_, _, filter, _)| &**filter).collect();
        let version = self.barrier(&filters, until).await?;
        for starts in wanted.iter().filter_map(|(.., starts)| starts.as_ref()) {
            // A subscription that stands keeps its first.
            let _ = starts.version.set(version);
        }
        let streams = wanted
            .iter()
            .map(|(_, key, filter, starts)| Stream::new(*key, filter, version, starts.clone()));
        Some(streams.collect())
    }

    /// Waits until all that is in the log at this moment for these filters is known; the version by then. `None`: not in time.
    async fn barrier(&self, filters: &[&str], until: Instant) -> Option<u64> {
        timeout_at(until, self.caught_up(filters)).await.ok().flatten()
    }

    /// The same, for as long as it takes. `None`: Kafka does not say what is in the log.
    pub(super) async fn caught_up(&self, filters: &[&str]) -> Option<u64> {
        let mut progress = self.progress.subscribe();
        let topic = progress.wait_for(|progress| progress.loaded).await.ok()?.topic.clone()?;
        let partitions = partitions(filters, topic.partitions.len());
        let asked: Vec<_> = partitions.iter().map(|partition| (topic.clone(), *partition)).collect();
        let ends = self.cluster.end_offsets(&asked).await;
        let mut wanted = Vec::with_capacity(ends.len());
        for (partition, end) in partitions.into_iter().zip(ends) {
            wanted.push((partition as usize, end.ok()?));
        }
        let read = |(partition, end): &(usize, i64), positions: &[i64]| positions.get(*partition).is_some_and(|at| at >= end);
        progress
            .wait_for(|now| now.loaded && wanted.iter().all(|one| read(one, &now.positions)))
            .await
            .ok()?;
        Some(self.store().version())
    }
}

/// Where the topics lie that these filters match: all partitions, or those of the topics if all of them name one.
fn partitions(filters: &[&str], count: usize) -> BTreeSet<i32> {
    if filters.iter().any(|filter| filter.contains(['+', '#'])) {
        return (0..count as i32).collect();
    }
    filters
        .iter()
        .map(|filter| partition_for_key(filter.as_bytes(), count as u32) as i32)
        .collect()
}
