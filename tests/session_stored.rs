//! A stored session over any number of connections: what its client gets, whatever is lost in between.
//!
//! The world around the session is a log, a store that is written in order and may lose its last steps with a connection, and a client
//! that keeps the receiver's half of QoS 2 (§4.3.3, method A: by packet ids).

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

mod session_client;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::{Bytes, BytesMut};
use mqtt_kafka_proxy::mqtt::{Packet, QoS, ReasonCode, RetainHandling, Version};
use mqtt_kafka_proxy::session::{Accepted, Message, Open, Options, Output, Present, Reached, Settings, SubscriptionKey, Taken};
use mqttbytes::{v4, v5};
use proptest::prelude::*;
use session_client::*;

const SEND_MAXIMUM: u16 = 6;

/// One thing that can happen.
#[derive(Clone, Debug)]
enum Op {
    /// The next message of the log is handed to the session.
    Read,
    /// The store reads its next step back.
    Step,
    /// The client answers one of the packets that it owes an answer.
    Answer { which: usize, error: bool },
    /// A message of the log that is open from before is compacted away.
    Compact { which: usize },
    /// The connection ends, and of the steps that were not read back some are in the log; the client comes back.
    Return { kept: usize, receive_maximum: u16 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => Just(Op::Read),
        8 => Just(Op::Step),
        10 => (0..8usize, prop::bool::weighted(0.1)).prop_map(|(which, error)| Op::Answer { which, error }),
        1 => (0..8usize).prop_map(|which| Op::Compact { which }),
        2 => (0..12usize, 1..8u16).prop_map(|(kept, receive_maximum)| Op::Return { kept, receive_maximum }),
    ]
}

/// What the store writes, in order.
#[derive(Clone, Debug)]
enum Written {
    Send { packet: u16, at: usize, flight: Vec<(u16, usize)> },
    Released { packet: u16 },
    Settled { packet: u16 },
}

/// What the log knows of the session.
#[derive(Clone, Debug, Default)]
struct Stored {
    position: usize,
    /// Packet id → message, and whether it is released.
    outbound: BTreeMap<u16, (usize, bool)>,
    flight: BTreeMap<u16, usize>,
}

impl Stored {
    fn write(&mut self, written: &Written) {
        match written {
            Written::Send { packet, at, flight } => {
                self.position = at + 1;
                self.flight.extend(flight.iter().copied());
                self.flight.remove(packet);
                self.outbound.insert(*packet, (*at, false));
            }
            Written::Released { packet } => self.outbound.get_mut(packet).into_iter().for_each(|out| out.1 = true),
            Written::Settled { packet } => {
                self.flight.remove(packet);
                self.outbound.remove(packet);
            }
        }
    }

    fn open(&self) -> Vec<(usize, u16, Reached)> {
        let flight = self.flight.iter().map(|(packet, at)| (*at, *packet, Reached::AtLeastOnce));
        let outbound = self.outbound.iter().map(|(packet, (at, released))| {
            let reached = [Reached::ExactlyOnce, Reached::Released][usize::from(*released)];
            (*at, *packet, reached)
        });
        let mut open: Vec<_> = flight.chain(outbound).collect();
        open.sort_by_key(|(at, ..)| *at);
        open
    }
}

/// The client's end.
#[derive(Debug, Default)]
struct Receiver {
    receive_maximum: usize,
    /// What this connection has in flight: packet id → message.
    in_flight: HashMap<u16, usize>,
    /// Answers it owes: (type number, packet id).
    owes: Vec<(u8, u16)>,
    /// QoS 2 messages that it has and that were not released: over connections.
    unreleased: HashMap<u16, usize>,
    /// What it has handed on, by message.
    got: HashMap<usize, usize>,
    /// It refused these: nothing is promised of them.
    refused: HashSet<usize>,
    /// The last message that it saw for the first time, by QoS.
    newest: [Option<usize>; 3],
    /// Of this connection.
    last: [Option<usize>; 3],
}

