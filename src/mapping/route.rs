//! Which rules take a message, and why one cannot.

use super::draft::{Draft, Inbound};
use super::rules::{RuleId, RuleSet};
use super::spec::{OnError, Unmapped};

/// Why a message makes no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No rule matches; what then is to be done.
    Unmapped(Unmapped),
    /// A rule matches, but no record can be made of it.
    Refused(Refusal),
}

/// A rule that could not make a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub rule: RuleId,
    /// Why.
    pub reason: RefusalReason,
}

/// Why no record can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The topic template filled with the captures is no legal Kafka topic name.
    IllegalKafkaTopic,
    /// The rule names a partition that the topic does not have.
    NoSuchPartition,
    /// What the rule makes as a partition is no number.
    NotAPartition,
    /// What the rule makes as a timestamp is no time, or one more than an hour ahead.
    NotATimestamp,
    /// A template has the identity of a client that was recognised as nobody.
    NoIdentity,
    /// A template has a user property that the message has not.
    NoUserProperty,
    /// A template has a field of the payload, or a program reads it, and it is no JSON.
    NotJson,
    /// A template has a field that the payload has not, or that is no text, number or truth value.
    NoPayloadField,
    /// The payload is to be text, and is not UTF-8.
    NotText,
    /// The payload is to be CBOR, and is not.
    NotCbor,
    /// The rule's program ended with an error.
    TransformError,
    /// The rule's program was cut off: it took more steps, memory or stack than it may, or made too many records.
    TransformLimit,
    /// What the rule's program made is no value of the rule's format, or no record.
    TransformOutput,
    /// The rule's program looks into a table whose Kafka topic was not read to its end yet.
    NoTable,
    /// The rule's program looks for a row that its table has not, and that may have found no room in it.
    TableFull,
    /// The schema of the rule's values is not known: its registry was not reached yet, or has none that can be used.
    NoSchema,
    /// The payload is not as the schema says.
    SchemaMismatch,
    /// The payload, or what it becomes, is larger or deeper than is taken apart.
    ValueTooLarge,
}

impl RefusalReason {
    /// For metrics and reason strings.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalReason::IllegalKafkaTopic => "illegal_kafka_topic",
            RefusalReason::NoSuchPartition => "no_such_partition",
            RefusalReason::NotAPartition => "not_a_partition",
            RefusalReason::NotATimestamp => "not_a_timestamp",
            RefusalReason::NoIdentity => "no_identity",
            RefusalReason::NoUserProperty => "no_user_property",
            RefusalReason::NotJson => "not_json",
            RefusalReason::NoPayloadField => "no_payload_field",
            RefusalReason::NotText => "not_text",
            RefusalReason::NotCbor => "not_cbor",
            RefusalReason::TransformError => "transform_error",
            RefusalReason::TransformLimit => "transform_limit",
            RefusalReason::TransformOutput => "transform_output",
            RefusalReason::NoTable => "no_table",
            RefusalReason::TableFull => "table_full",
            RefusalReason::NoSchema => "no_schema",
            RefusalReason::SchemaMismatch => "schema_mismatch",
            RefusalReason::ValueTooLarge => "value_too_large",
        }
    }
}

impl RuleSet {
    /// Finds the rules of a message and drafts its records: that of the first ordinary rule, then the copies.
    pub fn route(&self, inbound: &Inbound<'_>, draft: &mut Draft) -> Result<(), NoRoute> {
        draft.clear();
        let mut found = std::mem::take(&mut draft.found);
        self.trie.matches(inbound.topic, &mut found);
        found.sort_unstable();
        // One that is found by its levels may have an expression that does not take the topic; what it captures tells both.
        let taking = |&id: &u32| Some((id, self.rules[id as usize].filter()?.captures(inbound.topic)?));
        let ordinary = found.iter().filter(|&&id| !self.rules[id as usize].also).find_map(taking);
        let copies = found.iter().filter(|&&id| self.rules[id as usize].also).filter_map(taking);
        let (mut outcome, mut unmapped) = (Ok(()), true);
        for (id, captured) in ordinary.into_iter().chain(copies) {
            unmapped = false;
            let rule = &self.rules[id as usize];
            if let Err(reason) = draft.add(id, rule, &captured, inbound) {
                let refusal = Refusal { rule: RuleId(id), reason };
                match rule.on_error {
                    OnError::Reject => {
                        outcome = Err(NoRoute::Refused(refusal));
                        break;
                    }
                    OnError::Skip => draft.skipped.push(refusal),
                    OnError::DeadLetter => draft.dead_letters.push(refusal),
                }
            }
        }
        if unmapped {
            outcome = Err(NoRoute::Unmapped(self.unmapped_topic(inbound.topic, &mut found)));
        }
        draft.found = found;
        outcome
    }
}
