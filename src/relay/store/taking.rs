//! What connections and the group of instances order of a partition's task.

use std::collections::HashMap;

use super::{
    failure,
    order::{Arrival, Letter, Order, Report},
    task::{Guest, Task, Waiting, now},
};
use crate::{
    mqtt::ReasonCode,
    ownership::{ConnectionId, Millis, Offer},
};

/// Orders taken before the tail has its turn again.
const ORDERS: usize = 256;

impl Task {
    pub(super) fn take_orders(&mut self, first: Order) {
        self.take_order(first);
        for _ in 1..ORDERS {
            let Ok(order) = self.orders.try_recv() else { return };
            self.take_order(order);
        }
    }

    fn take_order(&mut self, order: Order) {
        let now = now();
        match order {
            Order::Connect(arrival) => self.arrival(arrival),
            Order::Ended(id, end, report) => {
                self.waiting.retain(|waiting| waiting.arrival.id() != id);
                self.report(id, report, now);
                self.partition.disconnected(id, end, now);
                if let Some(guest) = self.guests.remove(&id) {
                    self.forget_loose(&guest.client, id);
                }
            }
            Order::Report(id, report) => self.report(id, report, now),
            Order::Subscribe(id, ticket, granted, report) => {
                self.report(id, report, now);
                self.partition.subscribe(id, ticket, granted, now);
            }
            Order::Unsubscribe(id, ticket, filters) => {
                let filters: Vec<&str> = filters.iter().map(|filter| &**filter).collect();
                self.partition.unsubscribe(id, ticket, &filters, now);
            }
            Order::Publish(id, packet, records) => {
                failure::step("publish_taken");
                self.publish(id, packet, records);
            }
            Order::PubRel(id, packet) => {
                failure::step("pubrel_taken");
                self.partition.pubrel(id, packet, now);
            }
            Order::Send(id, packet, place, report) => {
                failure::step("send_taken");
                self.report(id, report, now);
                self.partition.send(id, packet, place, now);
            }
            Order::SendShared(id, packet, place, lent, report) => {
                failure::step("send_taken");
                self.report(id, report, now);
                self.lend(id, (packet, place), lent, now);
            }
            Order::PubRec(id, packet) => {
                failure::step("pubrec_taken");
                self.partition.pubrec(id, packet, now);
            }
            Order::Members(members) => self.partition.members(members, now),
            Order::Member => self.join(),
            // Until it is a member again, the others would take for an orphan's what it claims.
            Order::StepDown => {
                self.is_member = false;
                self.step_down("the coordinator of the group of instances is not reached");
            }
            Order::Flush(flush) => self.flushes.push(flush),
        }
    }

    fn report(&mut self, id: ConnectionId, report: Report, now: Millis) {
        for (source, end) in report.cut {
            self.partition.cut_off(id, source, end, now);
        }
        for packet in report.settled {
            failure::step("settled");
            self.partition.settled(id, packet, now);
        }
        for (packet, place) in report.sent {
            self.partition.sent(id, packet, place, now);
        }
        for (filter, walk) in report.walks {
            self.partition.walked(id, filter, walk, now);
        }
        for (source, offset) in report.positions {
            self.partition.position(id, source, offset, now);
        }
    }

    fn arrival(&mut self, arrival: Arrival) {
        let guest = Guest {
            mailbox: arrival.mailbox.clone(),
            client: arrival.client.clone(),
            stored: false,
            published: HashMap::new(),
        };
        self.guests.insert(arrival.id(), guest);
        if self.let_on(&arrival) {
            return;
        }
        if arrival.away {
            return self.connect(arrival, 0);
        }
        if self.writer.is_swamped() {
            return self.send(arrival.id(), Letter::Refuse(ReasonCode::ServerBusy));
        }
        let throw_away = arrival.offer.is_throw_away();
        if self.is_there && self.is_member && !throw_away {
            return self.connect(arrival, 0);
        }
        // Only an end counts that is asked for from now on.
        let question = throw_away.then_some(self.tail.number + 1);
        self.waiting.push(Waiting { arrival, question });
        self.tail.hurry();
    }

    /// Lets a client on that nobody else need know of, if it is one.
    fn let_on(&mut self, arrival: &Arrival) -> bool {
        let nothing_known = (arrival.away || self.is_there) && !self.partition.knows(&arrival.client);
        let unclaimed = self.around.settings.local_takeover || arrival.away && self.writer.is_swamped();
        let on = arrival.is_fleeting() && nothing_known && unclaimed;
        if on {
            let letter = Letter::Connected {
                present: None,
                stored: false,
            };
            self.send(arrival.id(), letter);
        }
        on
    }

    /// Those who wait for the tail, which has come to the end that was asked for as question `number`. Nothing is written before this
    /// instance is a member, so who needs no record to be let in does not wait for that.
    pub(super) fn let_in(&mut self, number: u64, end: i64) {
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { arrival, question } = &waiting;
            if self.let_on(arrival) {
                continue;
            }
            let may_claim = self.is_member || arrival.offer.is_throw_away();
            match may_claim && question.is_none_or(|question| number >= question) {
                true => self.connect(waiting.arrival, end),
                false => self.waiting.push(waiting),
            }
        }
    }

    /// From now on sessions can be claimed.
    fn join(&mut self) {
        if !std::mem::replace(&mut self.is_member, true) && !self.waiting.is_empty() {
            self.tail.hurry();
        }
    }

    pub(super) fn connect(&mut self, arrival: Arrival, barrier: i64) {
        let (id, client): (_, Box<str>) = (arrival.id(), arrival.client);
        let offer: Offer = arrival.offer;
        self.partition.connect(id, &client, offer, barrier, now());
    }
}
