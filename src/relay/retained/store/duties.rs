//! What the custodian of a partition owes the log, as its store shows it.
//!
//! Compaction keeps the last record of a key, so the last one must be the one that wins. Told as sequences of events:
//! * The record of a message is behind the one of a newer message: two instances wrote in another order than their messages have.
//!   Then the winner is written once more.
//! * A message has expired or was cleared, so its key gets a tombstone; meanwhile another instance retains a new message, and its record
//!   comes in front of the tombstone. The tombstone says which message it was written for. It takes nothing that is newer: the new message
//!   stays in force everywhere, and is written once more behind the tombstone. So it need not be known what comes while it is written.
//! * An older message comes after the tombstone: its writer has been long about it. Nobody would know any more that there was a newer
//!   one, and it would be in force again. So a tombstone waits until no older one can come.
//! * The last record of a key has lost to a message that has expired. A tombstone would be early; a record without a payload, with
//!   the place of the winner, keeps the order until its time has come.
//!
//! * A message is written once more, and before that is in the log, one of another mapped partition is retained, with which it has no
//!   common order. It says up to where the log was known, so for nobody it is newer than what came since.
//!
//! Who does that twice, or after another has become the custodian, does no harm: each record says which message it is about.

use std::{collections::BTreeSet, ops::Bound, time::Instant};

use super::{Content, Entry, Order, Place, Store};

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The MQTT topic.
    pub topic: Box<str>,
    /// Where the record of its message lies.
    pub place: Place,
    /// Where the mapped record of that lies.
    pub order: Order,
    /// Which.
    pub what: What,
}

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A tombstone.
    Remove,
    /// A record without a payload.
    Clear,
    /// The same message once more, with what is left of its time.
    Again {
        /// When that ends.
        expires: Option<Instant>,
    },
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The partitions that are looked after.
    pub mine: &'a BTreeSet<i32>,
    /// The time.
    pub now: Instant,
    /// The same as [`Incoming::met`](super::Incoming::met) counts.
    pub second: u32,
    /// Seconds for which a message that is gone has no tombstone.
    pub delay: u32,
}

impl Look<'_> {
    fn what(&self, entry: &Entry) -> Option<What> {
        let gone = matches!(entry.content, Content::Cleared) || entry.expires.is_some_and(|end| end <= self.now);
        match entry.is_overtaken() {
            _ if !self.mine.contains(&entry.place.partition) => None,
            true if gone => Some(What::Clear),
            true => Some(What::Again { expires: entry.expires }),
            // Seconds are cut off: a whole one more has passed then.
            false => (gone && entry.met.saturating_add(self.delay) < self.second).then_some(What::Remove),
        }
    }
}

impl Store {
    /// What is owed of `most` names behind one, and the last of them if there may be more.
    pub fn duties(&self, behind: Option<&str>, most: usize, look: &Look<'_>) -> (Vec<Duty>, Option<Box<str>>) {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut duties, mut last, mut looks) = (Vec::new(), None, 0);
        for (topic, entry) in self.entries.range::<str, _>((from, Bound::Unbounded)).take(most) {
            (last, looks) = (Some(topic), looks + 1);
            duties.extend(look.what(entry).map(|what| duty(topic, entry, what)));
        }
        (duties, last.filter(|_| looks == most).cloned())
    }

    /// Whether a message is still to be written once more, nothing newer having come: then as of which record
    /// ([`Incoming::as_of`](super::Incoming::as_of)).
    pub fn is_owed(&self, duty: &Duty) -> Option<i64> {
        let same = |entry: &&Entry| (entry.order, entry.place) == (duty.order, duty.place) && entry.is_overtaken();
        self.entry(&duty.topic).filter(same).map(|entry| entry.last)
    }

    /// A message cannot be written once more: the log has it no longer.
    pub fn forgive(&mut self, duty: &Duty) {
        if self.is_owed(duty).is_some()
            && let Some(entry) = self.entries.get_mut(&duty.topic)
        {
            entry.last = entry.place.offset;
        }
    }
}

fn duty(topic: &str, entry: &Entry, what: What) -> Duty {
    Duty {
        topic: topic.into(),
        place: entry.place,
        order: entry.order,
        what,
    }
}
