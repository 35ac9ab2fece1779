//! From the device: PUBLISH, its answers in order, and the second half of QoS 2 (§4.3, §4.6).
//!
//! Two tables: a ring of the PUBLISHes that wait for their answer, in order of arrival, and the step of every open packet id. The ring's
//! tickets are consecutive, so a ticket is an index. An answer that comes early waits in the ring for those before it.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::alias::InboundAliases;
use super::{AckKind, Answer, Output, Phase, Session, Ticket};
use crate::mqtt::{Ack, PacketId, Publish, QoS, ReasonCode, Version};

/// Packet ids that the client of a stored session may have open that was told no window, or has some from before, if the window is not large: each
/// takes some 55 bytes of the 256 KiB that one record has for what is in flight, which is written anew with each step.
const MOST_OPEN: usize = 1024;
/// The same where nothing is stored: each takes 10 bytes here. Clients write a burst of QoS 2 before the first PUBREL, and one that is closed for it comes
/// back and repeats all of it.
const MOST_OPEN_UNSTORED: usize = 8192;

/// The device's side of the session.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// PUBLISHes whose PUBACK or PUBREC has not left yet.
    waiting: VecDeque<Waiting>,
    /// Ticket of `waiting[0]`. Tickets wrap around: far fewer than 2^32 wait at a time.
    first: u32,
    /// Open packet ids; in version 5 their number is what receive maximum bounds, in 3.x [`MOST_OPEN`] or [`MOST_OPEN_UNSTORED`]. The client chooses the keys, but of
    /// 65,535 only: the fast hasher's worst case is harmless.
    open: FxHashMap<PacketId, Step>,
    /// Words for refusals whose turn has not come; nearly always empty.
    notes: Vec<(PacketId, &'static str)>,
    aliases: InboundAliases,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    packet_id: PacketId,
    exactly_once: bool,
    state: State,
}

/// How far the answer to a PUBLISH is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The relay has the ticket.
    Asked,
    Acked,
    /// A QoS 2 PUBLISH that had its PUBREC already and came again: only the PUBREC is repeated.
    Repeated,
    /// A repeated PUBREC that the client's PUBREL came before: the packet id may be another message's by now.
    Withdrawn,
    Refused(ReasonCode),
    Unknown,
    Ended(ReasonCode),
}

/// Where the exchange of an open packet id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// QoS 1 without PUBACK.
    AtLeastOnce,
    /// The same under the packet id of an exchange of QoS 2 from before, which it leaves as it is: the client has lost its memory and counts anew.
    AtLeastOnceBeside,
    /// QoS 2 without PUBREC.
    ExactlyOnce,
    /// QoS 2 with PUBREC: the message is ours, PUBREL is awaited.
    Received,
    /// Of a stored session, from before: PUBLISH or PUBREL comes again.
    Former,
    /// Of a stored session: PUBREL came, PUBCOMP waits for the relay.
    Releasing {
        /// Nothing but PUBREL was heard of it on this connection.
        former: bool,
    },
}

/// What to do about a PUBLISH with a packet id.
enum Admission {
    Produce,
    /// An earlier arrival of the same message answers for it.
    Swallow,
    RepeatPubRec,
    Breach(ReasonCode, &'static str),
}

impl Inbound {
    pub(super) fn unanswered(&self) -> usize {
        self.waiting.len()
    }

    /// The end of the session, behind the answers of what is in the ring, and for a PUBLISH that has no packet id.
    pub(super) fn push_end(&mut self, reason: ReasonCode) {
        self.push(PacketId(std::num::NonZeroU16::MIN), QoS::AtMostOnce, State::Ended(reason));
    }

    /// It waits for answers. Nothing is taken behind it, so it is the last.
    pub(super) fn is_ending(&self) -> bool {
        self.waiting.back().is_some_and(|last| matches!(last.state, State::Ended(_)))
    }

    pub(super) fn resolved_topic<'a>(&'a self, publish: &Publish<'a>) -> &'a str {
        match publish.properties.topic_alias {
            Some(alias) if publish.topic.is_empty() => self.aliases.get(alias),
            _ => publish.topic,
        }
    }

    pub(super) fn shrink(&mut self) {
        // Only what is empty: a client may alternate between PUBLISH and PINGREQ, and tables would grow anew each time.
        if self.open.is_empty() && self.waiting.is_empty() {
            (self.open, self.waiting, self.notes) = Default::default();
        }
    }

