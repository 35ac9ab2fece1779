//! Publishers: many connections in one process, each with a window of messages in flight.
//!
//! Closed loop: as fast as the acknowledgements come. Open loop: at a fixed rate, and a message's latency counts from the
//! moment it was due, so a stall is not hidden by the messages it kept from being sent.

use super::client::{Client, Event, Version, encode_publish};
use super::ledger::{STAMP_LEN, Stamp};
use bytes::BytesMut;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// What is sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// By which protocol.
    pub version: Version,
    /// Connections.
    pub clients: u32,
    /// Messages of each.
    pub messages: u64,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Messages of one connection that may wait for their answer; at most the server's receive maximum.
    pub window: u16,
    /// Bytes of a payload, at least [`STAMP_LEN`].
    pub payload: usize,
    /// The topic; `{}` stands for the number of the client.
    pub topic: String,
    /// The client ids: this and the number.
    pub name: String,
    /// Messages per second of all connections together; `None`: closed loop.
    pub rate: Option<f64>,
    /// How long a connection may wait for its next answer.
    pub patience: Duration,
}

/// How far a run is, to be watched while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Written to a socket.
    pub sent: AtomicU64,
    /// Answered to the end of their exchange.
    pub done: AtomicU64,
    /// Microseconds from due to answered of the slowest answer since this was last taken.
    pub slowest: AtomicU64,
    /// Messages of each client after which it ends, if it is not 0 and less than what the load says.
    pub last: AtomicU64,
}

impl Progress {
    /// Ends a run at a fixed rate soon: all clients send as many messages as any of them can have sent by now, and a few more.
    /// Returns how many that is for each.
    pub fn end_soon(&self, load: &Load, since: Instant) -> u64 {
        let rate = load.rate.expect("only a run at a fixed rate ends so");
        let sent = since.elapsed().as_secs_f64() * rate / f64::from(load.clients);
        let last = (sent as u64 + 20).min(load.messages);
        self.last.store(last, Relaxed);
        last
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// From the moment all connections stood to the last answer.
    pub elapsed: Duration,
    /// Messages written.
    pub sent: u64,
    /// Answered with success.
    pub acknowledged: u64,
    /// Answered with a reason code of 0x80 or more.
    pub refused: u64,
    /// Answers that came before those of earlier messages [MQTT-4.6.0-2].
    pub answers_out_of_order: u64,
    /// Microseconds from due to answered.
    pub latency: Histogram<u64>,
}

impl Report {
    fn new() -> Self {
        let latency = Histogram::new_with_max(600_000_000, 3).expect("the bounds of the histogram are legal");
        Self {
            elapsed: Duration::ZERO,
            sent: 0,
            acknowledged: 0,
            refused: 0,
            answers_out_of_order: 0,
            latency,
        }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.answers_out_of_order += other.answers_out_of_order;
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
    }
}

/// Connects all, then sends all. The first connection that fails ends the run.
pub async fn run(load: &Load, progress: &Arc<Progress>) -> io::Result<Report> {
    assert!(load.payload >= STAMP_LEN, "a payload has room for its stamp");
    let barrier = Arc::new(Barrier::new(load.clients as usize + 1));
    let mut tasks = JoinSet::new();
    for number in 0..load.clients {
        let (load, progress, barrier) = (load.clone(), Arc::clone(progress), Arc::clone(&barrier));
        let client = Client::connect(load.address, load.version, &format!("{}{number}", load.name)).await?;
        tasks.spawn(async move { Publisher::new(load, number, client, progress)?.run(&barrier).await });
    }
    barrier.wait().await;
    let start = Instant::now();
    let mut report = Report::new();
    while let Some(one) = tasks.join_next().await {
        report.add(&one.map_err(io::Error::other)??);
    }
    report.elapsed = start.elapsed();
    Ok(report)
}

struct Publisher {
    load: Load,
    number: u32,
    client: Client,
    progress: Arc<Progress>,
    report: Report,
    /// One encoded PUBLISH whose packet id and stamp are written anew for each message.
    frame: BytesMut,
    free: Vec<u16>,
    /// In the order of sending: packet id, due.
    in_flight: VecDeque<(u16, Instant)>,
    next: u64,
}

impl Publisher {
    fn new(load: Load, number: u32, client: Client, progress: Arc<Progress>) -> io::Result<Self> {
        let mut frame = BytesMut::new();
        let topic = load.topic.replace("{}", &number.to_string());
        encode_publish(load.version, &topic, load.qos, 1, &vec![b'x'; load.payload], &mut frame)?;
        let free = (1..=load.window).rev().collect();
        Ok(Self {
            load,
            number,
            client,
            progress,
            report: Report::new(),
            frame,
            free,
            in_flight: VecDeque::new(),
            next: 0,
        })
    }

