//! The Kafka language: record batches v2, compression, CRC-32C, the error table, SASL's messages.
//!
//! Requests and responses come from the `kafka-protocol` crate and are used in `upstream` only. Record batches are our
//! own: they are the hot path, and no length in them may be trusted.

pub mod aborted;
pub mod acks;
pub mod batch;
pub mod compression;
pub mod error;
pub mod fetched;
pub mod record;
pub mod sasl;
pub mod split;
pub mod topic_pattern;

pub use acks::Acks;
pub use compression::Compression;
pub use record::{Header, RecordFields};
pub use topic_pattern::TopicPattern;
