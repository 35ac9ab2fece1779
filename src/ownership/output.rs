//! What goes in and out of a [`super::Partition`] beside records.

use super::fault::Fault;
use super::record::NewRecord;
use super::state::Body;
use super::text::{Pair, Place, Source};
use super::will::StoredWill;
use crate::mqtt::ReasonCode;

/// A connection, by a number that its instance never gives twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A CONNECT that the session and the rules have no objection to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Clean start (clean session in 3.x).
    pub clean_start: bool,
    /// Session expiry interval, seconds, bounded by the settings.
    pub expiry: u32,
    /// The will.
    pub will: Option<StoredWill>,
}

impl Offer {
    /// Nothing of it outlives its connection.
    pub fn is_throw_away(&self) -> bool {
        self.clean_start && self.expiry == 0 && self.will.is_none()
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// DISCONNECT without will, perhaps with another session expiry interval (§3.14.2.2.2).
    Goodbye {
        /// Seconds.
        expiry: Option<u32>,
    },
    /// Any other end: the will is due. A DISCONNECT that asks for the will may change the session expiry interval, too.
    Lost {
        /// Seconds.
        expiry: Option<u32>,
    },
    /// Before CONNACK with success had left: nothing of that CONNECT counts, and what it has found is as it was. A clean start has found nothing.
    Refused,
    /// This process stops: the will is left to the custodian, since the client may be back elsewhere before its delay is over.
    Shutdown,
}

/// What Kafka said to a record that was produced by a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, from now or from before.
    Appended,
    /// 45 OUT_OF_ORDER_SEQUENCE_NUMBER: it is not there, and cannot be by this pair.
    Gap,
    /// 47 INVALID_PRODUCER_EPOCH: a later one of its producer is there under a higher epoch.
    Fenced,
    /// It will never be there.
    Refused,
    /// It will never be there, and the message is as good as without it.
    Skipped,
    /// No answer in time: nobody knows.
    Unknown,
}

/// What is produced by a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// The client's PUBLISH with that packet id.
    Packet(u16),
    /// A will, by a number of its owner's.
    Will(u64),
}

/// Names one ownership of a client id in requests that are answered later; answers to a former one fall on deaf ears.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenure {
    /// Client id.
    pub client: Box<str>,
    /// Offset of the claim.
    pub claim: i64,
}

/// What a partition wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append these to this partition of `mqtt-sessions`, in this order, after all that was wanted before, each once.
    Append(Vec<NewRecord>),
    /// Read one record; answered by [`super::Partition::fetched`].
    Fetch {
        /// Names the question.
        serial: u64,
        /// Of the record.
        offset: i64,
    },
    /// CONNACK with success may leave.
    Connected {
        /// Whose.
        connection: ConnectionId,
        /// The session that goes on; `None` is "session present 0".
        present: Option<Box<Body>>,
        /// False: nothing of this session is stored, and all but its end is no business of this room.
        stored: bool,
    },
    /// CONNACK with an error.
    Refuse {
        /// Whose.
        connection: ConnectionId,
        /// Why.
        reason: ReasonCode,
    },
    /// For the operator: the record of a stored session is of no use.
    Unreadable {
        /// Whose.
        client: Box<str>,
        /// Why.
        fault: Fault,
        /// A fresh one takes its place. Otherwise it stays for a build that can read it, and its client is refused.
        replaced: bool,
    },
    /// The connection must end; [`super::Partition::disconnected`] is expected, and ignored where it changes nothing.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        reason: ReasonCode,
    },
    /// A producer id that nobody has used is needed; answered by [`super::Partition::producer_id`].
    ProducerId {
        /// Whose.
        tenure: Tenure,
        /// `None`: for the client's messages.
        will: Option<u64>,
    },
    /// Produce one record of a message, as a batch of its own; answered by [`super::Partition::produced`].
    Produce {
        /// Whose.
        tenure: Tenure,
        /// What.
        message: Message,
        /// Which of its records.
        index: usize,
        /// By this right, whatever the rules say now.
        pair: Pair,
        /// An earlier owner may have produced it already.
        doubt: bool,
        /// The message, if it is a will: the connection has the others.
        will: Option<Box<StoredWill>>,
    },
    /// Ask the rules for a will; answered by [`super::Partition::will_routed`].
    RouteWill {
        /// Whose.
        tenure: Tenure,
        /// Number of the will.
        number: u64,
        /// The message.
        will: Box<StoredWill>,
    },
    /// PUBREC may leave: Kafka has all records.
    PubRec(ConnectionId, u16),
    /// The message was refused for good, and its packet id is free.
    Refused(ConnectionId, u16),
    /// PUBCOMP may leave.
    PubComp(ConnectionId, u16),
    /// An outgoing QoS 2 message may be sent.
    Publish(ConnectionId, u16, Place),
    /// PUBREL may leave.
    PubRel(ConnectionId, u16),
    /// SUBACK or UNSUBACK may leave.
    Answered(ConnectionId, u32),
    /// Everything is forgotten. What was to be appended and has not left is to be thrown away, questions are void, and the tail begins
    /// again at the first offset.
    Reset,
}

/// Where the records of a message go.
pub type Targets = Vec<Source>;
