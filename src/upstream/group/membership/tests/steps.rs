//! One member step by step: each of the coordinator's refusals by its class, and the cases that the simulation taught us.

mod commits;
mod endings;
mod generations;
mod refusals;
mod script;
mod size;
