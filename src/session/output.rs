//! What goes in and out of a session beside packets: small values, no packet data copied.

use bytes::Bytes;

use super::SubscriptionKey;
use crate::mqtt::{PacketId, QoS, ReasonCode};

/// Names one packet that waits for the relay's answer. PUBLISHes count on their own, SUBSCRIBEs and UNSUBSCRIBEs together on theirs;
/// within each they wrap around, so no two packets that wait at a time have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u32);

/// What a session asks of the relay, one at a time, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A CONNECT the session has no objection to: decide, then [`super::Session::accept`] or [`super::Session::refuse`].
    Connect,
    /// The client goes on with enhanced authentication, or begins it again: [`super::Session::authentication`] has what it says. Before CONNACK decide
    /// as with [`Output::Connect`], or ask for more by [`super::Session::challenge`]; afterwards [`super::Session::reauthenticated`] is the good end.
    Authenticate,
    /// The PUBLISH just handled is to be stored. A ticket (QoS 1 and 2) is answered by [`super::Session::answer`].
    Publish {
        /// `None` for QoS 0.
        ticket: Option<Ticket>,
    },
    /// PUBREL came for a QoS 2 message of a stored session: [`super::Session::complete`] answers it.
    PubRel {
        /// The client's.
        packet_id: PacketId,
    },
    /// PUBREC came for a QoS 2 message to the client of a stored session: [`super::Session::release`] answers it.
    PubRec {
        /// Ours.
        packet_id: PacketId,
    },
    /// The SUBSCRIBE just handled; see [`super::Session::requested`], answer by [`super::Session::answer_subscribe`].
    Subscribe {
        /// To answer with.
        ticket: Ticket,
    },
    /// The UNSUBSCRIBE just handled; see [`super::Session::requested`], answer by [`super::Session::answer_unsubscribe`].
    Unsubscribe {
        /// To answer with.
        ticket: Ticket,
    },
    /// A QoS 1 or 2 message reached its end: PUBACK, PUBCOMP, or an error in PUBREC. Only for tokens other than 0.
    Settled {
        /// Of its [`Message`].
        token: u64,
    },
    /// A delivery was turned away with [`Taken::WindowFull`], and there is room again.
    WindowOpen,
    /// The connection ended abnormally: publish what [`super::Session::take_will`] gives.
    PublishWill,
    /// The end, always last: write the outbox, then close the socket.
    Close(Close),
}

/// Whose doing an end is; each refusal is counted once, by whoever knows best why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client said goodbye, or its socket ended.
    Client,
    /// Bytes that are no packet, counted where they were decoded.
    Malformed,
    /// The session refuses what the client did or asked for; nobody else knows.
    Session,
    /// The relay refused something, which it has counted, or wants the end for a reason of its own; or nothing came in time.
    Outside,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// `Success` if the client said goodbye with it.
    pub reason: ReasonCode,
    /// Whose doing it is.
    pub cause: Cause,
    /// For logs; empty if the reason says all.
    pub detail: &'static str,
}

/// The relay's answer to the ticket of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Kafka has it, or the rule does not ask for that.
    Acked,
    /// It will never be stored.
    Refused {
        /// Sent in PUBACK or PUBREC if §3.4.2.1 lists it, else as 0x83.
        reason: ReasonCode,
        /// For people; only if the client wants it.
        reason_string: Option<&'static str>,
    },
    /// Nobody knows whether Kafka has it.
    Unknown,
}

/// A message on its way to the client.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Shared with other receivers; cloned into the outbox, not copied if large.
    pub payload: &'a Bytes,
    /// Version 5 property block without its length, as `mqtt::publish` builds it: nothing that differs between receivers.
    pub shared_properties: &'a [u8],
    /// As published; lowered to what was granted.
    pub qos: QoS,
    /// As published; cleared unless a subscription asked to keep it.
    pub retain: bool,
    /// It is a retained message that a new subscription gets: the flag is set whatever was asked for [MQTT-3.3.1-8].
    pub retained: bool,
    /// Seconds that remain; 0 means expired.
    pub message_expiry_interval: Option<u32>,
    /// Client id of the publisher, for no local.
    pub publisher: Option<&'a str>,
    /// All subscriptions of this session that match the topic.
    pub subscriptions: &'a [SubscriptionKey],
    /// The relay's own, comes back in [`Output::Settled`]; 0 if it does not care.
    pub token: u64,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// In the outbox; a message with QoS 1 or 2 is settled later.
    Sent {
        /// The effective one.
        qos: QoS,
    },
    /// By [`super::Session::deliver_stored`], at QoS 2: it is sent by [`super::Session::permit`], under [`super::Session::last_packet_id`].
    Asked,
    /// QoS 1 or 2: as many are open as the client allows. Try again after [`Output::WindowOpen`].
    WindowFull,
    /// QoS 1 or 2: the socket is behind. Try again when the outbox was written.
    OutboxFull,
    /// QoS 0 and the socket is behind: left out for good.
    Dropped,
    /// Larger than the client takes: left out for good and settled [MQTT-3.1.2-25].
    TooLarge,
    /// Its time is over: left out for good and settled [MQTT-3.3.2-5].
    Expired,
    /// The client's own, and it does not want those back [MQTT-3.8.3-3].
    NoLocal,
    /// None of the subscriptions exists any more.
    NotSubscribed,
    /// The session is not live.
    Closed,
}
