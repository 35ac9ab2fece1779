//! When it is believed that a name stands for another topic than before.
//!
//! Kafka's topic ids (KIP-516) have no order: nothing in an answer says which of two topics is the newer one, and a broker that is late tells of
//! the one that was. Were it believed, the new topic would be given up for the old one and then be another new one: all its records would be
//! delivered again, and what waits for it would be given up. So the word of one broker is not enough, nor is an id that is known to be over.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::TopicId;

/// Topics of one name that are known to be over; the oldest is forgotten.
const MOST_OVER: usize = 8;
/// One broker alone, among several, is believed after so many answers in a row, over so long: the others cannot be reached.
const ANSWERS: u32 = 5;
const PERIOD: Duration = Duration::from_secs(5);
/// The only broker that there is.
const ANSWERS_OF_THE_ONLY: u32 = 2;
/// Kafka gives no id twice. One that was taken to be over and is told again and again for so long is not over: those who said so were late.
const PERIOD_OVER: Duration = Duration::from_secs(60);

/// What speaks against the topic that a name stands for.
#[derive(Default)]
pub(crate) struct Rivals {
    over: VecDeque<TopicId>,
    told: Option<Told>,
}

/// Another topic, told by the latest answers in a row.
struct Told {
    id: TopicId,
    since: Instant,
    answers: u32,
    /// The first that told it and is known by its id.
    by: Option<i32>,
    /// Another did, too.
    confirmed: bool,
}

/// Who tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller {
    /// The broker's id; `None` if it is not known which one answered at the address of a bootstrap server.
    pub(crate) broker: Option<i32>,
    /// No other was ever heard of.
    pub(crate) only: bool,
}

impl Rivals {
    /// An answer told of the topic that is known.
    pub(crate) fn withdrawn(&mut self) {
        self.told = None;
    }

    /// Whether an answer told of another, which is not believed yet.
    pub(crate) fn are_told(&self) -> bool {
        self.told.is_some()
    }

    /// The topic is over: another has its name.
    pub(crate) fn bury(&mut self, id: TopicId) {
        self.told = None;
        if self.over.len() == MOST_OVER {
            self.over.pop_front();
        }
        self.over.push_back(id);
    }

    /// An answer told of another topic. Whether it is believed. `vacant`: the one that is known has vanished, on good grounds.
    pub(crate) fn believe(&mut self, id: TopicId, by: Teller, vacant: bool, now: Instant) -> bool {
        let is_over = self.over.contains(&id);
        if vacant && !is_over {
            return true;
        }
        let told = match self.told.take().filter(|told| told.id == id) {
            Some(told) => told.again(by),
            None => Told::first(id, by, now),
        };
        let period = now - told.since;
        let believed = if is_over {
            told.answers >= ANSWERS && period >= PERIOD_OVER
        } else {
            told.confirmed || (by.only && told.answers >= ANSWERS_OF_THE_ONLY) || (told.answers >= ANSWERS && period >= PERIOD)
        };
        self.told = Some(told).filter(|_| !believed);
        if believed {
            self.over.retain(|over| *over != id);
        }
        believed
    }
}

impl Told {
    fn first(id: TopicId, by: Teller, now: Instant) -> Self {
        Self {
            id,
            since: now,
            answers: 1,
            by: by.broker,
            confirmed: false,
        }
    }

    fn again(self, by: Teller) -> Self {
        let other = self.by.zip(by.broker).is_some_and(|(first, now)| first != now);
        Self {
            answers: self.answers.saturating_add(1),
            by: self.by.or(by.broker),
            confirmed: self.confirmed || other,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const OLD: TopicId = TopicId(Uuid::from_u128(1));
    const NEW: TopicId = TopicId(Uuid::from_u128(2));

    fn by(broker: i32) -> Teller {
        Teller {
            broker: Some(broker),
            only: false,
        }
    }

    #[test]
    fn two_brokers_are_believed_and_one_only_if_there_is_no_other() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        assert!(!rivals.believe(NEW, by(1), false, now));
        assert!(!rivals.believe(NEW, by(1), false, now));
        assert!(rivals.are_told());
        assert!(rivals.believe(NEW, by(2), false, now));
        assert!(!rivals.are_told());
        let only = Teller { broker: None, only: true };
        assert!(!rivals.believe(NEW, only, false, now));
        assert!(rivals.believe(NEW, only, false, now));
        assert!(rivals.believe(NEW, by(1), true, now), "the former one has vanished");
    }

    #[test]
    fn who_contradicts_makes_the_others_begin_anew() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        assert!(!rivals.believe(OLD, by(1), false, now));
        rivals.withdrawn();
        assert!(!rivals.believe(OLD, by(2), false, now));
        assert!(!rivals.believe(NEW, by(3), false, now));
        assert!(!rivals.believe(OLD, by(1), false, now));
    }

    #[test]
    fn one_broker_of_several_is_believed_after_some_seconds() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        for _ in 0..100 {
            assert!(!rivals.believe(NEW, by(1), false, now));
        }
        assert!(rivals.believe(NEW, by(1), false, now + PERIOD));
    }

    #[test]
    fn what_is_over_comes_back_only_if_nobody_says_otherwise_for_a_minute() {
        let now = Instant::now();
        let mut rivals = Rivals::default();
        rivals.bury(OLD);
        for round in 0..20 {
            assert!(!rivals.believe(OLD, by(round % 3), round % 2 == 0, now + PERIOD));
        }
        assert!(rivals.believe(OLD, by(1), false, now + PERIOD + PERIOD_OVER));
        for id in 0..100 {
            rivals.bury(TopicId(Uuid::from_u128(id)));
        }
        assert_eq!(rivals.over.len(), MOST_OVER);
    }
}
