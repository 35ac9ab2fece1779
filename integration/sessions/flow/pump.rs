//! A publisher with several messages in flight.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::super::once::{publish_packet, short_packet};
use super::line::Line;
use super::{Farewell, Habits};
use crate::load::client::{Client, Event, Version};
use crate::stage::DEADLINE;

/// Messages that a publisher has open at a time.
pub(in super::super) const WINDOW: usize = 4;
/// A publisher's messages are at least so far apart.
const PACE: Duration = Duration::from_millis(10);

struct Open {
    id: u16,
    text: String,
    /// PUBREC has come.
    received: bool,
}

/// A publisher with a topic of its own, who numbers its messages.
pub(in super::super) struct Pump {
    pub(super) line: Line,
    topic: String,
    pub(in super::super) qos: u8,
    open: VecDeque<Open>,
    /// Messages so far.
    pub(in super::super) sent: usize,
    /// Connections that broke while messages were open.
    pub(in super::super) struck: usize,
    dice: u64,
    habits: Habits,
}

impl Pump {
    /// Publishes to `root/name`.
    /// Speaks version 5.
    pub(in super::super) fn new(at: SocketAddr, root: &str, name: &str, qos: u8, seed: u64, habits: Habits) -> Self {
        Self {
            line: Line::new(at, name, Version::V5),
            topic: format!("{root}/{name}"),
            qos,
            open: VecDeque::new(),
            sent: 0,
            struck: 0,
            dice: seed,
            habits,
        }
    }

    pub(super) fn speaking(mut self, version: Version) -> Self {
        self.line.version = version;
        self
    }

    /// What it has published, in order.
    pub(super) fn texts(&self) -> Vec<String> {
        (0..self.sent).map(|number| self.text(number)).collect()
    }

    fn text(&self, number: usize) -> String {
        format!("{} {number}", self.line.name)
    }

    /// Publishes until it has `enough`, and everything is acknowledged.
    pub(in super::super) async fn run(mut self, enough: Arc<AtomicBool>) -> Self {
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
                event = self.line.client().next_within(DEADLINE) => self.hear(event, true),
                _ = pace.tick(), if room => self.publish(),
            }
            self.line.flush().await;
            if self.habits.leaves(&mut self.dice) {
                self.hop().await;
            }
        }
    }

    /// One more message, which is acknowledged when this returns.
    pub(in super::super) async fn say(&mut self) -> String {
        self.begin(1).await;
        self.settle().await;
        self.text(self.sent - 1)
    }

    /// So many more messages, as far as the window goes.
    pub(in super::super) async fn begin(&mut self, count: usize) {
        self.connect().await;
        for _ in 0..count.min(WINDOW - self.open.len()) {
            self.publish();
        }
        self.line.flush().await;
    }

    /// Packet ids and payloads of what is not acknowledged.
    pub(in super::super) fn open(&self) -> Vec<(u16, String)> {
        self.open.iter().map(|open| (open.id, open.text.clone())).collect()
    }

    /// Waits until everything is acknowledged.
    pub(in super::super) async fn settle(&mut self) {
        while !self.open.is_empty() {
            self.connect().await;
            let event = self.line.client().next_within(DEADLINE).await;
            self.hear(event, true);
            self.line.flush().await;
        }
    }

    /// Connects to this instance from now on. What has come on its connection by now counts; that goes on without it.
    pub(in super::super) async fn go_to(&mut self, at: SocketAddr) -> Option<Client> {
        self.line.at = at;
        let (former, events) = super::drained(self.line.leave()?).await;
        events.into_iter().for_each(|event| self.hear(Ok(event), false));
        Some(former)
    }

    async fn hop(&mut self) {
        match self.habits.farewell(&mut self.dice) {
            Farewell::Cut => drop(self.line.leave()),
            Farewell::Forget => {
                let _former = self.line.leave();
                self.connect().await;
            }
            Farewell::Overlap => {
                let events = self.line.overlap().await;
                events.into_iter().for_each(|event| self.hear(Ok(event), false));
            }
        }
    }

    /// On a new connection everything that is open is repeated, in the order in which it was first said [MQTT-4.4.0-1].
    async fn connect(&mut self) {
        while self.line.connect().await {
            for open in &self.open {
                let packet = match open.received {
                    true => short_packet(0x62, open.id).to_vec(),
                    false => self.packet(open, true),
                };
                self.line.client().output.extend_from_slice(&packet);
            }
            self.line.flush().await;
        }
    }

    fn packet(&self, open: &Open, dup: bool) -> Vec<u8> {
        let mut packet = publish_packet(&self.topic, open.id, &open.text, dup);
        packet[0] ^= if self.qos == 1 { 0x06 } else { 0 };
        if self.line.version == Version::V4 {
            // The length of properties, behind topic and packet id.
            packet.remove(2 + 2 + self.topic.len() + 2);
            packet[1] -= 1;
        }
        packet
    }

    fn publish(&mut self) {
        // The lowest that is free: an answer to one message must never count for the next one.
        let free = |id: &u16| self.open.iter().all(|open| open.id != *id);
        let open = Open {
            id: (1..=u16::MAX).find(free).expect("the window is small"),
            text: self.text(self.sent),
            received: false,
        };
        let packet = self.packet(&open, false);
        self.line.client().output.extend_from_slice(&packet);
        self.open.push_back(open);
        self.sent += 1;
    }

    /// Answers of either kind come in the order of the messages [MQTT-4.6.0-2].
    fn hear(&mut self, event: io::Result<Event>, answers: bool) {
        let event = match event {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("{}: no answer, {} are open", self.topic, self.open.len()),
            Err(_) | Ok(Event::Disconnect(_)) => {
                self.struck += usize::from(!self.open.is_empty());
                self.line.leave();
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
                if !answers {
                    return;
                }
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
