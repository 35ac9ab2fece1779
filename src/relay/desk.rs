//! What the relay keeps for one connection beside its socket and its session, and how outputs of the session are acted on.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Instant};

use tokio::sync::Notify;

use super::{
    Shared,
    admission::Admission,
    answers::{Answers, rule_of_unasked},
    frontier::Reached,
    granting::is_read,
    guard::Guard,
    hub::Seat,
    inbound::{Blocked, Wait},
    lookouts::Lookouts,
    mailbox::{Ending, Mailbox},
    outbound::Outbound,
    shared_out::SharedOut,
    store::{Letter, Order},
    subscribing::Asked,
    tenancy::Tenancy,
};
use crate::{
    audit::{Event, cut},
    metrics::PacketTally,
    mqtt::{Packet, ReasonCode, codec::DecodeError},
    ownership::{End, Source},
    session::{Cause, Close, Output, OwnedWill, Session, SubscriptionKey},
    upstream::{Appender, Receipt, Receipts},
};

thread_local! {
    /// Receipts on their way from the cluster to a session: used and emptied within one turn of a connection.
    static RECEIPTS: RefCell<Vec<Receipt>> = const { RefCell::new(Vec::new()) };
    /// Packets that a turn of a connection has read, and those that it has written; empty at its end.
    static TALLY: RefCell<PacketTally> = RefCell::default();
}

