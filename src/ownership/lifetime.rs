//! An owner's session over time: adopted, subscribed, disconnected, over.

use std::collections::VecDeque;

use super::adopt::{Adopted, adopt};
use super::checkpoints::Known;
use super::guard::{Guard, keeps};
use super::output::{End, Output};
use super::owner::{Dirty, Fetching, Owner, Phase, Rests};
use super::partition::Partition;
use super::record::{Millis, Record};
use super::state::{Body, NEVER, State, StateHead, StoredSubscription};
use super::steps::Steps;
use super::text::Source;
use super::{Fault, Key};
use crate::mqtt::ReasonCode;

/// How far the clocks of two instances may lie apart.
const UNEVEN: Millis = 60_000;

impl Partition {
    /// The own claim was read: what was written before it is what is found.
    pub(super) fn look_for_session(&mut self, client: &str, now: Millis) {
        let entry = self.index.entry(client).copied();
        let Some(owner) = self.owners.get_mut(client) else { return };
        owner.older = entry.and_then(|entry| entry.generation());
        let Some(entry) = entry.filter(|entry| entry.is_stored()) else {
            return self.adopt(client, None, now);
        };
        let fetching = Fetching {
            state_at: entry.state().unwrap_or_default(),
            steps_at: entry.steps(),
            checkpoints: self.known.clone(),
            ..Fetching::default()
        };
        let offsets = [Some(fetching.state_at), fetching.steps_at];
        let tenure = owner.tenure();
        owner.phase = Phase::Fetching(Box::new(fetching));
        for offset in offsets.into_iter().flatten() {
            self.serial += 1;
            self.fetching.insert(self.serial, tenure.clone());
            let serial = self.serial;
            self.outputs.push_back(Output::Fetch { serial, offset });
        }
    }

    /// The answer to [`Output::Fetch`]; `None` if the offset holds no record any more.
    pub fn fetched(&mut self, serial: u64, record: Option<&Record<'_>>, now: Millis) {
        if self.lags(now) {
            return;
        }
        let Some(tenure) = self.fetching.remove(&serial) else {
            return self.looked(serial, record, now);
        };
        let client = &tenure.client;
        let Some(owner) = self.owners.get_mut(client).filter(|owner| owner.generation == tenure.claim) else {
            return;
        };
        let Phase::Fetching(fetching) = &mut owner.phase else { return };
        let taken = record.ok_or(Fault::Damaged("a record that is gone"));
        match taken.and_then(|record| fetching.take(record, client)) {
            Ok(None) => {}
            Ok(Some(Found { body: None, .. })) => self.adopt(client, None, now),
            Ok(Some(Found {
                body: Some(mut body),
                at,
                writer,
                checkpoints,
            })) => {
                let checkpoints = if keeps(Guard::CheckpointBeforeClaim) {
                    &checkpoints
                } else {
                    &self.known
                };
                checkpoints.speak(&writer, at, &mut body.steps);
                self.adopt(client, Some(body), now);
            }
            Err(fault) => self.damaged(client, fault, now),
        }
    }

    /// A session that cannot be read. By default it stays as it is, for a build that can.
    fn damaged(&mut self, client: &str, fault: Fault, now: Millis) {
        let replaced = self.settings.fresh_if_damaged;
        let client_id = client.into();
        self.outputs.push_back(Output::Unreadable {
            client: client_id,
            fault,
            replaced,
        });
        if replaced {
            return self.adopt(client, None, now);
        }
        let connection = self.owners.get(client).and_then(|owner| owner.connection);
        self.index.mark_unreadable(client);
        self.forget(client);
        let reason = ReasonCode::ServerUnavailable;
        self.outputs
            .extend(connection.map(|connection| Output::Refuse { connection, reason }));
    }

    fn adopt(&mut self, client: &str, found: Option<Box<Body>>, now: Millis) {
        let Some(owner) = self.owners.get_mut(client) else { return };
        if found.as_deref().is_some_and(|body| owner.is_outrun_by(body))
            && let Some(connection) = owner.connection.take()
        {
            self.connections.remove(&connection);
            let reason = ReasonCode::SessionTakenOver;
            self.outputs.push_back(Output::Close { connection, reason });
        }
        owner.offer = owner.offer.take().filter(|_| owner.connection.is_some());
        let mut found = found.map(|body| *body);
        if let (Some((claim, before)), Some(body)) = (owner.void.take(), &mut found)
            && owner.older == Some(claim)
            && body.connected
        {
            before.restore(body);
        }
        let Adopted { body, present, before } = adopt(found, owner.offer.as_ref(), now);
        (owner.body, owner.before) = (body, before);
        owner.phase = Phase::Adopting;
        if owner.answered {
            // The client knows already. Nothing of this session is stored, unless there was one to be overwritten.
            let nothing = owner.older.is_none() && owner.connection.is_some();
            if nothing {
                owner.phase = Phase::Live;
                return self.settle(client, now);
            }
        }
        if keeps(Guard::ConnAckAfterOwnState) {
            owner.wait(Dirty::State, Rests::ConnAck { present });
        } else {
            owner.touch(Dirty::State);
            Self::adopted(owner, present, now, &mut self.outputs);
        }
        self.settle(client, now);
    }
}

/// The session that was found.
struct Found {
    /// `None`: it is over.
    body: Option<Box<Body>>,
    /// Offset of the last record that says where it stands.
    at: i64,
    /// The instance that wrote it.
    writer: Box<str>,
    checkpoints: Known,
}

