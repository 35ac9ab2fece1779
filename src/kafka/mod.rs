//! The Kafka language: record batches v2, compression, CRC-32C, the error table.
//!
//! Requests and responses come from the `kafka-protocol` crate and are used in `upstream` only.

pub mod record;

pub use record::{Header, RecordFields};
