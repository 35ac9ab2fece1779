//! Under which leaders the records were written that a reader got (KIP-320): so that a log that was cut off is noticed.
//!
//! Each batch carries the epoch of the leader that took it. A fetch names the epoch of the last record that was read; a broker whose log
//! does not have that record (an unclean election took a replica that lacked it) answers with the largest epoch before it that
//! both may share, and where that ends in its own log (KIP-595).

/// Epochs that are remembered. A log that lost more leaders' records than that is gone through from the oldest on.
const MOST: usize = 16;

/// Epochs and the first offset that was read of each, both ascending. Empty for who has read only batches that name none.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    known: Vec<(i32, i64)>,
    /// Nothing was read yet: what is known is in which epoch the log ended where reading begins.
    is_start: bool,
}

impl Epochs {
    /// For who begins at `offset`, where the log ended under the leader of `epoch` (-1: not known). So it is noticed also by who has not
    /// read anything.
    pub(super) fn starting(epoch: i32, offset: i64) -> Self {
        let mut epochs = Self::default();
        epochs.note(epoch, offset);
        epochs.is_start = true;
        epochs
    }

    /// A batch of `epoch` was read whose first record is at `offset`.
    pub(super) fn note(&mut self, epoch: i32, offset: i64) {
        if std::mem::take(&mut self.is_start) && epoch >= 0 {
            self.known.clear();
        }
        if epoch <= self.last() {
            return;
        }
        if self.known.len() == MOST {
            self.known.remove(0);
        }
        self.known.push((epoch, offset));
    }

    /// The epoch of the last record that was read; -1 if not known.
    pub(super) fn last(&self) -> i32 {
        self.known.last().map_or(-1, |(epoch, _)| *epoch)
    }

    /// The broker shares nothing behind `epoch`, which ends at `end` in its log. Gives the offset up to which what was read until
    /// `position` is the same as there, as far as is known, and forgets what came behind it.
    pub(super) fn cut(&mut self, epoch: i32, end: i64, position: i64) -> i64 {
        let ours = self
            .known
            .iter()
            .find(|(known, _)| *known > epoch)
            .map_or(position, |(_, first)| *first);
        let shared = ours.min(end).max(0);
        self.known.retain(|(known, first)| *known <= epoch && *first < shared);
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(known: &[(i32, i64)]) -> Epochs {
        let mut epochs = Epochs::default();
        known.iter().for_each(|(epoch, first)| epochs.note(*epoch, *first));
        epochs
    }

    #[test]
    fn an_epoch_begins_with_its_first_batch() {
        let mut known = epochs(&[(3, 10), (3, 20), (5, 30)]);
        assert_eq!(known.last(), 5);
        known.note(-1, 40);
        assert_eq!(known.last(), 5);
        assert_eq!(known.known, [(3, 10), (5, 30)]);
        assert_eq!(Epochs::default().last(), -1);
    }

    /// Ours: epoch 4 up to 39, epoch 5 up to 99.
    #[test]
    fn what_is_shared_ends_where_either_log_leaves_the_epoch() {
        // Theirs: epoch 4 up to 49. What we have from 40 on is of another epoch.
        let mut known = epochs(&[(4, 0), (5, 40)]);
        assert_eq!((known.cut(4, 50, 100), known.last()), (40, 4));
        // Theirs: epoch 4 up to 19.
        let mut known = epochs(&[(4, 0), (5, 40)]);
        assert_eq!((known.cut(4, 20, 100), known.last()), (20, 4));
        // Theirs: epoch 5, but only up to 59.
        let mut known = epochs(&[(4, 0), (5, 40)]);
        assert_eq!((known.cut(5, 60, 100), known.last()), (60, 5));
        // Theirs: nothing that we have read.
        let mut known = epochs(&[(4, 10), (5, 40)]);
        assert_eq!((known.cut(2, 5, 100), known.last()), (5, -1));
    }

    /// The leader of epoch 5 said that the log ends at 100.
    #[test]
    fn who_has_read_nothing_knows_where_the_log_ended() {
        assert_eq!(Epochs::starting(-1, 100).last(), -1);
        let mut start = Epochs::starting(5, 100);
        assert_eq!((start.last(), start.cut(4, 60, 100)), (5, 60));
        assert_eq!(start.last(), -1);
        // The next leader has all of it, but nothing of that epoch, since nothing was written in it.
        let mut start = Epochs::starting(5, 100);
        assert_eq!((start.cut(4, 100, 100), start.last()), (100, -1));
        // What is read counts from there on, also if it is of an older epoch.
        let mut start = Epochs::starting(5, 100);
        start.note(4, 100);
        start.note(6, 110);
        assert_eq!(start.known, [(4, 100), (6, 110)]);
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let mut known = Epochs::default();
        (0..100).for_each(|epoch| known.note(epoch, i64::from(epoch) * 10));
        assert_eq!((known.known.len(), known.last()), (MOST, 99));
        assert_eq!(known.cut(98, 995, 1_000), 990);
    }
}
