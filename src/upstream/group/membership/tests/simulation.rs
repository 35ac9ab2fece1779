//! Members over one coordinator and a network that delays, cuts and loses, with users that answer late or never, crashes and pauses.
//!
//! Virtual time, one seed per schedule. A schedule that fails prints its seed and its last hundred steps; `one_schedule(seed)` replays it.

mod broker;
mod network;
mod nodes;
mod random;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use network::{Line, Message};
use nodes::Node;
use random::Random;

use super::coordinator::{Group, State, Token};
use crate::upstream::group::{event::TopicPartition, membership::Phase, requests::Topics};

const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(5);
const PARTITIONS: i32 = 7;

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

    fn note(&mut self, at: usize, what: impl std::fmt::Debug) {
        let since = (self.now - self.begun).as_millis();
        self.history.push(format!("{since:>7} ms, node {at}: {what:?}"));
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
