//! The Kafka client: produce with proof, read partitions for many.
//!
//! [`Cluster`] is all that others hold. Behind it: one metadata loop, and for each broker a sender, a fetcher and a task that asks
//! for offsets, each with sockets of its own, so that none waits behind another. `accumulator` is the pure part: what a partition has
//! to send and what answers mean for it. Nothing here knows MQTT.

mod accumulator;
mod answers;
mod appender;
pub mod backoff;
mod batches;
mod bootstrap;
mod broker;
mod brokers;
mod by_id;
mod cluster;
mod connection;
mod counters;
mod dial;
mod fetch;
mod flying;
mod frame;
mod gathering;
mod group;
mod guard;
mod handover;
mod hints;
pub mod http;
mod identity;
mod inquiry;
mod janitor;
mod layouts;
mod listing;
mod look_up;
mod memory;
mod metadata;
mod naming;
mod offsets;
mod opening;
mod pace;
mod pieces;
mod produce;
mod pumps;
mod receipts;
mod reserved;
mod rights;
mod security;
mod sender;
mod settings;
mod singles;
mod standing;
mod state_topics;
mod stream;
mod table;
mod topics;
mod turn;
mod versions;
mod wire;

pub use answers::decode_answer;
pub use appender::{AppendError, Appender, WriteOptions};
pub use by_id::Located;
pub use cluster::Cluster;
pub use counters::{Counters, Label};
pub use fetch::{Chunk, Reader, Start};
pub use group::{
    AckKind, Acquired, AcquiredRange, Assigned, Commit, CommitError, Committed, Committer, Group, GroupEvent, GroupSettings, Lease,
    MOST_METADATA, MOST_USER_DATA, Revocation, ShareEvent, ShareGroup, ShareStart, Tenure, Terms, TopicPartition,
};
pub use listing::Lookout;
pub use receipts::{Outcome, Receipt, Receipts};
pub use reserved::Reserved;
pub use rights::{Operation, Rights};
pub use security::{SaslSettings, Secret, SecuritySettings, TlsSettings, TokenEndpoint, TokenSource};
pub use settings::{ConsumerSettings, Isolation, ProducerSettings, Settings, StateTopic};
pub use singles::{Fate, Single};
pub use standing::State;
pub use state_topics::Verdict;
pub use table::{Table, TableEvent};
pub use topics::{Partition, Topic, TopicId, TopicState};
