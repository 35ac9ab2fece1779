//! What a rule set may be told although it is good: it does less than one might think.

use super::fault::{Fault, Faults, Field};
use super::filter::{Filter, Level};
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::shadow::Takers;
use super::sources::intersect;

impl RuleSet {
    /// All that is to be told, in the order of the rules; each has the form of a fault and is none. Meant for when a file is checked.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut warnings = Faults { rule: 0, list: Vec::new() };
        let mut takers = Takers::default();
        for (id, rule) in self.iter() {
            warnings.rule = id.0 as usize;
            let Some(filter) = rule.filter() else {
                takers.add(id.0, rule);
                continue;
            };
            if rule.also && !self.has_original(filter) {
                let message = "no ordinary rule takes a topic of this filter: these would be copies of nothing, which no subscriber gets";
                warnings.add(Field::Also, Some(0), message, "leave `also` out, or write the rule that it copies");
            } else if rule.delivers() && !rule.has_inverse {
                warn_of_inverse(rule, filter, &mut warnings);
            } else if let Some(first) = takers.before(rule) {
                let first = &self.rule(first).name;
                let message = format!("what other producers write to its Kafka topic all goes to `{first}` before it");
                let remedy = format!("place it before `{first}`; it has the records that the proxy stores by it in any case");
                warnings.add(Field::KafkaTopic, Some(0), message, remedy);
            }
            takers.add(id.0, rule);
        }
        warnings.list
    }

    /// Whether some ordinary rule takes one of these topics, as far as can be told.
    fn has_original(&self, filter: &Filter) -> bool {
        let level = |level: &Level| match level {
            Level::Literal(text) => text.clone(),
            Level::One(_) => "+".to_owned(),
            Level::Rest(_) => "#".to_owned(),
        };
        let topics = filter.levels.iter().map(level).collect::<Vec<_>>().join("/");
        self.trie.any_meeting(filter, |id| {
            let rule = self.rule(RuleId(id));
            !rule.also && rule.filter().is_some_and(|own| intersect(own, &topics).is_some())
        })
    }
}

fn warn_of_inverse(rule: &Rule, filter: &Filter, warnings: &mut Faults) {
    let Shape::Filter(..) = rule.shape else { return };
    let (why, remedy) = if filter.expression.is_some() {
        ("an expression beside a `key` tells no topic", "leave `key` out")
    } else if filter.has_wildcards() {
        (
            "nothing tells what `+` or `#` stands for",
            "write captures, and put them into the key or headers",
        )
    } else {
        (
            "not every capture can be read back from the Kafka topic, the key and headers",
            "put each into a header of its own",
        )
    };
    let message = format!("records of other producers reach no subscriber unless they have the header `mqtt.topic`: {why}");
    let remedy = format!("{remedy}, or write `direction: publish` if nothing is to come back");
    warnings.add(filter.field(), Some(0), message, remedy);
}
