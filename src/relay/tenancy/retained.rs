//! Retained messages on their way to the client. Each has the place of its record in the retained topic, which is no source of the session: none of its
//! positions says anything of it.
//!
//! At QoS 2 its pair is written before it is sent, as of any other. What was sent at QoS 1 and is open is told with the next report, and at
//! the end, so that its packet id stays its own.

use std::time::Instant;

use super::Tenancy;
use crate::{
    ownership::Place,
    relay::store::{Order, Report},
};

impl Tenancy {
    /// A retained message was sent at QoS 1, and will be settled under the last token.
    pub fn sent_retained(&mut self, place: Place, packet: u16, now: Instant) {
        self.sent(place.source, place.offset, packet, false);
        self.is_apart();
        self.untold.insert(packet, place);
        self.look_soon(now);
    }

    /// One is to be sent at QoS 2: asks the store.
    pub fn asked_retained(&mut self, place: Place, packet: u16) {
        self.sent(place.source, place.offset, packet, true);
        self.is_apart();
        let report = Report {
            settled: std::mem::take(&mut self.settled),
            ..Report::default()
        };
        self.order(Order::Send(self.id, packet, place, report));
    }

    /// The last that was sent is none of the session's sources.
    pub(super) fn is_apart(&mut self) {
        self.open.entry(self.token).and_modify(|sent| sent.apart = true);
    }

    /// What is open is the store's to know.
    pub(super) fn tell_untold(&mut self, report: &mut Report) {
        while let Some((packet, place)) = self.untold.pop_first() {
            self.told.insert(packet);
            report.sent.push((packet, place));
        }
    }
}
