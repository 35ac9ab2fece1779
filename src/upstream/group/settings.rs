//! What a member says of itself, and how long everybody waits for it.

use std::time::Duration;

use bytes::Bytes;

/// The most bytes of [`GroupSettings::user_data`]. All members' come to each member that has partitions, with each generation, and Kafka
/// keeps all of that in one message: those who want many members say little.
pub const MOST_USER_DATA: usize = 64;
/// The most bytes of a commit's metadata, as Kafka has it (`offset.metadata.max.bytes`) unless its operator changed that.
pub const MOST_METADATA: usize = 4096;

/// What [`Cluster::join`](crate::upstream::Cluster::join) needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    /// The group's id.
    pub group: String,
    /// All partitions of these topics are shared out among the members that name them. A topic that is not there counts when it appears.
    pub topics: Vec<String>,
    /// What every member that has partitions learns of this one with each generation ([`GroupEvent::Generation`](super::GroupEvent::Generation)); an
    /// instance's id, for example. At most [`MOST_USER_DATA`] bytes, the rest is cut off.
    pub user_data: Bytes,
    /// `group.instance.id` (KIP-345): who comes back under it within the session timeout gets its partitions back, and the others
    /// notice nothing. It also gets the members' user data as they were when the generation began, its own former one among them.
    /// Two that live under one id fence each other off, and until the one hears of it with its next heartbeat, both may take the same
    /// partition for their own.
    pub instance: Option<String>,
    /// After so long without a sign of life the coordinator takes the member for dead, and the member itself takes what it has for lost.
    /// The brokers allow 6 s to 30 min unless set otherwise.
    pub session_timeout: Duration,
    /// How long the coordinator waits for members to come to a new generation, so how long giving partitions back may take.
    pub rebalance_timeout: Duration,
    /// Between two signs of life; a third of the session timeout or less.
    pub heartbeat_interval: Duration,
    /// How long a commit is tried.
    pub commit_timeout: Duration,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            group: String::new(),
            topics: Vec::new(),
            user_data: Bytes::new(),
            instance: None,
            session_timeout: Duration::from_secs(15),
            rebalance_timeout: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(3),
            commit_timeout: Duration::from_secs(30),
        }
    }
}
