//! Shared subscriptions (§4.8.2 of version 5): the subscribers of this instance to one share name and filter are one member of a consumer
//! group, whose partitions are shared out among the instances, or of a share group, which gives out messages one by one.
//!
//! `state` knows which message is with whom, `task` is the membership in a consumer group, `reading` makes messages of the records of one partition, `room` is
//! the memory for that, `grace` how long what is to go waits for its messages; `locking` is the membership in a share group, `acquired` makes messages of what that gives out. `seats` is how
//! connections come and go, `parts` how many seats one may have.
//!
//! A shared subscription reads for itself, beside the feeds: where it is in the log depends on what was acknowledged, not on the tail.

mod acquired;
mod grace;
mod lent;
mod locking;
mod messages;
mod parts;
mod reading;
mod room;
mod seats;
mod state;
mod task;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{chunk::Chunk, hub::Hub, mailbox::Mailbox};
use crate::{
    mqtt::{QoS, ReasonCode},
    session::SubscriptionKey,
};
pub use lent::Lent;
use parts::Parts;
pub use seats::{SharedSeat, SharedWish};
pub use state::HandoutId;
use state::{MemberId, State};

/// Shared subscriptions that this instance may take part in: each costs two connections to Kafka, and a device may invent names.
const MOST_SHARES: usize = 256;
/// Why the next one is refused.
const TOO_MANY: &str = "too_many_shared_subscriptions";
/// Why one more of the same connection is.
const TOO_MANY_OF_ONE: &str = "too_many_shared_subscriptions_of_client";

/// Why a shared subscription is: the coordinator of its group does not take this instance, as when the group is full (`group.max.size`).
const REFUSED: &str = "group_refused";

/// What a client is told for a label of the metrics that [`Shares::join`] or [`SharedSeat::ready`] refuses with.
pub fn reason(why: &str) -> ReasonCode {
    match why {
        TOO_MANY | TOO_MANY_OF_ONE => ReasonCode::QuotaExceeded,
        locking::NOT_SUPPORTED => ReasonCode::SharedSubscriptionsNotSupported,
        _ => ReasonCode::ImplementationSpecificError,
    }
}

/// What Kafka has for shared subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedKind {
    /// Each partition is with one instance at a time, and messages are redelivered in order.
    #[default]
    ConsumerGroup,
    /// Share groups (KIP-932): any instance gets messages of any partition.
    ShareGroup,
}

/// Which shared subscription: share name and filter.
type Name = (Box<str>, Box<str>);

/// All shared subscriptions that have subscribers here.
pub struct Shares {
    hub: Arc<Hub>,
    /// In front of the names of the groups.
    prefix: Box<str>,
    kind: SharedKind,
    live: Mutex<HashMap<Name, Arc<Share>>>,
    parts: Arc<Parts>,
    /// Memberships that have not ended.
    running: watch::Sender<usize>,
    /// The proxy is about to end: when connections were asked to.
    draining: watch::Sender<Option<Instant>>,
    /// They have ended.
    ending: AtomicBool,
}

/// One shared subscription, as the connections see it.
#[derive(Debug)]
pub struct Share {
    name: Name,
    inner: Mutex<Inner>,
    /// Rung when there may be something for the task to do.
    wake: Arc<Notify>,
    ready: watch::Sender<Readiness>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State<Message>,
    boxes: FxHashMap<MemberId, (Arc<Mailbox>, SubscriptionKey)>,
    /// Its task is about to end: nobody may join any more.
    ended: bool,
}

/// Whether a SUBSCRIBE may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// It is not known yet where its topics end.
    Looking,
    /// That is known, and stands: the group has not taken this instance yet. It waits for members that died, or that still have messages lent.
    Joining,
    /// What is stored from now on is delivered.
    Ready,
    /// It is refused, and why.
    Refused(&'static str),
}

impl Readiness {
    /// Whether those who subscribe have no answer yet.
    fn is_open(self) -> bool {
        matches!(self, Self::Looking | Self::Joining)
    }
}

/// A message of a chunk.
#[derive(Clone, Debug)]
struct Message {
    chunk: Arc<Chunk>,
    at: usize,
}

