//! What needs more memory than a sweep usually has: a batch that becomes much larger when it is decompressed, or a fetch of one large batch.

use std::{future::poll_fn, task::Poll};

use super::{Behind, place::keep_read};
use crate::relay::{permits::Permit, sweep};

impl Behind {
    /// What a sweep holds if no fetch and no batch is larger than usual.
    pub(super) fn usual(&self) -> usize {
        sweep::held(self.cache.fetch_size(), 0, 0)
    }

    /// A sweep has come to what needs a permit for `bytes`. Its own goes back first: did several wait for more and keep what they have, none
    /// would ever get it. What it has read is kept, as far as there is room.
    pub(super) fn give_up(&mut self, turn: usize, cursor: i64, bytes: usize) {
        keep_read(&self.cache, self.source, &mut self.sweeps[turn]);
        self.sweeps.remove(turn);
        // One at a time: another one who needs more will find that none is to be had while somebody waits.
        let permits = self.cache.permits();
        self.larger
            .get_or_insert_with(|| (cursor, Box::pin(permits.clone().acquire(bytes))));
    }

    /// The permit has come for which a sweep was given up.
    pub(super) fn go_on(&mut self, permit: Permit) {
        if let Some((position, _)) = self.larger.take() {
            self.begin(position, permit);
        }
    }

    /// Gets in line for a larger permit, if one is needed: before others are asked for, which could otherwise be had first, over and over.
    pub(super) async fn queue_up(&mut self) {
        let waits = |position| self.members.values().any(|member| !member.full && member.position == position);
        if !self.larger.as_ref().is_some_and(|(position, _)| waits(*position)) {
            self.larger = None;
        }
        let Some((_, permit)) = &mut self.larger else { return };
        if let Poll::Ready(permit) = poll_fn(|context| Poll::Ready(permit.as_mut().poll(context))).await {
            self.go_on(permit);
        }
    }
}
