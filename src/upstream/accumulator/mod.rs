//! What one partition has to send: the open batch, the closed ones, and those in flight with their sequences.
//!
//! A pure state machine: no clock, no socket. [`append`](PartitionQueue::append) is driven by whoever has records, under the
//! partition's lock; [`next`](PartitionQueue::next) and [`answered`](PartitionQueue::answered) by the sender of the leader's broker.
//! `W` is what waits for a batch; the queue only carries it.
//!
//! # Exactly once, in order: why it holds
//!
//! The broker remembers, for each producer id and partition, the epoch, the last sequence and the last five batches. It appends a
//! batch only if its sequence follows, answers a known one with its first offset, everything else with 45, and everything of an
//! older epoch with 47. From this:
//!
//! 1. A batch keeps its stamp (id, epoch, sequence) through every retry, so a retry can be appended at most once. For that, the
//!    span from the oldest unsettled batch to the newest stamped one never exceeds five, and nothing new is stamped while a retry is
//!    due (`ordinal` below counts the span, also over batches that were settled out of order).
//! 2. Retries start only when no answer is outstanding for the partition, and go in order from the oldest: nothing overtakes.
//! 3. A batch is in *doubt* once an attempt had no definite answer (the connection broke, or the broker said that it may be stored).
//!    Such an attempt can still arrive, long after its connection: a stopped broker keeps the bytes in its socket. Under the same
//!    stamp that is harmless. Under another stamp it would be a second copy. So **a batch in doubt is never given another stamp**.
//!    If it cannot go on under its own it is answered as unknown.
//! 4. A batch of which every attempt was refused definitely is not stored and cannot appear any more; it may be stamped anew.
//! 5. After a batch was dropped (refused, or its time was over) the sequence has a gap. Those behind it that were sent go on under their
//!    old stamps, since the dropped one may have been stored. If the oldest of them is answered 45, the dropped one was not; then
//!    those without doubt are stamped anew.
//! 6. A new stamp takes a new epoch from sequence 0, never a lower sequence of the same epoch: a late request of the dropped batch
//!    would otherwise take the place that the renumbered one claims, and the latter would be acknowledged as a duplicate
//!    of a record that is not its own. With the new epoch the late one gets 47. The only exception: the newest stamped batch was
//!    refused without doubt and nothing else is in flight; then no request with its sequence exists and the sequence is simply free again.
//! 7. A broker that does not know an id takes any sequence of it. If the first batch were refused for a passing reason while a second is on
//!    its way, the second would be stored and the first could never be. So until a first batch of an epoch is acknowledged,
//!    only one is in flight (`proven` below). Brokers also forget who is quiet (`producer.id.expiration.ms`, a day by default), so
//!    the same holds for the first batch after a minute of rest (`QUIET`).
//! 8. A batch that is too large for the topic and of which no attempt is in doubt is split, and its parts take its sequences between
//!    them: none of those was ever appended, so the ones behind it keep their stamps and follow the parts. The parts count as batches
//!    of their own, so what lies behind moves out of the span of five and waits.
//! 9. With `acks` other than all nothing of this holds, since a broker that forgets a batch it has answered for would take the next
//!    sequence for a gap. Such a queue writes no producer id, has one batch in flight, and sends what is in doubt again: order is kept,
//!    a record may come twice.
//! 10. The broker takes epoch + 1 with sequence 0 without InitProducerId. The epoch is the partition's own; the id is the instance's.

mod flight;
mod heir;
mod open;
mod oversized;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::kafka::{
    Acks, Compression, Header, RecordFields,
    batch::{BatchBuilder, Producer},
    error::ErrorCode,
};
use flight::Flight;
use open::Batch;
use oversized::Ceiling;

/// Batches that may be in flight for one partition: what brokers remember of a producer.
pub(crate) const MOST_IN_FLIGHT: u64 = 5;
/// After this time without a batch, counted from when the last one would have expired, the broker may have forgotten the producer.
pub(crate) const QUIET: Duration = Duration::from_secs(60);
/// The least memory that is charged for a batch.
const FIRST_CHARGE: usize = 2 * 1024;
/// The largest record, encoded; a bound of memory, brokers refuse much earlier.
const LARGEST_RECORD: usize = 64 * 1024 * 1024;

/// Bounds of batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A batch is closed before it would pass this many bytes; a single larger record makes a batch of its own.
    pub(crate) batch_size: usize,
    /// From the first record of a batch to its end, one way or the other.
    pub(crate) delivery_timeout: Duration,
}

