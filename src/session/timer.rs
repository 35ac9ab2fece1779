//! The two clocks of a connection: until CONNECT is answered, and keep alive afterwards.

use std::time::{Duration, Instant};

/// Deadlines as values; whoever owns the clock asks for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// The connection's start plus the connect timeout.
    connect: Instant,
    /// The last packet of the client.
    heard: Instant,
    /// One and a half keep alives; zero means none [MQTT-3.1.2-22].
    patience: Duration,
    /// The socket is not read at the moment.
    paused: bool,
}

impl Timer {
    pub(super) fn new(now: Instant, connect_timeout: Duration) -> Self {
        Self {
            connect: now + connect_timeout,
            heard: now,
            patience: Duration::ZERO,
            paused: false,
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
        self.connect
    }

    pub(super) fn keep_alive_deadline(&self) -> Option<Instant> {
        if self.paused || self.patience.is_zero() {
            None
        } else {
            Some(self.heard + self.patience)
        }
    }
}
