//! Clients that keep their sessions while connections break, instances die and sleep: a publisher with several messages in flight, and a
//! subscriber. They forget what the protocol lets them forget, and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::Greeting;
use super::once::{chance, publish_packet, short_packet};
use crate::load::client::{Client, Event, Version};
use crate::stage::DEADLINE;

/// Messages that a publisher has open at a time.
const WINDOW: usize = 4;
/// A publisher's messages are at least so far apart.
const PACE: Duration = Duration::from_millis(10);

/// The way of a client to some instance: it finds one again whenever it has none.
struct Line {
    at: SocketAddr,
    name: String,
    connection: Option<Client>,
    /// Kafka has its session from its first CONNACK on.
    stored: bool,
}

impl Line {
    fn new(at: SocketAddr, name: &str) -> Self {
        Self {
            at,
            name: name.to_owned(),
            connection: None,
            stored: false,
        }
    }

    /// Whether the connection is another than before.
    async fn connect(&mut self) -> bool {
        let begun = Instant::now();
        let fresh = self.connection.is_none();
        while self.connection.is_none() {
            assert!(begun.elapsed() < DEADLINE, "{} is let in nowhere", self.name);
            let Ok((client, present)) = greet(self.at, &self.name).await else {
                // The interval of this bounded poll.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            assert!(present || !self.stored, "the session of {} is lost", self.name);
            (self.connection, self.stored) = (Some(client), true);
        }
        fresh
    }

    fn client(&mut self) -> &mut Client {
        self.connection.as_mut().expect("it is connected")
    }

    /// Sends what is queued. A connection that breaks by that is gone.
    async fn flush(&mut self) {
        if let Some(client) = &mut self.connection
            && client.flush().await.is_err()
        {
            self.connection = None;
        }
    }
}

/// A connection and whether its session was there; an error if it was not let in, for whatever reason.
async fn greet(at: SocketAddr, name: &str) -> io::Result<(Client, bool)> {
    let mut client = Client::open(at, Version::V5).await?;
    client.output.extend_from_slice(&Greeting::staying(name).encode());
    client.flush().await?;
    match client.next_within(DEADLINE).await? {
        Event::ConnAck {
            accepted: true, present, ..
        } => Ok((client, present)),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

struct Open {
    id: u16,
    text: String,
    /// PUBREC has come.
    received: bool,
}

/// A publisher with a topic of its own, who numbers its messages.
pub(super) struct Pump {
    line: Line,
    topic: String,
    pub(super) qos: u8,
    open: VecDeque<Open>,
    /// Messages so far.
    pub(super) sent: usize,
    /// Connections that broke while messages were open.
    pub(super) struck: usize,
    dice: u64,
    /// After one in so many packets it gives up its connection by itself.
    restless: u64,
}

impl Pump {
    /// Publishes to `root/name`.
    pub(super) fn new(at: SocketAddr, root: &str, name: &str, qos: u8, seed: u64, restless: u64) -> Self {
        Self {
            line: Line::new(at, name),
            topic: format!("{root}/{name}"),
            qos,
            open: VecDeque::new(),
            sent: 0,
            struck: 0,
            dice: seed,
            restless,
        }
    }

    /// What it has published, in order.
    fn texts(&self) -> Vec<String> {
        (0..self.sent).map(|number| self.text(number)).collect()
    }

    fn text(&self, number: usize) -> String {
        format!("{} {number}", self.line.name)
    }

    /// Publishes until it has `enough`, and everything is acknowledged.
    pub(super) async fn run(mut self, enough: Arc<AtomicBool>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let enough = enough.load(Relaxed);
            if enough && self.open.is_empty() {
                return self;
            }
            self.connect().await;
            let room = !enough && self.open.len() < WINDOW;
            tokio::select! {
                event = self.line.client().next_within(DEADLINE) => self.hear(event),
                _ = pace.tick(), if room => self.publish(),
            }
            self.line.flush().await;
            if chance(&mut self.dice, self.restless) == 0 {
                self.line.connection = None;
            }
        }
    }

    /// One more message, which is acknowledged when this returns.
    pub(super) async fn say(&mut self) -> String {
        self.connect().await;
        self.publish();
        self.line.flush().await;
        while !self.open.is_empty() {
            self.connect().await;
            let event = self.line.client().next_within(DEADLINE).await;
            self.hear(event);
            self.line.flush().await;
        }
        self.text(self.sent - 1)
    }

    /// On a new connection everything that is open is repeated, in the order in which it was first said [MQTT-4.4.0-1].
    async fn connect(&mut self) {
        while self.line.connect().await {
            for open in &self.open {
                let packet = match open.received {
                    true => short_packet(0x62, open.id).to_vec(),
                    false => packet(self.qos, &self.topic, open, true),
                };
                self.line.client().output.extend_from_slice(&packet);
            }
            self.line.flush().await;
        }
    }

    fn publish(&mut self) {
        // The lowest that is free: an answer to one message must never count for the next one.
        let free = |id: &u16| self.open.iter().all(|open| open.id != *id);
        let open = Open {
            id: (1..=u16::MAX).find(free).expect("the window is small"),
            text: self.text(self.sent),
            received: false,
        };
        let packet = packet(self.qos, &self.topic, &open, false);
        self.line.client().output.extend_from_slice(&packet);
        self.open.push_back(open);
        self.sent += 1;
    }

    /// Answers of either kind come in the order of the messages [MQTT-4.6.0-2].
    fn hear(&mut self, event: io::Result<Event>) {
        let event = match event {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("{}: no answer, {} are open", self.topic, self.open.len()),
            Err(_) | Ok(Event::Disconnect(_)) => {
                self.struck += usize::from(!self.open.is_empty());
                self.line.connection = None;
                return;
            }
            Ok(event) => event,
        };
        match event {
            Event::PubAck(id, 0) => {
                let first = self.open.pop_front().map(|open| open.id);
                assert_eq!((first, self.qos), (Some(id), 1), "{}", self.topic);
            }
            Event::PubRec(id, 0) => {
                let first = self.open.iter_mut().find(|open| !open.received);
                let first = first.unwrap_or_else(|| panic!("{}: PUBREC {id} for nothing", self.topic));
                assert_eq!((first.id, self.qos), (id, 2), "{}", self.topic);
                first.received = true;
                self.line.client().output.extend_from_slice(&short_packet(0x62, id));
            }
            Event::PubComp(id) => {
                let place = self.open.iter().position(|open| open.id == id && open.received);
                self.open
                    .remove(place.unwrap_or_else(|| panic!("{}: PUBCOMP {id} for nothing", self.topic)));
            }
            other => panic!("{}: {other:?}", self.topic),
        }
    }
}

fn packet(qos: u8, topic: &str, open: &Open, dup: bool) -> Vec<u8> {
    let mut packet = publish_packet(topic, open.id, &open.text, dup);
    packet[0] ^= if qos == 1 { 0x06 } else { 0 };
    packet
}

/// A subscriber, who answers at once.
pub(super) struct Valve {
    line: Line,
    pub(super) qos: u8,
    /// By packet id, from PUBLISH to PUBREL: the same again is the same message.
    open: BTreeMap<u16, String>,
    /// Everything that came.
    pub(super) got: Vec<String>,
    dice: u64,
    /// At one in so many packets it gives up its connection by itself.
    restless: u64,
}

impl Valve {
    pub(super) async fn begin(at: SocketAddr, name: &str, filter: &str, qos: u8, seed: u64, restless: u64) -> Self {
        let mut line = Line::new(at, name);
        line.connect().await;
        assert_eq!(line.client().subscribe(filter, qos).await.unwrap(), qos);
        Self {
            line,
            qos,
            open: BTreeMap::new(),
            got: Vec::new(),
            dice: seed,
            restless,
        }
    }

    /// Takes messages until this one has come, and none is open.
    pub(super) async fn take_until(&mut self, last: &str) {
        let (mut since, mut known) = (Instant::now(), self.got.len());
        while !(self.open.is_empty() && self.got.iter().rev().take(1_000).any(|text| text == last)) {
            if self.got.len() > known {
                (since, known) = (Instant::now(), self.got.len());
            }
            assert!(
                since.elapsed() < 2 * DEADLINE,
                "{}: nothing behind {:?}",
                self.line.name,
                self.got.last()
            );
            self.line.connect().await;
            let event = self.line.client().next_within(DEADLINE).await;
            let before = chance(&mut self.dice, 2) == 0;
            let leaves = chance(&mut self.dice, self.restless) == 0;
            self.hear(event, leaves && before);
            self.line.flush().await;
            if leaves {
                self.line.connection = None;
            }
        }
    }

    /// The next message comes on another connection.
    pub(super) fn leave(&mut self) {
        self.line.connection = None;
    }

    fn hear(&mut self, event: io::Result<Event>, mute: bool) {
        let Ok(event) = event else {
            self.line.connection = None;
            return;
        };
        match &event {
            Event::Publish { payload, qos, id, .. } => {
                let text = String::from_utf8(payload.to_vec()).unwrap();
                match self.open.get(id) {
                    Some(same) => assert_eq!((*same == text, *qos), (true, 2), "{}: {text} for {same}", self.line.name),
                    None => self.got.push(text.clone()),
                }
                if *qos == 2 {
                    self.open.insert(*id, text);
                }
            }
            // It may be repeated: the connection was cut behind its PUBCOMP.
            Event::PubRel(id) => drop(self.open.remove(id)),
            Event::Disconnect(_) => {
                self.line.connection = None;
                return;
            }
            other => panic!("{}: {other:?}", self.line.name),
        }
        if !mute {
            self.line.client().answer(&event).unwrap();
        }
    }
}

/// Everything of a publisher's is there in order: once each, or the first occurrences of it.
pub(super) fn judge(seen: &[String], pump: &Pump, once: bool, what: &str) {
    let own = format!("{} ", pump.line.name);
    let mut known = BTreeSet::new();
    let got: Vec<_> = seen
        .iter()
        .filter(|text| text.starts_with(&own) && (once || known.insert(*text)))
        .collect();
    let wanted = pump.texts();
    // The whole lists would fill screens.
    let apart = (0..got.len().max(wanted.len())).find(|place| got.get(*place).copied() != wanted.get(*place));
    if let Some(place) = apart {
        let around = &got[place.saturating_sub(3).min(got.len())..(place + 3).min(got.len())];
        let (got, wanted) = (got.len(), wanted.len());
        panic!("{what}: {got} of {wanted}, which part at {place}: {around:?}");
    }
}