/// The relay's side of one connection.
pub struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) receipts: Arc<Receipts>,
    pub(super) appender: Appender,
    pub(super) answers: Answers,
    pub(super) outbound: Outbound,
    /// Of a connection with shared subscriptions, or that had one.
    pub(super) shares: Option<Box<SharedOut>>,
    pub(super) seats: HashMap<SubscriptionKey, Vec<Seat>>,
    /// If rules read Kafka topics by names with holes.
    pub(super) lookouts: Option<Arc<Lookouts>>,
    /// SUBSCRIBEs whose topics are being looked for.
    pub(super) asked: Vec<Asked>,
    /// The PUBLISH at the front of the input that cannot go on yet.
    pub(super) blocked: Option<Box<Blocked>>,
    /// Publishes that wait for Kafka's answer.
    pub(super) unanswered: u32,
    /// Records in batches whose receipts have not come.
    pub(super) awaited: u32,
    /// A CONNECT that waits for Kafka.
    pub(super) admission: Option<Box<Admission>>,
    /// Nothing new is begun; when everything in flight is answered, or then, the session is shut down.
    draining: Option<Instant>,
    /// What the mailbox says of the end, until it is acted on.
    pub(super) ending: Option<Ending>,
    pub(super) will: Option<Box<OwnedWill>>,
    /// Of a connection that the store knows.
    pub(super) tenancy: Option<Box<Tenancy>>,
    /// It stands in the registry.
    pub(super) entered: bool,
    /// It has just ended the one that stood there, which nobody was told of yet.
    pub(super) takes_over: bool,
    /// CONNACK with success has left: there is a connection, and it has a will.
    pub(super) let_in: bool,
    /// Who the client is and what it may do; `None` where everybody may everything.
    pub(super) guard: Option<Box<Guard>>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, wake: &Arc<Notify>, guard: Option<Box<Guard>>) -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(wake.clone(), shared.hub.budget.clone())),
            receipts: Receipts::new(wake.clone()),
            appender: shared.cluster.appender(),
            answers: Answers::default(),
            outbound: Outbound::default(),
            shares: None,
            seats: HashMap::new(),
            lookouts: None,
            asked: Vec::new(),
            blocked: None,
            unanswered: 0,
            awaited: 0,
            admission: None,
            draining: None,
            ending: None,
            will: None,
            tenancy: None,
            entered: false,
            takes_over: false,
            let_in: false,
            guard,
            shared,
        }
    }

    /// Acts on the session's outputs; `packet` is the one it was just given, if it was.
    pub(super) fn act(&mut self, session: &mut Session, packet: Option<&Packet<'_>>, now: Instant) {
        while let Some(output) = session.poll() {
            match (output, packet) {
                (Output::Connect, _) => self.offer(session),
                (Output::Authenticate, _) => self.authenticate(session, now),
                (Output::Publish { ticket }, Some(Packet::Publish(publish))) => self.publish(session, publish, ticket, now),
                (Output::Subscribe { ticket }, Some(Packet::Subscribe(subscribe))) => self.subscribe(session, subscribe, ticket, now),
                (Output::Unsubscribe { ticket }, Some(Packet::Unsubscribe(unsubscribe))) => {
                    self.unsubscribe(session, unsubscribe, ticket, now);
                }
                (Output::Publish { .. } | Output::Subscribe { .. } | Output::Unsubscribe { .. }, _) => {
                    unreachable!("these come only of the packet just handled, and outputs are drained after each")
                }
                (Output::WindowOpen, _) => {}
                (Output::PubRel { packet_id }, _) => self.ask_store(|id| Order::PubRel(id, packet_id.0.get())),
                (Output::PubRec { packet_id }, _) => self.ask_store(|id| Order::PubRec(id, packet_id.0.get())),
                (Output::Settled { token }, _) => self.settled(token, now),
                (Output::PublishWill, _) => self.will = session.take_will().map(Box::new),
                (Output::Close(close), _) => self.closed(session, &close, now),
            }
        }
    }

    /// What lies in the mailbox beside messages.
    pub(super) fn read_letters(&mut self, session: &mut Session, now: Instant) {
        let (answers, letters, ending) = self.mailbox.letters();
        for answer in answers {
            self.subscribed(session, answer, now);
        }
        for letter in letters {
            self.letter(session, letter, now);
        }
        self.look_at_tenancy(session, now);
        self.read_late(session);
        // A process that stops is told again with each look.
        self.ending = ending.filter(|ending| *ending != Ending::ShutDown || self.draining.is_none());
    }

    /// Nothing new is begun; the session ends when all in flight is answered, or after the drain timeout.
    pub(super) fn begin_drain(&mut self, told: Instant) {
        self.draining = Some(told + self.shared.settings.drain_timeout);
    }

    /// Ends the session when the process stops and nothing is in flight any more. Asked at the end of each turn: the last
    /// answer may have come within it.
    pub(super) fn drain(&mut self, session: &mut Session, now: Instant) {
        let Some(until) = self.draining else { return };
        if self.unanswered == 0 || now >= until || !session.is_live() {
            session.shut_down(now);
        }
    }

    /// Whether it speaks, or is about to, for a session that something is stored of.
    pub(super) fn is_owner(&self) -> bool {
        self.tenancy.as_ref().is_some_and(|tenancy| tenancy.stored || !self.let_in)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Gives the session what Kafka has answered.
    pub(super) fn read_receipts(&mut self, session: &mut Session, now: Instant) {
        RECEIPTS.with_borrow_mut(|receipts| {
            self.receipts.take(receipts);
            self.awaited = self.awaited.saturating_sub(receipts.len() as u32);
            for receipt in receipts.drain(..) {
                if let Some(rule) = rule_of_unasked(receipt.ticket) {
                    self.shared.losses.tell(rule, 1, receipt.outcome);
                } else if let Some((ticket, answer)) = self.answers.receive(&receipt, &self.shared) {
                    self.unanswered -= 1;
                    session.answer(ticket, answer, now);
                }
            }
        });
    }

    /// Takes Kafka's answers for nobody: the session is over.
    pub(super) fn drop_receipts(&mut self) {
        RECEIPTS.with_borrow_mut(|receipts| {
            self.receipts.take(receipts);
            self.awaited = self.awaited.saturating_sub(receipts.len() as u32);
            for receipt in receipts.drain(..) {
                if let Some(rule) = rule_of_unasked(receipt.ticket) {
                    self.shared.losses.tell(rule, 1, receipt.outcome);
                }
            }
        });
    }

    /// Until something that this connection waits for may have come, beside its socket and its mailbox.
    pub(super) async fn unblocked(&mut self) {
        if !self.entered || self.admission.is_some() {
            return Box::pin(self.admissible()).await;
        }
        match self.blocked.as_deref().map(|b| &b.wait) {
            // Boxed: rare, and an idle connection has no room for it.
            Some(Wait::Memory) => Box::pin(self.appender.memory_available()).await,
            Some(Wait::Retained(weight)) => match &self.shared.retained {
                Some(retained) => Box::pin(retained.room(*weight)).await,
                None => std::future::pending().await,
            },
            Some(Wait::Topic(name)) => drop(Box::pin(self.shared.cluster.topic_known(name)).await),
            Some(Wait::Table(pending)) => Box::pin(self.shared.hub.tables.progressed(*pending)).await,
            // Receipts and letters wake it.
            Some(Wait::Order) | None => std::future::pending().await,
        }
    }

    /// When this connection must be looked at, whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let blocked = self.blocked.as_ref().map(|b| b.until);
        let report = self.tenancy.as_ref().and_then(|tenancy| tenancy.deadline());
        let expires = self.guard.as_ref().and_then(|guard| guard.expires).map(|(at, _)| at);
        [blocked, self.draining, report, expires].into_iter().flatten().min()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Hands what was appended to Kafka's senders.
    pub(super) fn kick(&mut self) {
        self.appender.kick();
    }

    /// Adds the packets of a turn, those read and those the session has written, to the metrics.
    pub(super) fn count_packets(&mut self, session: &mut Session) {
        TALLY.with_borrow_mut(|tally| {
            tally.sent(&session.take_sent());
            self.shared.metrics.packets.add(tally);
        });
    }

    pub(super) fn malformed(&mut self, error: &DecodeError, session: &Session) {
        self.shared.metrics.malformed(error.reason.name());
        tracing::debug!(
            client = &*cut(session.client_id()),
            reason = error.reason.name(),
            rule = error.rule,
            error.detail,
            "malformed packet"
        );
    }

    /// Gives back what others hold of this connection: its seats, also those still on their way, and its place in the registry.
    pub(super) fn leave(&mut self, session: &Session) {
        // First: whoever follows on this instance waits for the close, and its CONNECT must come behind this end.
        if let Some(mut tenancy) = self.tenancy.take() {
            if tenancy.stored {
                // What is gone is nobody's any more.
                self.take_forward(&mut tenancy);
                // It is the store's to send.
                self.will = None;
            }
            tenancy.end(self.end_of(session));
        }
        self.mailbox.close();
        self.seats.clear();
        self.lookouts.iter().for_each(|lookouts| lookouts.close());
        self.leave_shares();
        // Nobody waits for them, and while Kafka is away they would wait long.
        self.asked.drain(..).for_each(|asked| asked.placing.abort());
        if self.entered {
            self.shared.registry.leave(session.client_id(), &self.mailbox);
        }
    }

    /// Tells the store how far the client is, if it is time; once it has settled all there is, the checkpoints do.
    fn look_at_tenancy(&mut self, session: &mut Session, now: Instant) {
        let Some(mut tenancy) = self.tenancy.take_if(|tenancy| tenancy.is_due(now)) else {
            return;
        };
        let is_settled = self.is_settled(&tenancy);
        if is_settled {
            tenancy.tick();
        }
        if !is_settled || !self.mailbox.rest() {
            self.mailbox.stir();
            let gone = self.take_forward(&mut tenancy);
            self.tenancy = Some(tenancy);
            self.gone(gone, session, now);
            if let Some(tenancy) = &mut self.tenancy {
                tenancy.tick();
                tenancy.look_again(self.mailbox.is_clear(), now);
            }
            return;
        }
        self.tenancy = Some(tenancy);
    }

    /// Whether all that was handed out is settled, and nothing of what the session reads is missing.
    ///
    /// Told as a sequence of events what follows of an empty mailbox alone: a session that was away at 500 comes back, while others have read
    /// up to 1000; it is let in by the store, and its seats are still being asked for, so nothing waits for it and nothing is open. Were it
    /// at rest now, the next checkpoint would say that it has all below 1000; and its resumption is refused, or its client goes.
    fn is_settled(&self, tenancy: &Tenancy) -> bool {
        // A topic that it knows by its name's form may be there, and read for others, before it sits in it again.
        let read = |place: &Source| is_read(&self.seats, self.lookouts.as_deref(), place);
        let misses_none = self.lookouts.is_none() || tenancy.all_places(read);
        let stands = self.admission.is_none() && self.asked.is_empty() && misses_none;
        stands && tenancy.is_settled() && !self.outbound.is_busy()
    }

    /// What the session reads changes: it does not rest until it is looked at again.
    pub(super) fn stir(&mut self, now: Instant) {
        self.mailbox.stir();
        if let Some(tenancy) = &mut self.tenancy {
            tenancy.look_soon(now);
        }
    }

    /// Whoever has taken all has come as far as the feeds, also where these went back with a log that was cut off. They are asked first: what
    /// they hand out after that is not counted. Packet ids of messages that are gone.
    fn take_forward(&self, tenancy: &mut Tenancy) -> Vec<u16> {
        let late = self.lookouts.iter().flat_map(|lookouts| lookouts.frontiers());
        let frontiers: Vec<_> = self.seats.values().flatten().flat_map(Seat::frontiers).chain(late).collect();
        let mut gone = Vec::new();
        if !self.outbound.is_busy() && self.mailbox.is_clear() {
            for Reached { source, log, next } in frontiers {
                gone.extend(tenancy.looks_at(source, log, next));
                tenancy.reached(source, next);
                tenancy.overtaken(source, next);
            }
        }
        gone
    }

    fn end_of(&self, session: &Session) -> End {
        if !self.let_in {
            return End::Refused;
        }
        match session.goodbye() {
            Some(goodbye) if !goodbye.with_will => End::Goodbye { expiry: goodbye.expiry },
            None if self.draining.is_some() => End::Shutdown,
            goodbye => End::Lost {
                expiry: goodbye.and_then(|goodbye| goodbye.expiry),
            },
        }
    }

    fn letter(&mut self, session: &mut Session, letter: Letter, now: Instant) {
        match letter {
            // It was let in before the store was told of it.
            Letter::Connected { .. } | Letter::Refuse(_) if self.let_in => {}
            Letter::Connected { present, stored } => self.let_in(session, present, stored, now),
            Letter::Found => self.tell_store(session),
            Letter::Resumed(resumed) => self.resumed(session, *resumed, now),
            Letter::Appeared(stand) => self.appeared(session, &stand, now),
            Letter::Refuse(reason) => {
                self.shared.metrics.refused(reason.name());
                session.refuse(reason, now);
            }
            Letter::Close(reason) => session.give_up(reason, "the stored session cannot go on here", now),
            Letter::Answered(ticket) => self.rested(session, ticket, now),
            letter => self.step(session, &letter, now),
        }
    }

    /// The will that is due, once.
    pub(super) fn take_will(&mut self) -> Option<Box<OwnedWill>> {
        self.will.take()
    }

    fn closed(&mut self, session: &Session, close: &Close, now: Instant) {
        let (client, reason, detail) = (session.client_id(), close.reason.name(), close.detail);
        if let Some(why) = self.unfinished_login(close) {
            self.tell_login(session, None, why, None, now);
        } else if close.cause == Cause::Session {
            self.shared.metrics.refused(reason);
            if close.reason == ReasonCode::ReceiveMaximumExceeded {
                let told = if detail.is_empty() { reason } else { detail };
                self.audit(Event::Window, client, "", told, now);
            }
        }
        if close.cause != Cause::Client {
            self.shared.metrics.closed(reason);
        }
        tracing::debug!(client = &*cut(client), reason, detail, cause = ?close.cause, "a connection ended");
    }

    /// Counts a packet that was read.
    pub(super) fn note(&mut self, first_byte: u8) {
        TALLY.with_borrow_mut(|tally| tally.received(first_byte));
    }
}
