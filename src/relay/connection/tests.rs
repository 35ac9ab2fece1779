//! Turns of one connection, taken by hand.

use std::{num::NonZeroU32, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::yield_now,
};

use super::super::{ClientRate, Relay, Settings, mailbox::Ending};
use super::*;
use crate::{
    downstream::{Address, Gate, Limits, Listener, ListenerLimits, ListenerSettings, Protocol, WebSocketSettings, was_served},
    mapping::{Direction, KafkaSpec, OnError, RuleSet, RuleSpec, Unmapped, steps_taken},
    metrics::Metrics,
    session,
    upstream::{self, Cluster},
};

const CONNECT: &[u8] = &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'a'];
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
const DISCONNECT: &[u8] = &[0xe0, 0];
/// Longer than anything here takes; only a defect meets it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages to [`dear`] that one turn takes: 20,000 steps each.
const IN_A_TURN: usize = 5;

/// A relay that maps nothing, so what it is told is counted as unmapped, and a connection to it.
async fn link() -> (Link, Arc<Shared>, TcpStream, Arc<Metrics>) {
    link_by(Vec::new()).await
}

/// One with these rules.
async fn link_by(rules: Vec<RuleSpec>) -> (Link, Arc<Shared>, TcpStream, Arc<Metrics>) {
    link_over(Protocol::Mqtt, b"", ClientRate::default(), rules).await
}

/// One over this protocol, to which a device with this rate says this first.
async fn link_over(
    protocol: Protocol,
    first: &[u8],
    rate: ClientRate,
    rules: Vec<RuleSpec>,
) -> (Link, Arc<Shared>, TcpStream, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let settings = Settings {
        session: Arc::new(session::Settings::default()),
        delivery_timeout: LAST_WRITE,
        drain_timeout: LAST_WRITE,
        batch_size: 1024,
        rate,
        sweeps: super::super::SweepSettings::default(),
        fetch_size: 1024,
        store: None,
        group_prefix: String::new(),
        shared: super::super::SharedKind::default(),
        payload_format_check: false,
        access: Default::default(),
        registries: Vec::new(),
        retained: None,
        state_topics: Vec::new(),
    };
    let rules = Arc::new(RuleSet::compile(rules, Unmapped::Reject).unwrap());
    let cluster = Cluster::start(upstream::Settings {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        ..Default::default()
    });
    let relay = Relay::new(settings, rules, cluster, metrics.clone());
    let listener = ListenerSettings {
        name: "tcp".to_owned(),
        address: Address::Ip("127.0.0.1:0".parse().unwrap()),
        protocol,
        proxy: None,
        limits: ListenerLimits::default(),
    };
    let listener = Listener::bind(&listener, &Gate::new(Limits::default()), &metrics).unwrap();
    let address = listener.local_address().unwrap();
    let (tell, mut links) = mpsc::channel(1);
    let on_link = move |link| {
        let tell = tell.clone();
        async move { drop(tell.send(link).await) }
    };
    tokio::spawn(listener.run(on_link, std::future::pending()));
    let mut device = TcpStream::connect(address).await.unwrap();
    device.write_all(first).await.unwrap();
    (links.recv().await.unwrap(), relay.shared, device, metrics)
}

#[tokio::test]
async fn the_task_of_an_idle_connection_holds_little_more_than_the_connection() {
    let (link, shared, _device, _) = link().await;
    let task = size_of_val(&Connection::serve(link, shared, ()));
    let own = size_of::<Connection>();
    assert!(own <= 1280 && task <= own + 320, "{task} bytes, {own} of them the connection's own");
}

#[tokio::test]
async fn a_connection_is_served_from_the_turn_on_in_which_its_client_is_let_in() {
    let (link, shared, mut device, _) = link().await;
    let mut connection = Connection::new(link, shared);
    connection.turn();
    assert!(!was_served(), "it has said nothing yet");
    device.write_all(CONNECT).await.unwrap();
    while !connection.session.is_live() {
        let _event = connection.wait(false).await;
        connection.turn();
        assert_eq!(was_served(), connection.session.is_live());
    }
    connection.turn();
    assert!(was_served());
}

