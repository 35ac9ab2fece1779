//! All the ways a session ends, and what the client is told on each (§3.14, §4.13).

use std::time::Instant;

use super::{Cause, Close, Output, Phase, Session};
use crate::mqtt::codec::DecodeError;
use crate::mqtt::{ConnAck, ConnAckProperties, Disconnect, Packet, ReasonCode, Version};

/// A DISCONNECT of the client that ends its connection in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The session expiry interval from now on, seconds, if it is another (§3.14.2.2.2).
    pub expiry: Option<u32>,
    /// The will is due all the same (0x04, or an error).
    pub with_will: bool,
}

impl Session {
    /// The DISCONNECT that ended the session, if one did.
    pub fn goodbye(&self) -> Option<Goodbye> {
        self.goodbye
    }

    /// From here on nothing leaves but an end, until [`Session::speak`]: if the session ends meanwhile, all that it had to say before is dropped.
    /// The outbox must not be written in between.
    pub fn hush(&mut self) {
        self.hushed = true;
    }

    /// What it has said since [`Session::hush`] may leave.
    pub fn speak(&mut self) {
        self.hushed = false;
    }

    /// Whether all that is left to be written is an end.
    pub fn is_hushed(&self) -> bool {
        self.hushed
    }

    /// False: a packet has left in part, and nothing can be said behind it.
    fn drop_unsaid(&mut self) -> bool {
        !self.hushed || self.outbox.clear()
    }

    /// The PUBLISH of QoS 0 just handled is refused, and nothing but the end tells a 3.x client so. It comes behind the answers of what came before:
    /// a client that did not get these would send all of it again, and be ended again.
    pub fn refused_at_qos_0(&mut self, reason: ReasonCode, now: Instant) {
        if self.phase == Phase::Live {
            self.inbound.push_end(reason);
            self.send_answers(now);
        }
    }

    /// The relay cannot go on with it.
    pub fn give_up(&mut self, reason: ReasonCode, detail: &'static str, now: Instant) {
        self.end_from_outside(reason, detail, now);
    }

    /// Bytes that are no packet: version 5 is told the reason, then the connection ends [MQTT-4.13.1-1].
    pub fn malformed(&mut self, error: DecodeError, now: Instant) {
        if self.phase == Phase::Fresh && error.reason == ReasonCode::UnsupportedProtocolVersion {
            // [MQTT-3.1.2-2]: which version this client would read is unknown; return code 1 of 3.1.1 is the one most know.
            self.version = Version::V311;
            self.send_connack_refusal(error.reason, None);
        }
        self.end_because(Cause::Malformed, error.reason, error.detail, now);
    }

    /// The session ends itself: DISCONNECT in version 5, the will, the close.
    pub(super) fn end(&mut self, reason: ReasonCode, detail: &'static str, now: Instant) {
        self.end_because(Cause::Session, reason, detail, now);
    }

    /// The same where the relay, or silence, is the cause.
    pub(super) fn end_from_outside(&mut self, reason: ReasonCode, detail: &'static str, now: Instant) {
        self.end_because(Cause::Outside, reason, detail, now);
    }

    fn end_because(&mut self, cause: Cause, reason: ReasonCode, detail: &'static str, _now: Instant) {
        match self.phase {
            Phase::Closed => return,
            Phase::Fresh => {}
            Phase::Offered | Phase::Challenged => {
                self.drop_unsaid();
                self.send_connack_refusal(connack_reason(reason), Some(detail).filter(|text| !text.is_empty()));
            }
            Phase::Live => {
                if self.drop_unsaid() {
                    self.send_disconnect(disconnect_reason(reason), detail);
                }
                self.give_will();
            }
        }
        self.close(Close { reason, cause, detail });
    }

    /// Another connection took this client id [MQTT-3.1.4-3].
    pub fn take_over(&mut self, now: Instant) {
        self.end_from_outside(ReasonCode::SessionTakenOver, "", now);
    }

    /// The process stops.
    pub fn shut_down(&mut self, now: Instant) {
        self.end_from_outside(ReasonCode::ServerShuttingDown, "", now);
    }

    /// The socket ended without a DISCONNECT.
    pub fn lost(&mut self, _now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        self.drop_unsaid();
        if self.phase == Phase::Live {
            self.give_will();
        }
        self.close(Close {
            reason: ReasonCode::UnspecifiedError,
            cause: Cause::Client,
            detail: "connection lost",
        });
    }

