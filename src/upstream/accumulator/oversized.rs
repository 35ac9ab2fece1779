//! What becomes of a batch that the broker finds too large (10 MESSAGE_TOO_LARGE), or one of whose records has a time that the topic does
//! not take (32 INVALID_TIMESTAMP): it is split until that record is alone. Why its parts may take its sequences stands in the module's head.

use std::time::{Duration, Instant};

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
/// How long a refusal counts, from the end of the refused batch's time: `max.message.bytes` may be raised meanwhile. If it was not, one
/// batch is split anew.
pub(super) const REMEMBERED: Duration = Duration::from_secs(300);

/// Bytes that batches of a partition may have, as learned from refusals.
#[derive(Default)]
pub(super) struct Ceiling(Option<(usize, Instant)>);

impl Ceiling {
    /// What a batch may have now that may otherwise have `batch_size` bytes.
    pub(super) fn bound(&mut self, batch_size: usize, now: Instant) -> usize {
        match self.0 {
            None => batch_size,
            Some((bytes, until)) if now < until => bytes.min(batch_size),
            Some(_) => {
                self.0 = None;
                batch_size
            }
        }
    }

    /// A batch was refused whose time was over at `deadline`; its parts have so many bytes.
    fn lower(&mut self, bytes: usize, deadline: Instant) {
        let (bytes, until) = (bytes.max(LEAST_CEILING), deadline + REMEMBERED);
        self.0 = Some(self.0.map_or((bytes, until), |(least, last)| (least.min(bytes), last.max(until))));
    }
}

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
                        // Batches that are sure to be refused would cost a round trip and a split each.
                        let larger = halves.iter().map(BatchBuilder::len).max().unwrap_or_default();
                        self.ceiling.lower(larger, flight.deadline);
                    }
                    self.flight.extend(flight.into_halves(halves));
                }
            }
        }
        self.next_ordinal += shift;
        self.tally.split += shift;
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
