//! Any list of operations: nothing panics, and what the session promises holds after each of them.
//!
//! The model beside the session knows only what went in and what came out, and reads the packets with `mqttbytes`.

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

mod session_client;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mqtt_kafka_proxy::mqtt::codec::DecodeError;
use mqtt_kafka_proxy::mqtt::{Connect, Packet, PublishProperties, QoS, ReasonCode, SubscribeFilter, Version};
use mqtt_kafka_proxy::session::{Accepted, Answer, Message, Output, Settings, SubscriptionKey, Taken, Ticket};
use mqttbytes::{v4, v5};
use proptest::prelude::*;
use session_client::*;

const TOPICS: [&str; 3] = ["a/b", "long/topic/1", "long/topic/2"];

/// One thing that can happen to a session. A polite client keeps to the protocol; a wild one, now and then, does not.
#[derive(Clone, Debug)]
enum Op {
    Publish {
        wild: bool,
        id: u16,
        qos: u8,
        dup: bool,
        alias: Option<u16>,
        named: bool,
    },
    WildAck {
        kind: u8,
        id: u16,
        error: bool,
    },
    Ack {
        which: usize,
        error: bool,
    },
    Release {
        which: usize,
    },
    Subscribe {
        topic: usize,
        qos: u8,
        no_local: bool,
        id: Option<u32>,
    },
    Unsubscribe {
        topic: usize,
    },
    Ping,
    Answer {
        which: usize,
        kind: u8,
    },
    AnswerRequest {
        which: usize,
        refuse: bool,
    },
    Deliver {
        topic: usize,
        qos: u8,
        size: usize,
        own: bool,
    },
    Wait {
        seconds: u64,
    },
    Pause,
    PutOff,
    Resume,
    Rest {
        bytes: usize,
    },
    /// The relay refuses a PUBLISH of QoS 0.
    Refuse,
    End {
        kind: u8,
    },
}

fn wild() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.03)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (wild(), 1..30u16, 0..3u8, any::<bool>(), prop::option::weighted(0.2, 1..3u16), prop::bool::weighted(0.8))
            .prop_map(|(wild, id, qos, dup, alias, named)| Op::Publish { wild, id, qos, dup, alias, named }),
        1 => (0..4u8, 1..30u16, any::<bool>()).prop_map(|(kind, id, error)| Op::WildAck { kind, id, error }),
        8 => (0..8usize, prop::bool::weighted(0.2)).prop_map(|(which, error)| Op::Ack { which, error }),
        5 => (0..8usize).prop_map(|which| Op::Release { which }),
        3 => (0..3usize, 0..3u8, any::<bool>(), prop::option::of(1..300u32))
            .prop_map(|(topic, qos, no_local, id)| Op::Subscribe { topic, qos, no_local, id }),
        1 => (0..3usize).prop_map(|topic| Op::Unsubscribe { topic }),
        2 => Just(Op::Ping),
        8 => (0..8usize, 0..12u8).prop_map(|(which, kind)| Op::Answer { which, kind }),
        4 => (0..3usize, prop::bool::weighted(0.2)).prop_map(|(which, refuse)| Op::AnswerRequest { which, refuse }),
        10 => (0..3usize, 0..3u8, 0..120usize, any::<bool>()).prop_map(|(topic, qos, size, own)| Op::Deliver { topic, qos, size, own }),
        1 => (0..40u64).prop_map(|seconds| Op::Wait { seconds }),
        1 => Just(Op::Pause),
        1 => Just(Op::PutOff),
        1 => Just(Op::Resume),
        1 => (0..3000usize).prop_map(|bytes| Op::Rest { bytes }),
        1 => prop::bool::weighted(0.1).prop_map(|refuses| if refuses { Op::Refuse } else { Op::Ping }),
        1 => prop_oneof![20 => Just(9u8), 1 => 0..6u8].prop_map(|kind| Op::End { kind }),
    ]
}

