//! Connections that mean harm, over every kind of listener, and what each of them does.

pub mod packets;

use crate::stage::{DEADLINE, Proxy, certificates, output};
use flate2::{Compression, write::DeflateEncoder};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Addresses that they come from.
const SOURCES: usize = 100;
const CONNECT: &[u8] = b"\0\x04MQTT\x04\x02\0\x3c";
pub const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Anything that bytes go through.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Which listener is spoken to.
#[derive(Clone, Copy, PartialEq)]
pub enum Door {
    Mqtt,
    Mqtts,
    Ws,
    Wss,
}
use Door::{Mqtt, Mqtts, Ws, Wss};

/// What is done there; text is made for the number of the connection.
enum Deed {
    /// Behind the bare TCP connection.
    Says(fn(usize) -> Vec<u8>),
    /// The same, a byte at a time.
    Drips(fn(usize) -> Vec<u8>),
    /// Behind whatever handshakes the listener wants.
    Goes(fn(usize) -> Vec<u8>),
    /// The same, and this is its right: it ends by itself.
    Stays(fn(usize) -> Vec<u8>),
    /// Asks all the time and reads no answer.
    Deaf,
    /// Ends at once, by RST.
    Gone,
}
use Deed::{Deaf, Drips, Goes, Gone, Says, Stays};

const KINDS: [(&str, Door, Deed); 41] = [
    ("says nothing", Mqtt, Says(nothing)),
    ("begins a header", Mqtt, Says(|_| vec![0x10])),
    ("sends CONNECT a byte at a time", Mqtt, Drips(connect)),
    ("announces 256 MiB", Mqtt, Says(giant)),
    ("sends noise", Mqtt, Says(noise)),
    ("speaks TLS to a plain port", Mqtt, Says(hello)),
    ("publishes to 65,535 slashes", Mqtt, Says(slashes)),
    ("subscribes to ten thousand filters", Mqtt, Stays(filters)),
    ("begins a PUBLISH and does not go on", Mqtt, Says(halves)),
    ("asks and takes no answers", Mqtt, Deaf),
    ("is gone at once", Mqtt, Gone),
    ("leaves a TLS handshake half done", Mqtts, Says(hello)),
    ("sends ClientHello a byte at a time", Mqtts, Drips(hello)),
    ("sends noise for TLS", Mqtts, Says(noise)),
    ("says nothing within TLS", Mqtts, Goes(nothing)),
    ("announces 256 MiB within TLS", Mqtts, Goes(giant)),
    ("publishes to 65,535 slashes within TLS", Mqtts, Goes(slashes)),
    ("subscribes to ten thousand filters within TLS", Mqtts, Stays(filters)),
    ("begins a PUBLISH within TLS and does not go on", Mqtts, Goes(halves)),
    ("is gone in the midst of TLS", Mqtts, Gone),
    ("sends a request a byte at a time", Ws, Drips(|_| REQUEST.into())),
    ("sends a request without an end", Ws, Says(endless)),
    (
        "announces a frame of 2^62 bytes",
        Ws,
        Goes(|_| [&[0x82, 0xff, 0x40][..], &[0; 11]].concat()),
    ),
    ("sends a compressed bomb", Ws, Goes(bomb)),
    ("sends a compressed bomb within TLS", Wss, Goes(bomb)),
    ("says nothing in frames", Wss, Goes(nothing)),
    ("publishes by an alias that stands for nothing", Mqtt, Goes(packets::unknown_alias)),
    ("publishes by an alias beyond the maximum", Mqtts, Goes(packets::alias_beyond)),
    ("gives its aliases the longest names", Mqtt, Goes(packets::longest_aliases)),
    ("subscribes and unsubscribes by turns", Mqtt, Stays(packets::overlapping)),
    ("connects twice", Mqtts, Goes(packets::twice)),
    ("takes the client id of all its kind", Mqtt, Stays(packets::same_id)),
    ("leaves more of QoS 2 open than it may", Mqtt, Goes(packets::unreleased)),
    ("releases what it has never sent", Mqtts, Stays(packets::unknown_releases)),
    ("publishes ten thousand user properties", Mqtt, Stays(packets::properties)),
    ("sends AUTH out of turn", Mqtts, Goes(packets::auth_out_of_turn)),
    ("begins SCRAM and does not go on", Mqtts, Goes(packets::half_scram)),
    ("pings and does not connect", Ws, Goes(packets::pings_alone)),
    ("pings without end", Wss, Stays(packets::pings_behind)),
    ("begins a PUBLISH in frames of a byte and does not go on", Ws, Goes(packets::crumbs)),
    (
        "sends ClientHello in records of a byte",
        Mqtts,
        Says(|number| packets::crumbled(&hello(number))),
    ),
];

