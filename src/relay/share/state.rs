//! Who of this instance has which message of a shared subscription, and what becomes of those that come back.
//!
//! A value machine without I/O: `task`, or `locking`, brings partitions and their messages in and takes hand-outs and positions to commit, connections
//! say what became of what they were handed. A message is with one member at a time. What a member gives back goes out again
//! before everything that was not handed out yet, in the order of the log.

mod ledger;
mod locks;
mod parts;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use rustc_hash::FxHashMap;

use crate::mqtt::QoS;
pub use ledger::Said;
use parts::Part;

/// A member of this instance: one subscription of one session. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(u64);

/// A partition for as long as this instance has it once. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartId(u64);

/// One message handed to one member once. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandoutId(u64);

/// All of it. `T` is what is handed out.
#[derive(Debug)]
pub struct State<T> {
    members: FxHashMap<MemberId, Member>,
    /// Those that have room, the one with the most last; of equals the one that has waited longest.
    rooms: BTreeSet<(usize, Reverse<u64>, MemberId)>,
    parts: BTreeMap<PartId, Part<T>>,
    /// The partition that was served last.
    turn: PartId,
    out: BTreeMap<HandoutId, Handout<T>>,
    next_id: u64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    limit: usize,
    held: usize,
    /// When it was handed something last, counted in hand-outs.
    served: u64,
}

#[derive(Debug)]
struct Handout<T> {
    part: PartId,
    offset: i64,
    member: MemberId,
    step: Step,
    item: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It waits for its connection.
    Waiting,
    /// QoS 1: sent, not acknowledged.
    Sent,
    /// QoS 2 of a stored session: the session is about to write down that it has it.
    Lent {
        /// Its connection has ended meanwhile.
        left: bool,
    },
    /// QoS 2: its exchange has begun, so it is nobody else's any more [MQTT-4.8.2-5]. It only takes the member's room.
    Settled,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            members: FxHashMap::default(),
            rooms: BTreeSet::new(),
            parts: BTreeMap::new(),
            turn: PartId(0),
            out: BTreeMap::new(),
            next_id: 0,
        }
    }
}

impl<T: Clone> State<T> {
    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A member that may hold `limit` messages at a time.
    pub fn join(&mut self, limit: usize) -> MemberId {
        let id = MemberId(self.fresh());
        let (held, served) = (0, 0);
        self.members.insert(id, Member { limit, held, served });
        self.room(id, |_| {});
        id
    }

    /// Whether anybody is there.
    pub fn is_deserted(&self) -> bool {
        self.members.is_empty()
    }

    /// A member gets nothing more. What was not sent to it goes to the others; what was is still its own.
    pub fn retire(&mut self, member: MemberId) {
        self.room(member, |member| member.limit = 0);
        self.members.remove(&member);
        let waiting = |handout: &Handout<T>| handout.member == member && handout.step == Step::Waiting;
        let waiting: Vec<_> = self.out.iter().filter(|(_, handout)| waiting(handout)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.give_back(id);
        }
        self.release_excess();
    }

    /// Changes a member, and where it stands among those that have room.
    fn room(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let key = |member: &Member| (member.limit.saturating_sub(member.held), Reverse(member.served), id);
        self.rooms.remove(&key(member));
        change(member);
        if member.limit > member.held {
            self.rooms.insert(key(member));
        }
    }

    /// Hands out the next message to the member with the most room.
    pub fn hand_out(&mut self) -> Option<(MemberId, HandoutId, T)> {
        let (.., member) = *self.rooms.last()?;
        let behind = self.parts.range(self.turn..).filter(|(id, _)| **id > self.turn);
        let next = behind.chain(self.parts.range(..=self.turn)).find(|(_, part)| part.is_ready());
        let part_id = *next?.0;
        self.turn = part_id;
        let part = self.parts.get_mut(&part_id).expect("just found");
        let (offset, item) = part.next().expect("it is ready");
        let now = self.fresh();
        let id = HandoutId(now);
        let handout = Handout {
            part: part_id,
            offset,
            member,
            step: Step::Waiting,
            item: item.clone(),
        };
        self.out.insert(id, handout);
        self.room(member, |member| (member.held, member.served) = (member.held + 1, now));
        Some((member, id, item))
    }

