//! Whether the clocks of this host and of the brokers agree: sessions expire and wills are sent by the clocks of all instances, and whether an owner is
//! dead is judged by the brokers' (`ownership/custodian.rs`).

use std::time::{Duration, Instant};

use crate::ownership::{Millis, NewRecord, Record};

/// How often they are compared.
const EVERY: Duration = Duration::from_secs(60);
/// Seconds that they may differ without a word in the log.
const MUCH: i64 = 10;

/// Follows one own record a minute from here to the brokers and back.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// Its key, and when it was sent.
    probe: Option<(String, Millis)>,
    /// When the last was.
    probed: Option<Instant>,
    /// The log has been told.
    told: bool,
}

/// Milliseconds that another clock is ahead, surely, which has said `at` between two moments of this one. Negative: it is behind.
fn difference(sent: Millis, at: Millis, back: Millis) -> i64 {
    let signed = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
    match at {
        early if early < sent => -signed(sent - early),
        late => signed(late.saturating_sub(back)),
    }
}

impl Clocks {
    /// The next record that is sent, if there is one.
    pub(super) fn sends(&mut self, record: Option<&NewRecord>, now: Millis) {
        let is_due = self.probed.is_none_or(|at| at.elapsed() >= EVERY);
        if let Some(record) = record.filter(|_| is_due) {
            self.probe = Some((record.key.clone(), now));
            self.probed = Some(Instant::now());
        }
    }

    /// The log is read anew: what is read under that key may be older.
    pub(super) fn forget(&mut self) {
        self.probe = None;
    }

    /// A record is read: seconds that the brokers' clock is ahead, if it is that one, and whether that is to be told.
    pub(super) fn reads(&mut self, record: &Record<'_>, now: Millis) -> Option<(i64, bool)> {
        let (_, sent) = self.probe.take_if(|(key, _)| key.as_bytes() == record.key)?;
        let seconds = difference(sent, record.timestamp, now) / 1000;
        let is_much = seconds.abs() >= MUCH;
        let tells = is_much && !self.told;
        self.told = is_much;
        Some((seconds, tells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Key;

    #[test]
    fn a_difference_is_what_the_way_does_not_explain() {
        let cases = [(100, 0), (150, 0), (200, 0), (99, -1), (201, 1), (0, -100), (5200, 5000)];
        for (at, ahead) in cases {
            assert_eq!(difference(100, at, 200), ahead, "at {at}");
        }
        assert_eq!(difference(u64::MAX, 0, u64::MAX), -i64::MAX);
    }

    #[test]
    fn one_record_a_minute_is_followed_and_a_difference_is_told_once() {
        let mut clocks = Clocks::default();
        let sent = NewRecord::tombstone(Key::Claim("own"));
        let mut follow = |timestamp, key: &'static str| {
            clocks.probed = None;
            clocks.sends(Some(&sent), 100_000);
            // Not due.
            clocks.sends(Some(&NewRecord::tombstone(Key::Claim("next"))), 900_000);
            let record = Record {
                offset: 1,
                timestamp,
                key: key.as_bytes(),
                headers: &[],
                value: None,
            };
            let read = clocks.reads(&record, 100_500);
            assert!(read.is_none() || clocks.reads(&record, 100_500).is_none());
            read
        };
        assert_eq!(follow(300_000, "claim:another"), None);
        assert_eq!(follow(100_300, "claim:own"), Some((0, false)));
        assert_eq!(follow(90_001, "claim:own"), Some((-9, false)));
        assert_eq!(follow(89_000, "claim:own"), Some((-11, true)));
        assert_eq!(follow(120_500, "claim:own"), Some((20, false)));
        assert_eq!(follow(100_300, "claim:own"), Some((0, false)));
        assert_eq!(follow(120_500, "claim:own"), Some((20, true)));
    }
}
