//! Subscribers that cannot keep up with a partition: of each only an offset is kept, Kafka is its queue.
//!
//! They are served by *sweeps*: further readers of the partition, a few at different places. A sweep goes on as long as somebody at its
//! place has room, takes along everybody whose offset it comes by, and ends where the feed at the tail is; whoever has come that
//! far is at the tail again. One whose mailbox is full once more is left where it is, and taken along again by the next sweep that
//! comes by, once it has room. So order in a partition is never broken, a position is one number, and a crowd that fell behind
//! together costs about one pass over the log.
//!
//! Feed and sweeps of a partition run in one task, one step after the other. That is why the return to the tail needs no lock:
//! nothing is handed out between the look at the feed's offset and the return.

mod doubt;
mod larger;
mod place;
mod step;

use std::{
    future::{pending, poll_fn},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};

use doubt::{Doubt, Question};

use super::{
    chunk::SourceId,
    hub::Subscriber,
    mailbox::Mailbox,
    patience::Patience,
    permits::{Permit, Wait},
    sweep::Sweep,
    sweep_cache::SweepCache,
};
use crate::upstream::{Chunk, Reader};

/// How long sweeps rest until the feed has heard, too, that the log was cut off.
const UNHEARD: Duration = Duration::from_secs(5);

/// All of one partition that are behind.
pub struct Behind {
    /// By the id of the mailbox.
    members: FxHashMap<u64, Member>,
    /// Rung when the mailbox of one has room again.
    room: Arc<Notify>,
    sweeps: Vec<Sweep>,
    /// The sweep whose turn it is.
    turn: usize,
    source: SourceId,
    cache: Arc<SweepCache>,
    /// The place in line for a permit; kept while the feed does other things.
    waiting: Option<Wait>,
    permit: Option<Permit>,
    /// The same for a sweep that had to be given up, since what it came to needs more; and where that was.
    larger: Option<(i64, Wait)>,
    wanted: watch::Receiver<usize>,
    patience: Patience,
    /// That there is something to read at a place where a sweep waits.
    doubt: Option<Doubt>,
    /// From where to where records were deleted, until it is told.
    deleted: Option<(i64, i64)>,
    /// From where to where there is nothing, until [`step`](Self::step).
    gap: Option<(i64, i64)>,
    /// Somebody here has room and waits until the slice of a sweep is over.
    has_waiting: bool,
    /// Where a sweep heard that the log was cut off, and until when the feed may hear of it, too.
    cut: Option<(i64, Instant)>,
}

struct Member {
    mailbox: Arc<Mailbox>,
    /// It has all that it wants below this offset, and nothing from it on.
    position: i64,
    /// Its mailbox did not take all.
    full: bool,
}

impl Member {
    /// Whether it is behind a feed at `tail`; if not, its mailbox hears of it.
    fn stays_behind(&self, tail: i64) -> bool {
        let stays = self.position < tail;
        if !stays {
            self.mailbox.caught_up();
        }
        stays
    }
}

/// What ends the waiting.
enum Event {
    Fetched(usize, Option<Chunk>),
    Room,
    Permit(Permit),
    Larger(Permit),
    /// Where a gap ends, if there is one.
    Settled(Option<i64>),
    SliceOver,
}

