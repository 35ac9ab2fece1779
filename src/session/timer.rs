//! The clocks of a connection: until CONNECT is answered, and keep alive afterwards; and of a packet that has come in part.

use std::time::{Duration, Instant};

/// A packet that has come in part is further when so many bytes of it have come.
const FURTHER: usize = 1024;

/// Deadlines as values; whoever owns the clock asks for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// The connection's start plus the connect timeout. Behind CONNECT until when a packet must be whole or further that has come in part.
    due: Instant,
    /// The last packet of the client.
    heard: Instant,
    /// One and a half keep alives; zero means none [MQTT-3.1.2-22].
    patience: Duration,
    /// The socket is not read at the moment.
    paused: bool,
    /// Bytes of the packet that has come in part, when its deadline was set; zero: there is none.
    part: u32,
}

impl Timer {
    pub(super) fn new(now: Instant, connect_timeout: Duration) -> Self {
        Self {
            due: now + connect_timeout,
            heard: now,
            patience: Duration::ZERO,
            paused: false,
            part: 0,
        }
    }

    /// Starts keep alive; zero turns it off.
    pub(super) fn keep_alive(&mut self, interval: Duration, now: Instant) {
        self.patience = interval * 3 / 2;
        self.heard = now;
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// What has come in time is not known: all counts from `now`.
    pub(super) fn slept(&mut self, timeout: Duration, now: Instant) {
        self.heard = now;
        if self.part > 0 {
            self.due = now + timeout;
        }
    }

    /// A packet is whole.
    pub(super) fn whole(&mut self) {
        self.part = 0;
    }

    /// So many bytes of a packet have come, and we wait for the others.
    pub(super) fn part(&mut self, bytes: usize, timeout: Duration, now: Instant) {
        let is_further = self.part == 0 || bytes >= self.part as usize + FURTHER;
        if bytes == 0 || is_further {
            self.part = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.due = now + timeout;
        }
    }

    pub(super) fn part_deadline(&self) -> Option<Instant> {
        (self.part > 0).then_some(self.due)
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self, now: Instant) {
        if self.paused {
            self.paused = false;
            self.heard = now;
        }
    }

    pub(super) fn connect_deadline(&self) -> Instant {
        self.due
    }

    pub(super) fn keep_alive_deadline(&self) -> Option<Instant> {
        if self.paused || self.patience.is_zero() {
            None
        } else {
            Some(self.heard + self.patience)
        }
    }
}