impl Receiver {
    fn publish(&mut self, packet: u16, qos: u8, dup: bool, at: usize) {
        let level = usize::from(qos);
        assert!(self.in_flight.insert(packet, at).is_none(), "packet id {packet} is in use twice");
        assert!(self.in_flight.len() <= self.receive_maximum, "more in flight than it takes");
        assert!(self.last[level] < Some(at), "out of order, or twice on one connection: {at}");
        self.last[level] = Some(at);
        assert!(dup || self.newest[2] < Some(at) || qos < 2, "a QoS 2 message is new twice: {at}");
        self.newest[level] = self.newest[level].max(Some(at));
        let first = qos < 2 || self.unreleased.insert(packet, at).is_none();
        assert!(
            first || self.unreleased[&packet] == at,
            "another message under a packet id of the client"
        );
        *self.got.entry(at).or_default() += usize::from(first);
        self.owes.push((if qos == 1 { 4 } else { 5 }, packet));
    }

    fn pubrel(&mut self, packet: u16) {
        self.unreleased.remove(&packet);
        self.owes.push((7, packet));
    }
}

struct World {
    version: Version,
    client: Client,
    /// QoS of each message.
    log: Vec<u8>,
    compacted: HashSet<usize>,
    stored: Stored,
    /// Not read back yet.
    writing: VecDeque<Written>,
    /// The next message to look at.
    cursor: usize,
    /// What lies below was looked at by earlier connections.
    resumed: usize,
    /// Message → packet id, of those to be sent again.
    again: BTreeMap<usize, u16>,
    /// QoS 1 messages on this connection, not told yet.
    flight: Vec<(u16, usize)>,
    /// Token → packet id.
    tokens: HashMap<u64, u16>,
    token: u64,
    receiver: Receiver,
}

impl World {
    fn new(version: Version, log: Vec<u8>, receive_maximum: u16) -> Self {
        let mut world = Self {
            version,
            client: Client::fresh(version, Settings::default()),
            log,
            compacted: HashSet::new(),
            stored: Stored::default(),
            writing: VecDeque::new(),
            cursor: 0,
            resumed: 0,
            again: BTreeMap::new(),
            flight: Vec::new(),
            tokens: HashMap::new(),
            token: 0,
            receiver: Receiver::default(),
        };
        world.connect(receive_maximum);
        world
    }

