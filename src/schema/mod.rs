//! Values of records that have a schema in a registry: Avro, JSON Schema and Protobuf, each to JSON and back, in Confluent's framing.
//!
//! Pure: a schema is compiled once from its text and those that it refers to, and immutable from then on. Payloads and records are
//! strangers' bytes: what they may cost is bounded here ([`LARGEST`], [`DEEPEST`], [`MOST_VALUES`]).

mod addresses;
mod avro;
mod catalog;
mod chains;
mod compiled;
mod framing;
mod json;
mod json_schema;
mod misfit;
mod protobuf;
mod stack;
mod text;
mod unfolded;

pub use catalog::{Catalog, Known, Unread, Writer, Written};
pub use compiled::{Format, Schema};
pub use framing::{Framed, Unframed};
pub use json::Json;
pub use misfit::{Misfit, Why};
pub use text::{LARGEST_SCHEMA, SchemaText};

/// Bytes of the largest value that is taken apart.
pub const LARGEST: usize = 1 << 20;
/// How deep values may lie in each other.
pub const DEEPEST: usize = 64;
/// How many values there may be within one, and how many may be tried where a union leaves a choice.
pub const MOST_VALUES: usize = 1 << 18;

#[cfg(test)]
mod tests;