/// A producer id and its first epoch, as Kafka gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The budget gave no memory; with so much the record could be taken.
    MemoryFull { needed: usize },
    /// Larger than anything we hold.
    TooLarge,
}

/// A record was taken.
pub(crate) struct Appended<'q, W> {
    /// What waits for its batch.
    pub(crate) waiters: &'q mut W,
    /// Its place in the batch.
    pub(crate) index: u32,
    /// A batch was closed to make room: there is a full one to send.
    pub(crate) filled: bool,
}

/// What to send next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing, now.
    Nothing,
    /// A producer id is needed first, another than `dead`.
    Identity { dead: Option<i64> },
    /// A batch for the first time. It must be sealed with `producer` and told by [`PartitionQueue::sealed`].
    First {
        ordinal: u64,
        builder: BatchBuilder,
        producer: Producer,
        compression: Compression,
    },
    /// A batch again.
    Again { ordinal: u64, bytes: Bytes },
}

/// What an attempt to send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Stored, now or earlier; the offset of its first record, -1 if not told.
    Stored(i64),
    /// Refused for good.
    Refused(ErrorCode),
    /// Refused for its size: not stored by this attempt. Parts of it may be taken.
    TooLarge(ErrorCode),
    /// Refused for some of its records: not stored by this attempt. Parts of it may be taken.
    Unfit(ErrorCode),
    /// Surely not stored by this attempt; worth another.
    NotStored,
    /// 45: surely not stored, the sequence does not follow.
    OutOfOrder,
    /// Surely not stored, and the broker will not take this id and epoch any more.
    IdentityDead,
    /// No definite answer: it may be stored, now or later.
    Doubt,
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Stored from this offset on.
    Stored(i64),
    /// Kafka refused it for good; it is not stored.
    Refused(ErrorCode),
    /// It cannot be found out.
    Unknown,
    /// Its time, or that of its topic, was over; `sent`: it may be stored all the same.
    Expired { sent: bool },
}

/// A batch that has left the queue.
#[derive(Debug)]
pub(crate) struct Settled<W> {
    pub(crate) waiters: W,
    pub(crate) verdict: Verdict,
    /// Records in it.
    pub(crate) records: u32,
    /// Its length before compression.
    pub(crate) plain: usize,
    /// Bytes to be given back to the budget.
    pub(crate) charged: usize,
    /// Its buffer, if it was ever sealed, for reuse.
    pub(crate) bytes: Option<Bytes>,
}

/// Batches that something happened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// They took a new epoch or id.
    pub(crate) restamped: u64,
    /// They were split because Kafka found them too large.
    pub(crate) split: u64,
}

/// What waits for the records of a batch and can follow them when the batch is split.
pub(crate) trait Split: Default {
    /// Bytes of memory that it takes: charged with the batch, since of small records it may be as much as those.
    fn held(&self) -> usize;

    /// Takes off those who wait for the records from `at` on; their indexes then count from 0.
    fn split_off(&mut self, at: u32) -> Self;
}

/// The queue of one partition.
pub(crate) struct PartitionQueue<W> {
    open: Option<Batch<W>>,
    closed: VecDeque<Batch<W>>,
    /// Stamped once and unsettled, in order of their stamps.
    flight: VecDeque<Flight<W>>,
    /// Attempts without an answer, also of batches that were dropped meanwhile.
    outstanding: usize,
    /// A retry is due; it starts when nothing is outstanding.
    draining: bool,
    identity: Option<Identity>,
    next_sequence: i32,
    /// The id that this partition must not use again.
    dead: Option<i64>,
    /// A stamped batch was dropped behind which nothing was stored yet.
    gap: bool,
    /// The broker has acknowledged a batch of this id and epoch, so it knows them.
    proven: bool,
    /// The deadline of the last batch that was stamped.
    last: Option<Instant>,
    next_ordinal: u64,
    /// With a producer id and sequences; point 9.
    idempotent: bool,
    tally: Tally,
    ceiling: Ceiling,
}

impl<W: Split> PartitionQueue<W> {
    /// A queue of batches that are sent with `acks`.
    pub(crate) fn new(acks: Acks) -> Self {
        Self {
            idempotent: acks == Acks::All,
            open: None,
            closed: VecDeque::new(),
            flight: VecDeque::new(),
            outstanding: 0,
            draining: false,
            identity: None,
            next_sequence: 0,
            dead: None,
            gap: false,
            proven: false,
            last: None,
            next_ordinal: 0,
            tally: Tally::default(),
            ceiling: Ceiling::default(),
        }
    }

