//! How fast one client may publish: token buckets that hold its socket back. Nothing is refused and nothing is lost.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::settings::ClientRate;

/// The budget of one client.
#[derive(Debug)]
pub struct Pace {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    /// Nothing more is taken until then.
    until: Option<Instant>,
    /// Something of a packet has come since the last pause.
    progress: bool,
    /// It had when this pause began.
    earned: bool,
}

impl Pace {
    /// `None` if nothing is limited.
    pub fn new(rate: ClientRate, now: Instant) -> Option<Box<Self>> {
        let bucket = |per_second: Option<NonZeroU32>| per_second.map(|rate| Bucket::full(rate, now));
        let pace = Self {
            messages: bucket(rate.messages),
            bytes: bucket(rate.bytes),
            until: None,
            progress: false,
            earned: false,
        };
        (pace.messages.is_some() || pace.bytes.is_some()).then(|| Box::new(pace))
    }

    /// When the next packet may be taken, if not now.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// What time it is.
    pub fn regard(&mut self, now: Instant) {
        self.until = self.until.filter(|until| now < *until);
    }

    /// Notes a packet that has been taken: when the next one may be, if not now.
    pub fn spend(&mut self, messages: u32, bytes: usize, now: Instant) -> Option<Instant> {
        self.progress = true;
        self.charge(messages, bytes, now)
    }

    /// Notes bytes that have come around packets, or without any.
    pub fn spend_on_nothing(&mut self, bytes: usize, now: Instant) {
        self.charge(0, bytes, now);
    }

    /// A packet that has come in part goes on.
    pub fn goes_on(&mut self) {
        self.progress = true;
    }

    /// Whether the client is held back only since it sends what is nothing: it is not heard, but that is its own doing.
    pub fn is_for_nothing(&self) -> bool {
        self.until.is_some() && !self.earned
    }

    /// The pause is over for now, though not paid for.
    pub fn set_aside(&mut self) {
        self.until = None;
    }

    /// What is not paid for is to be waited for.
    pub fn take_up(&mut self, now: Instant) {
        self.charge(0, 0, now);
    }

    fn charge(&mut self, messages: u32, bytes: usize, now: Instant) -> Option<Instant> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let waits = [
            self.messages.as_mut().and_then(|bucket| bucket.spend(messages, now)),
            self.bytes.as_mut().and_then(|bucket| bucket.spend(bytes, now)),
        ];
        let until = waits.into_iter().flatten().max().map(|wait| now + wait);
        if until.is_some() {
            self.earned = std::mem::take(&mut self.progress) || (self.earned && self.until.is_some());
        }
        self.until = until;
        until
    }
}

/// Fills at `per_second`, holds one second's worth. It may be overdrawn by one packet, which may be larger than it.
#[derive(Debug)]
struct Bucket {
    per_second: NonZeroU32,
    /// In billionths of a token, so nothing is rounded away.
    credit: i128,
    last: Instant,
}

const BILLION: i128 = 1_000_000_000;

impl Bucket {
    fn full(per_second: NonZeroU32, now: Instant) -> Self {
        Self {
            per_second,
            credit: i128::from(per_second.get()) * BILLION,
            last: now,
        }
    }

    /// How long until it is in credit again, if it is not.
    fn spend(&mut self, tokens: u32, now: Instant) -> Option<Duration> {
        let rate = i128::from(self.per_second.get());
        let passed = i128::try_from(now.saturating_duration_since(self.last).as_nanos()).unwrap_or(i128::MAX / (1 << 33));
        self.last = now;
        self.credit = (rate * BILLION).min(self.credit + passed * rate) - i128::from(tokens) * BILLION;
        // Credit and rate are both in billionths, so their quotient is in nanoseconds.
        let debt = u64::try_from(-self.credit).ok().filter(|debt| *debt > 0)?;
        Some(Duration::from_nanos(debt.div_ceil(u64::from(self.per_second.get()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(messages: u32, bytes: u32, now: Instant) -> Box<Pace> {
        let rate = ClientRate {
            messages: NonZeroU32::new(messages),
            bytes: NonZeroU32::new(bytes),
        };
        Pace::new(rate, now).unwrap()
    }

    #[test]
    fn a_second_comes_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut pace = pace(4, 0, start);
        let after = |millis| start + Duration::from_millis(millis);
        for _ in 0..4 {
            assert_eq!(pace.spend(1, 100, start), None);
        }
        assert_eq!(pace.spend(1, 100, start), Some(after(250)));
        assert_eq!(pace.spend(1, 100, after(250)), Some(after(500)));
        assert_eq!(pace.spend(0, 100, after(500)), None, "what is no message costs none");
        for _ in 0..4 {
            assert_eq!(pace.spend(1, 0, after(60_000)), None, "a long rest saves no more than a second");
        }
        assert_eq!(pace.spend(1, 0, after(60_000)), Some(after(60_250)));
    }

    #[test]
    fn a_packet_larger_than_a_second_passes_and_is_paid_for() {
        let start = Instant::now();
        let mut pace = pace(0, 1000, start);
        assert_eq!(pace.spend(1, 11_000, start), Some(start + Duration::from_secs(10)));
        let mut both = super::tests::pace(1, 1000, start);
        assert_eq!(
            both.spend(3, 1500, start),
            Some(start + Duration::from_secs(2)),
            "the longer wait counts"
        );
    }

    #[test]
    fn a_pause_is_for_nothing_if_nothing_of_a_packet_has_come_since_the_last_one() {
        let start = Instant::now();
        let mut pace = pace(0, 1000, start);
        pace.spend_on_nothing(1000, start);
        assert!(!pace.is_for_nothing(), "there is none");
        for (number, is_packet) in (1..).zip([true, false, true, false]) {
            let now = start + Duration::from_secs(10 * number);
            pace.regard(now);
            if is_packet {
                pace.goes_on();
            }
            pace.spend_on_nothing(3000, now);
            assert_eq!(pace.is_for_nothing(), !is_packet);
            // More of it ends no pause that was earned, and what is set aside is not forgotten.
            pace.spend_on_nothing(1000, now);
            assert_eq!(pace.is_for_nothing(), !is_packet);
            assert_eq!(pace.until(), Some(now + Duration::from_secs(3)));
            pace.set_aside();
            assert_eq!(pace.until(), None);
            pace.take_up(now);
            assert_eq!(pace.until(), Some(now + Duration::from_secs(3)));
        }
        let now = start + Duration::from_secs(100);
        pace.regard(now);
        assert!(pace.spend(1, 3000, now).is_some() && !pace.is_for_nothing());
    }

    #[test]
    fn extremes_break_nothing() {
        let start = Instant::now();
        let mut pace = pace(u32::MAX, 1, start);
        assert!(pace.spend(u32::MAX, usize::MAX, start).is_some());
        pace.spend(1, 1, start + Duration::from_secs(1 << 32));
        assert!(Pace::new(ClientRate::default(), start).is_none());
    }
}
