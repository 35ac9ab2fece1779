//! What becomes of the retain flag of a message, beside its records.

use serde_json::{Value, json};

use crate::mapping::{ExplainedPublish, RuleSet};

/// What the running proxy retains of it. `None`: it has no such flag, or the answer says that it is refused.
pub(super) fn told(mqtt: &str, retain: bool, explained: &ExplainedPublish, rules: &RuleSet, topic: &str) -> Option<Value> {
    let is_taken = retain && explained.denied.is_none() && explained.retain_denied.is_none();
    let records = explained.outcome.as_ref().ok().filter(|_| is_taken)?;
    let mut ordinary = records.iter().filter(|record| !record.dead_letter && !rules.rule(record.rule).also);
    let (kept, then) = match ordinary.next() {
        None if records.is_empty() => (false, "nothing: no record is made of the message, so it is not retained".to_owned()),
        None => (
            false,
            "nothing: only a rule without `also` retains a message, and it has made no record but dead letters".to_owned(),
        ),
        Some(record) if !rules.rule(record.rule).keeps_retained() => {
            let rule = &rules.rule(record.rule).name;
            (
                false,
                format!("nothing: rule {rule} only writes (`direction: publish`), so no subscription would get it"),
            )
        }
        Some(record) if record.value.as_deref().unwrap_or_default().is_empty() => (
            true,
            format!("cleared: an empty message takes what is retained of {mqtt} out of {topic}"),
        ),
        Some(_) => (
            true,
            format!("the running proxy also keeps it in {topic}, as the retained message of {mqtt}"),
        ),
    };
    let topic = kept.then_some(topic);
    Some(json!({"kept": kept, "topic": topic, "then": then}))
}
