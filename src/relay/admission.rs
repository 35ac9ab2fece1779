//! From a CONNECT to its place in the registry: who it comes from, what it needs of Kafka, whether its will has a rule, which id it gets.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use tokio::sync::{oneshot::error::TryRecvError, watch};

use super::{
    desk::Desk,
    enhanced::FAILED,
    granting::is_read,
    guard::Identity,
    hub::Subscriber,
    mailbox::Ending,
    resuming::{Resumed, Stand, needs_kafka, present as present_of, resume},
    retained::Unsettled,
    store::{Arrival, Order, Orders, Store},
    tenancy::Tenancy,
};
use crate::{
    auth::{Exchange, Verdict},
    mqtt::ReasonCode,
    ownership::{Body, ConnectionId, Offer, StoredWill},
    session::{Accepted, Present, Session, SubscriptionKey},
    upstream::State,
};

/// A CONNECT that waits: for the answer who it comes from, then for Kafka.
pub struct Admission {
    /// `None` once it is let in.
    pub(super) identity: Option<Identity>,
    kafka: watch::Receiver<State>,
    /// Changes when the topic of stored sessions is found.
    found: Option<watch::Receiver<Option<Arc<[Orders]>>>>,
    /// For a client that sent none.
    assigned: Option<String>,
    /// What CONNACK says last of enhanced authentication.
    proof: Option<Vec<u8>>,
    stage: Stage,
}

/// What it waits for.
enum Stage {
    /// Kafka, if it needs it.
    Kafka,
    /// The end of the connection that had the client id here, and of those which that waited for. What these have heard last, a DISCONNECT
    /// perhaps, is to be stored before the new claim.
    Former,
    /// The store.
    Store,
}

impl Admission {
    /// Whether the answer who the client is has not come, and is not the client's to give.
    pub(super) fn is_asked_about(&self) -> bool {
        matches!(self.identity, Some(Identity::Asked(_) | Identity::Begun(_)))
    }

    /// The second message of enhanced authentication has come.
    pub(super) fn go_on(&mut self, finish: impl FnOnce(Exchange) -> (Verdict, Vec<u8>)) {
        self.identity = match self.identity.take() {
            Some(Identity::Challenged(exchange)) => {
                let (verdict, proof) = finish(*exchange);
                self.proof = Some(proof);
                Some(Identity::Known(verdict))
            }
            other => other,
        };
    }
}

impl Desk {
    /// A CONNECT the session has no objection to.
    /// It is let in by [`admit`](Self::admit), at the end of the turn.
    pub(super) fn offer(&mut self, session: &Session) {
        let assigned = session.client_id().is_empty().then(fresh_client_id);
        let identity = Some(self.identify(session));
        self.admission = Some(Box::new(Admission {
            identity,
            kafka: self.shared.cluster.state(),
            found: self.shared.store.as_ref().map(Store::found),
            assigned,
            proof: None,
            stage: Stage::Kafka,
        }));
    }

