//! How connections come to a shared subscription and leave it.

use std::sync::Arc;

use aws_lc_rs::digest;
use tokio::time::{Instant, timeout_at};

use super::{Inner, MOST_SHARES, REFUSED, Readiness, Share, Shares, TOO_MANY, TOO_MANY_OF_ONE, parts::Part, state::MemberId, task};
use crate::{
    mapping::Source,
    mqtt::topic::SharedFilter,
    relay::{mailbox::Mailbox, placing::UNAVAILABLE},
    session::SubscriptionKey,
};

/// Messages that one subscriber may hold, however many its client takes at a time: what it holds the others do not get.
const MOST_HELD: usize = 128;

/// Who wants to take part.
#[derive(Debug)]
pub struct SharedWish<'a> {
    /// In what.
    pub filter: SharedFilter<'a>,
    /// What must be read for it; not empty.
    pub sources: &'a [Source],
    /// Where its messages go.
    pub mailbox: &'a Arc<Mailbox>,
    /// Which subscription of that session it is.
    pub key: SubscriptionKey,
    /// Unacknowledged messages that its client takes.
    pub receive_maximum: usize,
}

/// The place of one subscription; dropping it leaves. What was sent to it stays its own until [`Share::done`] or [`Share::give_back`].
#[derive(Debug)]
pub struct SharedSeat {
    share: Arc<Share>,
    member: MemberId,
    _part: Part,
}

impl Shares {
    /// What must be read for a filter; nothing if no rule maps it.
    pub fn sources(&self, filter: &str) -> Vec<Source> {
        self.hub.rules.sources(filter).unwrap_or_default()
    }

    /// Takes a seat; it counts once it is [`ready`](SharedSeat::ready). Who wants several takes all of them first: Kafka keeps the first
    /// member of a group waiting (`group.initial.rebalance.delay.ms`, three seconds by default), and so they wait together.
    ///
    /// # Errors
    /// Why not: a label of the metrics.
    pub fn join(self: &Arc<Self>, wish: &SharedWish<'_>, until: Instant) -> Result<SharedSeat, &'static str> {
        let part = self.parts.take(wish.mailbox.id()).ok_or(TOO_MANY_OF_ONE)?;
        let name = (wish.filter.name.into(), wish.filter.filter.into());
        let mut live = self.live();
        let share = match live.get(&name) {
            Some(share) => share.clone(),
            None if live.len() >= MOST_SHARES => return Err(TOO_MANY),
            None => {
                let share = Share::new(name.clone());
                live.insert(name, share.clone());
                task::begin(self.clone(), share.clone(), wish.sources, until);
                share
            }
        };
        let mut inner = share.lock();
        let member = inner.state.join(wish.receive_maximum.clamp(1, MOST_HELD));
        inner.boxes.insert(member, (wish.mailbox.clone(), wish.key));
        drop(inner);
        share.wake.notify_one();
        Ok(SharedSeat {
            share,
            member,
            _part: part,
        })
    }

    /// Ends a shared subscription that nobody takes part in, or that is `over` for all; false: somebody does.
    pub(super) fn end(&self, share: &Arc<Share>, over: bool) -> bool {
        let mut live = self.live();
        let mut inner = share.lock();
        if !inner.state.is_deserted() && !over {
            return false;
        }
        inner.ended = true;
        if live.get(&share.name).is_some_and(|known| Arc::ptr_eq(known, share)) {
            live.remove(&share.name);
        }
        true
    }

    /// The group of a shared subscription: the same on all instances, another for each filter.
    pub(super) fn group(&self, share: &Share) -> String {
        let (name, filter) = &share.name;
        let hash = digest::digest(&digest::SHA256, filter.as_bytes());
        let hash = hash.as_ref()[..8].iter().fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
        format!("{}{name}-{hash:016x}", self.prefix)
    }
}

impl SharedSeat {
    /// Waits until whatever is stored from then on will be delivered.
    ///
    /// # Errors
    /// Why not: a label of the metrics.
    pub async fn ready(&self, until: Instant) -> Result<(), &'static str> {
        match self.share.told(until, |ready| !ready.is_open()).await {
            Some(Readiness::Ready) => Ok(()),
            Some(Readiness::Refused(why)) => Err(why),
            Some(Readiness::Looking | Readiness::Joining) | None => Err(UNAVAILABLE),
        }
    }

    /// Waits until it will be [`ready`](Self::ready) once its group takes this instance, which the group is asked as long as somebody sits
    /// here.
    ///
    /// # Errors
    /// Why it never will be: a label of the metrics.
    pub async fn begun(&self, until: Instant) -> Result<(), &'static str> {
        self.share.begun(until).await
    }
}

impl Share {
    /// See [`SharedSeat::begun`].
    pub(super) async fn begun(&self, until: Instant) -> Result<(), &'static str> {
        match self.told(until, |ready| *ready != Readiness::Looking).await {
            Some(Readiness::Joining | Readiness::Ready) => Ok(()),
            // Nobody asks a group again that is of another kind: where it begins could not be set.
            Some(Readiness::Refused(REFUSED)) if !self.lock().ended => Ok(()),
            Some(Readiness::Refused(why)) => Err(why),
            Some(Readiness::Looking) | None => Err(UNAVAILABLE),
        }
    }

    /// Its state, once it is one of these; `None`: not in time.
    async fn told(&self, until: Instant, is_one: impl FnMut(&Readiness) -> bool) -> Option<Readiness> {
        let mut ready = self.ready.subscribe();
        timeout_at(until, ready.wait_for(is_one)).await.ok()?.ok().map(|ready| *ready)
    }

    /// The filter of its messages.
    pub(super) fn filter(&self) -> &str {
        &self.name.1
    }

    /// Its name, for people.
    pub(super) fn share_name(&self) -> &str {
        &self.name.0
    }
}

impl Drop for SharedSeat {
    fn drop(&mut self) {
        let mut inner = self.share.lock();
        let Inner { state, boxes, .. } = &mut *inner;
        state.retire(self.member);
        let mailbox = boxes.remove(&self.member);
        drop(inner);
        self.share.wake.notify_one();
        // It may hold the last of something that locks.
        drop(mailbox);
    }
}
