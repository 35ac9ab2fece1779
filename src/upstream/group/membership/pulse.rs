//! What goes on beside getting a seat: heartbeats, offsets, commits, and the goodbye.

use std::time::{Duration, Instant};

use super::{Event, Membership, Phase, commits::Flight, lane::Asked};
use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::group::{
        event::{CommitError, TopicPartition},
        requests::{Answer, Request},
    },
};

/// Commits have so long before a goodbye, beside what they had before it was asked for.
const BEFORE_GOODBYE: Duration = Duration::from_secs(1);

impl Membership {
    /// When the next sign of life is due.
    pub(super) fn beat_due(&self) -> Instant {
        let last = self.alive.expect("a member of a generation was heard by the coordinator");
        last.max(self.beaten.unwrap_or(last)) + self.rules.heartbeat
    }

    /// Whether a sign of life may be sent.
    pub(super) fn may_beat(&self) -> bool {
        self.generation >= 0 && self.found && self.phase != Phase::Leaving && self.pulse.is_free()
    }

    /// A sign of life, if it is time.
    pub(super) fn beat(&mut self, now: Instant) {
        if !self.may_beat() || now < self.beat_due() {
            return;
        }
        self.beaten = Some(now);
        let request = Request::Heartbeat {
            member: self.member.clone(),
            generation: self.generation,
        };
        let ticket = Self::ask(&mut self.next_ticket, &mut self.actions, request);
        self.pulse.asked(ticket, now, self.generation);
    }

    /// An answer to a heartbeat or a goodbye.
    pub(super) fn pulsed(&mut self, asked: &Asked, answer: Answer, now: Instant) {
        if self.phase == Phase::Leaving && self.said_goodbye {
            return self.end();
        }
        match answer {
            Answer::Done => {
                self.alive = self.alive.max(Some(asked.sent));
                if self.synced && asked.generation == self.generation {
                    self.settled = self.settled.max(Some(asked.sent));
                }
                self.pulse.succeeded();
            }
            Answer::Refused { error, why } => self.beat_refused(asked, error, why, now),
            _ => {
                self.pulse.failed(now);
                self.hang_up();
            }
        }
    }

