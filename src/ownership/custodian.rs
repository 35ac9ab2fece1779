//! What is nobody's: sessions whose owner is gone or whose time is over, records of ends, and strays.
//!
//! The custodian of a partition is the member of the group of instances that the partition is assigned to. It decides nothing by the
//! index alone: it bids for a session, and what it then reads as its owner is what counts. Every instance looks after sessions in its
//! own name that it does not know any more (it had stepped down).

use std::collections::{BTreeMap, BTreeSet};

use super::Key;
use super::change::Change;
use super::guard::{Guard, keeps};
use super::index::Entry;
use super::output::Output;
use super::partition::Partition;
use super::record::{Millis, NewRecord, Record};

/// How long the record of an end is kept: nothing of the session can arrive later than that.
const END_KEPT: Millis = 3_600_000;
/// What an owner would have cleaned up, or followed up, by then is left to the custodian.
const PATIENCE: Millis = 60_000;
const SECOND: Millis = 1000;
/// Steps of a walk over the index, one a second: who is an orphan is found within twice as many seconds, however many sessions there are.
const STEPS: usize = 8;
/// Sessions of a step: a walk over fewer takes one, and no step takes longer than some milliseconds.
const LEAST: usize = 1024;
const MOST: usize = 65_536;
/// Sessions looked at more closely at a time.
const LOOKS: usize = 64;
/// Sessions that are being claimed or cleaned up at a time, and records of strays that are removed at a time.
const TENDED: usize = 256;

/// The custodian's notes.
#[derive(Debug, Default)]
pub(super) struct Custodian {
    /// Instances that are members of the group, if this one is the custodian.
    members: Option<BTreeSet<Box<str>>>,
    /// When it was told, and where the tail was then.
    told: (Millis, i64),
    /// This instance had stepped down: what it has claimed below this offset, it may have forgotten.
    forgotten_below: i64,
    stepped_down: bool,
    /// Client and claim of states and steps that nobody needs, since when.
    strays: BTreeMap<(Box<str>, i64), Millis>,
    /// Client and claim of bids that are void, since when.
    bids: BTreeMap<(Box<str>, i64), Millis>,
    /// The next slot.
    cursor: u32,
    /// When the next step may begin.
    step_at: Millis,
    /// Sessions that are left of the step.
    left: usize,
    /// Questions for a record that tells a client id.
    looks: BTreeMap<u64, i64>,
    /// Clients whose sessions were bid for, or cleaned up, and the tail has not read it.
    tended: BTreeSet<Box<str>>,
    /// Where the tail was when the walk began.
    walk_from: i64,
    /// Writers of the states of clients that are connected, as this walk has met them: by their checkpoints somebody may go.
    writers: BTreeSet<Box<str>>,
    /// It has met a claim without a state: who wrote the state before it is not known.
    met_between: bool,
    /// Checkpoints that were removed, by where they lay.
    removed: BTreeMap<i64, Millis>,
}

impl Custodian {
    /// All but the membership is forgotten.
    pub(super) fn afresh(self) -> Self {
        Self {
            members: self.members,
            told: self.told,
            stepped_down: true,
            ..Self::default()
        }
    }

    /// The tail is at the end, perhaps for the first time.
    pub(super) fn caught_up(&mut self, first: bool, position: i64) {
        if first && self.stepped_down {
            self.forgotten_below = position;
        }
    }

    /// Keeps the list of strays.
    pub(super) fn notice(&mut self, change: &Change<'_>, now: Millis) {
        // A state that counts makes no stray of what came before it: where the cleaner has removed an earlier one, its steps are met first.
        if let Change::State(client, claim, ..) = *change
            && !self.strays.is_empty()
        {
            self.strays.remove(&(client.into(), claim));
        }
        if let Change::Claimed(client, _) | Change::VoidBid(client, _) | Change::Cleaned(client, _) = *change
            && !self.tended.is_empty()
        {
            self.tended.remove(client);
        }
        match *change {
            Change::Stray(client, claim) | Change::State(client, _, _, Some(claim)) => {
                self.strays.entry((client.into(), claim)).or_insert(now);
            }
            Change::Cleaned(client, claim) => {
                self.strays.remove(&(client.into(), claim));
            }
            Change::VoidBid(client, of) => {
                self.bids.entry((client.into(), of)).or_insert(now);
            }
            Change::BidCleaned(client, of) => {
                self.bids.remove(&(client.into(), of));
            }
            _ => {}
        }
    }

