//! The broker in front of the model of the coordinator.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    super::coordinator::{Join, Reply, Token},
    REBALANCE, SESSION, World,
    network::Line,
    topic,
};
use crate::{
    kafka::error::ErrorCode,
    upstream::group::{
        embedded::{self, Assignment},
        event::{Committed, TopicPartition},
        requests::{Answer, Joined, Request},
    },
};

impl World {
    /// Answers a request, at once or when the group has come so far.
    pub(super) fn serve(&mut self, line: Line, ticket: u64, request: Request) {
        self.note(line.node, ("served", ticket));
        let now = self.now;
        self.group.tick(now);
        if !self.calm && self.random.one_in(30) && !matches!(request, Request::Count { .. }) {
            let answer = self.unwilling(request);
            return self.reply(line, ticket, answer);
        }
        let answer = match request {
            Request::Join {
                member, owned, generation, ..
            } => return self.join(line, ticket, member, &owned, generation),
            Request::Sync {
                member,
                generation,
                assignments,
            } => return self.sync(line, ticket, &member, generation, &assignments),
            Request::Find => Answer::Found,
            Request::Count { topics } => {
                let known = topics.into_iter().filter_map(|t| self.topics.get(&t).map(|found| (t, *found)));
                Answer::Counted(known.collect())
            }
            Request::Heartbeat { member, generation } => coded(self.group.heartbeat(&member, generation, now)),
            Request::Leave { member } => coded(self.group.leave(&member, now)),
            Request::Fetch { partitions } => self.fetch(partitions),
            Request::Commit {
                member,
                generation,
                offsets,
            } => {
                let code = self.group.may_commit(&member, generation, now);
                if code == 0 {
                    self.store(line, &member, generation, &offsets);
                }
                committed(offsets, code)
            }
        };
        self.reply(line, ticket, answer);
    }

    /// The answer of a broker that moves, loads, or is not sure at the moment.
    fn unwilling(&mut self, request: Request) -> Answer {
        let code = [14, 15, 16][usize::try_from(self.random.below(3)).unwrap()];
        match request {
            Request::Commit { offsets, .. } => committed(offsets, code),
            Request::Fetch { partitions } => {
                let unstable = ErrorCode::from(88);
                Answer::Fetched(partitions.into_iter().map(|one| (one, Err(unstable))).collect())
            }
            _ => refusal(code),
        }
    }

    fn join(&mut self, line: Line, ticket: u64, member: String, owned: &[TopicPartition], generation: i32) {
        let subscription = embedded::subscription(&[topic()], &Bytes::from(vec![line.node as u8]), owned, generation);
        let join = Join {
            member,
            instance: self.nodes[line.node].static_id.clone(),
            session: SESSION,
            rebalance: REBALANCE,
            metadata: subscription.to_vec(),
        };
        let token = self.token(line, ticket);
        self.group.join(token, join, self.now);
    }

    fn sync(&mut self, line: Line, ticket: u64, member: &str, generation: i32, assignments: &[(String, Assignment)]) {
        self.assert_disjoint(assignments);
        let assignments = assignments
            .iter()
            .map(|(m, a)| (m.clone(), embedded::assignment(a).to_vec()))
            .collect();
        let token = self.token(line, ticket);
        self.group.sync(token, member, generation, assignments, self.now);
    }

    fn fetch(&self, partitions: Vec<TopicPartition>) -> Answer {
        let stored = |one: &TopicPartition| self.group.offsets.get(&(one.topic.to_string(), one.partition)).cloned();
        let told = partitions.into_iter().map(|one| {
            let committed = stored(&one).map(|(offset, metadata)| Committed { offset, metadata });
            (one, Ok(committed))
        });
        Answer::Fetched(told.collect())
    }

    /// What is committed never goes back, whoever commits. But for one thing that Kafka has no fence for: a request on a connection
    /// that was given up may be served behind the same member's next, as long as the generation is the same.
    fn store(&mut self, line: Line, member: &str, generation: i32, offsets: &[(TopicPartition, Committed)]) {
        for (one, what) in offsets {
            let key = (one.topic.to_string(), one.partition);
            let before = self.group.offsets.insert(key, (what.offset, what.metadata.clone()));
            let before = before.map_or(0, |(offset, _)| offset);
            let by = (member.to_owned(), generation);
            let last = self.last_commit.insert(one.clone(), by.clone());
            if what.offset < before {
                let text = format!("{one:?} went back from {before} to {}, seed {}", what.offset, self.seed);
                assert_eq!(last, Some(by), "{text}");
                let node = &self.nodes[line.node];
                assert_ne!((line.life, line.call), (node.life, node.call), "{text}");
            }
            self.commits += 1;
        }
    }

    fn token(&mut self, line: Line, ticket: u64) -> Token {
        self.next_token += 1;
        self.tokens.insert(self.next_token, (line, ticket));
        self.next_token
    }

    fn assert_disjoint(&self, assignments: &[(String, Assignment)]) {
        let mut all = BTreeSet::new();
        for one in assignments.iter().flat_map(|(_, a)| &a.partitions) {
            assert!(
                all.insert(one.clone()),
                "given to two in one generation: {one:?}, seed {}",
                self.seed
            );
        }
    }

    pub(super) fn flush_replies(&mut self) {
        for (token, reply) in std::mem::take(&mut self.group.replies) {
            let (line, ticket) = self.tokens.remove(&token).expect("answered once");
            let answer = match reply {
                Reply::Join { code: 79, member, .. } => Answer::NamedBy { member },
                Reply::Join {
                    code: 0,
                    generation,
                    member,
                    leader,
                    members,
                    skip,
                } => Answer::Joined(Joined {
                    generation,
                    leads: leader == member,
                    members: members
                        .into_iter()
                        .map(|(name, _, metadata)| embedded::read_subscription(&name, Bytes::from(metadata)).expect("ours"))
                        .collect(),
                    member,
                    keeps_assignment: skip,
                }),
                Reply::Sync { code: 0, assignment } => Answer::Synced(embedded::read_assignment(Bytes::from(assignment)).expect("ours")),
                Reply::Join { code, .. } | Reply::Sync { code, .. } => refusal(code),
            };
            self.reply(line, ticket, answer);
        }
    }
}

fn refusal(code: i16) -> Answer {
    let error = ErrorCode::from(code);
    let why = String::new();
    Answer::Refused { error, why }
}

fn coded(code: i16) -> Answer {
    if code == 0 { Answer::Done } else { refusal(code) }
}

/// The same code for each.
fn committed(offsets: Vec<(TopicPartition, Committed)>, code: i16) -> Answer {
    Answer::Committed(offsets.into_iter().map(|(one, _)| (one, ErrorCode::from(code))).collect())
}
