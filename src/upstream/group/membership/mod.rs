//! The membership in a group as a pure state machine: answers, wishes and time in; requests, events and outcomes out.
//!
//! It is Kafka's classic group protocol with cooperative rebalancing (KIP-429), static members (KIP-345) and commits. What must hold,
//! whatever the coordinator and the network do:
//! * A partition is given up before another gets it: the member asks for the next generation only after its user has answered the
//!   revocation and the commits that were accepted before that are in Kafka.
//! * Nothing is committed for what is lost: commits that wait fail with the loss, and none is sent after it.
//! * The member gives up before the coordinator gives its partitions away, as far as clocks run alike. So a sign of life from the
//!   coordinator counts from when it was asked for; without one for the session timeout all is lost. It is also lost if the way to
//!   the next generation took so long that the coordinator may have gone on without the member, however alive that is.
//! * No new generation is asked for before its user has taken the events of the last: nothing here grows without bound.
//!
//! Join and sync may keep the coordinator silent for as long as the slowest member takes. So they have a connection of their own, and
//! heartbeats and commits go on beside them: a partition that does not move is worked on all the time.

mod commits;
mod holdings;
mod lane;
mod loss;
mod pulse;
mod seat;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    assign::Candidate,
    event::{Assigned, Commit, CommitError, TopicPartition},
    requests::{Answer, Request, Topics},
};
use crate::kafka::error::ErrorCode;
use commits::Commits;
use holdings::Holdings;
use lane::Lane;

/// What the member was told about time and itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
    pub(super) heartbeat: Duration,
    pub(super) commit: Duration,
    /// How long a goodbye may take.
    pub(super) leave: Duration,
    /// Whether it has a `group.instance.id`.
    pub(super) is_static: bool,
}

/// Something for the task around this to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Ask, and bring the answer with the same ticket.
    Send { ticket: u64, request: Request },
    /// Close the coordinator's connections; what was asked on them is not waited for.
    HangUp,
    /// A commit has its outcome.
    Settle { call: u64, outcome: Result<(), CommitError> },
}

/// What the user is to be told; see [`GroupEvent`](super::GroupEvent).
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Generation {
        number: i32,
        size: usize,
        members: Vec<Bytes>,
    },
    Assigned(Vec<Assigned>),
    Revoked {
        partitions: Vec<TopicPartition>,
        number: u64,
    },
    Lost {
        partitions: Vec<TopicPartition>,
        membership: bool,
        why: &'static str,
    },
    Refused {
        error: ErrorCode,
        why: String,
    },
    Fenced,
}

/// Where a membership stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The coordinator is looked for.
    Finding,
    /// A generation is asked for, or about to be.
    Joining,
    /// It leads, and asks how many partitions there are.
    Counting,
    /// The assignment is asked for.
    Syncing,
    /// A member of a generation, as far as it knows.
    Stable,
    /// Saying goodbye.
    Leaving,
    /// Over.
    Ended,
}

