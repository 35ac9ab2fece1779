//! What the client says: packet after packet from the socket's bytes into the session, and when the socket is not read.

use std::{
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::Connection;
use crate::{
    downstream::Fill,
    mqtt::{Packet, ReasonCode},
    relay::mailbox::Ending,
};

/// Reads, of 64 KiB at most, for which a connection that must end is heard out.
const LAST_READS: usize = 16;
/// Unsent bytes above which a client's packets are no longer read: it asks for answers and does not take them.
const MAX_UNSENT: usize = 256 * 1024;

/// The first four bits of a PUBLISH (§2.1.2).
const PUBLISH: u8 = 3;

impl Connection {
    /// Gives the session packet after packet, as long as it may read and each can go on.
    pub(super) fn read_packets(&mut self, now: Instant) {
        self.regard_size();
        self.retry(now);
        while self.may_read() {
            let (packet, used) = match self.decoder.decode(self.link.input()) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    self.desk.malformed(&error, &self.session);
                    self.session.malformed(error, now);
                    break;
                }
            };
            self.desk.note(self.link.input()[0]);
            self.session.handle(&packet, now);
            self.desk.act(&mut self.session, Some(&packet), now);
            if self.decoder.version.is_none() {
                self.decoder.version = Some(self.session.version());
            }
            self.regard_size();
            if self.desk.is_blocked() {
                break;
            }
            self.spend(used, now);
        }
        self.desk.kick();
    }

    /// Behind CONNECT larger packets are taken, but of a client that is still to prove by AUTH who it is.
    fn regard_size(&mut self) {
        let most = self.desk.shared.settings.session.maximum_packet_size;
        let proves = self.session.authentication().is_some() && !self.session.is_live();
        if self.decoder.version.is_some() && !proves && self.decoder.max_packet_size != most {
            self.decoder.max_packet_size = most;
            self.link.set_max_packet_size(most);
        }
    }

    /// Tries the PUBLISH again that lies blocked at the front of the input.
    fn retry(&mut self, now: Instant) {
        if !self.desk.is_blocked() || !self.session.is_live() {
            return;
        }
        let Ok(Some((Packet::Publish(publish), used))) = self.decoder.decode(self.link.input()) else {
            return;
        };
        self.desk.resume(&mut self.session, &publish, now);
        if !self.desk.is_blocked() {
            self.spend(used, now);
        }
    }

    /// The packet at the front of the input has been taken.
    fn spend(&mut self, used: usize, now: Instant) {
        if let Some(pace) = &mut self.pace {
            let is_publish = self.link.input()[0] >> 4 == PUBLISH;
            pace.spend(is_publish.into(), used, now);
        }
        self.link.consume(used);
    }

    /// Another connection has the client id, an operator has ended the session, or the process stops. What the client said before may still lie in the socket, and is heard
    /// first: a device that says goodbye and comes back at once would lose its last messages of QoS 0, and have its will sent although it
    /// said goodbye.
    pub(super) fn begin_to_end(&mut self, ending: Ending, now: Instant) {
        if self.session.is_live() {
            self.hear_out(now);
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
            Ending::ShutDown => self.desk.begin_drain(now),
        }
    }

    /// A line of the audit log.
    pub(super) fn tell_takeover(&self, reason: &str, now: Instant) {
        self.desk.tell_takeover(self.session.client_id(), self.link.peer(), reason, now);
    }

    fn hear_out(&mut self, now: Instant) {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..LAST_READS {
            if !self.may_read() {
                return;
            }
            match self.link.poll_fill(&mut context) {
                Poll::Ready(Ok(Fill::Bytes)) => self.read_packets(now),
                // An end is seen again by whoever waits for the socket next.
                Poll::Ready(Ok(Fill::End) | Err(_)) | Poll::Pending => return,
            }
        }
    }

    fn may_read(&mut self) -> bool {
        !self.is_held() && self.session.outbox().len() < MAX_UNSENT
    }

    /// Whether we are the one who is waited for.
    fn is_held(&self) -> bool {
        self.paced().is_some() || self.desk.is_blocked() || self.desk.is_draining() || !self.session.may_read()
    }

    /// The client was too fast, and is not read until then.
    pub(super) fn paced(&self) -> Option<Instant> {
        self.pace.as_ref().and_then(|pace| pace.until())
    }

    /// While we hold the socket back its keep alive rests: PINGREQ and DISCONNECT lie behind what is not read. It does not rest for
    /// a client that does not take what it is sent, or one that is gone without a word would stay for ever.
    pub(super) fn regard_reading(&mut self, now: Instant) {
        let resting = self.is_held();
        match (self.resting, resting) {
            (false, true) => self.session.reading_paused(now),
            (true, false) => self.session.resumed(now),
            _ => {}
        }
        (self.resting, self.reading) = (resting, self.may_read());
        // What is read and left here is the beginning of a packet.
        let begun = if self.reading { self.link.input().len() } else { 0 };
        self.session.waits_for_rest(begun, now);
        self.unsent = self.session.outbox().len();
    }

    /// A client that is not read until it has taken more is alive as long as it takes some.
    pub(super) fn regard_taking(&mut self, now: Instant) {
        if !self.reading && self.session.outbox().len() < self.unsent {
            self.session.taken(now);
        }
    }
}
