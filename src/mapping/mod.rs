//! Rules between MQTT and Kafka: PUBLISH to record, record to PUBLISH, subscriber's filter to Kafka topics.
//!
//! Pure and immutable: a rule set is compiled once and shared. It holds no socket, clock or counter; the relay drives
//! it with a `Draft`, a `LocateScratch` and `SharedProperties` of its own, which make both ways free of allocation
//! once they are warm.

mod checks;
mod compile;
mod dead_letter;
mod deliver;
mod draft;
mod explain;
mod explain_record;
mod expression;
mod fault;
mod filter;
mod format;
mod headers;
mod inclusion;
mod inverse;
mod jq;
mod locate;
mod own_headers;
mod partition;
mod pieces;
mod prefixes;
mod reader;
mod reasons;
mod record_template;
mod restore;
mod route;
mod rules;
mod said;
mod sample;
mod schema;
mod shadow;
mod skip;
mod sources;
mod spec;
mod tables;
mod template;
mod text;
mod topic_captures;
mod transform;
mod trie;
mod unmapped;
mod warnings;

pub use dead_letter::{DeadLetter, Failure, Stage};
pub use deliver::{Delivered, Stored};
pub use draft::{Draft, Inbound, PartitionChoice};
pub use explain::{Denied, ExplainedPublish, ExplainedRecord, Verdict};
pub use explain_record::{ExplainedDelivery, ExplainedMessage, Reading, SampleRecord};
pub use fault::{Fault, Field};
pub use filter::illegal_kafka_topic;
pub use format::Format;
pub use jq::{Array, Envelope, Fields, Object, Value, steps_taken};
pub use locate::{LocateScratch, Located};
pub use partition::{murmur2, partition_for_key};
pub use pieces::Known;
pub use reader::Reader;
pub use restore::Restored;
pub use route::{NoRoute, Refusal, RefusalReason};
pub use rules::{Rule, RuleId, RuleSet, TopicSlot};
pub use sample::{Sample, SamplePacket};
pub use schema::{MissingSchema, SchemaSpec, Unwritable, Writing};
pub use skip::{Skip, SkipReason};
pub use sources::{KafkaTopics, Source};
pub use spec::{
    Acknowledge, Direction, KafkaSpec, OnError, Overflow, PartitionSpec, Retain, RuleSpec, Timestamp, Tombstones, Unmapped, ValueSpec,
};
pub use tables::{LARGEST_TABLE, Put, Table, TopicRows, TopicTable, Written};
pub use transform::{Made, Ran};

#[cfg(test)]
mod tests;
