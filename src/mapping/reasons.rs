//! Why something is refused or passed over, in words for people; metrics and programs have the names.

use super::route::RefusalReason;
use super::skip::SkipReason;

impl RefusalReason {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            RefusalReason::IllegalKafkaTopic => {
                "what the message puts into the name of the Kafka topic is not allowed there: letters, digits, `.`, `_` and `-`, 249 at most"
            }
            RefusalReason::NoSuchPartition => "the rule names a partition that the Kafka topic does not have",
            RefusalReason::NotAPartition => "what the rule's `partition` makes of the message is no number of a partition",
            RefusalReason::NotATimestamp => {
                "what the rule's `timestamp` makes of the message is neither milliseconds nor RFC 3339 in UTC, or more than an hour ahead"
            }
            RefusalReason::NoIdentity => "the rule has `{identity}`, and the client was recognised as nobody",
            RefusalReason::NoUserProperty => "the rule has `{user.NAME}`, and the message has no such user property",
            RefusalReason::NotJson => "the rule reads the payload as JSON, and it is none",
            RefusalReason::NoPayloadField => {
                "the rule has `{payload.FIELD}`, and the payload has no such field, or it is no text, number or truth value"
            }
            RefusalReason::NotText => "the rule reads the payload as text, and it is not UTF-8",
            RefusalReason::NotCbor => "the rule reads it as CBOR, and it is none",
            RefusalReason::TransformError => "the rule's program ended with an error",
            RefusalReason::TransformLimit => "the rule's program took more steps, memory or stack than it may, or made too many records",
            RefusalReason::TransformOutput => "what the rule's program made is no value of the rule's format, or no record",
            RefusalReason::NoTable => "the rule's program looks into a table that is not read yet",
            RefusalReason::TableFull => "the rule's program looks for a row that may have found no room in the table's `memory`",
            RefusalReason::NoSchema => "the schema of the rule's values is not known",
            RefusalReason::SchemaMismatch => "it is not as the schema of the rule's values says",
            RefusalReason::ValueTooLarge => "it is larger or deeper than is taken apart",
        }
    }
}

impl SkipReason {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            SkipReason::NoRule => "no rule delivers records of this Kafka topic",
            SkipReason::Copy => {
                "the record is a copy that a rule with `also: true` has made (it has the header `mqtt.copy`), and those are not delivered"
            }
            SkipReason::Tombstone => "its value is null, and the rule passes those over (`tombstones: skip`)",
            SkipReason::NoKey => "the rule makes the MQTT topic of the key, and the record has none",
            SkipReason::KeyNotUtf8 => "the rule makes the MQTT topic of the key, and that is not UTF-8",
            SkipReason::NoHeader => "the rule makes the MQTT topic of a header that the record lacks, or that is not UTF-8",
            SkipReason::OtherForm => {
                "the rule makes the MQTT topic of the name of the Kafka topic, the key and headers, and these do not look as the rule writes them"
            }
            SkipReason::NoInverse => {
                "the rule has `mqtt_regex` and a key of its own, so a record alone does not tell its MQTT topic: it needs the header `mqtt.topic`"
            }
            SkipReason::IllegalTopic => "what comes out is no MQTT topic: it is empty or too long, or holds `+`, `#` or U+0000",
            SkipReason::NotFramed => "the rule's values have a schema, and this one does not begin with the id of one",
            SkipReason::NoSchema => "the schema of the value is not known",
            SkipReason::SchemaMismatch => "the value is not as its schema says",
            SkipReason::ValueTooLarge => "the value is larger or deeper than is taken apart",
            SkipReason::NotSelected => "the rule's `transform_back` made nothing of it",
            SkipReason::Refused(reason) => reason.words(),
        }
    }
}
