//! One pass over the log of a partition, for those who are behind.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{feed::LIMITS, patience::SLICE, permits::Permit};
use crate::{
    kafka::{
        aborted::Aborted,
        fetched::{self, Batch, BatchError, Batches},
    },
    upstream::{Chunk, Reader},
};

/// What a sweep comes to.
pub enum Next {
    /// A batch that has something at or behind the cursor.
    Batch(Batch),
    /// Nothing is to be handed out below this offset.
    Nothing(i64),
    /// The same, since a batch cannot be read, again.
    Unreadable(i64, BatchError),
    /// A batch that cannot be read: what begins at the cursor is fetched again.
    Again(BatchError),
    /// A batch that becomes larger than there is memory for now. The sweep is to be given up; one with a permit for so many bytes can go on.
    TooLarge(usize),
}

/// Fetches that one sweep may hold: the one it is in, and those that wait in its reader.
const FETCHES: usize = 3;

/// Bytes that a sweep holds whose fetches have up to `fetch` bytes and whose batch was decompressed to `batch`. As much as a fetch of the
/// latter is counted in any case, so that the usual batch needs no further permit.
pub fn held(fetch_size: usize, fetch: usize, batch: usize) -> usize {
    let fetches = fetch_size.max(fetch).saturating_mul(FETCHES);
    fetches.saturating_add(batch.max(fetch_size))
}

/// A place in the log that moves forward.
pub struct Sweep {
    /// The next record to hand out.
    pub cursor: i64,
    /// Somebody who has room is at the cursor.
    pub is_active: bool,
    /// When it was put to where it is, or where it came from: elsewhere within one fetch is the same place.
    pub since: Instant,
    /// Something was fetched there.
    has_begun: bool,
    /// How long that may take while others want its place, or its permit.
    patience: Duration,
    /// Nothing of the fetch is left to hand out.
    pub is_over: bool,
    /// The fetch it is in, also when it is over: one that was left within it is often the next to be served.
    chunk: Option<Chunk>,
    batches: Batches,
    /// The batch it is in, if that is not handed out whole.
    batch: Option<Batch>,
    aborted: Aborted,
    /// Batches that begin here or below have been asked for again: what cannot be read of them now is left out.
    doubted: i64,
    /// The next fetch must come from Kafka.
    wants_fresh: bool,
    /// Goes on where the fetch ends. Opened when it is needed.
    reader: Option<Reader>,
    permit: Permit,
    fetch_size: usize,
    /// The largest fetch that its reader has brought.
    largest: usize,
}

impl Sweep {
    /// One that begins at `cursor`, with a permit for what it holds with fetches of `fetch_size` bytes, or for more. `patience`: how long its first
    /// fetch may take.
    pub fn new(cursor: i64, permit: Permit, fetch_size: usize, patience: Duration) -> Self {
        Self {
            cursor,
            is_active: false,
            since: Instant::now(),
            has_begun: false,
            patience,
            is_over: true,
            chunk: None,
            batches: fetched::batches(bytes::Bytes::new(), LIMITS),
            batch: None,
            aborted: Aborted::new(Vec::new()),
            doubted: -1,
            wants_fresh: false,
            reader: None,
            permit,
            fetch_size,
            largest: 0,
        }
    }

    /// Puts it elsewhere; true: within the fetch that it holds.
    pub fn put(&mut self, cursor: i64, patience: Duration) -> bool {
        self.cursor = cursor;
        let chunk = self.chunk.take();
        if let Some(chunk) = chunk.filter(|chunk| holds(chunk, cursor)) {
            self.begin(chunk);
            return true;
        }
        (self.since, self.has_begun, self.patience) = (Instant::now(), false, patience);
        (self.is_over, self.batch, self.doubted) = (true, None, -1);
        false
    }

    /// When it has to make way for those who want its place, or its permit.
    pub fn leaves_at(&self) -> Instant {
        self.since + self.still_waits().unwrap_or(SLICE)
    }

    /// Nothing has come yet for who is there: how long that may take.
    pub fn still_waits(&self) -> Option<Duration> {
        (self.is_active && !self.has_begun).then_some(self.patience)
    }

