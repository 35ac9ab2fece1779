//! The network: what is on its way, and how it delays, cuts and loses.

use std::time::Duration;

use super::World;
use crate::upstream::group::requests::{Answer, Request};

/// Who a message is from, so that nobody hears what was meant for a former life or a connection that is closed.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) node: usize,
    pub(super) life: u32,
    pub(super) call: u32,
}

pub(super) enum Message {
    Request {
        line: Line,
        ticket: u64,
        request: Request,
    },
    Answer {
        line: Line,
        ticket: u64,
        answer: Answer,
    },
    /// The user of a node answers a revocation.
    Release {
        node: usize,
        life: u32,
        number: u64,
    },
}

impl World {
    pub(super) fn post(&mut self, after: Duration, message: Message) {
        self.order += 1;
        self.network.push((self.now + after, self.order, message));
    }

    /// A way that is short, long, or very long.
    pub(super) fn way(&mut self) -> Duration {
        match self.random.below(if self.calm { 8 } else { 12 }) {
            0..8 => self.random.millis(20),
            8..11 => self.random.millis(1_000),
            _ => self.random.millis(9_000),
        }
    }

    pub(super) fn reply(&mut self, line: Line, ticket: u64, answer: Answer) {
        if !self.calm && self.random.one_in(25) {
            return;
        }
        let way = self.way();
        self.post(way, Message::Answer { line, ticket, answer });
    }

    pub(super) fn deliver(&mut self, message: Message) {
        match message {
            Message::Request { line, ticket, request } => {
                let node = &self.nodes[line.node];
                // Kafka cannot tell a JoinGroup of a former process from one of a rival: it would take the id from the living, who hears of
                // it with its next heartbeat only. What a static member is, says as much.
                let ghost = node.static_id.is_some() && line.life != node.life && matches!(request, Request::Join { .. });
                if !ghost {
                    self.serve(line, ticket, request);
                }
            }
            Message::Answer { line, ticket, answer } => {
                let now = self.now;
                let node = &mut self.nodes[line.node];
                if node.life == line.life && node.call == line.call && !node.gone {
                    match node.asleep_until {
                        // It lies in the socket until the process wakes.
                        Some(until) => self.post(until - now, Message::Answer { line, ticket, answer }),
                        None => {
                            self.note(line.node, (ticket, &answer));
                            self.nodes[line.node].machine.answer(ticket, answer, now);
                        }
                    }
                }
            }
            Message::Release { node: at, life, number } => {
                let now = self.now;
                let node = &mut self.nodes[at];
                if node.life != life || node.gone {
                    return;
                }
                if let Some(until) = node.asleep_until {
                    return self.post(until - now, Message::Release { node: at, life, number });
                }
                for one in node.revoking.remove(&number).into_iter().flatten() {
                    node.held.remove(&one);
                }
                self.released += 1;
                node.machine.released(number, now);
            }
        }
    }
}
