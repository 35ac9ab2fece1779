//! The partitions that a member has, from the assignment that brings them to the answer that gives them up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    kafka::error::ErrorCode,
    upstream::group::{
        event::{Assigned, Commit, CommitError, Committed, Tenure, TopicPartition},
        requests::Topics,
        settings::MOST_METADATA,
    },
};

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    all: BTreeMap<TopicPartition, Holding>,
    revocation: Option<Open>,
    next_tenure: u64,
    next_revocation: u64,
    /// The last tenure whose offsets were asked for. An answer says nothing of a later one: a partition may have been given up and come
    /// back while it was on its way, and another member may have committed in between.
    asked: u64,
}

#[derive(Debug)]
struct Holding {
    tenure: u64,
    state: State,
    /// The topic's id when it was first known.
    id: Option<[u8; 16]>,
    /// The highest offset that the user has committed, behind how often the log was cut off.
    floor: (u64, i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Assigned; what the group has committed for it is asked for, and the user does not know of it yet.
    Fetching,
    /// The user's.
    Held,
    /// The user is to give it up.
    Revoking,
}

/// A revocation that is not over.
#[derive(Debug)]
struct Open {
    number: u64,
    until: Instant,
    released: bool,
}

/// What an assignment changes.
pub(super) struct Change {
    /// What the user is to give up, and the number of that.
    pub(super) revoked: Option<(Vec<TopicPartition>, u64)>,
    /// Something was given up of which the user does not know.
    pub(super) shed: bool,
}

impl Holdings {
    /// What it says it owns.
    pub(super) fn owned(&self) -> Vec<TopicPartition> {
        self.all.keys().cloned().collect()
    }

    /// Takes an assignment over. There is no open revocation: a generation is not asked for during one.
    pub(super) fn apply(&mut self, assigned: &BTreeSet<TopicPartition>, known: &Topics, until: Instant) -> Change {
        let mut revoked = Vec::new();
        let before = self.all.len();
        self.all.retain(|one, holding| {
            let stays = assigned.contains(one);
            if !stays && holding.state == State::Held {
                holding.state = State::Revoking;
                revoked.push(one.clone());
            }
            stays || holding.state == State::Revoking
        });
        let shed = self.all.len() < before;
        for one in assigned {
            if !self.all.contains_key(one) {
                self.next_tenure += 1;
                let holding = Holding {
                    tenure: self.next_tenure,
                    state: State::Fetching,
                    id: known.get(&one.topic).map(|(id, _)| *id),
                    floor: (0, 0),
                };
                self.all.insert(one.clone(), holding);
            }
        }
        let revoked = (!revoked.is_empty()).then(|| {
            self.next_revocation += 1;
            let number = self.next_revocation;
            self.revocation = Some(Open {
                number,
                until,
                released: false,
            });
            (revoked, number)
        });
        Change { revoked, shed }
    }

    /// Those whose offsets must be asked for, which is done now.
    pub(super) fn ask(&mut self) -> Vec<TopicPartition> {
        self.asked = self.next_tenure;
        let fetching = self.all.iter().filter(|(_, holding)| holding.state == State::Fetching);
        fetching.map(|(one, _)| one.clone()).collect()
    }

    /// Whether offsets must be asked for.
    pub(super) fn is_fetching(&self) -> bool {
        self.all.values().any(|holding| holding.state == State::Fetching)
    }

    /// Whether the last answer has left out what was asked for.
    pub(super) fn is_unanswered(&self) -> bool {
        self.all
            .values()
            .any(|holding| holding.state == State::Fetching && holding.tenure <= self.asked)
    }