    /// Writes one record into the open batch; one of another compression is closed first. `charge` asks the budget for bytes, `buffer` gives an empty buffer for a new batch.
    pub(crate) fn append<'a, H>(
        &mut self,
        fields: &RecordFields<'a, H>,
        now: Instant,
        limits: &Limits,
        compression: Compression,
        charge: impl Fn(usize) -> bool,
        buffer: impl FnOnce() -> Vec<u8>,
    ) -> Result<Appended<'_, W>, Refusal>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let appended = match &mut self.open {
            Some(open) if open.compression == compression => open.append(fields, self.ceiling.bound(limits.batch_size, now), &charge)?,
            _ => false,
        };
        let filled = !appended && self.open.is_some();
        if !appended {
            let (mut builder, charged) = Self::start(fields, charge, buffer)?;
            builder.append(fields).map_err(|_| Refusal::TooLarge)?;
            self.closed.extend(self.open.replace(Batch {
                builder,
                waiters: W::default(),
                charged,
                deadline: now + limits.delivery_timeout,
                compression,
            }));
        }
        let open = self.open.as_mut().expect("opened above");
        Ok(Appended {
            index: open.builder.count() - 1,
            waiters: &mut open.waiters,
            filled,
        })
    }

    /// An empty builder with memory for the record, and how much.
    fn start<'a, H>(
        fields: &RecordFields<'a, H>,
        charge: impl Fn(usize) -> bool,
        buffer: impl FnOnce() -> Vec<u8>,
    ) -> Result<(BatchBuilder, usize), Refusal>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let mut builder = BatchBuilder::new();
        let first = builder.len() + builder.encoded_len(fields);
        if first > LARGEST_RECORD {
            return Err(Refusal::TooLarge);
        }
        let buffer = buffer();
        let least = first.next_power_of_two().max(FIRST_CHARGE);
        let mut charged = least.max(buffer.capacity());
        // A buffer that was used before may be larger than what is left of the budget; a small new one may still fit.
        if charge(charged) {
            builder = BatchBuilder::with_buffer(buffer);
        } else if least < charged && charge(least) {
            charged = least;
        } else {
            return Err(Refusal::MemoryFull { needed: least });
        }
        Ok((builder, charged))
    }

    /// Whether a batch waits that needs no more company: a full one, or one to be sent again.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.closed.is_empty() || (self.outstanding == 0 && !self.flight.is_empty())
    }

    /// Whether [`next`](Self::next) could give something without a further answer.
    pub(crate) fn is_ready(&self) -> bool {
        if self.draining || !self.proven {
            return self.outstanding == 0 && !self.is_empty();
        }
        self.due().is_some() || (self.has_new() && self.may_stamp())
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.flight.is_empty() && !self.has_new()
    }

    /// What its latest stamps name, and the id that it must not use again.
    pub(crate) fn stamps(&self) -> (Option<Identity>, Option<i64>) {
        (self.identity, self.dead)
    }

    /// What happened to batches since this was last asked.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn has_new(&self) -> bool {
        !self.closed.is_empty() || self.open.as_ref().is_some_and(|b| !b.builder.is_empty())
    }

    /// Drops what is past its deadline.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Settled<W>>) {
        while self.flight.front().is_some_and(|f| f.deadline <= now) {
            let flight = self.flight.pop_front().expect("seen above");
            self.gap |= self.idempotent && flight.stamp.is_some();
            let sent = flight.doubt || flight.outstanding;
            out.push(flight.settle(Verdict::Expired { sent }));
        }
        while self.closed.front().is_some_and(|b| b.deadline <= now) {
            out.extend(self.closed.pop_front().map(|b| b.settle(Verdict::Expired { sent: false })));
        }
        if self.open.as_ref().is_some_and(|b| b.deadline <= now) {
            out.extend(self.open.take().map(|b| b.settle(Verdict::Expired { sent: false })));
        }
    }

    /// Drops all, at the end of the client or of the topic; what may be stored has the verdict `in_doubt`.
    pub(crate) fn abandon(&mut self, in_doubt: Verdict, out: &mut Vec<Settled<W>>) {
        for flight in std::mem::take(&mut self.flight) {
            let sent = flight.doubt || flight.outstanding;
            out.push(flight.settle(if sent { in_doubt } else { Verdict::Expired { sent } }));
        }
        let unsent = std::mem::take(&mut self.closed).into_iter().chain(self.open.take());
        out.extend(unsent.map(|b| b.settle(Verdict::Expired { sent: false })));
    }
}
