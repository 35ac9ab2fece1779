//! How long a turn lasts of who holds a permit while others are in line.
//!
//! A turn ends a little after its first fetch. How long that takes is not known before: it depends on where the brokers keep what is asked for. So a
//! turn that ends before anything came is followed by one that is twice as long; else, with storage that takes longer than a turn,
//! each would be given up for the next, and nobody would ever get anything.

use std::time::Duration;

/// How long one may stay where it is from its first fetch on.
pub const SLICE: Duration = Duration::from_millis(100);

/// How long the first fetch may take at first. Did that count, too, and took longer than a slice, all would be sent on and on before anything came.
const FIRST: Duration = Duration::from_secs(1);

/// How long the first fetch may take.
///
/// Each partition has its own. A fetch that comes makes it no shorter, neither that of another partition nor that of another place in the same one:
/// those may lie in quicker storage, and their turns would have it begin anew, over and over, before one that needs longer has
/// got anything. Nothing is lost by that, since a turn in which something comes is over soon.
#[derive(Debug)]
pub struct Patience {
    now: Duration,
    longest: Duration,
}

impl Patience {
    /// `longest`: no fetch takes longer.
    pub fn new(longest: Duration) -> Self {
        let longest = longest.max(FIRST);
        Self { now: FIRST, longest }
    }

    /// What the next turn has.
    pub fn get(&self) -> Duration {
        self.now
    }

    /// A turn that had so long has ended before anything came. Several may end at once, and count once. After the longest it begins anew: there
    /// is nothing to come now, or no broker that brings it, and the others have waited long enough for that.
    pub fn was_too_short(&mut self, had: Duration) {
        self.now = if had >= self.longest {
            FIRST
        } else {
            self.now.max(had * 2).min(self.longest)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_doubles_up_to_the_longest_and_begins_anew() {
        let mut patience = Patience::new(5 * SECOND);
        let mut turns = Vec::new();
        for _ in 0..6 {
            turns.push(patience.get().as_secs());
            patience.was_too_short(patience.get());
        }
        assert_eq!(turns, [1, 2, 4, 5, 1, 2]);
    }

    #[test]
    fn turns_that_end_at_once_count_once() {
        let mut patience = Patience::new(30 * SECOND);
        (0..4).for_each(|_| patience.was_too_short(SECOND));
        assert_eq!(patience.get(), 2 * SECOND);
        patience.was_too_short(2 * SECOND);
        // One that began earlier ends later.
        patience.was_too_short(SECOND);
        assert_eq!(patience.get(), 4 * SECOND);
    }
}