#[tokio::test]
async fn who_must_end_is_heard_out() {
    for ending in [Ending::TakenOver, Ending::ByOperator, Ending::ShutDown] {
        let (link, shared, mut device, metrics) = link().await;
        let mut connection = Connection::new(link, shared);
        device.write_all(CONNECT).await.unwrap();
        connection.turn();
        while !connection.session.is_live() {
            let _event = connection.wait(false).await;
            connection.turn();
        }
        // More than one read takes, so a part is left in the socket.
        let publish = [&[0x30, 0xe8, 7, 0, 1, b't'][..], &[b'x'; 997]].concat();
        device.write_all(&publish.repeat(100)).await.unwrap();
        device.write_all(DISCONNECT).await.unwrap();
        assert_eq!(connection.link.fill().await.unwrap(), Fill::Bytes);
        connection.desk.mailbox.end(ending);
        connection.turn();
        assert!(connection.session.is_closed());
        let text = metrics.encode();
        let unmapped = "mqtt_kafka_proxy_refusals_total{reason=\"unmapped\"} 100\n";
        assert!(text.contains(unmapped), "all of it was heard: {text}");
        assert!(!text.contains("connections_closed_total{"), "it said goodbye: {text}");
    }
}

/// A rule whose program costs at once all that a run may, and makes nothing.
fn dear() -> RuleSpec {
    RuleSpec {
        name: "dear".into(),
        mqtt: "t/{key}".into(),
        on_error: Some(OnError::Skip),
        transform: Some("\"x\" * (. * 100000000)".into()),
        kafka: KafkaSpec {
            topic: "t".into(),
            key: Some("{key}".into()),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    }
}

/// So many messages to it, of QoS 1.
fn dear_messages(count: u8) -> Vec<u8> {
    let packet = |id| [0x32, 8, 0, 3, b't', b'/', b'a', 0, id, b'1'];
    (1..=count).flat_map(packet).collect()
}

/// A connection to a relay with that rule, let in.
async fn connected_to_dear() -> (Connection, TcpStream, Arc<Metrics>) {
    let (link, shared, mut device, metrics) = link_by(vec![dear()]).await;
    let mut connection = Connection::new(link, shared);
    device.write_all(CONNECT).await.unwrap();
    connection.turn();
    while !connection.session.is_live() {
        let _event = connection.wait(false).await;
        connection.turn();
    }
    // What is to be written leaves, and nothing is waited for.
    let _event = connection.wait(true).await;
    let mut answer = [0_u8; 4];
    device.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, CONNACK);
    (connection, device, metrics)
}

fn cut_off(metrics: &Metrics) -> String {
    let text = metrics.encode();
    let of = "mqtt_kafka_proxy_transform_failures_total{rule=\"dear\",reason=\"transform_limit\"} ";
    text.lines().find_map(|line| line.strip_prefix(of)).unwrap_or("0").to_owned()
}

#[tokio::test]
async fn a_turn_ends_when_programs_have_had_their_part_and_the_next_goes_on_where_it_was() {
    let (mut connection, mut device, metrics) = connected_to_dear().await;
    device.write_all(&[&dear_messages(12)[..], &PINGREQ].concat()).await.unwrap();
    assert_eq!(connection.link.fill().await.unwrap(), Fill::Bytes);
    for (taken, unsent) in [(IN_A_TURN, 4 * IN_A_TURN), (2 * IN_A_TURN, 4 * IN_A_TURN), (12, 4 * 2 + 2)] {
        connection.turn();
        assert_eq!(cut_off(&metrics), taken.to_string());
        assert_eq!(connection.session.outbox().len(), unsent);
        // Its socket is not read, and its keep alive rests, until all is taken.
        let goes_on = taken < 12;
        assert_eq!(allowance::is_used_up(), goes_on);
        assert_eq!((connection.reading, connection.clocks == Clocks::Stand), (!goes_on, goes_on));
        // What was answered leaves all the same.
        let _event = connection.wait(true).await;
        assert_eq!(connection.session.outbox().len(), 0);
    }
    let mut answers = vec![0; 12 * 4 + 2];
    device.read_exact(&mut answers).await.unwrap();
    let expected: Vec<u8> = (1..=12).flat_map(|id| [0x40, 2, 0, id]).chain(PINGRESP).collect();
    assert_eq!(answers, expected);
}

