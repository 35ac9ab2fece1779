//! Waiting longer after each failure, with jitter so that a fleet of proxies does not come back in step.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The wait after the `attempt`-th failure in a row (counted from 0): doubling from `first` to `most`, ±20 %.
pub fn wait(attempt: u32, first: Duration, most: Duration) -> Duration {
    let plain = first.saturating_mul(1u32 << attempt.min(16)).min(most);
    plain.mul_f64(0.8 + 0.4 * fraction())
}

/// How long a broker may owe the answer to a question that others could answer as well: it may be paused, or cut off. Two seconds after no failure,
/// doubled with each in a row, since an answer may just take long; `most`, the request timeout, at most.
pub fn patience(failures: u32, most: Duration) -> Duration {
    most.min(Duration::from_secs(2 << failures.min(16)))
}

/// A number in 0..1 that differs from call to call. Good enough to spread attempts; not for secrets.
pub fn fraction() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        let first = Duration::from_millis(100);
        let most = Duration::from_secs(1);
        assert!(wait(0, first, most) <= Duration::from_millis(120));
        assert!(wait(2, first, most) >= Duration::from_millis(320));
        assert!(wait(40, first, most) <= Duration::from_millis(1200));
    }

    #[test]
    fn patience_doubles_up_to_the_request_timeout() {
        let seconds = |failures| patience(failures, Duration::from_secs(10)).as_secs();
        assert_eq!([0, 1, 2, 3, u32::MAX].map(seconds), [2, 4, 8, 10, 10]);
        assert_eq!(patience(0, Duration::from_secs(1)), Duration::from_secs(1));
    }
}
