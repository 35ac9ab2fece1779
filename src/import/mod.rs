//! Configurations of other gateways, read and written anew as `proxy.yaml`: text in, text out.
//!
//! What is written makes the same records: the same Kafka topic, key and value for each message. Each setting that has no equal is told in a
//! comment, with its line and why.

mod confluent;
mod emqx;
mod expression;
mod jaas;
mod naming;
mod properties;
mod yaml;

pub use confluent::confluent;
pub use emqx::emqx;

/// A file that is read.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user named it, for comments.
    pub name: String,
    /// What it holds.
    pub text: String,
}
