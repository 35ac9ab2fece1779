//! What the codes of an answer mean: programs and metrics have the codes, people the words behind them.

use crate::mapping::{Reading, RefusalReason, Rule, RuleId, SkipReason, Verdict};

/// Of a table whose rows only a running proxy reads.
const NO_TABLE: &str = "the rule's program looks into a table that is a Kafka topic, and `explain` reads no Kafka: give it rows in a file, as \
                        `lookup: {NAME: {topic: TOPIC, sample: FILE}}` in the rule";

/// Of a record whose topic is not told by `mqtt.topic`, where that could tell it.
const OTHER_FORM: &str =
    "the record has no header `mqtt.topic` that tells a topic, and its Kafka topic, key or headers do not look as the rule writes them";

/// What a code means, and what it is that is missing or odd in this message or record.
pub(super) fn with_detail(words: Option<&'static str>, details: &[(RuleId, String)], id: Option<RuleId>) -> Option<String> {
    let detail = details.iter().find(|(own, _)| Some(*own) == id);
    let words = words?;
    Some(detail.map_or_else(|| words.to_owned(), |(_, detail)| format!("{words}: {detail}")))
}

/// What a rule makes of a message.
pub(super) fn of_verdict(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Refuses(reason) | Verdict::Skips(reason) | Verdict::Buries(reason) => Some(of_refusal(*reason)),
        Verdict::Denied => Some("the Kafka topic holds the proxy's own state"),
        _ => None,
    }
}

/// What a rule makes of a record.
pub(super) fn of_reading(reading: &Reading, rule: &Rule) -> Option<&'static str> {
    match reading {
        Reading::Cannot(SkipReason::Refused(reason)) => Some(of_refusal(*reason)),
        Reading::Cannot(SkipReason::OtherForm) if rule.publishes() => Some(OTHER_FORM),
        Reading::Cannot(reason) => Some(reason.words()),
        _ => None,
    }
}

/// Why a message is refused.
pub(super) fn of_why(reason: RefusalReason) -> Option<&'static str> {
    // That one says all in the answer itself.
    Some(reason).filter(|reason| *reason != RefusalReason::NoTable).map(of_refusal)
}

/// Why a record is passed over.
pub(super) fn of_passing(reason: SkipReason, rule: Option<&Rule>) -> Option<&'static str> {
    match reason {
        SkipReason::Refused(reason) => of_why(reason),
        SkipReason::OtherForm if rule.is_some_and(Rule::publishes) => Some(OTHER_FORM),
        reason => Some(reason.words()),
    }
}

fn of_refusal(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::NoTable => NO_TABLE,
        reason => reason.words(),
    }
}
