//! The index of one partition of `mqtt-sessions`: for each stored session who owns it and where its state lies.
//!
//! It is fed with every record in log order, by key and headers, and knows a session by a 128-bit hash of its client id, so a stored
//! session costs at most 96 bytes (`tests/ownership_index.rs` counts them): a slot of 80 in a slab that grows by chunks, and five in a
//! table of slot numbers. Two clients with one hash would share a slot; the hash is keyed at random for each process, so nobody can
//! search for such a pair, and by chance it is one in 10^22 for a hundred million sessions. It is safe nevertheless: the body is
//! read by offset, and a record whose key names another client is damage (the client gets 0x88).
//!
//! **The state that counts** is the one under the highest claim offset, and of that the last. A claim lies before all that is written under it:
//! what names a later one is of another log (a copy of the topic in another cluster), and nobody's.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

use hashbrown::HashTable;

use super::change::Change;
use super::claim::ClaimHead;
use super::record::{Millis, Record};
use super::seen::Seen;
use super::slab::Slab;
use super::state::StateHead;

/// No offset.
const NONE: i64 = -1;

/// What the index knows of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    hash: [u64; 2],
    /// Offset of the last claim that counts, or of a later state's claim; -1 if none is known.
    claim: i64,
    /// Claim offset of the state that counts; -1 if there is none.
    generation: i64,
    /// Offset of the state that counts.
    state: i64,
    /// Offset of the last steps under the same claim, -1 if none.
    steps: i64,
    /// States of earlier generations that are read from now on are void.
    floor: i64,
    /// When the claim was appended, seconds.
    claimed_at: u32,
    /// Disconnected since, seconds; rounded up.
    since: u32,
    /// Session expiry interval, seconds.
    expiry: u32,
    /// Number of its instance, plus one: so an `Option` of this costs nothing.
    owner: NonZeroU32,
    flags: u8,
}

const CONNECTED: u8 = 1;
const WILL: u8 = 2;
const ENDED: u8 = 4;
const UNREADABLE: u8 = 8;

impl Entry {
    /// The last claim.
    pub fn claim(&self) -> Option<i64> {
        (self.claim != NONE).then_some(self.claim)
    }

    /// Claim offset of the state that counts.
    pub fn generation(&self) -> Option<i64> {
        (self.generation != NONE).then_some(self.generation)
    }

    /// Offset of the state that counts.
    pub fn state(&self) -> Option<i64> {
        self.generation().map(|_| self.state)
    }

    /// Offset of the steps that belong to it.
    pub fn steps(&self) -> Option<i64> {
        (self.steps != NONE).then_some(self.steps)
    }

    /// There is a session that goes on, whether or not its time is over.
    pub fn is_stored(&self) -> bool {
        self.generation != NONE && self.flags & ENDED == 0
    }

    /// The state that counts says that the session is over.
    pub fn is_ended(&self) -> bool {
        self.generation != NONE && self.flags & ENDED != 0
    }

    /// A tombstone of it means nothing: A claims at 3, B afresh at 6, A's state is void, and behind it comes A's tombstone of what that was to replace; C
    /// claims at 9, before B has written, and must find the will: nobody else sends it.
    fn is_needed_by_the_floor(&self) -> bool {
        self.is_stored() && self.floor > self.generation
    }

    /// A connection is there, as far as the state says.
    pub fn is_connected(&self) -> bool {
        self.flags & CONNECTED != 0
    }

    /// It has a will, or one on its way.
    pub fn has_will(&self) -> bool {
        self.flags & WILL != 0
    }

    /// The state that counts was written by a later build, or is damaged.
    pub fn is_unreadable(&self) -> bool {
        self.flags & UNREADABLE != 0
    }

    /// The claim has no state of its own yet.
    pub fn is_between(&self) -> bool {
        self.claim > self.generation
    }

    /// Disconnected since; exact to the second, never too early.
    pub fn since(&self) -> Millis {
        Millis::from(self.since) * 1000
    }

    /// Session expiry interval, seconds; [`super::NEVER`].
    pub fn expiry(&self) -> u32 {
        self.expiry
    }

    /// When its claim was appended; exact to the second, never too late.
    pub fn claimed_at(&self) -> Millis {
        Millis::from(self.claimed_at) * 1000
    }

