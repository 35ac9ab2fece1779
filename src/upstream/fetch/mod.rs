//! Reading partitions: readers, and what they get.
//!
//! One fetcher per broker serves all readers of the partitions that it leads. Its long poll carries all of them. A reader that joins
//! does not wait for the poll that is out: another goes at once, on another lane (connection), and carries all again. What
//! the older poll brings is taken only for partitions whose position is still the one it was asked for.

mod fetcher;
mod lane;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{cluster::Core, topics::Partition};
pub(crate) use fetcher::run;

/// Chunks that wait for a reader; a partition whose reader has that many is left out of the polls.
const MOST_CHUNKS: usize = 2;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind the last record there is when the broker is asked. If the position is lost later: the end again.
    Tail,
    /// At this offset. If it is gone: the earliest there is; if it is beyond the end: the end.
    Offset(i64),
}

/// What one fetch brought for a partition.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: i32,
    /// Whole record batches, as stored. The first may begin below [`offset`](Self::offset): records below it were not asked for.
    pub bytes: Bytes,
    /// The offset that was asked for.
    pub offset: i64,
    /// The offset behind the last record in `bytes`: where the next chunk begins.
    pub next_offset: i64,
    /// The offset behind the last record that all in-sync replicas have.
    pub high_watermark: i64,
    /// The offset below which no transaction is open; -1 if not told.
    pub last_stable_offset: i64,
    /// Aborted transactions that touch `bytes`, as (producer id, first offset); only with `read_committed`.
    pub aborted: Vec<(i64, i64)>,
    /// The position was lost before this chunk: records between the last chunk and this one are gone.
    pub reset: bool,
}

/// Reads one partition. Dropping it leaves the partition.
#[derive(Debug)]
pub struct Reader {
    chunks: mpsc::Receiver<Chunk>,
    starved: Arc<AtomicBool>,
    partition: Option<Arc<Partition>>,
}

impl Reader {
    /// The next chunk; waits for ever if nothing is written. `None` after the client was shut down, or if the topic was deleted and made
    /// anew: then look it up again. Cancel-safe.
    pub async fn next(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.recv().await;
        self.look();
        chunk
    }

    /// If the fetcher left us out for want of room, tell it that there is some.
    fn look(&self) {
        if self.starved.swap(false, SeqCst) {
            self.ring();
        }
    }

    fn ring(&self) {
        let broker = self.partition.as_ref().and_then(|p| p.lock().broker.clone());
        if let Some(broker) = broker {
            let _ = broker.fetcher.send(Command::Look);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.chunks.close();
        self.ring();
    }
}

/// A reader as its fetcher sees it.
pub(crate) struct Slot {
    partition: Arc<Partition>,
    start: Start,
    /// `None` until the broker was asked where the log ends (or begins).
    position: Option<i64>,
    chunks: mpsc::Sender<Chunk>,
    starved: Arc<AtomicBool>,
    /// Lanes, as bits, whose poll carries the current position.
    covered: u8,
    /// The broker is being asked for an offset.
    resolving: bool,
    not_before: Option<std::time::Instant>,
    failures: u32,
    /// The position that was gone, until a chunk is handed over. Kept over questions that fail and leaders that move: the next who
    /// looks for a position must not take it for a start at the tail.
    lost: Option<i64>,
}

/// What a fetcher is told.
pub(crate) enum Command {
    /// A reader joins, or comes from another broker.
    Join(Box<Slot>),
    /// Something may have changed: leaders, room.
    Look,
    /// The answer to a question for an offset.
    Positioned { slot: u64, offset: Option<i64> },
}

/// Readers of partitions that nobody leads at the moment.
#[derive(Default)]
pub(crate) struct Orphans(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    slots: Vec<Slot>,
    /// The client was shut down: readers end.
    closed: bool,
}

impl Orphans {
    /// Gives `slot` to the fetcher of its partition's leader, or keeps it until there is one.
    pub(crate) fn adopt(&self, slot: Box<Slot>) {
        // The list is locked first: a leader that appears now is seen either here or by `place`.
        let mut orphans = self.0.lock().expect("no code that holds this lock panics");
        let broker = slot.partition.lock().broker.clone();
        match broker {
            Some(broker) => drop(broker.fetcher.send(Command::Join(slot))),
            // Dropping the slot ends its reader.
            None if orphans.closed || slot.partition.is_gone() => {}
            None => orphans.slots.push(*slot),
        }
    }

    /// Looks for leaders again.
    pub(crate) fn place(&self) {
        let orphans = std::mem::take(&mut self.0.lock().expect("no code that holds this lock panics").slots);
        for slot in orphans {
            self.adopt(Box::new(slot));
        }
    }

    /// Ends the readers that are kept here, and all that would come.
    pub(crate) fn close(&self) {
        *self.0.lock().expect("no code that holds this lock panics") = Waiting {
            slots: Vec::new(),
            closed: true,
        };
    }
}

/// Starts reading.
pub(crate) fn read(core: &Core, partition: Option<&Arc<Partition>>, start: Start) -> Reader {
    let (sender, chunks) = mpsc::channel(MOST_CHUNKS);
    let starved = Arc::new(AtomicBool::new(false));
    if let Some(partition) = partition {
        let position = match start {
            Start::Tail => None,
            Start::Offset(offset) => Some(offset.max(0)),
        };
        core.orphans.adopt(Box::new(Slot {
            partition: Arc::clone(partition),
            start,
            position,
            chunks: sender,
            starved: Arc::clone(&starved),
            covered: 0,
            resolving: false,
            not_before: None,
            failures: 0,
            lost: None,
        }));
    }
    Reader {
        chunks,
        starved,
        partition: partition.cloned(),
    }
}

/// The offset behind the last whole batch in a record set, and the length of all whole batches.
///
/// Only headers are looked at: 8 bytes base offset, 4 length, 4 leader epoch, 1 magic; with magic 2 then 4 CRC, 2 attributes, 4 last
/// offset delta. Older messages have one offset.
fn extent(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut end = 0;
    let mut next = None;
    while let Some(head) = bytes.get(end..end + 17) {
        let base = i64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
        let length = i32::from_be_bytes(head[8..12].try_into().expect("four bytes"));
        let whole = 12 + usize::try_from(length).ok()?;
        let Some(batch) = bytes.get(end..end + whole) else { break };
        let delta = match (head[16], batch.get(23..27)) {
            (2, Some(delta)) => i64::from(i32::from_be_bytes(delta.try_into().expect("four bytes"))),
            (2, None) => return None,
            _ => 0,
        };
        next = Some(base.checked_add(delta)?.checked_add(1)?);
        end += whole;
    }
    next.map(|next| (next, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: i64, last_delta: i32, body: usize) -> Vec<u8> {
        let mut out = base.to_be_bytes().to_vec();
        out.extend(i32::try_from(49 + body).unwrap().to_be_bytes());
        out.extend([0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        out.extend(last_delta.to_be_bytes());
        out.resize(61 + body, 0);
        out
    }

    #[test]
    fn the_extent_ends_with_the_last_whole_batch() {
        let mut set = batch(10, 4, 30);
        let first = set.len();
        assert_eq!(extent(&set), Some((15, first)));
        set.extend(batch(20, 0, 5));
        assert_eq!(extent(&set), Some((21, set.len())));
        set.pop();
        assert_eq!(extent(&set), Some((15, first)));
        assert_eq!(extent(&set[..20]), None);
        assert_eq!(extent(&[]), None);
        assert_eq!(extent(&[255; 100]), None);
    }
}