    /// DISCONNECT of the client.
    pub(super) fn disconnect(&mut self, disconnect: &Disconnect<'_>, now: Instant) {
        let raised = disconnect.session_expiry_interval.is_some_and(|seconds| seconds > 0);
        if raised && !self.peer.asked_for_expiry() {
            return self.end(ReasonCode::ProtocolError, "DISCONNECT raises a session expiry of zero", now);
        }
        self.drop_unsaid();
        let most = self.settings.expiry.map_or(0, |expiry| expiry.max);
        self.goodbye = Some(Goodbye {
            expiry: disconnect.session_expiry_interval.map(|seconds| seconds.min(most)),
            with_will: disconnect.reason != ReasonCode::Success,
        });
        // [MQTT-3.14.4-3]: only a normal disconnection removes the will; 0x04 asks for it, an error means it.
        if disconnect.reason == ReasonCode::Success {
            self.will = None;
        } else {
            self.give_will();
        }
        self.close(Close {
            reason: disconnect.reason,
            cause: Cause::Client,
            detail: "",
        });
    }

    /// CONNACK with a reason other than success (§3.2.2.2).
    pub(super) fn send_connack_refusal(&mut self, reason: ReasonCode, reason_string: Option<&str>) {
        let mut properties = ConnAckProperties {
            reason_string,
            ..Default::default()
        };
        let refusal = |properties| {
            Packet::ConnAck(ConnAck {
                session_present: false,
                reason,
                properties,
            })
        };
        if reason_string.is_some() && self.send(&refusal(properties.clone())) {
            return;
        }
        properties.reason_string = None;
        // A client whose maximum is below five bytes only sees the close.
        let _told = self.send(&refusal(properties));
    }

    fn send_disconnect(&mut self, reason: ReasonCode, detail: &'static str) {
        if self.version != Version::V5 {
            return;
        }
        let reason_string = Some(detail).filter(|text| !text.is_empty());
        let disconnect = Disconnect {
            reason,
            session_expiry_interval: None,
            reason_string,
            server_reference: None,
            user: Default::default(),
        };
        if reason_string.is_some() && self.send(&Packet::Disconnect(disconnect)) {
            return;
        }
        let _told = self.send(&Packet::Disconnect(Disconnect {
            reason_string: None,
            ..disconnect
        }));
    }

    fn give_will(&mut self) {
        if self.will.is_some() {
            self.outputs.push_back(Output::PublishWill);
        }
    }

    pub(super) fn close(&mut self, close: Close) {
        self.phase = Phase::Closed;
        self.credentials = None;
        self.outputs.push_back(Output::Close(close));
    }
}

/// The codes a server may put into DISCONNECT (§3.14.2.1); others have one that says the same less precisely.
fn disconnect_reason(reason: ReasonCode) -> ReasonCode {
    use ReasonCode::*;
    match reason {
        Success | GrantedQoS1 | GrantedQoS2 | DisconnectWithWillMessage | NoMatchingSubscribers | NoSubscriptionExisted => UnspecifiedError,
        ContinueAuthentication | ReAuthenticate => UnspecifiedError,
        UnsupportedProtocolVersion | ClientIdentifierNotValid | PacketIdentifierInUse | PacketIdentifierNotFound => ProtocolError,
        BadUserNameOrPassword | Banned | BadAuthenticationMethod => NotAuthorized,
        ServerUnavailable => ServerBusy,
        other => other,
    }
}

/// The codes of CONNACK (§3.2.2.2), likewise.
pub(super) fn connack_reason(reason: ReasonCode) -> ReasonCode {
    use ReasonCode::*;
    match reason {
        Success | GrantedQoS1 | GrantedQoS2 | DisconnectWithWillMessage | NoMatchingSubscribers | NoSubscriptionExisted => UnspecifiedError,
        ContinueAuthentication | ReAuthenticate => UnspecifiedError,
        ServerShuttingDown | SessionTakenOver | KeepAliveTimeout | AdministrativeAction | MaximumConnectTime => ServerUnavailable,
        MessageRateTooHigh => ConnectionRateExceeded,
        PacketIdentifierInUse | PacketIdentifierNotFound | ReceiveMaximumExceeded | TopicAliasInvalid => ProtocolError,
        TopicFilterInvalid | SharedSubscriptionsNotSupported | SubscriptionIdentifiersNotSupported => ProtocolError,
        WildcardSubscriptionsNotSupported => ProtocolError,
        other => other,
    }
}
