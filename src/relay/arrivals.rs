//! Those who come back to a partition at an earlier place, on their way to its feed.
//!
//! They take their seat and tell their place under one lock of the topic's index, and the feed looks here whenever it holds that lock. So
//! nobody is given a record from the tail before those that it has missed.
//!
//! A feed ends when the last seat is given back, but it may be at work at that moment. What follows that it must not sleep through: it waits
//! for the index with a fetch in its hands; somebody comes back, takes a seat of a new feed, and tells that one its place; the old one
//! gets the index, finds the newcomer, and gives it a record from the tail. So it is told that it is over before anybody else can sit down.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

use super::mailbox::Mailbox;

/// Of one partition. Bounded by the seats that are taken.
#[derive(Debug, Default)]
pub struct Arrivals {
    come: Mutex<Vec<(Arc<Mailbox>, i64)>>,
    bell: Notify,
    is_over: AtomicBool,
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

    /// Nobody comes to this feed any more: whoever is found in the index later has told its place to another. Those whom the feed has not seen
    /// have given back their seats, and are behind here no more.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.take().iter().for_each(|(mailbox, _)| mailbox.caught_up());
    }

    /// Whether that is so. Asked under the lock of the index.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits until somebody may have come. Cancel-safe.
    pub async fn come(&self) {
        self.bell.notified().await;
    }
}