impl Fetching {
    /// Takes one of the bodies; with the last the session is complete.
    fn take(&mut self, record: &Record<'_>, client: &str) -> Result<Option<Found>, Fault> {
        let value = record.value.ok_or(Fault::Damaged("a state without a value"))?;
        match Key::parse(record.key)? {
            Key::State(owner, _) if owner == client && record.offset == self.state_at => {
                self.state = Some(State::parse(value)?);
                self.writer = StateHead::parse(record)?.owner.into();
            }
            Key::Steps(owner, _) if owner == client && Some(record.offset) == self.steps_at => self.steps = Some(Steps::parse(value)?),
            // Two clients with one hash, or an index that is wrong: either way this is not the session.
            _ => return Err(Fault::Damaged("another client's record")),
        }
        if self.state.is_none() || self.steps.is_some() != self.steps_at.is_some() {
            return Ok(None);
        }
        let mut found = Found {
            body: None,
            at: self.state_at,
            writer: std::mem::take(&mut self.writer),
            checkpoints: std::mem::take(&mut self.checkpoints),
        };
        if let Some((state_n, State::Goes(mut body))) = self.state.take() {
            if let Some((_, steps)) = self.steps.take().filter(|(n, _)| *n > state_n) {
                body.steps = steps;
                found.at = self.steps_at.unwrap_or(found.at);
            }
            found.body = Some(body);
        }
        Ok(Some(found))
    }
}

impl Owner {
    /// Whether a session that a throw-away one finds behind its claim may be younger than its CONNECT. It discards those that are older. But its
    /// claim comes behind its CONNACK, and what follows that must not cost a session: the client leaves, unnoticed, and makes a session
    /// elsewhere; that is claimed, and its client told; then our claim arrives. So the session stays, as after any other end, and both connections are
    /// told that there is another; the client that lives comes again, and its claim decides.
    fn is_outrun_by(&self, found: &Body) -> bool {
        // What has been stored before its CONNECT it has seen, and has not been answered at once.
        let connected_at = self.body.since;
        self.answered
            && match self.barrier {
                0 => found.since + UNEVEN >= connected_at,
                barrier => self.older.is_some_and(|generation| generation >= barrier),
            }
    }

    pub(super) fn subscribe(&mut self, ticket: u32, granted: Vec<StoredSubscription>, outputs: &mut VecDeque<Output>) {
        for subscription in granted {
            let mut known = self.body.subscriptions.iter_mut();
            match known.find(|known| known.filter == subscription.filter) {
                Some(known) => *known = subscription,
                None => self.body.subscriptions.push(subscription),
            }
        }
        self.rest(Guard::SubAckAfterReadBack, Dirty::State, Rests::Answer(ticket), outputs);
    }

    pub(super) fn unsubscribe(&mut self, ticket: u32, filters: &[&str], outputs: &mut VecDeque<Output>) {
        self.body.subscriptions.retain(|known| !filters.contains(&&*known.filter));
        self.body.steps.walks.retain(|filter, _| !filters.contains(&&**filter));
        self.rest(Guard::UnsubAckAfterReadBack, Dirty::State, Rests::Answer(ticket), outputs);
    }

    /// A log was cut off: what is written there from `end` on is for all subscriptions.
    pub(super) fn cut_off(&mut self, source: Source, end: i64) {
        let starts = self.body.subscriptions.iter_mut();
        for start in starts.filter_map(|subscription| subscription.starts.get_mut(&source)) {
            if *start > end {
                *start = end;
                self.dirty = self.dirty.max(Some(Dirty::State));
            }
        }
    }

    /// The connection of a live session is gone.
    pub(super) fn end_connection(&mut self, end: End, now: Millis) {
        self.body.connected = false;
        self.body.since = now;
        if end != End::Refused {
            self.body.left = None;
        }
        if matches!(end, End::Goodbye { .. }) || end == End::Shutdown && !keeps(Guard::WillsOutliveShutdown) {
            self.body.will = None;
        }
        if let End::Goodbye { expiry: Some(expiry) } | End::Lost { expiry: Some(expiry) } = end {
            self.body.expiry = expiry;
        }
        if end == End::Refused {
            std::mem::take(&mut self.before).restore(&mut self.body);
        }
        self.inbound = Default::default();
        self.touch(Dirty::State);
        if end != End::Shutdown {
            self.pass(now);
        }
    }

    /// What time alone brings about.
    pub(super) fn pass(&mut self, now: Millis) {
        if self.positions_due.is_some_and(|at| at <= now) {
            self.positions_due = None;
            self.touch(Dirty::Steps);
        }
        if self.will_due().is_some_and(|at| at <= now) {
            self.will_is_due();
        }
    }

    /// The will is due after its delay or with the session's end, whichever comes first.
    fn will_due(&self) -> Option<Millis> {
        let will = self
            .body
            .will
            .as_ref()
            .filter(|_| self.phase == Phase::Live && !self.body.connected)?;
        let delay = self.body.since + u64::from(will.delay) * 1000;
        Some(self.body.expires_at().map_or(delay, |end| end.min(delay)))
    }

    /// Ends a session whose time is over, when its wills are sent.
    pub(super) fn end_if_over(&mut self, now: Millis) {
        let over = self.body.expires_at().is_some_and(|at| at <= now) && self.body.expiry != NEVER;
        if self.phase != Phase::Live || !over || self.body.will.is_some() || !self.body.sending.is_empty() {
            return;
        }
        self.phase = Phase::Ending;
        self.body.since = now;
        self.waiting.clear();
        self.wait(Dirty::State, Rests::End);
    }

    /// When [`Owner::pass`] has something to do, if ever.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        [self.positions_due, self.will_due(), self.wills_again_at()]
            .into_iter()
            .flatten()
            .min()
    }
}
