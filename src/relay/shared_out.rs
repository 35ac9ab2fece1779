//! Messages of shared subscriptions on their way through a connection: to the session, and word of what became of them.

use std::{collections::HashMap, sync::Arc, time::Instant};

use rustc_hash::FxHashMap;

use super::{
    desk::Desk,
    outbound::{MAX_UNSENT, Step},
    share::{Fate, Handed, HandoutId, Share, SharedSeat},
};
use crate::{
    mqtt::QoS,
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
    flights: FxHashMap<u64, (Arc<Share>, HandoutId)>,
    last_token: u64,
    turn: bool,
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
        while session.is_live() && session.outbox().len() < MAX_UNSENT {
            let Some(handed) = self.shares.waiting.take().or_else(|| self.mailbox.take_handed()) else {
                return;
            };
            if self.give_shared(&handed, session, now) == Step::Wait {
                self.shares.waiting = Some(handed);
                return;
            }
        }
    }

    fn give_shared(&mut self, handed: &Handed, session: &mut Session, now: Instant) -> Step {
        // Its SUBACK has not been sent.
        if self.outbound.pending.contains(&handed.key) {
            return Step::Wait;
        }
        let token = SHARED | (self.shares.last_token + 1);
        let (chunk, message) = (&handed.chunk, &handed.chunk.messages[handed.at]);
        let sent = handed.share.send(handed.id, || {
            let taken = self.offer_message(chunk, message, &[handed.key], token, session, now);
            (taken, fate(taken))
        });
        match sent {
            Some(Taken::WindowFull | Taken::OutboxFull) => Step::Wait,
            Some(Taken::Sent { qos }) if qos != QoS::AtMostOnce => {
                self.shares.last_token += 1;
                self.shares.flights.insert(token, (handed.share.clone(), handed.id));
                Step::Next
            }
            _ => Step::Next,
        }
    }

    /// The client has acknowledged a message, or refused it for good.
    pub(super) fn settled(&mut self, token: u64, now: Instant) {
        if let Some((share, id)) = self.shares.flights.remove(&token) {
            share.done(id);
        } else if let Some(tenancy) = self.tenancy.as_deref_mut() {
            tenancy.settled(token, now);
        }
    }

    /// The connection is over: what was not acknowledged goes to others, what was not sent after that.
    pub(super) fn leave_shares(&mut self) {
        let mut flights: Vec<(Arc<Share>, Vec<HandoutId>)> = Vec::new();
        for (share, id) in std::mem::take(&mut self.shares.flights).into_values() {
            match flights.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &share)) {
                Some((_, ids)) => ids.push(id),
                None => flights.push((share, vec![id])),
            }
        }
        for (share, ids) in flights {
            self.shared.metrics.shared.redelivered.inc_by(share.give_back(ids));
        }
        self.shares.waiting = None;
        self.shares.seats.clear();
    }
}

fn fate(taken: Taken) -> Fate {
    match taken {
        Taken::Sent { qos } => Fate::Sent(qos),
        // Of stored sessions only, which are granted QoS 1 here.
        Taken::Asked => Fate::Sent(QoS::ExactlyOnce),
        Taken::WindowFull | Taken::OutboxFull => Fate::Waits,
        Taken::NotSubscribed | Taken::Closed => Fate::GivenBack,
        Taken::Dropped | Taken::TooLarge | Taken::Expired | Taken::NoLocal => Fate::LeftOut,
    }
}