fn nothing(_: usize) -> Vec<u8> {
    vec![]
}

/// MQTT's lengths (§1.5.5).
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![first], body.len());
    loop {
        bytes.push((length % 128) as u8 | if length >= 128 { 0x80 } else { 0 });
        length /= 128;
        if length == 0 {
            bytes.extend_from_slice(body);
            return bytes;
        }
    }
}

fn connect(number: usize) -> Vec<u8> {
    greeting(&format!("hostile-{number}"))
}

/// CONNECT of a client.
pub fn greeting(id: &str) -> Vec<u8> {
    packet(0x10, &[CONNECT, &[0, id.len() as u8], id.as_bytes()].concat())
}

fn giant(_: usize) -> Vec<u8> {
    [&[0x10, 0xff, 0xff, 0xff, 0x7f][..], &[0; 2000]].concat()
}

fn noise(number: usize) -> Vec<u8> {
    (0..4000usize).map(|i| ((i * 31 + number * 17) ^ (i >> 3)) as u8).collect()
}

fn slashes(number: usize) -> Vec<u8> {
    [connect(number), packet(0x30, &[&[0xff, 0xff][..], &[b'/'; 65_535], b"x"].concat())].concat()
}

/// A client without keep alive, and the first half of what it publishes.
fn halves(number: usize) -> Vec<u8> {
    let mut greeting = connect(number);
    greeting[11] = 0;
    let publish = packet(0x30, &[&b"\0\x07hostile"[..], &[b'x'; 10_000]].concat());
    [&greeting[..], &publish[..5_000]].concat()
}

fn filters(number: usize) -> Vec<u8> {
    let filters = (0..10_000u32).flat_map(|i| format!("\0\x05{i:05}\0").into_bytes());
    [
        connect(number),
        packet(0x82, &[0, 1].into_iter().chain(filters).collect::<Vec<_>>()),
    ]
    .concat()
}

fn endless(_: usize) -> Vec<u8> {
    [&REQUEST.as_bytes()[..REQUEST.len() - 2], b"Cookie: ", &[b'c'; 64 << 10]].concat()
}

/// A true ClientHello.
fn hello(_: usize) -> Vec<u8> {
    static HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut client = ClientConnection::new(client().into(), name()).expect("the name is one");
        let mut bytes = vec![];
        client.write_tls(&mut bytes).expect("memory takes it");
        bytes
    });
    HELLO.clone()
}

/// 64 MiB of zeros in a message that is marked as compressed, although nobody agreed to that.
fn bomb(_: usize) -> Vec<u8> {
    static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut deflate = DeflateEncoder::new(vec![], Compression::best());
        deflate.write_all(&vec![0; 64 << 20]).expect("memory takes it");
        let squeezed = deflate.finish().expect("memory takes it");
        // FIN, RSV1, binary; masked by zeros.
        [&[0xc2, 0xff][..], &(squeezed.len() as u64).to_be_bytes(), &[0; 4], &squeezed].concat()
    });
    BOMB.clone()
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("it is one")
}

fn client() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates().join("ca.pem")).expect("certs/make wrote it");
    roots.add(ca).expect("it is one");
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has them");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// Where it all goes to.
pub struct Target {
    doors: [SocketAddr; 4],
    tls: TlsConnector,
    /// Until when CONNECT must have come.
    connect_timeout: Duration,
}

impl Target {
    pub fn new(proxy: &Proxy, connect_timeout: Duration) -> Self {
        Self {
            doors: [proxy.mqtt, proxy.tls, proxy.ws, proxy.wss],
            tls: TlsConnector::from(Arc::new(client())),
            connect_timeout,
        }
    }

