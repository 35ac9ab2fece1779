//! What the queue of a partition leaves to the one that takes its place, when its topic is deleted and made anew.
//!
//! # Why the heir does not begin at sequence 0 of the same epoch
//!
//! Before version 13, Produce names topics: until the client hears of the new topic it writes the old one's batches to it. Sequence of
//! events: the topic is made anew; a batch of the old queue, sequence 0, is stored in the new topic; the client hears of that, and
//! the heir sends its first batch. Were it sequence 0 of the same id and epoch, the broker would take it for the batch that it has, and
//! acknowledge a record that is nowhere. So the heir's epoch is above any that the former queue used: what comes of that one later is refused
//! (47), what came before does no harm. It holds only because the former stamps nothing from here on.
//!
//! # Why the heir does not inherit what waits
//!
//! Whoever produced it may have meant the old topic: the place of a retained message names it by id, and a stored session's records rest
//! on what the old log held. So they are told that it is surely not stored, and decide.

use super::{PartitionQueue, Split};
use crate::kafka::Acks;

impl<W: Split> PartitionQueue<W> {
    /// The queue of the partition that takes the place of this one's, from which nothing must be sent any more.
    pub(crate) fn heir(&self, acks: Acks) -> Self {
        let mut heir = Self {
            identity: self.identity,
            dead: self.dead,
            ..Self::new(acks)
        };
        heir.next_epoch();
        heir
    }
}
