//! What becomes of a batch that the broker finds too large (10 MESSAGE_TOO_LARGE), or one of whose records has a time that the topic does
//! not take (32 INVALID_TIMESTAMP): it is split until that record is alone. Why its parts may take its sequences stands in the module's head.

use super::{
    PartitionQueue, Split,
    flight::{Flight, sequence_behind},
};
use crate::kafka::{
    batch::{BatchBuilder, Producer},
    split::split,
};

/// A partition's batches are not made smaller than this, whatever was refused.
const LEAST_CEILING: usize = 16 * 1024;

impl<W> Flight<W> {
    /// Whether its parts may take its place: it has some, and no earlier attempt may be stored.
    pub(super) fn can_be_split(&self) -> bool {
        self.records > 1 && !self.doubt
    }
}

impl<W: Split> PartitionQueue<W> {
    /// Nothing is outstanding, so no answer names the ordinals of before: those behind a split batch move on by one each.
    pub(super) fn split_oversized(&mut self) {
        let mut shift = 0;
        for mut flight in std::mem::take(&mut self.flight) {
            flight.ordinal += shift;
            let oversized = std::mem::take(&mut flight.too_large);
            let apart = std::mem::take(&mut flight.unfit) || oversized;
            match flight.bytes.as_ref().filter(|_| apart).and_then(split) {
                None => self.flight.push_back(flight),
                Some(halves) => {
                    shift += 1;
                    if oversized {
                        self.learn(&halves);
                    }
                    self.flight.extend(flight.into_halves(halves));
                }
            }
        }
        self.next_ordinal += shift;
        self.tally.split += shift;
    }

    /// Batches that are sure to be refused would cost a round trip and a split each.
    fn learn(&mut self, halves: &[BatchBuilder; 2]) {
        let larger = halves.iter().map(BatchBuilder::len).max().unwrap_or_default();
        self.ceiling = self.ceiling.min(larger.max(LEAST_CEILING));
    }
}

impl<W: Split> Flight<W> {
    fn into_halves(mut self, [first, second]: [BatchBuilder; 2]) -> [Self; 2] {
        let waiters = self.waiters.split_off(first.count());
        let charged = self.charged / 2;
        let second = Self {
            ordinal: self.ordinal + 1,
            stamp: self.stamp.map(|stamp| stamp_behind(stamp, first.count())),
            records: second.count(),
            plain: second.len(),
            waiters,
            charged: self.charged - charged,
            bytes: None,
            unsealed: Some(second),
            ..self
        };
        let first = Self {
            ordinal: self.ordinal,
            stamp: self.stamp,
            records: first.count(),
            plain: first.len(),
            waiters: self.waiters,
            charged,
            bytes: None,
            unsealed: Some(first),
            ..second
        };
        [first, second]
    }
}

/// The stamp of what follows a batch of `records`.
fn stamp_behind(stamp: Producer, records: u32) -> Producer {
    if stamp == Producer::NONE {
        return stamp;
    }
    Producer {
        base_sequence: sequence_behind(stamp.base_sequence, records),
        ..stamp
    }
}