    /// When the session, or the record of its end, has done its time; exact to the second, never too early.
    pub fn due(&self, after_end: Millis) -> Option<Millis> {
        let since = Millis::from(self.since) * 1000;
        match () {
            () if self.is_ended() => Some(since + after_end),
            () if self.is_connected() || self.expiry == super::NEVER || self.is_unreadable() => None,
            () => Some(since + Millis::from(self.expiry) * 1000),
        }
    }
}

/// See the head of the file.
pub struct Index {
    keys: [RandomState; 2],
    table: HashTable<u32>,
    slab: Slab<Entry>,
    instances: Vec<Box<str>>,
}

impl Default for Index {
    fn default() -> Self {
        Self::new([RandomState::new(), RandomState::new()])
    }
}

impl Index {
    /// An empty one, with the keys of its hash.
    pub fn new(keys: [RandomState; 2]) -> Self {
        Self {
            keys,
            table: HashTable::new(),
            slab: Slab::default(),
            instances: Vec::new(),
        }
    }

    /// Sessions and ends it knows.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let names: usize = self.instances.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        self.table.allocation_size() + self.slab.bytes() + names
    }

    fn hash(&self, client: &str) -> [u64; 2] {
        [self.keys[0].hash_one(client), self.keys[1].hash_one(client)]
    }

    /// What is known of a client.
    pub fn entry(&self, client: &str) -> Option<&Entry> {
        let hash = self.hash(client);
        let number = self.table.find(hash[0], |&number| self.slab.at(number).hash == hash)?;
        Some(self.slab.at(*number))
    }

    /// The instance that wrote the last claim.
    pub fn owner(&self, entry: &Entry) -> &str {
        self.instances.get(entry.owner.get() as usize - 1).map_or("", |name| name)
    }

    /// Slots from `from` on, free ones left out, with the number after each: a custodian walks them a few at a time.
    pub fn walk(&self, from: u32) -> impl Iterator<Item = (u32, &Entry)> {
        self.slab.walk(from)
    }

    /// Takes the next record of the partition.
    pub fn read<'a>(&mut self, record: &Record<'a>) -> Change<'a> {
        match Seen::of(record) {
            Seen::Claim(client, head) => self.claim(client, head.ok(), record),
            Seen::ClaimGone(client, of) => self.claim_gone(client, of),
            Seen::Bid(client, of, head) => self.bid(client, of, head.ok(), record),
            Seen::BidGone(client, of) => Change::BidCleaned(client, of),
            Seen::State(client, generation, head) => self.state(client, generation, head.ok(), record),
            Seen::StateGone(client, generation) => self.state_gone(client, generation),
            Seen::Steps(client, generation, n) => self.steps(client, generation, n.ok(), record),
            Seen::StepsGone(client, generation) => self.steps_gone(client, generation),
            Seen::Checkpoint(instance) => Change::Checkpoint(instance),
            Seen::Unknown => Change::Nothing,
        }
    }

    /// The state that counts was found to be damaged behind its headers: nobody but a client claims it again.
    pub(super) fn mark_unreadable(&mut self, client: &str) {
        if self.entry(client).is_some() {
            self.entry_mut(client).flags |= UNREADABLE;
        }
    }

    fn claim<'a>(&mut self, client: &'a str, head: Option<ClaimHead<'a>>, record: &Record<'_>) -> Change<'a> {
        let owner = self.instance(head.map_or("", |head| head.owner));
        let entry = self.entry_mut(client);
        entry.claim = record.offset;
        entry.claimed_at = seconds(record.timestamp);
        entry.owner = owner;
        if head.is_some_and(|head| head.fresh) {
            entry.floor = record.offset;
        }
        Change::Claimed(client, head)
    }

    fn bid<'a>(&mut self, client: &'a str, of: i64, head: Option<ClaimHead<'a>>, record: &Record<'_>) -> Change<'a> {
        if self.entry(client).is_none_or(|entry| entry.claim != of) {
            return Change::VoidBid(client, of);
        }
        self.claim(client, head, record)
    }

    fn claim_gone<'a>(&mut self, client: &'a str, of: Option<i64>) -> Change<'a> {
        if let Some(entry) = self.entry(client)
            && !entry.is_stored()
            && of.is_none_or(|of| entry.claim == of)
        {
            self.remove(client);
        }
        Change::Nothing
    }

    fn state<'a>(&mut self, client: &'a str, generation: i64, head: Option<StateHead<'a>>, record: &Record<'_>) -> Change<'a> {
        if generation >= record.offset {
            return Change::Stray(client, generation);
        }
        let owner = head.map(|head| self.instance(head.owner));
        let entry = self.entry_mut(client);
        if generation < entry.generation || generation < entry.floor {
            return Change::Stray(client, generation);
        }
        let before = entry.generation;
        entry.generation = generation;
        entry.state = record.offset;
        if before != generation {
            entry.steps = NONE;
        }
        if let Some(owner) = owner
            && entry.claim <= generation
        {
            entry.owner = owner;
        }
        entry.claim = entry.claim.max(generation);
        entry.enter(head);
        let superseded = (before != NONE && before != generation).then_some(before);
        Change::State(client, generation, head.map(|head| head.n), superseded)
    }

    fn steps<'a>(&mut self, client: &'a str, generation: i64, n: Option<u64>, record: &Record<'_>) -> Change<'a> {
        let known = self.entry(client).copied();
        match known {
            Some(entry) if entry.generation == generation => self.entry_mut(client).steps = record.offset,
            // Of an older claim; or of one whose state never came: whoever claims next goes by an older state.
            _ => return Change::Stray(client, generation),
        }
        match n {
            Some(n) => Change::Steps(client, generation, n),
            None => {
                self.entry_mut(client).flags |= UNREADABLE;
                Change::Nothing
            }
        }
    }

    fn state_gone<'a>(&mut self, client: &'a str, generation: i64) -> Change<'a> {
        if let Some(entry) = self.entry(client)
            && entry.generation == generation
        {
            if entry.is_needed_by_the_floor() {
                return Change::Nothing;
            }
            if entry.claim == generation {
                self.remove(client);
            } else {
                let entry = self.entry_mut(client);
                entry.generation = NONE;
                entry.steps = NONE;
                entry.flags = 0;
            }
        }
        Change::Cleaned(client, generation)
    }

    fn steps_gone<'a>(&mut self, client: &'a str, generation: i64) -> Change<'a> {
        if let Some(entry) = self.entry(client)
            && entry.generation == generation
            && !entry.is_needed_by_the_floor()
        {
            self.entry_mut(client).steps = NONE;
        }
        Change::Nothing
    }

    fn entry_mut(&mut self, client: &str) -> &mut Entry {
        let hash = self.hash(client);
        let slab = &mut self.slab;
        if let Some(&number) = self.table.find(hash[0], |&number| slab.at(number).hash == hash) {
            return slab.at_mut(number);
        }
        let number = slab.insert(Entry {
            hash,
            claim: NONE,
            generation: NONE,
            state: NONE,
            steps: NONE,
            floor: NONE,
            claimed_at: 0,
            since: 0,
            expiry: 0,
            owner: NonZeroU32::MAX,
            flags: 0,
        });
        self.table.insert_unique(hash[0], number, |&number| slab.at(number).hash[0]);
        slab.at_mut(number)
    }

    fn remove(&mut self, client: &str) {
        let hash = self.hash(client);
        let slab = &mut self.slab;
        if let Ok(found) = self.table.find_entry(hash[0], |&number| slab.at(number).hash == hash) {
            let (number, _) = found.remove();
            slab.remove(number);
        }
    }

    /// The number of an instance. There are few: a handful, and one more for each start of a process.
    fn instance(&mut self, name: &str) -> NonZeroU32 {
        let number = self.instances.iter().rposition(|known| **known == *name).unwrap_or_else(|| {
            self.instances.push(name.into());
            self.instances.len() - 1
        });
        NonZeroU32::MIN.saturating_add(u32::try_from(number).unwrap_or(u32::MAX))
    }
}

impl Entry {
    fn enter(&mut self, head: Option<StateHead<'_>>) {
        let Some(head) = head else {
            self.flags = UNREADABLE;
            return;
        };
        let flag = |on, flag| if on { flag } else { 0 };
        self.flags = flag(head.since.is_none(), CONNECTED) | flag(head.will, WILL) | flag(head.ended, ENDED);
        self.since = head.since.map_or(0, |since| seconds(since + 999));
        self.expiry = head.expiry;
    }
}

/// Whole seconds; enough until 2106.
fn seconds(millis: Millis) -> u32 {
    u32::try_from(millis / 1000).unwrap_or(u32::MAX)
}
