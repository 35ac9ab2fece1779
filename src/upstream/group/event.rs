//! What a member of a group is told, and what it may say.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::kafka::error::ErrorCode;

/// A partition of a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: i32,
}

/// What happens to a member. Events come in the order in which they became true.
///
/// A partition is the member's from [`Assigned`](Self::Assigned) until it has answered [`Revoked`](Self::Revoked), or until
/// [`Lost`](Self::Lost) became true, whatever comes first. Whoever does not take its events is thrown out at the next rebalance.
#[derive(Debug)]
pub enum GroupEvent {
    /// A generation has begun for this member. Comes before what the generation brings or takes.
    Generation {
        /// Its number; it only grows, as long as the group has members.
        number: i32,
        /// How many members it has, this one included.
        size: usize,
        /// What the members say of themselves, this one included, in no order; empty for one that gets no partition, and without those
        /// that say nothing.
        members: Vec<Bytes>,
    },
    /// These are this member's from now on.
    Assigned(Vec<Assigned>),
    /// To be given up: stop working on them, commit, then drop or [`release`](Revocation::release) this. Others wait for it; after
    /// four fifths of the rebalance timeout what is not given up is [`Lost`](Self::Lost).
    Revoked(Revocation),
    /// They may be another's already, since when is not known: nothing that is still done for them counts, commits are refused. Another
    /// generation is asked for, and may bring them back.
    Lost {
        /// Which; none if the membership is lost of one who had nothing.
        partitions: Vec<TopicPartition>,
        /// Not only they are lost but the membership: the others may have a generation without this member, and take it for dead.
        membership: bool,
        /// Why, for an operator.
        why: &'static str,
    },
    /// The coordinator refuses the membership, or part of it. It is tried again every few seconds; told once for each reason.
    Refused {
        /// The broker's code.
        error: ErrorCode,
        /// What was refused and what an operator can do about it.
        why: String,
    },
    /// Another process joined under the same `group.instance.id` (KIP-345): this membership is over, there are no more events. A JoinGroup
    /// of a former process may do that, too, if it comes late: who is sure to be alone under the id joins anew.
    Fenced,
}

/// A partition that has become this member's.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// To commit with.
    pub tenure: Tenure,
    /// What the group committed last; `None` if nothing, or nothing any more.
    pub committed: Option<Committed>,
}

/// The time for which a partition is this member's. A commit names it, so that what was begun in one cannot be committed in another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// Of what.
    pub of: TopicPartition,
    pub(super) number: u64,
    /// How often the log was cut off in it.
    pub(super) cuts: u64,
}

impl Tenure {
    /// The log was cut off by an unclean leader election: the next commit may lie below those before, and what was to be committed of the
    /// log as it was is refused from then on.
    pub fn log_cut_off(&mut self) {
        self.cuts += 1;
    }
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to be read.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: String,
}

/// A commit for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which, and as whose.
    pub tenure: Tenure,
    /// The next offset to be read. Commits of a tenure never go back, but for [`Tenure::log_cut_off`]: one below another is refused.
    pub offset: i64,
    /// At most [`MOST_METADATA`](super::MOST_METADATA) bytes. Kafka commits by the topic's name: who must tell a topic from one of the same
    /// name that was made later puts its id here.
    pub metadata: String,
}

/// Why something is not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The tenure is over. What is committed is for the partition's next owner to say.
    NotOwned,
    /// Below an offset that was committed or accepted before in this tenure.
    Backwards,
    /// The metadata is too long.
    MetadataTooLong,
    /// The broker will not have it.
    Refused(ErrorCode),
    /// Kafka gave no answer within the commit timeout; it may have it or not.
    TimedOut,
    /// The membership has ended.
    Closed,
}

/// Partitions to be given up. Dropping it gives them up.
#[derive(Debug)]
pub struct Revocation {
    partitions: Vec<TopicPartition>,
    number: u64,
    released: mpsc::Sender<u64>,
}

impl Revocation {
    pub(super) fn new(partitions: Vec<TopicPartition>, number: u64, released: mpsc::Sender<u64>) -> Self {
        Self {
            partitions,
            number,
            released,
        }
    }

    /// Which.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Gives them up. Commits that were accepted before this reach Kafka before others get the partitions.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        // There is room: a membership has one revocation at a time. If it has ended there is nothing to give up.
        let _ = self.released.try_send(self.number);
    }
}
