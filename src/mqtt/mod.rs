//! The MQTT language: packets of 3.1, 3.1.1 and 5, strict decoding, encoding, topic names and filters.
//!
//! Nothing here knows a socket, a session or a clock. Decoding borrows from the caller's buffer.

pub mod codec;
mod decode;
pub mod encode;
pub mod outbox;
pub mod packet;
pub mod properties;
pub mod publish;
pub mod reason;
pub mod topic;

pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck,
    Unsubscribe, Version, Will,
};
pub use properties::{ConnAckProperties, ConnectProperties, PayloadFormat, PublishProperties, SubscriptionIds, UserProperties};
pub use reason::ReasonCode;
