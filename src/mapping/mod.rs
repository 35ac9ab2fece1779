//! Rules between MQTT and Kafka: PUBLISH to record, record to PUBLISH, subscriber's filter to Kafka topics.
//!
//! Pure and immutable: a rule set is compiled once and shared. It holds no socket, clock or counter; the relay drives
//! it with a `Draft` and a `DeliverScratch` of its own, which make both ways free of allocation once they are warm.

mod block;
mod compile;
mod deliver;
mod draft;
mod fault;
mod filter;
mod partition;
mod rules;
mod skip;
mod sources;
mod spec;
mod template;
mod trie;

pub use deliver::{DeliverScratch, Delivered, Reader, Stored};
pub use draft::{Draft, Inbound, NoRoute, PartitionChoice, Refusal, RefusalReason};
pub use fault::{Fault, Field};
pub use partition::{murmur2, partition_for_key};
pub use rules::{Rule, RuleId, RuleSet, TopicSlot};
pub use skip::{Skip, SkipReason};
pub use sources::{NoSources, Source};
pub use spec::{Acknowledge, Direction, KafkaSpec, OnError, Overflow, PartitionSpec, Retain, RuleSpec, Tombstones, Unmapped};

#[cfg(test)]
mod tests;
