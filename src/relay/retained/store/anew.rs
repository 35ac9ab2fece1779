//! The topic is read anew: records of it were lost before they were read, or it was deleted and made anew. What is known stays meanwhile.
//!
//! Told as a sequence of events. An entry is what came of all records that were read before. When its own is met again it keeps its version, so
//! who has got it does not get it once more, and open walks go on. Other records that were read before have lost to it; but if its
//! own was lost, and is still not met when all has been read, the best of them counts. So that is kept beside it until then, without its body.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use super::{Content, ENTRY, Entry, Incoming, Order, Place, Store};

/// How far the reading is.
#[derive(Debug, Default)]
pub(super) struct Anew {
    /// Counts the readings.
    pub(super) reading: u32,
    /// By partition: what lies below was read before.
    known: Vec<i64>,
    /// The best that was read of topics whose entry is not met yet.
    older: HashMap<Box<str>, Entry>,
}

impl Anew {
    /// Whether what lies there was read before.
    pub(super) fn is_known(&self, place: Place) -> bool {
        self.known.get(place.partition as usize).is_some_and(|end| place.offset < *end)
    }

    pub(super) fn is_unmet(&self, entry: &Entry) -> bool {
        entry.reading != self.reading
    }

    /// Whether the entry of a topic is not met yet, and a record has lost to it, or does to what was met before.
    pub(super) fn is_older(&self, (topic, entry): (&str, &Entry), record: &Incoming<'_>, order: Order) -> bool {
        let loses_to = |entry: &Entry| !entry.yields_to(order, record.as_of);
        let loses_to_entry = match self.is_known(record.place) {
            true => record.place != entry.place,
            false => loses_to(entry),
        };
        self.is_unmet(entry) && (loses_to_entry || self.older(topic).is_some_and(loses_to))
    }

    pub(super) fn older(&self, topic: &str) -> Option<&Entry> {
        self.older.get(topic)
    }

    pub(super) fn older_mut(&mut self, topic: &str) -> Option<&mut Entry> {
        self.older.get_mut(topic)
    }
}

impl Store {
    /// The topic is read from its beginning. Of each partition what lies below the offset in `known` was read before.
    pub fn begin(&mut self, known: Vec<i64>) {
        self.anew.reading += 1;
        self.anew.known = known;
        for topic in std::mem::take(&mut self.anew.older).into_keys() {
            self.held -= topic.len() + ENTRY;
        }
    }

    pub(super) fn keep_older(&mut self, record: &Incoming<'_>, order: Order) {
        let mut since = -1;
        if let Some(known) = self.anew.older.get_mut(record.topic) {
            if !known.yields_to(order, record.as_of) {
                known.last = record.place.offset;
                return;
            }
            since = known.since(order, record.place);
        }
        let content = if record.body.is_some() {
            Content::Elsewhere
        } else {
            Content::Cleared
        };
        let entry = Entry {
            version: 0,
            place: record.place,
            order,
            rule: record.rule,
            last: record.place.offset,
            since,
            reading: self.anew.reading,
            met: record.met,
            expires: record.body.as_ref().and_then(|body| body.expires),
            content,
        };
        if self.anew.older.insert(record.topic.into(), entry).is_none() {
            self.held += record.topic.len() + ENTRY;
        }
    }

    pub(super) fn forget_older(&mut self, topic: &str) -> Option<Entry> {
        let entry = self.anew.older.remove(topic)?;
        self.held -= topic.len() + ENTRY;
        Some(entry)
    }

    /// All has been read: forgets what was not met. Looks at `most` names behind one, and gives the last of them if there may be more.
    pub fn forget_unmet(&mut self, behind: Option<&str>, most: usize) -> Option<Box<str>> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let names: &BTreeMap<Box<str>, Entry> = &self.entries;
        let (mut unmet, mut last, mut looks) = (Vec::new(), None, 0);
        for (topic, entry) in names.range::<str, _>((from, Bound::Unbounded)).take(most) {
            (last, looks) = (Some(topic), looks + 1);
            if self.anew.is_unmet(entry) {
                unmet.push(topic.clone());
            }
        }
        let last = last.filter(|_| looks == most).cloned();
        unmet.iter().for_each(|topic| self.fall_back(topic));
        last
    }

    /// Forgets the entry of a topic for what was kept beside it, if anything.
    pub(super) fn fall_back(&mut self, topic: &str) {
        let version = self.entries.get(topic).map(|entry| entry.version);
        let older = self.forget_older(topic);
        self.forget(topic);
        if let (Some(version), Some(older)) = (version, older) {
            self.held += topic.len() + ENTRY;
            // Who has got the one that was lost gets no older one after it; a walk that comes to it gives what there is.
            self.entries.insert(topic.into(), Entry { version, ..older });
        }
    }
}
