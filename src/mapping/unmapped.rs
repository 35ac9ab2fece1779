//! What becomes of topics and filters that no rule maps: a rule may say it of those that it would map the other way round.

use super::filter::Filter;
use super::record_template::may_make;
use super::rules::{Rule, RuleSet, Shape};
use super::sources::{intersect, record_filter};
use super::spec::{Direction, Unmapped};

impl RuleSet {
    /// Of a message: what the first rule says that makes such topics of records, else the whole set. `found` is memory that is used again.
    pub(super) fn unmapped_topic(&self, topic: &str, found: &mut Vec<u32>) -> Unmapped {
        found.clear();
        self.unmapped_topics.matches(topic, found);
        found.retain(|&id| matches!(&self.rules[id as usize].shape, Shape::Record(levels, _) if may_make(levels, topic)));
        let first = found.iter().min().and_then(|&id| self.rules[id as usize].unmapped);
        found.clear();
        first.unwrap_or(self.unmapped)
    }

    /// Of a subscription: what the first rule says that takes a topic of it and delivers none, else the whole set.
    pub(super) fn unmapped_filter(&self, filter: &str) -> Unmapped {
        let takes = |rule: &&Rule| {
            let own = rule.filter().filter(|_| !rule.delivers() && rule.unmapped.is_some());
            own.is_some_and(|own| intersect(own, filter).is_some())
        };
        let first = self.rules.iter().find(takes).and_then(|rule| rule.unmapped);
        first.unwrap_or(self.unmapped)
    }

    /// The topics of a rule that has a word for them, and only reads.
    pub(super) fn note_unmapped(&mut self, rule: &Rule, id: u32) {
        if let (Direction::Subscribe, Some(_), Shape::Record(levels, _)) = (rule.direction, rule.unmapped, &rule.shape) {
            let filter: Filter = record_filter(levels);
            self.unmapped_topics.insert(&filter, id);
        }
    }
}