/// The runtime keeps 112 bytes beside it, its turns (`downstream/turns.rs`) 8, and memory for all of it comes in steps of 128: with one byte more each idle
/// connection takes 128 more.
#[tokio::test]
async fn the_task_of_a_connection_takes_thirteen_steps_of_memory() {
    let (link, shared, _device, _) = link().await;
    let task = Connection::serve(link, shared, Arc::new(()));
    assert!(size_of_val(&task) <= 13 * 128 - 112 - 8, "{}", size_of_val(&task));
}

#[tokio::test]
async fn who_must_end_is_heard_out_also_if_that_takes_more_than_one_turn() {
    for ending in [Ending::TakenOver, Ending::ByOperator, Ending::ShutDown] {
        let (mut connection, mut device, metrics) = connected_to_dear().await;
        device.write_all(&[&dear_messages(12)[..], DISCONNECT].concat()).await.unwrap();
        assert_eq!(connection.link.fill().await.unwrap(), Fill::Bytes);
        connection.desk.mailbox.end(ending);
        for is_closed in [false, false, true] {
            connection.turn();
            assert_eq!(connection.session.is_closed(), is_closed);
        }
        assert_eq!(cut_off(&metrics), "12");
        assert!(!metrics.encode().contains("connections_closed_total{"), "it said goodbye");
    }
}

/// Every turn that looks at it again costs as much as the first one.
#[tokio::test]
async fn a_dear_message_that_waits_for_kafka_is_not_looked_at_again_all_the_time() {
    let copy = |number: usize| RuleSpec {
        name: format!("copy{number}"),
        also: true,
        direction: Direction::Publish,
        ..dear()
    };
    let stored = RuleSpec {
        name: "stored".into(),
        transform: None,
        on_error: None,
        ..dear()
    };
    let rules = std::iter::once(stored).chain((0..IN_A_TURN).map(copy));
    let (link, shared, mut device, _) = link_by(rules.collect()).await;
    let mut connection = Connection::new(link, shared);
    device.write_all(&[CONNECT, &dear_messages(1)].concat()).await.unwrap();
    let before = steps_taken();
    let looked_on = async {
        while steps_taken() == before {
            yield_now().await;
        }
        for _ in 0..1_000 {
            yield_now().await;
        }
        (steps_taken() - before) / 100_000
    };
    tokio::select! {
        () = connection.run() => panic!("nobody has ended it"),
        times = looked_on => assert!((1..10).contains(&times), "{times}"),
    }
    assert!(connection.desk.is_blocked());
}

/// A frame as a client sends it; a mask of zeros changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = 0x80 | u8::try_from(payload.len()).unwrap();
    [&[first, length, 0, 0, 0, 0], payload].concat()
}

const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: proxy.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
/// First bytes of whole frames.
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

/// 80 KiB, with which a socket does not hold up who sends them.
fn filled_with(frame: &[u8]) -> Vec<u8> {
    frame.repeat((80 << 10) / frame.len())
}

/// A connection over WebSocket that is held back since it has sent this, at 1 KiB a second.
async fn held_back_by(nothing: &[u8]) -> (Connection, TcpStream) {
    held_back_as(CONNECT, nothing).await
}

/// The same of one that has greeted so.
async fn held_back_as(greeting: &[u8], nothing: &[u8]) -> (Connection, TcpStream) {
    let rate = ClientRate {
        messages: None,
        bytes: NonZeroU32::new(1024),
    };
    let protocol = Protocol::Ws(WebSocketSettings::default());
    let (link, shared, mut device, _) = link_over(protocol, UPGRADE, rate, Vec::new()).await;
    let mut connection = Connection::new(link, shared);
    device.write_all(&frame(BINARY, greeting)).await.unwrap();
    while !connection.session.is_live() {
        let _event = connection.wait(false).await;
        connection.turn();
    }
    assert_eq!(connection.paced(), None, "a second's worth comes at once");
    device.write_all(&filled_with(nothing)).await.unwrap();
    let is_held = async {
        while connection.paced().is_none() {
            let _event = connection.wait(false).await;
            connection.turn();
        }
    };
    timeout(PATIENCE, is_held).await.expect("it is never held back");
    (connection, device)
}

