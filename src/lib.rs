//! mqtt-kafka-proxy: MQTT devices on one side, Apache Kafka on the other, nothing in between.
//!
//! The rooms and what each may import are in ARCHITECTURE.md; `tests/tidy.rs` holds them.

pub mod admin;
pub mod app;
pub mod audit;
pub mod auth;
pub mod config;
pub mod downstream;
pub mod import;
pub mod kafka;
pub mod mapping;
pub mod metrics;
pub mod mqtt;
pub mod ownership;
pub mod pem;
pub mod progress;
pub mod relay;
pub mod resources;
pub mod schema;
pub mod session;
pub mod upstream;
pub mod wire;
