//! Members over one coordinator and a network that delays, cuts and loses, with users that answer late or never, crashes and pauses.
//!
//! Virtual time, one seed per schedule. A schedule that fails prints its seed and its last hundred steps; `one_schedule(seed)` replays it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::coordinator::{Group, Join, Reply, State, Token};
use crate::{
    kafka::error::ErrorCode,
    upstream::group::{
        embedded,
        event::{Assigned, Commit, CommitError, Committed, Tenure, TopicPartition},
        membership::{Action, Event, Membership, Phase, Rules},
        requests::{Answer, Joined, Request, Topics},
    },
};

const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(5);
const PARTITIONS: i32 = 7;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most) + 1)
    }
}

/// Who a message is from, so that nobody hears what was meant for a former life or a connection that is closed.
#[derive(Clone, Copy, PartialEq)]
struct Line {
    node: usize,
    life: u32,
    call: u32,
}

enum Message {
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

struct Node {
    machine: Membership,
    life: u32,
    call: u32,
    static_id: Option<String>,
    asleep_until: Option<Instant>,
    /// What its user has: where it is.
    held: BTreeMap<TopicPartition, (Tenure, i64)>,
    revoking: BTreeMap<u64, Vec<TopicPartition>>,
    open_calls: BTreeSet<u64>,
    next_call: u64,
    /// Its user has said goodbye and hears nothing any more.
    left: bool,
    gone: bool,
    generation: i32,
    members: Vec<Bytes>,
}

struct World {
    random: Random,
    seed: u64,
    now: Instant,
    calm: bool,
    group: Group,
    nodes: Vec<Node>,
    network: Vec<(Instant, u64, Message)>,
    order: u64,
    /// Delayed answers of the coordinator.
    tokens: BTreeMap<Token, (Line, u64)>,
    next_token: Token,
    topics: Topics,
    commits: u64,
    released: u64,
    losses: u64,
    /// Whose commit is stored.
    last_commit: BTreeMap<TopicPartition, (String, i32)>,
    /// Steps since time moved on.
    idle: u32,
    begun: Instant,
    history: Vec<String>,
}

/// A schedule that fails tells how it came to that.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = |line: &&String| {
                !["Heartbeat", "Done", "no answer in time", "served"]
                    .iter()
                    .any(|usual| line.contains(usual))
            };
            let lines: Vec<_> = self.history.iter().filter(told).collect();
            lines[lines.len().saturating_sub(120)..].iter().for_each(|line| println!("{line}"));
        }
    }
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

fn topic() -> Arc<str> {
    Arc::from("t")
}

impl World {
    fn new(seed: u64, statics: bool) -> Self {
        let mut world = Self {
            random: Random(seed),
            seed,
            now: Instant::now(),
            calm: false,
            group: Group::default(),
            nodes: Vec::new(),
            network: Vec::new(),
            order: 0,
            tokens: BTreeMap::new(),
            next_token: 0,
            topics: Topics::from([(topic(), ([1; 16], PARTITIONS))]),
            commits: 0,
            released: 0,
            losses: 0,
            last_commit: BTreeMap::new(),
            idle: 0,
            begun: Instant::now(),
            history: Vec::new(),
        };
        world.begun = world.now;
        for node in 0..3 {
            let static_id = (statics && node > 0).then(|| format!("static-{node}"));
            let fresh = world.node(static_id, 0);
            world.nodes.push(fresh);
        }
        world
    }

