//! Getting a seat: the coordinator, a generation, its assignment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{Event, Membership, Phase, lane::Asked};
use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::group::{
        assign::assign,
        embedded::{Assignment, fingerprint},
        requests::{Answer, Joined, Request, Topics},
    },
};

/// How much of the rebalance timeout a user has to give partitions back: the rest is for the way to the coordinator.
const SHARE_OF_REBALANCE: f64 = 0.8;

impl Membership {
    /// Asks for what the phase is about.
    pub(super) fn take_seat(&mut self, now: Instant) {
        if !self.seat.is_free() {
            return;
        }
        let request = match self.phase {
            Phase::Finding => Request::Find,
            Phase::Leaving if !self.found && !self.member.is_empty() => Request::Find,
            // The user may be behind; then others wait for it, up to the rebalance timeout.
            Phase::Joining if self.events.is_empty() && !self.holdings.is_revoking() => Request::Join {
                member: self.member.clone(),
                topics: self.topics.clone(),
                owned: self.holdings.owned(),
                generation: if self.held >= 0 { self.held } else { -1 - self.losses },
            },
            Phase::Counting => Request::Count {
                topics: self.led.iter().flat_map(BTreeMap::keys).cloned().collect(),
            },
            Phase::Syncing => Request::Sync {
                member: self.member.clone(),
                generation: self.generation,
                assignments: self.assignments(),
            },
            _ => return,
        };
        if matches!(request, Request::Join { .. }) {
            self.first_join.get_or_insert(now);
            self.subscribed.clone_from(&self.topics);
        }
        let ticket = Self::ask(&mut self.next_ticket, &mut self.actions, request);
        self.seat.asked(ticket, now, self.generation);
    }

    /// An answer on the lane of the seat.
    pub(super) fn seated(&mut self, asked: &Asked, answer: Answer, now: Instant) {
        match (self.phase, answer) {
            (Phase::Finding | Phase::Leaving, Answer::Found) => self.found_coordinator(),
            (Phase::Joining | Phase::Leaving, Answer::NamedBy { member }) => self.member = member,
            (Phase::Leaving, Answer::Joined(joined)) => self.member = joined.member,
            (Phase::Joining, Answer::Joined(joined)) => self.joined(asked, joined),
            (Phase::Counting, Answer::Counted(topics)) => self.counted(&topics),
            (Phase::Syncing, Answer::Synced(assignment)) => self.synced(asked, assignment, now),
            (phase, Answer::Refused { error, why }) => {
                if phase == Phase::Syncing && error == ErrorCode::REBALANCE_IN_PROGRESS {
                    self.preparing = self.preparing.max(Some(asked.sent));
                }
                self.refused(error, why, now);
            }
            (_, Answer::Failed { why }) => {
                tracing::debug!(why, phase = ?self.phase, "no answer from the group's coordinator");
                self.seat.failed(now);
                self.hang_up();
            }
            // Only the seam could bring another one; the phase asks again.
            _ => self.seat.failed(now),
        }
    }

    fn found_coordinator(&mut self) {
        self.found = true;
        if self.phase == Phase::Finding {
            // A generation that is whole goes on with the new coordinator; otherwise another is asked for.
            self.phase = if self.synced && !self.rejoin {
                Phase::Stable
            } else {
                Phase::Joining
            };
        }
    }

    fn joined(&mut self, asked: &Asked, joined: Joined) {
        self.seat.succeeded();
        self.told = None;
        self.member = joined.member;
        self.generation = joined.generation;
        self.synced = false;
        self.alive = self.alive.max(Some(asked.sent));
        // It has begun to wait for our SyncGroup since.
        self.settled = self.settled.max(self.first_join).max(self.preparing);
        self.led = None;
        self.candidates = joined.members;
        if joined.leads {
            self.led = Some(self.wanted_by_all().into_iter().map(|topic| (topic, None)).collect());
        }
        self.phase = if joined.leads { Phase::Counting } else { Phase::Syncing };
        if joined.keeps_assignment {
            self.candidates.clear();
        }
    }

    fn wanted_by_all(&self) -> Vec<Arc<str>> {
        let others = self.candidates.iter().flat_map(|(candidate, _)| &candidate.topics);
        let all: BTreeSet<&Arc<str>> = self.topics.iter().chain(others).collect();
        all.into_iter().cloned().collect()
    }

    fn counted(&mut self, topics: &Topics) {
        for (topic, count) in self.led.iter_mut().flatten() {
            *count = topics.get(topic).map(|(_, count)| *count);
        }
        for (topic, found) in topics {
            self.known.insert(Arc::clone(topic), *found);
        }
        self.phase = Phase::Syncing;
    }

