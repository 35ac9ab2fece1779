//! What connections and Kafka tell a partition in the course of the exchange of messages. Each goes to its owner, if that still owns.

use std::collections::VecDeque;

use super::output::{ConnectionId, Message, Outcome, Output, Targets, Tenure};
use super::owner::{Owner, Phase};
use super::partition::Partition;
use super::record::Millis;
use super::state::StoredSubscription;
use super::text::{Pair, Place, Source};
use super::walk::Walk;

impl Partition {
    /// Whether anything of a client is stored, as far as the tail has read, or somebody here owns it.
    pub fn knows(&self, client: &str) -> bool {
        self.owners.contains_key(client)
            || self
                .index
                .entry(client)
                .is_some_and(|entry| entry.is_stored() || entry.is_between())
    }

    /// Whether anything is still to be written, read back or sent of a session that this instance owns, or its client is there.
    pub fn owns_any(&self) -> bool {
        !self.owners.is_empty()
    }

    /// The connection of an ownership, as long as it is the same.
    pub fn connection_of(&self, tenure: &Tenure) -> Option<ConnectionId> {
        let same = |owner: &&Owner| owner.generation == tenure.claim && owner.phase == Phase::Live;
        self.owners.get(&tenure.client).filter(same)?.connection
    }

    /// What is written down of a message that is on its way into Kafka, as long as the ownership is the same.
    pub fn pairs(&self, tenure: &Tenure, message: Message) -> &[Pair] {
        let same = |owner: &&Owner| owner.generation == tenure.claim;
        let owner = self.owners.get(&tenure.client).filter(same);
        owner.map_or(&[], |owner| owner.pairs(message))
    }

    fn on(&mut self, connection: ConnectionId, now: Millis, act: impl FnOnce(&mut Owner, &mut VecDeque<Output>)) {
        if self.lags(now) {
            return;
        }
        let Some(client) = self.connections.get(&connection).cloned() else {
            return;
        };
        let live = |owner: &&mut Owner| owner.connection == Some(connection) && owner.phase == Phase::Live;
        if let Some(owner) = self.owners.get_mut(&client).filter(live) {
            act(owner, &mut self.outputs);
            self.settle(&client, now);
        }
    }

    fn during(&mut self, tenure: &Tenure, now: Millis, act: impl FnOnce(&mut Owner, &mut VecDeque<Output>)) {
        if self.lags(now) {
            return;
        }
        let same = |owner: &&mut Owner| owner.generation == tenure.claim && owner.phase == Phase::Live;
        if let Some(owner) = self.owners.get_mut(&tenure.client).filter(same) {
            act(owner, &mut self.outputs);
            self.settle(&tenure.client, now);
        }
    }

    /// A PUBLISH of QoS 2 that makes a record in each of `targets`, by the rules of the moment; ignored where pairs are known.
    pub fn publish(&mut self, connection: ConnectionId, packet: u16, targets: Targets, now: Millis) {
        self.on(connection, now, |owner, outputs| {
            owner.publish(connection, packet, targets, outputs);
        });
    }

    /// A PUBREL.
    pub fn pubrel(&mut self, connection: ConnectionId, packet: u16, now: Millis) {
        self.on(connection, now, |owner, outputs| owner.pubrel(connection, packet, outputs));
    }

    /// A QoS 2 message is to be sent with a packet id that is free.
    pub fn send(&mut self, connection: ConnectionId, packet: u16, place: Place, now: Millis) {
        self.on(connection, now, |owner, outputs| owner.send(packet, place, None, outputs));
    }

    /// The same of a message that came by a shared subscription, as a filter. False: the connection owns no session any more.
    pub fn send_shared(&mut self, connection: ConnectionId, packet: u16, place: Place, share: &str, now: Millis) -> bool {
        let mut is_taken = false;
        self.on(connection, now, |owner, outputs| {
            owner.send(packet, place, Some(share.into()), outputs);
            is_taken = true;
        });
        is_taken
    }

    /// A QoS 1 message was sent with a packet id that was free.
    pub fn sent(&mut self, connection: ConnectionId, packet: u16, place: Place, now: Millis) {
        self.on(connection, now, |owner, _| owner.sent(packet, place, now));
    }

    /// PUBREC without an error.
    pub fn pubrec(&mut self, connection: ConnectionId, packet: u16, now: Millis) {
        self.on(connection, now, |owner, outputs| owner.pubrec(connection, packet, outputs));
    }

    /// PUBACK, PUBCOMP, PUBREC with an error, or the record of an open message is gone.
    pub fn settled(&mut self, connection: ConnectionId, packet: u16, now: Millis) {
        self.on(connection, now, |owner, _| owner.settled(packet, now));
    }

    /// Everything of a source below `offset` was sent or is not wanted. Messages that are open are known by [`Partition::send`] and
    /// [`Partition::sent`] before.
    pub fn position(&mut self, connection: ConnectionId, source: Source, offset: i64, now: Millis) {
        let settled = self.checkpoints.last();
        self.on(connection, now, |owner, _| owner.position(source, offset, &settled, now));
    }

    /// A walk over the retained messages of a filter has come so far, or (`None`) is over. What was sent of it is known by [`Partition::send`] and
    /// [`Partition::sent`] before.
    pub fn walked(&mut self, connection: ConnectionId, filter: Box<str>, walk: Option<Walk>, now: Millis) {
        self.on(connection, now, |owner, _| owner.walked(filter, walk, now));
    }

    /// The log of a source was cut off at `end`: no subscription starts behind that. How far the client is there is told apart.
    pub fn cut_off(&mut self, connection: ConnectionId, source: Source, end: i64, now: Millis) {
        self.on(connection, now, |owner, _| owner.cut_off(source, end));
    }

    /// A SUBSCRIBE was granted; what has the same filter is replaced. Positions of new sources are told before.
    pub fn subscribe(&mut self, connection: ConnectionId, ticket: u32, granted: Vec<StoredSubscription>, now: Millis) {
        self.on(connection, now, |owner, outputs| owner.subscribe(ticket, granted, outputs));
    }

    /// An UNSUBSCRIBE.
    pub fn unsubscribe(&mut self, connection: ConnectionId, ticket: u32, filters: &[&str], now: Millis) {
        self.on(connection, now, |owner, outputs| owner.unsubscribe(ticket, filters, outputs));
    }

    /// A producer id that nobody has used, as asked for.
    pub fn producer_id(&mut self, tenure: &Tenure, will: Option<u64>, producer: i64, epoch: i16, now: Millis) {
        self.during(tenure, now, |owner, outputs| match will {
            Some(number) => owner.will_id(number, producer, epoch, outputs),
            None => {
                owner.inbound.new_id(producer, epoch);
                owner.pump(outputs);
            }
        });
    }

    /// Kafka's answer to what was produced by a pair; false if nobody waits for it any more.
    pub fn produced(&mut self, tenure: &Tenure, message: Message, pair: &Pair, outcome: Outcome, now: Millis) -> bool {
        let mut awaited = false;
        self.during(tenure, now, |owner, outputs| {
            awaited = match message {
                Message::Packet(packet) => owner.produced(packet, pair, outcome, outputs),
                Message::Will(number) => owner.will_produced(number, pair, outcome, now),
            };
        });
        awaited
    }

    /// Where a will goes; nowhere if no rule maps it any more.
    pub fn will_routed(&mut self, tenure: &Tenure, number: u64, targets: Targets, now: Millis) {
        self.during(tenure, now, |owner, outputs| owner.will_routed(number, targets, outputs));
    }
}
