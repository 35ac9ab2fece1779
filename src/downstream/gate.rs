//! How many connections may be open, and how many may come in a second; shared by all listeners.
//!
//! What does not get in is closed and counted. It is not left in the kernel's queue: a device that is refused at once
//! backs off, one that hangs tries again beside the first attempt and makes the storm larger.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{ConnectionRefusal, ListenerCounters};

use super::settings::Limits;

/// The limits that all listeners share.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    open: AtomicU32,
    /// Only accept loops take this lock, and never over an await.
    rate: Mutex<Option<TokenBucket>>,
}

impl Gate {
    /// A gate with nothing open and a full second's worth of connects.
    pub fn new(limits: Limits) -> Arc<Self> {
        let rate = limits.connect_rate.map(|rate| TokenBucket::full(rate.get(), Instant::now()));
        Arc::new(Self {
            limits,
            open: AtomicU32::new(0),
            rate: Mutex::new(rate),
        })
    }

    /// Connections open now, handshakes included.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a seat for one connection, or says why not. The limit is asked first, so that a full house spends no token.
    pub(super) fn admit(self: &Arc<Self>, listener: &Arc<ListenerState>, now: Instant) -> Result<Seat, ConnectionRefusal> {
        let below = |open: u32| (open < self.limits.connections).then_some(open + 1);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .map_err(|_| ConnectionRefusal::Limit)?;
        listener.counters.current.inc();
        let seat = Seat {
            gate: self.clone(),
            listener: listener.clone(),
        };
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.as_mut().is_some_and(|bucket| !bucket.take(now)) {
            return Err(ConnectionRefusal::Rate);
        }
        listener.counters.opened.inc();
        Ok(seat)
    }
}

/// What the connections of one listener share.
#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) name: Box<str>,
    pub(super) counters: ListenerCounters,
    /// When it was last told that a limit refuses connections.
    told: Mutex<Option<Instant>>,
}

/// A storm of refusals is one log line in so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

impl ListenerState {
    pub(super) fn new(name: &str, counters: ListenerCounters) -> Self {
        Self {
            name: name.into(),
            counters,
            told: Mutex::default(),
        }
    }

    /// Counts a connection that a limit refuses; the first in a while is told.
    pub(super) fn refuse(&self, reason: ConnectionRefusal, now: Instant) {
        self.counters.refused(reason);
        if self.is_news(now) {
            let (listener, reason) = (&*self.name, reason.as_str());
            tracing::warn!(
                listener,
                reason,
                "connections are refused (said once a minute); `limits` in the configuration says how many may come"
            );
        }
    }

    fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|last| now.saturating_duration_since(last) >= TELL_AGAIN);
        if news {
            *told = Some(now);
        }
        news
    }
}

/// One connection's place; leaving it is dropping it.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Arc<Gate>,
    pub(super) listener: Arc<ListenerState>,
}

impl Seat {
    pub(super) fn connect_timeout(&self) -> Duration {
        self.gate.limits.connect_timeout
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        self.listener.counters.current.dec();
    }
}

/// Fills at `per_second`, holds one second's worth. Counted in nanoseconds of credit, so nothing is rounded away.
#[derive(Debug)]
struct TokenBucket {
    /// What one token costs, in nanoseconds of waiting.
    cost: u64,
    credit: u64,
    last: Instant,
}

/// What a bucket holds at most: one second.
const FULL: u64 = 1_000_000_000;

impl TokenBucket {
    fn full(per_second: u32, now: Instant) -> Self {
        Self {
            cost: FULL / u64::from(per_second.max(1)),
            credit: FULL,
            last: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.last).as_nanos();
        self.credit = FULL.min(self.credit.saturating_add(u64::try_from(passed).unwrap_or(FULL)));
        self.last = now;
        let enough = self.credit >= self.cost;
        if enough {
            self.credit -= self.cost;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(4, start);
        let taken = |bucket: &mut TokenBucket, at: u64| (0..100).take_while(|_| bucket.take(start + Duration::from_millis(at))).count();
        assert_eq!(taken(&mut bucket, 0), 4);
        assert_eq!(taken(&mut bucket, 249), 0);
        assert_eq!(taken(&mut bucket, 250), 1);
        assert_eq!(taken(&mut bucket, 1_000), 3);
        assert_eq!(taken(&mut bucket, 60_000), 4, "a long rest saves no more than a second");
    }

    #[test]
    fn a_storm_of_refusals_is_one_line_a_minute() {
        let state = ListenerState::new("tcp", crate::metrics::Metrics::new().listener("tcp"));
        let start = Instant::now();
        let news: Vec<u64> = (0..200).filter(|s| state.is_news(start + Duration::from_secs(*s))).collect();
        assert_eq!(news, [0, 60, 120, 180]);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_breaks_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::full(1, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(start - Duration::from_secs(5)));
    }
}
