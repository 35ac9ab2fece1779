//! Who of this instance has which message of a shared subscription, and what becomes of those that come back.
//!
//! A value machine without I/O: `task` brings partitions and their messages in and takes hand-outs and positions to commit, connections
//! say what became of what they were handed. A message is with one member at a time. What a member gives back goes out again
//! before everything that was not handed out yet, in the order of the log.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use rustc_hash::FxHashMap;

use crate::{
    mqtt::QoS,
    progress::{Position, Progress},
};

/// Messages of a partition that may be with members. With as many the metadata of a commit nearly always hold what is settled between them.
const MOST_OPEN: usize = 400;

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
struct Part<T> {
    progress: Progress,
    /// It is about to be given up: nothing of it goes out any more.
    closing: bool,
    queue: VecDeque<(i64, T)>,
    returned: BTreeMap<i64, T>,
    /// What was told to commit last.
    told: Option<Position>,
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

    /// This instance has a partition.
    pub fn begin(&mut self, progress: Progress) -> PartId {
        let id = PartId(self.fresh());
        let part = Part {
            progress,
            closing: false,
            queue: VecDeque::new(),
            returned: BTreeMap::new(),
            told: None,
        };
        self.parts.insert(id, part);
        id
    }

    /// Whether more of a partition should be read.
    pub fn wants(&self, part: PartId) -> bool {
        let wants = |part: &Part<T>| !part.closing && part.queue.is_empty() && part.progress.open() < MOST_OPEN;
        !self.members.is_empty() && self.parts.get(&part).is_some_and(wants)
    }

    /// A message of a partition, in the order of the log.
    pub fn push(&mut self, part: PartId, offset: i64, item: T) {
        if let Some(part) = self.parts.get_mut(&part).filter(|part| !part.closing)
            && part.progress.start(offset)
        {
            part.queue.push_back((offset, item));
        }
    }

    /// Nothing else below `offset` is for anybody.
    pub fn reach(&mut self, part: PartId, offset: i64) {
        if let Some(part) = self.parts.get_mut(&part).filter(|part| !part.closing) {
            part.progress.reach(offset);
        }
    }

