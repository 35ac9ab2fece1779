//! The MQTT session as a state machine: packets, answers, deliveries and time in; packets to send and decisions out.
//!
//! Pure: no socket, no task, no clock. The relay that drives it feeds one input, then drains [`Session::poll`], then writes what lies in
//! [`Session::outbox`]. Time is the `now` of each call, and [`Session::deadline`] says when the next [`Session::tick`] is due.
//!
//! The directions live in files of their own: `connect` (until CONNACK), `enhanced` (AUTH), `inbound` (device to Kafka), `outbound` (Kafka to device),
//! `subscription` with its `table` (SUBSCRIBE and UNSUBSCRIBE), `stored` (what outlives the connection), `timer` (keep alive), `will`, `ending` (all ways out) and `alias`.
//!
//! Invariants, each held by `tests/session_properties.rs`, over connections by `tests/session_stored.rs`:
//! * PUBACK and PUBREC leave only by [`Session::answer`], in the order of their PUBLISHes [MQTT-4.6.0-2].
//! * No more than the client's receive maximum of QoS 1 and 2 messages are open towards it, no packet id twice.
//! * Nothing larger than the client's maximum packet size is ever in the outbox, no topic alias above its maximum.
//! * [`Output::Close`] comes once and last; after it every input is ignored.

mod alias;
mod connect;
mod ending;
mod enhanced;
mod inbound;
mod outbound;
mod output;
mod settings;
mod stored;
mod subscription;
mod table;
mod timer;
mod will;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::mqtt::encode::encode;
use crate::mqtt::outbox::Outbox;
use crate::mqtt::{Ack, Packet, PacketId, Publish, ReasonCode, Version};

pub use connect::{Accepted, Present};
pub use ending::Goodbye;
pub use output::{Answer, Cause, Close, Message, Output, Taken, Ticket};
pub use settings::{Expiry, Settings};
pub use stored::{Open, Reached};
pub use table::{Options, Requested, Subscription, SubscriptionKey};
pub use will::OwnedWill;

use connect::{Credentials, Peer};
use inbound::Inbound;
use outbound::Outbound;
use stored::Stored;
use table::Subscriptions;
use timer::Timer;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No CONNECT yet.
    Fresh,
    /// CONNECT is with the relay, which accepts or refuses it.
    Offered,
    /// AUTH was sent, and the client is to answer it.
    Challenged,
    /// CONNACK with success was sent.
    Live,
    /// Over; only the outbox may still hold bytes.
    Closed,
}

/// One client's session, as long as its connection lives.
///
/// Tables are allocated on first use, so an idle subscriber costs this struct, its client id and its subscriptions.
pub struct Session {
    settings: Arc<Settings>,
    phase: Phase,
    version: Version,
    peer: Peer,
    client_id: Box<str>,
    credentials: Option<Box<Credentials>>,
    will: Option<Box<OwnedWill>>,
    goodbye: Option<Goodbye>,
    timer: Timer,
    inbound: Inbound,
    outbound: Outbound,
    subscriptions: Subscriptions,
    /// Of one that outlives its connection.
    stored: Option<Box<Stored>>,
    outputs: VecDeque<Output>,
    outbox: Outbox,
    /// See [`Session::hush`].
    hushed: bool,
    /// Packets encoded and not yet reported, by the type number of the fixed header (§2.1.2).
    sent: [u32; 16],
}

impl Session {
    /// A connection that was just accepted: its CONNECT is due within [`Settings::connect_timeout`].
    pub fn new(settings: Arc<Settings>, now: Instant) -> Self {
        let timer = Timer::new(now, settings.connect_timeout);
        Self {
            settings,
            phase: Phase::Fresh,
            version: Version::V311,
            peer: Peer::default(),
            client_id: "".into(),
            credentials: None,
            will: None,
            goodbye: None,
            timer,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            subscriptions: Subscriptions::default(),
            stored: None,
            outputs: VecDeque::new(),
            outbox: Outbox::default(),
            hushed: false,
            sent: [0; 16],
        }
    }

