//! WebSocket listeners over real sockets: the upgrade and its refusals, packets in and across frames, ping, close, and
//! what breaks the protocol. The other side is the library's own client.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mqtt_kafka_proxy::downstream::websocket::Decoder;
use mqtt_kafka_proxy::downstream::{
    Address, Fill, Gate, Limits, Link, Listener, ListenerLimits, ListenerSettings, Protocol, WebSocketSettings,
};
use mqtt_kafka_proxy::metrics::Metrics;
use mqtt_kafka_proxy::mqtt::outbox::Outbox;
use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// Longer than anything here takes; only a defect meets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who says this alone is let in.
const KNOWN: &[u8] = b"CONNECT";

/// Everything back until the peer ends.
async fn echo(mut link: Link) {
    let mut outbox = Outbox::default();
    while let Ok(Fill::Bytes) = link.fill().await {
        if link.input() == KNOWN {
            link.served();
        }
        outbox.buffer().extend_from_slice(link.input());
        link.consume(link.input().len());
        if link.flush(&mut outbox).await.is_err() {
            return;
        }
    }
    link.close().await;
}

struct Stage {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    _runtime: tokio::runtime::Runtime,
}

fn start(websocket: WebSocketSettings, limits: Limits) -> Stage {
    start_with(websocket, limits, echo)
}

fn start_with<F, Fut>(websocket: WebSocketSettings, limits: Limits, on_link: F) -> Stage
where
    F: Fn(Link) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let metrics = Arc::new(Metrics::new());
    let settings = ListenerSettings {
        name: "edge".to_owned(),
        address: Address::Ip("127.0.0.1:0".parse().unwrap()),
        protocol: Protocol::Ws(websocket),
        proxy: None,
        limits: ListenerLimits::default(),
    };
    let _inside = runtime.enter();
    let listener = Listener::bind(&settings, &Gate::new(limits), &metrics).unwrap();
    let address = listener.local_address().unwrap();
    runtime.spawn(listener.run(on_link, pending()));
    Stage {
        address,
        metrics,
        _runtime: runtime,
    }
}

impl Stage {
    fn new() -> Self {
        start(WebSocketSettings::default(), Limits::default())
    }

    fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp
    }

    /// Sends a request, and returns the head of the answer.
    fn ask(&self, request: &str) -> (String, TcpStream) {
        let mut tcp = self.tcp();
        tcp.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (String::from_utf8(head).unwrap(), tcp)
    }

    fn client(&self) -> WebSocket<TcpStream> {
        let (head, tcp) = self.ask(&request("/mqtt", "mqtt"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        WebSocket::from_raw_socket(tcp, Role::Client, None)
    }

    /// Waits until a scrape shows the line.
    fn shows(&self, line: &str) {
        let start = std::time::Instant::now();
        while !self.metrics.encode().lines().any(|l| l == line) {
            assert!(start.elapsed() < PATIENCE, "never {line:?} in\n{}", self.metrics.encode());
            std::thread::yield_now();
        }
    }
}

fn request(path: &str, protocols: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n"
    )
}

fn refused(reason: &str, count: u32) -> String {
    format!("mqtt_kafka_proxy_connections_refused_total{{listener=\"edge\",reason=\"{reason}\"}} {count}")
}

/// Data of the next messages until so many bytes are there.
fn receive(client: &mut WebSocket<TcpStream>, count: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < count {
        match client.read().unwrap() {
            Message::Binary(part) => data.extend_from_slice(&part),
            other => panic!("{other:?}"),
        }
    }
    data
}

/// The close frame that answers, and then the end.
fn close_of(client: &mut WebSocket<TcpStream>) -> Option<u16> {
    let code = loop {
        match client.read() {
            Ok(Message::Close(frame)) => break frame.map(|frame: CloseFrame| frame.code.into()),
            Ok(_) => {}
            Err(e) => panic!("no close frame: {e}"),
        }
    };
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)), "the connection ends");
    code
}

