//! From what a SUBSCRIBE or UNSUBSCRIBE came to, to its answer. If the session is stored, that rests on what is written.

use std::{collections::HashMap, time::Instant};

use super::{
    desk::Desk,
    hub::Seat,
    lookouts::Lookouts,
    retained::Retained,
    store::Order,
    subscribing::Subscribed,
    tenancy::{Resting, Tenancy},
};
use crate::{
    mqtt::{QoS, ReasonCode, Unsubscribe},
    ownership::{Body, Source, StoredSubscription},
    session::{Options, Requested, Session, SubscriptionKey, Ticket},
};

impl Desk {
    /// A session that goes on, as far as its client may: rights may have changed since, or the client id has another owner now. What is left out stays
    /// stored, and is back with the right, unless its client unsubscribes.
    pub(super) fn judged(&mut self, session: &Session, mut body: Box<Body>, now: Instant) -> Box<Body> {
        let may = |filter: &str, qos| self.may_keep(session.client_id(), filter, qos, now);
        let denied = body.subscriptions.extract_if(.., |kept| !may(&kept.filter, kept.qos));
        let denied = denied.map(|kept| kept.filter.into()).collect();
        for outgoing in body.steps.outbound.values_mut() {
            // As if it had come: its packet id is released.
            outgoing.released |= outgoing.share.as_deref().is_some_and(|share| !may(share, QoS::ExactlyOnce));
        }
        if let Some(tenancy) = &mut self.tenancy {
            tenancy.denied = denied;
        }
        body
    }

    /// Grants what a SUBSCRIBE came to.
    pub(super) fn grant(&mut self, session: &mut Session, mut granted: Granted, now: Instant) {
        granted.forget_what_never_starts(session);
        match self.tenancy.as_deref_mut().filter(|tenancy| tenancy.stored) {
            Some(tenancy) => {
                let read = |place: &Source| is_read(&self.seats, self.lookouts.as_deref(), place);
                granted
                    .answer
                    .starts
                    .iter()
                    .for_each(|start| tenancy.begins(start, read(&start.place)));
                // With nothing to be written of it the answer may rest on what is written for a later one.
                let Some(subscriptions) = granted.subscriptions(session, tenancy) else {
                    return self.finish_subscribe(session, granted, now);
                };
                if let Some(retained) = &self.shared.retained {
                    granted.begin_walks(&subscriptions, retained, tenancy);
                }
                let report = tenancy.report();
                tenancy.order(Order::Subscribe(tenancy.id(), granted.answer.ticket.0, subscriptions, report));
                tenancy.resting.push(Resting::Granted(granted));
            }
            None => self.finish_subscribe(session, granted, now),
        }
    }

    /// The store has written what an answer rests on.
    pub(super) fn rested(&mut self, session: &mut Session, ticket: u32, now: Instant) {
        match self.tenancy.as_deref_mut().and_then(|tenancy| tenancy.rested(ticket)) {
            Some(Resting::Granted(granted)) => self.finish_subscribe(session, granted, now),
            Some(Resting::Removed(ticket)) => session.answer_unsubscribe(ticket, now),
            None => {}
        }
    }

    /// The seats are kept, the client gets its SUBACK.
    fn finish_subscribe(&mut self, session: &mut Session, Granted { answer, reasons }: Granted, now: Instant) {
        // A subscription that stands already goes on from its first start, which its first SUBACK has promised; one that an
        // UNSUBSCRIBE has overtaken never starts.
        let stands = |key| session.subscriptions().binary_search_by_key(&key, |s| s.key).is_ok();
        let begins = |key| stands(key) && !self.seats.contains_key(&key);
        self.outbound.begin(answer.starts, begins);
        let retained = answer.retained.into_iter().filter(|stream| stands(stream.key));
        retained.for_each(|stream| self.outbound.retained.begin(stream));
        for key in answer.keys {
            if !stands(key) {
                self.lookouts.iter().for_each(|lookouts| lookouts.end(key));
            }
            // A client may ask twice in a row; what it asked for last still waits then.
            if let Some(at) = self.outbound.pending.iter().position(|k| *k == key) {
                self.outbound.pending.swap_remove(at);
            }
        }
        let asked: Vec<SubscriptionKey> = session.requested(answer.ticket).iter().filter_map(Requested::subscribes).collect();
        session.answer_subscribe(answer.ticket, &reasons, now);
        self.regrant(session, asked);
        if let Some(tenancy) = &mut self.tenancy {
            tenancy.look_soon(now);
        }
        for (key, seats) in answer.seats {
            // An UNSUBSCRIBE may have overtaken it: then the seats are given back here.
            let Ok(at) = session.subscriptions().binary_search_by_key(&key, |s| s.key) else {
                continue;
            };
            match (self.seats.get_mut(&key), session.subscriptions()[at].options) {
                // The client asked twice before its first answer; one seat is enough, with what it asked for last.
                (Some(seats), Some(options)) => seats.iter_mut().for_each(|seat| seat.grant(options.qos)),
                _ => drop(self.seats.insert(key, seats)),
            }
        }
        for (key, seat) in answer.shared {
            if session.subscriptions().binary_search_by_key(&key, |s| s.key).is_ok() {
                self.shares.get_or_insert_default().seats.entry(key).or_insert(seat);
            }
        }
    }