    fn beat_refused(&mut self, asked: &Asked, error: ErrorCode, why: String, now: Instant) {
        match error {
            ErrorCode::REBALANCE_IN_PROGRESS => {
                // It names a member, so it is a sign of life.
                self.alive = self.alive.max(Some(asked.sent));
                self.preparing = self.preparing.max(Some(asked.sent));
                self.rejoin |= self.phase == Phase::Stable && asked.generation == self.generation;
            }
            // The answer to our JoinGroup is on its way, or was here before this one.
            ErrorCode::ILLEGAL_GENERATION if self.is_moving_on(asked.generation) => {
                if self.is_known_to_an_heir(asked.generation) {
                    self.alive = self.alive.max(Some(asked.sent));
                }
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::FENCED_INSTANCE_ID => self.refused(error, why, now),
            _ => match error.retry() {
                Retry::AfterCoordinator | Retry::AfterMetadata => {
                    self.pulse.failed(now);
                    self.hang_up();
                }
                Retry::Never | Retry::Fatal => {
                    self.complain(error, why);
                    self.pulse.refused(now);
                }
                _ => self.pulse.failed(now),
            },
        }
    }

    /// Whether it is no wonder that the coordinator does not have `generation`: a later one was heard of, or is asked for, or an heir of the
    /// coordinator does not know of one whose assignment never came. Its answers to JoinGroup and SyncGroup tell.
    fn is_moving_on(&self, generation: i32) -> bool {
        generation != self.generation || !self.synced || self.phase == Phase::Joining
    }

    /// Whether a coordinator that does not have `generation` has the member: it looks for that first, and nobody who waits for his assignment is put
    /// out. Not if the generation was whole: then a later one has begun, which has a time of its own. Of static members it knows another's, too.
    fn is_known_to_an_heir(&self, generation: i32) -> bool {
        let waits = self.phase == Phase::Joining && self.seat.is_waiting();
        waits && !self.synced && generation == self.generation && !self.rules.is_static
    }

    /// Asks what the group has committed for what is new.
    pub(super) fn fetch_offsets(&mut self, now: Instant) {
        if !self.found || self.phase == Phase::Leaving || !self.fetch.is_free() || !self.holdings.is_fetching() {
            return;
        }
        let partitions = self.holdings.ask();
        let ticket = Self::ask(&mut self.next_ticket, &mut self.actions, Request::Fetch { partitions });
        self.fetch.asked(ticket, now, self.generation);
    }

    /// The offsets of what is new.
    pub(super) fn fetched(&mut self, answer: Answer, now: Instant) {
        let refusal = match answer {
            Answer::Fetched(offsets) => {
                let (assigned, refusal) = self.holdings.learn(offsets);
                if !assigned.is_empty() {
                    self.events.push_back(Event::Assigned(assigned));
                }
                match refusal {
                    Some(error) => (error, format!("what the group has committed cannot be read: {}", error.name())),
                    // What the answer has left out is asked for again, not at once.
                    None if self.holdings.is_unanswered() => return self.fetch.failed(now),
                    None => return self.fetch.succeeded(),
                }
            }
            Answer::Refused { error, why } => (error, why),
            _ => {
                self.fetch.failed(now);
                return self.hang_up();
            }
        };
        let (error, why) = refusal;
        match error.retry() {
            Retry::AfterCoordinator => {
                self.fetch.failed(now);
                self.hang_up();
            }
            Retry::Never | Retry::Fatal => {
                self.complain(error, why);
                self.fetch.refused(now);
            }
            _ => self.fetch.failed(now),
        }
    }

    /// Sends the commits that wait. Not between JoinGroup and SyncGroup: the coordinator takes none then. A generation that was over before its
    /// assignment came is still the coordinator's until the next has begun, and that may take as long as the session of a member that died.
    pub(super) fn send_commits(&mut self) {
        let takes_some = self.synced || self.phase == Phase::Joining;
        if !self.found || !takes_some || !self.commits.is_due() {
            return;
        }
        let request = Request::Commit {
            member: self.member.clone(),
            generation: self.generation,
            offsets: self.commits.offsets(),
        };
        let ticket = Self::ask(&mut self.next_ticket, &mut self.actions, request);
        self.commits.fly(ticket, self.generation);
    }

    /// A commit is answered.
    pub(super) fn committed(&mut self, mut flight: Flight, answer: Answer, now: Instant) {
        let codes = match answer {
            Answer::Committed(codes) => codes,
            Answer::Refused { error, .. } => flight.entries.keys().map(|one| (one.clone(), error)).collect(),
            _ => {
                self.put_back(flight);
                self.commits.lane.failed(now);
                return self.hang_up();
            }
        };
        let mut worst: Option<(u8, ErrorCode)> = None;
        for (one, code) in codes {
            let this = self.commit_coded(&mut flight, &one, code);
            if this.map(|(rank, _)| rank) > worst.map(|(rank, _)| rank) {
                worst = this;
            }
        }
        // What the answer has left out goes again, too.
        let generation = flight.generation;
        let left = !flight.entries.is_empty();
        self.put_back(flight);
        match worst {
            Some((_, error)) => self.commit_failed(error, generation, now),
            None if left => self.commits.lane.failed(now),
            None => self.commits.lane.succeeded(),
        }
    }

    /// Settles one partition of a commit, or leaves it in the flight to go again. Then it says why, with a rank: the gravest counts for all.
    fn commit_coded(&mut self, flight: &mut Flight, one: &TopicPartition, code: ErrorCode) -> Option<(u8, ErrorCode)> {
        let outcome = match code.retry() {
            Retry::None => Ok(()),
            Retry::Never => Err(CommitError::Refused(code)),
            Retry::Again | Retry::AfterMetadata => return Some((0, code)),
            Retry::AfterCoordinator => return Some((1, code)),
            Retry::AfterJoin => return Some((2, code)),
            Retry::Fatal => return Some((3, code)),
        };
        for call in flight.entries.remove(one).into_iter().flat_map(|entry| entry.calls) {
            self.settle(call, outcome);
        }
        None
    }

    fn commit_failed(&mut self, error: ErrorCode, generation: i32, now: Instant) {
        self.commits.lane.failed(now);
        match error {
            ErrorCode::REBALANCE_IN_PROGRESS => self.rejoin |= self.phase == Phase::Stable && generation == self.generation,
            // It goes again in the generation to come, if that leaves us the partition.
            ErrorCode::ILLEGAL_GENERATION if self.is_moving_on(generation) => {}
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => {
                self.refused(error, String::new(), now);
            }
            _ if error.retry() == Retry::AfterCoordinator => self.hang_up(),
            _ => {}
        }
    }

    fn put_back(&mut self, flight: Flight) {
        for (one, entry) in flight.entries {
            self.commits.again(one, entry);
        }
    }

    /// Whether nothing but commits is waited for before the goodbye.
    pub(super) fn holds_goodbye_back(&self) -> bool {
        self.found && self.synced && !self.said_goodbye && !self.commits.is_empty()
    }

    /// Commits have so long of a goodbye. One that cannot succeed must not cost it: the others would wait for the session's end.
    pub(super) fn commits_until(&self) -> Option<Instant> {
        let rest = self.rules.leave.saturating_sub(BEFORE_GOODBYE);
        self.leave_by.map(|by| by - rest)
    }

    /// Tells the coordinator that the member goes, once nothing is left to commit, or in time.
    pub(super) fn say_goodbye(&mut self, now: Instant) {
        let in_time = self.commits_until().is_some_and(|until| now < until);
        let waits = self.synced && !self.commits.is_empty() && in_time;
        if self.phase != Phase::Leaving || self.said_goodbye || waits {
            return;
        }
        if self.member.is_empty() {
            // The answer that is on its way names it, and all others would wait for who has that name until its session is over (KIP-394).
            if !self.seat.is_waiting() {
                self.end();
            }
            return;
        }
        if !self.found {
            return;
        }
        // A heartbeat that is out is not waited for.
        self.said_goodbye = true;
        let request = Request::Leave {
            member: self.member.clone(),
        };
        let ticket = Self::ask(&mut self.next_ticket, &mut self.actions, request);
        self.pulse.asked(ticket, now, self.generation);
    }
}
