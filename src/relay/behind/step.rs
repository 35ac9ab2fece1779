//! What a sweep does when it is its turn: a batch, or a chunk of it, for those who are at its place and have room.

use super::Behind;
use crate::{
    kafka::fetched::Batch,
    mapping::MissingSchema,
    relay::{
        allowance,
        hub::Subscriber,
        index::Index,
        scribe::{Clock, Scribe},
        sweep::Next,
    },
};

impl Behind {
    /// Hands out one chunk or batch, whichever is less, and no more than programs may take of a turn: the tail of the same partition waits for it. `tail`: the offset of the feed; those who
    /// come to it are not behind any more. Gives the schema that a record waits for, and its offset, if one does: it is the next then.
    pub fn step(&mut self, scribe: &mut Scribe, index: &Index<Subscriber>, tail: i64) -> Option<(MissingSchema, i64)> {
        allowance::begin();
        self.leave_out(tail);
        if let Some((from, to)) = self.deleted.take() {
            scribe.deleted(from, to);
        }
        let turn = self.turn;
        let sweep = self.sweeps.get_mut(turn).filter(|sweep| sweep.is_active && !sweep.is_over)?;
        let mut missing = None;
        let cursor = sweep.cursor;
        let end = match sweep.next_batch() {
            Next::Batch(batch) => {
                let rest;
                (rest, missing) = self.hand_out(&batch, scribe, index, cursor, tail);
                let end = rest.unwrap_or(batch.last_offset.saturating_add(1));
                if rest.is_some() {
                    self.sweeps[turn].keep_batch(batch);
                }
                end
            }
            Next::Nothing(end) => end,
            Next::Unreadable(end, error) => {
                scribe.unreadable(&error);
                end
            }
            Next::Again(error) => {
                scribe.read_again(&error);
                return None;
            }
            Next::TooLarge(bytes) => {
                self.give_up(turn, cursor, bytes);
                return None;
            }
        };
        self.advance(turn, cursor, end.clamp(cursor, tail.max(cursor)), tail);
        if end >= tail {
            // What it holds beyond belongs to the feed, and it must not go on behind that.
            self.sweeps.remove(turn);
        }
        missing.zip(Some(end))
    }

    /// Hands out the records from `cursor` up to `tail`, and stops when a chunk is full or the turn is over; the offset to go on at, if anything may be left,
    /// and the schema that the record there waits for.
    fn hand_out(
        &mut self,
        batch: &Batch,
        scribe: &mut Scribe,
        index: &Index<Subscriber>,
        cursor: i64,
        tail: i64,
    ) -> (Option<i64>, Option<MissingSchema>) {
        let clock = Clock::now();
        for record in batch.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    scribe.unreadable(&error);
                    break;
                }
            };
            if record.offset < cursor || record.offset >= tail {
                continue;
            }
            let members = &self.members;
            let noted = scribe.record(&record, index, clock, |subscriber| {
                let member = members.get(&subscriber.mailbox.id());
                member.is_some_and(|m| !m.full && m.position >= cursor && m.position <= record.offset)
            });
            if let Err(missing) = noted {
                self.flush(scribe);
                return (Some(record.offset), Some(missing));
            }
            if scribe.is_full() || allowance::is_used_up() {
                self.flush(scribe);
                return (Some(record.offset + 1), None);
            }
        }
        self.flush(scribe);
        (None, None)
    }

    fn flush(&mut self, scribe: &mut Scribe) {
        scribe.flush(|mailbox, from| {
            if let Some(member) = self.members.get_mut(&mailbox.id()) {
                (member.position, member.full) = (from, true);
            }
        });
    }

    /// Everybody between `cursor` and `end` whose mailbox took all is at `end` now.
    fn advance(&mut self, turn: usize, cursor: i64, end: i64, tail: i64) {
        for member in self.members.values_mut().filter(|member| !member.full) {
            if (cursor..end).contains(&member.position) {
                member.position = end;
            }
        }
        self.members.retain(|_, member| member.stays_behind(tail));
        self.sweeps[turn].cursor = end;
    }
}