    /// The seats that subscriptions have already are granted what these were granted last: not before it is decided, or what is refused would
    /// have them at a QoS whose messages may be left out.
    fn regrant(&mut self, session: &Session, asked: Vec<SubscriptionKey>) {
        for key in asked {
            let at = session.subscriptions().binary_search_by_key(&key, |s| s.key).ok();
            let Some(options) = at.and_then(|at| session.subscriptions()[at].options) else {
                continue;
            };
            let seats = self.seats.get_mut(&key).into_iter().flatten();
            seats.for_each(|seat| seat.grant(options.qos));
            self.lookouts.iter().for_each(|lookouts| lookouts.grant(key, options.qos));
        }
    }

    /// Takes an UNSUBSCRIBE: nothing more comes for its filters once it is answered.
    pub(super) fn unsubscribe(&mut self, session: &mut Session, unsubscribe: &Unsubscribe<'_>, ticket: Ticket, now: Instant) {
        let mut removed = Vec::new();
        for (requested, filter) in session.requested(ticket).iter().zip(unsubscribe.filters.iter()) {
            if *requested == Requested::Denied {
                removed.push((*filter).into());
            }
            if let Requested::Removed { key } = requested {
                self.seats.remove(key);
                self.lookouts.iter().for_each(|lookouts| lookouts.end(*key));
                self.shares.as_mut().map(|shares| shares.seats.remove(key));
                self.outbound.retained.end(*key);
                self.outbound.starts.retain(|(k, _), _| k != key);
                if let Some(tenancy) = self.tenancy.as_deref_mut().filter(|tenancy| tenancy.stored) {
                    tenancy.ends(*key);
                    tenancy.unread(|place| is_read(&self.seats, self.lookouts.as_deref(), place));
                    removed.push((*filter).into());
                }
            }
        }
        match self.tenancy.as_deref_mut().filter(|_| !removed.is_empty()) {
            Some(tenancy) => {
                tenancy.order(Order::Unsubscribe(tenancy.id(), ticket.0, removed));
                tenancy.resting.push(Resting::Removed(ticket));
            }
            None => session.answer_unsubscribe(ticket, now),
        }
    }
}

/// Whether any of the seats reads a partition.
pub(super) fn is_read(seats: &HashMap<SubscriptionKey, Vec<Seat>>, lookouts: Option<&Lookouts>, place: &Source) -> bool {
    seats.values().flatten().any(|seat| seat.reads(place)) || lookouts.is_some_and(|lookouts| lookouts.reads(place))
}

/// A SUBSCRIBE that is decided.
#[derive(Debug)]
pub struct Granted {
    /// What Kafka's side came to.
    pub answer: Subscribed,
    /// One for each filter.
    pub reasons: Vec<ReasonCode>,
}

impl Granted {
    /// Of the SUBSCRIBE.
    pub fn ticket(&self) -> Ticket {
        self.answer.ticket
    }

    /// What is refused, or was overtaken by an UNSUBSCRIBE, starts nowhere: it would be kept as long as the connection lives.
    fn forget_what_never_starts(&mut self, session: &Session) {
        let asked = session.requested(self.answer.ticket).iter().zip(&self.reasons);
        let granted = asked
            .filter(|(_, reason)| !reason.is_error())
            .filter_map(|(asked, _)| asked.subscribes());
        let stands = |key: &SubscriptionKey| session.subscriptions().binary_search_by_key(key, |s| s.key).is_ok();
        let starting: Vec<SubscriptionKey> = granted.filter(stands).collect();
        self.answer.starts.retain(|start| starting.contains(&start.key));
    }

    /// Walks over retained messages are stored with the subscriptions that they are for, where there is anything to find at QoS 1 or 2.
    fn begin_walks(&self, subscriptions: &[StoredSubscription], retained: &Retained, tenancy: &mut Tenancy) {
        for walk in &self.answer.retained {
            let mut granted = subscriptions.iter().filter(|stored| *stored.filter == *walk.filter());
            match granted.next().map(|stored| stored.qos) {
                Some(QoS::AtLeastOnce | QoS::ExactlyOnce) if retained.has_any(walk.filter()) => {
                    tenancy.walk_begins(walk.key, walk.filter(), walk.is_again());
                }
                Some(_) => tenancy.walk_is_over(walk.key),
                None => {}
            }
        }
    }

    /// What is to be stored of it; `None` if nothing stands of it. A later SUBSCRIBE for the same filter may have been granted before: then
    /// what that has asked for is stored already.
    fn subscriptions(&self, session: &mut Session, tenancy: &Tenancy) -> Option<Vec<StoredSubscription>> {
        let ticket = self.answer.ticket;
        let requested = session.requested(ticket).to_vec();
        let options = session.asked_options(ticket).to_vec();
        let mut stands = false;
        let stored = |((requested, options), reason): ((Requested, Options), &ReasonCode)| {
            let Requested::Subscribe { key, .. } = requested else { return None };
            let qos = match reason {
                ReasonCode::Success => QoS::AtMostOnce,
                ReasonCode::GrantedQoS1 => options.qos.min(QoS::AtLeastOnce),
                ReasonCode::GrantedQoS2 => options.qos,
                _ => return None,
            };
            // An UNSUBSCRIBE may have overtaken it.
            let at = session.subscriptions().binary_search_by_key(&key, |s| s.key).ok()?;
            stands = true;
            session.grant(key, ticket).then(|| StoredSubscription {
                filter: session.subscriptions()[at].filter.to_string(),
                qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: options.retain_handling,
                id: options.subscription_id,
                starts: tenancy.starts(key),
            })
        };
        let asked = requested.into_iter().zip(options).zip(&self.reasons);
        let stored = asked.filter_map(stored).collect();
        stands.then_some(stored)
    }
}
