//! Which broker is asked for metadata: the same one, as long as its answers help.
//!
//! A broker that is cut off from the controllers goes on answering, and tells what was. Whoever meets an error then doubts what is known and
//! gets the same answer again. So a broker that has told nothing new for a while to those who doubt is left for the next one; ever more
//! slowly, since each change costs a connection, and what they doubt may just be true.

use std::time::{Duration, Instant};

use super::{backoff, bootstrap::Among};

/// How long answers may tell nothing new to those who doubt, at first and at most. Devices wait meanwhile, should they be right; if they are not,
/// it is a connection every few seconds that each change costs.
const PATIENCE: Duration = Duration::from_millis(500);
const MOST_PATIENCE: Duration = Duration::from_secs(2);
/// Whoever doubts asks again within a second. Doubts that are so much further apart have nothing to do with each other, and what was in vain
/// then makes nobody patient now: a broker that comes back after a pause is no news, since its heirs lead on.
const OTHER_TROUBLE: Duration = Duration::from_secs(3);

/// What an answer was worth, or a piece of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Worth {
    /// It told something new.
    pub(crate) news: bool,
    /// It told something that was: the broker is late.
    pub(crate) late: bool,
}

impl Worth {
    pub(crate) const LATE: Self = Self { news: false, late: true };

    /// Of both pieces.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            news: self.news || other.news,
            late: self.late || other.late,
        }
    }
}

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Turn {
    /// Counts the changes.
    count: usize,
    /// Changes since an answer told something new.
    in_vain: u32,
    /// Since when answers have told nothing new to those who doubt, and when one did so last.
    barren_since: Option<Instant>,
    barren_last: Option<Instant>,
}

impl Turn {
    /// The brokers, in the order in which they are tried.
    pub(crate) fn among(&self) -> Among {
        Among::All(self.count)
    }

    /// The next broker comes first.
    pub(crate) fn pass(&mut self) {
        self.count = self.count.wrapping_add(1);
        self.barren_since = None;
    }

    /// A broker has answered. `doubted`: somebody doubts what is known, or misses something. True: the next broker comes first from here on.
    pub(crate) fn answered(&mut self, worth: Worth, doubted: bool, now: Instant) -> bool {
        if worth.news {
            (self.in_vain, self.barren_since) = (0, None);
        } else if doubted {
            let last = self.barren_last.replace(now);
            if last.is_some_and(|last| now - last > OTHER_TROUBLE) {
                (self.in_vain, self.barren_since) = (0, None);
            }
            let since = *self.barren_since.get_or_insert(now);
            if now - since >= backoff::wait(self.in_vain, PATIENCE, MOST_PATIENCE) {
                self.in_vain = self.in_vain.saturating_add(1);
                self.pass();
                return true;
            }
        }
        if worth.late {
            self.pass();
        }
        worth.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers, a tenth of a second apart, until the next broker comes first.
    fn answers(turn: &mut Turn, now: &mut Instant) -> usize {
        let mut count = 0;
        loop {
            *now += Duration::from_millis(100);
            count += 1;
            if turn.answered(Worth::default(), true, *now) {
                return count;
            }
        }
    }

    const NEWS: Worth = Worth { news: true, late: false };

    #[test]
    fn a_broker_that_tells_nothing_new_is_left_later_each_time() {
        let (mut turn, mut now) = (Turn::default(), Instant::now());
        for (least, most) in [(5, 7), (9, 13), (17, 25), (17, 25)] {
            let count = answers(&mut turn, &mut now);
            assert!((least..=most).contains(&count), "{count}");
        }
        assert!(!turn.answered(NEWS, true, now));
        assert!(answers(&mut turn, &mut now) <= 7, "news begin anew");
        assert!(matches!(turn.among(), Among::All(5)));
    }

    /// A leader is paused, others lead, and until it goes on all that it owes is doubted; it comes back, and nobody doubts any more. The next
    /// leader is paused, and the broker that is asked is the last to hear of it.
    #[test]
    fn what_was_doubted_in_vain_makes_nobody_patient_in_the_next_trouble() {
        for others_answer in [false, true] {
            let (mut turn, mut now) = (Turn::default(), Instant::now());
            for _ in 0..4 {
                answers(&mut turn, &mut now);
            }
            now += Duration::from_secs(5);
            if others_answer {
                assert!(!turn.answered(Worth::default(), false, now), "it is as old as metadata become");
                now += Duration::from_secs(5);
            }
            let count = answers(&mut turn, &mut now);
            assert!(count <= 7, "{count}");
        }
    }

    #[test]
    fn a_broker_that_tells_what_was_is_left_at_once() {
        let mut turn = Turn::default();
        assert!(turn.answered(NEWS.with(Worth::LATE), false, Instant::now()));
        assert!(matches!(turn.among(), Among::All(1)));
    }

    #[test]
    fn where_nobody_doubts_an_answer_without_news_is_a_good_one() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        for seconds in 0..100 {
            assert!(!turn.answered(Worth::default(), false, now + Duration::from_secs(seconds)));
        }
    }
}
