//! What a membership asks the coordinator, and what it may hear: the seam between the state machine and the sockets.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    assign::Candidate,
    embedded::Assignment,
    event::{Committed, TopicPartition},
};
use crate::kafka::error::ErrorCode;

/// Topics as the metadata have them: id and number of partitions. What is not in it does not exist, as far as is known.
pub(super) type Topics = BTreeMap<Arc<str>, ([u8; 16], i32)>;

/// Something to be asked. Each carries all it needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    /// Which broker is the coordinator?
    Find,
    Join {
        /// Empty: the coordinator makes one up.
        member: String,
        /// Whose partitions it wants.
        topics: Vec<Arc<str>>,
        owned: Vec<TopicPartition>,
        /// Of what is owned; below 0 if nothing is, and another number after each loss.
        generation: i32,
    },
    /// How many partitions do these topics have?
    Count {
        topics: Vec<Arc<str>>,
    },
    Sync {
        member: String,
        generation: i32,
        /// Of all members, if this one leads.
        assignments: Vec<(String, Assignment)>,
    },
    Heartbeat {
        member: String,
        generation: i32,
    },
    /// What was committed for these?
    Fetch {
        partitions: Vec<TopicPartition>,
    },
    Commit {
        member: String,
        generation: i32,
        offsets: Vec<(TopicPartition, Committed)>,
    },
    Leave {
        member: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// The coordinator is known.
    Found,
    Joined(Joined),
    /// KIP-394: join again with this id.
    NamedBy {
        member: String,
    },
    Counted(Topics),
    Synced(Assignment),
    /// Heartbeat or Leave: done.
    Done,
    Fetched(Vec<(TopicPartition, Result<Option<Committed>, ErrorCode>)>),
    Committed(Vec<(TopicPartition, ErrorCode)>),
    /// The broker refuses the request as a whole.
    Refused {
        error: ErrorCode,
        why: String,
    },
    /// No answer: the connection broke, or none came in time. Whether the broker has carried it out is unknown.
    Failed {
        why: String,
    },
}

/// A JoinGroup that was granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Joined {
    pub(super) generation: i32,
    pub(super) member: String,
    /// Filled for the one that leads only: all members with their user data.
    pub(super) members: Vec<(Candidate, Bytes)>,
    /// Whether this one leads.
    pub(super) leads: bool,
    /// KIP-814: it leads, but a static member's return leaves the assignment as it is.
    pub(super) keeps_assignment: bool,
}
