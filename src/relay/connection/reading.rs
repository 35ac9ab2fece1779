//! What the client says: packet after packet from the socket's bytes into the session, and when the socket is not read.

use std::{
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::Connection;
use crate::{downstream::Fill, mqtt::Packet, relay::allowance};

/// Unsent bytes above which a client's packets are no longer read: it asks for answers and does not take them.
const MAX_UNSENT: usize = 256 * 1024;

/// So often a socket is looked at before a clock ends its connection. Each look takes 64 KiB at most, and where those carried nothing the next one
/// takes none.
const LOOKS: usize = 8;

/// Which clocks of a client go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clocks {
    /// All that there are.
    Go,
    /// But not that of a packet which has come in part.
    KeepAlive,
    /// None.
    Stand,
}

/// The first four bits of a PUBLISH (§2.1.2).
const PUBLISH: u8 = 3;
/// Those of what is taken while the process stops: acknowledgements, PINGREQ, and DISCONNECT, or the will of a client would be sent that says goodbye meanwhile.
const TAKEN_LAST: [u8; 6] = [4, 5, 6, 7, 12, 14];

impl Connection {
    /// Gives the session packet after packet, as long as it may read, each can go on, and programs leave time for it in this turn.
    pub(super) fn read_packets(&mut self, now: Instant) {
        self.regard_size();
        self.retry(now);
        while self.may_read() {
            let (packet, used) = match self.decoder.decode(self.link.input()) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.regard_part(now);
                    break;
                }
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
        // Behind the packets that came with it, or those would wait until it is paid for.
        self.spend_on_nothing(now);
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
            pace.spend_on_nothing(bytes, now);
        }
        bytes > 0
    }

    pub(super) fn may_read(&mut self) -> bool {
        !self.is_held() && self.has_room()
    }

    /// Whether the client takes what it is sent.
    fn has_room(&mut self) -> bool {
        self.session.outbox().len() < MAX_UNSENT
    }

    /// Whether the client is held back, by its own speed or by us.
    pub(super) fn is_held(&self) -> bool {
        self.paced().is_some() || self.is_held_by_us()
    }

    /// Whether we are the one who is waited for.
    fn is_held_by_us(&self) -> bool {
        allowance::is_used_up() || self.desk.is_blocked() || self.is_past_the_last() || !self.session.may_read()
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

    /// While we hold the socket back the clocks of its client stand: PINGREQ and DISCONNECT, or the rest of a packet, lie behind what is not read.
    pub(super) fn regard_reading(&mut self, now: Instant) {
        let clocks = self.how_clocks_go();
        if clocks != self.clocks {
            match clocks {
                Clocks::Go => self.session.resumed(now),
                Clocks::KeepAlive => self.session.reading_put_off(now),
                Clocks::Stand => self.session.reading_paused(now),
            }
        }
        (self.clocks, self.reading) = (clocks, self.may_read());
        if self.reading {
            self.regard_part(now);
        }
        self.regard_unsent(now);
    }

    /// Keep alive does not stand for a client that does not take what it is sent, or one that is gone without a word would stay for ever; nor for
    /// one that is too fast with what is nothing.
    fn how_clocks_go(&mut self) -> Clocks {
        let is_for_nothing = self.pace.as_ref().is_some_and(|pace| pace.is_for_nothing());
        if self.is_held_by_us() || (self.paced().is_some() && !is_for_nothing) {
            Clocks::Stand
        } else if !self.has_room() {
            Clocks::KeepAlive
        } else {
            Clocks::Go
        }
    }

    /// What is read and left in the input is the beginning of a packet; below it there may be what carries one, in part.
    fn regard_part(&mut self, now: Instant) {
        let bytes = self.link.input().len();
        if bytes > 0 {
            let goes_on = self.session.waits_for_rest(bytes, now);
            if let Some(pace) = self.pace.as_mut().filter(|_| goes_on) {
                pace.goes_on();
            }
        } else if self.link.has_begun() {
            if self.link.begins_anew() {
                self.session.waits_for_rest(0, now);
            }
            self.session.waits_for_carrier(now);
        } else {
            self.session.waits_for_rest(0, now);
        }
    }

    /// What the client has said in time may lie unread in the socket when a clock is over, since the clock had hardly gone while we read, or
    /// the client was held back for what is nothing. So it is looked at before anything ends by that.
    pub(super) fn regard_unread(&mut self, now: Instant) {
        if !self.is_clock_over(now) {
            return;
        }
        for _ in 0..LOOKS {
            let has_more = self.look(now);
            self.read_packets(now);
            if self.may_read() {
                self.regard_part(now);
            }
            if !has_more || !self.is_clock_over(now) {
                break;
            }
        }
        if let Some(pace) = &mut self.pace {
            pace.take_up(now);
        }
    }

    fn is_clock_over(&self, now: Instant) -> bool {
        self.session.is_live() && self.session.deadline().is_some_and(|due| due <= now)
    }

    /// Whether something was read, however fast its client is. An end is seen again by whoever waits for the socket next.
    fn look(&mut self, now: Instant) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.set_pace_aside();
        let has_more = self.may_read() && matches!(self.link.poll_fill(&mut context), Poll::Ready(Ok(Fill::Bytes)));
        let carried_nothing = self.spend_on_nothing(now);
        self.set_pace_aside();
        has_more || carried_nothing
    }

    fn set_pace_aside(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.set_aside();
        }
    }

    /// What had begun below the input may have become whole without a byte for us.
    pub(super) fn regard_rest(&mut self, now: Instant) {
        if self.link.input().is_empty() && !self.link.has_begun() {
            self.session.waits_for_rest(0, now);
        }
    }
}
