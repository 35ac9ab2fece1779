//! A subscriber.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::super::once::chance;
use super::line::Line;
use super::{Farewell, Habits};
use crate::load::client::{Client, Event, Version};
use crate::stage::DEADLINE;

/// A subscriber, who answers at once.
pub(in super::super) struct Valve {
    line: Line,
    pub(in super::super) qos: u8,
    /// By packet id, from PUBLISH to PUBREL: the same again is the same message.
    open: BTreeMap<u16, String>,
    /// Everything that came.
    pub(in super::super) got: Vec<String>,
    dice: u64,
    habits: Habits,
}

impl Valve {
    /// Connects in this version, and subscribes.
    pub(in super::super) async fn begin(
        (at, version): (SocketAddr, Version),
        name: &str,
        filter: &str,
        qos: u8,
        seed: u64,
        habits: Habits,
    ) -> Self {
        let mut line = Line::new(at, name, version);
        line.connect().await;
        assert_eq!(line.client().subscribe(filter, qos).await.unwrap(), qos);
        Self {
            line,
            qos,
            open: BTreeMap::new(),
            got: Vec::new(),
            dice: seed,
            habits,
        }
    }

    /// Takes messages until this one has come, and none is open.
    pub(in super::super) async fn take_until(&mut self, last: &str) {
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
            let answers = chance(&mut self.dice, 2) == 0;
            let leaves = self.habits.leaves(&mut self.dice);
            self.hear(event, answers || !leaves);
            self.line.flush().await;
            if leaves {
                self.hop().await;
            }
        }
    }

    /// Takes nothing yet.
    pub(in super::super) async fn connect(&mut self) {
        self.line.connect().await;
    }

    /// The next message comes on another connection.
    pub(in super::super) fn leave(&mut self) {
        self.line.leave();
    }

    /// As [`Pump::go_to`](super::Pump::go_to). It is not answered there.
    pub(in super::super) async fn go_to(&mut self, at: SocketAddr) -> Option<Client> {
        self.line.at = at;
        let (former, events) = super::drained(self.line.leave()?).await;
        events.into_iter().for_each(|event| self.hear(Ok(event), false));
        Some(former)
    }

    async fn hop(&mut self) {
        match self.habits.farewell(&mut self.dice) {
            Farewell::Cut => self.leave(),
            Farewell::Forget => {
                let _former = self.line.leave();
                self.line.connect().await;
            }
            Farewell::Overlap => {
                let events = self.line.overlap().await;
                events.into_iter().for_each(|event| self.hear(Ok(event), false));
            }
        }
    }

    fn hear(&mut self, event: io::Result<Event>, answers: bool) {
        let Ok(event) = event else {
            self.line.leave();
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
                self.line.leave();
                return;
            }
            other => panic!("{}: {other:?}", self.line.name),
        }
        if answers {
            self.line.client().answer(&event).unwrap();
        }
    }
}
