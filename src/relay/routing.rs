//! Where a message goes by the rules, what it waits for before that can be said, and what its device is told if it goes nowhere.

use super::{Shared, desk::Desk, inbound::Wait};
use crate::{
    audit::cut,
    mapping::{Draft, Inbound, Made, NoRoute, RefusalReason, RuleSet, Unmapped},
    mqtt::ReasonCode,
    resources::LiveTables,
    session::Answer,
};

impl Shared {
    /// Drafts the records of a message.
    ///
    /// # Errors
    /// A program looks into a table that is not read yet, and there is still time to wait for it.
    pub(super) fn route(&self, inbound: &Inbound<'_>, draft: &mut Draft) -> Result<Result<(), NoRoute>, Wait> {
        route(&self.rules, &self.hub.tables, inbound, draft)
    }
}

/// The same for who may wait.
pub(super) async fn routed(rules: &RuleSet, tables: Option<&LiveTables>, inbound: &Inbound<'_>, draft: &mut Draft) -> Result<(), NoRoute> {
    let Some(tables) = tables else {
        return rules.route(inbound, draft);
    };
    loop {
        match route(rules, tables, inbound, draft) {
            Err(Wait::Table(pending)) => tables.progressed(pending).await,
            Err(_) => unreachable!("routing waits for tables only"),
            Ok(routed) => return routed,
        }
    }
}

fn route(rules: &RuleSet, tables: &LiveTables, inbound: &Inbound<'_>, draft: &mut Draft) -> Result<Result<(), NoRoute>, Wait> {
    let routed = rules.route(inbound, draft);
    if !lacks_table(draft) {
        return Ok(routed);
    }
    let Some(pending) = tables.pending() else { return Ok(routed) };
    // Once more: the table may have been read between the first look and the question how many are not.
    let routed = rules.route(inbound, draft);
    if lacks_table(draft) {
        return Err(Wait::Table(pending));
    }
    Ok(routed)
}

fn lacks_table(draft: &Draft) -> bool {
    let lacks = |made| made == Made::Refused(RefusalReason::NoTable);
    draft.ran().iter().any(|ran| lacks(ran.made))
}

/// Whether a message is refused, or buried, for want of something that this instance may have later: a table, or a schema of a registry.
pub(super) fn lacks_what_may_come(routed: Result<(), NoRoute>, draft: &Draft) -> bool {
    let may_come = |reason| matches!(reason, RefusalReason::NoTable | RefusalReason::TableFull | RefusalReason::NoSchema);
    let refused = matches!(routed, Err(NoRoute::Refused(refusal)) if may_come(refusal.reason));
    refused || draft.dead_letters().iter().any(|refusal| may_come(refusal.reason))
}

impl Desk {
    /// A message that makes no record.
    pub(super) fn no_route(&self, none: NoRoute, inbound: &Inbound<'_>) -> Answer {
        let (why, unmapped) = match none {
            NoRoute::Unmapped(unmapped) => ("unmapped", unmapped),
            NoRoute::Refused(refusal) => (refusal.reason.as_str(), Unmapped::Reject),
        };
        self.shared.metrics.refused(why);
        tracing::debug!(
            client = &*cut(inbound.client),
            topic = &*cut(inbound.topic),
            why,
            "a message makes no record"
        );
        match unmapped {
            Unmapped::Reject => Answer::Refused {
                reason: reason_of(none),
                reason_string: Some(why),
            },
            Unmapped::Drop => Answer::Acked,
        }
    }

    pub(super) fn count_skipped(&self, draft: &Draft) {
        for refusal in draft.skipped() {
            self.shared.rule_counters[refusal.rule.0 as usize].skipped(refusal.reason.as_str());
        }
    }

    /// Counts the runs of programs; each once for a message, also if it is routed again because it waited.
    pub(super) fn count_runs(&self, draft: &Draft, inbound: &Inbound<'_>) {
        for ran in draft.ran() {
            let counters = &self.shared.rule_counters[ran.rule.0 as usize];
            counters.transform_steps.inc_by(ran.steps);
            match ran.made {
                Made::Records(_) => {}
                Made::Nothing => counters.dropped("not_selected"),
                Made::Refused(reason) => {
                    counters.transform_failed(reason.as_str());
                    let (client, topic, words) = (cut(inbound.client), cut(inbound.topic), draft.trouble().map(cut));
                    let why = reason.as_str();
                    tracing::debug!(
                        client = &*client,
                        topic = &*topic,
                        why,
                        words = words.as_deref(),
                        "a transform failed"
                    );
                }
            }
        }
    }
}

/// What the device is told of a message that makes no record: what of it is wrong.
pub(super) fn reason_of(none: NoRoute) -> ReasonCode {
    let NoRoute::Refused(refusal) = none else {
        return ReasonCode::TopicNameInvalid;
    };
    match refusal.reason {
        RefusalReason::IllegalKafkaTopic | RefusalReason::NoSuchPartition => ReasonCode::TopicNameInvalid,
        RefusalReason::NotJson
        | RefusalReason::NotText
        | RefusalReason::NotCbor
        | RefusalReason::NoPayloadField
        | RefusalReason::SchemaMismatch
        | RefusalReason::ValueTooLarge => ReasonCode::PayloadFormatInvalid,
        RefusalReason::NotAPartition
        | RefusalReason::NotATimestamp
        | RefusalReason::NoIdentity
        | RefusalReason::NoUserProperty
        | RefusalReason::TransformError
        | RefusalReason::TransformLimit
        | RefusalReason::TransformOutput
        | RefusalReason::NoTable
        | RefusalReason::TableFull
        | RefusalReason::NoSchema => ReasonCode::ImplementationSpecificError,
    }
}
