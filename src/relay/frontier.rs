//! How far the feed of a partition has come.
//!
//! Who is not behind and has nothing in its mailbox has all below that. So the position of a session that rarely gets something need not
//! stay at the last message that was for it, and its return costs no reading of what lies between.

use std::sync::{Mutex, PoisonError};

use super::chunk::SourceId;
use crate::ownership::Source;

/// How far a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The partition. A topic that was made anew is another.
    pub source: Source,
    /// Another one once the log was cut off.
    pub log: SourceId,
    /// Everything below was handed out.
    pub next: i64,
}

/// Of one partition.
#[derive(Debug, Default)]
pub struct Frontier(Mutex<Option<Reached>>);

impl Frontier {
    /// So much was handed out; whose mailbox did not take it is known to be behind.
    pub fn set(&self, reached: Reached) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reached);
    }

    /// What was set last.
    pub fn get(&self) -> Option<Reached> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
