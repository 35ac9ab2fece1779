//! A bad network between the proxy and Kafka: connections that are cut, stalled, delayed, and that end in the middle of a frame.
//!
//! Each of three brokers advertises the address of a small TCP forwarder that does these things, so all of the proxy's connections go through
//! them, and meanwhile leaders move.

use crate::chaos::{PATIENT, Siege, busiest, flows_again, in_sync, is_long};
use crate::publish::rule;
use crate::stage::{Kafka, Proxy, free_base};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What the network does with whatever passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    Fair,
    /// All connections end, and new ones are refused.
    Cut,
    /// Nothing passes; what comes waits.
    Stall,
    /// Each piece waits so long.
    Delay(Duration),
    /// Of the next piece so many bytes pass, then the connection ends.
    Half(usize),
}

/// The forwarder.
pub struct Network {
    pub weather: watch::Sender<Weather>,
    /// Connections that it ended.
    ended: Arc<AtomicU64>,
}

impl Network {
    /// From one address to the other, in fair weather.
    pub async fn between(listen: SocketAddr, kafka: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let weather = watch::Sender::new(Weather::Fair);
        let ended = Arc::new(AtomicU64::new(0));
        let (sky, count) = (weather.subscribe(), Arc::clone(&ended));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *sky.borrow() == Weather::Cut {
                    continue;
                }
                if let Ok(far) = TcpStream::connect(kafka).await {
                    tokio::spawn(connection(near, far, sky.clone(), Arc::clone(&count)));
                }
            }
        });
        Self { weather, ended }
    }
}

async fn connection(near: TcpStream, far: TcpStream, sky: watch::Receiver<Weather>, ended: Arc<AtomicU64>) {
    for stream in [&near, &far] {
        stream.set_nodelay(true).unwrap();
        // Its end is a reset, as of a cut.
        stream.set_zero_linger().unwrap();
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let mut cut = sky.clone();
    tokio::select! {
        () = pump(near_in, far_out, sky.clone()) => {}
        () = pump(far_in, near_out, sky) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
    ended.fetch_add(1, Relaxed);
}

/// One direction, until it ends or the weather ends it.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut sky: watch::Receiver<Weather>) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if sky.wait_for(|weather| *weather != Weather::Stall).await.is_err() {
            return;
        }
        let weather = *sky.borrow();
        match weather {
            // The delay is the weather.
            Weather::Delay(time) => tokio::time::sleep(time).await,
            Weather::Half(most) if length > most => {
                let _ = to.write_all(&piece[..most]).await;
                let _ = to.flush().await;
                return;
            }
            _ => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// Small and repeatable: the same seed gives the same weather.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn weather(&mut self) -> (Weather, Duration) {
        let time = Duration::from_millis(20 + self.throw(400));
        match self.throw(5) {
            0 => (Weather::Cut, time / 4),
            1 => (Weather::Stall, time * 4),
            2 => (Weather::Delay(time / 4), time * 2),
            // In the middle of a length, of a header, of records.
            _ => (Weather::Half([1, 3, 5, 11, 100, 1_000][self.throw(6) as usize]), time),
        }
    }
}

/// Bad weather before one broker for as long as it is wanted, and then fair. Gives how often it has changed.
fn storm(network: &Network, mut dice: Dice, over: &AtomicBool) -> u64 {
    let mut changes = 0;
    while !over.load(Relaxed) {
        let (weather, time) = dice.weather();
        network.weather.send_replace(weather);
        // So long the weather lasts, and so long it is fair again: both thrown, whatever the proxy makes of it.
        std::thread::sleep(time);
        network.weather.send_replace(Weather::Fair);
        std::thread::sleep(Duration::from_millis(50 + dice.throw(200)));
        changes += 1;
    }
    changes
}

/// Three brokers that have clients come to the ports from `near` on, listen for them from `far` on, and know each other by other ports.
fn brokers_beyond(near: u16, far: u16) -> Kafka {
    let base = free_base(3);
    let port = |first: u16| format!("127.0.0.1:{{{}+node}}", first - 1);
    let (brokers, controllers) = (port(base), port(base + 10));
    let settings = [
        format!("listeners=PLAINTEXT://{brokers},FAR://{},CONTROLLER://{controllers}", port(far)),
        format!("advertised.listeners=PLAINTEXT://{brokers},FAR://{}", port(near)),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
    ];
    Kafka::start_with(base, 3, &settings.each_ref().map(String::as_str))
}

/// Ends the storms, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Leaders move: by a kill, a restart, and in the long form by a pause.
fn move_leaders(kafka: &Kafka, siege: &Siege) {
    let killed = busiest(kafka, "weather", &[]);
    kafka.command(&["kill", &killed]);
    flows_again(siege, "messages flow while a broker is dead");
    kafka.command(&["start"]);
    in_sync(kafka, "weather");
    kafka.command(&["restart", &busiest(kafka, "weather", &[killed])]);
    flows_again(siege, "messages flow after a restart");
    in_sync(kafka, "weather");
    if is_long() {
        let paused = busiest(kafka, "weather", &[]);
        kafka.command(&["pause", &paused]);
        // The pause is the weather: longer than `broker.session.timeout.ms`.
        std::thread::sleep(Duration::from_secs(6));
        kafka.command(&["resume", &paused]);
        flows_again(siege, "messages flow after a pause");
        in_sync(kafka, "weather");
    }
}

#[test]
fn a_network_that_cuts_stalls_delays_and_halves_while_leaders_move_costs_no_message_and_doubles_none() {
    let (near, far) = (free_base(3), free_base(3));
    let kafka = brokers_beyond(near, far);
    kafka.command(&["topic", "weather", "6", "3", "min.insync.replicas=2"]);
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let runtime = Runtime::new().unwrap();
    let networks = [0, 1, 2].map(|at| runtime.block_on(Network::between(address(near + at), address(far + at))));
    let bootstrap = [0, 1, 2].map(|at| address(near + at).to_string()).join(",");
    let proxy = Proxy::start(&bootstrap, &rule("weather"), PATIENT);
    let (seed, rounds) = if is_long() {
        (crate::load::publish::epoch().as_nanos() as u64, 10)
    } else {
        (7, 1)
    };
    println!("bad network: seed {seed}");
    let siege = runtime.block_on(Siege::begin(&proxy, "weather", 100, 1_500.0));
    let over = AtomicBool::new(false);
    let changes: u64 = std::thread::scope(|scope| {
        let dice = |at: u64| Dice(seed.wrapping_add(at << 32) | 1);
        let storms = [0, 1, 2].map(|at| {
            let (network, over) = (&networks[at], &over);
            scope.spawn(move || storm(network, dice(at as u64), over))
        });
        let until = Over(&over);
        for _ in 0..rounds {
            move_leaders(&kafka, &siege);
        }
        drop(until);
        storms.into_iter().map(|storm| storm.join().unwrap()).sum()
    });
    let ended: u64 = networks.iter().map(|network| network.ended.load(Relaxed)).sum();
    println!("bad network: {changes} changes of weather before three brokers, {ended} connections were ended");
    assert!(ended >= changes / 4, "the weather did harm");
    runtime.block_on(siege.account(&kafka, "weather", "bad network"));
}
