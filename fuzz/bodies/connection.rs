//! Any list of what can happen to one connection: nothing panics, and all that the client is sent are whole packets that it may get.
//!
//! A byte from 16 on begins a packet of the client. One below, with the byte behind it, is what happens on the proxy's side.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::{Packet, QoS, ReasonCode, Version};
use mqtt_kafka_proxy::session::{Accepted, Answer, Message, Output, Session, Settings, SubscriptionKey, Ticket};

struct Connection {
    session: Session,
    now: Instant,
    version: Option<Version>,
    /// A CONNECT waits for its answer.
    asked: bool,
    /// PUBLISHes of QoS 1 and 2 without an answer.
    open: Vec<Ticket>,
    /// SUBSCRIBE and its filters, or UNSUBSCRIBE.
    requests: Vec<(Ticket, Option<usize>)>,
    sent: usize,
}

/// How many packets the client is sent.
pub fn check(bytes: &[u8]) -> usize {
    let now = Instant::now();
    let settings = Settings {
        receive_maximum: 4,
        send_maximum: 5,
        topic_alias_maximum: 2,
        ..Settings::default()
    };
    let mut connection = Connection {
        session: Session::new(Arc::new(settings), now),
        now,
        version: None,
        asked: false,
        open: Vec::new(),
        requests: Vec::new(),
        sent: 0,
    };
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        rest = if *first < 16 {
            connection.happens(*first, more.first().copied().unwrap_or_default());
            more.get(1..).unwrap_or_default()
        } else {
            connection.reads(rest)
        };
        connection.observe();
    }
    connection.sent
}

impl Connection {
    /// The first packet of these bytes; what is behind it.
    fn reads<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.session.is_closed() || !self.session.may_read() {
            return &bytes[1..];
        }
        let decoder = Decoder {
            version: self.version,
            role: Role::Server,
            max_packet_size: 1 << 16,
        };
        match decoder.decode(bytes) {
            Ok(None) => &[],
            Ok(Some((packet, used))) => {
                if let Packet::Connect(connect) = &packet {
                    self.version.get_or_insert(connect.version);
                }
                self.session.handle(&packet, self.now);
                &bytes[used..]
            }
            Err(error) => {
                self.session.malformed(error, self.now);
                &[]
            }
        }
    }

    fn happens(&mut self, what: u8, with: u8) {
        if self.session.is_closed() {
            return;
        }
        let (session, now) = (&mut self.session, self.now);
        match what {
            0 | 1 if !std::mem::take(&mut self.asked) => {}
            0 if with >= 128 => session.challenge(b"challenge", now),
            0 if session.is_live() => session.reauthenticated(b"proof", now),
            0 => session.accept(accepted(session.client_id()), now),
            1 => session.refuse(ReasonCode::NotAuthorized, now),
            2 => self.answer(with, Answer::Acked),
            3 => self.answer(
                with,
                Answer::Refused {
                    reason: ReasonCode::PacketTooLarge,
                    reason_string: Some("larger than Kafka takes"),
                },
            ),
            4 => self.answer(with, Answer::Unknown),
            5 | 6 => self.answer_request(with, what == 6),
            7..=9 => self.deliver([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(what - 7)], with),
            10 => {
                self.now += Duration::from_secs(with.into());
                session.tick(self.now);
            }
            11 => session.reading_paused(now),
            12 => session.resumed(now),
            13 => session.take_over(now),
            14 => session.shut_down(now),
            _ => session.lost(now),
        }
    }

    fn answer(&mut self, which: u8, answer: Answer) {
        if !self.open.is_empty() {
            let ticket = self.open.remove(usize::from(which) % self.open.len());
            self.session.answer(ticket, answer, self.now);
        }
    }

    fn answer_request(&mut self, which: u8, refuse: bool) {
        if self.requests.is_empty() {
            return;
        }
        let reason = if refuse {
            ReasonCode::NotAuthorized
        } else {
            ReasonCode::GrantedQoS2
        };
        match self.requests.remove(usize::from(which) % self.requests.len()) {
            (ticket, Some(filters)) => self.session.answer_subscribe(ticket, &vec![reason; filters], self.now),
            (ticket, None) => self.session.answer_unsubscribe(ticket, self.now),
        }
    }

    fn deliver(&mut self, qos: QoS, size: u8) {
        let keys: Vec<SubscriptionKey> = self.session.subscriptions().iter().map(|known| known.key).collect();
        if keys.is_empty() {
            return;
        }
        let message = Message {
            topic: "a/b",
            payload: &Bytes::from(vec![b'x'; size.into()]),
            shared_properties: &[],
            qos,
            retain: size % 2 == 1,
            retained: false,
            message_expiry_interval: None,
            publisher: None,
            subscriptions: &keys,
            token: 1,
        };
        let _ = self.session.deliver(&message, self.now);
    }

    fn observe(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Connect | Output::Authenticate => self.asked = true,
                Output::Publish { ticket } => self.open.extend(ticket),
                Output::Subscribe { ticket } => self.requests.push((ticket, Some(self.session.requested(ticket).len()))),
                Output::Unsubscribe { ticket } => self.requests.push((ticket, None)),
                Output::PublishWill => drop(self.session.take_will().expect("a will is there")),
                Output::Settled { token } => assert_eq!(token, 1),
                Output::WindowOpen => assert!(self.session.window() > 0),
                Output::Close(_) => assert!(self.session.is_closed()),
                Output::PubRel { .. } | Output::PubRec { .. } => panic!("{output:?} of a session that is not stored"),
            }
        }
        let bytes = self.written();
        let decoder = Decoder {
            version: Some(self.session.version()),
            role: Role::Client,
            max_packet_size: 1 << 16,
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match decoder.decode(rest) {
                Ok(Some((_, used))) => rest = &rest[used..],
                other => panic!("the client is sent {other:?}: {rest:x?}"),
            }
            self.sent += 1;
        }
    }

    fn written(&mut self) -> Vec<u8> {
        let (outbox, mut bytes) = (self.session.outbox(), Vec::new());
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = outbox.io_slices(&mut slices);
            let taken: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
            outbox.advance(taken);
        }
        bytes
    }
}

fn accepted(client: &str) -> Accepted {
    Accepted {
        assigned_client_id: client.is_empty().then(|| "made-up".to_owned()),
        ..Accepted::default()
    }
}