    /// What the one that leads gives to all.
    fn assignments(&mut self) -> Vec<(String, Assignment)> {
        let candidates = std::mem::take(&mut self.candidates);
        let size = u32::try_from(candidates.len()).expect("a response of Kafka is smaller");
        let say = candidates.iter().map(|(_, user_data)| user_data);
        let members: Vec<_> = say.filter(|user_data| !user_data.is_empty()).cloned().collect();
        let candidates: Vec<_> = candidates.into_iter().map(|(candidate, _)| candidate).collect();
        let counts = self.counts();
        let given = assign(&candidates, &counts);
        let fingerprint = fingerprint(&counts);
        let wanted = |topic: &Arc<str>| candidates.iter().any(|candidate| candidate.topics.contains(topic));
        let there: usize = counts
            .iter()
            .filter(|(topic, _)| wanted(topic))
            .map(|(_, count)| usize::try_from(*count).unwrap_or(0))
            .sum();
        let partial = given.iter().map(BTreeSet::len).sum::<usize>() < there;
        let to_each = candidates.into_iter().zip(given).map(|(candidate, partitions)| {
            let members = if partitions.is_empty() { Vec::new() } else { members.clone() };
            let assignment = Assignment {
                partitions,
                size,
                members,
                partial,
                fingerprint,
            };
            (candidate.member, assignment)
        });
        to_each.collect()
    }

    fn counts(&self) -> BTreeMap<Arc<str>, i32> {
        let led = self.led.iter().flatten();
        led.filter_map(|(topic, count)| count.map(|count| (Arc::clone(topic), count)))
            .collect()
    }

    fn synced(&mut self, asked: &Asked, assignment: Assignment, now: Instant) {
        self.seat.succeeded();
        self.alive = self.alive.max(Some(asked.sent));
        self.settled = self.settled.max(Some(asked.sent));
        self.first_join = None;
        self.synced = true;
        let returned = self.held < 0 && self.rules.is_static;
        self.held = self.generation;
        self.phase = Phase::Stable;
        // A static member that comes back to lead (KIP-814) has not made this assignment: it may rest on other counts.
        self.rejoin = self.led.is_some() && assignment.fingerprint != fingerprint(&self.counts());
        // Its former self may have been the one to give something up, and died over it: nobody else would ask for the next generation.
        self.rejoin |= returned && assignment.partial;
        self.events.push_back(Event::Generation {
            number: self.generation,
            size: assignment.size as usize,
            members: assignment.members,
        });
        let until = now + self.rules.rebalance.mul_f64(SHARE_OF_REBALANCE);
        let change = self.holdings.apply(&assignment.partitions, &self.known, until);
        // Nobody else was given what is shed here, since this member said that it has it: the next generation shares it out.
        self.rejoin |= change.shed;
        // The user wants others since.
        self.rejoin |= self.topics != self.subscribed;
        if let Some((partitions, number)) = change.revoked {
            self.events.push_back(Event::Revoked { partitions, number });
        }
    }

    /// The broker refuses a request as a whole.
    pub(super) fn refused(&mut self, error: ErrorCode, why: String, now: Instant) {
        match error {
            ErrorCode::FENCED_INSTANCE_ID => return self.fenced(),
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.member.clear();
                self.seat.failed(now);
                return self.lose("the coordinator does not know the member any more");
            }
            ErrorCode::ILLEGAL_GENERATION => {
                self.seat.failed(now);
                return self.lose("the group has gone on without the member");
            }
            _ => {}
        }
        match error.retry() {
            Retry::AfterCoordinator | Retry::AfterMetadata => {
                self.seat.failed(now);
                self.hang_up();
            }
            Retry::Again | Retry::None => self.seat.failed(now),
            // REBALANCE_IN_PROGRESS: the generation is over, what it gave is not.
            Retry::AfterJoin => {
                // Each turn of Sync and Join takes a whole JoinGroup; one that is refused itself must not be repeated at once.
                if self.phase != Phase::Syncing {
                    self.seat.failed(now);
                }
                self.join_again();
            }
            Retry::Never | Retry::Fatal => {
                self.complain(error, why);
                self.seat.refused(now);
                self.join_again();
            }
        }
    }

    fn join_again(&mut self) {
        self.rejoin = true;
        if !matches!(self.phase, Phase::Finding | Phase::Leaving) {
            self.phase = Phase::Joining;
        }
    }

    /// Tells the user of a refusal, unless it is the one it was told last, or has not taken the one before yet: two codes that take turns
    /// would fill its queue.
    pub(super) fn complain(&mut self, error: ErrorCode, why: String) {
        let waits = self.events.iter().any(|event| matches!(event, Event::Refused { .. }));
        if self.told.replace(error) != Some(error) && !waits {
            self.events.push_back(Event::Refused { error, why });
        }
    }
}
