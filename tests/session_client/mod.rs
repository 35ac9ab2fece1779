//! The client's end of a session in tests: packets in, and what comes out read by `mqttbytes`, which shares no line with our codec.
//!
//! Packets received are told as short lines ("puback 1", "publish 2 a/b q1") so that one script serves every version.

#![allow(dead_code)] // Each test binary uses its part.
#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mqtt_kafka_proxy::mqtt::{
    Ack, Connect, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, Version,
    Will,
};
use mqtt_kafka_proxy::session::{Accepted, Message, Output, Session, Settings, SubscriptionKey, Ticket};
use mqttbytes::{v4, v5};

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

pub struct Client {
    pub session: Session,
    pub now: Instant,
    pub version: Version,
}

pub fn id(id: u16) -> PacketId {
    PacketId(NonZeroU16::new(id).unwrap())
}

pub fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: "device",
        will: None,
        username: None,
        password: None,
        properties: Default::default(),
    }
}

pub fn will() -> Will<'static> {
    let properties = Default::default();
    Will {
        topic: "gone",
        payload: b"device",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: 0,
        properties,
    }
}

pub fn publish(packet_id: u16, qos: QoS) -> Publish<'static> {
    let packet_id = NonZeroU16::new(packet_id).map(PacketId);
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "a/b",
        packet_id,
        properties: Default::default(),
        payload: b"payload",
    }
}

pub fn ack(packet_id: u16, reason: ReasonCode) -> Ack<'static> {
    Ack {
        packet_id: id(packet_id),
        reason,
        reason_string: None,
        user: Default::default(),
    }
}

pub fn filter(filter: &str, qos: QoS) -> SubscribeFilter<'_> {
    SubscribeFilter {
        filter,
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    }
}

pub fn subscribe<'a>(packet_id: u16, filters: &[SubscribeFilter<'a>], subscription_id: Option<u32>) -> Packet<'a> {
    Packet::Subscribe(Subscribe {
        packet_id: id(packet_id),
        filters: filters.to_vec(),
        subscription_id,
        user: Default::default(),
    })
}

pub fn unsubscribe<'a>(packet_id: u16, filters: &[&'a str]) -> Packet<'a> {
    Packet::Unsubscribe(Unsubscribe {
        packet_id: id(packet_id),
        filters: filters.to_vec(),
        user: Default::default(),
    })
}

pub fn disconnect(reason: ReasonCode) -> Packet<'static> {
    let user = Default::default();
    Packet::Disconnect(Disconnect {
        reason,
        session_expiry_interval: None,
        reason_string: None,
        server_reference: None,
        user,
    })
}

pub fn message<'a>(payload: &'a Bytes, qos: QoS, subscriptions: &'a [SubscriptionKey]) -> Message<'a> {
    Message {
        topic: "a/b",
        payload,
        shared_properties: &[],
        qos,
        retain: false,
        retained: false,
        message_expiry_interval: None,
        publisher: None,
        subscriptions,
        token: 0,
    }
}

impl Client {
    pub fn fresh(version: Version, settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(Arc::new(settings), now),
            now,
            version,
        }
    }

    /// Sends `connect`, is accepted, and forgets the CONNACK.
    pub fn connected_as(connect: Connect<'_>, settings: Settings) -> Self {
        let mut client = Self::fresh(connect.version, settings);
        assert_eq!(client.send(&Packet::Connect(Box::new(connect))), [Output::Connect]);
        client.session.accept(Accepted::default(), client.now);
        let connack = client.received();
        assert_eq!(connack.len(), 1, "{connack:?}");
        assert!(client.session.is_live());
        client
    }

    /// Of a session that outlives its connection.
    pub fn stored(version: Version, settings: Settings) -> Self {
        let mut client = Self::fresh(version, settings);
        assert_eq!(client.send(&Packet::Connect(Box::new(connect(version)))), [Output::Connect]);
        let accepted = Accepted {
            stored: true,
            ..Accepted::default()
        };
        client.session.accept(accepted, client.now);
        assert_eq!(client.received().len(), 1);
        client
    }

    pub fn connected(version: Version) -> Self {
        Self::connected_as(connect(version), Settings::default())
    }

    /// One packet in; all outputs.
    pub fn send(&mut self, packet: &Packet<'_>) -> Vec<Output> {
        self.session.handle(packet, self.now);
        self.outputs()
    }

    pub fn publish(&mut self, publish: Publish<'_>) -> Vec<Output> {
        self.send(&Packet::Publish(publish))
    }

    /// A PUBLISH that must be handed on with a ticket.
    pub fn ticket(&mut self, packet_id: u16, qos: QoS) -> Ticket {
        match self.publish(publish(packet_id, qos))[..] {
            [Output::Publish { ticket: Some(ticket) }] => ticket,
            ref other => panic!("{other:?}"),
        }
    }

    /// Subscribes to `filters` and is granted what it asks for.
    pub fn subscribed(&mut self, filters: &[SubscribeFilter<'_>], subscription_id: Option<u32>) -> Vec<SubscriptionKey> {
        let [Output::Subscribe { ticket }] = self.send(&subscribe(1, filters, subscription_id))[..] else {
            panic!()
        };
        let keys = self.session.subscriptions().iter().map(|subscription| subscription.key).collect();
        self.session
            .answer_subscribe(ticket, &vec![ReasonCode::GrantedQoS2; filters.len()], self.now);
        self.received();
        keys
    }

    pub fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll()).collect()
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.session.tick(self.now);
        self.outputs()
    }

    /// Takes all bytes out of the outbox.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !self.session.outbox().is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = self.session.outbox().io_slices(&mut slices);
            let taken: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
            self.session.outbox().advance(taken);
        }
        bytes
    }

    /// Takes all packets out of the outbox, as lines.
    pub fn received(&mut self) -> Vec<String> {
        let mut stream = BytesMut::from(&self.bytes()[..]);
        let mut lines = Vec::new();
        while !stream.is_empty() {
            lines.push(if self.version == Version::V5 {
                line5(&mut stream)
            } else {
                line4(&mut stream)
            });
        }
        lines
    }

    /// Takes the only packet out of the outbox of a version 5 session.
    pub fn packet5(&mut self) -> v5::Packet {
        let mut stream = BytesMut::from(&self.bytes()[..]);
        let packet = v5::read(&mut stream, usize::MAX).unwrap();
        assert!(stream.is_empty());
        packet
    }
}

