//! The flight side of a partition's queue: stamps, answers, retries, gaps. The reasoning is in the module's head.

use std::time::Instant;

use bytes::Bytes;

use super::{Answer, Identity, MOST_IN_FLIGHT, Next, PartitionQueue, QUIET, Settled, Split, Verdict};
use crate::kafka::{
    Compression,
    batch::{BatchBuilder, Producer, restamp},
    error::ErrorCode,
};

/// A batch that was stamped at least once and is not settled.
pub(super) struct Flight<W> {
    /// Counts stamped batches; the name of this one in answers.
    pub(super) ordinal: u64,
    /// `None`: its stamp is void and it was surely not stored; it takes a new one when it is sent.
    pub(super) stamp: Option<Producer>,
    /// Known from the moment it was sealed.
    pub(super) bytes: Option<Bytes>,
    /// Part of a batch that was split, not sealed yet.
    pub(super) unsealed: Option<BatchBuilder>,
    pub(super) records: u32,
    /// Its length before compression.
    pub(super) plain: usize,
    pub(super) waiters: W,
    pub(super) charged: usize,
    pub(super) deadline: Instant,
    pub(super) compression: Compression,
    /// An attempt has no answer yet.
    pub(super) outstanding: bool,
    /// An attempt ended without a definite answer.
    pub(super) doubt: bool,
    /// It was the oldest when it was answered 45.
    pub(super) behind_gap: bool,
    /// The broker refused its id and epoch.
    pub(super) dead: bool,
    /// The broker refused it for its size: it is split when nothing is outstanding.
    pub(super) too_large: bool,
    /// The broker found a record in it that it does not take.
    pub(super) unfit: bool,
}

impl<W> Flight<W> {
    pub(super) fn settle(self, verdict: Verdict) -> Settled<W> {
        Settled {
            waiters: self.waiters,
            verdict,
            records: self.records,
            plain: self.plain,
            charged: self.charged,
            bytes: self.bytes,
        }
    }
}

impl<W: Split> PartitionQueue<W> {
    /// The next batch to put on the wire; it is outstanding from here on. `current` is the instance's producer id.
    /// Batches that cannot go on are put to `out`.
    pub(crate) fn next(&mut self, current: Option<Identity>, out: &mut Vec<Settled<W>>) -> Next {
        if self.draining {
            if self.outstanding > 0 {
                return Next::Nothing;
            }
            self.draining = false;
            self.resolve(out);
        }
        if !self.proven && self.outstanding > 0 {
            return Next::Nothing;
        }
        match self.due() {
            Some(at) => self.again(at, current),
            None => self.first(current),
        }
    }

    /// The first in flight that has no attempt under way. Parts of a split batch may lie beyond the span; those wait.
    pub(super) fn due(&self) -> Option<usize> {
        let oldest = self.flight.front()?.ordinal;
        let mut span = self.flight.iter().take_while(|f| f.ordinal - oldest < MOST_IN_FLIGHT);
        span.position(|f| !f.outstanding)
    }

    /// The bytes of a batch given out as [`Next::First`], kept for retries.
    pub(crate) fn sealed(&mut self, ordinal: u64, bytes: Bytes) {
        if let Some(flight) = self.flight.iter_mut().find(|f| f.ordinal == ordinal) {
            flight.bytes = Some(bytes);
        }
    }

    /// An attempt has ended. A batch that was dropped meanwhile is not known any more; only its attempt is counted.
    pub(crate) fn answered(&mut self, ordinal: u64, answer: Answer, out: &mut Vec<Settled<W>>) {
        debug_assert!(self.outstanding > 0, "an answer without an attempt");
        self.outstanding = self.outstanding.saturating_sub(1);
        let Some(at) = self.flight.iter().position(|f| f.ordinal == ordinal) else {
            return;
        };
        let flight = &mut self.flight[at];
        flight.outstanding = false;
        match answer {
            Answer::Stored(offset) => {
                self.proven = self.idempotent;
                return self.remove(at, Verdict::Stored(offset), out);
            }
            Answer::TooLarge(_) if flight.can_be_split() => flight.too_large = true,
            Answer::Unfit(_) if flight.can_be_split() => flight.unfit = true,
            Answer::Refused(code) | Answer::TooLarge(code) | Answer::Unfit(code) => return self.refuse(at, code, out),
            Answer::NotStored => {}
            // Not the oldest: those before it are not settled, so it may follow after all once they are.
            Answer::OutOfOrder => flight.behind_gap = at == 0,
            Answer::IdentityDead => flight.dead = true,
            Answer::Doubt => flight.doubt = true,
        }
        self.draining = true;
    }

    fn refuse(&mut self, at: usize, code: ErrorCode, out: &mut Vec<Settled<W>>) {
        let verdict = if self.flight[at].doubt {
            Verdict::Unknown
        } else {
            Verdict::Refused(code)
        };
        self.free_sequence_of(at);
        self.remove(at, verdict, out);
    }

    fn remove(&mut self, at: usize, verdict: Verdict, out: &mut Vec<Settled<W>>) {
        out.extend(self.flight.remove(at).map(|f| f.settle(verdict)));
    }

    /// A refused batch took no sequence at the broker. Point 6: free again if it was the newest and alone, else a gap.
    fn free_sequence_of(&mut self, at: usize) {
        let flight = &self.flight[at];
        let Some(stamp) = flight.stamp else { return };
        if !self.idempotent {
            return;
        }
        if !flight.doubt && self.flight.len() == 1 && self.outstanding == 0 && !self.gap {
            self.next_sequence = stamp.base_sequence;
        } else {
            self.gap = true;
        }
    }

