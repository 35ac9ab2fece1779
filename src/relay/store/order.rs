//! What connections and the store tell each other.

use std::{collections::BTreeSet, sync::Arc};

use super::once::Held;
use crate::{
    kafka::error::ErrorCode,
    mqtt::ReasonCode,
    ownership::{Body, ConnectionId, End, Offer, Place, Source, StoredSubscription, Walk},
    relay::{
        mailbox::Mailbox,
        resuming::{Resumed, Stand},
        share::Lent,
    },
};

/// A CONNECT for the store.
#[derive(Debug)]
pub struct Arrival {
    /// Where letters go; its id is the connection's.
    pub mailbox: Arc<Mailbox>,
    /// Client id.
    pub client: Box<str>,
    /// What it asks for.
    pub offer: Offer,
    /// Kafka is away, and the session needs nothing of it.
    pub away: bool,
}

impl Arrival {
    /// The connection.
    pub fn id(&self) -> ConnectionId {
        ConnectionId(self.mailbox.id())
    }

    /// Nothing of it is to be stored, but for a will.
    pub(super) fn is_fleeting(&self) -> bool {
        self.offer.clean_start && self.offer.expiry == 0
    }
}

/// What became of deliveries since the last report. Told together, so that a busy subscriber costs a report a second. It holds in the
/// order of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Logs that were cut off, and where: no subscription starts behind that.
    pub cut: Vec<(Source, i64)>,
    /// Packet ids known to the store that are free again, or another message's.
    pub settled: Vec<u16>,
    /// Messages of QoS 1 that have no PUBACK.
    pub sent: Vec<(u16, Place)>,
    /// How far walks over retained messages have come, by filter; `None`: one is over.
    pub walks: Vec<(Box<str>, Option<Walk>)>,
    /// Below these everything was sent, or is not wanted.
    pub positions: Vec<(Source, i64)>,
}

/// What the store is told, in order.
#[derive(Debug)]
pub enum Order {
    /// A CONNECT.
    Connect(Arrival),
    /// The connection has ended; its last order.
    Ended(ConnectionId, End, Report),
    /// Deliveries.
    Report(ConnectionId, Report),
    /// A SUBSCRIBE that is granted, if anything of it is; answered by [`Letter::Answered`].
    Subscribe(ConnectionId, u32, Vec<StoredSubscription>, Report),
    /// An UNSUBSCRIBE; answered by [`Letter::Answered`].
    Unsubscribe(ConnectionId, u32, Vec<Box<str>>),
    /// A PUBLISH of QoS 2 and its records; answered by [`Letter::PubRec`] or [`Letter::Refused`]. Without records it is refused, if pairs
    /// of it are known.
    Publish(ConnectionId, u16, Vec<Held>),
    /// A PUBREL; answered by [`Letter::PubComp`].
    PubRel(ConnectionId, u16),
    /// A QoS 2 message is to be sent under a packet id; answered by [`Letter::Publish`].
    Send(ConnectionId, u16, Place, Report),
    /// The same of a shared subscription's. What is lent is the session's when the pair is read back, and goes to others if it never is.
    SendShared(ConnectionId, u16, Place, Lent, Report),
    /// A PUBREC without an error; answered by [`Letter::PubRel`].
    PubRec(ConnectionId, u16),
    /// Who is a member of the group of instances, if this one looks after the partition.
    Members(Option<BTreeSet<Box<str>>>),
    /// This instance is a member of that group.
    Member,
    /// The coordinator of the group is not reached: others may take this instance for dead.
    StepDown,
    /// Tells when all that is to be written is written.
    Flush(tokio::sync::oneshot::Sender<()>),
}

/// What a connection is told by the store.
#[derive(Debug)]
pub enum Letter {
    /// CONNACK with success may leave.
    Connected {
        /// The session that goes on.
        present: Option<Box<Body>>,
        /// False: nothing of this session is stored.
        stored: bool,
    },
    /// CONNACK with an error.
    Refuse(ReasonCode),
    /// The connection must end.
    Close(ReasonCode),
    /// SUBACK or UNSUBACK may leave.
    Answered(u32),
    /// Kafka has all records of a PUBLISH: PUBREC may leave.
    PubRec(u16),
    /// Kafka refuses a PUBLISH, or no rule maps it any more.
    Refused(u16, Option<ErrorCode>),
    /// PUBCOMP may leave.
    PubComp(u16),
    /// A QoS 2 message may be sent.
    Publish(u16),
    /// PUBREL may leave.
    PubRel(u16),
    /// The topic of stored sessions is found: who was let in before is told of.
    Found,
    /// Not of the store itself: a session that goes on has taken its seats.
    Resumed(Box<Resumed>),
    /// The same: a Kafka topic that was away can be read.
    Appeared(Box<Stand>),
}
