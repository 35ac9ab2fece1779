//! Why a record is passed over.

use super::route::RefusalReason;
use super::rules::RuleId;

/// A record that is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The rule that came nearest.
    pub rule: Option<RuleId>,
    /// Why.
    pub reason: SkipReason,
}

/// Why a record is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// No rule reads this topic.
    NoRule,
    /// A copy of another record.
    Copy,
    /// Null value, and the rule does not deliver those.
    Tombstone,
    /// The topic needs a key and there is none.
    NoKey,
    /// The key is not UTF-8.
    KeyNotUtf8,
    /// The topic needs a header that is missing or not UTF-8.
    NoHeader,
    /// Key, topic or header do not have the form that the rule gives them.
    OtherForm,
    /// The rule has a regular expression and a key of its own: only `mqtt.topic` tells its topics.
    NoInverse,
    /// What results is no legal topic name.
    IllegalTopic,
    /// The rule says that values have a schema, and this one does not begin with the id of one.
    NotFramed,
    /// The schema of the value is not known: its registry has none that can be used, or could not be asked in time.
    NoSchema,
    /// The value is not as its schema says.
    SchemaMismatch,
    /// The value is larger or deeper than is taken apart.
    ValueTooLarge,
    /// The rule's program made nothing of it.
    NotSelected,
    /// The value is not of the rule's format, or the rule's program failed.
    Refused(RefusalReason),
}

impl SkipReason {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::NoRule => "no_rule",
            SkipReason::Copy => "copy",
            SkipReason::Tombstone => "tombstone",
            SkipReason::NoKey => "no_key",
            SkipReason::KeyNotUtf8 => "key_not_utf8",
            SkipReason::NoHeader => "no_header",
            SkipReason::OtherForm => "other_form",
            SkipReason::NoInverse => "no_inverse",
            SkipReason::IllegalTopic => "illegal_topic",
            SkipReason::NotFramed => "not_framed",
            SkipReason::NoSchema => "no_schema",
            SkipReason::SchemaMismatch => "schema_mismatch",
            SkipReason::ValueTooLarge => "value_too_large",
            SkipReason::NotSelected => "not_selected",
            SkipReason::Refused(reason) => reason.as_str(),
        }
    }
}
