//! Clients without keep alive that stand still: they take nothing of what they are sent, or begin a TLS record, or a
//! packet in WebSocket frames, and do not go on.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod edge_stage;
mod fake_broker;
mod relay_stage;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_broker::{
    Fake,
    client::until,
    records::{Batch, record},
};
use mqtt_kafka_proxy::config::Config;
use mqtt_kafka_proxy::downstream::{ClientAuth, Protocol, WebSocketSettings};
use relay_stage::{
    PATIENCE, Stage,
    device::{Device, connect, subscribe, will},
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const RULES: &str = r#"rules:
  - {name: up, mqtt: "t/+", kafka: {topic: t, partition: 0}}
  - {name: flood, direction: subscribe, mqtt: "flood/{key}", kafka: {topic: flood}, qos: 1}"#;

const CLOSED: &str = "connections_closed_total{reason=\"send_timeout\"}";

async fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    let fake = Fake::start(1).await;
    for topic in ["t", "flood"] {
        fake.topic(topic, 1);
    }
    Stage::with(fake, RULES, change).await
}

#[tokio::test]
async fn who_takes_nothing_is_closed_without_keep_alive_and_who_takes_a_little_is_not() {
    let stage = stage(|config| config.session.send_timeout = Duration::from_secs(1)).await;
    let narrow = async |client: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut device = Device::on(socket.connect(stage.address).await.unwrap(), 5);
        let mut greeting = connect(client);
        greeting.keep_alive = 0;
        greeting.last_will = will(&format!("t/{client}"));
        device.connect(&greeting).await;
        assert_eq!(device.line().await, "connack 0x00");
        device
    };
    let mut idle = narrow("idle").await;
    let (mut stuck, mut slow) = (narrow("stuck").await, narrow("slow").await);
    for device in [&mut stuck, &mut slow] {
        device.send_subscribe(&subscribe("flood/#", 0)).await;
        assert_eq!(device.line().await, "suback 1 0");
    }
    let start = Instant::now();
    // More than the sockets' buffers hold.
    for _ in 0..20 {
        let batch = Batch::of(&[record("a", &"x".repeat(700_000))]).bytes();
        stage.fake.write("flood", 0, &batch);
    }
    let sips = async {
        let mut sip = vec![0; 300_000];
        while start.elapsed() < Duration::from_secs(4) {
            slow.stream.read_exact(&mut sip).await.unwrap();
            // Its pace: it takes some of it more often than it must.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let gone = until("the one that takes nothing is closed", || stage.metric(CLOSED) == 1);
    tokio::join!(sips, gone);
    assert_eq!(stage.metric(CLOSED), 1, "only that one");
    assert!(start.elapsed() >= Duration::from_secs(1));
    // It is gone like one that was lost.
    until("its will", || stage.fake.all_values("t").len() == 1).await;
    assert_eq!(idle.fence().await, [] as [&str; 0], "who has nothing to take stays");
    drop(stuck);
}

/// A device that makes its TLS records itself, so that it can cut them.
struct Cutter {
    session: ClientConnection,
    stream: TcpStream,
}

impl Cutter {
    async fn flush(&mut self) {
        let mut bytes = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The record of an MQTT packet.
    fn record(&mut self, packet: &[u8]) -> Vec<u8> {
        self.session.writer().write_all(packet).unwrap();
        let mut record = Vec::new();
        self.session.write_tls(&mut record).unwrap();
        record
    }

    /// What the other side says next; `None`: it has ended the connection.
    async fn heard(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut plain = [0; 1024];
            match self.session.reader().read(&mut plain) {
                Ok(0) => return None,
                Ok(count) => return Some(plain[..count].to_vec()),
                Err(_) => {}
            }
            let mut bytes = [0; 4096];
            let count = timeout(PATIENCE, self.stream.read(&mut bytes)).await.unwrap().unwrap_or(0);
            if count == 0 {
                return None;
            }
            let mut rest = &bytes[..count];
            while !rest.is_empty() {
                self.session.read_tls(&mut rest).unwrap();
                self.session.process_new_packets().unwrap();
            }
            self.flush().await;
        }
    }
}

#[tokio::test]
async fn a_tls_record_that_begins_and_does_not_go_on_is_given_up() {
    let files = edge_stage::Files::new();
    let protocol = Protocol::Mqtts(files.settings(ClientAuth::None));
    let stage = stage(|config| {
        config.session.packet_timeout = Duration::from_secs(1);
        config.listeners[0].protocol = protocol;
    })
    .await;
    for version in [&version::TLS12, &version::TLS13] {
        let connected = async |client: u8| {
            let config = Arc::new(files.client(&[version], None));
            let session = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
            let stream = TcpStream::connect(stage.address).await.unwrap();
            let mut device = Cutter { session, stream };
            // Without keep alive.
            let greeting = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, client];
            device.session.writer().write_all(&greeting).unwrap();
            device.flush().await;
            assert_eq!(device.heard().await.unwrap(), [0x20, 2, 0, 0]);
            device
        };
        let (mut idle, mut halting, mut header, mut behind, mut slow) = (
            connected(b'i').await,
            connected(b'h').await,
            connected(b'f').await,
            connected(b'b').await,
            connected(b's').await,
        );
        let halts = async {
            let record = halting.record(&[0xc0, 0]);
            halting.stream.write_all(&record[..record.len() - 1]).await.unwrap();
            assert_eq!(halting.heard().await, None);
            let record = header.record(&[0xc0, 0]);
            header.stream.write_all(&record[..1]).await.unwrap();
            assert_eq!(header.heard().await, None);
            // Behind a whole one.
            let whole = behind.record(&[0xc0, 0]);
            let record = behind.record(&[0xc0, 0]);
            behind.stream.write_all(&[&whole[..], &record[..9]].concat()).await.unwrap();
            assert_eq!(behind.heard().await.unwrap(), [0xd0, 0]);
            assert_eq!(behind.heard().await, None);
        };
        let goes_on = async {
            for _ in 0..6 {
                let record = slow.record(&[0xc0, 0]);
                slow.stream.write_all(&record[..7]).await.unwrap();
                // Its pace: all together takes longer than one may.
                tokio::time::sleep(Duration::from_millis(300)).await;
                slow.stream.write_all(&record[7..]).await.unwrap();
                assert_eq!(slow.heard().await.unwrap(), [0xd0, 0]);
            }
        };
        tokio::join!(halts, goes_on);
        let record = idle.record(&[0xc0, 0]);
        idle.stream.write_all(&record).await.unwrap();
        assert_eq!(idle.heard().await.unwrap(), [0xd0, 0], "who says nothing stays");
    }
}

