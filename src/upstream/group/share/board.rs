//! What the user of a membership wants, for the lanes to see.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{request::AckKind, session::Lease};

/// One acknowledgement.
pub(super) type Ack = ((i64, i64), AckKind);

#[derive(Debug)]
pub(super) struct Board {
    inner: Mutex<Inner>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: usize,
    /// Acquired, and the user has not seen it: it is a part of what was wanted.
    unseen: usize,
    /// Of leases that a lane holds.
    acks: std::collections::HashMap<Lease, Vec<Ack>>,
    /// Brokers that share what is wanted.
    lanes: usize,
    closing: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn want(&self, records: usize) {
        let before = std::mem::replace(&mut self.lock().wanted, records);
        if records > before {
            self.ring();
        }
    }

    /// The user has taken records, and is about to say how many more it wants.
    pub(super) fn taken(&self) {
        let mut inner = self.lock();
        (inner.wanted, inner.unseen) = (0, 0);
    }

    /// Records are on their way to the user.
    pub(super) fn acquired(&self, records: usize) {
        self.lock().unseen += records;
    }

    /// How many records a lane may ask for.
    pub(super) fn room(&self) -> usize {
        let inner = self.lock();
        match inner.wanted.saturating_sub(inner.unseen) {
            0 => 0,
            room => (room / inner.lanes.max(1)).max(1),
        }
    }

    /// A lane has one more lease.
    pub(super) fn hold(&self, lease: Lease) {
        self.lock().acks.entry(lease).or_default();
    }

    /// It is nobody's any more.
    pub(super) fn release(&self, lease: Lease) {
        self.lock().acks.remove(&lease);
    }

    pub(super) fn acknowledge(&self, lease: Lease, offsets: (i64, i64), kind: AckKind) {
        let mut inner = self.lock();
        // What was lost is not acknowledged.
        let Some(acks) = inner.acks.get_mut(&lease) else { return };
        acks.push((offsets, kind));
        drop(inner);
        self.ring();
    }

    /// What waits for the lane that holds it.
    pub(super) fn acks(&self, lease: Lease) -> Vec<Ack> {
        self.lock().acks.get_mut(&lease).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn shared_by(&self, lanes: usize) {
        self.lock().lanes = lanes;
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.ring();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }
}
