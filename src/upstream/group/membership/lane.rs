//! One request at a time, and pauses after failures.

use std::time::{Duration, Instant};

/// The first pause after a failure; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause after failures that pass by themselves.
const MOST: Duration = Duration::from_secs(2);
/// The pause after a refusal that only an operator can cure.
const REFUSED: Duration = Duration::from_secs(10);

/// What is asked of one lane, and when it may be asked again.
#[derive(Debug)]
pub(super) struct Lane {
    asked: Option<Asked>,
    not_before: Option<Instant>,
    failures: u32,
    seed: u64,
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) ticket: u64,
    pub(super) sent: Instant,
    /// As whose member it was asked.
    pub(super) generation: i32,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            asked: None,
            not_before: None,
            failures: 0,
            seed,
        }
    }

    /// Whether something may be asked.
    pub(super) fn is_free(&self) -> bool {
        self.asked.is_none() && self.not_before.is_none()
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn asked(&mut self, ticket: u64, sent: Instant, generation: i32) {
        self.asked = Some(Asked { ticket, sent, generation });
    }

    /// The request of that ticket, which is answered by this.
    pub(super) fn take(&mut self, ticket: u64) -> Option<Asked> {
        self.asked.take_if(|asked| asked.ticket == ticket)
    }

    /// Nobody waits for the answer any more. A pause stays.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Nothing is asked for a while: longer after each failure in a row, spread by the seed.
    pub(super) fn failed(&mut self, now: Instant) {
        let plain = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures += 1;
        // A step of splitmix64: enough to spread members that fail at the same moment.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let spread = (mixed >> 40) as f64 / f64::from(1u32 << 24);
        self.not_before = Some(now + plain.mul_f64(0.8 + 0.4 * spread));
    }

    /// The same after a refusal.
    pub(super) fn refused(&mut self, now: Instant) {
        self.not_before = Some(now + REFUSED);
    }

    /// Ends a pause that is over.
    pub(super) fn wake(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|at| now < *at);
    }

    pub(super) fn pause(&self) -> Option<Instant> {
        self.not_before
    }
}