    /// All attempts are answered: decides whether those in flight go on under their stamps.
    fn resolve(&mut self, out: &mut Vec<Settled<W>>) {
        self.split_oversized();
        let dead = self.flight.iter().any(|f| f.dead);
        if !dead && !self.flight.front().is_some_and(|f| f.behind_gap) {
            return;
        }
        let (doubtful, clean): (Vec<_>, Vec<_>) = std::mem::take(&mut self.flight).into_iter().partition(|f| f.doubt);
        out.extend(doubtful.into_iter().map(|f| f.settle(Verdict::Unknown)));
        self.tally.restamped += clean.len() as u64;
        self.flight.extend(clean.into_iter().map(|f| Flight {
            stamp: None,
            behind_gap: false,
            dead: false,
            ..f
        }));
        if dead { self.bury() } else { self.next_epoch() }
    }

    /// The next epoch of the same id, or another id if there is none.
    pub(super) fn next_epoch(&mut self) {
        self.gap = false;
        self.proven = false;
        self.next_sequence = 0;
        match &mut self.identity {
            Some(identity) if identity.epoch < i16::MAX => identity.epoch += 1,
            _ => self.bury(),
        }
    }

    fn bury(&mut self) {
        self.gap = false;
        self.proven = false;
        self.dead = self.identity.take().map(|i| i.producer_id).or(self.dead);
    }

    /// Whether a batch may be stamped behind those in flight.
    pub(super) fn may_stamp(&self) -> bool {
        match self.flight.front() {
            // With a gap and something in flight, first see what becomes of it: a new one could come into doubt for nothing.
            Some(front) => !self.gap && self.next_ordinal - front.ordinal < MOST_IN_FLIGHT,
            // An attempt of a dropped batch is still on its way: wait, so that nothing overtakes it.
            None => !self.gap || self.outstanding == 0,
        }
    }

    fn again(&mut self, at: usize, current: Option<Identity>) -> Next {
        if self.flight[at].stamp.is_none() {
            let stamp = match self.stamp(self.flight[at].records, current) {
                Ok(stamp) => stamp,
                Err(dead) => return Next::Identity { dead },
            };
            let flight = &mut self.flight[at];
            flight.stamp = Some(stamp);
            if let Some(sealed) = flight.bytes.take() {
                let mut bytes = Vec::from(sealed);
                restamp(&mut bytes, &stamp);
                flight.bytes = Some(Bytes::from(bytes));
            }
        }
        let flight = &mut self.flight[at];
        flight.outstanding = true;
        self.outstanding += 1;
        if let Some(builder) = flight.unsealed.take() {
            return Next::First {
                ordinal: flight.ordinal,
                builder,
                producer: flight.stamp.expect("stamped above"),
                compression: flight.compression,
            };
        }
        Next::Again {
            ordinal: flight.ordinal,
            bytes: flight.bytes.clone().expect("sealed before it was first sent"),
        }
    }

    fn first(&mut self, current: Option<Identity>) -> Next {
        if !self.has_new() || !self.may_stamp() {
            return Next::Nothing;
        }
        if self.gap {
            self.next_epoch();
        }
        self.look_for_rest();
        let records = self.closed.front().or(self.open.as_ref()).map_or(0, |b| b.builder.count());
        let producer = match self.stamp(records, current) {
            Ok(stamp) => stamp,
            Err(dead) => return Next::Identity { dead },
        };
        let batch = self.closed.pop_front().or_else(|| self.open.take()).expect("has_new");
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        self.outstanding += 1;
        self.flight.push_back(Flight {
            ordinal,
            stamp: Some(producer),
            bytes: None,
            unsealed: None,
            records,
            plain: batch.builder.len(),
            waiters: batch.waiters,
            charged: batch.charged,
            deadline: batch.deadline,
            outstanding: true,
            doubt: false,
            behind_gap: false,
            dead: false,
            too_large: false,
            unfit: false,
            compression: batch.compression,
        });
        Next::First {
            ordinal,
            builder: batch.builder,
            producer,
            compression: batch.compression,
        }
    }

    /// Point 7: after a rest nobody knows whether the broker still knows us. The clock is that of the batches' deadlines.
    fn look_for_rest(&mut self) {
        let next = self.closed.front().or(self.open.as_ref()).map(|b| b.deadline);
        let rest = next.zip(self.last).map(|(next, last)| next.saturating_duration_since(last));
        if self.flight.is_empty() && rest.is_some_and(|rest| rest > QUIET) {
            self.proven = false;
        }
        self.last = next;
    }

    /// The next stamp for a batch of `records`. Errors with the id that must not be taken if an id is needed first.
    fn stamp(&mut self, records: u32, current: Option<Identity>) -> Result<Producer, Option<i64>> {
        if !self.idempotent {
            return Ok(Producer::NONE);
        }
        let identity = match (self.identity, current) {
            (Some(identity), _) => identity,
            (None, Some(fresh)) if self.dead != Some(fresh.producer_id) => {
                self.next_sequence = 0;
                fresh
            }
            _ => return Err(self.dead),
        };
        self.identity = Some(identity);
        let base_sequence = self.next_sequence;
        self.next_sequence = sequence_behind(base_sequence, records);
        Ok(Producer {
            producer_id: identity.producer_id,
            producer_epoch: identity.epoch,
            base_sequence,
        })
    }
}

/// The sequence behind `records` records. Sequences run from 0 to i32::MAX and then from 0 again.
pub(super) fn sequence_behind(base: i32, records: u32) -> i32 {
    ((i64::from(base) + i64::from(records)) % (1 << 31)) as i32
}
