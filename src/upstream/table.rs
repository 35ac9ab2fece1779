//! A compacted topic as a table: all of its partitions from the beginning, the moment at which all that was there has been read, and
//! what comes after.
//!
//! What the records mean is the user's business. Only a few partitions at a time are read up to their ends, so the memory is bounded by
//! those and not by the topic; those that have come to their ends stay at their tails.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    cluster::Core,
    fetch::{self, Chunk, Keeping, Reader, Start},
    offsets,
    topics::Topic,
};
use crate::kafka::error::ErrorCode;

/// Partitions that are read up to their ends at the same time. Each holds the chunks of one reader: two, of `fetch_size` bytes or of one
/// batch if that is larger.
const AT_A_TIME: usize = 4;

/// How often the ends are asked for anew of partitions that have not come to theirs. Nothing is fetched from a log that retention has
/// emptied since, or that was cut off, so nothing else would tell that there is no more.
const DOUBT: Duration = Duration::from_secs(1);

/// A partition, the position it had, and where its log begins and ends by now.
type Extent = (usize, i64, Result<(i64, i64), ErrorCode>);

/// What a table tells.
#[derive(Clone, Debug)]
pub enum TableEvent {
    /// Records of one partition, behind those that came before.
    Records(Chunk),
    /// All that the partition held when the table was opened has been told.
    CaughtUp {
        /// Its index.
        partition: i32,
    },
    /// The same of all partitions, told once.
    Complete,
}

/// All partitions of a topic. Dropping it leaves them.
pub struct Table {
    core: Arc<Core>,
    topic: Arc<Topic>,
    parts: Vec<Part>,
    /// The first partition that is not read yet.
    next: usize,
    /// Partitions that have not come to their ends.
    behind: usize,
    /// Whose turn it is: no partition waits behind one that always has something.
    turn: usize,
    told: VecDeque<TableEvent>,
    /// The question for the ends, asked again and again while partitions are behind.
    doubt: Option<Pin<Box<dyn Future<Output = Vec<Extent>> + Send>>>,
}

struct Part {
    reader: Option<Reader>,
    /// Behind the last record that was told; at first the earliest there is.
    position: i64,
    /// Where its log ended when the table was opened.
    barrier: i64,
    caught_up: bool,
}

/// Asks where all partitions begin and end, and begins to read.
pub(crate) async fn open(core: &Arc<Core>, topic: &Arc<Topic>) -> Result<Table, ErrorCode> {
    let all = || topic.partitions.iter().map(Some).collect();
    // The ends last: what is in the log by then is read before `Complete`.
    let begins = offsets::list(core, all(), offsets::EARLIEST).await;
    let ends = offsets::list(core, all(), offsets::LATEST).await;
    let mut parts = Vec::with_capacity(begins.len());
    for (position, barrier) in begins.into_iter().zip(ends) {
        let (position, barrier) = (position?, barrier?);
        parts.push(Part {
            reader: None,
            position,
            barrier,
            caught_up: false,
        });
    }
    let mut table = Table {
        core: Arc::clone(core),
        topic: Arc::clone(topic),
        behind: parts.len(),
        parts,
        next: 0,
        turn: 0,
        told: VecDeque::new(),
        doubt: None,
    };
    table.begin();
    Ok(table)
}

/// After a while: where the logs of these partitions begin and end.
async fn extents(core: Arc<Core>, topic: Arc<Topic>, of: Vec<(usize, i64)>) -> Vec<Extent> {
    tokio::time::sleep(DOUBT).await;
    let all = || of.iter().map(|(at, _)| topic.partitions.get(*at)).collect();
    let begins = offsets::list(&core, all(), offsets::EARLIEST).await;
    let ends = offsets::list(&core, all(), offsets::LATEST).await;
    let extents = begins.into_iter().zip(ends).map(|(begin, end)| Ok((begin?, end?)));
    of.iter()
        .zip(extents)
        .map(|((at, position), extent)| (*at, *position, extent))
        .collect()
}

impl Table {
    /// The topic, as it was when the table was opened. Partitions that it gains are not read: in a table's topic a key must not move.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// The offset behind the last record that was told of a partition; `None` if it does not exist.
    pub fn position(&self, partition: i32) -> Option<i64> {
        let at = usize::try_from(partition).ok()?;
        self.parts.get(at).map(|part| part.position)
    }

