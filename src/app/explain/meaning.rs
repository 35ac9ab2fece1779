//! What the codes of an answer mean: programs and metrics have the codes, people the words behind them.

use crate::mapping::{Reading, RefusalReason, SkipReason, Verdict};

/// Of a table whose rows only a running proxy reads.
const NO_TABLE: &str = "the rule's program looks into a table that is a Kafka topic, and `explain` reads no Kafka: give it rows in a file, as \
                        `lookup: {NAME: {topic: TOPIC, sample: FILE}}` in the rule";

/// What a rule makes of a message.
pub(super) fn of_verdict(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Refuses(reason) | Verdict::Buries(reason) => Some(of_refusal(*reason)),
        Verdict::Denied => Some("the Kafka topic holds the proxy's own state"),
        _ => None,
    }
}

/// What a rule makes of a record.
pub(super) fn of_reading(reading: &Reading) -> Option<&'static str> {
    match reading {
        Reading::Cannot(SkipReason::Refused(reason)) => Some(of_refusal(*reason)),
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
pub(super) fn of_passing(reason: SkipReason) -> Option<&'static str> {
    match reason {
        SkipReason::Refused(reason) => of_why(reason),
        reason => Some(reason.words()),
    }
}

fn of_refusal(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::NoTable => NO_TABLE,
        reason => reason.words(),
    }
}
