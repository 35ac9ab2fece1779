//! Honest clients, whose answers are timed.

use crate::attackers::{Door, Target, Wire, greeting, packet};
use crate::stage::DEADLINE;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Three at each listener.
pub const HONEST: usize = 12;
/// From one message of a client to its next.
const PACE: Duration = Duration::from_millis(20);

/// One client that publishes at QoS 1 at a fixed pace.
struct Honest {
    wire: Box<dyn Wire>,
    framed: bool,
    topic: String,
}

impl Honest {
    async fn come(target: &Target, number: usize, topic: &str) -> Self {
        let door = [Door::Mqtt, Door::Mqtts, Door::Ws, Door::Wss][number % 4];
        let wire = target.enter(door, number).await.unwrap();
        let framed = matches!(door, Door::Ws | Door::Wss);
        let topic = format!("{topic}/{number}/telemetry/a");
        let mut honest = Self { wire, framed, topic };
        honest.say(&greeting(&format!("honest-{number}"))).await;
        assert_eq!(honest.hear().await, [0x20, 2, 0, 0]);
        honest
    }

    async fn say(&mut self, packet: &[u8]) {
        if self.framed {
            // Final, binary, masked by zeros.
            let head = [0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0];
            assert!(packet.len() < 126);
            self.wire.write_all(&head).await.unwrap();
        }
        self.wire.write_all(packet).await.unwrap();
        self.wire.flush().await.unwrap();
    }

    /// An answer of four bytes.
    async fn hear(&mut self) -> [u8; 4] {
        if self.framed {
            let mut head = [0; 2];
            self.wire.read_exact(&mut head).await.unwrap();
            assert_eq!(head, [0x82, 4]);
        }
        let mut answer = [0; 4];
        self.wire.read_exact(&mut answer).await.unwrap();
        answer
    }

    /// From when a message was due to its PUBACK, of each and at least of one, until it is told to stop.
    async fn publish(mut self, stop: Arc<AtomicBool>) -> (Self, Vec<Duration>) {
        let mut times = vec![];
        let mut due = tokio::time::Instant::now();
        for id in (1..=u16::MAX).cycle() {
            tokio::time::sleep_until(due).await;
            let [high, low] = id.to_be_bytes();
            let topic = self.topic.as_bytes();
            let body = [&[0, topic.len() as u8], topic, &[high, low], b"honest"].concat();
            self.say(&packet(0x32, &body)).await;
            let answer = tokio::time::timeout(DEADLINE, self.hear()).await.unwrap();
            assert_eq!(answer, [0x40, 2, high, low]);
            times.push(due.elapsed());
            due += PACE;
            // What was due before the end of the span is of the span.
            if stop.load(Relaxed) && due.elapsed().is_zero() {
                break;
            }
        }
        (self, times)
    }
}

/// The honest clients, on a thread of their own beside those of the attackers.
pub struct Company {
    pub runtime: Runtime,
    clients: Vec<Honest>,
    /// How many messages were acknowledged.
    pub answered: usize,
}

impl Company {
    pub fn come(target: &Target, topic: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let come = async {
            let mut clients = vec![];
            for number in 0..HONEST {
                clients.push(Honest::come(target, number, topic).await);
            }
            clients
        };
        let clients = runtime.block_on(come);
        let answered = 0;
        Self {
            runtime,
            clients,
            answered,
        }
    }

    /// They publish for as long as `meanwhile` takes: the 99th percentile of their answers.
    pub fn publish(&mut self, meanwhile: impl FnOnce()) -> Duration {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for client in self.clients.drain(..) {
            running.spawn_on(client.publish(Arc::clone(&stop)), self.runtime.handle());
        }
        meanwhile();
        stop.store(true, Relaxed);
        let mut times = vec![];
        for (client, own) in self.runtime.block_on(running.join_all()) {
            self.clients.push(client);
            times.extend(own);
        }
        self.answered += times.len();
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }
}

/// The 99th percentiles of both companies in the same span.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub attacked: Duration,
    pub unharmed: Duration,
}

/// One at the instance that is attacked, one at an instance that nobody attacks.
pub struct Companies {
    pub attacked: Company,
    pub unharmed: Company,
}

impl Companies {
    /// Both publish for as long as `meanwhile` takes.
    pub fn publish(&mut self, meanwhile: impl FnOnce()) -> Span {
        let mut attacked = Duration::ZERO;
        let unharmed = self.unharmed.publish(|| attacked = self.attacked.publish(meanwhile));
        Span { attacked, unharmed }
    }
}
