//! One pass over the log of a partition, for those who are behind.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use super::{aborted::Aborted, feed::LIMITS, scribe::Scribe, sweep_cache::Permit};
use crate::{
    kafka::fetched::{self, Batch, Batches},
    upstream::{Chunk, Reader},
};

/// What a sweep comes to.
pub enum Next {
    /// A batch that has something at or behind the cursor.
    Batch(Batch),
    /// Nothing is to be handed out below this offset.
    Nothing(i64),
    /// A batch that cannot be read: what begins at the cursor is fetched again.
    Again,
}

/// A place in the log that moves forward.
pub struct Sweep {
    /// The next record to hand out.
    pub cursor: i64,
    /// Somebody who has room is at the cursor.
    pub is_active: bool,
    /// When it was put to where it is, or where it came from: elsewhere within one fetch is the same place.
    pub since: Instant,
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
    _permit: Permit,
}

impl Sweep {
    /// One that begins at `cursor`.
    pub fn new(cursor: i64, permit: Permit) -> Self {
        Self {
            cursor,
            is_active: false,
            since: Instant::now(),
            is_over: true,
            chunk: None,
            batches: fetched::batches(bytes::Bytes::new(), LIMITS),
            batch: None,
            aborted: Aborted::new(Vec::new()),
            doubted: -1,
            wants_fresh: false,
            reader: None,
            _permit: permit,
        }
    }

    /// Puts it elsewhere; true: within the fetch that it holds.
    pub fn put(&mut self, cursor: i64) -> bool {
        self.cursor = cursor;
        let chunk = self.chunk.take();
        if let Some(chunk) = chunk.filter(|chunk| holds(chunk, cursor)) {
            self.begin(chunk);
            return true;
        }
        self.since = Instant::now();
        (self.is_over, self.batch, self.doubted) = (true, None, -1);
        false
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
        self.batch = None;
        self.batches = fetched::batches(chunk.bytes.clone(), LIMITS).starting_at(self.cursor);
        self.aborted = Aborted::new(chunk.aborted.clone());
        self.chunk = Some(chunk);
    }

    /// What comes next in the fetch.
    pub fn next_batch(&mut self, scribe: &Scribe) -> Next {
        if let Some(batch) = self.batch.take().filter(|batch| batch.last_offset >= self.cursor) {
            return Next::Batch(batch);
        }
        while let (Some(base), Some(batch)) = (self.batches.next_base(), self.batches.next()) {
            match batch {
                Ok(batch) if self.aborted.covers(&batch) || batch.last_offset < self.cursor => {}
                Ok(batch) => return Next::Batch(batch),
                Err(error) if base <= self.doubted => {
                    scribe.unreadable(&error);
                    return Next::Nothing(self.batches.next_base().unwrap_or_else(|| self.end_fetch()));
                }
                Err(error) => {
                    scribe.read_again(&error);
                    self.doubted = base;
                    (self.is_over, self.wants_fresh) = (true, true);
                    (self.chunk, self.reader) = (None, None);
                    return Next::Again;
                }
            }
        }
        Next::Nothing(self.end_fetch())
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
