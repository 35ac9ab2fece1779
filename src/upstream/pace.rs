//! When all that is known of the cluster is asked for again, because somebody met an error that newer metadata may cure.
//!
//! Each says how often in a row it has failed. The least counts: who fails for the first time has the metadata asked for at once, or 50 ms
//! after the last time, since a leader may just have moved; those who fail for long make it once a second, however many they are. What succeeds
//! begins anew, and so does a partition with records to be sent that has another leader.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::backoff;

/// The time from one question to the next for the sake of somebody who fails for the first time, and at most.
const LEAST_GAP: Duration = Duration::from_millis(50);
const MOST_GAP: Duration = Duration::from_secs(1);
/// Nobody doubts.
const NONE: u32 = u32::MAX;

/// Doubts in what is known.
pub(crate) struct Doubts {
    /// The least number of failures of those who doubt.
    failures: AtomicU32,
    bell: Notify,
}

impl Doubts {
    /// As at the start: nothing is known.
    pub(crate) fn of_everything() -> Self {
        Self {
            failures: AtomicU32::new(0),
            bell: Notify::new(),
        }
    }

    /// Somebody doubts who has failed so often in a row before.
    pub(crate) fn tell(&self, failures: u32) {
        if self.failures.fetch_min(failures, Relaxed) > failures {
            self.bell.notify_one();
        }
    }

    /// The least number of failures; `None`: nobody doubts.
    pub(crate) fn failures(&self) -> Option<u32> {
        Some(self.failures.load(Relaxed)).filter(|failures| *failures != NONE)
    }

    /// Waits until somebody doubts for whom it is more urgent than it was. Cancel-safe.
    pub(crate) async fn grown(&self) {
        self.bell.notified().await;
    }
}

/// When the next question is due.
pub(crate) struct Pace {
    /// When all was asked for.
    pub(crate) last: Instant,
    /// For whom the gap was drawn, so that its jitter is drawn once.
    gap: Option<(u32, Duration)>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, gap: None }
    }

    /// When all is to be asked for, for the sake of somebody with so many failures. Never later than it was told before.
    pub(crate) fn due(&mut self, failures: u32) -> Instant {
        let gap = match self.gap {
            Some((drawn_for, gap)) if drawn_for <= failures => gap,
            _ => {
                let gap = backoff::wait(failures, LEAST_GAP, MOST_GAP);
                self.gap.insert((failures, gap)).1
            }
        };
        self.last + gap
    }

    /// Whether it is due for those who doubt; if so, or if `anyway`, it is asked now, and they doubt no more.
    pub(crate) fn begin(&mut self, doubts: &Doubts, anyway: bool) -> bool {
        let now = Instant::now();
        let begins = anyway || doubts.failures().is_some_and(|failures| self.due(failures) <= now);
        if begins {
            // Whoever doubts from here on may have met what the answer does not tell yet.
            doubts.failures.store(NONE, Relaxed);
            *self = Self::new(now);
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_grows_with_the_failures_of_the_one_who_failed_least() {
        let start = Instant::now();
        for (failures, least, most) in [(0, 40, 60), (1, 80, 120), (3, 320, 480), (5, 800, 1_200), (1_000_000, 800, 1_200)] {
            let gap = Pace::new(start).due(failures) - start;
            let bounds = [least, most].map(Duration::from_millis);
            assert!(bounds[0] <= gap && gap <= bounds[1], "{failures}: {gap:?}");
        }
        let mut pace = Pace::new(start);
        let seldom = pace.due(5);
        assert_eq!(pace.due(7), seldom, "others who wait longer change nothing");
        let soon = pace.due(0);
        assert!(soon <= start + Duration::from_millis(60));
        assert_eq!(pace.due(5), soon);
    }

    #[tokio::test]
    async fn only_who_is_more_urgent_rings() {
        let doubts = Doubts::of_everything();
        let mut pace = Pace::new(Instant::now());
        assert!(pace.begin(&doubts, true));
        assert_eq!(doubts.failures(), None);
        doubts.tell(4);
        doubts.grown().await;
        doubts.tell(6);
        assert_eq!(doubts.failures(), Some(4));
        tokio::select! {
            biased;
            () = doubts.grown() => panic!("nothing became more urgent"),
            () = std::future::ready(()) => {}
        }
        assert!(!pace.begin(&doubts, false), "it was asked a moment ago");
        doubts.tell(0);
        doubts.grown().await;
        assert_eq!(doubts.failures(), Some(0));
    }
}
