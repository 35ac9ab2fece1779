//! A bad network between the proxy and Kafka: connections that are cut, stalled, delayed, and that end in the middle of a frame.
//!
//! Kafka advertises the address of a small TCP forwarder that does these things, so all of the proxy's connections go through it.

use crate::chaos::{PATIENT, Siege, is_long};
use crate::publish::rule;
use crate::stage::{Kafka, Proxy, free_address, free_base};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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

#[test]
fn a_network_that_cuts_stalls_delays_and_halves_costs_no_message_and_doubles_none() {
    let (base, near) = (free_base(1), free_address());
    let advertised = format!("advertised.listeners=PLAINTEXT://{near}");
    let kafka = Kafka::start_with(base, 1, &[&advertised]);
    let runtime = Runtime::new().unwrap();
    let network = runtime.block_on(Network::between(near, format!("127.0.0.1:{base}").parse().unwrap()));
    kafka.topic("weather", 4);
    let proxy = Proxy::start(&near.to_string(), &rule("weather"), PATIENT);
    let (seed, changes) = if is_long() {
        (crate::load::publish::epoch().as_nanos() as u64, 600)
    } else {
        (7, 40)
    };
    println!("bad network: seed {seed}");
    let siege = runtime.block_on(Siege::begin(&proxy, "weather", 2_000.0));
    let mut dice = Dice(seed | 1);
    for _ in 0..changes {
        let (weather, time) = dice.weather();
        network.weather.send_replace(weather);
        // So long the weather lasts, and so long it is fair again: both thrown, whatever the proxy makes of it.
        std::thread::sleep(time);
        network.weather.send_replace(Weather::Fair);
        std::thread::sleep(Duration::from_millis(50 + dice.throw(200)));
    }
    let ended = network.ended.load(Relaxed);
    println!("bad network: {ended} connections were ended");
    assert!(ended >= changes / 4, "the weather did harm");
    runtime.block_on(siege.account(&kafka, "weather", "bad network"));
}
