//! What other tasks may hand to a connection: messages of feeds, the answers of its SUBSCRIBEs, letters of the store, and word that it
//! must end.
//!
//! A mailbox is bounded in bytes, its own and those of the chunks it pins. What does not fit at QoS 0 is left out and counted [MQTT-4.3.1-1 allows
//! it]; at QoS 1 and 2 nothing may be left out: whoever delivers is told, keeps the offset, and is rung when there is room again.

mod ending;
mod following;
mod rest;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::{
    budget::Budget,
    chunk::Chunk,
    retained::{Late, Starts},
    share::Handed,
    store::Letter,
    subscribing::Subscribed,
};
use crate::{mqtt::QoS, session::SubscriptionKey};
pub use ending::Ending;

/// Bytes that may wait in a mailbox, and twice as many of chunks that it pins: a chunk stays whole, also for one message of it. In
/// bytes, not in chunks, since records that come one by one make a small chunk each.
#[derive(Clone, Copy)]
struct Bound(usize);

/// At QoS 0, where what does not fit is lost: a burst fits.
const LOSSY: usize = 8 * 1024 * 1024;
/// At QoS 1 and 2, where Kafka is the queue and this only bridges the way to it.
const LOSSLESS: usize = 256 * 1024;
/// Retained messages that came late and are kept by name. Those beyond cost one entry for each subscription.
const MOST_LATE: usize = 64;
/// With all memory in use: a few messages, so that the next are there when these are taken.
const LEAST: usize = 16 * 1024;

/// Which subscriptions of a session a message matched. One is the rule and costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The usual case.
    One([SubscriptionKey; 1]),
    /// Overlapping subscriptions.
    Many(Vec<SubscriptionKey>),
}

impl Keys {
    /// All of them, at least one.
    pub fn as_slice(&self) -> &[SubscriptionKey] {
        match self {
            Keys::One(one) => one,
            Keys::Many(many) => many,
        }
    }

    /// Adds a further match.
    pub fn push(&mut self, key: SubscriptionKey) {
        match self {
            Keys::One([first]) => *self = Keys::Many(vec![*first, key]),
            Keys::Many(many) => many.push(key),
        }
    }
}

/// One message for one session.
#[derive(Debug)]
pub struct Item {
    /// Index in the chunk.
    pub message: usize,
    /// The subscriptions that want it.
    pub keys: Keys,
    /// Highest QoS that any of them was granted.
    pub granted: QoS,
}

/// What one session gets of one chunk.
#[derive(Debug)]
pub struct Parcel {
    /// The shared messages.
    pub chunk: Arc<Chunk>,
    /// In the order of the log.
    pub items: VecDeque<Item>,
    /// Bytes it is charged with.
    weight: usize,
}

/// What became of a delivery.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It lies in the mailbox, or nobody looks into that any more.
    Taken,
    /// QoS 0 messages that did not fit were left out; their rules.
    LeftOut(Vec<usize>),
    /// From this offset on nothing was taken, since it may not be left out; before it QoS 0 messages may have been.
    Full {
        /// Rules of those.
        left_out: Vec<usize>,
        /// An offset of the chunk.
        from: i64,
    },
}

#[derive(Debug, Default)]
struct Inner {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    pinned: usize,
    subscribed: Vec<Subscribed>,
    /// Each answers something, so there are no more than that and the last.
    store: Vec<Letter>,
    /// Messages of shared subscriptions; no more than their members may hold.
    handed: VecDeque<Handed>,
    /// Retained messages that were read after their subscriptions' SUBACK.
    late: Vec<Late>,
    /// Rung once there is room again.
    wanting_room: Vec<Arc<Notify>>,
    /// Rung at the end.
    followers: Vec<Arc<Notify>>,
    /// Whose end its connection waits for.
    former: Option<Arc<Mailbox>>,
    /// Somebody was told that there is room. The share of the budget may have become smaller since, also by what is to be delivered
    /// now: were that refused, it would be tried again and again.
    invited: bool,
    /// Its connection had settled all that it had taken out, and has taken nothing since.
    at_rest: bool,
    /// Nobody looks into it any more.
    closed: bool,
    ending: Option<Ending>,
}

impl Inner {
    fn fits(&self, Bound(bound): Bound, weight: usize, pins: usize) -> bool {
        self.bytes + weight <= bound && self.pinned + pins <= 2 * bound
    }

    /// Who is told that there is room finds some, however large its delivery: that is one chunk at most.
    fn has_room(&self, Bound(bound): Bound) -> bool {
        self.bytes <= bound / 2 && self.pinned <= bound
    }

    fn ring(&mut self) {
        self.wanting_room.drain(..).for_each(|room| room.notify_one());
    }
}

