//! How things end: all that is held, some of it, the way to the coordinator, the membership.

use super::{Action, CommitError, Event, Lane, Membership, Phase, TopicPartition};

impl Membership {
    /// Everything is lost, and the membership begins anew, with the member id that it has.
    pub(super) fn lose(&mut self, why: &'static str) {
        let lost = self.holdings.clear();
        // It was told of a generation: who has nothing in it must know, too, that it is out.
        if self.held >= 0 {
            self.events.push_back(Event::Lost {
                partitions: lost,
                membership: true,
                why,
            });
        }
        for call in self.commits.clear() {
            self.settle(call, Err(CommitError::NotOwned));
        }
        self.losses = (self.losses + 1) % 10_000;
        (self.generation, self.held, self.synced) = (-1, -1, false);
        (self.alive, self.settled, self.preparing, self.first_join) = (None, None, None, None);
        (self.led, self.rejoin) = (None, false);
        self.hang_up();
    }

    /// These are lost, the rest is not. Another generation shares them out again.
    pub(super) fn drop_lost(&mut self, of: Vec<(TopicPartition, bool)>, why: &'static str) {
        if of.is_empty() {
            return;
        }
        for call in of.iter().flat_map(|(one, _)| self.commits.drop_one(one)).collect::<Vec<_>>() {
            self.settle(call, Err(CommitError::NotOwned));
        }
        let told: Vec<_> = of.into_iter().filter_map(|(one, told)| told.then_some(one)).collect();
        if !told.is_empty() {
            self.events.push_back(Event::Lost {
                partitions: told,
                membership: false,
                why,
            });
        }
        self.rejoin = true;
    }

    /// The coordinator must be looked for again. What was asked of the last one is asked again.
    pub(super) fn hang_up(&mut self) {
        self.actions.push_back(Action::HangUp);
        self.found = false;
        // Nobody knows whether it was heard.
        self.said_goodbye = false;
        [&mut self.seat, &mut self.pulse, &mut self.fetch]
            .into_iter()
            .for_each(Lane::forget);
        self.commits.take_back();
        if self.phase != Phase::Leaving {
            self.phase = Phase::Finding;
        }
    }

    /// Another lives under our `group.instance.id`.
    pub(super) fn fenced(&mut self) {
        self.lose("another process has joined with the same group.instance.id");
        self.events.push_back(Event::Fenced);
        self.end();
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        for call in self.commits.clear() {
            self.settle(call, Err(CommitError::Closed));
        }
        self.actions.push_back(Action::HangUp);
    }
}
