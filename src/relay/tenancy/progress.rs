//! How far a client has come in one partition.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Progress {
    /// Everything below was sent, or is not wanted.
    pub(super) next: i64,
    /// Of that, QoS 1 messages that are not settled, with their packet ids.
    pub(super) open: BTreeMap<i64, u16>,
    /// The position is not told lower any more: QoS 2 messages were sent below it.
    pub(super) floor: i64,
    /// What lies below was looked at by earlier connections.
    pub(super) resumed: i64,
    /// The position that the store knows.
    pub(super) told: Option<i64>,
    /// The lowest that was open at the last look.
    pub(super) waits_for: Option<i64>,
}

impl Progress {
    pub(super) fn at(next: i64, told: Option<i64>) -> Self {
        Self {
            next,
            open: BTreeMap::new(),
            floor: told.unwrap_or(0),
            resumed: told.unwrap_or(0),
            told,
            waits_for: None,
        }
    }

    /// What is known from `offset` on is of records that are no more.
    pub(super) fn cut(&mut self, offset: i64) {
        for known in [&mut self.next, &mut self.floor, &mut self.resumed] {
            *known = offset.min(*known);
        }
        self.open.split_off(&offset);
    }

    pub(super) fn position(&self) -> i64 {
        let lowest = self.open.first_key_value().map_or(self.next, |(lowest, _)| self.next.min(*lowest));
        lowest.max(self.floor)
    }
}