    /// `former` says how many packet ids of a stored session are open from before; `None` if nothing is stored.
    fn admit(
        &self,
        packet_id: PacketId,
        publish: &Publish<'_>,
        version: Version,
        receive_maximum: usize,
        former: Option<usize>,
    ) -> Admission {
        let exactly_once = publish.qos == QoS::ExactlyOnce;
        let most = if former.is_some() { MOST_OPEN } else { MOST_OPEN_UNSTORED };
        match self.open.get(&packet_id) {
            Some(Step::Received) if exactly_once => Admission::RepeatPubRec,
            // A 3.x client that lost its memory could not come in for as long as its session lasts, were its QoS 1 a breach.
            Some(Step::Former) => Admission::Produce,
            // [MQTT-4.3.3-10]: whatever its DUP flag says.
            Some(Step::ExactlyOnce) if exactly_once => Admission::Swallow,
            Some(Step::AtLeastOnce | Step::AtLeastOnceBeside) if !exactly_once && publish.dup => Admission::Swallow,
            // [MQTT-2.2.1-3]
            Some(_) => Admission::Breach(ReasonCode::ProtocolError, "a packet id in use was used for another message"),
            // [MQTT-3.3.4-7]
            None if version == Version::V5 && self.open.len() - former.unwrap_or(0) >= receive_maximum => {
                Admission::Breach(ReasonCode::ReceiveMaximumExceeded, "")
            }
            // 3.x cannot be told the window and is held back by not reading; but PUBRELs lie behind PUBLISHes, so waiting for
            // them would be for ever, and a client may write all of its PUBLISHes first. What memory and record are not to hold ends the connection.
            None if self.open.len() >= receive_maximum.saturating_mul(4).max(most) => {
                Admission::Breach(ReasonCode::ReceiveMaximumExceeded, "too many open packet ids")
            }
            None => Admission::Produce,
        }
    }

    /// An exchange begins; true if it goes on from before.
    fn begin(&mut self, packet_id: PacketId, qos: QoS) -> bool {
        let is_former = self.open.get(&packet_id) == Some(&Step::Former);
        let step = match qos {
            QoS::ExactlyOnce => Step::ExactlyOnce,
            _ if is_former => Step::AtLeastOnceBeside,
            _ => Step::AtLeastOnce,
        };
        self.open.insert(packet_id, step);
        is_former && step == Step::ExactlyOnce
    }

    /// An exchange has ended with its acknowledgement.
    fn end(&mut self, packet_id: PacketId) {
        match self.open.get_mut(&packet_id) {
            Some(step @ Step::AtLeastOnceBeside) => *step = Step::Former,
            _ => drop(self.open.remove(&packet_id)),
        }
    }

    fn push(&mut self, packet_id: PacketId, qos: QoS, state: State) -> Ticket {
        let ticket = Ticket(self.first.wrapping_add(self.waiting.len() as u32));
        self.waiting.push_back(Waiting {
            packet_id,
            exactly_once: qos == QoS::ExactlyOnce,
            state,
        });
        ticket
    }

    /// Enters an answer; false if the ticket is not waiting for one.
    fn enter(&mut self, ticket: Ticket, answer: Answer) -> bool {
        let index = ticket.0.wrapping_sub(self.first) as usize;
        let Some(waiting) = self.waiting.get_mut(index) else { return false };
        if waiting.state != State::Asked {
            return false;
        }
        waiting.state = match answer {
            Answer::Acked => State::Acked,
            Answer::Unknown => {
                self.notes.push((waiting.packet_id, "unknown_outcome"));
                State::Unknown
            }
            Answer::Refused { reason, reason_string } => {
                if let Some(note) = reason_string {
                    self.notes.push((waiting.packet_id, note));
                }
                State::Refused(reason)
            }
        };
        true
    }

    /// Takes the first PUBLISH of the ring if its answer is there.
    fn pop_answered(&mut self) -> Option<Waiting> {
        let waiting = *self.waiting.front().filter(|waiting| waiting.state != State::Asked)?;
        self.waiting.pop_front();
        self.first = self.first.wrapping_add(1);
        Some(waiting)
    }

