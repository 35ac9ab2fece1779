//! The members, and what their users do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    REBALANCE, REQUEST, SESSION, World,
    network::{Line, Message},
    topic,
};
use crate::upstream::group::{
    event::{Assigned, Commit, CommitError, Tenure, TopicPartition},
    membership::{Action, Event, Membership, Rules},
    requests::{Answer, Request},
};

/// A process with one member.
pub(super) struct Node {
    pub(super) machine: Membership,
    pub(super) life: u32,
    pub(super) call: u32,
    pub(super) static_id: Option<String>,
    pub(super) asleep_until: Option<Instant>,
    /// What its user has: where it is.
    pub(super) held: BTreeMap<TopicPartition, (Tenure, i64)>,
    pub(super) revoking: BTreeMap<u64, Vec<TopicPartition>>,
    pub(super) open_calls: BTreeSet<u64>,
    pub(super) next_call: u64,
    /// Its user has said goodbye and hears nothing any more.
    pub(super) left: bool,
    pub(super) gone: bool,
    pub(super) generation: i32,
    pub(super) members: Vec<Bytes>,
}

fn rules(is_static: bool) -> Rules {
    Rules {
        session: SESSION,
        rebalance: REBALANCE,
        heartbeat: Duration::from_secs(2),
        commit: Duration::from_secs(8),
        leave: Duration::from_secs(3),
        is_static,
    }
}

impl World {
    pub(super) fn node(&mut self, static_id: Option<String>, life: u32) -> Node {
        let mut machine = Membership::new(rules(static_id.is_some()), vec![topic()], self.random.next(), self.now);
        machine.topics(self.topics.clone(), self.now);
        Node {
            machine,
            life,
            call: 0,
            static_id,
            asleep_until: None,
            held: BTreeMap::new(),
            revoking: BTreeMap::new(),
            open_calls: BTreeSet::new(),
            next_call: 0,
            left: false,
            gone: false,
            generation: -1,
            members: Vec::new(),
        }
    }

    pub(super) fn replace(&mut self, at: usize) {
        let (static_id, life) = (self.nodes[at].static_id.clone(), self.nodes[at].life + 1);
        self.nodes[at] = self.node(static_id, life);
    }

    pub(super) fn tell_topics(&mut self) {
        let (topics, now) = (self.topics.clone(), self.now);
        self.nodes.iter_mut().for_each(|n| n.machine.topics(topics.clone(), now));
    }

    /// Lets every node do what it wants, until all rest.
    pub(super) fn settle(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].asleep_until.is_some() || self.nodes[at].gone {
                continue;
            }
            loop {
                if let Some(action) = self.nodes[at].machine.action() {
                    self.act(at, action);
                } else if let Some(event) = self.nodes[at].machine.event() {
                    self.hear(at, event);
                    let now = self.now;
                    self.nodes[at].machine.tick(now);
                } else {
                    break;
                }
            }
            if self.nodes[at].machine.is_over() {
                self.nodes[at].gone = true;
                assert!(self.nodes[at].open_calls.is_empty(), "calls without an outcome at the end");
            }
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        self.note(at, &action);
        match action {
            Action::Send { ticket, request } => {
                let node = &self.nodes[at];
                let line = Line {
                    node: at,
                    life: node.life,
                    call: node.call,
                };
                if let Request::Commit { generation, .. } = &request {
                    assert!(*generation >= 0, "a commit of no generation");
                }
                let lost = !self.calm && self.random.one_in(25);
                let way = self.way();
                // The client gives up by itself, whatever comes.
                let patience = if matches!(request, Request::Join { .. } | Request::Sync { .. }) {
                    REQUEST + REBALANCE
                } else {
                    REQUEST
                };
                let why = "no answer in time".to_owned();
                self.post(
                    patience,
                    Message::Answer {
                        line,
                        ticket,
                        answer: Answer::Failed { why },
                    },
                );
                if !lost {
                    self.post(way, Message::Request { line, ticket, request });
                }
            }
            Action::HangUp => self.nodes[at].call += 1,
            Action::Settle { call, outcome } => {
                assert!(self.nodes[at].open_calls.remove(&call), "a call has two outcomes");
                assert_ne!(outcome, Err(CommitError::Backwards));
            }
        }
    }

    fn hear(&mut self, at: usize, event: Event) {
        self.note(at, &event);
        if self.nodes[at].left {
            return;
        }
        match event {
            Event::Generation { number, members, .. } => {
                let node = &mut self.nodes[at];
                assert!(number >= node.generation || node.generation < 0 || !node.held.is_empty() || number >= 0);
                node.generation = number;
                node.members = members;
            }
            Event::Assigned(assigned) => {
                for Assigned { tenure, committed } in assigned {
                    let from = committed.map_or(0, |c| c.offset);
                    let twice = self.nodes[at].held.insert(tenure.of.clone(), (tenure, from));
                    assert!(twice.is_none(), "assigned twice");
                }
            }
            Event::Revoked { partitions, number } => {
                assert!(
                    partitions.iter().all(|one| self.nodes[at].held.contains_key(one)),
                    "revoked, but not held"
                );
                self.nodes[at].revoking.insert(number, partitions);
                let life = self.nodes[at].life;
                let late = !self.calm && self.random.one_in(10);
                let after = self.random.millis(if late { 15_000 } else { 300 });
                if self.calm || !self.random.one_in(20) {
                    self.post(after, Message::Release { node: at, life, number });
                }
                if self.random.one_in(2) {
                    self.commit(at);
                }
            }
            Event::Lost { partitions, .. } => {
                self.losses += 1;
                for one in &partitions {
                    assert!(
                        self.nodes[at].held.remove(one).is_some(),
                        "lost, but not held: {one:?}, seed {}",
                        self.seed
                    );
                }
                // A late answer to a revocation is not about what the member may get again meanwhile.
                self.nodes[at]
                    .revoking
                    .values_mut()
                    .for_each(|of| of.retain(|one| !partitions.contains(one)));
            }
            Event::Refused { error, .. } => panic!("refused: {}", error.name()),
            Event::Fenced => self.nodes[at].gone = true,
        }
    }

    /// The user of a node commits what it has done, one record for each partition.
    pub(super) fn commit(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.gone || node.left || node.asleep_until.is_some() {
            return;
        }
        let commits: Vec<Commit> = node
            .held
            .values_mut()
            .map(|(tenure, offset)| {
                *offset += 1;
                Commit {
                    tenure: tenure.clone(),
                    offset: *offset,
                    metadata: String::new(),
                }
            })
            .collect();
        for commit in commits {
            node.next_call += 1;
            node.open_calls.insert(node.next_call);
            node.machine.commit(node.next_call, commit, now);
        }
    }
}