    /// Ends its reader; what that has brought already.
    pub fn leave(&mut self) -> impl Iterator<Item = Chunk> + use<> {
        let mut reader = self.reader.take();
        // Behind a position that was lost nothing follows on what was read.
        std::iter::from_fn(move || reader.as_mut()?.try_next().filter(|chunk| !chunk.reset))
    }

    /// Whether the record at `offset` is in the fetch that it holds.
    pub fn holds(&self, offset: i64) -> bool {
        self.chunk.as_ref().is_some_and(|chunk| holds(chunk, offset))
    }

    /// Whether who is at `offset` will be served by it without another fetch.
    pub fn comes_by(&self, offset: i64) -> bool {
        self.cursor == offset || (self.is_active && !self.is_over && self.cursor < offset && self.holds(offset))
    }

    /// Whether it cannot go on without the next fetch.
    pub fn wants_fetch(&self) -> bool {
        self.is_active && self.is_over
    }

    /// Whether what was read lately will not do for that.
    pub fn wants_fresh(&self) -> bool {
        self.wants_fresh
    }

    /// Has it read from the log.
    pub fn read(&mut self, open: impl Fn(i64) -> Reader) {
        let cursor = self.cursor;
        self.reader.get_or_insert_with(|| open(cursor));
    }

    /// Whether it reads from the log.
    pub fn reads(&self) -> bool {
        self.reader.is_some()
    }

    /// The next fetch of its reader. Only polled while it wants one.
    pub fn poll_fetch(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        match &mut self.reader {
            Some(reader) => reader.poll_next(context),
            None => Poll::Pending,
        }
    }

    /// Goes on within a fetch that holds the cursor, or begins at it.
    pub fn begin(&mut self, chunk: Chunk) {
        (self.is_over, self.wants_fresh) = (false, false);
        if !self.has_begun {
            (self.since, self.has_begun) = (Instant::now(), true);
        }
        self.batch = None;
        self.batches = fetched::batches(chunk.bytes.clone(), LIMITS).starting_at(self.cursor);
        self.aborted = Aborted::new(chunk.aborted.clone());
        self.largest = self.largest.max(chunk.bytes.len());
        self.chunk = Some(chunk);
    }

    /// What comes next in the fetch.
    pub fn next_batch(&mut self) -> Next {
        if let Some(batch) = self.batch.take().filter(|batch| batch.last_offset >= self.cursor) {
            return Next::Batch(batch);
        }
        while let (Some(base), Some(batch)) = (self.batches.next_base(), self.batches.next()) {
            match batch {
                Ok(batch) if self.aborted.covers(&batch) || batch.last_offset < self.cursor => {}
                Ok(batch) => return self.charge(batch),
                Err(error) if base <= self.doubted || !error.may_pass() => {
                    let end = self.batches.next_base().unwrap_or_else(|| self.end_fetch());
                    return Next::Unreadable(end, error);
                }
                Err(error) => {
                    self.doubted = base;
                    (self.is_over, self.wants_fresh) = (true, true);
                    (self.chunk, self.reader) = (None, None);
                    return Next::Again(error);
                }
            }
        }
        Next::Nothing(self.end_fetch())
    }

    /// A batch is held until all of it is handed out, which is up to those who take it.
    fn charge(&mut self, batch: Batch) -> Next {
        let needed = held(self.fetch_size, self.largest, batch.decompressed());
        match self.permit.resize(needed) {
            true => Next::Batch(batch),
            false => Next::TooLarge(needed),
        }
    }

    /// Not all of the batch was handed out.
    pub fn keep_batch(&mut self, batch: Batch) {
        self.batch = Some(batch);
    }

    /// The fetch is over; the offset behind it.
    fn end_fetch(&mut self) -> i64 {
        self.is_over = true;
        self.chunk.as_ref().map_or(self.cursor, |chunk| chunk.next_offset)
    }
}

fn holds(chunk: &Chunk, offset: i64) -> bool {
    (chunk.offset..chunk.next_offset).contains(&offset)
}

#[cfg(test)]
mod tests {
    use std::iter;

    use bytes::Bytes;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::{
        kafka::{
            Compression, RecordFields,
            batch::{BatchBuilder, Producer},
        },
        relay::permits::Permits,
    };

    const FETCH: usize = 64 * 1024;
    const PATIENCE: Duration = Duration::from_secs(2);

