//! Reading partitions: readers, and what they get.
//!
//! One fetcher per broker serves all readers of the partitions that it leads, or that their leaders want read from it (KIP-392). Its long
//! poll carries all of them, and names only what has changed (KIP-227). A reader that joins does not wait for the poll that is
//! out: another goes at once, on another lane (connection), and carries all again. What the older poll brings is taken only for
//! partitions whose position is still the one it was asked for.

mod epochs;
mod extent;
mod fetcher;
mod gap;
mod lane;
mod position;
mod session;
mod slot;

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{cluster::Core, topics::Partition};
pub(crate) use fetcher::run;
pub(crate) use gap::find as gap;
use slot::Slot;

/// Chunks that wait for a reader; a partition whose reader has that many is left out of the polls.
const MOST_CHUNKS: usize = 2;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind the last record there is when the broker is asked. If the position is lost later: the end again.
    Tail,
    /// At this offset. If it is gone: the earliest there is; if it is beyond the end: the end.
    Offset(i64),
    /// At the first record whose timestamp is this (milliseconds since 1970) or later; at the end if there is none. If the position is
    /// lost later: as with an offset.
    Timestamp(i64),
}

/// What one fetch brought for a partition.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: i32,
    /// Whole record batches, as stored. The first may begin below [`offset`](Self::offset): records below it were not asked for. Empty if the
    /// chunk only tells that the position was lost.
    pub bytes: Bytes,
    /// The offset that was asked for.
    pub offset: i64,
    /// The offset behind the last record in `bytes`: where the next chunk begins.
    pub next_offset: i64,
    /// The offset behind the last record that all in-sync replicas have; -1 if not told.
    pub high_watermark: i64,
    /// The offset below which no transaction is open; -1 if not told.
    pub last_stable_offset: i64,
    /// Aborted transactions that touch `bytes`, as (producer id, first offset); only with `read_committed`.
    pub aborted: Vec<(i64, i64)>,
    /// The position was lost, and what comes next begins at [`offset`](Self::offset); there are no records in this chunk. If that lies behind
    /// the last chunk, records in between are gone. If it lies before: the log was cut off there (an unclean leader election), and what
    /// it holds from there on is not what was read.
    pub reset: bool,
}

/// Reads one partition. Dropping it leaves the partition.
#[derive(Debug)]
pub struct Reader {
    chunks: mpsc::Receiver<Chunk>,
    bell: Arc<Bell>,
}

/// How a reader tells its fetcher that there is room, or that it has gone.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// The fetcher left the reader out for want of room.
    starved: AtomicBool,
    /// Each chunk is asked for.
    one_by_one: bool,
    /// The next was.
    asked: AtomicBool,
    /// The fetcher that has the reader: not always the leader's (KIP-392).
    fetcher: Mutex<Option<mpsc::UnboundedSender<Command>>>,
}

impl Bell {
    /// The reader has come to this fetcher.
    fn hang(&self, fetcher: mpsc::UnboundedSender<Command>) {
        *self.fetcher.lock().expect("no code that holds this lock panics") = Some(fetcher);
    }

    /// Whether the reader has asked for what comes next, or takes it as it comes.
    fn is_asked(&self) -> bool {
        !self.one_by_one || self.asked.load(SeqCst)
    }

    fn ring(&self) {
        let fetcher = self.fetcher.lock().expect("no code that holds this lock panics").clone();
        // One that is still on its way to a fetcher is looked at when it comes.
        fetcher.map(|fetcher| fetcher.send(Command::Look));
    }
}

impl Reader {
    /// The next chunk; waits for ever if nothing is written. `None` after the client was shut down, or if the topic was deleted and made
    /// anew: then look it up again. Cancel-safe.
    pub async fn next(&mut self) -> Option<Chunk> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// A chunk that has come already, if there is one.
    pub fn try_next(&mut self) -> Option<Chunk> {
        self.chunks.try_recv().ok()
    }

    /// As [`next`](Self::next), for who waits for several.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let chunk = self.poll_asked(context);
        if chunk.is_pending() && self.bell.one_by_one && !self.bell.asked.swap(true, SeqCst) {
            self.bell.ring();
        }
        chunk
    }

    /// What was asked for already, if this is one that asks for each chunk.
    pub fn poll_asked(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let chunk = self.chunks.poll_recv(context);
        if chunk.is_ready() {
            self.look();
        }
        chunk
    }

    /// If the fetcher left us out for want of room, tell it that there is some.
    fn look(&self) {
        if self.bell.starved.swap(false, SeqCst) {
            self.bell.ring();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.chunks.close();
        self.bell.ring();
    }
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
        let broker = slot.home();
        match broker {
            Some(broker) => drop(broker.fetcher.send(Command::Join(slot))),
            // Dropping the slot ends its reader.
            None if orphans.closed || slot.partition.is_gone() || slot.is_left() => {}
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

/// Whose memory the bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// A piece of the answer: whoever keeps one of its pieces keeps all of it.
    Answer,
    /// A buffer of the chunk's own.
    Copy,
    /// The same, and the next is asked for only when the reader is polled for it.
    OneCopy,
}

/// Starts reading.
pub(crate) fn read(core: &Core, partition: Option<&Arc<Partition>>, start: Start, keeping: Keeping) -> Reader {
    let (sender, chunks) = mpsc::channel(MOST_CHUNKS);
    let one_by_one = keeping == Keeping::OneCopy;
    let bell = Arc::new(Bell {
        one_by_one,
        ..Bell::default()
    });
    if let Some(partition) = partition {
        let slot = Slot::new(Arc::clone(partition), (start, keeping), sender, Arc::clone(&bell));
        core.orphans.adopt(Box::new(slot));
    }
    Reader { chunks, bell }
}
