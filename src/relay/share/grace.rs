//! How long an instance that is to let go waits for what its members have: a moment for acknowledgements, longer for what is lent.

use std::time::Duration;

use tokio::time::Instant;

/// For what was sent to be acknowledged. After that the next owner sends it again.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);
/// For what is lent to be written down: after that its session and another member may both have it. A slow, or a new, leader of a partition of
/// `mqtt-sessions` takes less.
pub(super) const WRITTEN: Duration = Duration::from_secs(20);

/// See the head of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    since: Instant,
}

impl Grace {
    /// It begins now.
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now }
    }

    /// Whether nothing is waited for any more. `is_quiet`: nothing waits for an acknowledgement, and nothing is lent.
    pub(super) fn is_over(self, now: Instant, is_quiet: bool, lends: bool) -> bool {
        is_quiet || now >= self.since + if lends { WRITTEN } else { ACKNOWLEDGED }
    }

    /// When it is over next, if nothing changes; not before `now`, unless all of it is over.
    pub(super) fn ends(self, now: Instant) -> Instant {
        let acknowledged = self.since + ACKNOWLEDGED;
        if now < acknowledged { acknowledged } else { self.since + WRITTEN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_has_longer_than_what_was_sent_and_no_more_than_that() {
        let start = Instant::now();
        let grace = Grace::from(start);
        let acknowledged = grace.ends(start);
        let written = grace.ends(acknowledged);
        assert!(start < acknowledged && acknowledged < written);
        assert!(grace.is_over(start, true, false));
        for lends in [false, true] {
            assert!(!grace.is_over(acknowledged - Duration::from_millis(1), false, lends));
            assert_eq!(grace.is_over(acknowledged, false, lends), !lends);
            assert!(grace.is_over(written, false, lends));
        }
        assert_eq!(grace.ends(written), written);
    }
}