    /// How many more sessions may be looked at closely.
    fn room(&self) -> usize {
        let asked = self.looks.len();
        LOOKS.min(TENDED.saturating_sub(self.tended.len())).saturating_sub(asked)
    }

    fn is_member(&self, instance: &str) -> bool {
        self.members.as_ref().is_none_or(|members| members.contains(instance))
    }

    /// Whether the owner of a claim is none of those who are members.
    ///
    /// Told as a sequence of events. An instance joins the group, is told so, and claims a session. The custodian hears of that
    /// generation a moment later, or after a pause, and has read the claim already: by the members that it knows, the owner is dead, its client
    /// would be closed, and the will sent of one that is there. So a claim that may be newer than what is known of the members proves nothing
    /// yet; one of an instance that had lost its membership, and went on for a while, is looked after later.
    fn is_forsaken(&self, owner: &str, entry: &Entry, now: Millis) -> bool {
        let (told, tail) = self.told;
        let at = entry.claimed_at();
        // Those that the tail had not read yet when the members were told are dated by the brokers' clock, in seconds that are cut off.
        let known = entry.claim() < Some(tail) || at + SECOND <= told || at + PATIENCE <= now;
        known && self.members.is_some() && !self.is_member(owner)
    }
}

/// What a session of the index needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// An owner, be it to end it.
    Owner,
    /// That the record of its end is removed.
    Cleaning,
}

impl Partition {
    /// This instance is the custodian from now on, and these are the members; `None`: it is not.
    pub fn members(&mut self, members: Option<BTreeSet<Box<str>>>, now: Millis) {
        self.custodian.members = members;
        self.custodian.told = (now, self.position);
    }

    /// Lets the walk over the index make a step, once a second.
    pub(super) fn look_after(&mut self, now: Millis) {
        // A clock that was set back stops nothing.
        let waits = (now + 1..=now + SECOND).contains(&self.custodian.step_at);
        if self.at_end.is_none() || waits {
            return;
        }
        self.custodian.step_at = now + SECOND;
        self.clean_strays(now);
        self.custodian.left = (self.index.len() / STEPS + 1).clamp(LEAST, MOST);
        self.walk_on(now);
    }

    /// Goes on with the step as far as there is room for closer looks. Asked again whenever there may be more room, so many orphans take as long as
    /// Kafka takes for them, and no more is on its way than that.
    pub(super) fn walk_on(&mut self, now: Millis) {
        let room = self.custodian.room();
        if self.custodian.left == 0 || room == 0 {
            return;
        }
        if self.custodian.cursor == 0 {
            self.custodian.walk_from = self.position;
        }
        let found = self.index.walk(self.custodian.cursor).take(self.custodian.left);
        let (mut next, mut seen, mut offsets) = (self.custodian.cursor, 0, Vec::new());
        let (mut writers, mut between) = (BTreeSet::new(), false);
        for (after, entry) in found {
            next = after;
            seen += 1;
            between |= entry.is_between() && entry.is_stored();
            if entry.is_connected() {
                writers.insert(self.index.owner(entry));
            }
            if self.needs(entry, false, now).is_some() {
                offsets.extend(entry.state().or(entry.claim()));
            }
            if offsets.len() >= room {
                break;
            }
        }
        let writers: Vec<Box<str>> = writers.into_iter().map(Into::into).collect();
        self.custodian.writers.extend(writers);
        self.custodian.met_between |= between;
        let is_over = seen < self.custodian.left && offsets.len() < room;
        (self.custodian.left, self.custodian.cursor) = (self.custodian.left - seen, next);
        if is_over {
            self.clean_checkpoints(now);
            // The whole index was seen: what was forgotten is being looked at.
            (self.custodian.left, self.custodian.cursor) = (0, 0);
            self.custodian.forgotten_below = 0;
        }
        for offset in offsets {
            if !self.custodian.looks.values().any(|known| *known == offset) {
                self.serial += 1;
                let serial = self.serial;
                self.custodian.looks.insert(serial, offset);
                self.outputs.push_back(Output::Fetch { serial, offset });
            }
        }
    }

