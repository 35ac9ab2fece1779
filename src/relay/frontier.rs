//! How far the feed of a partition has come.
//!
//! Who is not behind and has nothing in its mailbox has all below that. So the position of a session that rarely gets something need not
//! stay at the last message that was for it, and its return costs no reading of what lies between.

use std::sync::{Mutex, PoisonError};

use crate::ownership::Source;

/// Of one partition. Also tells which topic that is: one that was made anew is another.
#[derive(Debug, Default)]
pub struct Frontier(Mutex<Option<(Source, i64)>>);

impl Frontier {
    /// Everything below `next` was handed out; whose mailbox did not take it is known to be behind.
    pub fn set(&self, source: Source, next: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((source, next));
    }

    /// What was set last.
    pub fn get(&self) -> Option<(Source, i64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
