//! A batch that takes records, and what it may take of the memory.

use std::time::Instant;

use super::{Refusal, Settled, Split, Verdict};
use crate::kafka::{
    Compression, Header, RecordFields,
    batch::{BatchBuilder, NoRoom},
};

/// A batch that was not sent yet.
pub(super) struct Batch<W> {
    pub(super) builder: BatchBuilder,
    pub(super) waiters: W,
    pub(super) charged: usize,
    pub(super) deadline: Instant,
    pub(super) compression: Compression,
}

impl<W: Split> Batch<W> {
    /// Writes a record, with more from the budget if what is charged is not enough; `false` if the batch would pass `batch_size`.
    /// The common case, room within what is charged, measures the record once.
    pub(super) fn append<'a, H>(
        &mut self,
        fields: &RecordFields<'a, H>,
        batch_size: usize,
        charge: impl Fn(usize) -> bool,
    ) -> Result<bool, Refusal>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let waiters = self.waiters.held();
        let room = self.charged.saturating_sub(waiters);
        let Err(NoRoom { needed }) = self.builder.append_within(fields, room.min(batch_size)) else {
            return Ok(true);
        };
        if needed > batch_size {
            return Ok(false);
        }
        // In steps that double, or with what is left of the budget.
        let more = |bytes: usize| bytes + waiters - self.charged;
        let (doubled, least) = (more(needed.next_power_of_two().min(batch_size)), more(needed));
        let Some(more) = [doubled, least].into_iter().find(|more| charge(*more)) else {
            return Err(Refusal::MemoryFull { needed: least });
        };
        self.charged += more;
        self.builder
            .append_within(fields, self.charged - waiters)
            .map_err(|_| Refusal::TooLarge)?;
        Ok(true)
    }

    pub(super) fn settle(self, verdict: Verdict) -> Settled<W> {
        Settled {
            waiters: self.waiters,
            verdict,
            records: self.builder.count(),
            plain: self.builder.len(),
            charged: self.charged,
            bytes: None,
        }
    }
}
