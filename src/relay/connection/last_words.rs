//! What a client has said before its connection ends is heard first.
//!
//! It may still lie in the socket: a device that says goodbye and comes back at once, or closes its socket with answers in it, would lose its last messages of
//! QoS 0, and have its will sent although it said goodbye. Where the socket is not read at the moment, since a PUBLISH waits for Kafka, there
//! is a bound to the wait, for somebody may wait for this end.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{Connection, waking::Awake};
use crate::{downstream::Fill, mqtt::ReasonCode, relay::mailbox::Ending};

/// Reads, of 64 KiB at most, for which a connection that must end is heard out at once.
const LAST_READS: usize = 16;
/// How long the end waits for what cannot be read yet.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Connection {
    /// Another connection has the client id, an operator has ended the session, or the process stops.
    ///
    /// Told as a sequence of events what follows of ending at once where the socket is not read: PUBLISH of QoS 1, one of QoS 2 that waits for it, DISCONNECT,
    /// and CONNECT of the same client on another connection before Kafka has answered the first: its will is sent.
    pub(super) fn begin_to_end(&mut self, ending: Ending, now: Instant) {
        if self.session.is_live() {
            self.hear_out(now);
        }
        // The mailbox says it again with the next turn.
        if self.session.is_live() && self.waits_to_hear(now) {
            return;
        }
        match ending {
            Ending::TakenOver => {
                // On whichever instance the other one is: this line is where the former one was.
                if self.session.is_live() {
                    self.tell_takeover("client_id_taken", now);
                }
                self.session.take_over(now);
            }
            Ending::ByOperator => self
                .session
                .give_up(ReasonCode::AdministrativeAction, "an operator has ended the session", now),
            Ending::ShutDown => {
                // Its time counts from when it was told: the process waits no longer.
                let told = self.ends_by.as_deref().and_then(|by| by.checked_sub(LAST_WORDS)).unwrap_or(now);
                self.ends_by.take_if(|_| !self.link.is_deaf());
                self.desk.begin_drain(told);
            }
        }
    }

    /// A line of the audit log.
    pub(super) fn tell_takeover(&self, reason: &str, now: Instant) {
        self.desk.tell_takeover(self.session.client_id(), self.link.peer(), reason, now);
    }

    fn hear_out(&mut self, now: Instant) {
        let mut context = Context::from_waker(Waker::noop());
        let mut left = LAST_READS;
        // A pause of WebSocket is no read, but the look behind it is. Who sends what carries nothing as fast as it is read would be heard without end.
        for _ in 0..2 * LAST_READS {
            if left == 0 || !self.may_read() {
                return;
            }
            match self.link.poll_fill(&mut context) {
                Poll::Ready(Ok(Fill::Bytes)) => {
                    left -= 1;
                    self.read_packets(now);
                }
                // More may lie behind what carried nothing.
                Poll::Pending if self.spend_on_nothing(now) => {}
                // An end is seen again by whoever waits for the socket next.
                Poll::Ready(Ok(Fill::End) | Err(_)) | Poll::Pending => return,
            }
        }
    }

    /// Whether there is more to hear that cannot be read yet, and time for it. Not after a pause of the process, when nothing but the end may be said.
    fn waits_to_hear(&mut self, now: Instant) -> bool {
        if !self.is_held() || !Awake::is_sure(self.awake.as_deref()) || !self.has_more_input(now) {
            return false;
        }
        self.begin_last_words(now);
        self.ends_by.as_deref().is_some_and(|by| now < *by)
    }

    fn has_more_input(&mut self, now: Instant) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let has_some = !self.link.input().is_empty() || matches!(self.link.poll_fill(&mut context), Poll::Ready(Ok(Fill::Bytes)));
        // More may lie behind what carried nothing.
        self.spend_on_nothing(now) || has_some
    }

    /// Nothing new is said to the client; what it has said before is read, until its end is seen or time is over.
    pub(super) fn begin_last_words(&mut self, now: Instant) {
        self.ends_by.get_or_insert_with(|| Box::new(now + LAST_WORDS));
    }

    /// Ends a connection whose client takes nothing any more, if its end is not seen in time.
    pub(super) fn regard_deaf(&mut self, now: Instant) {
        if self.link.is_deaf() && self.ends_by.as_deref().is_some_and(|by| now >= *by) {
            self.session.lost(now);
        }
    }
}
