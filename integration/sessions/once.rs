//! QoS 2 of stored sessions: each message once in Kafka and once at the subscriber, wherever connections break.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Greeting, connect, instance, instance_in, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy};

/// Two instances.
pub(super) struct Fleet {
    proxies: Mutex<Vec<Proxy>>,
    /// Where all its clients connect, if not to one after the other.
    pub(super) front: Option<SocketAddr>,
}

impl Fleet {
    fn new(kafka: &Kafka, name: &str) -> Self {
        Self::whose_first(&[], kafka, name)
    }

    /// The first of them has variables in its environment.
    pub(super) fn whose_first(environment: &[(&str, &str)], kafka: &Kafka, name: &str) -> Self {
        let first = instance_in(environment, kafka, name, "");
        Self::of(vec![first, instance(kafka, name, "")])
    }

    pub(super) fn of(proxies: Vec<Proxy>) -> Self {
        Self {
            proxies: Mutex::new(proxies),
            front: None,
        }
    }

    /// Whether the process of an instance has ended.
    pub(super) fn is_dead(&self, at: usize) -> bool {
        self.proxies.lock().unwrap()[at % 2].is_dead()
    }

    pub(super) fn address(&self, at: usize) -> SocketAddr {
        let proxies = self.proxies.lock().unwrap();
        self.front.unwrap_or_else(|| proxies[at % proxies.len()].mqtt)
    }
}

/// A client that keeps its session, and goes from instance to instance.
pub(super) struct Device<'a> {
    fleet: &'a Fleet,
    name: &'a str,
    /// Connections it has left.
    at: usize,
    /// What it publishes is retained.
    pub(super) retains: bool,
    connection: Option<Client>,
}

impl<'a> Device<'a> {
    pub(super) fn new(fleet: &'a Fleet, name: &'a str) -> Self {
        Self {
            fleet,
            name,
            at: 0,
            retains: false,
            connection: None,
        }
    }

    /// A connection that goes on without it.
    pub(super) async fn leave(mut self) -> Client {
        self.connected().await;
        self.connection.take().unwrap()
    }

    /// The connection is cut; the next one is to the other instance.
    pub(super) fn hop(&mut self) {
        self.connection = None;
        self.at += 1;
    }

