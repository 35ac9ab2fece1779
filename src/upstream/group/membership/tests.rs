//! The state machine alone: step by step, and many of it against a model of the coordinator over a bad network.

#![allow(clippy::unwrap_used)]

#[path = "../../../../tests/fake_broker/coordinator.rs"]
mod coordinator;
mod simulation;
mod steps;