    /// Offsets have come: the partitions that become the user's by that, and the first refusal among them.
    pub(super) fn learn(
        &mut self,
        offsets: Vec<(TopicPartition, Result<Option<Committed>, ErrorCode>)>,
    ) -> (Vec<Assigned>, Option<ErrorCode>) {
        let (mut assigned, mut refusal) = (Vec::new(), None);
        for (of, result) in offsets {
            let waits = |holding: &&mut Holding| holding.state == State::Fetching && holding.tenure <= self.asked;
            let Some(holding) = self.all.get_mut(&of).filter(waits) else {
                continue;
            };
            match result {
                Ok(committed) => {
                    holding.state = State::Held;
                    let number = holding.tenure;
                    let tenure = Tenure { of, number, cuts: 0 };
                    assigned.push(Assigned { tenure, committed });
                }
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        (assigned, refusal)
    }

    /// Whether a commit may be accepted; then it is the floor of those to come.
    pub(super) fn may_commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        let released = self.revocation.as_ref().is_some_and(|open| open.released);
        let holding = self.all.get_mut(&commit.tenure.of).filter(|holding| {
            let ours = match holding.state {
                State::Fetching => false,
                State::Held => true,
                State::Revoking => !released,
            };
            ours && holding.tenure == commit.tenure.number
        });
        let holding = holding.ok_or(CommitError::NotOwned)?;
        if commit.metadata.len() > MOST_METADATA {
            return Err(CommitError::MetadataTooLong);
        }
        let to = (commit.tenure.cuts, commit.offset);
        if to < holding.floor {
            return Err(CommitError::Backwards);
        }
        holding.floor = to;
        Ok(())
    }

    pub(super) fn is_revoking(&self) -> bool {
        self.revocation.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.revocation.as_ref().map(|open| open.until)
    }

    /// The user has given up what that revocation named.
    pub(super) fn release(&mut self, number: u64) {
        if let Some(open) = self.revocation.as_mut().filter(|open| open.number == number) {
            open.released = true;
        }
    }

    /// Ends a revocation that the user has answered, once no commit of what it named `waits`; whether it did.
    pub(super) fn settle_revocation(&mut self, waits: impl Fn(&TopicPartition) -> bool) -> bool {
        let Some(open) = &self.revocation else { return false };
        let mut revoking = self.all.iter().filter(|(_, holding)| holding.state == State::Revoking).peekable();
        let over = revoking.peek().is_none() || open.released && !revoking.any(|(one, _)| waits(one));
        if over {
            self.all.retain(|_, holding| holding.state != State::Revoking);
            self.revocation = None;
        }
        over
    }

    /// Ends a revocation without the user, or without the answer to its last commits: what it named; for each whether the user still
    /// takes it for its own.
    pub(super) fn give_up_revocation(&mut self) -> Vec<(TopicPartition, bool)> {
        let removed = self.remove(|_, holding| holding.state == State::Revoking);
        self.revocation = None;
        removed
    }

    /// Takes out what belongs to topics that have another id by now; for each whether the user takes it for its own.
    pub(super) fn made_anew(&mut self, known: &Topics) -> Vec<(TopicPartition, bool)> {
        self.remove(|one, holding| {
            let now = known.get(&one.topic).map(|(id, _)| *id);
            holding.id = holding.id.or(now);
            now.is_some() && now != holding.id
        })
    }

    fn remove(&mut self, mut gone: impl FnMut(&TopicPartition, &mut Holding) -> bool) -> Vec<(TopicPartition, bool)> {
        let mut removed = Vec::new();
        let released = self.revocation.as_ref().is_some_and(|open| open.released);
        self.all.retain(|one, holding| {
            let goes = gone(one, holding);
            if goes {
                let users = match holding.state {
                    State::Fetching => false,
                    State::Held => true,
                    State::Revoking => !released,
                };
                removed.push((one.clone(), users));
            }
            !goes
        });
        removed
    }

    /// Takes out everything; what the user takes for its own.
    pub(super) fn clear(&mut self) -> Vec<TopicPartition> {
        let all = self.remove(|_, _| true);
        self.revocation = None;
        all.into_iter().filter_map(|(one, users)| users.then_some(one)).collect()
    }
}