#[test]
fn the_upgrade_agrees_on_mqtt_and_on_no_extension() {
    let stage = Stage::new();
    // The key and its answer are those of RFC 6455 §1.3. Several protocols, and in capitals where case does not count.
    let (head, _tcp) = stage.ask(&request("/mqtt?token=1", "mqttv3.1, mqtt").replace("Upgrade: websocket", "UPGRADE: WebSocket"));
    let lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
    assert_eq!(lines[0], "http/1.1 101 switching protocols");
    assert!(
        lines.contains(&"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=".to_owned()),
        "{head}"
    );
    assert!(lines.contains(&"sec-websocket-protocol: mqtt".to_owned()), "{head}");
    assert!(!head.to_ascii_lowercase().contains("extensions"), "nothing is compressed: {head}");
}

#[test]
fn a_request_for_something_else_is_told_so_and_counted() {
    let stage = Stage::new();
    let good = request("/mqtt", "mqtt");
    let cases = [
        (request("/other", "mqtt"), "404"),
        (request("/mqtt", "mqttv3.1"), "400"),
        (good.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""), "400"),
        (good.replace("Upgrade: websocket\r\n", ""), "426"),
        (good.replace("Version: 13", "Version: 8"), "426"),
        (good.replace("GET ", "POST "), "400"),
        ("\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a\r\n\r\n".to_owned(), "400"),
        (format!("GET /mqtt HTTP/1.1\r\nCookie: {}\r\n\r\n", "c".repeat(20_000)), "431"),
    ];
    for (count, (request, status)) in (1..).zip(cases) {
        let (head, mut tcp) = stage.ask(&request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        // With input unread the kernel may end it by a reset.
        let end = tcp.read(&mut [0; 1]);
        assert!(
            matches!(&end, Ok(0)) || matches!(&end, Err(e) if e.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
        stage.shows(&refused("handshake", count));
    }
    stage.shows("mqtt_kafka_proxy_connections{listener=\"edge\"} 0");
}

#[test]
fn a_page_of_another_origin_is_refused_and_counted() {
    let only = WebSocketSettings {
        origins: Some(vec!["https://app.example.org".to_owned()]),
        ..WebSocketSettings::default()
    };
    let stage = start(only, Limits::default());
    let of = |origin: &str| request("/mqtt", "mqtt").replace("Host:", &format!("Origin: {origin}\r\nHost:"));
    let (head, _page) = stage.ask(&of("https://app.example.org"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (head, _device) = stage.ask(&request("/mqtt", "mqtt"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (head, _other) = stage.ask(&of("https://evil.example"));
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    stage.shows(&refused("handshake", 1));
}

#[test]
fn any_path_will_do_if_the_configuration_says_so() {
    let any = WebSocketSettings {
        path: None,
        ..WebSocketSettings::default()
    };
    let stage = start(any, Limits::default());
    let (head, _tcp) = stage.ask(&request("/some/where", "mqtt"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[test]
fn a_slow_request_dies_at_the_deadline() {
    let limits = Limits {
        connect_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let stage = start(WebSocketSettings::default(), limits);
    let mut tcp = stage.tcp();
    tcp.write_all(b"GET /mqtt HTTP/1.1\r\n").unwrap();
    assert!(matches!(tcp.read(&mut [0; 1]), Ok(0) | Err(_)));
    stage.shows(&refused("deadline", 1));
}

#[test]
fn bytes_keep_their_order_however_they_are_framed() {
    let stage = Stage::new();
    let mut client = stage.client();
    let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut writer = WebSocket::from_raw_socket(client.get_ref().try_clone().unwrap(), Role::Client, None);
    let data = sent.clone();
    let writing = std::thread::spawn(move || {
        let mut rest = &data[..];
        for size in [1, 125, 126, 65_535, 65_536, 300_000, 0].into_iter().cycle() {
            let (part, tail) = rest.split_at(size.min(rest.len()));
            // Each second message comes in three frames, with a pong that nobody asked for within.
            if size % 2 == 0 {
                let (a, b) = part.split_at(part.len() / 3);
                let frame = |bytes: &[u8], code, last| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), last));
                writer.write(frame(a, Data::Binary, false)).unwrap();
                writer.write(Message::Frame(Frame::pong(vec![7; 3]))).unwrap();
                writer.write(frame(b, Data::Continue, false)).unwrap();
                writer.write(frame(&[], Data::Continue, true)).unwrap();
            } else {
                writer.write(Message::Binary(part.to_vec().into())).unwrap();
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        writer.flush().unwrap();
    });
    assert!(receive(&mut client, sent.len()) == sent);
    writing.join().unwrap();
}

#[test]
fn a_ping_is_answered_also_between_data() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(Message::Ping(vec![1, 2, 3].into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(vec![1, 2, 3].into()));
    client.send(Message::Binary(vec![5; 10].into())).unwrap();
    assert_eq!(receive(&mut client, 10), [5; 10]);
    client.send(Message::Ping(vec![].into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong(vec![].into()));
}

#[test]
fn a_close_frame_is_answered_by_its_like_after_what_came_before_it() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.write(Message::Binary(vec![9; 100].into())).unwrap();
    client.close(None).unwrap();
    assert_eq!(receive(&mut client, 100), [9; 100]);
    assert_eq!(close_of(&mut client), Some(1000));
    stage.shows("mqtt_kafka_proxy_connections{listener=\"edge\"} 0");
}

#[test]
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let small = WebSocketSettings {
        frame_size: 1000,
        ..WebSocketSettings::default()
    };
    let stage = start(small, Limits::default());
    let frame = |opcode, payload: &[u8], last| {
        let mut frame = Frame::message(payload.to_vec(), OpCode::Data(Data::Binary), last);
        frame.header_mut().opcode = opcode;
        Message::Frame(frame)
    };
    let (binary, go_on) = (OpCode::Data(Data::Binary), OpCode::Data(Data::Continue));
    let cases = [
        (vec![Message::Text("MQTT".into())], 1003),
        (vec![frame(binary, &[0; 1001], true)], 1009),
        (vec![frame(go_on, b"x", true)], 1002),
        (vec![frame(binary, b"x", false), frame(binary, b"y", true)], 1002),
        (vec![frame(OpCode::Control(Control::Ping), &[0; 126], true)], 1002),
        (vec![frame(OpCode::Control(Control::Ping), b"x", false)], 1002),
        (vec![frame(OpCode::Data(Data::Reserved(3)), b"x", true)], 1002),
        (vec![frame(OpCode::Control(Control::Close), &[3], true)], 1002),
    ];
    for (messages, code) in cases {
        let mut client = stage.client();
        for message in &messages {
            client.write(message.clone()).unwrap();
        }
        client.flush().unwrap();
        assert_eq!(close_of(&mut client), Some(code), "{messages:?}");
    }
    // Neither masked nor without reserved bits: a compressed message that nobody agreed on.
    for bytes in [
        &[0x82, 1, b'x'][..],
        &[0xc2, 0x81, 0, 0, 0, 0, b'x'],
        &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut client = stage.client();
        client.get_mut().write_all(bytes).unwrap();
        let code = close_of(&mut client).unwrap();
        assert!(code == 1002 || code == 1009, "{bytes:?}: {code}");
    }
    stage.shows("mqtt_kafka_proxy_connections{listener=\"edge\"} 0");
}

/// Reads what the library makes of the same bytes.
fn oracle(bytes: &[u8]) -> Vec<u8> {
    struct Once<'a>(&'a [u8]);
    impl Read for Once<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(into)
        }
    }
    impl Write for Once<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut socket = WebSocket::from_raw_socket(Once(bytes), Role::Server, Some(WebSocketConfig::default()));
    let mut data = Vec::new();
    while let Ok(message) = socket.read() {
        if let Message::Binary(part) = message {
            data.extend_from_slice(&part);
        }
    }
    data
}

/// Nobody answers a pong, or takes it for anything.
#[test]
fn a_stranger_may_not_go_on_with_frames_that_carry_nothing() {
    // Each with a header of six bytes: 500 of them are just below 64 KiB.
    let pongs = |client: &mut WebSocket<TcpStream>, count: usize| {
        (0..count).for_each(|_| client.write(Message::Pong(vec![b'x'; 125].into())).unwrap());
        client.flush().unwrap();
    };
    let stage = Stage::new();
    let mut stranger = stage.client();
    pongs(&mut stranger, 500);
    stranger.send(Message::Binary(b"x".to_vec().into())).unwrap();
    assert_eq!(receive(&mut stranger, 1), b"x");
    pongs(&mut stranger, 2);
    assert_eq!(close_of(&mut stranger), Some(1002));

    let mut known = stage.client();
    known.send(Message::Binary(KNOWN.to_vec().into())).unwrap();
    assert_eq!(receive(&mut known, KNOWN.len()), KNOWN);
    pongs(&mut known, 4_000);
    known.send(Message::Binary(b"x".to_vec().into())).unwrap();
    assert_eq!(receive(&mut known, 1), b"x");
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What carries nothing gives the reader no bytes to stop at; others have their turn all the same, and the reader is told.
#[test]
fn of_what_carries_nothing_a_wait_takes_a_part_at_a_time() {
    const PART: usize = 64 << 10;
    let (tell, links) = std::sync::mpsc::sync_channel(1);
    let on_link = move |link| {
        let tell = tell.clone();
        async move { tell.send(link).unwrap() }
    };
    let stage = start_with(WebSocketSettings::default(), Limits::default(), on_link);
    let (head, mut client) = stage.ask(&request("/mqtt", "mqtt"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut link = links.recv_timeout(PATIENCE).unwrap();
    link.served();
    client.set_nonblocking(true).unwrap();
    // Empty binary frames, masked by zeros.
    let frames = [0x82, 0x80, 0, 0, 0, 0].repeat(100_000);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let (start, mut sent, mut taken, mut told) = (std::time::Instant::now(), 0, 0, 0);
    while taken < 1 << 20 {
        assert!(start.elapsed() < PATIENCE, "{taken} of {sent} bytes were taken");
        // As much as the socket holds.
        while let Ok(count) = client.write(&frames[sent % 6..]) {
            sent += count;
        }
        woken.0.store(false, Ordering::SeqCst);
        let polled = link.poll_fill(&mut Context::from_waker(&waker));
        let part = link.carried_nothing();
        assert!(part < 2 * PART, "{part} bytes in one wait");
        taken += part;
        match polled {
            Poll::Pending => assert!(part < PART || woken.0.load(Ordering::SeqCst), "nobody would go on"),
            Poll::Ready(filled) => {
                assert_eq!((filled.unwrap(), link.input()), (Fill::Bytes, &b""[..]));
                told += 1;
            }
        }
    }
    assert!(told >= taken / (2 * PART) - 1, "told {told} times of {taken} bytes");
}

proptest! {
    /// Cut anywhere, the frames carry what the library reads out of them.
    #[test]
    fn the_decoder_reads_what_the_library_reads(
        messages in prop::collection::vec((0..4u8, prop::collection::vec(any::<u8>(), 0..300)), 1..20),
        cuts in prop::collection::vec(1..90usize, 1..30),
    ) {
        let mut bytes = Vec::new();
        for (kind, payload) in messages {
            let mut frame = match kind {
                0 => Frame::ping(payload[..payload.len().min(125)].to_vec()),
                1 => Frame::pong(payload[..payload.len().min(125)].to_vec()),
                _ => Frame::message(payload, OpCode::Data(Data::Binary), true),
            };
            frame.header_mut().mask = Some([17, 0, 255, 4]);
            frame.format(&mut bytes).unwrap();
        }
        let (mut decoder, mut data, mut rest) = (Decoder::new(1 << 20), Vec::new(), &bytes[..]);
        for cut in cuts.into_iter().cycle() {
            let (part, tail) = rest.split_at(cut.min(rest.len()));
            let mut part = part.to_vec();
            let (carried, end) = decoder.decode(&mut part);
            prop_assert_eq!(end, None);
            data.extend_from_slice(&part[..carried]);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(data, oracle(&bytes));
    }
}
