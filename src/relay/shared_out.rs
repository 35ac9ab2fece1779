//! Messages of shared subscriptions on their way through a connection: to the session, and word of what became of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use rustc_hash::FxHashMap;

use super::{
    desk::Desk,
    once::id,
    outbound::{MAX_UNSENT, Step},
    resuming::Again,
    share::{Fate, Handed, HandoutId, Lent, Share, SharedSeat},
};
use crate::{
    mqtt::QoS,
    ownership::Place,
    session::{Session, SubscriptionKey, Taken},
};

/// Marks the tokens of messages of shared subscriptions.
const SHARED: u64 = 1 << 63;

/// What a connection keeps for its shared subscriptions; empty while it has none.
#[derive(Debug, Default)]
pub struct SharedOut {
    /// Its places in them.
    pub(super) seats: HashMap<SubscriptionKey, SharedSeat>,
    /// The message that the client's window or socket did not take.
    waiting: Option<Handed>,
    /// Sent and not acknowledged, by their tokens.
    flights: FxHashMap<u64, Flight>,
    /// What a stored session has from before, to be sent again.
    pub(super) again: VecDeque<Again>,
    last_token: u64,
    turn: bool,
}

#[derive(Debug)]
struct Flight {
    share: Arc<Share>,
    id: HandoutId,
    /// The packet id of a message that the session has a pair of.
    pair: Option<u16>,
}

impl SharedOut {
    /// Whether it is their turn to come first.
    pub(super) fn takes_turn(&mut self) -> bool {
        self.turn = !self.turn;
        self.turn
    }
}

impl Desk {
    pub(super) fn hand_out_shared(&mut self, session: &mut Session, now: Instant) {
        while let Some(again) = self.shares.as_mut().and_then(|shares| shares.again.pop_front()) {
            if self.give_shared_again(&again, session, now) == Step::Wait {
                return self.shares.get_or_insert_default().again.push_front(again);
            }
        }
        while session.is_live() && session.outbox().len() < MAX_UNSENT {
            let waiting = self.shares.as_mut().and_then(|shares| shares.waiting.take());
            let Some(handed) = waiting.or_else(|| self.mailbox.take_handed()) else {
                return;
            };
            if self.give_shared(&handed, session, now) == Step::Wait {
                self.shares.get_or_insert_default().waiting = Some(handed);
                return;
            }
        }
    }

    fn give_shared(&mut self, handed: &Handed, session: &mut Session, now: Instant) -> Step {
        // Its SUBACK has not been sent.
        if self.outbound.pending.contains(&handed.key) {
            return Step::Wait;
        }
        let token = SHARED | (self.shares.get_or_insert_default().last_token + 1);
        let (chunk, message) = (&handed.chunk, &handed.chunk.messages[handed.at]);
        let sent = handed.share.send(handed.id, || {
            let taken = self.offer_message(chunk, message, &[handed.key], token, session, now);
            (taken, fate(taken))
        });
        match sent {
            Some(Taken::WindowFull | Taken::OutboxFull) => Step::Wait,
            Some(Taken::Sent { qos }) if qos != QoS::AtMostOnce => {
                self.fly(token, handed, None);
                Step::Next
            }
            Some(Taken::Asked) => {
                let packet = session.last_packet_id();
                self.fly(token, handed, Some(packet));
                let place = Place {
                    source: chunk.from,
                    offset: message.offset,
                };
                let lent = Lent::new(handed.share.clone(), handed.id);
                if let Some(tenancy) = self.tenancy.as_deref_mut() {
                    tenancy.borrows(place, packet, lent);
                }
                Step::Next
            }
            _ => Step::Next,
        }
    }

    fn fly(&mut self, token: u64, handed: &Handed, pair: Option<u16>) {
        let shares = self.shares.get_or_insert_default();
        shares.last_token += 1;
        let (share, id) = (handed.share.clone(), handed.id);
        shares.flights.insert(token, Flight { share, id, pair });
    }

    /// Sends a message of QoS 2 that the session has from before, and that is nobody else's.
    fn give_shared_again(&mut self, again: &Again, session: &mut Session, now: Instant) -> Step {
        let Some(packet_id) = id(again.packet) else { return Step::Next };
        let Some((chunk, at)) = &again.message else {
            self.gone([again.packet], session, now);
            return Step::Next;
        };
        let message = &chunk.messages[*at];
        match self.send_again(chunk, message, again.key.as_slice(), packet_id, session, now) {
            Taken::WindowFull | Taken::OutboxFull => Step::Wait,
            _ => Step::Next,
        }
    }

    /// The client has acknowledged a message, or refused it for good.
    pub(super) fn settled(&mut self, token: u64, now: Instant) {
        let flight = self.shares.as_mut().and_then(|shares| shares.flights.remove(&token));
        let tenancy = self.tenancy.as_deref_mut();
        match flight {
            Some(Flight { share, id, pair }) => {
                share.done(id);
                tenancy
                    .zip(pair)
                    .into_iter()
                    .for_each(|(tenancy, packet)| tenancy.is_free(packet, now));
            }
            None => tenancy.into_iter().for_each(|tenancy| tenancy.settled(token, now)),
        }
    }

    /// The connection is over: what was not acknowledged goes to others, what was not sent after that.
    pub(super) fn leave_shares(&mut self) {
        let Some(shares) = self.shares.take() else { return };
        let mut flights: Vec<(Arc<Share>, Vec<HandoutId>)> = Vec::new();
        for Flight { share, id, .. } in shares.flights.into_values() {
            match flights.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &share)) {
                Some((_, ids)) => ids.push(id),
                None => flights.push((share, vec![id])),
            }
        }
        for (share, ids) in flights {
            self.shared.metrics.shared.redelivered.inc_by(share.give_back(ids));
        }
        drop((shares.waiting, shares.seats));
    }
}

fn fate(taken: Taken) -> Fate {
    match taken {
        Taken::Sent { qos } => Fate::Sent(qos),
        Taken::Asked => Fate::Lent,
        Taken::WindowFull | Taken::OutboxFull => Fate::Waits,
        Taken::NotSubscribed | Taken::Closed => Fate::GivenBack,
        Taken::Dropped | Taken::TooLarge | Taken::Expired | Taken::NoLocal => Fate::LeftOut,
    }
}
