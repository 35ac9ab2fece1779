//! One instance's side of one partition of `mqtt-sessions`: the index of all sessions in it, and the owners of its own.
//!
//! One input, then drain [`Partition::poll`]. Every input carries the time; an instance whose tail has not been at the end for longer than
//! a minute gives everything up before it looks at the input (see [`Output::Reset`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::change::Change;
use super::checkpoints::{Checkpoints, Known};
use super::claim::ClaimHead;
use super::custodian::Custodian;
use super::guard::{Guard, keeps};
use super::index::Index;
use super::output::{ConnectionId, End, Output, Tenure};
use super::owner::{Owner, Phase, Rests};
use super::record::{Millis, Record};
use crate::mqtt::ReasonCode;

/// Longest time the own tail may be away from the end of the log. Nothing younger than ten minutes may be compacted, so it does no harm that a
/// clock which is set back by less than this stretches it once.
const MINUTE: Millis = 60_000;

/// How an instance treats its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This run of this process; no other has had it or will have it.
    pub instance: Box<str>,
    /// What a client gets whose session cannot be read: a fresh one, or 0x88.
    pub fresh_if_damaged: bool,
    /// It claims at an operator's word, to end sessions.
    pub operator: bool,
}

/// See the head of the file.
pub struct Partition {
    pub(super) settings: Settings,
    pub(super) index: Index,
    pub(super) owners: BTreeMap<Box<str>, Owner>,
    pub(super) connections: BTreeMap<ConnectionId, Box<str>>,
    /// Clients of throw-away sessions whose barrier the tail has not reached, in the order of those.
    pub(super) barred: BTreeSet<(i64, Box<str>)>,
    /// Those whose barrier it has reached, until the log was read once.
    pub(super) unclaimed: BTreeSet<Box<str>>,
    pub(super) custodian: Custodian,
    pub(super) outputs: VecDeque<Output>,
    /// The last checkpoint of each instance.
    pub(super) known: Known,
    /// Those of this one.
    pub(super) checkpoints: Checkpoints,
    /// Owners whose records are to be written at the next poll.
    pub(super) dirty: BTreeSet<Box<str>>,
    timetable: BTreeSet<(Millis, Box<str>)>,
    /// Owners that wait for a body, by the serial number of the question.
    pub(super) fetching: BTreeMap<u64, Tenure>,
    pub(super) serial: u64,
    /// Claims written.
    pub(super) claims: u64,
    /// Wills numbered.
    wills: u64,
    /// The next offset to be read.
    pub(super) position: i64,
    /// Where the tail was when everything was given up last.
    given_up_at: i64,
    /// When the tail was at the end of the log last; `None` before it first was.
    pub(super) at_end: Option<Millis>,
}