    fn connect(&mut self, receive_maximum: u16) {
        let mut connect = connect(self.version);
        connect.clean_start = false;
        if self.version == Version::V5 {
            connect.properties.receive_maximum = Some(receive_maximum);
        }
        let settings = Settings {
            send_maximum: SEND_MAXIMUM,
            outbound_queue: 200,
            ..Settings::default()
        };
        self.client = Client::fresh(self.version, settings);
        self.client.send(&Packet::Connect(Box::new(connect)));
        let maximum = if self.version == Version::V5 {
            receive_maximum
        } else {
            SEND_MAXIMUM
        };
        self.receiver.receive_maximum = maximum.min(SEND_MAXIMUM).into();
        self.receiver.in_flight.clear();
        self.receiver.owes.clear();
        self.receiver.last = [None; 3];
        self.tokens.clear();
        self.flight.clear();
        let open = self.stored.open();
        let unsent = open.iter().filter(|(.., reached)| *reached != Reached::Released);
        self.again = unsent.map(|(at, packet, _)| (*at, *packet)).collect();
        self.resumed = self.stored.position;
        self.cursor = self.again.keys().next().map_or(self.resumed, |at| self.resumed.min(*at));
        let open = open.iter().map(|(_, packet, reached)| {
            self.token += 1;
            self.tokens.insert(self.token, *packet);
            Open {
                packet_id: id(*packet),
                token: self.token,
                reached: *reached,
            }
        });
        let options = Options {
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
            subscription_id: None,
        };
        let present = Present {
            subscriptions: vec![("a/b".into(), options)],
            open: open.collect(),
            ..Present::default()
        };
        let accepted = Accepted {
            present: Some(present),
            stored: true,
            ..Accepted::default()
        };
        self.client.session.accept(accepted, self.client.now);
        self.observe();
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            // Both in one turn of the connection, so the second may get a packet id that the first sets free.
            Op::Read => drop(self.read() && self.read()),
            Op::Step => drop(self.step()),
            Op::Answer { which, error } => drop(self.answer(which, error)),
            Op::Compact { which } => {
                let at = self.again.keys().nth(which % self.again.len().max(1)).copied();
                self.compacted.extend(at);
            }
            Op::Return { kept, receive_maximum } => {
                let kept = kept.min(self.writing.len());
                let written: Vec<_> = self.writing.drain(..kept).collect();
                written.iter().for_each(|written| self.stored.write(written));
                self.writing.clear();
                self.connect(receive_maximum);
            }
        }
        self.observe();
    }

    /// False if there is nothing, or no room.
    fn read(&mut self) -> bool {
        let at = self.cursor;
        let Some(&level) = self.log.get(at) else { return false };
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)];
        let payload = Bytes::from(at.to_string());
        let message = Message {
            token: self.token + 1,
            ..message(&payload, qos, &[SubscriptionKey(0)])
        };
        let (session, now) = (&mut self.client.session, self.client.now);
        if let Some(&packet) = self.again.get(&at) {
            if self.compacted.contains(&at) {
                if let Some(token) = session.gone(id(packet)) {
                    self.settled(token);
                }
            } else if matches!(session.redeliver(id(packet), &message, now), Taken::WindowFull | Taken::OutboxFull) {
                return false;
            }
            self.again.remove(&at);
        } else if at >= self.resumed && !self.compacted.contains(&at) {
            match session.deliver_stored(&message, now) {
                Taken::WindowFull | Taken::OutboxFull => return false,
                Taken::Asked => {
                    let packet = session.last_packet_id();
                    self.token += 1;
                    self.tokens.insert(self.token, packet);
                    let flight = std::mem::take(&mut self.flight);
                    self.writing.push_back(Written::Send { packet, at, flight });
                }
                Taken::Sent { .. } => {
                    let packet = session.last_packet_id();
                    self.token += 1;
                    self.tokens.insert(self.token, packet);
                    self.flight.push((packet, at));
                }
                other => panic!("{other:?}"),
            }
        }
        self.cursor += 1;
        true
    }

    fn step(&mut self) -> bool {
        let Some(written) = self.writing.pop_front() else { return false };
        self.stored.write(&written);
        let (session, now) = (&mut self.client.session, self.client.now);
        match written {
            Written::Send { packet, .. } => session.permit(id(packet), now),
            Written::Released { packet } => session.release(id(packet), now),
            Written::Settled { .. } => {}
        }
        true
    }

    fn answer(&mut self, which: usize, error: bool) -> bool {
        if self.receiver.owes.is_empty() {
            return false;
        }
        let (kind, packet) = self.receiver.owes.remove(which % self.receiver.owes.len());
        let error = error && self.version == Version::V5 && kind == 5;
        let reason = if error { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
        if error {
            let at = self.receiver.unreleased.remove(&packet);
            self.receiver.refused.extend(at);
        }
        if kind != 5 || error {
            self.receiver.in_flight.remove(&packet);
        }
        let ack = ack(packet, reason);
        let packet = match kind {
            4 => Packet::PubAck(ack),
            5 => Packet::PubRec(ack),
            _ => Packet::PubComp(ack),
        };
        self.client.session.handle(&packet, self.client.now);
        true
    }

    /// Before any other message gets its packet id.
    fn settled(&mut self, token: u64) {
        let packet = self.tokens.remove(&token).expect("a message is settled once");
        let untold = self.flight.len();
        self.flight.retain(|(known, _)| *known != packet);
        if self.flight.len() == untold {
            self.writing.push_back(Written::Settled { packet });
        }
    }

    /// Takes the session's outputs and reads what it sent.
    fn observe(&mut self) {
        for output in self.client.outputs() {
            match output {
                Output::PubRec { packet_id } => self.writing.push_back(Written::Released { packet: packet_id.0.get() }),
                Output::Settled { token } => self.settled(token),
                Output::WindowOpen => {}
                other => panic!("{other:?}"),
            }
        }
        let mut counted = [0; 16];
        let mut stream = BytesMut::from(&self.client.bytes()[..]);
        while !stream.is_empty() {
            counted[usize::from(stream[0] >> 4)] += 1;
            if self.version == Version::V5 {
                match v5::read(&mut stream, usize::MAX).unwrap() {
                    v5::Packet::Publish(p) => self.receiver.publish(p.pkid, p.qos as u8, p.dup, number(&p.payload)),
                    v5::Packet::PubRel(p) => self.receiver.pubrel(p.pkid),
                    v5::Packet::ConnAck(_) => {}
                    other => panic!("{other:?}"),
                }
            } else {
                match v4::read(&mut stream, usize::MAX).unwrap() {
                    v4::Packet::Publish(p) => self.receiver.publish(p.pkid, p.qos as u8, p.dup, number(&p.payload)),
                    v4::Packet::PubRel(p) => self.receiver.pubrel(p.pkid),
                    v4::Packet::ConnAck(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(self.client.session.take_sent(), counted, "what is counted is what was sent");
    }

    /// Everything goes well from here on.
    fn finish(&mut self) {
        let (mut moved, mut steps) = (true, 0);
        while moved {
            moved = self.read() | self.step();
            self.observe();
            moved |= self.answer(0, false);
            self.observe();
            steps += 1;
            assert!(steps < 10_000, "it goes round in circles");
        }
        assert_eq!(self.cursor, self.log.len(), "it came to a halt");
        assert!(self.receiver.in_flight.is_empty());
        for (at, level) in self.log.iter().enumerate() {
            let times = self.receiver.got.get(&at).copied().unwrap_or(0);
            let lost = self.compacted.contains(&at) || self.receiver.refused.contains(&at);
            match level {
                2 if lost => assert!(times <= 1 || self.receiver.refused.contains(&at), "{at}: {times} times"),
                2 => assert_eq!(times, 1, "message {at}"),
                _ => assert!(times > 0 || lost, "message {at} is lost"),
            }
        }
    }
}

fn number(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_session_over_connections_delivers_each_message_as_promised(
        version in prop_oneof![Just(Version::V311), Just(Version::V5)],
        log in prop::collection::vec(1..3u8, 1..40),
        receive_maximum in 1..8u16,
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut world = World::new(version, log, receive_maximum);
        for op in &ops {
            world.apply(op);
        }
        world.finish();
    }
}

/// A session that came back often and never answered may have any number of messages open from before.
#[test]
fn a_session_whose_packet_ids_are_all_open_takes_nothing_new_and_goes_on_with_the_first_that_is_free() {
    let mut world = World::new(Version::V5, Vec::new(), 8);
    world.stored.position = 65_535;
    world.stored.flight = (1..=u16::MAX).map(|packet| (packet, usize::from(packet) - 1)).collect();
    world.connect(8);
    let payload = Bytes::from_static(b"65535");
    let (keys, now) = ([SubscriptionKey(0)], world.client.now);
    let message = message(&payload, QoS::AtLeastOnce, &keys);
    assert_eq!(world.client.session.window(), 6);
    assert_eq!(world.client.session.deliver_stored(&message, now), Taken::WindowFull);
    assert!(matches!(world.client.session.redeliver(id(700), &message, now), Taken::Sent { .. }));
    world.client.session.handle(&Packet::PubAck(ack(700, ReasonCode::Success)), now);
    assert!(matches!(world.client.session.deliver_stored(&message, now), Taken::Sent { .. }));
    assert_eq!(world.client.session.last_packet_id(), 700);
}
