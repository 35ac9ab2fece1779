//! Whether a client takes what it is sent: one that takes nothing has its packets unread, and its outbox keeps what is in it.
//!
//! A turn comes when something happens, and bytes leave between two turns. So a turn asks whether some have left since the one before, and
//! the clock runs from the last turn of which that is known: a client is closed after `send_timeout`, and at the latest after twice that.

use std::time::{Duration, Instant};

use super::{Connection, OVERSLEPT, reading::Clocks};
use crate::audit::cut;

/// In so long pieces this clock counts: each connection has it.
const TICK: Duration = Duration::from_millis(100);

impl Connection {
    /// Looks at the beginning of a turn what has left since the last one.
    pub(super) fn regard_taking(&mut self, now: Instant) {
        let taken = bounded(self.session.outbox().len()) < self.unsent;
        // Of two that are to be asked: the link forgets what it has told.
        let taken = self.link.has_sent() || taken;
        if taken && self.clocks == Clocks::KeepAlive {
            // Who is not read until it has taken more is alive as long as it takes some.
            self.session.taken(now);
        }
        if taken || !self.owes() {
            self.stuck = 0;
            return;
        }
        let Some(over) = self.stuck_for(now).and_then(|stuck| stuck.checked_sub(self.send_timeout())) else {
            return;
        };
        if over > OVERSLEPT {
            // This process did not run, or hardly: what the client had room for is not written yet.
            self.stuck = self.clock(now);
        } else if !self.session.is_closed() {
            tracing::debug!(
                client = &*cut(self.session.client_id()),
                "closed: nothing was taken within send_timeout"
            );
            self.desk.shared.metrics.closed("send_timeout");
            self.session.lost(now);
        }
    }

    /// Notes at the end of a turn what is to leave.
    pub(super) fn regard_unsent(&mut self, now: Instant) {
        self.unsent = bounded(self.session.outbox().len());
        if !self.owes() {
            self.stuck = 0;
        } else if self.stuck == 0 {
            self.stuck = self.clock(now);
        }
    }

    /// When the client must have taken something.
    pub(super) fn stuck_until(&self) -> Option<Instant> {
        if self.stuck == 0 {
            return None;
        }
        let now = Instant::now();
        let stuck = self.stuck_for(now).unwrap_or_default();
        Some(now + self.send_timeout().saturating_sub(stuck))
    }

    fn owes(&mut self) -> bool {
        // The outbox of who takes nothing any more is dropped, and its end is due.
        !self.link.is_deaf() && (!self.session.outbox().is_empty() || self.link.holds())
    }

    fn send_timeout(&self) -> Duration {
        self.desk.shared.settings.session.send_timeout
    }

    /// Rather shorter than it is: a tenth may just have begun.
    fn stuck_for(&self, now: Instant) -> Option<Duration> {
        let passed = self.clock(now).wrapping_sub(self.stuck).saturating_sub(1);
        (self.stuck > 0).then(|| TICK * u32::from(passed))
    }

    /// Tenths of a second of this connection, never zero; they begin anew after 109 minutes, and the longest `send_timeout` is an hour.
    fn clock(&self, now: Instant) -> u16 {
        let passed = now.saturating_duration_since(self.link.opened()).as_millis() / TICK.as_millis();
        u16::try_from(passed % (1 << 16)).unwrap_or_default().max(1)
    }
}

fn bounded(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
