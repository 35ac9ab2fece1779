//! Commits that wait, and the one request that carries some of them.
//!
//! One is in flight at a time, and of those that wait for a partition the last says it all. So commits of a tenure cannot overtake
//! each other, and a slow coordinator makes them fewer, not more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::lane::Lane;
use crate::upstream::group::event::{Commit, Committed, TopicPartition};

/// What is to be committed.
#[derive(Debug)]
pub(super) struct Commits {
    waiting: BTreeMap<TopicPartition, Entry>,
    flying: Option<Flight>,
    pub(super) lane: Lane,
}

/// The commit of a partition.
#[derive(Debug)]
pub(super) struct Entry {
    what: Committed,
    /// When the oldest of the calls was accepted.
    since: Instant,
    /// Who is to be told.
    pub(super) calls: Vec<u64>,
}

/// A request that is out.
#[derive(Debug)]
pub(super) struct Flight {
    ticket: u64,
    pub(super) generation: i32,
    pub(super) entries: BTreeMap<TopicPartition, Entry>,
}

impl Commits {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waiting: BTreeMap::new(),
            flying: None,
            lane: Lane::new(seed),
        }
    }

    pub(super) fn accept(&mut self, call: u64, commit: Commit, now: Instant) {
        let what = Committed {
            offset: commit.offset,
            metadata: commit.metadata,
        };
        let entry = Entry {
            what,
            since: now,
            calls: Vec::new(),
        };
        let entry = self
            .waiting
            .entry(commit.tenure.of)
            .and_modify(|waiting| waiting.what = entry.what.clone())
            .or_insert(entry);
        entry.calls.push(call);
    }

    /// Whether a commit of that partition has no outcome yet.
    pub(super) fn holds(&self, one: &TopicPartition) -> bool {
        self.waiting.contains_key(one) || self.flying.as_ref().is_some_and(|flight| flight.entries.contains_key(one))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_none()
    }

    /// Whether a request may go out.
    pub(super) fn is_due(&self) -> bool {
        !self.waiting.is_empty() && self.flying.is_none() && self.lane.is_free()
    }

    /// What the next request carries.
    pub(super) fn offsets(&self) -> Vec<(TopicPartition, Committed)> {
        self.waiting.iter().map(|(one, entry)| (one.clone(), entry.what.clone())).collect()
    }

    /// All that waits is out now.
    pub(super) fn fly(&mut self, ticket: u64, generation: i32) {
        self.flying = Some(Flight {
            ticket,
            generation,
            entries: std::mem::take(&mut self.waiting),
        });
    }

    /// The request of that ticket is answered.
    pub(super) fn land(&mut self, ticket: u64) -> Option<Flight> {
        self.flying.take_if(|flight| flight.ticket == ticket)
    }

    /// An entry must go again. A later one of the same partition speaks for it.
    pub(super) fn again(&mut self, one: TopicPartition, mut entry: Entry) {
        if let Some(later) = self.waiting.get_mut(&one) {
            later.since = later.since.min(entry.since);
            later.calls.append(&mut entry.calls);
        } else {
            self.waiting.insert(one, entry);
        }
    }

    /// The answer of the request that is out will not come.
    pub(super) fn take_back(&mut self) {
        for (one, entry) in self.flying.take().map(|flight| flight.entries).into_iter().flatten() {
            self.again(one, entry);
        }
    }

    /// Takes out what waits for too long: the calls. What is out has its answer within the request timeout.
    pub(super) fn expired(&mut self, now: Instant, most: Duration) -> Vec<u64> {
        let mut calls = Vec::new();
        self.waiting.retain(|_, entry| {
            let late = now >= entry.since + most;
            if late {
                calls.append(&mut entry.calls);
            }
            !late
        });
        calls
    }

    pub(super) fn wake(&mut self, now: Instant) {
        self.lane.wake(now);
    }

    pub(super) fn deadline(&self, most: Duration) -> Option<Instant> {
        let oldest = self.waiting.values().map(|entry| entry.since + most).min();
        [oldest, self.lane.pause()].into_iter().flatten().min()
    }

    /// Nobody commits that partition any more: its calls. A request that is out for it is not stopped, but not sent again either.
    pub(super) fn drop_one(&mut self, one: &TopicPartition) -> Vec<u64> {
        let flying = self.flying.as_mut().and_then(|flight| flight.entries.remove(one));
        let entries = self.waiting.remove(one).into_iter().chain(flying);
        entries.flat_map(|entry| entry.calls).collect()
    }

    /// Nobody commits anything any more.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        self.take_back();
        std::mem::take(&mut self.waiting)
            .into_values()
            .flat_map(|entry| entry.calls)
            .collect()
    }
}