    /// Takes one packet of the client. Drain [`Session::poll`] before the next one: its outputs speak of `packet`.
    ///
    /// While [`Session::may_read`] is false no packet may be handed over; see there.
    pub fn handle(&mut self, packet: &Packet<'_>, now: Instant) {
        self.timer.heard(now);
        self.timer.whole();
        match (self.phase, packet) {
            (Phase::Live, Packet::Publish(publish)) => self.publish(publish, now),
            (Phase::Live, packet) => self.handle_live(packet, now),
            (Phase::Fresh, Packet::Connect(connect)) => self.connect(connect, now),
            // [MQTT-3.1.0-1]: the first packet is a CONNECT. Nobody is told why: this may be no MQTT client at all.
            (Phase::Fresh, _) => self.end(ReasonCode::ProtocolError, "the first packet was no CONNECT", now),
            (Phase::Challenged, packet) => self.handle_challenged(packet, now),
            (Phase::Offered, _) => self.end(ReasonCode::ProtocolError, "a packet before the answer to CONNECT", now),
            (Phase::Closed, _) => {}
        }
    }

    /// What a client may send beside PUBLISH once it is connected.
    fn handle_live(&mut self, packet: &Packet<'_>, now: Instant) {
        match packet {
            Packet::PubAck(ack) => self.puback(ack, now),
            Packet::PubRec(ack) => self.pubrec(ack, now),
            Packet::PubRel(ack) => self.pubrel(ack, now),
            Packet::PubComp(ack) => self.pubcomp(ack, now),
            Packet::Subscribe(subscribe) => self.subscribe(subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, now),
            Packet::PingReq => {
                // Who asks has had nothing else to say for a keep alive.
                self.shrink();
                self.send_or_end(&Packet::PingResp, now);
            }
            Packet::Disconnect(disconnect) => self.disconnect(disconnect, now),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => self.end(ReasonCode::ProtocolError, "a second CONNECT", now),
            Packet::Auth(auth) => self.authenticate_again(auth, now),
            Packet::Publish(publish) => self.publish(publish, now),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.end(ReasonCode::ProtocolError, "a packet only servers send", now);
            }
        }
    }

    /// The next output, in order; `None` when all are taken.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Session::tick`] is due next, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Fresh | Phase::Offered | Phase::Challenged => Some(self.timer.connect_deadline()),
            Phase::Live => {
                let deadlines = [self.timer.keep_alive_deadline(), self.timer.part_deadline()];
                deadlines.into_iter().flatten().min()
            }
            Phase::Closed => None,
        }
    }

    /// Lets time pass: ends the session if a deadline is over.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.phase {
            Phase::Fresh => self.end_from_outside(ReasonCode::MaximumConnectTime, "no CONNECT within connect_timeout", now),
            Phase::Challenged => self.end_from_outside(ReasonCode::NotAuthorized, "no AUTH within connect_timeout", now),
            Phase::Offered => self.end(ReasonCode::ServerUnavailable, "no connection within connect_timeout", now),
            Phase::Live if self.timer.part_deadline().is_some_and(|due| now >= due) => {
                let why = "a packet that has begun did not go on within packet_timeout";
                self.end_from_outside(ReasonCode::QuotaExceeded, why, now);
            }
            // [MQTT-3.1.2-22]
            Phase::Live => self.end_from_outside(ReasonCode::KeepAliveTimeout, "nothing heard for one and a half keep alives", now),
            Phase::Closed => {}
        }
    }

    /// The relay stops reading the socket (back-pressure). All clocks stand: PINGREQ and DISCONNECT, or the rest of a packet, lie behind what is not read.
    pub fn reading_paused(&mut self, now: Instant) {
        self.timer.stand(true, now);
    }

    /// The relay stops reading the socket, since the client does not take what it is sent: only the clock of a packet that has come in part stands.
    pub fn reading_put_off(&mut self, now: Instant) {
        self.timer.stand(false, now);
    }

    /// Reading goes on, and so do the clocks, from where they stood.
    pub fn resumed(&mut self, now: Instant) {
        self.timer.go_on(now);
    }

    /// The process has not looked at its clocks in time: the deadlines of a client that is connected count from `now`.
    pub fn slept(&mut self, now: Instant) {
        self.timer.slept(self.settings.packet_timeout, now);
    }

    /// The client takes what it is sent while its packets are not read: keep alive counts from `now`.
    pub fn taken(&mut self, now: Instant) {
        self.timer.heard(now);
    }

    /// So many bytes lie in the input that are no whole packet, and more of them is read; 0 if that is not so. A packet that has begun goes
    /// on, whatever keep alive says: it holds memory. Whether it has begun with them, or goes on.
    pub fn waits_for_rest(&mut self, bytes: usize, now: Instant) -> bool {
        self.phase == Phase::Live && self.timer.part(bytes, self.settings.packet_timeout, now)
    }

    /// No byte of a packet has come, but a part of what may carry one (a TLS record, a frame of WebSocket), which goes on as a packet does.
    pub fn waits_for_carrier(&mut self, now: Instant) {
        if self.phase == Phase::Live {
            self.timer.below(self.settings.packet_timeout, now);
        }
    }

    /// Whether the next packet may be handed over.
    ///
    /// False between CONNECT and its answer, when a 3.x client has `receive_maximum` PUBLISHes unanswered (it cannot be told the limit,
    /// so its socket is left unread), when too many SUBSCRIBEs and UNSUBSCRIBEs are unanswered, and when the end waits for answers that are owed.
    pub fn may_read(&self) -> bool {
        match self.phase {
            Phase::Fresh | Phase::Challenged => true,
            Phase::Offered | Phase::Closed => false,
            Phase::Live => {
                let answers_full = self.version != Version::V5 && self.inbound.unanswered() >= usize::from(self.settings.receive_maximum);
                !answers_full && !self.subscriptions.is_busy() && !self.inbound.is_ending()
            }
        }
    }

    /// What waits to be written to the socket. Packets are encoded straight into it.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The version of CONNECT; 3.1.1 before.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The client identifier, also an assigned one; empty before CONNECT.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether CONNACK with success was sent and the session has not ended.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the client is to answer AUTH before CONNECT is answered.
    pub fn is_challenged(&self) -> bool {
        self.phase == Phase::Challenged
    }

    /// Whether the session has ended: write what the outbox holds, then close the socket.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Gives back memory that only a busy session needs: a connection has gone quiet.
    fn shrink(&mut self) {
        self.inbound.shrink();
        self.outbound.shrink();
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
        self.outbox.shrink();
    }

    /// The topic of a PUBLISH just handled, its alias resolved (§3.3.2.3.4).
    pub fn resolved_topic<'a>(&'a self, publish: &Publish<'a>) -> &'a str {
        self.inbound.resolved_topic(publish)
    }

    /// Encodes a packet into the outbox; false, and nothing written, if it is too large for the client [MQTT-3.1.2-24].
    fn send(&mut self, packet: &Packet<'_>) -> bool {
        let limit = self.peer.maximum_packet_size as usize;
        let buffer = self.outbox.buffer();
        let start = buffer.len();
        let fits = encode(packet, self.version, buffer).is_ok() && buffer.len() - start <= limit;
        if fits {
            let kind = buffer[start] >> 4;
            self.sent[usize::from(kind)] += 1;
        } else {
            buffer.truncate(start);
        }
        fits
    }

    /// The packets that were put into the outbox since the last call, by the type number of the fixed header (§2.1.2).
    pub fn take_sent(&mut self) -> [u32; 16] {
        std::mem::take(&mut self.sent)
    }

    /// Sends what the client cannot do without; a client that does not take it cannot go on.
    fn send_or_end(&mut self, packet: &Packet<'_>, now: Instant) {
        if !self.send(packet) {
            self.end(
                ReasonCode::PacketTooLarge,
                "the client's maximum packet size is below an answer it needs",
                now,
            );
        }
    }

    /// Sends one of the four acknowledgements; the reason string goes along if the client wants it and it fits
    /// [MQTT-3.1.2-29], [MQTT-3.4.2-2].
    fn send_ack(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode, reason_string: Option<&'static str>, now: Instant) {
        let reason_string = reason_string.filter(|_| self.peer.problem_information);
        let ack = Ack {
            packet_id,
            reason,
            reason_string,
            user: Default::default(),
        };
        if reason_string.is_some() && self.send(&kind.packet(ack)) {
            return;
        }
        self.send_or_end(
            &kind.packet(Ack {
                reason_string: None,
                ..ack
            }),
            now,
        );
    }
}

/// Which acknowledgement.
#[derive(Clone, Copy, Debug)]
enum AckKind {
    Ack,
    Rec,
    Rel,
    Comp,
}

impl AckKind {
    fn packet(self, ack: Ack<'_>) -> Packet<'_> {
        match self {
            AckKind::Ack => Packet::PubAck(ack),
            AckKind::Rec => Packet::PubRec(ack),
            AckKind::Rel => Packet::PubRel(ack),
            AckKind::Comp => Packet::PubComp(ack),
        }
    }
}