    /// The packet id is the client's again, and nothing more is said about the message it stood for.
    fn release(&mut self, packet_id: PacketId) {
        self.open.remove(&packet_id);
        let repeated = |waiting: &&mut Waiting| waiting.packet_id == packet_id && waiting.state == State::Repeated;
        self.waiting
            .iter_mut()
            .filter(repeated)
            .for_each(|waiting| waiting.state = State::Withdrawn);
    }

    /// Whether a PUBLISH may be one that was begun on a connection before.
    fn repeats_former(&self, publish: &Publish<'_>) -> bool {
        let is_former = |packet_id| self.open.get(&packet_id) == Some(&Step::Former);
        publish.qos == QoS::ExactlyOnce && publish.packet_id.is_some_and(is_former)
    }

    /// A packet id from before this connection.
    pub(super) fn enter_former(&mut self, packet_id: PacketId) {
        self.open.insert(packet_id, Step::Former);
    }

    /// The exchange of a packet id whose PUBREL came is over; whether it is one of those from before. `None` if it is not one.
    pub(super) fn completed(&mut self, packet_id: PacketId) -> Option<bool> {
        let Some(Step::Releasing { former }) = self.open.get(&packet_id).copied() else {
            return None;
        };
        self.release(packet_id);
        Some(former)
    }

    fn take_note(&mut self, packet_id: PacketId) -> Option<&'static str> {
        let index = self.notes.iter().position(|(id, _)| *id == packet_id);
        index.map(|index| self.notes.swap_remove(index).1)
    }
}

impl Session {
    /// PUBLISH of the client.
    pub(super) fn publish(&mut self, publish: &Publish<'_>, now: Instant) {
        // [MQTT-3.2.2-14]: CONNACK said that nothing is retained; 3.1.1 has no word for it, and nothing is ignored silently. What was begun when messages were
        // retained is completed.
        if publish.retain && !self.settings.retain_available && !self.inbound.repeats_former(publish) {
            return self.end(ReasonCode::RetainNotSupported, "no rule allows retained messages", now);
        }
        if !self.settings.topic_fits(publish.topic) {
            return self.end(ReasonCode::TopicNameInvalid, "a topic over the limits", now);
        }
        if let Some(alias) = publish.properties.topic_alias
            && let Err(reason) = self.inbound.aliases.apply(alias, publish.topic, self.settings.topic_alias_maximum)
        {
            return self.end(reason, "topic alias", now);
        }
        let Some(packet_id) = publish.packet_id else {
            return self.outputs.push_back(Output::Publish { ticket: None });
        };
        let former = self.stored.as_ref().map(|stored| stored.former);
        match self
            .inbound
            .admit(packet_id, publish, self.version, usize::from(self.settings.receive_maximum), former)
        {
            Admission::Produce => {
                if self.inbound.begin(packet_id, publish.qos)
                    && let Some(stored) = &mut self.stored
                {
                    stored.former -= 1;
                }
                let ticket = self.inbound.push(packet_id, publish.qos, State::Asked);
                self.outputs.push_back(Output::Publish { ticket: Some(ticket) });
            }
            Admission::Swallow => {}
            Admission::RepeatPubRec => {
                // In the ring like any other, for the order of PUBRECs [MQTT-4.6.0-2]; bounded like any other, too.
                if self.inbound.waiting.len() >= usize::from(self.settings.receive_maximum).saturating_mul(4) {
                    return self.end(ReasonCode::ReceiveMaximumExceeded, "a QoS 2 message repeated without end", now);
                }
                self.inbound.push(packet_id, publish.qos, State::Repeated);
                self.send_answers(now);
            }
            Admission::Breach(reason, detail) => self.end(reason, detail, now),
        }
    }

    /// The PUBLISH just handled has the retain flag, and its topic takes none: PUBACK has no word for that (§3.4.2.1), DISCONNECT has.
    pub fn retain_denied(&mut self, now: Instant) {
        if self.phase == Phase::Live {
            self.end(ReasonCode::RetainNotSupported, "the topic takes no retained messages", now);
        }
    }