const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A masked binary frame for each of the bytes; the mask is zero.
fn frames(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [0x82, 0x81, 0, 0, 0, 0, *byte]).collect()
}

/// What the next frame of the proxy carries.
async fn heard(stream: &mut TcpStream) -> Vec<u8> {
    let frame = async {
        let mut header = [0; 2];
        stream.read_exact(&mut header).await.unwrap();
        assert!(header[0] == 0x82 && header[1] < 126, "no short binary frame: {header:x?}");
        let mut payload = vec![0; header[1].into()];
        stream.read_exact(&mut payload).await.unwrap();
        payload
    };
    timeout(PATIENCE, frame).await.expect("nothing comes")
}

/// A device of version 5 behind WebSocket, let in, without keep alive.
async fn by_websocket(stage: &Stage, client: u8) -> TcpStream {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let greeting = [0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, client];
    stream.write_all(&frames(&greeting)).await.unwrap();
    let connack = heard(&mut stream).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:x?}");
    stream
}

/// A header, whole or not, and a ping: nothing of it is input. Whole ones, as slow, are nobody's beginning.
#[tokio::test]
async fn half_a_websocket_frame_that_carries_nothing_does_not_stay() {
    let stage = stage(|config| {
        config.session.packet_timeout = Duration::from_secs(1);
        // No other timer wakes a connection meanwhile.
        (config.limits.connect_timeout, config.session.connect_timeout) = (PATIENCE * 3, PATIENCE * 3);
        config.listeners[0].protocol = Protocol::Ws(WebSocketSettings::default());
    })
    .await;
    for half in [&b"\x82"[..], b"\x82\xfe\x01", b"\x82\x85\0\0\0\0", b"\x89\x85\0\0\0\0abc"] {
        let begun = Instant::now();
        let mut device = by_websocket(&stage, b'h').await;
        device.write_all(half).await.unwrap();
        let told = heard(&mut device).await;
        assert_eq!((told[0], told[2]), (0xe0, 0x97), "{half:x?}: {told:x?}");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{half:x?}");
        let ended = timeout(PATIENCE, device.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{half:x?}: the connection ends");
    }
    let mut device = by_websocket(&stage, b'w').await;
    let ping = b"\x89\x85\0\0\0\0abcde";
    for half in [&ping[..6], &ping[6..], &ping[..1], &ping[1..], &ping[..9], &ping[9..]] {
        device.write_all(half).await.unwrap();
        // Its pace: all of it takes longer than the time-out, and no frame does.
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    // PINGREQ.
    device.write_all(&frames(b"\xc0\0")).await.unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"\xd0\0") {
        let mut byte = [0];
        timeout(PATIENCE, device.read_exact(&mut byte))
            .await
            .expect("it is answered")
            .unwrap();
        told.push(byte[0]);
    }
}

/// Each byte of a ping in a record of its own, and each of those in two pieces: it is one frame all the same.
#[tokio::test]
async fn half_a_frame_does_not_stay_however_many_records_it_comes_in() {
    let files = edge_stage::Files::new();
    let protocol = Protocol::Wss(files.settings(ClientAuth::None), WebSocketSettings::default());
    let stage = stage(|config| {
        config.session.packet_timeout = Duration::from_secs(1);
        config.listeners[0].protocol = protocol;
    })
    .await;
    let mut client = files.client(&[&version::TLS13], None);
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let session = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let stream = TcpStream::connect(stage.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut device = Cutter { session, stream };
    device.session.writer().write_all(UPGRADE.as_bytes()).unwrap();
    device.flush().await;
    assert!(device.heard().await.unwrap().starts_with(b"HTTP/1.1 101 "));
    let greeting = device.record(&frames(&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, b'c']));
    device.stream.write_all(&greeting).await.unwrap();
    assert_eq!(device.heard().await.unwrap()[2], 0x20);
    for byte in b"\x89\x85\0\0\0\0abcd" {
        let record = device.record(&[*byte]);
        for piece in [&record[..7], &record[7..]] {
            // It may be ended meanwhile.
            let _ = device.stream.write_all(piece).await;
            // Its pace: neither a record nor what is between two takes as long as the time-out.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    let told = device.heard().await.unwrap();
    assert_eq!((told[0], told[2], told[4]), (0x82, 0xe0, 0x97), "{told:x?}");
}

/// Each frame is whole, and the packet in them is not. Frames as small that get it further in time are taken.
#[tokio::test]
async fn a_packet_that_drips_in_websocket_frames_is_given_up() {
    let stage = stage(|config| {
        config.session.packet_timeout = Duration::from_secs(1);
        config.listeners[0].protocol = Protocol::Ws(WebSocketSettings::default());
    })
    .await;
    let drips = async {
        let mut device = by_websocket(&stage, b'd').await;
        // PUBLISH with 16,383 bytes behind this.
        device.write_all(&frames(b"\x30\xff\x7f\0\x03t/d")).await.unwrap();
        while timeout(Duration::from_millis(20), device.peek(&mut [0])).await.is_err() {
            // It may be ended meanwhile: what it was told is read all the same.
            let _ = device.write_all(&frames(b"x")).await;
        }
        device
    };
    let slow = async {
        let mut device = by_websocket(&stage, b's').await;
        // PUBLISH with 12,008 bytes behind the second number, QoS 1, packet id 1, no properties.
        let publish = [&b"\x32\xe8\x5d\0\x03t/s\0\x01\0"[..], &[b'x'; 12_000]].concat();
        for piece in publish.chunks(1500) {
            device.write_all(&frames(piece)).await.unwrap();
            // Its pace: the whole takes longer than the time-out.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        heard(&mut device).await
    };
    let (dripped, acknowledged) = tokio::join!(timeout(PATIENCE, drips), slow);
    let mut dripped = dripped.expect("it drips for ever");
    let told = heard(&mut dripped).await;
    assert_eq!((told[0], told[2]), (0xe0, 0x97), "{told:x?}");
    let ended = timeout(PATIENCE, dripped.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "and the connection ends");
    assert_eq!((acknowledged[0], &acknowledged[2..4]), (0x40, &[0, 1][..]), "{acknowledged:x?}");
    assert_eq!(stage.stored("t", 1).await, ["x".repeat(12_000)]);
}