    /// Whether all that was there when the table was opened has been told.
    pub fn is_complete(&self) -> bool {
        self.behind == 0 && self.told.is_empty()
    }

    /// What comes next; waits for ever if nothing is written. `None` after the client was shut down, or if the topic was deleted and made
    /// anew: then the table must be opened again. So it must if a chunk says that its position was lost
    /// ([`Chunk::reset`]): records of which nothing is known are missing. Cancel-safe.
    pub async fn next(&mut self) -> Option<TableEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TableEvent>> {
        if let Some(event) = self.told.pop_front() {
            return Poll::Ready(Some(event));
        }
        if let ready @ Poll::Ready(_) = self.poll_readers(context) {
            return ready;
        }
        while let Poll::Ready(extents) = self.poll_doubt(context) {
            // What has been fetched meanwhile is told first.
            if let ready @ Poll::Ready(_) = self.poll_readers(context) {
                return ready;
            }
            self.shorten(extents);
            if let Some(event) = self.told.pop_front() {
                return Poll::Ready(Some(event));
            }
        }
        Poll::Pending
    }

    fn poll_readers(&mut self, context: &mut Context<'_>) -> Poll<Option<TableEvent>> {
        let count = self.parts.len();
        for at in (self.turn..count).chain(0..self.turn) {
            let Some(reader) = &mut self.parts[at].reader else { continue };
            match reader.poll_next(context) {
                Poll::Ready(Some(chunk)) => {
                    self.turn = (at + 1) % count;
                    self.advance(at, &chunk);
                    return Poll::Ready(Some(TableEvent::Records(chunk)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Where the logs of those begin and end that are being read and are behind.
    fn poll_doubt(&mut self, context: &mut Context<'_>) -> Poll<Vec<Extent>> {
        if self.behind == 0 {
            self.doubt = None;
            return Poll::Pending;
        }
        let (core, topic, parts) = (&self.core, &self.topic, &self.parts);
        let doubt = self.doubt.get_or_insert_with(|| {
            let behind = parts
                .iter()
                .enumerate()
                .filter(|(_, part)| part.reader.is_some() && !part.caught_up);
            let behind = behind.map(|(at, part)| (at, part.position)).collect();
            Box::pin(extents(Arc::clone(core), Arc::clone(topic), behind))
        });
        let extents = doubt.as_mut().poll(context);
        if extents.is_ready() {
            self.doubt = None;
        }
        extents
    }

    /// Takes over where logs begin and end by now: who has nothing to read before its barrier has come to it.
    fn shorten(&mut self, extents: Vec<Extent>) {
        for (at, position, extent) in extents {
            let part = &mut self.parts[at];
            let Ok((begin, end)) = extent else { continue };
            if !part.caught_up && part.position == position && position.max(begin) >= part.barrier.min(end) {
                self.arrive(at);
            }
        }
        self.begin();
    }

    fn advance(&mut self, at: usize, chunk: &Chunk) {
        let part = &mut self.parts[at];
        part.position = chunk.next_offset;
        // At the high watermark there is nothing more; it may lie below the barrier if the log was cut off meanwhile.
        if !part.caught_up && (part.position >= part.barrier || (0..=part.position).contains(&chunk.high_watermark)) {
            self.arrive(at);
            self.begin();
        }
    }

    /// A partition has come to its end.
    fn arrive(&mut self, at: usize) {
        self.parts[at].caught_up = true;
        self.behind -= 1;
        let partition = at as i32;
        self.told.push_back(TableEvent::CaughtUp { partition });
        if self.behind == 0 {
            self.told.push_back(TableEvent::Complete);
        }
    }

    /// Begins to read further partitions, as far as there is room for such that are behind.
    fn begin(&mut self) {
        if self.parts.is_empty() && self.next == 0 {
            self.next = 1;
            self.told.push_back(TableEvent::Complete);
        }
        let reading = |parts: &[Part]| parts.iter().filter(|part| part.reader.is_some() && !part.caught_up).count();
        while self.next < self.parts.len() && reading(&self.parts) < AT_A_TIME {
            let at = self.next;
            self.next += 1;
            let part = &mut self.parts[at];
            let start = Start::Offset(part.position);
            part.reader = Some(fetch::read(&self.core, Some(&self.topic.partitions[at]), start, Keeping::Answer));
            if part.position >= part.barrier {
                self.arrive(at);
            }
        }
    }
}
