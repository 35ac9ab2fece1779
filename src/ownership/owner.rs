//! One client id as its owner sees it, from the claim to the end. What it does about packets is in `inbound`, `outbound` and `sending`.

use std::collections::{BTreeMap, VecDeque};

use super::adopt::Before;
use super::checkpoints::Known;
use super::guard::{Guard, keeps};
use super::inbound::Inbound;
use super::output::{ConnectionId, Offer, Output, Tenure};
use super::record::{Millis, NewRecord};
use super::sending::WillRun;
use super::state::{Body, State};
use super::steps::Steps;
use super::text::Source;
use super::{Fault, Key, MAX_PART};

/// Bytes kept free for the pairs of wills.
const PAIRS: usize = 8 << 10;

/// The bytes of a value, the `besides` of which do not count.
fn fits(record: &NewRecord, besides: usize, room: usize) -> Result<usize, Fault> {
    let size = record.value.as_ref().map_or(0, Vec::len).saturating_sub(besides);
    if size > room { Err(Fault::TooLarge(size)) } else { Ok(size) }
}

/// How far an ownership is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A throw-away session that waits until the tail has read this offset.
    Barrier(i64),
    /// The claim is wanted or written.
    Claiming,
    /// It was read: nothing that was written before is unknown. The bodies are on their way.
    Fetching(Box<Fetching>),
    /// The own state is wanted or written.
    Adopting,
    /// It was read: the choice is binding.
    Live,
    /// The end is wanted or written.
    Ending,
}

/// The bodies of the session that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fetching {
    pub(super) state_at: i64,
    pub(super) state: Option<(u64, State)>,
    pub(super) steps_at: Option<i64>,
    pub(super) steps: Option<(u64, Steps)>,
    /// Who wrote the state.
    pub(super) writer: Box<str>,
    /// The checkpoints before the claim.
    pub(super) checkpoints: Known,
}

/// What rests on a record that is to be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rests {
    ConnAck { present: bool },
    Answer(u32),
    Produce(u16),
    Refused(u16),
    PubComp(u16),
    Publish(u16),
    PubRel(u16),
    Will(u64),
    End,
}

/// What is to be written next. A state has the steps in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dirty {
    Steps,
    State,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) client: Box<str>,
    pub(super) connection: Option<ConnectionId>,
    /// Of the CONNECT, until the session is adopted.
    pub(super) offer: Option<Offer>,
    /// CONNACK has left already: the session is a throw-away one.
    pub(super) answered: bool,
    /// The end of the log after its CONNECT had come; 0 if nobody knows.
    pub(super) barrier: i64,
    /// Another owner of this instance was forgotten in its favour.
    pub(super) succeeds: bool,
    pub(super) phase: Phase,
    /// Number of the own claim.
    pub(super) token: u64,
    /// The claim that is bid for.
    pub(super) bid: Option<i64>,
    /// Offset of the own claim.
    pub(super) generation: i64,
    /// The claim whose state is to be cleaned up.
    pub(super) older: Option<i64>,
    pub(super) body: Body,
    /// Of the session that was found.
    pub(super) before: Before,
    /// A claim of this instance, for a CONNECT that was never answered: what is written under it says too much.
    pub(super) void: Option<(i64, Before)>,
    /// Number of the last record under the own claim.
    pub(super) n: u64,
    pub(super) dirty: Option<Dirty>,
    /// In the order of their numbers.
    pub(super) waiting: VecDeque<(u64, Rests)>,
    /// The run that the last record names.
    pub(super) spoken_by: Option<u64>,
    /// At the last checkpoint it had settled all that the feeds had handed out.
    pub(super) rested: bool,
    /// When positions that have moved are written at the latest.
    pub(super) positions_due: Option<Millis>,
    pub(super) inbound: Inbound,
    /// Beside `body.sending`.
    pub(super) wills: Vec<WillRun>,
    /// Entered in the partition's timetable.
    pub(super) deadline: Option<Millis>,
}

impl Owner {
    pub(super) fn new(client: &str, token: u64, now: Millis) -> Self {
        Self {
            client: client.into(),
            connection: None,
            offer: None,
            answered: false,
            barrier: 0,
            succeeds: false,
            phase: Phase::Claiming,
            token,
            bid: None,
            generation: -1,
            older: None,
            body: Body::fresh(now),
            before: Before::default(),
            void: None,
            n: 0,
            dirty: None,
            waiting: VecDeque::new(),
            spoken_by: None,
            rested: false,
            positions_due: None,
            inbound: Inbound::default(),
            wills: Vec::new(),
            deadline: None,
        }
    }

    pub(super) fn tenure(&self) -> Tenure {
        Tenure {
            client: self.client.clone(),
            claim: self.generation,
        }
    }

