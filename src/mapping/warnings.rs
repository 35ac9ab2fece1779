//! What a rule set may be told although it is good: it does less than one might think.

use std::collections::HashSet;
use std::sync::Arc;

use super::fault::{Fault, Faults, Field};
use super::filter::{Filter, Level};
use super::inclusion::{Budget, covers, is_empty};
use super::inverse::lost_capture;
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::shadow::Takers;
use super::sources::intersect;
use super::tables::Table;

/// Tables that programs look into: their names, and which they are. Rules whose `lookup` says the same share the table.
type Used<'r> = HashSet<(&'r str, *const Table)>;

impl RuleSet {
    /// All that is to be told, in the order of the rules; each has the form of a fault and is none. Meant for when a file is checked.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut warnings = Faults { rule: 0, list: Vec::new() };
        let (mut takers, mut budget) = (Takers::default(), Budget::FILE);
        let used = self.used_tables();
        for (id, rule) in self.iter() {
            warnings.rule = id.0 as usize;
            let Some(filter) = rule.filter() else {
                warn_of_tables(rule, &used, &mut warnings);
                takers.add(id.0, rule);
                continue;
            };
            let mut reached = true;
            if let Some(told) = self.unreachable(id, rule, filter, &mut budget) {
                let (message, remedy) = told;
                warnings.add(filter.field(), Some(0), message, remedy);
                reached = false;
            } else if rule.also && !self.has_original(filter) {
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
            warn_of_tables(rule, &used, &mut warnings);
            if reached && rule.delivers() {
                warn_of_program(rule, &mut warnings);
                warn_of_strangers(rule, &mut warnings);
            }
            takers.add(id.0, rule);
        }
        warnings.list
    }

    /// Templates that stand for who the client is; each has the form of a fault. Meant for a file that lets everybody in as nobody, where
    /// every message of such a rule is refused.
    pub fn asking_who(&self) -> Vec<Fault> {
        let mut asking = Faults { rule: 0, list: Vec::new() };
        for (id, rule) in self.iter() {
            asking.rule = id.0 as usize;
            for field in rule.fields_with_identity() {
                let message =
                    "`{identity}` with `authentication: none`: everybody is let in as nobody, and all messages of this rule are refused";
                asking.add(field, None, message, "give `authentication` methods, or leave `{identity}` out");
            }
        }
        asking.list
    }

    /// Why no topic ever comes to a rule, as far as expressions tell it; what filters tell is a fault.
    fn unreachable(&self, id: RuleId, rule: &Rule, filter: &Filter, budget: &mut Budget) -> Option<(String, String)> {
        if filter.expression.is_some() && is_empty(filter, budget) {
            let message = "no topic name matches this expression: they have no `+`, `#` or line end";
            return Some((message.to_owned(), "mend it, or remove the rule".to_owned()));
        }
        if rule.also {
            return None;
        }
        let mut first = None;
        self.trie.any_meeting(filter, |other| {
            let before = self.rule(RuleId(other));
            let covered = before.filter().is_some_and(|wide| {
                let told = wide.expression.is_none() && filter.expression.is_none();
                other < id.0 && !before.also && !told && covers(wide, filter, budget)
            });
            first = covered.then_some(&before.name);
            covered
        });
        let first = first?;
        let message = format!("never reached: `{first}` before it takes every topic of this {}", kind(filter));
        Some((
            message,
            format!("place it before `{first}`, or make it `also: true` or `direction: subscribe`"),
        ))
    }

    fn used_tables(&self) -> Used<'_> {
        let conversions = self.iter().flat_map(|(_, rule)| &rule.conversion);
        let tables = conversions.flat_map(|conversion| conversion.tables_looked_into());
        let used = tables.filter(|(.., is_used)| *is_used);
        used.map(|(name, table, _)| (name, Arc::as_ptr(table))).collect()
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
    let (why, remedy) = if rule.chooses_keys() {
        let why = "the key of a record is what the program made it, and no capture can be read from it";
        (why.to_owned(), "leave the key to `kafka.key`")
    } else if filter.expression.is_some() {
        ("an expression beside a `key` tells no topic".to_owned(), "leave `key` out")
    } else if filter.has_wildcards() {
        let remedy = "write captures, and put them into the key or headers";
        ("nothing tells what `+` or `#` stands for".to_owned(), remedy)
    } else {
        let why = lost_capture(rule, filter).unwrap_or_else(|| "not every capture can be read back".to_owned());
        (why, "put each capture into a header of its own")
    };
    let message = format!("records of other producers reach no subscriber unless they have the header `mqtt.topic`: {why}");
    let remedy = format!("{remedy}, or write `direction: publish` if nothing is to come back");
    warnings.add(filter.field(), Some(0), message, remedy);
}

/// No fault: several rules may share what stands under `lookup`, and each look into its part.
fn warn_of_tables(rule: &Rule, used: &Used<'_>, warnings: &mut Faults) {
    for (name, table, _) in rule.conversion.iter().flat_map(|conversion| conversion.tables_looked_into()) {
        if used.contains(&(name, Arc::as_ptr(table))) {
            continue;
        }
        let message = format!("no program of the rule looks into the table `{name}`, nor does one of another rule that has it");
        let remedy = format!("leave it out, or write `lookup(\"{name}\"; KEY)` in the program");
        warnings.add(Field::Lookup, None, message, remedy);
    }
}

/// A message that is published and comes back is another one, or does not come back.
fn warn_of_program(rule: &Rule, warnings: &mut Faults) {
    let Some(conversion) = &rule.conversion else { return };
    if !conversion.topics.is_empty() {
        let message = "what the program sends to these topics does not come back to subscribers of this rule";
        let remedy = "write `direction: publish`, and rules with `direction: subscribe` for what is to come back";
        warnings.add(Field::KafkaTopics(0), Some(0), message, remedy);
    }
    if conversion.reshapes && conversion.back.is_none() {
        let message = "subscribers get what `transform` made of a payload, not what was published";
        let remedy = "write a `transform_back` that undoes it, or `transform_back: .` if they are to get that, or `direction: publish`";
        warnings.add(Field::Transform, Some(0), message, remedy);
    }
}

/// Whose a record is says only its header [MQTT-3.8.3-3].
fn warn_of_strangers(rule: &Rule, warnings: &mut Faults) {
    if !rule.client_header && rule.filter().is_some() {
        let message = "a subscription with No Local gets its client's own messages all the same: records do not tell whose they are";
        let remedy = "leave `client_header` out, or write `direction: publish` if nothing is to come back";
        warnings.add(Field::KafkaClientHeader, Some(0), message, remedy);
    }
}

/// What a rule's MQTT side is, in words.
fn kind(filter: &Filter) -> &'static str {
    match filter.expression {
        Some(_) => "expression",
        None => "filter",
    }
}
