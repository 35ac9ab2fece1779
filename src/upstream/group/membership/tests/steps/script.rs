//! One member that is talked to line by line.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    kafka::error::ErrorCode,
    upstream::group::{
        embedded::Assignment,
        event::{Commit, CommitError, Committed, Tenure, TopicPartition},
        membership::{Action, Event, Membership, Rules},
        requests::{Answer, Joined, Request},
    },
};

pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const REBALANCE: Duration = Duration::from_secs(30);
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// A member, the clock, and what was asked and not answered yet.
pub(super) struct Script {
    pub(super) member: Membership,
    pub(super) now: Instant,
    pub(super) open: Vec<(u64, Request)>,
    pub(super) outcomes: Vec<(u64, Result<(), CommitError>)>,
    pub(super) hang_ups: usize,
}

pub(super) fn part(partition: i32) -> TopicPartition {
    let topic = Arc::from("t");
    TopicPartition { topic, partition }
}

pub(super) fn refusal(code: i16) -> Answer {
    let error = ErrorCode::from(code);
    let why = "as the test wants it".to_owned();
    Answer::Refused { error, why }
}

pub(super) fn gives(partitions: &[i32]) -> Answer {
    Answer::Synced(Assignment {
        partitions: partitions.iter().map(|p| part(*p)).collect(),
        size: 2,
        members: vec![Bytes::from_static(b"me"), Bytes::from_static(b"you")],
        partial: false,
        fingerprint: 0,
    })
}

impl Script {
    pub(super) fn new() -> Self {
        Self::begin(false)
    }

    pub(super) fn begin(is_static: bool) -> Self {
        let rules = Rules {
            session: SESSION,
            rebalance: REBALANCE,
            heartbeat: HEARTBEAT,
            commit: Duration::from_secs(20),
            leave: Duration::from_secs(5),
            is_static,
        };
        let now = Instant::now();
        let mut script = Self {
            member: Membership::new(rules, vec![Arc::from("t")], 1, now),
            now,
            open: Vec::new(),
            outcomes: Vec::new(),
            hang_ups: 0,
        };
        script.look();
        script
    }

    /// A member of generation 1 with partitions 0 and 1, its events taken.
    pub(super) fn stable() -> (Self, Vec<Tenure>) {
        let mut script = Self::new();
        script.join(1, &[0, 1]);
        let tenures = script.fetched(&[0, 1]);
        assert_eq!(script.events().len(), 2);
        (script, tenures)
    }

    pub(super) fn look(&mut self) {
        while let Some(action) = self.member.action() {
            match action {
                Action::Send { ticket, request } => self.open.push((ticket, request)),
                Action::HangUp => {
                    self.hang_ups += 1;
                    self.open.clear();
                }
                Action::Settle { call, outcome } => self.outcomes.push((call, outcome)),
            }
        }
    }

    /// Answers the one open request that `which` is about.
    pub(super) fn answer(&mut self, which: impl Fn(&Request) -> bool, answer: Answer) -> Request {
        let at = self.open.iter().position(|(_, request)| which(request));
        let at = at.unwrap_or_else(|| panic!("not asked; open: {:?}", self.open));
        let (ticket, request) = self.open.remove(at);
        self.member.answer(ticket, answer, self.now);
        self.look();
        request
    }

    pub(super) fn is_open(&self, which: impl Fn(&Request) -> bool) -> bool {
        self.open.iter().any(|(_, request)| which(request))
    }

    /// Time passes, in steps of the member's own deadlines.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let due = self.member.deadline().filter(|at| *at <= end);
            self.now = due.unwrap_or(end).max(self.now);
            self.member.tick(self.now);
            self.look();
            if due.is_none() {
                return;
            }
        }
        panic!("it wakes without end, {:?}", self.member.phase);
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        let events = std::iter::from_fn(|| self.member.event()).collect();
        self.member.tick(self.now);
        self.look();
        events
    }

    /// From the search for the coordinator (or the join) to an assignment.
    pub(super) fn join(&mut self, generation: i32, partitions: &[i32]) {
        if self.is_open(find) {
            self.answer(find, Answer::Found);
        }
        self.answer(join, joined(generation));
        self.answer(sync, gives(partitions));
    }

    pub(super) fn fetched(&mut self, partitions: &[i32]) -> Vec<Tenure> {
        let told = partitions.iter().map(|p| {
            let metadata = format!("of {p}");
            (part(*p), Ok(Some(Committed { offset: 10, metadata })))
        });
        let before = self.member.events.len();
        self.answer(fetch, Answer::Fetched(told.collect()));
        match &self.member.events[before] {
            Event::Assigned(assigned) => assigned.iter().map(|a| a.tenure.clone()).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commit(&mut self, call: u64, tenure: &Tenure, offset: i64) {
        let commit = Commit {
            tenure: tenure.clone(),
            offset,
            metadata: String::new(),
        };
        self.member.commit(call, commit, self.now);
        self.look();
    }

    /// Answers the open commit with one code for all; what it carried.
    pub(super) fn committed(&mut self, code: i16) -> Vec<(i32, i64)> {
        let Some((_, Request::Commit { offsets, .. })) = self.open.iter().find(|(_, r)| commit(r)) else {
            panic!("no commit is out: {:?}", self.open)
        };
        let carried = offsets.iter().map(|(one, what)| (one.partition, what.offset)).collect();
        let codes = offsets.iter().map(|(one, _)| (one.clone(), ErrorCode::from(code))).collect();
        self.answer(commit, Answer::Committed(codes));
        carried
    }

    pub(super) fn outcome(&self, call: u64) -> Option<Result<(), CommitError>> {
        self.outcomes.iter().find(|(of, _)| *of == call).map(|(_, outcome)| *outcome)
    }
}

pub(super) fn joined(generation: i32) -> Answer {
    Answer::Joined(Joined {
        generation,
        member: "m".to_owned(),
        ..Joined::default()
    })
}

pub(super) fn find(request: &Request) -> bool {
    matches!(request, Request::Find)
}
pub(super) fn join(request: &Request) -> bool {
    matches!(request, Request::Join { .. })
}
pub(super) fn sync(request: &Request) -> bool {
    matches!(request, Request::Sync { .. })
}
pub(super) fn beat(request: &Request) -> bool {
    matches!(request, Request::Heartbeat { .. })
}
pub(super) fn fetch(request: &Request) -> bool {
    matches!(request, Request::Fetch { .. })
}
pub(super) fn commit(request: &Request) -> bool {
    matches!(request, Request::Commit { .. })
}
pub(super) fn goodbye(request: &Request) -> bool {
    matches!(request, Request::Leave { .. })
}

pub(super) fn lost(events: &[Event]) -> BTreeSet<i32> {
    let lost = events.iter().filter_map(|event| match event {
        Event::Lost { partitions, .. } => Some(partitions),
        _ => None,
    });
    lost.flatten().map(|one| one.partition).collect()
}
