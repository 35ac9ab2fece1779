//! Which sweep goes where, and which makes way for others.

use std::time::Instant;

use super::Behind;
use crate::relay::{chunk::SourceId, patience::Patience, permits::Permit, sweep::Sweep, sweep_cache::SweepCache};

impl Behind {
    /// Puts sweeps where those are who have room.
    pub(super) fn place(&mut self) {
        let now = Instant::now();
        if *self.wanted.borrow() > 0 {
            let Self { sweeps, patience, .. } = self;
            let (cache, source) = (&self.cache, self.source);
            sweeps.retain_mut(|sweep| now < sweep.leaves_at() || make_way(cache, source, patience, sweep));
        }
        self.has_waiting = loop {
            let Some(position) = self.unserved() else {
                // Whoever stood in line has lost its room, or was served.
                (self.permit, self.waiting) = (None, None);
                break false;
            };
            if !self.serve(position, now) {
                break true;
            }
        };
        // Two that have met are one.
        self.sweeps.sort_by_key(|sweep| (sweep.cursor, sweep.is_over, !sweep.reads()));
        let (cache, source) = (&self.cache, self.source);
        self.sweeps
            .dedup_by(|one, other| one.cursor == other.cursor && !keep_read(cache, source, one));
    }

    /// The lowest place of one who has room where no sweep is or comes by.
    fn unserved(&mut self) -> Option<i64> {
        let ready = || self.members.values().filter(|member| !member.full).map(|member| member.position);
        for sweep in &mut self.sweeps {
            sweep.is_active = ready().any(|position| position == sweep.cursor);
        }
        let (sweeps, larger) = (&self.sweeps, self.larger.as_ref().map(|(position, _)| *position));
        ready()
            .filter(|position| Some(*position) != larger && !sweeps.iter().any(|sweep| sweep.comes_by(*position)))
            .min()
    }

    /// Puts a sweep to `position`: one that rests and has the fetch, else a further one, else one that rests, else one whose slice is over.
    fn serve(&mut self, position: i64, now: Instant) -> bool {
        if let Some(sweep) = self.sweeps.iter_mut().find(|sweep| !sweep.is_active && sweep.holds(position)) {
            return sweep.put(position, self.patience.get());
        }
        if self.sweeps.len() < self.cache.per_partition()
            && let Some(permit) = self.permit.take().or_else(|| self.cache.permits().try_acquire(self.usual()))
        {
            self.begin(position, permit);
            return true;
        }
        if self.sweeps.is_empty() && self.waiting.is_none() {
            self.waiting = Some(Box::pin(self.cache.permits().clone().acquire(self.usual())));
        }
        let over = self.sweeps.iter_mut().filter(|sweep| now >= sweep.leaves_at());
        let Some(sweep) = over.min_by_key(|sweep| (sweep.is_active, sweep.since)) else {
            return false;
        };
        make_way(&self.cache, self.source, &mut self.patience, sweep);
        sweep.put(position, self.patience.get());
        true
    }

    /// A further sweep.
    pub(super) fn begin(&mut self, position: i64, permit: Permit) {
        let sweep = Sweep::new(position, permit, self.cache.fetch_size(), self.patience.get());
        self.sweeps.push(sweep);
    }
}

/// The turn of a sweep is over, with or without anything that has come for who is there. Gives false.
fn make_way(cache: &SweepCache, source: SourceId, patience: &mut Patience, sweep: &mut Sweep) -> bool {
    if let Some(had) = sweep.still_waits() {
        patience.was_too_short(had);
    }
    keep_read(cache, source, sweep)
}

/// A sweep leaves its place: what it has read ahead is kept for those who follow. Gives false.
pub(super) fn keep_read(cache: &SweepCache, source: SourceId, sweep: &mut Sweep) -> bool {
    sweep.leave().for_each(|chunk| cache.keep(source, chunk));
    false
}