    async fn tcp(&self, door: Door, number: usize) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("descriptors are left");
        let source = Ipv4Addr::new(127, 0, 2, 1 + (number % SOURCES) as u8);
        socket.bind((source, 0).into()).expect("ports are left");
        socket.connect(self.doors[door as usize]).await.expect("the proxy listens")
    }

    /// Through all handshakes of a listener; the proxy may refuse them.
    pub async fn enter(&self, door: Door, number: usize) -> std::io::Result<Box<dyn Wire>> {
        self.enter_by(self.tcp(door, number).await, door).await
    }

    async fn enter_by(&self, tcp: TcpStream, door: Door) -> std::io::Result<Box<dyn Wire>> {
        tcp.set_nodelay(true)?;
        let mut wire: Box<dyn Wire> = match door {
            Mqtt | Ws => Box::new(tcp),
            Mqtts | Wss => Box::new(self.tls.connect(name(), tcp).await?),
        };
        if matches!(door, Ws | Wss) {
            wire.write_all(REQUEST.as_bytes()).await?;
            wire.flush().await?;
            let mut answer = vec![];
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(wire.read_u8().await?);
            }
            let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 101 "), "{answer}");
            assert!(!answer.contains("permessage-deflate"), "compression was agreed: {answer}");
        }
        Ok(wire)
    }

    /// One hostile connection, until the proxy has ended it or it has ended itself. Any write may fail: the proxy ends it when it likes.
    async fn attack(&self, number: usize, arrivals: &Arrivals) {
        let (what, door, deed) = &KINDS[number % KINDS.len()];
        let mut tcp = self.tcp(*door, number).await;
        arrivals.one_more();
        // What one may take that is in the right; the others have their time, and what a busy machine needs beside that.
        let is_in_the_right = matches!(deed, Stays(_));
        let patience = self.connect_timeout.max(DEADLINE / 2) + DEADLINE / 2;
        let within = if is_in_the_right { self.connect_timeout } else { patience };
        let wire: std::io::Result<Box<dyn Wire>> = match deed {
            Gone | Deaf => {
                tcp.set_zero_linger().expect("it is a socket");
                if matches!(deed, Gone) {
                    let _ = tcp.write_all(&hello(number)).await;
                    return;
                }
                let _ = tcp.write_all(&[connect(number), [0xc0, 0].repeat(4_000)].concat()).await;
                // So long it does not read what it has asked for.
                return tokio::time::sleep(self.connect_timeout).await;
            }
            Says(_) | Drips(_) => Ok(Box::new(tcp)),
            Goes(_) | Stays(_) => {
                let entered = tokio::time::timeout(patience, self.enter_by(tcp, *door)).await;
                entered.unwrap_or_else(|_| panic!("still at the door: who {what}"))
            }
        };
        let Ok(mut wire) = wire else { return };
        match deed {
            Drips(text) => drip(&mut *wire, &text(number), self.connect_timeout).await,
            Says(text) | Goes(text) | Stays(text) => {
                let _ = wire.write_all(&text(number)).await;
                let _ = wire.flush().await;
            }
            Deaf | Gone => {}
        }
        let mut taken = [0; 1024];
        let ended = async { while wire.read(&mut taken).await.is_ok_and(|count| count > 0) {} };
        let by_the_proxy = tokio::time::timeout(within, ended).await.is_ok();
        assert!(by_the_proxy || is_in_the_right, "still open: who {what}");
    }
}

/// At a pace at which it takes more than twice the time that it may.
async fn drip(wire: &mut dyn Wire, text: &[u8], connect_timeout: Duration) {
    for byte in text {
        if wire.write_all(&[*byte]).await.is_err() {
            return;
        }
        // The pace of who drips is what is tested: a tenth of what it may take, for each byte.
        tokio::time::sleep(connect_timeout / 10).await;
    }
}

/// Tells in what time all had come: were connected.
struct Arrivals {
    begin: Instant,
    missing: AtomicUsize,
    have_come: Sender<Duration>,
}

impl Arrivals {
    fn one_more(&self) {
        if self.missing.fetch_sub(1, Relaxed) == 1 {
            self.have_come.send(self.begin.elapsed()).expect("somebody waits for it");
        }
    }
}

/// All kinds in turn, until the last has ended. In what time they came is told once the last has come.
pub async fn storm(target: Arc<Target>, total: usize, at_a_time: usize, per_second: usize, have_come: Sender<Duration>) {
    let arrivals = Arc::new(Arrivals {
        begin: Instant::now(),
        missing: AtomicUsize::new(total),
        have_come,
    });
    let places = Arc::new(Semaphore::new(at_a_time));
    let mut attackers = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for number in 0..total {
        if number % (per_second / 100).max(1) == 0 {
            pace.tick().await;
        }
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let (target, arrivals) = (Arc::clone(&target), Arc::clone(&arrivals));
        attackers.spawn(async move {
            target.attack(number, &arrivals).await;
            drop(place);
        });
        while let Some(ended) = attackers.try_join_next() {
            ended.expect("an attacker found nothing wrong");
        }
    }
    drop(arrivals);
    attackers.join_all().await;
}

/// Threads that run while nobody else of their session wants to: it is the proxy that is looked at, and not what is left of two cores. That is
/// `SCHED_IDLE`, since Linux lets a thread of nice 19 that is at work go on for a while (7 to 11 ms were seen) while others wait.
pub fn behind_their_session() -> Runtime {
    // What a thread of the runtime finds wrong at its start would not be heard.
    output("chrt", &["--version"]);
    let step_back = || {
        let thread = std::fs::read_link("/proc/thread-self").expect("Linux has it");
        let id = thread.file_name().and_then(|id| id.to_str()).expect("a number").to_owned();
        output("chrt", &["--idle", "--pid", "0", &id]);
    };
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(2).enable_all().on_thread_start(step_back).build();
    built.expect("threads can be had")
}
