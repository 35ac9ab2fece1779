//! A message that may have been retained before, and by now something else may have been.
//!
//! Told as sequences of events; each begins with a PUBLISH of QoS 2 whose client hears no PUBREC, and repeats it at any later time:
//! * It was retained, and then cleared, which left a tombstone, and nothing in the end. Retained anew it would be in force again. So where
//!   nothing is known it is retained only as long as there can be no tombstone of what has cleared it.
//! * It was retained, and then one of another mapped partition, with which it has no common order. Retained anew it would take that one's
//!   place. So it is retained only if the other one had its record before the message had its own in the mapped topic.
//! * Its owner died before it was retained, and nothing newer is known. It is retained.
//! * Its former owner is about to retain it, and behind that comes one of another mapped partition. So whatever is written says up to where the
//!   log was known ([`Incoming::as_of`](super::Incoming::as_of)).

use super::{Order, Place, Store};
use crate::relay::retained::mapped::Mapped;

/// What is known beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It, or one that is newer.
    Known,
    /// One that is older.
    Newer {
        /// See [`Incoming::as_of`](super::Incoming::as_of).
        as_of: i64,
    },
    /// Nothing.
    Missing,
    /// One with which it has no common order, or whose predecessor has none.
    Other {
        /// Where its record lies.
        place: Place,
        /// See [`Incoming::as_of`](super::Incoming::as_of).
        as_of: i64,
    },
}

impl Repeat {
    /// As of which record the message is to be written; `None`: not at all. `read`: offset of the last record that was read before the look.
    /// `is_young`: what has cleared it can have no tombstone yet. `is_older`: the other one was retained before the message had its mapped
    /// record.
    pub fn as_of(self, read: i64, is_young: bool, is_older: bool) -> Option<i64> {
        match self {
            Repeat::Newer { as_of } => Some(as_of),
            Repeat::Missing => Some(read).filter(|_| is_young),
            Repeat::Other { as_of, .. } => Some(as_of).filter(|_| is_older),
            Repeat::Known => None,
        }
    }
}

impl Store {
    /// What is known beside a message.
    pub fn repeat(&self, topic: &str, mapped: &Mapped<'_>) -> Repeat {
        let Some(entry) = self.entry(topic) else { return Repeat::Missing };
        let origin = self.origin(entry.order);
        let order = Order {
            // Of a topic that nothing is known of: no entry's.
            origin: if (&*origin.topic, origin.id) == (mapped.topic, mapped.id) {
                entry.order.origin
            } else {
                u32::MAX
            },
            partition: mapped.partition,
            offset: mapped.offset,
        };
        let (place, as_of) = (entry.place, entry.last);
        match entry.order.is_comparable(order) {
            true if !order.beats(entry.order) => Repeat::Known,
            true if entry.since < 0 => Repeat::Newer { as_of },
            _ => Repeat::Other { place, as_of },
        }
    }
}
