//! Those who come back to a partition at an earlier place, on their way to its feed.
//!
//! They take their seat and tell their place under one lock of the topic's index, and the feed looks here whenever it holds that lock. So
//! nobody is given a record from the tail before those that it has missed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::mailbox::Mailbox;

/// Of one partition. Bounded by the seats that are taken.
#[derive(Debug, Default)]
pub struct Arrivals {
    come: Mutex<Vec<(Arc<Mailbox>, i64)>>,
    bell: Notify,
}

impl Arrivals {
    /// A mailbox has all that it wants below `position`. It counts as behind until the feed has seen it.
    pub fn add(&self, mailbox: Arc<Mailbox>, position: i64) {
        mailbox.falls_behind();
        self.come.lock().unwrap_or_else(PoisonError::into_inner).push((mailbox, position));
        self.bell.notify_one();
    }

    /// All that have come.
    pub fn take(&self) -> Vec<(Arc<Mailbox>, i64)> {
        std::mem::take(&mut *self.come.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until somebody may have come. Cancel-safe.
    pub async fn come(&self) {
        self.bell.notified().await;
    }
}
