//! The queue against a model of a broker and of a bad network, over random schedules; and the single cases that taught us something.

mod broker;
mod filling;
mod oversized;
mod schedules;
mod stamps;
mod world;

use super::*;
use world::{Fault, LIMITS, World, fill, stamp_in};