    /// Whether it is known who a CONNECT comes from, and it is let in with its will. If not, it waits on or was refused.
    fn is_let_in(&mut self, session: &mut Session, peer: SocketAddr, now: Instant) -> bool {
        let Some(admission) = &mut self.admission else { return false };
        let verdict = match &mut admission.identity {
            None => return true,
            Some(Identity::Known(verdict)) => verdict.clone(),
            Some(Identity::Asked(asked)) => match asked.try_recv() {
                Ok(verdict) => verdict,
                Err(TryRecvError::Empty) => return false,
                // It ended by a panic.
                Err(TryRecvError::Closed) => FAILED,
            },
            Some(Identity::Begun(begun)) => match begun.try_recv() {
                Ok(Ok((exchange, challenge))) => {
                    admission.identity = Some(Identity::Challenged(Box::new(exchange)));
                    session.challenge(&challenge, now);
                    return false;
                }
                Ok(Err(verdict)) => verdict,
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Closed) => FAILED,
            },
            Some(Identity::Challenged(_)) => return false,
        };
        admission.identity = None;
        let client = admission.assigned.clone();
        let refused = if !self.recognise(verdict, client.as_deref(), session, peer, now) {
            true
        } else if let Some(reason) = self.will_objection(session, client.as_deref()) {
            session.refuse(reason, now);
            true
        } else {
            false
        };
        if refused {
            self.admission = None;
        }
        !refused
    }

    fn will_objection(&mut self, session: &Session, assigned: Option<&str>) -> Option<ReasonCode> {
        let will = session.will()?.publish();
        let client = assigned.unwrap_or(session.client_id());
        if !self.may_send(client, will.topic, &will) {
            return Some(ReasonCode::NotAuthorized);
        }
        if !self.shared.has_right_format(&will) {
            let reason = ReasonCode::PayloadFormatInvalid;
            self.shared.metrics.refused(reason.name());
            return Some(reason);
        }
        self.will_refused(&will, client)
    }

    /// Accepts a CONNECT that waits, or gives it to the store. Without Kafka only a session that needs nothing of it is accepted; every
    /// other waits until Kafka is there or its connect deadline, when the session refuses it (0x88).
    pub(super) fn admit(&mut self, session: &mut Session, peer: SocketAddr, now: Instant) {
        // Who nobody knows yet takes no other's place, neither here nor in the store.
        if session.is_closed() || !self.is_let_in(session, peer, now) {
            return;
        }
        let Some(admission) = &mut self.admission else { return };
        let ready = matches!(*admission.kafka.borrow_and_update(), State::Ready);
        let fleeting = session.clean_start() && session.expiry() == 0;
        let needs_nothing = fleeting && session.will().is_none();
        if !ready && !needs_nothing {
            return;
        }
        let Some(store) = &self.shared.store else {
            return self.accept(session, None, now);
        };
        match &admission.stage {
            Stage::Store => return,
            Stage::Former if self.mailbox.follows() => return,
            Stage::Former => {}
            Stage::Kafka if admission.assigned.is_none() && !self.entered => {
                let former = self.shared.registry.enter(session.client_id(), &self.mailbox);
                self.entered = true;
                self.takes_over = former.is_some();
                if former.is_some_and(|former| self.mailbox.follow(former)) {
                    admission.stage = Stage::Former;
                    return;
                }
            }
            Stage::Kafka => {}
        }
        let client: Box<str> = admission.assigned.as_deref().unwrap_or(session.client_id()).into();
        // Once the topic is found everybody goes through the store.
        let found = admission.found.as_mut().map(|found| found.borrow_and_update().is_some());
        match store.orders(&client).filter(|_| found == Some(true)) {
            Some(orders) => {
                admission.stage = Stage::Store;
                self.ask(session, orders, client, !ready);
            }
            None if fleeting => {
                self.accept(session, None, now);
                self.tell_store(session);
            }
            None => {}
        }
    }

    /// Who was let in before the topic of stored sessions was known is told of when it is: whoever has the client id elsewhere ends, and
    /// is ended by it. Told either to those who stand in the registry then, or it is known by the time one does.
    pub(super) fn tell_store(&mut self, session: &Session) {
        let orders = self.shared.store.as_ref().and_then(|store| store.orders(session.client_id()));
        let Some(orders) = orders.filter(|_| self.tenancy.is_none() && self.let_in) else {
            return;
        };
        let tenancy = Tenancy::new(orders, ConnectionId(self.mailbox.id()));
        // Nothing of it is stored, and its will is sent from here.
        let offer = Offer {
            clean_start: true,
            expiry: 0,
            will: None,
        };
        tenancy.order(Order::Connect(Arrival {
            mailbox: self.mailbox.clone(),
            client: session.client_id().into(),
            offer,
            away: true,
        }));
        self.tenancy = Some(Box::new(tenancy));
    }

    fn ask(&mut self, session: &Session, orders: Orders, client: Box<str>, away: bool) {
        let identity = self.identity();
        let tenancy = Tenancy::new(orders, ConnectionId(self.mailbox.id()));
        let will = session.will();
        let offer = Offer {
            clean_start: session.clean_start(),
            expiry: session.expiry(),
            will: will.map(|will| StoredWill::copy(&will.publish(), will.delay_interval, identity.as_deref())),
        };
        tenancy.order(Order::Connect(Arrival {
            mailbox: self.mailbox.clone(),
            client,
            offer,
            away,
        }));
        self.tenancy = Some(Box::new(tenancy));
    }

    /// The store lets a connection in. A session that goes on takes its seats first.
    pub(super) fn let_in(&mut self, session: &mut Session, present: Option<Box<Body>>, stored: bool, now: Instant) {
        if let Some(tenancy) = &mut self.tenancy {
            tenancy.stored = stored;
            tenancy.look_soon(now);
        }
        match present.map(|body| self.judged(session, body, now)) {
            Some(body) if needs_kafka(&body) => {
                let until = session.deadline().unwrap_or(now);
                let of = (self.shared.hub.clone(), self.shared.shares.clone(), self.shared.retained.clone());
                let places = body.steps.positions.iter().map(|(source, next)| (*source, *next));
                let to = (self.mailbox.clone(), self.lookouts(places.collect()).cloned());
                let resuming = tokio::spawn(resume(of, to, body, session.receive_maximum(), until.into()));
                if let Some(tenancy) = &mut self.tenancy {
                    tenancy.resuming = Some(resuming.abort_handle());
                }
            }
            Some(body) => self.resumed(session, Resumed::of(body), now),
            None => self.accept(session, None, now),
        }
    }

    /// A session that goes on has taken its seats.
    pub(super) fn resumed(&mut self, session: &mut Session, resumed: Resumed, now: Instant) {
        let Resumed {
            body,
            seats,
            starts,
            cut_off,
            left_out,
            shared,
            again,
            retained,
            walks,
            away,
        } = resumed;
        self.stir(now);
        let (mut open, mut denied) = (Vec::new(), Vec::new());
        let mut lost = Vec::new();
        if let Some(tenancy) = &mut self.tenancy {
            open = tenancy.goes_on(&body.steps, retained);
            denied = std::mem::take(&mut tenancy.denied);
            let going: Vec<_> = walks.iter().map(|walk| (walk.key, walk.filter())).collect();
            tenancy.walks_go_on(&body.steps, &going);
            tenancy.waits(away, &body);
            // All partitions of its topics are read, or will be: one that is not known here yet is young, and none ever goes.
            tenancy.unread(|source| starts.iter().any(|start| start.place.topic == source.topic));
            lost.extend(cut_off.iter().flat_map(|(source, end)| tenancy.was_cut_off(*source, *end)));
            starts.iter().for_each(|start| tenancy.begins(start, true));
            left_out.into_iter().for_each(|(source, below)| tenancy.leaves_out(source, below));
            if !cut_off.is_empty() {
                let report = tenancy.report();
                tenancy.order(Order::Report(tenancy.id(), report));
                tenancy.look_soon(now);
            }
        }
        self.outbound.begin(starts, |_| true);
        self.outbound.unsettled = retained.and_then(|topic| Unsettled::of(&body.steps, topic));
        walks.into_iter().for_each(|walk| self.outbound.retained.begin(walk));
        self.seats = seats;
        if !shared.is_empty() || !again.is_empty() {
            let shares = self.shares.get_or_insert_default();
            shares.seats.extend(shared);
            shares.again.extend(again);
        }
        let present = Present {
            open,
            denied,
            ..present_of(&body)
        };
        self.accept(session, Some(present), now);
        self.gone(lost, session, now);
    }

    /// A Kafka topic can be read that was away when the session went on: it has subscriptions there, unless they are over by now.
    pub(super) fn appeared(&mut self, session: &mut Session, stand: &Stand, now: Instant) {
        self.stir(now);
        let Some(tenancy) = &mut self.tenancy else { return };
        let keys = tenancy.has_come(stand.topic());
        let subscriber = |key: SubscriptionKey| {
            let subscriptions = session.subscriptions();
            let at = subscriptions.binary_search_by_key(&key, |s| s.key).ok()?;
            let (filter, options) = (&subscriptions[at].filter, subscriptions[at].options?);
            Some((filter.clone(), Subscriber::new(self.mailbox.clone(), key, options.qos)))
        };
        let (seats, starts) = stand.sit(&self.shared.hub, &keys, subscriber);
        let lost: Vec<u16> = stand.ends().flat_map(|(source, end)| tenancy.ends_at(source, end)).collect();
        starts.iter().for_each(|start| tenancy.begins(start, true));
        stand.left_out().for_each(|(source, below)| tenancy.leaves_out(source, below));
        self.outbound.begin(starts, |_| true);
        for (key, seat) in seats {
            self.seats.entry(key).or_default().push(seat);
        }
        tenancy.unread(|place| is_read(&self.seats, self.lookouts.as_deref(), place));
        self.gone(lost, session, now);
    }

    fn accept(&mut self, session: &mut Session, present: Option<Present>, now: Instant) {
        let Some(mut admission) = self.admission.take() else { return };
        let accepted = Accepted {
            assigned_client_id: admission.assigned.take(),
            present,
            stored: self.tenancy.as_ref().is_some_and(|tenancy| tenancy.stored),
            authentication_data: admission.proof.take(),
        };
        session.accept(accepted, now);
        self.let_in = session.is_live();
        if !session.is_live() || std::mem::replace(&mut self.entered, true) {
            return;
        }
        self.takes_over = self.shared.registry.enter(session.client_id(), &self.mailbox).is_some();
    }

    /// What a connection waits for that stands in no registry yet: Kafka, if its CONNECT needs it, and the end of the process,
    /// of which nobody else could tell it.
    pub(super) async fn admissible(&mut self) {
        let mut draining = self.shared.registry.draining();
        let kafka = async {
            let changed = match self.admission.as_deref_mut() {
                Some(Admission {
                    identity: Some(identity), ..
                }) => {
                    // Boxed: rare, and an idle connection has no room for it.
                    Box::pin(identity.answered()).await;
                    true
                }
                Some(Admission {
                    kafka, found: Some(found), ..
                }) => tokio::select! {
                    changed = kafka.changed() => changed.is_ok(),
                    changed = found.changed() => changed.is_ok(),
                },
                Some(admission) => admission.kafka.changed().await.is_ok(),
                None => false,
            };
            // An error means that the cluster is shut down; the connect deadline ends the wait then.
            if !changed {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => self.mailbox.end(Ending::ShutDown),
            () = kafka => {}
        }
    }
}

/// An identifier that no other client has [MQTT-3.1.3-6], on this instance or another: 128 bits of the system's chance.
fn fresh_client_id() -> String {
    let chance = || RandomState::new().hash_one(());
    format!("auto-{:016x}{:016x}", chance(), chance())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_id_comes_twice() {
        let ids: HashSet<_> = (0..10_000).map(|_| fresh_client_id()).collect();
        assert_eq!(ids.len(), 10_000);
        let halves: HashSet<_> = ids.iter().map(|id| &id[5..21]).collect();
        assert_eq!(halves.len(), 10_000, "each half has its own chance");
    }
}
