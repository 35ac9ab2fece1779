//! Three thousand hostile connections beside ten honest clients: the honest ones go on, memory stays bounded, and in the end nothing is
//! left of the others.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fake_broker::{Fake, client::until};
use relay_stage::{PATIENCE, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const RULES: &str = r#"rules:
  - {name: t, mqtt: "t/+", kafka: {topic: t, partition: 0}}"#;

/// Hostile connections that are open at the same time, and how often.
const AT_A_TIME: usize = 1000;
const WAVES: usize = 3;
/// Also what the honest ones have, on a machine that does other things, too.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What all of a wave may take, both ends of each connection included.
const MEMORY: u64 = 64 << 20;

const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01";

/// What somebody may do instead of speaking MQTT.
const KINDS: [&str; 11] = [
    "says nothing",
    "begins a header",
    "sends CONNECT a byte at a time",
    "announces 256 MiB",
    "sends noise",
    "speaks TLS to a plain port",
    "publishes to 65,534 levels",
    "subscribes to ten thousand filters",
    "asks and takes no answers",
    "is gone at once",
    "begins a PUBLISH and does not go on",
];

/// MQTT's lengths (§1.5.5).
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
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
    let id = format!("hostile-{number}");
    packet(0x10, &[&CONNECT[2..12], &[0, id.len() as u8], id.as_bytes()].concat())
}

/// What is written of a kind, after CONNECT if it has one.
fn script(kind: usize, number: usize) -> Vec<u8> {
    match kind {
        1 => vec![0x10],
        3 => [&[0x10, 0xff, 0xff, 0xff, 0x7f][..], &[0; 2000]].concat(),
        4 => (0..4000usize).map(|i| ((i * 31 + number * 17) ^ (i >> 3)) as u8).collect(),
        5 => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 500]].concat(),
        6 => [connect(number), packet(0x30, &[&[0xff, 0xfe][..], &[b'/'; 65_534], b"x"].concat())].concat(),
        7 => {
            let filters = (0..10_000u32).flat_map(|i| format!("\0\x05{i:05}\0").into_bytes());
            let body: Vec<u8> = [0, 1].into_iter().chain(filters).collect();
            [connect(number), packet(0x82, &body)].concat()
        }
        8 => [connect(number), [0xc0, 0].repeat(20_000)].concat(),
        10 => {
            let mut connect = connect(number);
            // No keep alive.
            connect[11] = 0;
            [&connect[..], &[0x30, 0xff, 0x7f, 0, 3], b"t/a", &[b'x'; 5000]].concat()
        }
        _ => vec![],
    }
}

/// One hostile connection, until the proxy has ended it or it has ended itself.
async fn hostile(address: SocketAddr, kind: usize, number: usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // From here on any write may fail: the proxy ends it when it likes.
    match kind {
        2 => {
            for byte in connect(number).into_iter().cycle().take(2000) {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                // The weather: at this pace a whole CONNECT takes five times as long as it may.
                tokio::time::sleep(CONNECT_TIMEOUT / 4).await;
            }
        }
        8 => {
            let _ = stream.write_all(&script(kind, number)).await;
            // So long it does not read what it has asked for.
            tokio::time::sleep(CONNECT_TIMEOUT).await;
            let _ = stream.set_zero_linger();
            return;
        }
        9 => {
            let _ = stream.set_zero_linger();
            return;
        }
        _ => drop(stream.write_all(&script(kind, number)).await),
    }
    let mut taken = vec![0; 4096];
    let ended = async { while stream.read(&mut taken).await.is_ok_and(|count| count > 0) {} };
    // Who subscribes a lot is within his rights; all others are ended by the proxy.
    let within = if kind == 7 { CONNECT_TIMEOUT } else { PATIENCE };
    let by_the_proxy = tokio::time::timeout(within, ended).await.is_ok();
    assert!(by_the_proxy || kind == 7, "still open: who {}", KINDS[kind]);
}

/// Publishes again and again until told to stop: the time of each PUBACK.
async fn honest(stage_address: SocketAddr, number: usize, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut device = relay_stage::device::Device::connected(stage_address, 4, &format!("honest-{number}")).await;
    let mut times = vec![];
    for id in (1..=u16::MAX).cycle() {
        if stop.load(Relaxed) {
            break;
        }
        let start = Instant::now();
        device.publish("t/a", 1, id, "honest").await;
        assert_eq!(device.line().await, format!("puback {id}"));
        times.push(start.elapsed());
        // Its pace.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Ten honest clients for as long as `meanwhile` takes; their 99th percentile, and how many messages they had acknowledged.
async fn with_honest(address: SocketAddr, meanwhile: impl Future<Output = ()>) -> (Duration, usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..10 {
        clients.spawn(honest(address, number, stop.clone()));
    }
    meanwhile.await;
    stop.store(true, Relaxed);
    let mut times: Vec<Duration> = clients.join_all().await.concat();
    (p99(&mut times), times.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_clients_go_on_and_nothing_is_left_of_the_others() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let mut stage = Stage::with(fake, RULES, |config| {
        config.limits.connect_timeout = CONNECT_TIMEOUT;
        config.session.connect_timeout = CONNECT_TIMEOUT;
        config.session.packet_timeout = CONNECT_TIMEOUT;
        config.limits.connect_rate = None;
    })
    .await;
    // The span that is measured without attackers.
    let (quiet, before) = with_honest(stage.address, tokio::time::sleep(Duration::from_secs(2))).await;
    let memory = resident();
    let mut most = 0;
    let address = stage.address;
    let attack = async {
        for wave in 0..WAVES {
            let mut attackers = JoinSet::new();
            for number in 0..AT_A_TIME {
                attackers.spawn(hostile(address, number % KINDS.len(), wave * AT_A_TIME + number));
            }
            // In the midst of the wave: none of the silent has been ended yet.
            tokio::time::sleep(CONNECT_TIMEOUT / 2).await;
            most = most.max(resident().saturating_sub(memory));
            attackers.join_all().await;
        }
    };
    let (attacked, during) = with_honest(address, attack).await;
    println!("p99 quiet {quiet:?}, attacked {attacked:?}; memory {} KiB above", most >> 10);
    assert!(most < MEMORY, "{most} bytes for {AT_A_TIME} connections");
    // Attackers and Kafka share the two cores with the proxy here: what is left is that nobody waits for one of them.
    assert!(
        attacked < 2 * quiet + CONNECT_TIMEOUT / 4,
        "p99 {quiet:?} in quiet, {attacked:?} under attack"
    );
    until("all have gone", || stage.metric("connections{listener=\"tcp\"}") == 0).await;
    assert_eq!(stage.metric("connection_panics_total"), 0);
    assert_eq!(
        stage.fake.all_values("t").len(),
        before + during,
        "all that was acknowledged, and nothing else"
    );
    stage.begin_drain();
    stage.ended().await;
}
