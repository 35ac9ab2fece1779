//! How far a consumer group is with one partition: which records were started, which are settled, and what may be committed.
//!
//! Pure, and knows nothing of who works on the records. They are started in the order of their offsets and settled in any. What is
//! committed is the offset below which everything is settled; the settled stretches above go along in the commit's metadata, so
//! that whoever has the partition next does not work on them again.
//!
//! Invariant: nothing is committed, and nothing said to be settled, that was started and not settled.

mod position;

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

pub use position::{Position, TopicId};

/// The progress in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything below was started, or there was nothing to start.
    reached: i64,
    /// Started and not settled; all below `reached`.
    open: BTreeSet<i64>,
    /// Settled before this began, above `reached`: ascending, apart from each other.
    ahead: VecDeque<Range<i64>>,
}

impl Progress {
    /// Nothing is started; everything below `offset` is settled.
    pub fn at(offset: i64) -> Self {
        Self {
            reached: offset,
            open: BTreeSet::new(),
            ahead: VecDeque::new(),
        }
    }

    /// Goes on where another stopped.
    pub fn resume(position: Position) -> Self {
        let mut progress = Self::at(position.offset);
        progress.ahead = position.settled.into();
        progress.reach(position.offset);
        progress
    }

    /// Starts a record. False: nothing is to be done for it, it was started or settled before.
    pub fn start(&mut self, offset: i64) -> bool {
        if offset < self.reached {
            return false;
        }
        self.reach(offset);
        let settled = self.ahead.front().is_some_and(|range| range.contains(&offset));
        if !settled {
            self.open.insert(offset);
        }
        self.reach(offset.saturating_add(1));
        !settled
    }

    /// There is nothing to start below `offset`, but for what was.
    pub fn reach(&mut self, offset: i64) {
        self.reached = self.reached.max(offset);
        while self.ahead.front().is_some_and(|range| range.end <= self.reached) {
            self.ahead.pop_front();
        }
    }

    /// A record is settled. False: it was not open.
    pub fn settle(&mut self, offset: i64) -> bool {
        self.open.remove(&offset)
    }

    /// The log was cut off at `offset`: of what lies there or above nothing is known any more.
    pub fn cut_off(&mut self, offset: i64) {
        self.reached = self.reached.min(offset);
        self.open.split_off(&offset);
        self.ahead.retain_mut(|range| {
            range.end = range.end.min(offset);
            !range.is_empty()
        });
    }

    /// Behind the last record that was started or passed over: where reading goes on.
    pub fn reached(&self) -> i64 {
        self.reached
    }

    /// Records that were started and not settled.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What may be committed: everything below the offset is settled, and all of the stretches above are.
    pub fn position(&self) -> Position {
        let mut bounds = Vec::with_capacity(self.open.len());
        let mut from = self.open.first().copied().unwrap_or(self.reached);
        let offset = from;
        for open in &self.open {
            bounds.push(from..*open);
            from = open + 1;
        }
        bounds.push(from..self.reached);
        let ahead = self.ahead.iter().map(|range| range.start.max(self.reached)..range.end);
        let mut settled: Vec<Range<i64>> = Vec::new();
        for range in bounds.into_iter().chain(ahead).filter(|range| !range.is_empty()) {
            match settled.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => settled.push(range),
            }
        }
        // Nothing is open below: what was settled ahead has been come to.
        let offset = match settled.first() {
            Some(first) if first.start == offset => settled.remove(0).end,
            _ => offset,
        };
        Position { offset, settled }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(offset: i64, settled: &[(i64, i64)]) -> Position {
        let settled = settled.iter().map(|(start, end)| *start..*end).collect();
        Position { offset, settled }
    }

    #[test]
    fn what_is_settled_out_of_order_lies_above_the_lowest_open() {
        let mut progress = Progress::at(10);
        assert_eq!(progress.position(), position(10, &[]));
        assert!([10, 11, 14, 15].iter().all(|offset| progress.start(*offset)));
        assert!(!progress.start(14), "once");
        assert_eq!(progress.position(), position(10, &[(12, 14)]), "12 and 13 are for nobody");
        assert!(progress.settle(14) && !progress.settle(14) && !progress.settle(12));
        assert_eq!(progress.position(), position(10, &[(12, 15)]));
        progress.settle(10);
        assert_eq!(progress.position(), position(11, &[(12, 15)]));
        progress.settle(11);
        assert_eq!(progress.position(), position(15, &[]));
        progress.reach(100);
        assert_eq!(progress.position(), position(15, &[(16, 100)]));
        progress.settle(15);
        assert_eq!((progress.position(), progress.open()), (position(100, &[]), 0));
    }

