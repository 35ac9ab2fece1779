//! Subscribers that cannot keep up with a partition: of each only an offset is kept, Kafka is its queue.
//!
//! They are served by a *sweep*: a second reader of the partition that starts at the lowest offset of those who have room, takes
//! along everybody whose offset it comes by, and ends where the feed at the tail is; whoever has come that far is at the
//! tail again. One whose mailbox is full once more is left where it is, and the sweep goes on with the others; it is taken along
//! again by the next, once it has room. So order in a partition is never broken, a position is one number, and a crowd that fell
//! behind together costs one pass over the log.
//!
//! Feed and sweep of a partition run in one task, one step after the other. That is why the return to the tail needs no lock:
//! nothing is handed out between the look at the feed's offset and the return.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::{
    aborted::Aborted,
    feed::LIMITS,
    hub::Subscriber,
    index::Index,
    mailbox::Mailbox,
    scribe::{Clock, Scribe},
};
use crate::{
    kafka::fetched::{self, Batch, Batches},
    upstream::{Chunk, Reader},
};

/// All of one partition that are behind.
pub struct Behind {
    /// By the id of the mailbox.
    members: FxHashMap<u64, Member>,
    /// Rung when the mailbox of one has room again.
    room: Arc<Notify>,
    sweep: Option<Sweep>,
}

struct Member {
    mailbox: Arc<Mailbox>,
    /// It has all that it wants below this offset, and nothing from it on.
    position: i64,
    /// Its mailbox did not take all.
    full: bool,
}

/// The pass over the log that is under way.
struct Sweep {
    reader: Reader,
    /// The fetch it is in, also when it is over: one that is left within it is often the next to be served.
    chunk: Option<Chunk>,
    /// Nothing of the fetch is left to hand out.
    is_over: bool,
    batches: Batches,
    aborted: Aborted,
    /// The next record to hand out.
    cursor: i64,
}

impl Behind {
    /// Nobody is. `room` is what mailboxes ring.
    pub fn new(room: Arc<Notify>) -> Self {
        Self {
            members: FxHashMap::default(),
            room,
            sweep: None,
        }
    }

    /// Whether a mailbox is behind: then the feed passes it over.
    pub fn holds(&self, subscriber: &Subscriber) -> bool {
        !self.members.is_empty() && self.members.contains_key(&subscriber.mailbox.id())
    }

    /// A mailbox has all that it wants below `position`, and did not take more.
    pub fn add(&mut self, mailbox: Arc<Mailbox>, position: i64) {
        let member = Member {
            position,
            full: true,
            mailbox,
        };
        self.members.insert(member.mailbox.id(), member);
    }

    /// The partition was made anew: everybody gets it from its beginning.
    pub fn restart(&mut self) {
        self.sweep = None;
        self.members.values_mut().for_each(|member| member.position = 0);
    }

    /// The log was cut off at `offset`: what it holds from there on is for everybody.
    pub fn cut_off(&mut self, offset: i64) {
        self.sweep = None;
        self.members
            .values_mut()
            .for_each(|member| member.position = member.position.min(offset));
    }

    /// Waits until [`step`](Self::step) has something to do, or somebody has gone. `open` reads the partition from an offset. Cancel-safe.
    pub async fn due(&mut self, open: impl Fn(i64) -> Reader) {
        loop {
            if self.look() {
                return;
            }
            let Some(place) = self.place() else {
                // Nobody has room. A mailbox rings also for one that has left; then this looks once more.
                self.room.notified().await;
                continue;
            };
            let sweep = match self.sweep.take() {
                Some(sweep) if sweep.cursor == place => sweep,
                former => Sweep::at(place, former, &open),
            };
            let sweep = self.sweep.insert(sweep);
            if !sweep.is_over {
                return;
            }
            match sweep.reader.next().await {
                Some(chunk) => self.take(chunk),
                // The topic is gone, which the feed hears as well.
                None => return std::future::pending().await,
            }
        }
    }

    /// The next fetch of the sweep.
    fn take(&mut self, chunk: Chunk) {
        let Some(sweep) = &mut self.sweep else { return };
        if chunk.reset {
            // Retention was faster: what lies before it is gone for everybody.
            tracing::error!(
                topic = &*chunk.topic,
                partition = chunk.partition,
                "records were deleted before they were read (retention)"
            );
            sweep.cursor = chunk.offset;
            for member in self.members.values_mut() {
                member.position = member.position.max(chunk.offset);
            }
        }
        sweep.begin(chunk);
    }