    /// A connection, and whether it is another than before.
    pub(super) async fn connected(&mut self) -> (&mut Client, bool) {
        let fresh = self.connection.is_none();
        let begun = Instant::now();
        while self.connection.is_none() {
            assert!(begun.elapsed() < DEADLINE, "{} is let in nowhere", self.name);
            match greet(self.fleet.address(self.at), self.name).await {
                Some(client) => self.connection = Some(client),
                None => {
                    self.at += 1;
                    // The interval of this bounded poll: it was killed and may be back soon.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        (self.connection.as_mut().unwrap(), fresh)
    }

    /// Says something and waits for the answer; `None` if the connection has ended.
    pub(super) async fn ask(&mut self, out: &[u8], answers: impl Fn(&Event) -> bool) -> Option<()> {
        let client = self.connection.as_mut()?;
        client.output.extend_from_slice(out);
        let done = async {
            client.flush().await.ok()?;
            loop {
                let event = client.next_within(DEADLINE).await.ok()?;
                if answers(&event) {
                    return Some(());
                }
            }
        };
        let done = done.await;
        if done.is_none() {
            self.hop();
        }
        done
    }
}

async fn greet(at: SocketAddr, name: &str) -> Option<Client> {
    let greeting = Greeting::staying(name);
    let mut client = Client::open(at, Version::V5).await.ok()?;
    client.output.extend_from_slice(&greeting.encode());
    client.flush().await.ok()?;
    match client.next_within(DEADLINE).await.ok()? {
        Event::ConnAck { accepted: true, .. } => Some(client),
        _ => None,
    }
}

/// A number below `below`, of a seed that moves on.
pub(super) fn chance(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

pub(super) fn publish_packet(topic: &str, id: u16, payload: &str, dup: bool) -> Vec<u8> {
    let mut packet = raw_publish(topic, id, &[], payload.as_bytes());
    packet[0] |= u8::from(dup) << 3;
    packet
}

/// PUBLISH of QoS 2 with properties as they stand on the wire.
fn raw_publish(topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    body.push(properties.len() as u8);
    body.extend_from_slice(properties);
    body.extend_from_slice(payload);
    [&[0x34, body.len() as u8][..], &body].concat()
}

pub(super) fn short_packet(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// One message through all its steps. The device forgets what the protocol lets it forget, and nothing else.
pub(super) async fn publish_once(device: &mut Device<'_>, topic: &str, id: u16, payload: &str, cut: &mut impl FnMut(usize, usize) -> bool) {
    let (mut tries, mut received) = (0, false);
    loop {
        let (_, fresh) = device.connected().await;
        assert!(!fresh || tries < 50, "{payload} makes no progress");
        tries += 1;
        if !received {
            let mut packet = publish_packet(topic, id, payload, tries > 1);
            packet[0] |= u8::from(device.retains);
            if cut(0, device.at) {
                let client = device.connection.as_mut().unwrap();
                client.output.extend_from_slice(&packet);
                // It may be dead already.
                let _ = client.flush().await;
                device.hop();
                continue;
            }
            let answers = |event: &Event| matches!(event, Event::PubRec(got, reason) if *got == id && *reason < 0x80);
            if device.ask(&packet, answers).await.is_none() {
                continue;
            }
            received = true;
            if cut(1, device.at) {
                device.hop();
                continue;
            }
        }
        let packet = short_packet(0x62, id);
        if cut(2, device.at) {
            let client = device.connection.as_mut().unwrap();
            client.output.extend_from_slice(&packet);
            let _ = client.flush().await;
            device.hop();
            continue;
        }
        if device.ask(&packet, |event| *event == Event::PubComp(id)).await.is_some() {
            return;
        }
    }
}

/// Takes messages until there are `count`; cuts the connection now and then at one of the steps.
pub(super) async fn take(device: &mut Device<'_>, count: usize, cut: &mut impl FnMut(usize, usize) -> bool) -> Vec<String> {
    let (mut got, mut open) = (Vec::new(), BTreeSet::new());
    let mut last = Instant::now();
    while got.len() < count || !open.is_empty() {
        assert!(
            last.elapsed() < 2 * DEADLINE,
            "{} of {count} messages have come: {:?}",
            got.len(),
            got.last()
        );
        let (client, _) = device.connected().await;
        let event = match client.next_within(DEADLINE).await {
            Ok(Event::Disconnect(_)) | Err(_) => {
                device.hop();
                continue;
            }
            Ok(event) => event,
        };
        let step = match &event {
            Event::Publish { payload, qos: 2, id, .. } => {
                // A packet id that is open: the same message again.
                if open.insert(*id) {
                    last = Instant::now();
                    got.push(String::from_utf8(payload.to_vec()).unwrap());
                }
                0
            }
            Event::PubRel(id) => {
                open.remove(id);
                1
            }
            _ => continue,
        };
        if cut(step, device.at) {
            device.hop();
            continue;
        }
        let client = device.connection.as_mut().unwrap();
        client.answer(&event).unwrap();
        if client.flush().await.is_err() || cut(step + 2, device.at) {
            device.hop();
        }
    }
    got
}

/// No message comes for a moment. PUBREL may: the connection was cut behind the last PUBCOMP.
pub(super) async fn no_more(client: &mut Client) {
    while let Ok(event) = client.next_within(Duration::from_millis(300)).await {
        assert!(matches!(event, Event::PubRel(_)), "{event:?}");
        client.answer(&event).unwrap();
        client.flush().await.unwrap();
    }
}

pub(super) fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:03}")).collect()
}

#[test]
fn each_step_of_a_publisher_can_break_and_kafka_has_each_message_once() {
    let kafka = shared_kafka();
    kafka.topic("oncein", 2);
    let fleet = Fleet::new(&kafka, "oncein");
    runtime().block_on(async {
        let mut device = Device::new(&fleet, "pump");
        for number in 0..8 {
            // Each step, and pairs of them.
            let mut left: Vec<usize> = [
                vec![],
                vec![0],
                vec![1],
                vec![2],
                vec![0, 0, 1],
                vec![0, 1, 2],
                vec![2, 2],
                vec![1, 2],
            ][number]
                .clone();
            let mut cut = |step: usize, _| left.first() == Some(&step) && !left.is_empty() && left.remove(0) == step;
            // The packet id is the same each time: an answer for one message must never count for the next.
            publish_once(&mut device, "oncein/1", 7, &format!("{number:03}"), &mut cut).await;
        }
    });
    assert_eq!(kafka.consume("oncein", "%s"), texts(8));
}

#[test]
fn each_step_of_a_subscriber_can_break_and_it_gets_each_message_once() {
    const COUNT: usize = 24;
    let kafka = shared_kafka();
    kafka.topic("onceout", 1);
    let fleet = Fleet::new(&kafka, "onceout");
    runtime().block_on(async {
        let mut device = Device::new(&fleet, "valve");
        let (client, _) = device.connected().await;
        assert_eq!(client.subscribe("onceout/+", 2).await.unwrap(), 2);
        let mut pump = Device::new(&fleet, "pump");
        for text in texts(COUNT) {
            publish_once(&mut pump, "onceout/1", 1, &text, &mut |_, _| false).await;
        }
        let mut seen = 0;
        let mut cut = |step: usize, _| {
            seen += 1;
            seen % 5 == step
        };
        assert_eq!(take(&mut device, COUNT, &mut cut).await, texts(COUNT));
        let (client, _) = device.connected().await;
        no_more(client).await;
    });
}

#[test]
fn a_refused_qos_2_message_leaves_no_pair_that_the_next_one_would_be_taken_for() {
    let kafka = shared_kafka();
    kafka.command(&["topic", "oncerefused", "1", "1", "max.message.bytes=300"]);
    let proxy = instance(&kafka, "oncerefused", "");
    runtime().block_on(async {
        let greeting = Greeting::staying("pump");
        let (mut client, _) = connect(proxy.mqtt, greeting).await;
        client.publish("oncerefused/1", 2, 5, &[b'x'; 1000]).unwrap();
        client.flush().await.unwrap();
        let answer = client.next_within(DEADLINE).await.unwrap();
        assert!(matches!(answer, Event::PubRec(5, reason) if reason >= 0x80), "{answer:?}");
        client.publish("oncerefused/1", 2, 5, b"small").unwrap();
        client.flush().await.unwrap();
        assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubRec(5, 0));
    });
    assert_eq!(kafka.consume("oncerefused", "%s"), ["small"]);
}

/// The first instance takes what the second would refuse: a message that the client has no right to any more, and one that is not the
/// text that it says it is. Both are repeated to the second.
#[test]
fn what_is_refused_when_it_is_repeated_leaves_no_pair_and_what_is_only_malformed_is_completed() {
    let kafka = shared_kafka();
    kafka.topic("oncechanged", 1);
    let rights = "[{deny: [publish], topics: [\"oncechanged/1\"]}, {allow: [publish], topics: [\"#\"]}]";
    let a = instance(&kafka, "oncechanged", "");
    let b = instance(
        &kafka,
        "oncechanged",
        &format!("}}\npayload_format_check: true\nauthorization: {rights}\nretained: {{memory: 2MiB"),
    );
    // With the payload format indicator.
    let [number, word] = [&b"\xb0"[..], b"ok"].map(|payload| raw_publish("oncechanged/2", 8, &[1, 1], payload));
    let (first, second) = (
        publish_packet("oncechanged/1", 7, "first", true),
        publish_packet("oncechanged/2", 7, "second", false),
    );
    runtime().block_on(async {
        let greeting = Greeting::staying("pump");
        let mut client = connect(a.mqtt, greeting).await.0;
        for (packet, id) in [(&number, 8), (&first, 7)] {
            assert_eq!(asked(&mut client, packet).await, Event::PubRec(id, 0));
        }
        drop(client);
        let (mut client, present) = connect(b.mqtt, greeting).await;
        assert!(present);
        assert_eq!(asked(&mut client, &first).await, Event::PubRec(7, 0x87));
        assert_eq!(asked(&mut client, &number).await, Event::PubRec(8, 0), "it was taken before");
        assert_eq!(asked(&mut client, &second).await, Event::PubRec(7, 0));
        assert_eq!(asked(&mut client, &short_packet(0x62, 8)).await, Event::PubComp(8));
        assert_eq!(asked(&mut client, &number).await, Event::PubRec(8, 0x99), "this one is new");
        assert_eq!(asked(&mut client, &word).await, Event::PubRec(8, 0));
    });
    // The number of bytes.
    assert_eq!(kafka.consume("oncechanged", "%S"), ["1", "5", "6", "2"]);
}

/// The answer to a packet.
async fn asked(client: &mut Client, packet: &[u8]) -> Event {
    client.output.extend_from_slice(packet);
    client.flush().await.unwrap();
    client.next_within(DEADLINE).await.unwrap()
}

#[test]
fn a_qos_2_message_that_its_rule_skips_is_counted_and_those_around_it_are_there_once() {
    let kafka = shared_kafka();
    kafka.command(&["topic", "onceskips", "1", "1", "max.message.bytes=300"]);
    let rule = "  - {name: onceskips, mqtt: \"onceskips/{device}\", kafka: {topic: onceskips, key: \"{device}\"}, on_error: skip}";
    let topics = ", topics: {sessions: onceskips-sessions, retained: onceskips-retained, partitions: 1, replication: 1}";
    let sessions = "sessions: {expiry: {}, instance_timeout: 2s}";
    let proxy = Proxy::start_in(&[], &kafka.bootstrap, &format!("{rule}\n{sessions}"), topics);
    runtime().block_on(async {
        let (mut client, _) = connect(proxy.mqtt, Greeting::staying("pump")).await;
        for (id, payload) in [(1, "before".to_owned()), (2, "x".repeat(1000)), (3, "behind".to_owned())] {
            client.publish("onceskips/1", 2, id, payload.as_bytes()).unwrap();
            client.flush().await.unwrap();
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubRec(id, 0));
        }
    });
    assert_eq!(kafka.consume("onceskips", "%s"), ["before", "behind"]);
    assert_eq!(proxy.metric(&["refusals", "MESSAGE_TOO_LARGE"]), 1.0);
}