/// The membership.
pub(super) struct Membership {
    rules: Rules,
    topics: Vec<Arc<str>>,
    /// Those that the last JoinGroup named.
    subscribed: Vec<Arc<str>>,
    phase: Phase,
    /// The coordinator is known.
    found: bool,
    /// Empty until the coordinator has given one.
    member: String,
    /// -1 outside of any.
    generation: i32,
    /// The assignment of `generation` is known.
    synced: bool,
    /// The generation that gave what is held.
    held: i32,
    /// How often all was lost. Told in place of the generation of what is held when nothing is: a JoinGroup that says the same as the
    /// last gets the same generation, and commits from before the loss that are still on their way would count in it.
    losses: i32,
    /// When the last request was sent that showed that the coordinator takes us for a member.
    alive: Option<Instant>,
    /// The coordinator began to wait for our JoinGroup or SyncGroup at this moment or later, if it waits at all. It throws out who does
    /// not come within the rebalance timeout.
    settled: Option<Instant>,
    /// When something was sent last whose answer showed the coordinator waiting for members to join.
    preparing: Option<Instant>,
    /// When the first JoinGroup since the last assignment was sent. Its answer may have been lost, and a later one be about the same
    /// generation, for which the coordinator has begun to count then.
    first_join: Option<Instant>,
    /// Another generation is to be asked for.
    rejoin: bool,
    /// The partition counts that this member's assignment rests on, if it leads.
    led: Option<BTreeMap<Arc<str>, Option<i32>>>,
    /// Who the members are, between JoinGroup and SyncGroup, if it leads.
    candidates: Vec<(Candidate, Bytes)>,
    /// Find, Join, Count, Sync.
    seat: Lane,
    /// Heartbeat, Leave.
    pulse: Lane,
    /// OffsetFetch.
    fetch: Lane,
    holdings: Holdings,
    commits: Commits,
    known: Topics,
    /// The refusal that the user was told last.
    told: Option<ErrorCode>,
    /// When the last heartbeat was sent.
    beaten: Option<Instant>,
    leave_by: Option<Instant>,
    said_goodbye: bool,
    next_ticket: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Membership {
    /// Begins at once. `seed` spreads the retries of many members.
    pub(super) fn new(rules: Rules, topics: Vec<Arc<str>>, seed: u64, now: Instant) -> Self {
        let mut membership = Self {
            rules,
            topics,
            subscribed: Vec::new(),
            phase: Phase::Finding,
            found: false,
            member: String::new(),
            generation: -1,
            synced: false,
            held: -1,
            losses: 0,
            alive: None,
            settled: None,
            preparing: None,
            first_join: None,
            rejoin: false,
            led: None,
            candidates: Vec::new(),
            seat: Lane::new(seed),
            pulse: Lane::new(seed),
            fetch: Lane::new(seed),
            holdings: Holdings::default(),
            commits: Commits::new(seed),
            known: Topics::new(),
            told: None,
            beaten: None,
            leave_by: None,
            said_goodbye: false,
            next_ticket: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        };
        membership.tick(now);
        membership
    }

    /// The next thing to do.
    pub(super) fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to tell the user. [`tick`](Self::tick) after the last: it may have been waited for.
    pub(super) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is something to tell.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether the coordinator takes no commits, as far as is known: it is looked for, or between JoinGroup and SyncGroup, or an heir that does not
    /// know the generation.
    pub(super) fn is_halted(&self) -> bool {
        !self.synced || self.phase == Phase::Finding
    }

    /// Whether nothing will happen any more.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The topics whose partitions it must know.
    pub(super) fn watched(&self) -> BTreeSet<Arc<str>> {
        let led = self.led.iter().flat_map(BTreeMap::keys);
        self.topics.iter().chain(led).cloned().collect()
    }

    /// The answer to a request. Those that were given up are not listened to.
    pub(super) fn answer(&mut self, ticket: u64, answer: Answer, now: Instant) {
        if let Some(asked) = self.seat.take(ticket) {
            self.seated(&asked, answer, now);
        } else if let Some(asked) = self.pulse.take(ticket) {
            self.pulsed(&asked, answer, now);
        } else if self.fetch.take(ticket).is_some() {
            self.fetched(answer, now);
        } else if let Some(flight) = self.commits.land(ticket) {
            self.committed(flight, answer, now);
        }
        self.tick(now);
    }

    /// The user wants the partitions of these topics from now on.
    pub(super) fn subscribe(&mut self, topics: BTreeSet<Arc<str>>, now: Instant) {
        self.topics = topics.into_iter().collect();
        self.rejoin |= self.topics != self.subscribed;
        self.tick(now);
    }

    /// The user commits; the outcome comes as [`Action::Settle`] of `call`.
    pub(super) fn commit(&mut self, call: u64, commit: Commit, now: Instant) {
        let allowed = match self.phase {
            Phase::Leaving | Phase::Ended => Err(CommitError::Closed),
            _ => self.holdings.may_commit(&commit),
        };
        if let Err(error) = allowed {
            return self.settle(call, Err(error));
        }
        self.commits.accept(call, commit, now);
        self.tick(now);
    }

    /// The user has given up what revocation `number` named.
    pub(super) fn released(&mut self, number: u64, now: Instant) {
        self.holdings.release(number);
        self.tick(now);
    }

    /// The topics as the metadata have them now: those that are [`watched`](Self::watched).
    pub(super) fn topics(&mut self, known: Topics, now: Instant) {
        self.known = known;
        let gone = self.holdings.made_anew(&self.known);
        self.drop_lost(gone, "its topic was deleted and made anew");
        let counts = |(topic, count): (&Arc<str>, &Option<i32>)| self.known.get(topic).map(|(_, count)| *count) != *count;
        if self.synced && self.led.as_ref().is_some_and(|led| led.iter().any(counts)) {
            self.rejoin = true;
        }
        self.tick(now);
    }

    /// Says goodbye, after the commits that wait.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.phase != Phase::Ended {
            let is_named = !self.member.is_empty();
            // What it is called is on its way.
            let is_awaited = self.phase == Phase::Joining && self.seat.is_waiting();
            self.phase = Phase::Leaving;
            self.leave_by = Some(now + self.rules.leave);
            if is_named {
                self.seat.forget();
            } else if !is_awaited {
                self.end();
            }
        }
        self.tick(now);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.expire(now);
        if self.phase == Phase::Ended {
            return;
        }
        if self.holdings.settle_revocation(|one| self.commits.holds(one)) {
            self.rejoin = true;
        }
        if self.phase == Phase::Stable && self.rejoin && !self.holdings.is_revoking() {
            self.phase = Phase::Joining;
        }
        self.take_seat(now);
        self.beat(now);
        self.fetch_offsets(now);
        self.send_commits();
        self.say_goodbye(now);
    }

    /// When [`tick`](Self::tick) has something to do again, if nothing else comes before. It may be called too early.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.phase == Phase::Ended {
            return None;
        }
        let expiry = self.alive.map(|at| at + self.rules.session);
        let missed = self.settled.map(|at| at + self.rules.rebalance);
        let beat = self.may_beat().then(|| self.beat_due());
        [
            expiry,
            missed,
            beat,
            self.leave_by,
            self.commits_until().filter(|_| self.holds_goodbye_back()),
            self.seat.pause(),
            self.pulse.pause(),
            self.fetch.pause(),
            self.holdings.deadline(),
            self.commits.deadline(self.rules.commit),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self, now: Instant) {
        if self.phase == Phase::Ended {
            return;
        }
        if self.alive.is_some_and(|at| now >= at + self.rules.session) {
            self.lose("the coordinator was not heard of for the session timeout");
        }
        if self.settled.is_some_and(|at| now >= at + self.rules.rebalance) {
            self.lose("the next generation was not reached within the rebalance timeout");
        }
        if self.holdings.deadline().is_some_and(|until| now >= until) {
            let late = self.holdings.give_up_revocation();
            self.drop_lost(late, "it was not given up in time");
        }
        for call in self.commits.expired(now, self.rules.commit) {
            self.settle(call, Err(CommitError::TimedOut));
        }
        if self.leave_by.is_some_and(|by| now >= by) {
            self.end();
        }
        [&mut self.seat, &mut self.pulse, &mut self.fetch]
            .into_iter()
            .for_each(|lane| lane.wake(now));
        self.commits.wake(now);
    }

    fn ask(next: &mut u64, actions: &mut VecDeque<Action>, request: Request) -> u64 {
        *next += 1;
        let ticket = *next;
        actions.push_back(Action::Send { ticket, request });
        ticket
    }

    fn settle(&mut self, call: u64, outcome: Result<(), CommitError>) {
        self.actions.push_back(Action::Settle { call, outcome });
    }
}

#[cfg(test)]
mod tests;
