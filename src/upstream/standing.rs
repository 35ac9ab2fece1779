//! Whether Kafka can be used: a broker answers, and the topics that hold the proxy's own state are as they must be.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

/// The reason before there is one.
const NOT_YET: &str = "not connected yet";

/// Whether Kafka can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No broker answers; `why` is the last reason, for an operator.
    Connecting {
        /// The last reason.
        why: String,
    },
    /// Brokers answer, but a state topic is missing or is not as it must be: nothing may rest on it.
    Unfit {
        /// What an operator must mend.
        why: String,
    },
    /// A broker answered the last time one was asked, and the state topics are right.
    Ready,
}

impl State {
    /// Before the first attempt has ended.
    pub fn not_yet() -> Self {
        Self::Connecting { why: NOT_YET.to_owned() }
    }
}

/// What is known of the state topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// Not looked at yet.
    Unknown,
    /// All are as they must be.
    Right,
    /// What an operator must mend.
    Wrong(String),
}

/// Both halves, and what they make together.
pub(crate) struct Standing {
    halves: Mutex<Halves>,
    told: watch::Sender<State>,
    /// A broker answered the last time one was asked.
    reached: watch::Sender<bool>,
}

struct Halves {
    /// Why no broker answers; `None`: one does.
    away: Option<String>,
    fitness: Fitness,
}

impl Standing {
    /// At the start: no broker has answered. `state_topics`: there are some to look at.
    pub(crate) fn new(state_topics: bool) -> Self {
        let fitness = if state_topics { Fitness::Unknown } else { Fitness::Right };
        let away = Some(NOT_YET.to_owned());
        Self {
            halves: Mutex::new(Halves { away, fitness }),
            told: watch::Sender::new(State::not_yet()),
            reached: watch::Sender::new(false),
        }
    }

    /// What is told to others.
    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.told.subscribe()
    }

    /// Whether brokers cannot be reached for a reason that has been told: not merely since nobody has tried.
    pub(crate) fn is_away(&self) -> bool {
        let told = self.told.borrow();
        matches!(*told, State::Connecting { .. }) && *told != State::not_yet()
    }

    /// A broker answers (`None`), or none does.
    pub(crate) fn away(&self, why: Option<String>) {
        let mut halves = self.halves();
        self.reached.send_replace(why.is_none());
        halves.away = why;
        self.tell(&halves);
    }

    /// Waits until a broker answers. Cancel-safe.
    pub(crate) async fn reached(&self) {
        // The sender is here, so this cannot fail.
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    /// The state topics were looked at.
    pub(crate) fn judged(&self, fitness: Fitness) {
        let mut halves = self.halves();
        halves.fitness = fitness;
        self.tell(&halves);
    }

    /// The state topics cannot be looked at. What was known of them stays so: that no broker answers is told by others.
    pub(crate) fn not_judged(&self, why: &str) {
        let mut halves = self.halves();
        if halves.fitness == Fitness::Unknown {
            halves.fitness = Fitness::Wrong(format!("the state topics cannot be looked at: {why}"));
        }
        self.tell(&halves);
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().expect("no code that holds this lock panics")
    }

    /// Under the lock: two that change a half at once are told in the order of their changes. Whoever watches says so in the log.
    fn tell(&self, halves: &Halves) {
        let state = match (&halves.away, &halves.fitness) {
            (Some(why), _) => State::Connecting { why: why.clone() },
            (None, Fitness::Unknown) => State::not_yet(),
            (None, Fitness::Wrong(why)) => State::Unfit { why: why.clone() },
            (None, Fitness::Right) => State::Ready,
        };
        self.told.send_if_modified(|now| {
            let modified = *now != state;
            *now = state;
            modified
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_both_halves_are() {
        let standing = Standing::new(true);
        let told = standing.subscribe();
        standing.away(None);
        assert_eq!(*told.borrow(), State::not_yet());
        assert!(!standing.is_away());
        standing.judged(Fitness::Wrong("t: too few".to_owned()));
        assert!(matches!(&*told.borrow(), State::Unfit { why } if why == "t: too few"));
        standing.judged(Fitness::Right);
        assert_eq!(*told.borrow(), State::Ready);
        standing.away(Some("refused".to_owned()));
        assert!(matches!(&*told.borrow(), State::Connecting { why } if why == "refused"));
        assert!(standing.is_away());
        let none = Standing::new(false);
        none.away(None);
        assert_eq!(*none.subscribe().borrow(), State::Ready);
    }
}