fn with_code(name: &str, packet_id: u16, code: u8) -> String {
    if code == 0 {
        format!("{name} {packet_id}")
    } else {
        format!("{name} {packet_id} {code:#04x}")
    }
}

fn line5(stream: &mut BytesMut) -> String {
    match v5::read(stream, usize::MAX).unwrap() {
        v5::Packet::ConnAck(p) => format!("connack {:#04x}", p.code as u8),
        v5::Packet::Publish(p) => {
            let properties = p.properties.as_ref();
            let alias = properties
                .and_then(|p| p.topic_alias)
                .map_or(String::new(), |alias| format!(" alias{alias}"));
            let ids = properties.map_or(String::new(), |p| {
                p.subscription_identifiers.iter().map(|id| format!(" sub{id}")).collect()
            });
            format!("{}{alias}{ids}", publish_line(p.pkid, &p.topic, p.qos as u8, p.dup, p.retain))
        }
        v5::Packet::PubAck(p) => with_code("puback", p.pkid, p.reason as u8),
        v5::Packet::PubRec(p) => with_code("pubrec", p.pkid, p.reason as u8),
        v5::Packet::PubRel(p) => with_code("pubrel", p.pkid, p.reason as u8),
        v5::Packet::PubComp(p) => with_code("pubcomp", p.pkid, p.reason as u8),
        v5::Packet::SubAck(p) => format!("suback {} {:?}", p.pkid, p.return_codes),
        v5::Packet::UnsubAck(p) => format!("unsuback {} {:?}", p.pkid, p.reasons),
        v5::Packet::PingResp => "pingresp".into(),
        v5::Packet::Disconnect(p) => format!("disconnect {:#04x}", p.reason_code as u8),
        other => panic!("{other:?}"),
    }
}

fn line4(stream: &mut BytesMut) -> String {
    match v4::read(stream, usize::MAX).unwrap() {
        v4::Packet::ConnAck(p) => format!("connack {:#04x}", p.code as u8),
        v4::Packet::Publish(p) => publish_line(p.pkid, &p.topic, p.qos as u8, p.dup, p.retain),
        v4::Packet::PubAck(p) => with_code("puback", p.pkid, 0),
        v4::Packet::PubRec(p) => with_code("pubrec", p.pkid, 0),
        v4::Packet::PubRel(p) => with_code("pubrel", p.pkid, 0),
        v4::Packet::PubComp(p) => with_code("pubcomp", p.pkid, 0),
        v4::Packet::SubAck(p) => format!("suback {} {:?}", p.pkid, p.return_codes),
        v4::Packet::UnsubAck(p) => format!("unsuback {}", p.pkid),
        v4::Packet::PingResp => "pingresp".into(),
        other => panic!("{other:?}"),
    }
}

fn publish_line(packet_id: u16, topic: &str, qos: u8, dup: bool, retain: bool) -> String {
    let flags = format!("{}{}", if dup { " dup" } else { "" }, if retain { " retain" } else { "" });
    format!("publish {packet_id} {topic} q{qos}{flags}")
}
