//! Partitions for rules that do not ask for a key's: round-robin and sticky, counted for the whole process.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mapping::{PartitionChoice, RuleId};

/// Where each rule stands.
#[derive(Debug)]
pub struct Spread {
    rules: Vec<AtomicU64>,
    /// Bytes after which a sticky rule goes on to the next partition: about one batch.
    batch: u64,
}

impl Spread {
    /// For so many rules; a sticky rule stays with a partition for `batch` bytes.
    pub fn new(rules: usize, batch: usize) -> Self {
        Self {
            rules: (0..rules).map(|_| AtomicU64::new(0)).collect(),
            batch: batch.max(1) as u64,
        }
    }

    /// The partition for a record of `bytes`, below `count`.
    pub fn partition(&self, choice: PartitionChoice, rule: RuleId, bytes: usize, count: usize) -> usize {
        let turn = match choice {
            PartitionChoice::Index(index) => return index as usize,
            PartitionChoice::RoundRobin => self.rules[rule.0 as usize].fetch_add(1, Ordering::Relaxed),
            PartitionChoice::Sticky => self.rules[rule.0 as usize].fetch_add(bytes as u64 + 64, Ordering::Relaxed) / self.batch,
        };
        (turn % count.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_takes_turns_and_sticky_stays_for_a_batch() {
        let spread = Spread::new(2, 1000);
        let turns: Vec<_> = (0..5)
            .map(|_| spread.partition(PartitionChoice::RoundRobin, RuleId(0), 10, 3))
            .collect();
        assert_eq!(turns, [0, 1, 2, 0, 1]);
        let turns: Vec<_> = (0..6)
            .map(|_| spread.partition(PartitionChoice::Sticky, RuleId(1), 436, 2))
            .collect();
        assert_eq!(turns, [0, 0, 1, 1, 0, 0]);
        assert_eq!(spread.partition(PartitionChoice::Index(7), RuleId(1), 1, 9), 7);
    }
}