    /// The claim offset in the own keys.
    pub(super) fn key_claim(&self) -> i64 {
        if keeps(Guard::OwnKeys) { self.generation } else { 0 }
    }

    /// Lets something rest on the next record.
    pub(super) fn wait(&mut self, dirty: Dirty, rests: Rests) {
        self.touch(dirty);
        self.waiting.push_back((self.n + 1, rests));
    }

    pub(super) fn touch(&mut self, dirty: Dirty) {
        self.dirty = self.dirty.max(Some(dirty));
    }

    /// The records that are wanted now; counts them. `settled` is the last checkpoint.
    ///
    /// # Errors
    /// [`Fault::TooLarge`]: the session has outgrown a record.
    pub(super) fn records(&mut self, instance: &str, settled: &BTreeMap<Source, i64>) -> Result<Vec<NewRecord>, Fault> {
        let Some(dirty) = self.dirty.take() else { return Ok(Vec::new()) };
        self.n += 1;
        self.positions_due = None;
        self.catch_up(settled);
        let (client, claim) = (&*self.client, self.key_claim());
        self.spoken_by = self.body.steps.run.filter(|_| self.phase != Phase::Ending);
        if self.phase == Phase::Ending {
            let end = State::Ended(self.body.since).record(client, claim, self.n, instance)?;
            return Ok(self.with_cleaning(vec![end, NewRecord::tombstone(Key::Steps(client, claim))]));
        }
        let steps = self.body.steps.record(client, claim, self.n)?;
        let steps_size = fits(&steps, 0, MAX_PART)?;
        if dirty == Dirty::Steps {
            return Ok(vec![steps]);
        }
        let state = State::Goes(Box::new(self.body.clone())).record(client, claim, self.n, instance)?;
        // What a client may fill is less than what its wills may take on their way, or it could not be told when they do.
        let room = if self.body.sending.is_empty() { MAX_PART - PAIRS } else { MAX_PART };
        fits(&state, steps_size, room)?;
        Ok(self.with_cleaning(vec![state]))
    }

    /// What the own state makes superfluous, after it: were it cleaned up first, a crash in between would lose the session.
    fn with_cleaning(&mut self, mut records: Vec<NewRecord>) -> Vec<NewRecord> {
        if let Some(older) = self.older.take().filter(|&older| older != self.key_claim()) {
            records.push(NewRecord::tombstone(Key::Steps(&self.client, older)));
            records.push(NewRecord::tombstone(Key::State(&self.client, older)));
        }
        if let Some(of) = self.bid.take() {
            records.push(NewRecord::tombstone(Key::Bid(&self.client, of)));
        }
        records
    }

    /// A record of this ownership was read back: what rests on it is true now, in its order.
    pub(super) fn read_back(&mut self, n: u64) -> Vec<Rests> {
        let count = self.waiting.iter().take_while(|(number, _)| *number <= n).count();
        self.waiting.drain(..count).map(|(_, rests)| rests).collect()
    }

    /// Does what was allowed by [`Owner::read_back`] in the course of the exchange of messages.
    pub(super) fn allow(&mut self, rests: Rests, outputs: &mut VecDeque<Output>) {
        match rests {
            Rests::Produce(packet) => self.inbound.ready(packet),
            Rests::Will(number) => self.wills.iter_mut().filter(|will| will.number == number).for_each(WillRun::ready),
            _ => {
                let Some(connection) = self.connection else { return };
                outputs.extend(match rests {
                    Rests::Answer(ticket) => Some(Output::Answered(connection, ticket)),
                    Rests::Refused(packet) => Some(Output::Refused(connection, packet)),
                    Rests::PubComp(packet) => Some(Output::PubComp(connection, packet)),
                    Rests::PubRel(packet) => Some(Output::PubRel(connection, packet)),
                    Rests::Publish(packet) => {
                        let outgoing = self.body.steps.outbound.get(&packet);
                        outgoing.map(|outgoing| Output::Publish(connection, packet, outgoing.place))
                    }
                    _ => None,
                });
            }
        }
    }

    /// Lets something rest on the next record, unless the guard is left out.
    pub(super) fn rest(&mut self, guard: Guard, dirty: Dirty, rests: Rests, outputs: &mut VecDeque<Output>) {
        if keeps(guard) {
            self.wait(dirty, rests);
        } else {
            self.touch(dirty);
            self.allow(rests, outputs);
        }
    }

    /// Nothing is left to do in memory: what remains lies in the log.
    pub(super) fn is_idle(&self) -> bool {
        let quiet = self.dirty.is_none() && self.waiting.is_empty() && self.positions_due.is_none();
        quiet && self.phase == Phase::Live && !self.body.connected && self.body.will.is_none() && self.body.sending.is_empty()
    }
}
