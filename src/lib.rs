//! mqtt-kafka-proxy: MQTT devices on one side, Apache Kafka on the other, nothing in between.
//!
//! The rooms and what each may import are in ARCHITECTURE.md; `tests/tidy.rs` holds them.

pub mod wire;
pub mod metrics;
pub mod mqtt;
pub mod kafka;
pub mod mapping;
pub mod session;
pub mod downstream;
pub mod upstream;
pub mod relay;
pub mod admin;
pub mod config;
pub mod app;