/// The mailbox of one connection.
#[derive(Debug)]
pub struct Mailbox {
    id: u64,
    inner: Mutex<Inner>,
    wake: Arc<Notify>,
    budget: Arc<Budget>,
    /// Partitions in which it is behind.
    behind: AtomicUsize,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Mailbox {
    /// An empty mailbox that wakes its connection by `wake`, and may hold its share of a budget.
    pub fn new(wake: Arc<Notify>, budget: Arc<Budget>) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            inner: Mutex::default(),
            wake,
            budget,
            behind: AtomicUsize::new(0),
        }
    }

    fn bound(&self, most: usize) -> Bound {
        Bound(self.budget.share(LEAST, most))
    }

    /// Tells mailboxes apart; never used twice.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of another task inside these short sections leaves the queue consistent: each changes it in one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what a session gets of a chunk. If that is full, `room` is rung when it is not any more.
    pub fn deliver(&self, chunk: &Arc<Chunk>, items: VecDeque<Item>, room: &Arc<Notify>) -> Delivered {
        let weight: usize = items.iter().map(|i| chunk.messages[i.message].weight()).sum();
        let granted = |item: &Item| item.granted.min(chunk.messages[item.message].qos);
        let first_kept = items.iter().position(|item| granted(item) != QoS::AtMostOnce);
        let lossless = self.bound(LOSSLESS);
        let mut inner = self.lock();
        if inner.closed {
            return Delivered::Taken;
        }
        let fits = match first_kept {
            Some(_) => inner.invited || inner.has_room(lossless) || inner.fits(lossless, weight, chunk.pins()),
            None => inner.bytes == 0 || inner.fits(self.bound(LOSSY), weight, chunk.pins()),
        };
        if !fits {
            let lost = items.iter().take(first_kept.unwrap_or(items.len()));
            let left_out = lost.map(|item| chunk.messages[item.message].rule).collect();
            let Some(first) = first_kept else {
                return Delivered::LeftOut(left_out);
            };
            inner.wanting_room.push(room.clone());
            let from = chunk.messages[items[first].message].offset;
            return Delivered::Full { left_out, from };
        }
        inner.invited &= first_kept.is_none();
        inner.bytes += weight;
        inner.pinned += chunk.pins();
        inner.parcels.push_back(Parcel {
            chunk: chunk.clone(),
            items,
            weight,
        });
        drop(inner);
        self.wake.notify_one();
        Delivered::Taken
    }

    /// Whether it takes messages of QoS 1 and 2 again: half of what it may hold is free, so that not each message is a delivery.
    pub fn has_room(&self) -> bool {
        let mut inner = self.lock();
        inner.invited |= inner.has_room(self.bound(LOSSLESS));
        inner.invited
    }

    /// It is behind in one partition more. Told before anybody is told that the feed has gone on.
    pub fn falls_behind(&self) {
        self.behind.fetch_add(1, Ordering::SeqCst);
    }

    /// In one less: all that lies before the tail there was delivered.
    pub fn caught_up(&self) {
        self.behind.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether all that was handed out to it has been taken out.
    pub fn is_clear(&self) -> bool {
        self.behind.load(Ordering::SeqCst) == 0 && self.lock().parcels.is_empty()
    }

    /// Whether nobody looks into it any more.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The oldest parcel. It stays charged until `settle`.
    pub fn take(&self) -> Option<Parcel> {
        let mut inner = self.lock();
        inner.at_rest &= inner.parcels.is_empty();
        inner.parcels.pop_front()
    }

    /// Gives back what a parcel was charged with, once its messages are in the session's hands.
    pub fn settle(&self, parcel: &Parcel) {
        let mut inner = self.lock();
        inner.bytes -= parcel.weight;
        inner.pinned -= parcel.chunk.pins();
        if inner.has_room(self.bound(LOSSLESS)) {
            inner.ring();
        }
    }

    /// The answer of a SUBSCRIBE.
    ///
    /// Its seats hold this mailbox by the index they sit in: left in a mailbox that nobody looks into they would keep each
    /// other, and their topic would be read for ever. So a closed mailbox gives them back at once, outside of its lock,
    /// since a seat that is given back locks the index.
    pub fn subscribed(&self, answer: Subscribed) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.subscribed.push(answer);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// A message of a shared subscription. Who hands it out takes it back when the subscriber leaves, so a closed mailbox drops it.
    pub fn hand(&self, handed: Handed) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.handed.push_back(handed);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// The oldest message of a shared subscription.
    pub fn take_handed(&self) -> Option<Handed> {
        self.lock().handed.pop_front()
    }

    /// A retained message that a subscription would miss. Names of topics are kept for a bounded number; of more, only from which version on.
    pub fn late(&self, key: SubscriptionKey, topic: &str, version: u64, starts: &Arc<Starts>) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        let whole = inner.late.len() >= MOST_LATE;
        match inner.late.iter().position(|late| whole && late.key == key) {
            Some(first) => {
                let mut wide = inner.late.swap_remove(first);
                // It covers the others of that subscription, which would come twice.
                for other in inner.late.extract_if(.., |late| late.key == key) {
                    wide.versions.0 = wide.versions.0.min(other.versions.0);
                }
                (wide.topic, wide.versions.1) = (None, version);
                inner.late.push(wide);
            }
            None => inner.late.push(Late {
                key,
                topic: (!whole).then(|| topic.into()),
                versions: (version - 1, version),
                starts: starts.clone(),
            }),
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Wakes the connection.
    pub fn ring(&self) {
        self.wake.notify_one();
    }

    /// Its connection is gone: gives back what lies in it, and whatever comes later.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.ring();
        inner.followers.drain(..).for_each(|follower| follower.notify_one());
        let left = (
            std::mem::take(&mut inner.subscribed),
            std::mem::take(&mut inner.store),
            std::mem::take(&mut inner.parcels),
            std::mem::take(&mut inner.handed),
            std::mem::take(&mut inner.late),
        );
        drop(inner);
        drop(left);
    }

    /// A letter of the store.
    pub fn store(&self, letter: Letter) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.store.push(letter);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// What waits beside messages: the answers of SUBSCRIBEs, letters of the store, and whether to end.
    pub fn letters(&self) -> (Vec<Subscribed>, Vec<Letter>, Option<Ending>) {
        let mut inner = self.lock();
        (
            std::mem::take(&mut inner.subscribed),
            std::mem::take(&mut inner.store),
            inner.ending,
        )
    }

    /// The retained messages that came late.
    pub fn take_late(&self) -> Vec<Late> {
        std::mem::take(&mut self.lock().late)
    }
}
