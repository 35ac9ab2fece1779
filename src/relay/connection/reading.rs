//! What the client says: packet after packet from the socket's bytes into the session, and when the socket is not read.

use std::time::Instant;

use super::Connection;
use crate::{mqtt::Packet, relay::allowance};

/// Unsent bytes above which a client's packets are no longer read: it asks for answers and does not take them.
const MAX_UNSENT: usize = 256 * 1024;

/// The first four bits of a PUBLISH (§2.1.2).
const PUBLISH: u8 = 3;
/// Those of what is taken while the process stops: acknowledgements, PINGREQ, and DISCONNECT, or the will of a client would be sent that says goodbye meanwhile.
const TAKEN_LAST: [u8; 6] = [4, 5, 6, 7, 12, 14];

impl Connection {
    /// Gives the session packet after packet, as long as it may read, each can go on, and programs leave time for it in this turn.
    pub(super) fn read_packets(&mut self, now: Instant) {
        self.spend_on_nothing(now);
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

    /// Larger packets than CONNECT are taken of a client that is let in, and of no other: not of one that is still to prove by AUTH who it is, nor
    /// behind the CONNECT of one that is asked about.
    fn regard_size(&mut self) {
        let most = self.desk.shared.settings.session.maximum_packet_size;
        if self.session.is_live() && self.decoder.max_packet_size != most {
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

    /// What came around packets, or without any, costs as much as they do. Whether there was some.
    pub(super) fn spend_on_nothing(&mut self, now: Instant) -> bool {
        let bytes = self.link.carried_nothing();
        if bytes > 0
            && let Some(pace) = &mut self.pace
        {
            pace.spend(0, bytes, now);
        }
        bytes > 0
    }

    pub(super) fn may_read(&mut self) -> bool {
        !self.is_held() && self.session.outbox().len() < MAX_UNSENT
    }

    /// Whether we are the one who is waited for.
    pub(super) fn is_held(&self) -> bool {
        let is_paused = self.paced().is_some() || allowance::is_used_up();
        is_paused || self.desk.is_blocked() || self.is_past_the_last() || !self.session.may_read()
    }

    /// Whether the socket is read only to see its end: while it is asked who the client is, and nobody is to be asked about one that is gone.
    /// What it has sent behind its CONNECT, up to the size that a CONNECT may have and a byte, is kept for later, and from then on its end is not seen
    /// before the answer: that lies behind what is not read.
    pub(super) fn looks_for_its_end(&self) -> bool {
        let is_asked_about = self.desk.admission.as_ref().is_some_and(|admission| admission.is_asked_about());
        is_asked_about && self.link.input().is_empty()
    }

    /// While the process stops nothing new is begun: whether that lies at the front of the input.
    fn is_past_the_last(&self) -> bool {
        let begins = |first: &u8| !TAKEN_LAST.contains(&(first >> 4));
        self.desk.is_draining() && self.link.input().first().is_some_and(begins)
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
        // What is read and left here is the beginning of a packet; below it TLS may have one of its records in part.
        let begun = self.link.input().len().max(self.link.has_begun().into());
        self.session.waits_for_rest(if self.reading { begun } else { 0 }, now);
        self.regard_unsent(now);
    }

    /// What had begun below the input may have become whole without a byte for us.
    pub(super) fn regard_rest(&mut self, now: Instant) {
        if self.link.input().is_empty() && !self.link.has_begun() {
            self.session.waits_for_rest(0, now);
        }
    }
}
