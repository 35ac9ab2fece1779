//! The memory of a partition that a shared subscription reads: a permit for what was fetched and cannot be handed out yet.
//!
//! What finds no memory is thrown away and fetched again, once somebody wants more of the partition and its turn has come.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::relay::permits::{Permit, Permits, Wait};

/// How long it may be kept while others wait for memory.
const SLICE: Duration = Duration::from_millis(100);
/// How long a fetch may take of one whose turn it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What one partition has of it.
pub(super) struct Room {
    permits: Arc<Permits>,
    /// With the time at which it goes to those who wait.
    permit: Option<(Permit, Instant)>,
    line: Option<Wait>,
    /// So much found no memory, or had to make way.
    needed: Option<usize>,
}

impl Room {
    pub(super) fn new(permits: Arc<Permits>) -> Self {
        Self {
            permits,
            permit: None,
            line: None,
            needed: None,
        }
    }

    /// Whether `bytes` may be kept. If not, they must be thrown away.
    pub(super) fn keep(&mut self, bytes: usize) -> bool {
        let slice = Instant::now() + SLICE;
        if let Some((permit, until)) = &mut self.permit
            && permit.resize(bytes)
        {
            *until = slice.min(*until);
            return true;
        }
        self.permit = None;
        self.permit = self.permits.try_acquire(bytes).map(|permit| (permit, slice));
        self.needed = self.permit.is_none().then_some(bytes);
        self.permit.is_some()
    }

    /// Nothing is kept.
    pub(super) fn clear(&mut self) {
        self.permit = None;
    }

    /// Gets in line for what found no memory. False: nothing did.
    pub(super) fn queue_up(&mut self) -> bool {
        if let Some(bytes) = self.needed.take() {
            self.line = Some(Box::pin(self.permits.clone().acquire(bytes)));
        }
        self.line.is_some()
    }

    /// Whether it is in line.
    pub(super) fn waits(&self) -> bool {
        self.line.is_some()
    }

    /// Its turn has come.
    pub(super) fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(line) = &mut self.line else { return Poll::Pending };
        line.as_mut().poll(context).map(|permit| {
            self.permit = Some((permit, Instant::now() + PATIENCE));
            self.line = None;
        })
    }

    /// When it has to make way for those who wait, if it has anything.
    pub(super) fn leaves_at(&self) -> Option<Instant> {
        self.permit.as_ref().map(|(_, until)| *until)
    }

    /// Others have their turn; `bytes` were thrown away.
    pub(super) fn make_way(&mut self, bytes: usize) {
        self.permit = None;
        self.needed = (bytes > 0).then_some(bytes);
    }
}
