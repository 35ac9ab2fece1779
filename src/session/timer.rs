//! The clocks of a connection: until CONNECT is answered, and keep alive afterwards; and of a packet that has come in part.
//!
//! While its socket is not read a client cannot be heard, so clocks stand then, and go on from where they were: one that began anew with each pause would
//! never end who makes us pause again and again.

use std::time::{Duration, Instant};

/// A packet that has come in part is further when so many bytes of it have come.
const FURTHER: u32 = 1024;
/// Nothing has come of a packet, but of what it comes in. No packet is as large.
const BELOW: u32 = u32::MAX;

/// Deadlines as values; whoever owns the clock asks for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// The connection's start plus the connect timeout. Behind CONNECT until when a packet must be whole or further that has come in part.
    due: Instant,
    /// The last packet of the client.
    heard: Instant,
    /// Since when the clock of a packet in part stands, if it does.
    stands: Option<Instant>,
    /// Bytes of the packet that has come in part, when its deadline was set; zero: there is none.
    part: u32,
    /// Seconds; zero: none.
    keep_alive: u16,
    /// Where one clock stands, whether that of keep alive does, too.
    both: bool,
}

impl Timer {
    pub(super) fn new(now: Instant, connect_timeout: Duration) -> Self {
        Self {
            due: now + connect_timeout,
            heard: now,
            stands: None,
            part: 0,
            keep_alive: 0,
            both: false,
        }
    }

    /// Starts keep alive, in seconds; zero turns it off.
    pub(super) fn keep_alive(&mut self, seconds: u16, now: Instant) {
        self.keep_alive = seconds;
        self.heard(now);
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.settle(now);
        self.heard = now;
    }

    /// What has come in time is not known: all counts from `now`.
    pub(super) fn slept(&mut self, timeout: Duration, now: Instant) {
        self.heard(now);
        if self.part > 0 {
            self.due = now + timeout;
        }
    }

    /// A packet is whole.
    pub(super) fn whole(&mut self) {
        self.part = 0;
    }

    /// So many bytes of a packet have come, and we wait for the others; zero: we do not. Whether it has begun with them, or is further.
    pub(super) fn part(&mut self, bytes: usize, timeout: Duration, now: Instant) -> bool {
        // It may begin in the turn that ends a pause, and is not put off by that.
        self.settle(now);
        let bytes = u32::try_from(bytes).unwrap_or(BELOW).min(BELOW - 1);
        let is_first = matches!(self.part, 0 | BELOW);
        let is_further = bytes > 0 && (is_first || bytes >= self.part.saturating_add(FURTHER));
        if bytes == 0 || is_further {
            self.part = bytes;
            self.due = now + timeout;
        }
        is_further
    }

    /// Something has begun in which a packet may come, and we wait for the rest of it.
    pub(super) fn below(&mut self, timeout: Duration, now: Instant) {
        self.settle(now);
        if self.part == 0 {
            self.part = BELOW;
            self.due = now + timeout;
        }
    }

    pub(super) fn part_deadline(&self) -> Option<Instant> {
        (self.part > 0 && self.stands.is_none()).then_some(self.due)
    }

    /// The clock of a packet in part stands, or both do.
    pub(super) fn stand(&mut self, both: bool, now: Instant) {
        self.settle(now);
        (self.stands, self.both) = (Some(now), both);
    }

    /// Both go on.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.settle(now);
        (self.stands, self.both) = (None, false);
    }

    /// What stands is put off by as long as it has stood.
    fn settle(&mut self, now: Instant) {
        let Some(since) = self.stands else { return };
        self.stands = Some(now);
        let stood = now.saturating_duration_since(since);
        if self.part > 0 {
            self.due += stood;
        }
        if self.both {
            self.heard += stood;
        }
    }

    pub(super) fn connect_deadline(&self) -> Instant {
        self.due
    }

    /// One and a half keep alives behind the last packet [MQTT-3.1.2-22].
    pub(super) fn keep_alive_deadline(&self) -> Option<Instant> {
        let patience = Duration::from_secs(self.keep_alive.into()) * 3 / 2;
        (self.keep_alive > 0 && !self.both).then(|| self.heard + patience)
    }
}
