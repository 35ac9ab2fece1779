//! The load generator as modules: shared by the command (`main.rs` beside this file) and by the integration tests.
//!
//! It speaks MQTT through `mqttbytes` and reads Kafka through `kcat`, so it shares no codec with the proxy: a fault that
//! proxy and generator have in common cannot hide.

// Each of the two includers uses a part of it.
#![allow(dead_code)]

pub mod client;
pub mod floor;
pub mod ledger;
pub mod publish;
pub mod subscribe;