    /// A fetch with one batch of 2,000 records of 1,000 bytes, which compress well.
    fn fetch(compression: Compression) -> Chunk {
        let mut batch = BatchBuilder::new();
        for _ in 0..2_000 {
            let fields = RecordFields {
                timestamp: 0,
                key: None,
                value: Some(&[7; 1_000]),
                headers: iter::empty(),
            };
            batch.append(&fields).unwrap();
        }
        Chunk {
            topic: "t".into(),
            partition: 0,
            bytes: batch.seal(&Producer::NONE, compression).bytes,
            offset: 0,
            next_offset: 2_000,
            high_watermark: 2_000,
            last_stable_offset: 2_000,
            aborted: Vec::new(),
            reset: false,
        }
    }

    fn sweep(permit: Permit, chunk: &Chunk) -> Sweep {
        let mut sweep = Sweep::new(0, permit, FETCH, PATIENCE);
        let bytes = Bytes::copy_from_slice(&chunk.bytes);
        sweep.begin(Chunk { bytes, ..chunk.clone() });
        sweep
    }

    #[tokio::test]
    async fn what_sweeps_hold_keeps_the_limit_whatever_batches_become() {
        const LIMIT: usize = 8 * 1024 * 1024;
        for compression in [Compression::Zstd { level: 3 }, Compression::None] {
            let permits = Permits::new(LIMIT, Gauge::default());
            let chunk = fetch(compression);
            let (mut sweeps, mut held, mut needed) = (Vec::new(), 0, None);
            for _ in 0..10 {
                let Some(permit) = permits.try_acquire(super::held(FETCH, 0, 0)) else {
                    break;
                };
                let mut sweep = sweep(permit, &chunk);
                match sweep.next_batch() {
                    Next::Batch(batch) => {
                        held += chunk.bytes.len() + batch.decompressed();
                        sweep.keep_batch(batch);
                        sweeps.push(sweep);
                    }
                    Next::TooLarge(bytes) => needed = Some(bytes),
                    _ => panic!("the batch can be read"),
                }
            }
            assert!(
                !sweeps.is_empty() && held <= LIMIT,
                "{} hold {held} bytes, {compression:?}",
                sweeps.len()
            );
            drop(sweeps);
            // With what it needs it goes on, in a place of its own in line.
            let needed = needed.expect("not all of them found room");
            let mut sweep = sweep(permits.acquire(needed).await, &chunk);
            assert!(matches!(sweep.next_batch(), Next::Batch(_)));
        }
    }

    #[test]
    fn a_slice_begins_with_the_first_fetch() {
        let permits = Permits::new(1024 * 1024, Gauge::default());
        let mut sweep = Sweep::new(0, permits.try_acquire(1).unwrap(), FETCH, PATIENCE);
        let put = sweep.since;
        assert_eq!(sweep.leaves_at(), put + SLICE, "nobody waits there");
        sweep.is_active = true;
        assert_eq!(sweep.leaves_at(), put + PATIENCE);
        sweep.begin(fetch(Compression::None));
        let begun = sweep.since;
        assert!(begun > put && sweep.leaves_at() == begun + SLICE);
        // Neither the next fetch nor another place in the same one makes it longer.
        sweep.begin(fetch(Compression::None));
        assert!(sweep.put(1_000, 2 * PATIENCE) && sweep.leaves_at() == begun + SLICE);
        assert_eq!(sweep.still_waits(), None);
        assert!(!sweep.put(5_000, 2 * PATIENCE) && sweep.leaves_at() == sweep.since + 2 * PATIENCE);
    }

    #[tokio::test]
    async fn a_batch_that_is_larger_than_all_memory_is_held_alone() {
        let permits = Permits::new(1024 * 1024, Gauge::default());
        let chunk = fetch(Compression::Zstd { level: 3 });
        let mut first = sweep(permits.try_acquire(super::held(FETCH, 0, 0)).unwrap(), &chunk);
        let other = permits.try_acquire(1).unwrap();
        let Next::TooLarge(needed) = first.next_batch() else {
            panic!("it needs more than there is")
        };
        drop((first, other));
        let mut alone = sweep(permits.clone().acquire(needed).await, &chunk);
        assert!(matches!(alone.next_batch(), Next::Batch(_)));
        assert!(permits.try_acquire(1).is_none());
    }
}