    /// `closely`: this instance does not own the session, whatever the index says.
    fn needs(&self, entry: &Entry, closely: bool, now: Millis) -> Option<Needs> {
        let custodian = self.custodian.members.is_some();
        let open = entry.is_connected() || entry.has_will() || entry.is_between();
        let due = || custodian && entry.due(END_KEPT).is_some_and(|at| at <= now);
        let stuck = || entry.is_between() && entry.is_stored() && entry.claimed_at() + PATIENCE <= now;
        match () {
            () if entry.is_unreadable() && keeps(Guard::LeaveUnreadable) => None,
            () if entry.is_ended() && !entry.is_between() => due().then_some(Needs::Cleaning),
            () if open && self.is_forsaken(entry, closely, now) => Some(Needs::Owner),
            () if custodian && stuck() => Some(Needs::Owner),
            // A claimer that is at work decides about that itself.
            () if !entry.is_between() && due() => Some(Needs::Owner),
            () => None,
        }
    }

    fn is_forsaken(&self, entry: &Entry, closely: bool, now: Millis) -> bool {
        let owner = self.index.owner(entry);
        if *owner == *self.settings.instance {
            return closely || entry.claim() < Some(self.custodian.forgotten_below);
        }
        self.custodian.is_forsaken(owner, entry, now)
    }

    /// A record that was asked for by the custodian: its key tells the client.
    pub(super) fn looked(&mut self, serial: u64, record: Option<&Record<'_>>, now: Millis) {
        if self.custodian.looks.remove(&serial).is_none() {
            return;
        }
        if let Some(Ok(key)) = record.map(|record| Key::parse(record.key)) {
            self.tend(key.id(), now);
        }
        self.walk_on(now);
    }

    /// Does what a session needs, unless that is on its way.
    fn tend(&mut self, client: &str, now: Millis) {
        let Some(entry) = self.index.entry(client).copied() else { return };
        if self.owners.contains_key(client) || self.custodian.tended.contains(client) {
            return;
        }
        let (Some(needs), Some(claim)) = (self.needs(&entry, true, now), entry.claim()) else {
            return;
        };
        self.custodian.tended.insert(client.into());
        match needs {
            Needs::Owner => self.bid(client, claim, now),
            Needs::Cleaning => self.append(vec![
                NewRecord::tombstone(Key::Steps(client, claim)),
                NewRecord::claim_tombstone(client, claim),
                NewRecord::tombstone(Key::State(client, claim)),
            ]),
        }
    }

    /// Owners clean up behind themselves; what a crash has left is cleaned up here.
    fn clean_strays(&mut self, now: Millis) {
        if self.custodian.members.is_none() {
            return;
        }
        let mut records = Vec::new();
        let is_due = |since: &Millis| *since + PATIENCE <= now;
        let strays = self.custodian.strays.iter_mut().filter(|(_, since)| is_due(since));
        for ((client, claim), since) in strays.take(TENDED) {
            *since = now;
            records.push(NewRecord::tombstone(Key::Steps(client, *claim)));
            records.push(NewRecord::tombstone(Key::State(client, *claim)));
        }
        let bids = self.custodian.bids.iter_mut().filter(|(_, since)| is_due(since));
        for ((client, of), since) in bids.take(TENDED) {
            *since = now;
            records.push(NewRecord::tombstone(Key::Bid(client, *of)));
        }
        self.append(records);
    }

    /// A walk is over: the checkpoints of instances that are gone, and by which no session goes any more, are removed. A paused one may write
    /// another; without one each session goes by its own position, so nothing depends on the moment.
    fn clean_checkpoints(&mut self, now: Millis) {
        let custodian = &mut self.custodian;
        let writers = std::mem::take(&mut custodian.writers);
        let unsure = std::mem::take(&mut custodian.met_between) || custodian.members.is_none();
        custodian.removed.retain(|_, at| *at + PATIENCE > now);
        let mut records = Vec::new();
        for (instance, at) in self.known.iter().filter(|_| !unsure) {
            let gone = *instance != *self.settings.instance && !custodian.is_member(instance) && !writers.contains(instance);
            if gone && at < custodian.walk_from && !custodian.removed.contains_key(&at) {
                custodian.removed.insert(at, now);
                records.push(NewRecord::tombstone(Key::Checkpoint(instance)));
            }
        }
        self.append(records);
    }

    /// Appends records that belong to no owner.
    fn append(&mut self, records: Vec<NewRecord>) {
        if !records.is_empty() {
            self.outputs.push_back(Output::Append(records));
        }
    }
}