impl Behind {
    /// Nobody is. `room` is what mailboxes ring.
    pub fn new(room: Arc<Notify>, source: SourceId, cache: Arc<SweepCache>) -> Self {
        Self {
            members: FxHashMap::default(),
            room,
            sweeps: Vec::new(),
            turn: 0,
            source,
            wanted: cache.permits().wanted(),
            patience: cache.patience(),
            cache,
            waiting: None,
            permit: None,
            larger: None,
            doubt: None,
            deleted: None,
            gap: None,
            has_waiting: false,
            cut: None,
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
        member.mailbox.falls_behind();
        self.insert(member);
    }

    /// A mailbox that is empty, and counts as behind already, has all that it wants below `position`.
    pub fn join(&mut self, mailbox: Arc<Mailbox>, position: i64) {
        let full = false;
        let member = Member { mailbox, position, full };
        self.insert(member);
    }

    fn insert(&mut self, member: Member) {
        if let Some(former) = self.members.insert(member.mailbox.id(), member) {
            former.mailbox.caught_up();
        }
    }

    /// How many are behind.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The log is another, or was cut off at `offset`: what it holds from there on is for everybody. `source` is what it is called now.
    pub fn cut_off(&mut self, offset: i64, source: SourceId) {
        self.stop();
        self.source = source;
        // The feed goes on at `offset`: whoever has all below it is at the tail.
        self.members.retain(|_, member| member.stays_behind(offset));
    }

    /// Gives back all permits, and the place in line for one. Whoever is behind is served again by [`due`](Self::due).
    fn stop(&mut self) {
        self.sweeps.clear();
        (self.permit, self.waiting) = (None, None);
        (self.cut, self.larger, self.doubt, self.gap) = (None, None, None, None);
        self.cache.forget(self.source);
    }

    /// Where the log was cut off, if a sweep has heard of it and the feed has not, although it had time.
    pub fn cut(&self) -> Option<i64> {
        self.cut.filter(|(_, until)| Instant::now() >= *until).map(|(offset, _)| offset)
    }

    /// Waits until [`step`](Self::step) has something to do, or somebody has gone. `open` reads the partition from an offset, `ask` asks for
    /// the end of a gap that begins at one. Cancel-safe.
    pub async fn due(&mut self, open: impl Fn(i64) -> Reader, ask: impl Fn(i64) -> Question) {
        loop {
            if self.look() || self.gap.is_some() {
                return;
            }
            if let Some((_, until)) = self.cut {
                return sleep_until(until.into()).await;
            }
            self.queue_up().await;
            self.place();
            self.fetch(&open);
            if self.next_turn() {
                return;
            }
            self.doubt();
            match self.event(&ask).await {
                Event::Fetched(at, Some(chunk)) => self.take(at, chunk),
                // The topic is gone, which the feed hears as well.
                Event::Fetched(_, None) => pending().await,
                Event::Permit(permit) => (self.permit, self.waiting) = (Some(permit), None),
                Event::Larger(permit) => self.go_on(permit),
                Event::Settled(end) if self.settle(end) => return,
                Event::Settled(_) => {}
                // Nobody had room, or one has left. Or a sweep has to give its place, or its permit, to who waits for it.
                Event::Room | Event::SliceOver => {}
            }
        }
    }

    async fn event(&mut self, ask: impl Fn(i64) -> Question) -> Event {
        let Self {
            sweeps,
            room,
            waiting,
            larger,
            wanted,
            has_waiting,
            doubt,
            ..
        } = self;
        let slice_over = sweeps.iter().map(Sweep::leaves_at).min();
        let fetched = poll_fn(|context| {
            for (at, sweep) in sweeps.iter_mut().enumerate().filter(|(_, sweep)| sweep.wants_fetch()) {
                if let Poll::Ready(chunk) = sweep.poll_fetch(context) {
                    return Poll::Ready((at, chunk));
                }
            }
            Poll::Pending
        });
        let granted = async {
            match waiting {
                Some(permit) => permit.await,
                None => pending().await,
            }
        };
        let larger = async {
            match larger {
                Some((_, permit)) => permit.await,
                None => pending().await,
            }
        };
        let slice_over = async {
            let Some(slice_over) = slice_over else { return pending().await };
            if !*has_waiting && wanted.wait_for(|others| *others > 0).await.is_err() {
                return pending().await;
            }
            sleep_until(slice_over.into()).await;
        };
        tokio::select! {
            (at, chunk) = fetched => Event::Fetched(at, chunk),
            permit = granted => Event::Permit(permit),
            permit = larger => Event::Larger(permit),
            () = room.notified() => Event::Room,
            end = Doubt::answer(doubt, ask) => Event::Settled(end),
            () = slice_over => Event::SliceOver,
        }
    }

    /// The next fetch of a sweep.
    fn take(&mut self, at: usize, chunk: Chunk) {
        let cursor = self.sweeps[at].cursor;
        self.doubt.take_if(|doubt| doubt.position == cursor);
        if chunk.reset && chunk.offset < cursor {
            // The log was cut off, and the feed must hear of it first: it has read more and knows better where. Were those who are
            // behind served from here on at once, up to the place of a feed that has not heard yet, they would get it again from the feed.
            self.stop();
            self.cut = Some((chunk.offset, Instant::now() + UNHEARD));
            return;
        }
        if chunk.reset {
            // Retention was faster: what lies before it is gone for everybody.
            let from = self.deleted.map_or(cursor, |(from, _)| from.min(cursor));
            self.deleted = Some((from, chunk.offset));
            for member in self.members.values_mut() {
                member.position = member.position.max(chunk.offset);
            }
        }
        self.cache.keep(self.source, chunk.clone());
        let sweep = &mut self.sweeps[at];
        sweep.cursor = chunk.offset;
        sweep.begin(chunk);
    }

    /// Who has gone, and who has room again. True: somebody has gone.
    fn look(&mut self) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| !member.mailbox.is_closed());
        for member in self.members.values_mut().filter(|member| member.full) {
            member.full = !member.mailbox.has_room();
        }
        if self.members.is_empty() {
            self.sweeps.clear();
            (self.cut, self.doubt, self.gap) = (None, None, None);
            (self.permit, self.waiting, self.larger) = (None, None, None);
        }
        self.members.len() < before
    }

    /// Gives the sweeps that need one their next fetch: one that was read lately, else from the log.
    fn fetch(&mut self, open: impl Fn(i64) -> Reader) {
        for sweep in self.sweeps.iter_mut().filter(|sweep| sweep.wants_fetch() && !sweep.reads()) {
            let kept = self.cache.find(self.source, sweep.cursor).filter(|_| !sweep.wants_fresh());
            match kept {
                Some(chunk) => sweep.begin(chunk),
                None => sweep.read(&open),
            }
        }
    }

    /// Whose turn it is to hand out.
    fn next_turn(&mut self) -> bool {
        let count = self.sweeps.len();
        let next = (1..=count).map(|step| (self.turn + step) % count);
        let can = |at: &usize| self.sweeps[*at].is_active && !self.sweeps[*at].is_over;
        let Some(next) = next.into_iter().find(can) else { return false };
        self.turn = next;
        true
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.members.values().for_each(|member| member.mailbox.caught_up());
        self.cache.forget(self.source);
    }
}
