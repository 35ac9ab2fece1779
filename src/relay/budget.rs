//! Memory for messages that connections have not taken yet, all of the instance together.
//!
//! What is charged is what is really held: a chunk counts once, however many mailboxes share it. A mailbox may hold up to a share of what
//! is left (a dynamic threshold, as switches with shared buffers have it): plenty while there is plenty, little when many are
//! stuck at once. So no one can use it all up, and together they stay near the limit; who does not get its share is behind a
//! little earlier, and is served from the log.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

/// One mailbox may hold this part of what is left.
const PART: usize = 4;

/// The budget of all chunks.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Gauge,
    /// What this is a part of.
    whole: Option<Arc<Budget>>,
    /// Rung when some of it was given back.
    bell: Option<Arc<Notify>>,
}

/// Bytes in use, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// For `limit` bytes; `used` shows what is in use.
    pub fn new(limit: usize, used: Gauge) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used,
            whole: None,
            bell: None,
        })
    }

    /// One that tells what its user alone has in use, while all of it is charged here. `bell` is rung whenever some of the part was given back.
    pub fn part(self: &Arc<Self>, bell: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            limit: self.limit,
            used: Gauge::default(),
            whole: Some(self.clone()),
            bell: Some(bell.clone()),
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.get().max(0) as usize
    }

    /// It, and what it is a part of.
    fn wholes(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |budget| budget.whole.as_deref())
    }

    /// Takes `bytes`, also beyond the limit: who made them asked for its share before.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.wholes().for_each(|budget| _ = budget.used.inc_by(bytes as i64));
        Charge {
            budget: self.clone(),
            bytes,
        }
    }

    /// What one may hold now, from `least` to `most`.
    pub fn share(&self, least: usize, most: usize) -> usize {
        let used = self.whole.as_deref().unwrap_or(self).used();
        let left = self.limit.saturating_sub(used);
        (left / PART).clamp(least, most)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.wholes().for_each(|budget| _ = budget.used.dec_by(self.bytes as i64));
        // Not before: who looks at once finds what is free.
        self.budget.bell.iter().for_each(|bell| bell.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_becomes_smaller_with_what_is_in_use_and_never_less_than_the_least() {
        let budget = Budget::new(1_000, Gauge::default());
        assert_eq!(budget.share(10, 200), 200);
        let half = budget.charge(500);
        assert_eq!(budget.share(10, 200), 125);
        let more = budget.charge(700);
        assert_eq!(budget.share(10, 200), 10);
        drop(half);
        assert_eq!(budget.share(10, 200), 75);
        drop(more);
        assert_eq!(budget.used.get(), 0);
        assert_eq!(budget.share(10, 200), 200);
    }

    #[test]
    fn a_part_has_its_share_of_what_is_left_of_the_whole() {
        let whole = Budget::new(1_000, Gauge::default());
        let bell = Arc::default();
        let (one, other) = (whole.part(&bell), whole.part(&bell));
        let some = one.charge(500);
        assert_eq!((one.used(), other.used(), whole.used()), (500, 0, 500));
        assert_eq!((one.share(10, 200), other.share(10, 200)), (125, 125));
        drop(some);
        assert_eq!((one.used(), whole.used()), (0, 0));
    }
}