    /// Who has gone, and who has room again. True: somebody has gone.
    fn look(&mut self) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| !member.mailbox.is_closed());
        if self.members.is_empty() {
            self.sweep = None;
        }
        for member in self.members.values_mut().filter(|member| member.full) {
            member.full = !member.mailbox.has_room();
        }
        self.members.len() < before
    }

    /// Where the sweep goes on: where it is if somebody there or ahead has room, else to the lowest offset of those who have.
    fn place(&self) -> Option<i64> {
        let ready = || self.members.values().filter(|member| !member.full).map(|member| member.position);
        let cursor = self.sweep.as_ref().map_or(i64::MAX, |sweep| sweep.cursor);
        ready().filter(|position| *position >= cursor).min().or_else(|| ready().min())
    }

    /// Hands out one batch. `tail`: the offset of the feed; those who come to it are not behind any more.
    pub fn step(&mut self, scribe: &mut Scribe, index: &Index<Subscriber>, tail: i64) {
        let Some(sweep) = &mut self.sweep else { return };
        let cursor = sweep.cursor;
        let end = match sweep.next_batch(scribe) {
            Some(batch) => {
                let end = batch.last_offset.saturating_add(1);
                self.hand_out(&batch, scribe, index, cursor, tail);
                end
            }
            None => self.sweep.as_mut().map_or(cursor, Sweep::end_chunk),
        };
        self.advance(cursor, end.clamp(cursor, tail.max(cursor)), tail);
        if end > tail {
            // It was ahead of the feed: what it holds beyond belongs to nobody here, and it must not go on behind it.
            self.sweep = None;
        }
    }

    /// How many are behind.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    fn hand_out(&mut self, batch: &Batch, scribe: &mut Scribe, index: &Index<Subscriber>, cursor: i64, tail: i64) {
        let clock = Clock::now();
        for record in batch.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    scribe.unreadable(&error);
                    break;
                }
            };
            if record.offset < cursor || record.offset >= tail {
                continue;
            }
            let members = &self.members;
            scribe.record(&record, index, clock, |subscriber| {
                let member = members.get(&subscriber.mailbox.id());
                member.is_some_and(|m| !m.full && m.position >= cursor && m.position <= record.offset)
            });
            if scribe.is_full() {
                self.flush(scribe);
            }
        }
        self.flush(scribe);
    }

    fn flush(&mut self, scribe: &mut Scribe) {
        scribe.flush(|mailbox, from| {
            if let Some(member) = self.members.get_mut(&mailbox.id()) {
                (member.position, member.full) = (from, true);
            }
        });
    }

    /// Everybody between `cursor` and `end` whose mailbox took all is at `end` now.
    fn advance(&mut self, cursor: i64, end: i64, tail: i64) {
        for member in self.members.values_mut().filter(|member| !member.full) {
            if (cursor..end).contains(&member.position) {
                member.position = end;
            }
        }
        self.members.retain(|_, member| member.position < tail);
        if let Some(sweep) = &mut self.sweep {
            sweep.cursor = end;
        }
    }
}

impl Sweep {
    /// A sweep that begins at `place`, within the fetch of the former one if that holds it.
    fn at(place: i64, former: Option<Self>, open: impl Fn(i64) -> Reader) -> Self {
        if let Some(mut sweep) = former
            && let Some(chunk) = sweep.chunk.take_if(|chunk| (chunk.offset..chunk.next_offset).contains(&place))
        {
            sweep.cursor = place;
            sweep.begin(chunk);
            return sweep;
        }
        Self {
            reader: open(place),
            chunk: None,
            is_over: true,
            batches: fetched::batches(bytes::Bytes::new(), LIMITS),
            aborted: Aborted::new(Vec::new()),
            cursor: place,
        }
    }

    fn begin(&mut self, chunk: Chunk) {
        self.is_over = false;
        self.batches = fetched::batches(chunk.bytes.clone(), LIMITS);
        self.aborted = Aborted::new(chunk.aborted.clone());
        self.chunk = Some(chunk);
    }

    /// The next batch of the fetch that has something at or behind the cursor.
    fn next_batch(&mut self, scribe: &Scribe) -> Option<Batch> {
        loop {
            match self.batches.next()? {
                Ok(batch) if self.aborted.covers(&batch) || batch.last_offset < self.cursor => {}
                Ok(batch) => return Some(batch),
                Err(error) => scribe.unreadable(&error),
            }
        }
    }

    /// The fetch is over; the offset behind it.
    fn end_chunk(&mut self) -> i64 {
        self.is_over = true;
        self.chunk.as_ref().map_or(self.cursor, |chunk| chunk.next_offset)
    }
}
