//! Memory for messages that connections have not taken yet, all of the instance together.
//!
//! What is charged is what is really held: a chunk counts once, however many mailboxes share it. A mailbox may hold up to a share of what
//! is left (a dynamic threshold, as switches with shared buffers have it): plenty while there is plenty, little when many are
//! stuck at once. So no one can use it all up, and together they stay near the limit; who does not get its share is behind a
//! little earlier, and is served from the log.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

/// One mailbox may hold this part of what is left.
const PART: usize = 4;

/// The budget of all chunks.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: Gauge,
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
        Arc::new(Self { limit, used })
    }

    /// Takes `bytes`, also beyond the limit: who made them asked for its share before.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.inc_by(bytes as i64);
        Charge {
            budget: self.clone(),
            bytes,
        }
    }

    /// What one may hold now, from `least` to `most`.
    pub fn share(&self, least: usize, most: usize) -> usize {
        let left = self.limit.saturating_sub(self.used.get().max(0) as usize);
        (left / PART).clamp(least, most)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.dec_by(self.bytes as i64);
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
}
