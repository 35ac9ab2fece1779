//! Partitions for rules that do not ask for a key's: round-robin and sticky, counted for the whole process, of each Kafka topic by itself.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxBuildHasher;

use crate::mapping::{PartitionChoice, PartitionSpec, Rule, RuleSet};

/// Counters of a rule that writes to several Kafka topics, whose names need not be known before. Two topics may meet in one of them: then
/// they take their turns together.
const COUNTERS: usize = 64;

/// Where each rule stands.
#[derive(Debug)]
pub struct Spread {
    /// One counter of a rule for its only Kafka topic, or [`COUNTERS`].
    rules: Vec<Box<[AtomicU64]>>,
    /// Bytes after which a sticky rule goes on to the next partition: about one batch.
    batch: u64,
}

impl Spread {
    /// For these rules; a sticky rule stays with a partition for `batch` bytes.
    pub fn new(rules: &RuleSet, batch: usize) -> Self {
        Self::of(rules.iter().map(|(_, rule)| counters(rule)), batch)
    }

    fn of(counters: impl Iterator<Item = usize>, batch: usize) -> Self {
        Self {
            rules: counters.map(|count| (0..count).map(|_| AtomicU64::new(0)).collect()).collect(),
            batch: batch.max(1) as u64,
        }
    }

    /// The partition for a record of `bytes` by the rule of this index, below `count`.
    pub fn partition(&self, choice: PartitionChoice, (rule, topic): (usize, &str), bytes: usize, count: usize) -> usize {
        let turn = match choice {
            PartitionChoice::Index(index) => return index as usize,
            PartitionChoice::RoundRobin => self.counter(rule, topic).fetch_add(1, Ordering::Relaxed),
            PartitionChoice::Sticky => self.counter(rule, topic).fetch_add(bytes as u64 + 64, Ordering::Relaxed) / self.batch,
        };
        (turn % count.max(1) as u64) as usize
    }

    fn counter(&self, rule: usize, topic: &str) -> &AtomicU64 {
        match &*self.rules[rule] {
            [only] => only,
            several => &several[FxBuildHasher.hash_one(topic) as usize % several.len()],
        }
    }
}

/// How many counters a rule has.
fn counters(rule: &Rule) -> usize {
    let takes_turns = matches!(rule.partition, PartitionSpec::RoundRobin | PartitionSpec::Sticky);
    let is_one = rule.kafka_topic().is_some() && rule.topics().is_empty();
    if takes_turns && !is_one { COUNTERS } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{KafkaSpec, RuleSpec, Unmapped};

    #[test]
    fn round_robin_takes_turns_and_sticky_stays_for_a_batch() {
        let spread = Spread::of([1, 1].into_iter(), 1000);
        let turns: Vec<_> = (0..5)
            .map(|_| spread.partition(PartitionChoice::RoundRobin, (0, "t"), 10, 3))
            .collect();
        assert_eq!(turns, [0, 1, 2, 0, 1]);
        let turns: Vec<_> = (0..6)
            .map(|_| spread.partition(PartitionChoice::Sticky, (1, "t"), 436, 2))
            .collect();
        assert_eq!(turns, [0, 0, 1, 1, 0, 0]);
        assert_eq!(spread.partition(PartitionChoice::Index(7), (1, "t"), 1, 9), 7);
    }

    /// Two plants whose messages come in turn, and two partitions: with one counter each plant had one partition for itself.
    #[test]
    fn each_kafka_topic_of_a_rule_takes_its_own_turns() {
        let rule = RuleSpec {
            name: "plants".into(),
            mqtt: "{site}/telemetry".into(),
            kafka: KafkaSpec {
                topic: "plant-{site}".into(),
                partition: Some(PartitionSpec::RoundRobin),
                ..KafkaSpec::default()
            },
            ..RuleSpec::default()
        };
        let spread = Spread::new(&RuleSet::compile(vec![rule], Unmapped::Reject).unwrap(), 1000);
        let turn = |topic| spread.partition(PartitionChoice::RoundRobin, (0, topic), 10, 2);
        let turns: Vec<_> = (0..4).map(|_| (turn("plant-north"), turn("plant-south"))).collect();
        assert_eq!(turns, [(0, 0), (1, 1), (0, 0), (1, 1)]);
    }
}