    fn node(&mut self, static_id: Option<String>, life: u32) -> Node {
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

    fn note(&mut self, at: usize, what: impl std::fmt::Debug) {
        let since = (self.now - self.begun).as_millis();
        self.history.push(format!("{since:>7} ms, node {at}: {what:?}"));
    }

    fn post(&mut self, after: Duration, message: Message) {
        self.order += 1;
        self.network.push((self.now + after, self.order, message));
    }

    /// A way that is short, long, or very long.
    fn way(&mut self) -> Duration {
        match self.random.below(if self.calm { 8 } else { 12 }) {
            0..8 => self.random.millis(20),
            8..11 => self.random.millis(1_000),
            _ => self.random.millis(9_000),
        }
    }

    /// Lets every node do what it wants, until all rest.
    fn settle(&mut self) {
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
            Event::Generation { number, members } => {
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
    fn commit(&mut self, at: usize) {
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

    fn deliver(&mut self, message: Message) {
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

    fn reply(&mut self, line: Line, ticket: u64, answer: Answer) {
        if !self.calm && self.random.one_in(25) {
            return;
        }
        let way = self.way();
        self.post(way, Message::Answer { line, ticket, answer });
    }

    /// The broker.
    fn serve(&mut self, line: Line, ticket: u64, request: Request) {
        self.note(line.node, ("served", ticket));
        let now = self.now;
        self.group.tick(now);
        if !self.calm && self.random.one_in(30) && !matches!(request, Request::Count { .. }) {
            let code = [14, 15, 16][usize::try_from(self.random.below(3)).unwrap()];
            let answer = match request {
                Request::Commit { offsets, .. } => {
                    Answer::Committed(offsets.into_iter().map(|(one, _)| (one, ErrorCode::from(code))).collect())
                }
                Request::Fetch { partitions } => {
                    let unstable = ErrorCode::from(88);
                    Answer::Fetched(partitions.into_iter().map(|one| (one, Err(unstable))).collect())
                }
                _ => refusal(code),
            };
            return self.reply(line, ticket, answer);
        }
        let answer = match request {
            Request::Find => Answer::Found,
            Request::Count { topics } => {
                let known = topics.into_iter().filter_map(|t| self.topics.get(&t).map(|found| (t, *found)));
                Answer::Counted(known.collect())
            }
            Request::Join { member, owned, generation } => {
                let subscription = embedded::subscription(&[topic()], &Bytes::from(vec![line.node as u8]), &owned, generation);
                let join = Join {
                    member,
                    instance: self.nodes[line.node].static_id.clone(),
                    session: SESSION,
                    rebalance: REBALANCE,
                    metadata: subscription.to_vec(),
                };
                let token = self.token(line, ticket);
                return self.group.join(token, join, now);
            }
            Request::Sync {
                member,
                generation,
                assignments,
            } => {
                self.assert_disjoint(&assignments);
                let assignments = assignments
                    .iter()
                    .map(|(m, a)| (m.clone(), embedded::assignment(a).to_vec()))
                    .collect();
                let token = self.token(line, ticket);
                return self.group.sync(token, &member, generation, assignments, now);
            }
            Request::Heartbeat { member, generation } => coded(self.group.heartbeat(&member, generation, now)),
            Request::Leave { member } => coded(self.group.leave(&member, now)),
            Request::Fetch { partitions } => {
                let stored = |one: &TopicPartition| self.group.offsets.get(&(one.topic.to_string(), one.partition)).cloned();
                let told = partitions.into_iter().map(|one| {
                    let committed = stored(&one).map(|(offset, metadata)| Committed { offset, metadata });
                    (one, Ok(committed))
                });
                Answer::Fetched(told.collect())
            }
            Request::Commit {
                member,
                generation,
                offsets,
            } => {
                let code = self.group.may_commit(&member, generation, now);
                if code == 0 {
                    self.store(line, &member, generation, &offsets);
                }
                Answer::Committed(offsets.into_iter().map(|(one, _)| (one, ErrorCode::from(code))).collect())
            }
        };
        self.reply(line, ticket, answer);
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

    fn assert_disjoint(&self, assignments: &[(String, embedded::Assignment)]) {
        let mut all = BTreeSet::new();
        for one in assignments.iter().flat_map(|(_, a)| &a.partitions) {
            assert!(
                all.insert(one.clone()),
                "given to two in one generation: {one:?}, seed {}",
                self.seed
            );
        }
    }

    fn flush_replies(&mut self) {
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

    /// No two users that are awake believe in the same partition.
    fn assert_exclusive(&self) {
        let mut all: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if node.gone || node.asleep_until.is_some() {
                continue;
            }
            for one in node.held.keys() {
                let other = all.insert(one, at);
                assert!(other.is_none(), "{one:?} is held by {other:?} and {at}, seed {}", self.seed);
            }
        }
    }

    /// To the next moment at which something happens.
    fn step(&mut self) {
        let nodes = self.nodes.iter().filter(|n| !n.gone).filter_map(|n| match n.asleep_until {
            Some(until) => Some(until),
            None => n.machine.deadline(),
        });
        let posted = self.network.iter().map(|(at, ..)| *at);
        let next = nodes.chain(posted).chain(self.group.deadline()).min().unwrap_or(self.now);
        self.idle = if next <= self.now { self.idle + 1 } else { 0 };
        assert!(self.idle < 1_000, "time stands still, seed {}", self.seed);
        self.now = self.now.max(next);
        let now = self.now;
        for node in &mut self.nodes {
            node.asleep_until = node.asleep_until.filter(|until| now < *until);
            if node.asleep_until.is_none() {
                node.machine.tick(now);
            }
        }
        self.settle();
        self.group.tick(now);
        let due = |(at, ..): &(Instant, u64, Message)| *at <= now;
        while let Some(first) = (0..self.network.len())
            .filter(|i| due(&self.network[*i]))
            .min_by_key(|i| (self.network[*i].0, self.network[*i].1))
        {
            let (_, _, message) = self.network.swap_remove(first);
            self.deliver(message);
            self.flush_replies();
            self.settle();
        }
        self.flush_replies();
        self.assert_exclusive();
    }

    /// Something happens to somebody.
    fn disturb(&mut self) {
        let at = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap();
        let what = self.random.below(14);
        self.note(at, ("disturbed", what));
        match what {
            // A crash, and a new process in its place.
            0 => self.replace(at),
            // A goodbye, and a new process.
            1 => {
                let now = self.now;
                self.commit(at);
                let node = &mut self.nodes[at];
                node.held.clear();
                node.revoking.clear();
                node.left = true;
                node.machine.leave(now);
            }
            2 if self.nodes[at].gone => self.replace(at),
            3 => {
                let until = self.now + self.random.millis(20_000);
                self.nodes[at].asleep_until = Some(until);
            }
            4 => {
                // The topic grows.
                let count = (self.topics[&topic()].1 + 1).min(12);
                self.topics.insert(topic(), ([1; 16], count));
                self.tell_topics();
            }
            _ => self.commit(at),
        }
    }

    fn tell_topics(&mut self) {
        let (topics, now) = (self.topics.clone(), self.now);
        self.nodes.iter_mut().for_each(|n| n.machine.topics(topics.clone(), now));
    }

    fn replace(&mut self, at: usize) {
        let (static_id, life) = (self.nodes[at].static_id.clone(), self.nodes[at].life + 1);
        self.nodes[at] = self.node(static_id, life);
    }

    /// From here on nothing goes wrong: everybody gets its share, and all commits have their outcome.
    fn recover(&mut self) {
        self.calm = true;
        for at in 0..self.nodes.len() {
            self.nodes[at].asleep_until = None;
            if self.nodes[at].gone || self.nodes[at].left || self.nodes[at].machine.is_over() {
                self.replace(at);
            }
        }
        self.tell_topics();
        let end = self.now + Duration::from_secs(90);
        while self.now < end {
            self.step();
            if self.is_whole() {
                return;
            }
        }
        let state: Vec<_> = self
            .nodes
            .iter()
            .map(|n| (n.machine.phase, n.held.len(), n.generation, n.open_calls.len()))
            .collect();
        panic!("no progress: {:?}, {state:?}, seed {}", self.group.state, self.seed);
    }

    fn is_whole(&self) -> bool {
        let shares: Vec<usize> = self.nodes.iter().map(|n| n.held.len()).collect();
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        let everybody = |n: &Node| {
            n.machine.phase == Phase::Stable && n.generation == self.group.generation && n.members.len() == 3 && n.open_calls.is_empty()
        };
        self.group.state == State::Stable
            && shares.iter().sum::<usize>() == usize::try_from(self.topics[&topic()].1).unwrap()
            && most - least <= 1
            && self.nodes.iter().all(everybody)
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

fn one_schedule(seed: u64) -> World {
    let mut world = World::new(seed, seed.is_multiple_of(3));
    world.settle();
    let end = world.now + Duration::from_secs(120);
    while world.now < end {
        world.step();
        if world.random.one_in(6) {
            world.disturb();
            world.settle();
        }
    }
    world.recover();
    world
}

#[test]
fn whatever_happens_a_partition_has_one_owner_commits_never_go_back_and_in_the_end_all_is_shared_out() {
    let (mut commits, mut released, mut losses, mut generations) = (0, 0, 0, 0);
    // `make chaos` sets CHAOS.
    let seeds = if std::env::var_os("CHAOS").is_some() { 20_000 } else { 200 };
    for seed in 0..seeds {
        let world = one_schedule(seed);
        commits += world.commits;
        released += world.released;
        losses += world.losses;
        generations += world.group.generation;
    }
    println!("{commits} commits, {released} revocations answered, {losses} losses, {generations} generations");
    assert!(
        commits > 5_000 && released > 200 && losses > 300,
        "the schedules do not reach what they are for"
    );
}
