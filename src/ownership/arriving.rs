//! A client comes and goes: whom it replaces, when it claims, what its end leaves.

use super::adopt::Before;
use super::claim::Claim;
use super::guard::{Guard, keeps};
use super::output::{ConnectionId, End, Offer, Output};
use super::owner::{Dirty, Owner, Phase};
use super::partition::Partition;
use super::record::Millis;
use crate::mqtt::ReasonCode;

#[cfg(test)]
thread_local! {
    /// How often a client was looked at that waits for its barrier, or for the log to be read.
    pub static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl Partition {
    /// A client wants to connect. `barrier` is the end of this partition, asked for after its CONNECT came (0 if Kafka is away and the
    /// client may be accepted all the same). Others are refused until the tail has been at the end once.
    pub fn connect(&mut self, connection: ConnectionId, client: &str, offer: Offer, barrier: i64, now: Millis) {
        // Before the tail is at the end for the first time there is no minute to keep: the own claim could be removed unread.
        let away = offer.is_throw_away() && barrier == 0;
        if self.lags(now) || self.at_end.is_none() && !away {
            let reason = ReasonCode::ServerUnavailable;
            return self.outputs.push_back(Output::Refuse { connection, reason });
        }
        let void = self.void(client);
        let succeeds = self.replace(client);
        self.claims += 1;
        let mut owner = Owner::new(client, self.claims, now);
        owner.connection = Some(connection);
        (owner.succeeds, owner.void) = (succeeds, void);
        let throw_away = offer.is_throw_away();
        owner.offer = Some(offer);
        self.connections.insert(connection, client.into());
        if throw_away {
            owner.phase = Phase::Barrier(barrier);
            owner.barrier = barrier;
            self.barred.insert((barrier, client.into()));
            self.owners.insert(client.into(), owner);
            self.pass_barriers(now);
        } else {
            self.owners.insert(client.into(), owner);
            self.claim(client, now);
        }
    }

    /// What a client whose CONNECT is never answered leaves to its next. That what was written for it means nothing is known to this instance alone: it
    /// cannot stand in the log, where it would also be said of those who were answered, until another record is there.
    fn void(&mut self, client: &str) -> Option<(i64, Before)> {
        let old = self.owners.get_mut(client)?;
        match old.phase {
            Phase::Adopting if !old.answered => Some((old.generation, std::mem::take(&mut old.before))),
            Phase::Barrier(_) | Phase::Claiming | Phase::Fetching(_) => old.void.take(),
            _ => None,
        }
    }

    /// The connection of this instance that has the client id ends, if there is one; what it knows is written before the new claim.
    fn replace(&mut self, client: &str) -> bool {
        let Some(old) = self.owners.get(client) else { return false };
        let connection = old.connection;
        if old.phase == Phase::Live {
            if old.positions_due.is_some()
                && let Some(old) = self.owners.get_mut(client)
            {
                old.touch(Dirty::Steps);
            }
            self.write(client);
        }
        self.forget(client);
        let reason = ReasonCode::SessionTakenOver;
        self.outputs
            .extend(connection.map(|connection| Output::Close { connection, reason }));
        true
    }

    fn claim(&mut self, client: &str, now: Millis) {
        let Some(owner) = self.owners.get_mut(client) else { return };
        owner.phase = Phase::Claiming;
        let mut claim = Claim::new(&self.settings.instance, owner.token, now);
        // An operator whose process dies behind such a claim would void what another owner hands on behind it, wills included; and it writes a state
        // of its own anyway.
        claim.fresh = owner.answered && !self.settings.operator && keeps(Guard::Floor);
        claim.operator = self.settings.operator;
        let record = match owner.bid {
            Some(of) if keeps(Guard::Bid) => claim.bid(client, of),
            _ => claim.record(client),
        };
        // Too large only with an instance id that the configuration does not allow.
        self.outputs.extend(record.ok().map(|record| Output::Append(vec![record])));
    }

    /// Claims a session whose last claim is at `of`, for nobody: it is treated as disconnected.
    pub(super) fn bid(&mut self, client: &str, of: i64, now: Millis) {
        self.claims += 1;
        let mut owner = Owner::new(client, self.claims, now);
        owner.bid = Some(of);
        self.owners.insert(client.into(), owner);
        self.claim(client, now);
    }

    /// Answers throw-away sessions whose barrier the tail has reached. Before the log was read once nothing is claimed: nobody would notice that
    /// the cleaner has removed the claim before it was read (no minute is counted yet), and wait for it for ever. Called with each record, so it looks
    /// at nobody who has to wait on.
    pub(super) fn pass_barriers(&mut self, now: Millis) {
        while self.barred.first().is_some_and(|(barrier, _)| *barrier <= self.position)
            && let Some((_, client)) = self.barred.pop_first()
        {
            self.pass_barrier(&client);
            self.unclaimed.insert(client);
        }
        if self.at_end.is_none() {
            return;
        }
        for client in std::mem::take(&mut self.unclaimed) {
            #[cfg(test)]
            LOOKED_AT.set(LOOKED_AT.get() + 1);
            let is_past = |owner: &Owner| matches!(owner.phase, Phase::Barrier(barrier) if barrier <= self.position);
            if self.owners.get(&client).is_some_and(is_past) {
                self.claim(&client, now);
            }
        }
    }

    /// The client is answered, if nothing of it is stored.
    fn pass_barrier(&mut self, client: &str) {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + 1);
        let stored = self.index.entry(client).is_some_and(|entry| entry.is_stored());
        let waits = |owner: &&mut Owner| matches!(owner.phase, Phase::Barrier(_)) && !owner.answered;
        let Some(owner) = self.owners.get_mut(client).filter(waits) else {
            return;
        };
        if let Some(connection) = owner.connection.filter(|_| !stored) {
            owner.answered = true;
            self.outputs.push_back(Output::Connected {
                connection,
                present: None,
                stored: false,
            });
        }
    }

    /// A connection has ended, whoever ended it.
    pub fn disconnected(&mut self, connection: ConnectionId, end: End, now: Millis) {
        let Some(client) = self.connections.remove(&connection) else {
            return;
        };
        let Some(owner) = self.owners.get_mut(&client).filter(|owner| owner.connection == Some(connection)) else {
            return;
        };
        owner.connection = None;
        match owner.phase {
            // Whom it has replaced may have claimed, and lives on in the log as connected: somebody must end that session. Before the log was
            // read once nobody claims.
            Phase::Barrier(_) if owner.succeeds && self.at_end.is_some() => {
                owner.offer = None;
                return self.claim(&client, now);
            }
            Phase::Barrier(_) => return self.forget(&client),
            Phase::Live => {
                owner.leave_the_tail(&self.checkpoints.last());
                owner.end_connection(end, now);
            }
            // The claim may still come true: then the session is ours, and disconnected.
            _ => owner.offer = None,
        }
        self.settle(&client, now);
        self.lags(now);
    }
}