impl Partition {
    /// Nothing is read yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            index: Index::default(),
            owners: BTreeMap::new(),
            connections: BTreeMap::new(),
            barred: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
            custodian: Custodian::default(),
            outputs: VecDeque::new(),
            known: Known::default(),
            checkpoints: Checkpoints::default(),
            dirty: BTreeSet::new(),
            timetable: BTreeSet::new(),
            fetching: BTreeMap::new(),
            serial: 0,
            claims: 0,
            wills: 0,
            position: 0,
            given_up_at: 0,
            at_end: None,
        }
    }

    /// All sessions of the partition, as far as the tail has read.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What is wanted next, in order; `None` when all is taken. Snapshots are written only here: what one drain finds is one record.
    pub fn poll(&mut self) -> Option<Output> {
        while self.outputs.is_empty() {
            let client = self.dirty.pop_first()?;
            self.write(&client);
        }
        self.outputs.pop_front()
    }

    /// When [`Partition::tick`] is due next, if ever; the custodian's walk aside, which wants a tick each second.
    pub fn deadline(&self) -> Option<Millis> {
        let lag = self.at_end.map(|at| at + MINUTE + 1);
        self.timetable.first().map(|(at, _)| *at).into_iter().chain(lag).min()
    }

    /// Gives everything up if the tail lags, or the clock proves nothing of that; true if so.
    ///
    /// A clock that counts on whoever sets it (`Instant`) is no help: it stands still while a machine is suspended. That a machine was, looks like a
    /// clock that was set forward, so this is taken for that. One that was set back would have the minute end too late, by as much.
    pub(super) fn lags(&mut self, now: Millis) -> bool {
        let lags = self.at_end.is_some_and(|at| now.abs_diff(at) > MINUTE);
        if lags && keeps(Guard::Minute) {
            self.step_down();
        }
        lags && keeps(Guard::Minute)
    }

    /// Closes all clients of stored sessions and forgets everything: the tail lags, or Kafka's group coordinator cannot be reached.
    ///
    /// What follows that an owner must not sleep through: the cleaner removes the foreign claim at 2 in favour of a later one at 5; the
    /// sleeper finds its own pair at 4 "without a claim before it", and produces what another produces by another pair.
    pub fn step_down(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        let settings = self.settings.clone();
        // Numbers go on: an own claim from before must not be taken for a new one.
        let (serial, claims, wills) = (self.serial, self.claims, self.wills);
        let custodian = std::mem::take(&mut self.custodian).afresh();
        let checkpoints = std::mem::take(&mut self.checkpoints).afresh();
        let given_up_at = self.position;
        *self = Self::new(settings);
        self.given_up_at = given_up_at;
        self.checkpoints = checkpoints;
        (self.serial, self.claims, self.wills, self.custodian) = (serial, claims, wills, custodian);
        let reason = ReasonCode::ServerUnavailable;
        let close = |connection| Output::Close { connection, reason };
        self.outputs.extend(connections.into_keys().map(close));
        self.outputs.push_back(Output::Reset);
    }

    /// Where the tail was when everything was given up last: claims before that were acted on.
    pub fn given_up_at(&self) -> i64 {
        self.given_up_at
    }

    /// The next record of the partition, in log order.
    pub fn read(&mut self, record: &Record<'_>, now: Millis) {
        if self.lags(now) {
            return;
        }
        self.position = record.offset + 1;
        let change = self.index.read(record);
        self.custodian.notice(&change, now);
        self.checkpoints.notice(&change, record.offset);
        match change {
            Change::Claimed(client, head) => self.claimed(client, head, record.offset, now),
            Change::VoidBid(client, of) => {
                let void = |owner: &&Owner| owner.bid == Some(of) && owner.phase == Phase::Claiming;
                if self.owners.get(client).filter(void).is_some() {
                    self.forget(client);
                }
            }
            Change::State(client, claim, Some(n), _) | Change::Steps(client, claim, n) => self.read_back(client, claim, n, now),
            Change::Checkpoint(instance) => self.known.read(instance, record),
            _ => {}
        }
        self.pass_barriers(now);
        self.walk_on(now);
    }

    /// The tail has read everything below `end`, which was the end of the log when it asked at `asked`: each time later than before, whatever the
    /// clock says.
    pub fn at_end(&mut self, end: i64, asked: Millis, now: Millis) {
        if self.lags(now) {
            return;
        }
        self.position = self.position.max(end);
        self.custodian.caught_up(self.at_end.is_none(), self.position);
        self.at_end = Some(asked);
        self.pass_barriers(now);
    }

    /// Somebody owns the client from now on.
    fn claimed(&mut self, client: &str, head: Option<ClaimHead<'_>>, offset: i64, now: Millis) {
        let instance = &self.settings.instance;
        let Some(owner) = self.owners.get_mut(client) else { return };
        let own = head.is_some_and(|head| *head.owner == **instance && head.n == owner.token);
        match owner.phase {
            Phase::Claiming if own => {
                owner.generation = offset;
                self.look_for_session(client, now);
            }
            // The own claim is still to come, and of two the later wins.
            Phase::Claiming | Phase::Barrier(_) => {}
            _ if !keeps(Guard::StopAtForeignClaim) => {}
            _ => {
                let connection = owner.connection;
                self.forget(client);
                let reason = match head.is_some_and(|head| head.operator) {
                    true => ReasonCode::AdministrativeAction,
                    false => ReasonCode::SessionTakenOver,
                };
                self.outputs
                    .extend(connection.map(|connection| Output::Close { connection, reason }));
            }
        }
    }

    fn read_back(&mut self, client: &str, claim: i64, n: u64, now: Millis) {
        let Some(owner) = self.owners.get_mut(client).filter(|owner| owner.key_claim() == claim) else {
            return;
        };
        let mut over = false;
        for rests in owner.read_back(n) {
            match rests {
                Rests::ConnAck { present } => Self::adopted(owner, present, now, &mut self.outputs),
                Rests::End => over = true,
                other => owner.allow(other, &mut self.outputs),
            }
        }
        if over {
            return self.forget(client);
        }
        owner.pump(&mut self.outputs);
        self.settle(client, now);
    }

    /// The own state is read back: the session is ours, and the client may know.
    pub(super) fn adopted(owner: &mut Owner, present: bool, now: Millis, outputs: &mut VecDeque<Output>) {
        owner.phase = Phase::Live;
        match owner.connection {
            Some(_) if owner.answered => {}
            Some(connection) => outputs.push_back(Output::Connected {
                connection,
                present: present.then(|| Box::new(owner.body.clone())),
                stored: true,
            }),
            // The client has gone before it was answered.
            None if owner.body.connected => owner.end_connection(End::Refused, now),
            None => {}
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Millis) {
        if self.lags(now) {
            return;
        }
        // Each once: what is due again at once waits for the next tick.
        let later = self.timetable.split_off(&(now + 1, "".into()));
        for (_, client) in std::mem::replace(&mut self.timetable, later) {
            let Some(owner) = self.owners.get_mut(&client) else { continue };
            owner.deadline = None;
            owner.pass(now);
            self.settle(&client, now);
        }
        self.look_after(now);
    }

    /// After every change of an owner: wills, the end, what is to be written, and when it is to be looked at again.
    pub(super) fn settle(&mut self, client: &str, now: Millis) {
        let Some(owner) = self.owners.get_mut(client) else { return };
        owner.send_wills(&mut self.wills, now, &mut self.outputs);
        owner.end_if_over(now);
        if owner.is_idle() {
            return self.forget(client);
        }
        if owner.dirty.is_some() {
            self.dirty.insert(client.into());
        }
        let due = owner.next_deadline();
        if owner.deadline != due {
            if let Some(at) = owner.deadline {
                self.timetable.remove(&(at, client.into()));
            }
            owner.deadline = due;
            self.timetable.extend(due.map(|at| (at, client.into())));
        }
    }

    /// Wants the records of an owner written.
    pub(super) fn write(&mut self, client: &str) {
        let Some(owner) = self.owners.get_mut(client) else { return };
        match owner.records(&self.settings.instance, &self.checkpoints.last()) {
            Ok(records) if records.is_empty() => {}
            Ok(records) => self.outputs.push_back(Output::Append(records)),
            Err(_) => self.outgrown(client),
        }
    }

    /// A session that no longer fits into a record: the client is told, and the session goes on as it was written last. If that does not
    /// fit either, it stays as it is, for a build that can.
    fn outgrown(&mut self, client: &str) {
        let Some(owner) = self.owners.get(client) else { return };
        let (connection, claim, live) = (owner.connection, owner.generation, owner.phase == Phase::Live);
        let now = owner.body.since;
        self.forget(client);
        if connection.is_none() && !live {
            return self.index.mark_unreadable(client);
        }
        let reason = ReasonCode::QuotaExceeded;
        self.outputs.extend(connection.map(|connection| match live {
            true => Output::Close { connection, reason },
            false => Output::Refuse { connection, reason },
        }));
        self.bid(client, claim, now);
    }

    /// Forgets an owner; what was not written is lost.
    pub(super) fn forget(&mut self, client: &str) {
        let Some(owner) = self.owners.remove(client) else { return };
        self.checkpoints.hold(&owner);
        if let Some(at) = owner.deadline {
            self.timetable.remove(&(at, client.into()));
        }
        self.dirty.remove(client);
        if let Phase::Barrier(barrier) = owner.phase {
            self.barred.remove(&(barrier, client.into()));
            self.unclaimed.remove(client);
        }
        if let Some(connection) = owner.connection {
            self.connections.remove(&connection);
        }
    }
}