fn qos(qos: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

/// A PUBLISH whose acknowledgement is owed, in order.
#[derive(Debug)]
struct Owed {
    packet_id: u16,
    exactly_once: bool,
    /// `None` for a PUBREC that is only repeated.
    ticket: Option<Ticket>,
    answered: bool,
}

struct Model {
    client: Client,
    receive_maximum: usize,
    packet_size: usize,
    alias_maximum: u16,
    owed: VecDeque<Owed>,
    /// QoS 2 ids with PUBREC and without PUBREL.
    received: Vec<u16>,
    /// Ids open towards the client: QoS, and whether it has sent PUBREC.
    open: HashMap<u16, (u8, bool)>,
    aliases: HashMap<u16, String>,
    requests: Vec<(Ticket, bool)>,
    /// Aliases the client has taught.
    taught: Vec<u16>,
    closed: bool,
}

impl Model {
    fn new(version: Version, receive_maximum: u16, packet_size: u32, alias_maximum: u16, keep_alive: u16) -> Self {
        let mut connect = Connect {
            keep_alive,
            will: Some(will()),
            ..connect(version)
        };
        let limited = version == Version::V5;
        if limited {
            connect.properties.receive_maximum = Some(receive_maximum);
            connect.properties.maximum_packet_size = Some(packet_size);
            connect.properties.topic_alias_maximum = Some(alias_maximum);
        }
        let settings = Settings {
            receive_maximum: 4,
            send_maximum: 5,
            topic_alias_maximum: 2,
            outbound_queue: 400,
            ..Settings::default()
        };
        let mut client = Client::fresh(version, settings);
        client.send(&Packet::Connect(Box::new(connect)));
        client.session.accept(Accepted::default(), client.now);
        let mut model = Self {
            client,
            receive_maximum: if limited { usize::from(receive_maximum).min(5) } else { 5 },
            packet_size: if limited { packet_size as usize } else { usize::MAX },
            alias_maximum: alias_maximum.min(2),
            owed: VecDeque::new(),
            received: Vec::new(),
            open: HashMap::new(),
            aliases: HashMap::new(),
            requests: Vec::new(),
            taught: Vec::new(),
            closed: false,
        };
        model.observe();
        model
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Publish {
                wild,
                id,
                qos: level,
                dup,
                alias,
                named,
            } => {
                let unknown = !named && alias.is_some_and(|alias| !self.taught.contains(&alias));
                if wild || (self.may_publish(id, level, dup) && !unknown) {
                    self.publish(id, level, dup, alias, named);
                }
            }
            Op::WildAck { kind, id, error } => self.ack(kind, id, error),
            Op::Ack { which, error } => self.polite_ack(which, error),
            Op::Release { which } => {
                if let Some(&id) = self.received.get(which % self.received.len().max(1)) {
                    self.ack(2, id, false);
                }
            }
            Op::Subscribe {
                topic,
                qos: level,
                no_local,
                id,
            } => {
                let filter = SubscribeFilter {
                    no_local,
                    ..filter(TOPICS[topic], qos(level))
                };
                self.send(&subscribe(100, &[filter], id));
            }
            Op::Unsubscribe { topic } => self.send(&unsubscribe(101, &[TOPICS[topic]])),
            Op::Ping => self.send(&Packet::PingReq),
            Op::Answer { which, kind } => self.answer(which, kind),
            Op::AnswerRequest { which, refuse } => self.answer_request(which, refuse),
            Op::Deliver {
                topic,
                qos: level,
                size,
                own,
            } => self.deliver(TOPICS[topic], qos(level), size, own),
            Op::Wait { seconds } => {
                let outputs = self.client.wait(Duration::from_secs(seconds));
                self.outputs(&outputs);
            }
            Op::Pause => self.client.session.reading_paused(self.client.now),
            Op::PutOff => self.client.session.reading_put_off(self.client.now),
            Op::Resume => self.client.session.resumed(self.client.now),
            Op::Rest { bytes } => self.rest(bytes),
            Op::Refuse => self.client.session.refused_at_qos_0(ReasonCode::NotAuthorized, self.client.now),
            Op::End { kind } => self.end(kind),
        }
        let outputs = self.client.outputs();
        self.outputs(&outputs);
        self.observe();
    }

    fn rest(&mut self, bytes: usize) {
        match bytes {
            1 => self.client.session.waits_for_carrier(self.client.now),
            bytes => drop(self.client.session.waits_for_rest(bytes, self.client.now)),
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        if self.closed || !self.client.session.may_read() {
            return;
        }
        let outputs = self.client.send(packet);
        self.outputs(&outputs);
    }

    /// Whether a client that keeps to the protocol could send this.
    fn may_publish(&self, id: u16, level: u8, dup: bool) -> bool {
        let owed = self.owed.iter().find(|owed| owed.packet_id == id && owed.ticket.is_some());
        let in_use = self.received.contains(&id) || owed.is_some();
        let repeats = dup && (level == 2 && (self.received.contains(&id) || owed.is_some_and(|owed| owed.exactly_once)));
        let full = self.owed.len() + self.received.len() >= 4;
        level == 0 || repeats || (!in_use && !full)
    }

    fn polite_ack(&mut self, which: usize, error: bool) {
        let mut ids: Vec<_> = self.open.keys().copied().collect();
        ids.sort_unstable();
        let Some(&id) = ids.get(which % ids.len().max(1)) else { return };
        let kind = match self.open[&id] {
            (1, _) => 0,
            (_, false) => 1,
            (_, true) => 3,
        };
        self.ack(kind, id, error);
    }

    fn publish(&mut self, id: u16, level: u8, dup: bool, alias: Option<u16>, named: bool) {
        if self.closed || !self.client.session.may_read() {
            return;
        }
        let alias = alias.filter(|_| self.client.version == Version::V5);
        let properties = PublishProperties {
            topic_alias: alias,
            ..Default::default()
        };
        let topic = if named || alias.is_none() { "up/1" } else { "" };
        let packet_id = if level == 0 { 0 } else { id };
        let packet = mqtt_kafka_proxy::mqtt::Publish {
            dup,
            topic,
            properties,
            ..publish(packet_id, qos(level))
        };
        let outputs = self.client.publish(packet);
        if named {
            self.taught.extend(alias);
        }
        match outputs[..] {
            [Output::Publish { ticket }] => {
                assert_eq!(ticket.is_some(), level > 0);
                assert!(!self.client.session.resolved_topic(&packet).is_empty());
                if ticket.is_some() {
                    assert!(!self.received.contains(&id), "a QoS 2 message was produced twice");
                    assert!(
                        !self.owed.iter().any(|owed| owed.packet_id == id),
                        "an id in use was produced again"
                    );
                    self.owed.push_back(Owed {
                        packet_id: id,
                        exactly_once: level == 2,
                        ticket,
                        answered: false,
                    });
                }
            }
            [] if self.received.contains(&id) => {
                self.owed.push_back(Owed {
                    packet_id: id,
                    exactly_once: true,
                    ticket: None,
                    answered: true,
                });
            }
            _ => self.outputs(&outputs),
        }
    }

    fn ack(&mut self, kind: u8, id: u16, error: bool) {
        if self.closed || !self.client.session.may_read() {
            return;
        }
        let reason = if error && self.client.version == Version::V5 && kind < 2 {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        };
        let packet = [Packet::PubAck, Packet::PubRec, Packet::PubRel, Packet::PubComp][usize::from(kind)](ack(id, reason));
        match (kind, self.open.get(&id).copied()) {
            (0, Some((1, _))) | (3, Some((2, true))) => drop(self.open.remove(&id)),
            (1, Some((2, false))) if reason != ReasonCode::Success => drop(self.open.remove(&id)),
            (1, Some((2, _))) => drop(self.open.insert(id, (2, true))),
            _ => {}
        }
        if kind == 2 {
            self.received.retain(|received| *received != id);
            // A PUBREC that was to be repeated is of no use any more.
            self.owed.retain(|owed| owed.packet_id != id || owed.ticket.is_some());
        }
        self.send(&packet);
    }

    fn answer(&mut self, which: usize, kind: u8) {
        let open: Vec<_> = self.owed.iter_mut().filter(|owed| !owed.answered).collect();
        let Some(count) = std::num::NonZeroUsize::new(open.len()) else {
            return;
        };
        let owed = open.into_iter().nth(which % count).unwrap();
        owed.answered = true;
        let answer = match kind {
            0 if which == 0 => Answer::Unknown,
            1 | 2 if which < 4 => Answer::Refused {
                reason: ReasonCode::PacketTooLarge,
                reason_string: Some("larger than Kafka takes"),
            },
            _ => Answer::Acked,
        };
        self.client.session.answer(owed.ticket.unwrap(), answer, self.client.now);
        // An error ends the exchange: no PUBREL follows. The wire tells below.
    }

    fn answer_request(&mut self, which: usize, refuse: bool) {
        if self.requests.is_empty() {
            return;
        }
        let (ticket, subscribes) = self.requests.remove(which % self.requests.len());
        if subscribes {
            let reason = if refuse {
                ReasonCode::NotAuthorized
            } else {
                ReasonCode::GrantedQoS2
            };
            self.client.session.answer_subscribe(ticket, &[reason], self.client.now);
        } else {
            self.client.session.answer_unsubscribe(ticket, self.client.now);
        }
    }

    fn deliver(&mut self, topic: &str, qos: QoS, size: usize, own: bool) {
        let payload = Bytes::from(vec![b'x'; size]);
        let subscriptions = self.client.session.subscriptions();
        let keys: Vec<SubscriptionKey> = subscriptions
            .iter()
            .filter(|known| &*known.filter == topic)
            .map(|known| known.key)
            .collect();
        let publisher = own.then_some("device");
        let message = Message {
            topic,
            publisher,
            token: 1,
            ..message(&payload, qos, &keys)
        };
        let before = self.client.session.outbox().len();
        let taken = self.client.session.deliver(&message, self.client.now);
        let after = self.client.session.outbox().len();
        assert_eq!(after > before, matches!(taken, Taken::Sent { .. }), "{taken:?}");
        if taken == Taken::WindowFull {
            assert_eq!(self.open.len(), self.receive_maximum);
        }
    }

    fn end(&mut self, kind: u8) {
        let now = self.client.now;
        let session = &mut self.client.session;
        match kind {
            0 => session.lost(now),
            1 => session.take_over(now),
            2 => session.shut_down(now),
            3 => session.malformed(
                DecodeError {
                    reason: ReasonCode::MalformedPacket,
                    rule: "",
                    detail: "",
                },
                now,
            ),
            4 => self.send(&disconnect(ReasonCode::Success)),
            5 => self.send(&Packet::Connect(Box::new(connect(self.client.version)))),
            _ => {}
        }
    }

    fn outputs(&mut self, outputs: &[Output]) {
        for output in outputs {
            assert!(!self.closed, "{output:?} after the end");
            match *output {
                Output::Subscribe { ticket } => self.requests.push((ticket, true)),
                Output::Unsubscribe { ticket } => self.requests.push((ticket, false)),
                Output::Close(_) => self.closed = true,
                Output::PublishWill => assert_eq!(self.client.session.take_will().unwrap().topic.as_ref(), "gone"),
                Output::Settled { token } => assert_eq!(token, 1),
                Output::WindowOpen => assert!(self.client.session.window() > 0),
                Output::Connect | Output::Authenticate | Output::Publish { .. } | Output::PubRel { .. } | Output::PubRec { .. } => {
                    panic!("{output:?}")
                }
            }
        }
    }

    /// Reads what the session sent.
    fn observe(&mut self) {
        let mut stream = BytesMut::from(&self.client.bytes()[..]);
        while !stream.is_empty() {
            let before = stream.len();
            if self.client.version == Version::V5 {
                let packet = v5::read(&mut stream, usize::MAX).unwrap();
                self.observe5(packet);
            } else {
                let packet = v4::read(&mut stream, usize::MAX).unwrap();
                self.observe4(packet);
            }
            assert!(before - stream.len() <= self.packet_size, "larger than the client takes");
        }
        assert!(
            self.closed || !self.owed.front().is_some_and(|owed| owed.answered),
            "an acknowledgement is held back: {:?}",
            self.owed
        );
    }

    fn observe5(&mut self, packet: v5::Packet) {
        match packet {
            v5::Packet::PubAck(p) => self.acknowledged(p.pkid, false, p.reason as u8 >= 0x80),
            v5::Packet::PubRec(p) => self.acknowledged(p.pkid, true, p.reason as u8 >= 0x80),
            v5::Packet::Publish(p) => {
                let alias = p.properties.as_ref().and_then(|properties| properties.topic_alias);
                if let Some(alias) = alias {
                    assert!((1..=self.alias_maximum).contains(&alias));
                    if !p.topic.is_empty() {
                        self.aliases.insert(alias, p.topic.clone());
                    }
                }
                let topic = if p.topic.is_empty() {
                    &self.aliases[&alias.unwrap()]
                } else {
                    &p.topic
                };
                assert!(TOPICS.contains(&topic.as_str()));
                self.published(p.pkid, p.qos as u8, p.dup);
            }
            _ => {}
        }
    }

    fn observe4(&mut self, packet: v4::Packet) {
        match packet {
            v4::Packet::PubAck(p) => self.acknowledged(p.pkid, false, false),
            v4::Packet::PubRec(p) => self.acknowledged(p.pkid, true, false),
            v4::Packet::Publish(p) => self.published(p.pkid, p.qos as u8, p.dup),
            _ => {}
        }
    }

    /// [MQTT-4.6.0-2], and never before the answer.
    fn acknowledged(&mut self, packet_id: u16, exactly_once: bool, error: bool) {
        let owed = self.owed.pop_front().expect("an acknowledgement nobody asked for");
        assert_eq!((owed.packet_id, owed.exactly_once), (packet_id, exactly_once));
        assert!(owed.answered, "acknowledged before the answer");
        if exactly_once && !error && owed.ticket.is_some() {
            self.received.push(packet_id);
        }
    }

    fn published(&mut self, packet_id: u16, qos: u8, dup: bool) {
        assert!(!dup, "nothing is sent twice on a live connection");
        if qos > 0 {
            assert!(
                self.open.insert(packet_id, (qos, false)).is_none(),
                "packet id {packet_id} is in use twice"
            );
            assert!(self.open.len() <= self.receive_maximum);
        }
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_list_of_operations_keeps_the_promises(
        version in version(),
        receive_maximum in 1..8u16,
        packet_size in 90..160u32,
        alias_maximum in 0..4u16,
        keep_alive in 0..100u16,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::new(version, receive_maximum, packet_size, alias_maximum, keep_alive);
        for op in &ops {
            model.apply(op);
        }
        prop_assert_eq!(model.closed, model.client.session.is_closed());
    }
}