    async fn run(mut self, barrier: &Barrier) -> io::Result<Report> {
        barrier.wait().await;
        let start = Instant::now();
        while self.next < self.last() || !self.in_flight.is_empty() {
            let due = self.send_due(start).await?;
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // At QoS 0 nothing comes back; only the clock drives an open loop.
            if self.load.qos == 0 && due.is_none() {
                continue;
            }
            tokio::select! {
                read = timeout(self.load.patience, self.client.read_more()) => {
                    read.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer, {} in flight", self.in_flight.len())))??;
                }
                () = wait => continue,
            }
            while let Some(event) = self.client.buffered()? {
                self.take(&event)?;
            }
        }
        self.client.goodbye().await?;
        Ok(self.report)
    }

    /// Writes what the window and the rate allow with one write. Returns when the next is due, if only time is wanting.
    async fn send_due(&mut self, start: Instant) -> io::Result<Option<Instant>> {
        let (mut next_due, mut count) = (None, 0);
        while self.next < self.last() && count < 256 {
            let now = Instant::now();
            let due = self.due(start, now);
            if due > now {
                next_due = Some(due);
                break;
            }
            let Some(id) = (if self.load.qos == 0 { Some(1) } else { self.free.pop() }) else {
                break;
            };
            self.queue(id, due, now);
            count += 1;
        }
        self.client.flush().await?;
        self.progress.sent.fetch_add(count, Relaxed);
        self.report.sent += count;
        if self.load.qos == 0 {
            self.progress.done.fetch_add(count, Relaxed);
        }
        Ok(next_due)
    }

    fn last(&self) -> u64 {
        match self.progress.last.load(Relaxed) {
            0 => self.load.messages,
            last => last.min(self.load.messages),
        }
    }

    fn due(&self, start: Instant, now: Instant) -> Instant {
        let Some(rate) = self.load.rate else { return now };
        let clients = f64::from(self.load.clients);
        // The clients take turns, so that the rate is even over all of them.
        start + Duration::from_secs_f64((self.next as f64 * clients + f64::from(self.number)) / rate)
    }

    fn queue(&mut self, id: u16, due: Instant, now: Instant) {
        let payload = self.frame.len() - self.load.payload;
        if self.load.qos > 0 {
            let properties = usize::from(self.load.version == Version::V5);
            self.frame[payload - properties - 2..payload - properties].copy_from_slice(&id.to_be_bytes());
            self.in_flight.push_back((id, due));
        }
        let late = now.duration_since(due);
        let micros = (epoch() - late).as_micros() as u64;
        Stamp {
            client: self.number,
            sequence: self.next,
            micros,
        }
        .write(&mut self.frame[payload..]);
        self.client.output.extend_from_slice(&self.frame);
        self.next += 1;
    }

    fn take(&mut self, event: &Event) -> io::Result<()> {
        match *event {
            Event::PubAck(id, reason) => self.settle(id, reason),
            Event::PubRec(id, reason) if reason >= 0x80 => self.settle(id, reason),
            Event::PubRec(..) => self.client.answer(event)?,
            Event::PubComp(id) => self.settle(id, 0),
            Event::Disconnect(reason) => return Err(io::Error::other(format!("DISCONNECT 0x{reason:02x}"))),
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, id: u16, reason: u8) {
        let Some(place) = self.in_flight.iter().position(|(waiting, _)| *waiting == id) else {
            self.report.answers_out_of_order += 1; // an answer nobody waits for
            return;
        };
        self.report.answers_out_of_order += u64::from(place != 0);
        let (_, due) = self.in_flight.remove(place).expect("the place was just found");
        let micros = due.elapsed().as_micros() as u64;
        self.report.latency.saturating_record(micros);
        self.progress.slowest.fetch_max(micros, Relaxed);
        if reason < 0x80 {
            self.report.acknowledged += 1;
        } else {
            self.report.refused += 1;
        }
        self.progress.done.fetch_add(1, Relaxed);
        self.free.push(id);
    }
}

/// Time since the Unix epoch.
pub fn epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970")
}
