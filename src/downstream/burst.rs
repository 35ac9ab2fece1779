//! How many new connections are taken at a time: whoever is connected already goes first.
//!
//! A turn of the accept loop that takes all that the kernel holds puts as many handshakes in front of everybody else on its core, some milliseconds
//! for ten of them. So after some it makes room for the others, and takes fewer in its next turn if that took long: a flood of connections
//! is worked off as fast as the processor allows, and waits in the kernel, not before those who are served.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// Taken at a time at least: it goes on, whatever those who are connected are about.
const LEAST: u32 = 2;
/// And at most, while nobody waits.
const MOST: u32 = 64;
/// The others' turn may take so long.
const CALM: Duration = Duration::from_millis(3);

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Burst {
    allowed: u32,
    taken: u32,
}

impl Burst {
    pub(super) fn new() -> Self {
        Self { allowed: MOST, taken: 0 }
    }

    /// One more is taken. Now and then it is the others' turn.
    pub(super) async fn taken(&mut self) {
        self.taken += 1;
        if self.taken < self.allowed {
            return;
        }
        let since = Instant::now();
        yield_now().await;
        self.worked(since.elapsed());
    }

    /// So long the others had something to do.
    fn worked(&mut self, time: Duration) {
        self.taken = 0;
        self.allowed = if time > CALM {
            LEAST.max(self.allowed / 2)
        } else {
            MOST.min(self.allowed + 1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_are_taken_at_a_time_while_others_have_much_to_do_but_never_none() {
        let mut burst = Burst::new();
        for expected in [32, 16, 8, 4, 2, 2] {
            burst.worked(CALM + Duration::from_micros(1));
            assert_eq!(burst.allowed, expected);
        }
        for expected in 3..=MOST {
            burst.worked(CALM);
            assert_eq!(burst.allowed, expected);
        }
        burst.worked(Duration::ZERO);
        assert_eq!(burst.allowed, MOST);
    }

    /// On one core.
    #[tokio::test]
    async fn others_have_their_turn_after_as_many_as_are_allowed() {
        let (sender, mut turns) = tokio::sync::mpsc::unbounded_channel();
        let mut burst = Burst { allowed: 5, taken: 0 };
        for _ in 0..4 {
            burst.taken().await;
        }
        tokio::spawn(async move { sender.send(()) });
        assert!(turns.try_recv().is_err(), "it is still the listener's turn");
        burst.taken().await;
        assert!(turns.try_recv().is_ok());
        assert_eq!(burst.taken, 0);
    }
}
