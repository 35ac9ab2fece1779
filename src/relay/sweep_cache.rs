//! What all sweeps of the instance may hold in memory together: permits for those that are under way, and the fetches that were read last.
//!
//! One part of the budget is for permits: a sweep holds the fetch it is in, its reader a few more, and of a compressed batch what became of
//! it. Where more partitions want to be swept than there are permits they take turns, first come first served; who holds one lets go
//! when others wait and its slice is over. Another part keeps fetches that were read: those of a crowd that do not move in step find
//! them there, instead of having the log read again for each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;

use super::{chunk::SourceId, patience::Patience, permits::Permits, settings::SweepSettings};
use crate::upstream::Chunk;

/// Fetches begin where a sweep was put, so they may overlap: so many are looked at for one that holds an offset.
const OVERLAPPING: usize = 8;

/// Shared by all partitions.
#[derive(Debug)]
pub struct SweepCache {
    permits: Arc<Permits>,
    fetch_size: usize,
    per_partition: usize,
    longest_fetch: Duration,
    recent: Mutex<Recent>,
}

impl SweepCache {
    /// For fetches of `fetch_size` bytes, of which none takes longer than `longest_fetch`; `used` shows what permits are out for.
    pub fn new(settings: SweepSettings, fetch_size: usize, longest_fetch: Duration, used: Gauge) -> Arc<Self> {
        Arc::new(Self {
            permits: Permits::new(settings.for_sweeps(), used),
            fetch_size,
            per_partition: settings.per_partition,
            longest_fetch,
            recent: Mutex::new(Recent::new(settings.for_fetches())),
        })
    }

    /// Sweeps that one partition may have at different places.
    pub fn per_partition(&self) -> usize {
        self.per_partition
    }

    /// Bytes that a fetch is asked to bring; one batch may be more.
    pub fn fetch_size(&self) -> usize {
        self.fetch_size
    }

    /// Permits for what is held while subscribers take their time.
    pub fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    /// How long turns last in a partition.
    pub fn patience(&self) -> Patience {
        Patience::new(self.longest_fetch)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Its sections do not panic half-way.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a fetch, which is in a buffer of its own: a piece of an answer would keep all of that.
    pub fn keep(&self, source: SourceId, chunk: Chunk) {
        self.recent().insert(source, chunk);
    }

    /// A fetch that holds the record at `offset`.
    pub fn find(&self, source: SourceId, offset: i64) -> Option<Chunk> {
        self.recent().find(source, offset)
    }

    /// The source has ended, or its log is another.
    pub fn forget(&self, source: SourceId) {
        self.recent().forget(source);
    }
}

/// Fetches, the least recently used going first.
#[derive(Debug)]
struct Recent {
    limit: usize,
    bytes: usize,
    /// By source and first offset; with the time of their last use.
    chunks: HashMap<SourceId, BTreeMap<i64, (u64, Chunk)>>,
    /// By the time of their last use.
    uses: BTreeMap<u64, (SourceId, i64)>,
    clock: u64,
}

impl Recent {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            chunks: HashMap::new(),
            uses: BTreeMap::new(),
            clock: 0,
        }
    }

    fn insert(&mut self, source: SourceId, chunk: Chunk) {
        let (offset, size) = (chunk.offset, chunk.bytes.len());
        self.remove(source, offset);
        if size == 0 || size > self.limit {
            return;
        }
        self.clock += 1;
        self.bytes += size;
        self.uses.insert(self.clock, (source, offset));
        self.chunks.entry(source).or_default().insert(offset, (self.clock, chunk));
        while self.bytes > self.limit {
            let (_, (source, offset)) = self.uses.pop_first().expect("bytes are of chunks");
            self.remove(source, offset);
        }
    }

    fn find(&mut self, source: SourceId, offset: i64) -> Option<Chunk> {
        let before = self.chunks.get_mut(&source)?.range_mut(..=offset).rev().take(OVERLAPPING);
        let (_, (used, chunk)) = before.into_iter().find(|(_, (_, chunk))| offset < chunk.next_offset)?;
        self.clock += 1;
        let at = self.uses.remove(used)?;
        *used = self.clock;
        self.uses.insert(self.clock, at);
        Some(chunk.clone())
    }

    fn remove(&mut self, source: SourceId, offset: i64) {
        let Some(of_source) = self.chunks.get_mut(&source) else { return };
        if let Some((used, chunk)) = of_source.remove(&offset) {
            self.bytes -= chunk.bytes.len();
            self.uses.remove(&used);
        }
        if of_source.is_empty() {
            self.chunks.remove(&source);
        }
    }

    fn forget(&mut self, source: SourceId) {
        for (used, chunk) in self.chunks.remove(&source).into_iter().flat_map(BTreeMap::into_values) {
            self.bytes -= chunk.bytes.len();
            self.uses.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(offset: i64, next_offset: i64, size: usize) -> Chunk {
        Chunk {
            topic: "t".into(),
            partition: 0,
            bytes: Bytes::from(vec![0; size]),
            offset,
            next_offset,
            high_watermark: 0,
            last_stable_offset: 0,
            aborted: Vec::new(),
            reset: false,
        }
    }

    #[test]
    fn what_was_used_last_stays_and_all_of_it_keeps_the_limit() {
        let (one, two) = (SourceId(1), SourceId(2));
        let mut recent = Recent::new(100);
        recent.insert(one, chunk(0, 10, 40));
        recent.insert(one, chunk(10, 20, 40));
        assert_eq!(recent.find(one, 9).map(|c| c.offset), Some(0));
        assert!(recent.find(one, 20).is_none() && recent.find(two, 5).is_none());
        recent.insert(two, chunk(5, 6, 40));
        assert!(recent.find(one, 15).is_none(), "it was the least recently used");
        assert_eq!(recent.find(one, 0).map(|c| c.offset), Some(0));
        assert_eq!((recent.bytes, recent.uses.len()), (80, 2));
        recent.insert(two, chunk(6, 7, 200));
        assert!(recent.find(two, 6).is_none(), "larger than all that may be kept");
        recent.insert(two, chunk(5, 8, 50));
        assert_eq!(recent.bytes, 90);
        recent.forget(two);
        recent.forget(one);
        assert_eq!((recent.bytes, recent.uses.len(), recent.chunks.len()), (0, 0, 0));
    }
}