    /// Whether a connection may still send what it was handed: the partition is ours, and not about to be given up.
    pub fn may_send(&self, id: HandoutId) -> bool {
        self.out.get(&id).is_some_and(|handout| handout.step == Step::Waiting)
    }

    /// It was sent with this QoS.
    pub fn sent(&mut self, id: HandoutId, qos: QoS) {
        match (self.out.get_mut(&id), qos) {
            (_, QoS::AtMostOnce) => self.done(id),
            (Some(handout), QoS::AtLeastOnce) => handout.step = Step::Sent,
            (Some(handout), QoS::ExactlyOnce) => {
                handout.step = Step::Settled;
                let (part, offset) = (handout.part, handout.offset);
                self.settle(part, offset);
            }
            (None, _) => {}
        }
    }

    /// A stored session is about to take it.
    pub fn lend(&mut self, id: HandoutId) {
        if let Some(handout) = self.out.get_mut(&id) {
            handout.step = Step::Lent { left: false };
        }
    }

    /// The session has it: it is nobody else's any more. False: its partition, or its lock, was given up or lost before, so another has it, too.
    pub fn keep(&mut self, id: HandoutId) -> bool {
        let Some(handout) = self.out.get_mut(&id) else { return false };
        let Step::Lent { left } = handout.step else { return false };
        handout.step = Step::Settled;
        let (part, offset) = (handout.part, handout.offset);
        self.settle(part, offset);
        if left {
            self.take(id);
        }
        true
    }

    /// Whether a session is about to take something.
    pub fn lends(&self) -> bool {
        self.out.values().any(|handout| matches!(handout.step, Step::Lent { .. }))
    }

    /// The session does not have it, and never will.
    pub fn take_back(&mut self, id: HandoutId) {
        if let Some(handout) = self.out.get_mut(&id).filter(|handout| matches!(handout.step, Step::Lent { .. })) {
            handout.step = Step::Waiting;
            self.give_back(id);
            // Its member may be gone since, and those who are left may have no room.
            self.release_excess();
        }
    }

    fn settle(&mut self, part: PartId, offset: i64) {
        if let Some(part) = self.parts.get_mut(&part) {
            part.ledger.settle(offset);
        }
    }

    /// It is settled: acknowledged, refused by the client [MQTT-4.8.2-6], or left out for good.
    pub fn done(&mut self, id: HandoutId) {
        if let Some(handout) = self.take(id)
            && handout.step != Step::Settled
        {
            self.settle(handout.part, handout.offset);
        }
    }

    /// Its member is gone, or does not want it any more. True: another will get what it may have had already; in a share group that may be one
    /// of another instance. What is lent stays so: only the log knows whether the session has it.
    pub fn give_back(&mut self, id: HandoutId) -> bool {
        if let Some(Handout {
            step: Step::Lent { left }, ..
        }) = self.out.get_mut(&id)
        {
            *left = true;
            return false;
        }
        let Some(handout) = self.take(id).filter(|handout| handout.step != Step::Settled) else {
            return false;
        };
        let Some(part) = self.parts.get_mut(&handout.part).filter(|part| !part.closing) else {
            return false;
        };
        let was_sent = handout.step == Step::Sent;
        if !was_sent || !part.ledger.release(handout.offset) {
            part.returned.insert(handout.offset, handout.item);
        }
        was_sent
    }

    fn take(&mut self, id: HandoutId) -> Option<Handout<T>> {
        let handout = self.out.remove(&id)?;
        self.room(handout.member, |member| member.held -= 1);
        Some(handout)
    }
}

#[cfg(test)]
mod tests;