#[tokio::test]
async fn frames_that_carry_nothing_cost_as_much_as_packets() {
    for nothing in [frame(PING, &[b'x'; 125]), frame(BINARY, b"")] {
        let (connection, _device) = held_back_by(&nothing).await;
        assert!(!connection.reading);
        let until = connection.paced().unwrap();
        assert!(until > Instant::now() + Duration::from_secs(30), "64 KiB at 1 KiB a second");
    }
}

/// DISCONNECT may lie behind it, and the will would be sent.
#[tokio::test]
async fn frames_that_carry_nothing_do_not_hide_what_lies_behind_them_from_an_end() {
    let ping = frame(PING, &[b'x'; 125]);
    let (mut connection, mut device) = held_back_by(&ping).await;
    device.write_all(&filled_with(&ping)).await.unwrap();
    device.write_all(&frame(BINARY, DISCONNECT)).await.unwrap();
    connection.desk.mailbox.end(Ending::TakenOver);
    connection.turn();
    assert!(!connection.session.is_closed(), "it is waited for what lies behind");
    assert!(connection.ends_by.is_some(), "not without end");
}

/// A keep alive of a second.
const HURRIED: &[u8] = &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 1, 0, 1, b'a'];

/// Turns until `is_so`.
async fn turns_until(connection: &mut Connection, is_so: impl Fn(&mut Connection) -> bool) {
    let turns = async {
        while !is_so(connection) {
            let event = connection.wait(false).await;
            connection.heed(event);
            connection.turn();
        }
    };
    timeout(PATIENCE, turns).await.expect("it never comes to that");
}

/// One that has sent this, and is held back since it has sent that; it is not read for a minute.
async fn held_back_for_nothing(nothing: &[u8]) -> (Connection, TcpStream) {
    // The first pause is earned by CONNECT.
    let (mut connection, mut device) = held_back_as(HURRIED, nothing).await;
    connection.pace.as_mut().unwrap().regard(Instant::now() + Duration::from_secs(1000));
    // With what is left of the former it is a little more than is read at once.
    device.write_all(&nothing.repeat((52 << 10) / nothing.len())).await.unwrap();
    connection.turn();
    turns_until(&mut connection, |connection| connection.paced().is_some()).await;
    assert!(!connection.reading && connection.session.deadline().is_some());
    (connection, device)
}

#[tokio::test]
async fn who_is_held_back_for_what_is_nothing_is_not_kept_by_it() {
    for nothing in [frame(PING, &[b'x'; 125]), frame(BINARY, b"")] {
        let (mut connection, _device) = held_back_for_nothing(&nothing).await;
        // That it takes what it is sent is no word of it.
        let due = connection.session.deadline();
        connection.unsent = 4;
        connection.turn();
        assert_eq!(connection.session.deadline(), due);
        turns_until(&mut connection, |connection| connection.session.is_closed()).await;
    }
}

/// An honest client with a library that pings without end.
#[tokio::test]
async fn what_is_said_in_time_behind_what_is_nothing_is_heard() {
    let ping = frame(PING, &[b'x'; 125]);
    let (mut connection, mut device) = held_back_for_nothing(&ping).await;
    device.write_all(&frame(BINARY, &PINGREQ)).await.unwrap();
    let is_answered = |connection: &mut Connection| connection.session.is_closed() || !connection.session.outbox().is_empty();
    turns_until(&mut connection, is_answered).await;
    assert!(!connection.session.is_closed());
    assert_eq!(connection.session.outbox().len(), PINGRESP.len());
    assert!(!connection.reading && connection.paced().is_some(), "it is not paid for");
}