    /// Hands out the next message to the member with the most room.
    pub fn hand_out(&mut self) -> Option<(MemberId, HandoutId, T)> {
        let (.., member) = *self.rooms.last()?;
        let ready = |part: &Part<T>| !part.closing && part.returned.len() + part.queue.len() > 0;
        let behind = self.parts.range(self.turn..).filter(|(id, _)| **id > self.turn);
        let next = behind.chain(self.parts.range(..=self.turn)).find(|(_, part)| ready(part));
        let part_id = *next?.0;
        self.turn = part_id;
        let part = self.parts.get_mut(&part_id).expect("just found");
        let (offset, item) = part.returned.pop_first().or_else(|| part.queue.pop_front()).expect("it is ready");
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

    fn settle(&mut self, part: PartId, offset: i64) {
        if let Some(part) = self.parts.get_mut(&part) {
            part.progress.settle(offset);
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

    /// Its member is gone, or does not want it any more. True: another will get what it may have had already.
    pub fn give_back(&mut self, id: HandoutId) -> bool {
        let Some(handout) = self.take(id).filter(|handout| handout.step != Step::Settled) else {
            return false;
        };
        let Some(part) = self.parts.get_mut(&handout.part).filter(|part| !part.closing) else {
            return false;
        };
        part.returned.insert(handout.offset, handout.item);
        handout.step == Step::Sent
    }

    fn take(&mut self, id: HandoutId) -> Option<Handout<T>> {
        let handout = self.out.remove(&id)?;
        self.room(handout.member, |member| member.held -= 1);
        Some(handout)
    }

    /// A partition is about to be given up: nothing of it is sent any more, what was sent may still be acknowledged.
    pub fn close(&mut self, part: PartId) {
        if let Some(part) = self.parts.get_mut(&part) {
            part.closing = true;
            part.queue.clear();
            part.returned.clear();
        }
        self.forget(part, |handout| handout.step == Step::Waiting);
    }

    /// Whether nothing of a partition waits for an acknowledgement.
    pub fn is_quiet(&self, part: PartId) -> bool {
        !self.out.values().any(|handout| handout.part == part && handout.step == Step::Sent)
    }

    /// A partition is not ours any more: whatever is said about its messages does not count.
    pub fn end(&mut self, part: PartId) {
        self.parts.remove(&part);
        self.forget(part, |_| true);
    }

    fn forget(&mut self, part: PartId, which: impl Fn(&Handout<T>) -> bool) {
        let of = self.out.iter().filter(|(_, handout)| handout.part == part && which(handout));
        let of: Vec<_> = of.map(|(id, _)| *id).collect();
        for id in of {
            self.take(id);
        }
    }

    /// The positions of partitions that have moved since they were told last.
    pub fn moved(&mut self) -> Vec<(PartId, Position)> {
        let mut moved = Vec::new();
        for (id, part) in &mut self.parts {
            let position = part.progress.position();
            if part.told.as_ref() != Some(&position) {
                part.told = Some(position.clone());
                moved.push((*id, position));
            }
        }
        moved
    }

    /// What may be committed of one partition.
    pub fn position(&self, part: PartId) -> Option<Position> {
        self.parts.get(&part).map(|part| part.progress.position())
    }

    /// What was told of a partition last was not committed.
    pub fn tell_again(&mut self, part: PartId) {
        if let Some(part) = self.parts.get_mut(&part) {
            part.told = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition with messages at these offsets, and everything up to `end` read.
    fn part(state: &mut State<i64>, offsets: std::ops::Range<i64>) -> PartId {
        let part = state.begin(Progress::at(offsets.start));
        for offset in offsets {
            state.push(part, offset, offset);
        }
        part
    }

    fn all(state: &mut State<i64>) -> Vec<(MemberId, HandoutId, i64)> {
        std::iter::from_fn(|| state.hand_out()).collect()
    }

    fn offsets_of(handed: &[(MemberId, HandoutId, i64)], member: MemberId) -> Vec<i64> {
        handed.iter().filter(|(to, ..)| *to == member).map(|(.., offset)| *offset).collect()
    }

    fn committed(state: &mut State<i64>) -> Option<i64> {
        state.moved().pop().map(|(_, position)| position.offset)
    }

    #[test]
    fn who_has_the_most_room_gets_the_next() {
        let mut state = State::default();
        let (small, large) = (state.join(2), state.join(5));
        part(&mut state, 0..20);
        let handed = all(&mut state);
        assert_eq!(handed.len(), 7, "no more than all may hold");
        assert_eq!(offsets_of(&handed, large)[..3], [0, 1, 2], "until both have the same room");
        assert_eq!(offsets_of(&handed, small).len(), 2);
        let first = handed.iter().find(|(to, ..)| *to == small).unwrap();
        state.sent(first.1, QoS::AtLeastOnce);
        assert_eq!(state.hand_out(), None);
        state.done(first.1);
        assert_eq!(state.hand_out().map(|(to, ..)| to), Some(small));
    }

    #[test]
    fn what_a_member_had_goes_to_the_others_at_once_and_in_order() {
        let mut state = State::default();
        let first = state.join(10);
        let id = part(&mut state, 0..30);
        let handed = all(&mut state);
        assert_eq!(handed.len(), 10);
        // Six are sent, four wait; one of the six is acknowledged.
        handed[..6].iter().for_each(|(_, id, _)| state.sent(*id, QoS::AtLeastOnce));
        state.done(handed[2].1);
        let second = state.join(100);
        assert_eq!(offsets_of(&all(&mut state), second), (10..30).collect::<Vec<_>>());
        let again = [0, 1, 3, 4, 5].map(|at: usize| state.give_back(handed[at].1));
        assert_eq!(again, [true; 5], "it may have had them");
        state.retire(first);
        let offsets = offsets_of(&all(&mut state), second);
        assert_eq!(offsets, [0, 1, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(
            state.moved(),
            [(
                id,
                Position {
                    offset: 0,
                    settled: vec![std::ops::Range { start: 2, end: 3 }]
                }
            )]
        );
    }

    #[test]
    fn a_message_of_qos_2_on_its_way_is_nobody_elses() {
        let mut state = State::default();
        let member = state.join(1);
        part(&mut state, 0..3);
        let (_, id, _) = state.hand_out().unwrap();
        state.sent(id, QoS::ExactlyOnce);
        assert_eq!(committed(&mut state), Some(1));
        assert_eq!(state.hand_out(), None, "it takes room until its exchange is over");
        state.done(id);
        let (_, id, offset) = state.hand_out().unwrap();
        assert_eq!(offset, 1);
        state.sent(id, QoS::ExactlyOnce);
        assert!(!state.give_back(id));
        state.retire(member);
        let other = state.join(10);
        assert_eq!(offsets_of(&all(&mut state), other), [2]);
    }

    #[test]
    fn at_most_once_is_settled_when_it_is_sent() {
        let mut state = State::default();
        state.join(1);
        part(&mut state, 0..2);
        let (_, id, _) = state.hand_out().unwrap();
        state.sent(id, QoS::AtMostOnce);
        assert_eq!(committed(&mut state), Some(1));
        assert!(state.hand_out().is_some());
    }

    #[test]
    fn of_a_partition_that_is_given_up_nothing_is_sent_and_what_was_may_be_acknowledged() {
        let mut state = State::default();
        let member = state.join(2);
        let id = part(&mut state, 0..5);
        let handed = all(&mut state);
        state.sent(handed[0].1, QoS::AtLeastOnce);
        state.close(id);
        assert!(!state.may_send(handed[1].1) && !state.is_quiet(id) && !state.wants(id));
        assert_eq!(state.hand_out(), None);
        state.done(handed[0].1);
        assert!(state.is_quiet(id));
        assert_eq!(committed(&mut state), Some(1));
        state.end(id);
        assert_eq!(state.moved(), []);
        // Words about what is gone do no harm, and the room is free.
        state.done(handed[1].1);
        assert!(!state.give_back(handed[0].1));
        part(&mut state, 0..5);
        assert_eq!(offsets_of(&all(&mut state), member), [0, 1]);
    }

    #[test]
    fn partitions_take_turns() {
        let mut state = State::default();
        state.join(4);
        part(&mut state, 0..10);
        part(&mut state, 100..110);
        let offsets: Vec<_> = all(&mut state).iter().map(|(.., offset)| *offset).collect();
        assert_eq!(offsets, [0, 100, 1, 101]);
    }

    #[test]
    fn no_more_is_open_than_a_commit_can_tell() {
        let mut state = State::default();
        state.join(10_000);
        let id = part(&mut state, 0..0);
        let mut offset = 0;
        while state.wants(id) {
            state.push(id, offset, offset);
            offset += 1;
            all(&mut state);
        }
        assert_eq!(offset, MOST_OPEN as i64);
    }
}