/// A message that was handed to a connection.
#[derive(Debug)]
pub struct Handed {
    /// By whom.
    pub share: Arc<Share>,
    /// To tell what became of it.
    pub id: HandoutId,
    /// The subscription it is for.
    pub key: SubscriptionKey,
    /// The chunk that holds it.
    pub chunk: Arc<Chunk>,
    /// Its place there.
    pub at: usize,
}

impl Shares {
    /// None yet.
    pub fn new(hub: Arc<Hub>, prefix: &str, kind: SharedKind) -> Arc<Self> {
        Arc::new(Self {
            hub,
            prefix: prefix.into(),
            kind,
            live: Mutex::default(),
            parts: Arc::default(),
            running: watch::Sender::new(0),
            draining: watch::Sender::new(None),
            ending: AtomicBool::new(false),
        })
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Name, Arc<Share>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody who is about to leave waits for what `state` has lent.
    fn awaits(&self, state: &State<Message>) -> bool {
        state.lends() && !self.ending.load(Relaxed)
    }

    /// The proxy is about to end: nobody waits for long any more.
    pub fn drain(&self) {
        self.draining.send_replace(Some(Instant::now()));
    }

    /// Waits until this instance is no member of any group. Connections must have ended before, and what sessions have is written, or never
    /// will be.
    pub async fn all_left(&self) {
        self.ending.store(true, Relaxed);
        self.live().values().for_each(|share| share.wake.notify_one());
        let mut running = self.running.subscribe();
        // The sender lives as long as this.
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

impl Share {
    fn new(name: Name) -> Arc<Self> {
        Arc::new(Self {
            name,
            inner: Mutex::default(),
            wake: Arc::default(),
            ready: watch::Sender::new(Readiness::Looking),
        })
    }

    /// Short sections, each of which leaves it consistent.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what can be; how many messages.
    fn hand_out(self: &Arc<Self>) -> usize {
        let mut count = 0;
        loop {
            let mut inner = self.lock();
            let Some((member, id, message)) = inner.state.hand_out() else {
                return count;
            };
            let to: Option<(Arc<Mailbox>, _)> = inner.boxes.get(&member).cloned();
            drop(inner);
            count += 1;
            // One that has just left gives back what it did not get.
            let Some((mailbox, key)) = to else { continue };
            mailbox.hand(Handed {
                share: self.clone(),
                id,
                key,
                chunk: message.chunk,
                at: message.at,
            });
        }
    }

    /// Has a message sent, if that is still this instance's business: `send` is called at most once, and says what became of it. The
    /// partition cannot be given up in between.
    pub fn send<T>(&self, id: HandoutId, send: impl FnOnce() -> (T, Fate)) -> Option<T> {
        let mut inner = self.lock();
        if !inner.state.may_send(id) {
            return None;
        }
        let (result, fate) = send();
        match fate {
            Fate::Sent(qos) => inner.state.sent(id, qos),
            Fate::Lent => inner.state.lend(id),
            Fate::LeftOut => inner.state.done(id),
            Fate::GivenBack => drop(inner.state.give_back(id)),
            Fate::Waits => {}
        }
        drop(inner);
        // Only then there is more to hand out, or more room.
        if matches!(
            fate,
            Fate::Sent(QoS::AtMostOnce | QoS::ExactlyOnce) | Fate::LeftOut | Fate::GivenBack
        ) {
            self.wake.notify_one();
        }
        Some(result)
    }

    /// The client has acknowledged it, or refused it for good.
    pub fn done(&self, id: HandoutId) {
        self.lock().state.done(id);
        self.wake.notify_one();
    }

    /// The connection has ended before it was acknowledged. How many others will get, although they may have been received.
    pub fn give_back(&self, ids: impl IntoIterator<Item = HandoutId>) -> u64 {
        let mut inner = self.lock();
        let again = ids.into_iter().filter(|id| inner.state.give_back(*id)).count();
        drop(inner);
        self.wake.notify_one();
        again as u64
    }
}

/// What became of a message that a connection was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was sent with this QoS.
    Sent(QoS),
    /// A stored session is to have it: [`Lent`].
    Lent,
    /// It is not sent to anybody.
    LeftOut,
    /// Another gets it.
    GivenBack,
    /// It is tried again later.
    Waits,
}

#[cfg(test)]
mod tests;
