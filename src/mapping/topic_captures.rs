//! The captures of a rule that only reads: the holes of its Kafka topic, `plant-{site}`. Each takes as little as it can, the last what is left.

use super::fault::{Faults, Field};
use super::filter::Filter;
use super::said::is_reserved;
use super::spec::{Direction, RuleSpec};
use super::template::{MAX_CAPTURES, Token, lex};
use super::transform::named_in;

impl Filter {
    /// The captures of a rule's Kafka topic, without levels. What cannot be read at all is told elsewhere.
    pub(super) fn of_topic(written: &str, faults: &mut Faults) -> Filter {
        let mut captures: Vec<(String, usize)> = Vec::new();
        let tokens = lex(written).unwrap_or_default();
        let mut parted = true;
        for token in &tokens {
            let Token::Hole { at, name, .. } = token else {
                parted = true;
                continue;
            };
            if let Some((message, remedy)) = wrong(name, &captures, parted) {
                faults.add(Field::KafkaTopic, Some(*at), message, remedy);
            }
            parted = false;
            captures.push((name.clone(), *at));
        }
        captures.truncate(MAX_CAPTURES);
        Filter {
            levels: Vec::new(),
            captures,
            expression: None,
        }
    }
}

/// What is wrong with the next capture, and what would be right.
fn wrong(name: &str, before: &[(String, usize)], parted: bool) -> Option<(String, &'static str)> {
    let of_record = matches!(name, "key" | "partition" | "topic") || name.starts_with("header.");
    if of_record || is_reserved(name) {
        let message = format!("`{{{name}}}` is no capture of a Kafka topic");
        return Some((message, "give the capture another name"));
    }
    if before.iter().any(|(known, _)| known == name) {
        let message = format!("the capture `{{{name}}}` is named twice");
        return Some((message, "give each capture a name of its own"));
    }
    if !parted {
        let message = format!("nothing tells where the capture before `{{{name}}}` ends");
        return Some((message, "write text between two captures"));
    }
    let message = || format!("more than {MAX_CAPTURES} captures");
    (before.len() == MAX_CAPTURES).then(|| (message(), "make one of several"))
}

/// The captures that the program of a rule knows if it only reads; `None`: they cannot be read.
pub(super) fn known_to_programs<'f>(spec: &RuleSpec, captures: &'f Filter) -> Option<&'f Filter> {
    (spec.direction == Direction::Subscribe && lex(&spec.kafka.topic).is_ok()).then_some(captures)
}

/// Tells captures of the Kafka topic that neither the MQTT topic nor the program uses. One whose name begins with `_` need not be used.
pub(super) fn check_unused(captures: &Filter, spec: &RuleSpec, faults: &mut Faults) {
    let Ok(tokens) = lex(&spec.mqtt) else { return };
    let variables = named_in(&spec.transform_back);
    let uses = |wanted: &str| {
        let is = |token: &Token| matches!(token, Token::Hole { name, .. } if name == wanted || name == "topic");
        let in_program = variables.iter().any(|variable| variable.strip_prefix('$') == Some(wanted));
        in_program || tokens.iter().any(is)
    };
    for (name, at) in captures.captures.iter().filter(|(name, _)| !name.starts_with('_')) {
        if !uses(name) {
            let message = format!("`mqtt` does not use the capture `{{{name}}}`");
            let remedy = format!(
                "use it there or in `transform_back`, or write `{{_{name}}}` if all these Kafka topics become the same MQTT topics"
            );
            faults.add(Field::KafkaTopic, Some(*at), message, remedy);
        }
    }
}