    /// The relay's answer to a PUBLISH. The acknowledgement leaves when all before it have left [MQTT-4.6.0-2].
    /// A ticket that is unknown or answered already is ignored.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer, now: Instant) {
        if self.phase == Phase::Live && self.inbound.enter(ticket, answer) {
            self.send_answers(now);
        }
    }

    /// Sends the acknowledgements whose turn has come.
    pub(super) fn send_answers(&mut self, now: Instant) {
        while self.phase == Phase::Live {
            let Some(waiting) = self.inbound.pop_answered() else { return };
            let kind = if waiting.exactly_once { AckKind::Rec } else { AckKind::Ack };
            match waiting.state {
                State::Withdrawn => {}
                State::Asked | State::Repeated => self.send_ack(kind, waiting.packet_id, ReasonCode::Success, None, now),
                State::Acked => self.send_acked(waiting, kind, now),
                State::Refused(reason) => self.send_refused(waiting.packet_id, kind, reason, now),
                // The device must send a QoS 2 message again to learn its fate; only a closed connection makes it.
                State::Unknown if waiting.exactly_once || self.version != Version::V5 => {
                    self.end_from_outside(ReasonCode::ImplementationSpecificError, "the outcome in Kafka is unknown", now);
                }
                State::Unknown => self.send_refused(waiting.packet_id, kind, ReasonCode::ImplementationSpecificError, now),
                State::Ended(reason) => self.end_from_outside(reason, "a message was refused", now),
            }
        }
    }

    fn send_acked(&mut self, waiting: Waiting, kind: AckKind, now: Instant) {
        if waiting.exactly_once {
            self.inbound.open.insert(waiting.packet_id, Step::Received);
        } else {
            self.inbound.end(waiting.packet_id);
        }
        self.send_ack(kind, waiting.packet_id, ReasonCode::Success, None, now);
    }

    /// An error ends the exchange of either QoS (§4.3.3); 3.x has none to send.
    fn send_refused(&mut self, packet_id: PacketId, kind: AckKind, reason: ReasonCode, now: Instant) {
        let note = self.inbound.take_note(packet_id);
        if self.version != Version::V5 {
            return self.end_from_outside(reason, note.unwrap_or("a message was refused"), now);
        }
        self.inbound.end(packet_id);
        self.send_ack(kind, packet_id, ack_reason(reason), note, now);
    }

    /// PUBREL: the client has forgotten the message, the packet id is free again.
    pub(super) fn pubrel(&mut self, ack: &Ack<'_>, now: Instant) {
        let packet_id = ack.packet_id;
        match self.inbound.open.get(&packet_id).copied() {
            Some(step @ (Step::Received | Step::Former)) if self.stored.is_some() => {
                let former = step == Step::Former;
                self.inbound.open.insert(packet_id, Step::Releasing { former });
                self.outputs.push_back(Output::PubRel { packet_id });
            }
            // PUBCOMP is on its way.
            Some(Step::Releasing { .. }) => {}
            Some(Step::Received) => {
                self.inbound.release(ack.packet_id);
                self.send_ack(AckKind::Comp, ack.packet_id, ReasonCode::Success, None, now);
            }
            Some(_) => self.end(ReasonCode::ProtocolError, "PUBREL before PUBREC", now),
            // [MQTT-4.3.3-11]: answered all the same, or the client would wait for ever.
            None => self.send_ack(AckKind::Comp, ack.packet_id, ReasonCode::PacketIdentifierNotFound, None, now),
        }
    }
}

/// The errors PUBACK and PUBREC may carry (§3.4.2.1, §3.5.2.1); everything else is "implementation specific".
fn ack_reason(reason: ReasonCode) -> ReasonCode {
    use ReasonCode::*;
    match reason {
        UnspecifiedError | NotAuthorized | TopicNameInvalid | PacketIdentifierInUse | QuotaExceeded | PayloadFormatInvalid => reason,
        _ => ImplementationSpecificError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_publish_when_tickets_wrap_around() {
        let mut inbound = Inbound {
            first: u32::MAX,
            ..Inbound::default()
        };
        let tickets: Vec<Ticket> = (1..=3)
            .map(|id| inbound.push(PacketId(std::num::NonZeroU16::new(id).unwrap()), QoS::AtLeastOnce, State::Asked))
            .collect();
        assert_eq!(tickets, [Ticket(u32::MAX), Ticket(0), Ticket(1)]);
        for ticket in tickets.iter().rev() {
            assert!(inbound.enter(*ticket, Answer::Acked));
        }
        for id in 1..=3 {
            assert_eq!(inbound.pop_answered().map(|waiting| waiting.packet_id.0.get()), Some(id));
        }
        assert!(!inbound.enter(Ticket(u32::MAX), Answer::Acked), "it was answered before");
    }
}
