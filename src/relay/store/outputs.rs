//! What the machine of a partition wants done.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};

use super::{
    failure,
    kept::{self, Kept},
    order::Letter,
    task::{Errand, Task, now},
    wills,
};
use crate::{
    audit::cut,
    mqtt::ReasonCode,
    ownership::{ConnectionId, Fault, Message, Output, Pair, StoredWill, Tenure},
    relay::mailbox::Ending,
};

/// How long one record may be waited for before it makes room for others.
const FIRST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(32);

impl Task {
    /// What a task of its own has found out.
    pub(super) fn errand(&mut self, errand: Errand) {
        match errand {
            Errand::Fetched(serial, record) => self.fetched(serial, record.as_ref()),
            Errand::Routed(tenure, number, targets) => self.partition.will_routed(&tenure, number, targets, now()),
            Errand::Producer(tenure, will, (id, epoch)) => self.partition.producer_id(&tenure, will, id, epoch, now()),
            Errand::Produced(tenure, will, pair, outcome) => {
                self.partition.produced(&tenure, will, &pair, outcome, now());
            }
            Errand::Published(tenure, packet, pair, told) => self.produced(&tenure, packet, &pair, told),
        }
    }

    fn fetched(&mut self, serial: u64, record: Option<&Kept>) {
        let now = now();
        match record {
            Some(record) => record.lend(|record| self.partition.fetched(serial, Some(record), now)),
            None => self.partition.fetched(serial, None, now),
        }
    }

    /// Does all that is wanted, in order.
    pub(super) fn drain(&mut self) {
        loop {
            while let Some(output) = self.partition.poll() {
                self.obey(output);
            }
            let Some((serial, record)) = self.at_hand.pop_front() else { return };
            self.fetched(serial, record.as_ref());
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Append(records) => self.writer.push(records),
            Output::Fetch { serial, offset } => self.fetch(serial, offset),
            Output::Connected {
                connection,
                present,
                stored,
            } => {
                self.guests.entry(connection).and_modify(|guest| guest.stored = stored);
                self.send(connection, Letter::Connected { present, stored });
            }
            Output::Refuse { connection, reason } => self.refuse(connection, reason),
            Output::Unreadable { client, fault, replaced } => tell_of_unreadable(&client, fault, replaced),
            Output::Close { connection, reason } => self.close(connection, reason),
            Output::Answered(connection, ticket) => self.send(connection, Letter::Answered(ticket)),
            Output::RouteWill { tenure, number, will } => {
                let around = self.around.clone();
                self.errands.spawn(async move {
                    let targets = wills::targets(&around, &tenure.client, &will).await;
                    Errand::Routed(tenure, number, targets)
                });
            }
            Output::Reset => self.reset(),
            Output::ProducerId { tenure, will } => {
                let around = self.around.clone();
                self.errands
                    .spawn(async move { Errand::Producer(tenure, will, around.cluster.fresh_producer_id().await) });
            }
            Output::Produce {
                tenure,
                message: Message::Packet(packet),
                index,
                pair,
                doubt,
                ..
            } => self.produce(tenure, packet, index, (pair, doubt)),
            Output::Produce {
                tenure,
                message,
                index,
                pair,
                will: Some(will),
                ..
            } => self.produce_will(tenure, message, (index, pair), will),
            // The machine gives each will along.
            Output::Produce { will: None, .. } => {}
            Output::PubRec(connection, packet) => {
                failure::step("pubrec");
                self.published(connection, packet, false);
            }
            Output::Refused(connection, packet) => self.published(connection, packet, true),
            Output::PubComp(connection, packet) => {
                failure::step("pubcomp");
                self.send(connection, Letter::PubComp(packet));
            }
            Output::Publish(connection, packet, _) => {
                failure::step("publish");
                self.send(connection, Letter::Publish(packet));
            }
            Output::PubRel(connection, packet) => {
                failure::step("pubrel");
                self.send(connection, Letter::PubRel(packet));
            }
        }
    }

    fn fetch(&mut self, serial: u64, offset: i64) {
        if let Some(kept) = self.latest.find(offset) {
            return self.at_hand.push_back((serial, Some(kept.clone())));
        }
        let (around, topic, partition) = (self.around.clone(), self.tail.topic.clone(), self.tail.partition);
        self.errands.spawn(async move {
            let mut hold = FIRST_HOLD;
            loop {
                let permit = around.fetches.acquire().await;
                let fetched = timeout(hold, kept::fetch(around.cluster.clone(), topic.clone(), partition, offset)).await;
                match fetched {
                    Ok(record) => return Errand::Fetched(serial, record),
                    // Its partition may have no leader: those of others go before it. Longer each time, for Kafka may only be slow.
                    Err(_) => hold = (2 * hold).min(LONGEST_HOLD),
                }
                drop(permit);
            }
        });
    }

    fn refuse(&self, connection: ConnectionId, reason: ReasonCode) {
        if let Some(guest) = self.guests.get(&connection) {
            tracing::warn!(
                client = &*cut(&guest.client),
                reason = reason.name(),
                "a stored session is refused: its record is damaged or of a later version, or it has outgrown a record, or its partition is read anew"
            );
        }
        self.send(connection, Letter::Refuse(reason));
    }

    /// A letter to a connection.
    pub(super) fn send(&self, connection: ConnectionId, letter: Letter) {
        if let Some(guest) = self.guests.get(&connection) {
            guest.mailbox.store(letter);
        }
    }

    pub(super) fn close(&self, connection: ConnectionId, reason: ReasonCode) {
        match self.guests.get(&connection) {
            Some(guest) if reason == ReasonCode::SessionTakenOver => guest.mailbox.end(Ending::TakenOver),
            Some(guest) if reason == ReasonCode::AdministrativeAction => {
                tracing::info!(
                    client = &*cut(&guest.client),
                    "an operator ends a session: its client is disconnected"
                );
                guest.mailbox.end(Ending::ByOperator);
            }
            // Nothing of it is in the log, so nothing is lost with that.
            Some(guest) if !guest.stored && reason == ReasonCode::ServerUnavailable => {}
            _ => self.send(connection, Letter::Close(reason)),
        }
    }

    fn produce_will(&mut self, tenure: Tenure, message: Message, (index, pair): (usize, Pair), will: Box<StoredWill>) {
        let around = self.around.clone();
        let pairs = self.partition.pairs(&tenure, message).to_vec();
        self.errands.spawn(async move {
            let outcome = wills::produce(&around, &tenure.client, &will, index, &pairs).await;
            Errand::Produced(tenure, message, pair, outcome)
        });
    }

    fn reset(&mut self) {
        self.loosen();
        self.writer.clear();
        // Not `abort_all`: each that was aborted would still be waited for, in front of all that begin from here on.
        self.errands = JoinSet::new();
        self.at_hand.clear();
        self.latest.clear();
        self.clocks.forget();
        self.is_there = false;
        self.tail.restart(self.tail.topic.clone());
        // Those that were being let in are refused by the machine; who waits still waits.
        self.waiting.iter_mut().for_each(|waiting| {
            if let Some(question) = &mut waiting.question {
                *question = self.tail.number + 1;
            }
        });
    }
}

fn tell_of_unreadable(client: &str, fault: Fault, replaced: bool) {
    if replaced {
        tracing::warn!(client = &*cut(client), why = %fault, "a stored session cannot be read, and a fresh one takes its place (sessions.damaged)");
    } else {
        tracing::warn!(client = &*cut(client), why = %fault, "a stored session cannot be read; it stays as it is, and its client is refused");
    }
}