    #[test]
    fn who_comes_next_leaves_out_what_was_settled_before() {
        let mut progress = Progress::resume(position(10, &[(12, 15), (20, 22)]));
        assert_eq!(progress.position(), position(10, &[(12, 15), (20, 22)]));
        let started: Vec<i64> = (5..25).filter(|offset| progress.start(*offset)).collect();
        assert_eq!(started, [10, 11, 15, 16, 17, 18, 19, 22, 23, 24]);
        started.iter().for_each(|offset| assert!(progress.settle(*offset)));
        assert_eq!(progress.position(), position(25, &[]));
    }

    #[test]
    fn what_lay_where_the_log_was_cut_off_is_neither_open_nor_settled() {
        let mut progress = Progress::resume(position(10, &[(12, 15), (20, 30)]));
        progress.start(10);
        progress.start(11);
        let mut early = progress.clone();
        early.cut_off(22);
        assert_eq!(early.position(), position(10, &[(12, 15), (20, 22)]));
        early.cut_off(11);
        assert_eq!((early.position(), early.reached()), (position(10, &[]), 11));
        assert!(early.start(11), "it is another record");
        progress.settle(10);
        progress.cut_off(5);
        assert_eq!((progress.position(), progress.open()), (position(5, &[]), 0));
    }

    #[test]
    fn what_was_settled_ahead_is_committed_when_it_is_come_to() {
        let mut progress = Progress::resume(position(10, &[(11, 20)]));
        progress.start(10);
        assert_eq!(progress.position(), position(10, &[(11, 20)]));
        progress.settle(10);
        assert_eq!(progress.position(), position(20, &[]));
    }

    proptest! {
        /// Records that exist are started in order and settled in any, and now and then another owner goes on from what was committed. Each
        /// record is settled, and none again that a commit has said to be settled.
        #[test]
        fn nothing_is_left_out_and_nothing_that_was_committed_comes_again(
            exists in prop::collection::vec(any::<bool>(), 1..80),
            steps in prop::collection::vec((0u8..8, any::<prop::sample::Index>()), 1..400),
        ) {
            let end = exists.len() as i64;
            let mut progress = Progress::at(0);
            let mut open: Vec<i64> = Vec::new();
            let (mut settled, mut committed) = (BTreeSet::new(), BTreeSet::new());
            let mut next = 0;
            let finish = std::iter::repeat_n((6u8, None), 400);
            let steps = steps.into_iter().map(|(step, which)| (step, Some(which)));
            for (step, which) in steps.chain(finish) {
                match step {
                    0..3 if next < end => {
                        if exists[next as usize] {
                            if progress.start(next) {
                                prop_assert!(!committed.contains(&next));
                                open.push(next);
                            } else {
                                prop_assert!(settled.contains(&next));
                            }
                        } else {
                            progress.reach(next + 1);
                        }
                        next += 1;
                    }
                    3..6 if !open.is_empty() => {
                        let offset = open.swap_remove(which.map_or(0, |which| which.index(open.len())));
                        prop_assert!(progress.settle(offset));
                        settled.insert(offset);
                    }
                    6 => {
                        // The end: everything that is left, then what is open.
                        if next < end {
                            if exists[next as usize] && progress.start(next) {
                                open.push(next);
                            }
                            progress.reach(next + 1);
                            next += 1;
                        } else if let Some(offset) = open.pop() {
                            progress.settle(offset);
                            settled.insert(offset);
                        }
                    }
                    7 => {
                        let position = progress.position();
                        let says = |offset: &i64| *offset < position.offset || position.settled.iter().any(|range| range.contains(offset));
                        for offset in (0..end).filter(says).filter(|offset| exists[*offset as usize]) {
                            prop_assert!(settled.contains(&offset), "{offset} of {position:?}");
                            committed.insert(offset);
                        }
                        next = position.offset;
                        progress = Progress::resume(position);
                        open.clear();
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(settled.len(), exists.iter().filter(|exists| **exists).count());
            prop_assert_eq!(progress.position(), Position { offset: end, settled: Vec::new() });
        }
    }
}
