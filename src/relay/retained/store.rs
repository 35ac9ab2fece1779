//! The retained messages as this instance knows them: records of the retained topic in, entries out. No clock, no socket.
//!
//! *Which wins*: of one MQTT topic in one mapped partition the record with the higher mapped offset, whichever was read later. Where the mapped
//! partition or the topic is another (rules were changed, `partition: round-robin`) there is no such order, and the later record wins.
//!
//! *Written once more*: such a record ([`Incoming::as_of`]) says nothing new, so where there is no common order it is not newer for being later.
//! Told as a sequence of events: an older record lies behind the one in force, whose custodian writes it once more; meanwhile a message
//! of another mapped partition is retained; the former message comes behind it, and would take its place.
//!
//! *Versions*: each change of what subscribers may get counts the version up. Whoever walks says between which versions, so a walk over a
//! map that changes meanwhile gives each entry once or not at all, and what is left out is told to the walker in another way.

mod anew;
mod duties;
mod repeats;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use anew::Anew;
pub use duties::{Duty, Look, What};
pub use repeats::Repeat;

use super::{
    body::Body,
    mapped::Mapped,
    walk::{self, Found, From},
};

/// What an entry costs beside its name and body, roughly: its place in the map.
const ENTRY: usize = size_of::<Entry>() + size_of::<Box<str>>() + 24;

/// Where a record of the retained topic lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition of the retained topic.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

/// What orders messages of one MQTT topic: where the mapped record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The Kafka topic, as [`Store::origin`] knows it.
    pub origin: u32,
    /// Its partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

impl Order {
    /// Whether the offsets say which is newer.
    fn is_comparable(self, other: Self) -> bool {
        (self.origin, self.partition) == (other.origin, other.partition)
    }

    /// Whether it is newer than the other, whichever is read later.
    fn beats(self, other: Self) -> bool {
        self.is_comparable(other) && self.offset > other.offset
    }
}

/// A mapped Kafka topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Its name.
    pub topic: Arc<str>,
    /// Its id.
    pub id: [u8; 16],
}

/// What is kept of one MQTT topic.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of the change that made it.
    pub version: u64,
    /// Where its record lies.
    pub place: Place,
    /// Where its mapped record lies.
    pub order: Order,
    /// Index of the rule that it belongs to.
    pub rule: u32,
    /// Offset of the last record of its key. If that is another than its own, it lost, and the entry must be written again.
    last: i64,
    /// Offset of the record of its key from which on all that were in force have a common order; -1 if there was none before.
    since: i64,
    /// In which reading of the topic its record was met last.
    reading: u32,
    /// When, as of [`Incoming::met`].
    met: u32,
    /// When its expiry interval ends.
    pub expires: Option<Instant>,
    /// What subscribers get.
    pub content: Content,
}

impl Entry {
    /// The last record of its key in the log is another, which lost: it must be written again.
    pub fn is_overtaken(&self) -> bool {
        self.last != self.place.offset
    }

    /// Whether a record that is read now takes its place. One that is written once more does so only if its writer knew all that is known
    /// here and has no common order with it.
    fn yields_to(&self, order: Order, as_of: Option<i64>) -> bool {
        let unknown = if self.order.is_comparable(order) { self.since } else { self.last };
        self.order == order || (!self.order.beats(order) && as_of.is_none_or(|as_of| unknown <= as_of))
    }

    /// [`since`](Self::since) of the record that takes its place.
    fn since(&self, order: Order, place: Place) -> i64 {
        if self.order.is_comparable(order) {
            self.since
        } else {
            place.offset
        }
    }
}

/// What subscribers get of an entry.
#[derive(Clone, Debug)]
pub enum Content {
    /// It is in memory.
    Here(Arc<Body>),
    /// It is in the log, at the entry's place: there was no memory for it.
    Elsewhere,
    /// Nothing: an empty payload has cleared it. Kept for its order.
    Cleared,
}

/// A record of the retained topic that is none of others.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The MQTT topic.
    pub topic: &'a str,
    /// Where the record lies.
    pub place: Place,
    /// Where its mapped record lies.
    pub mapped: Mapped<'a>,
    /// Of a record that is written once more: the offset of the last one of its key that its writer knew of.
    pub as_of: Option<i64>,
    /// Index of its rule.
    pub rule: u32,
    /// The second in which it was read, on a clock of the reader's own.
    pub met: u32,
    /// `None`: an empty payload.
    pub body: Option<Body>,
}

/// What a record has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Subscribers may get it; by this version.
    New(u64),
    /// Nothing that subscribers would get.
    Nothing,
}

/// All entries, within a budget of memory for names and bodies. Names are kept in any case.
#[derive(Debug)]
pub struct Store {
    entries: BTreeMap<Box<str>, Entry>,
    origins: Vec<Origin>,
    numbers: HashMap<Origin, u32>,
    version: u64,
    held: usize,
    budget: usize,
    anew: Anew,
}

impl Store {
    /// Nothing yet, and `budget` bytes for what comes.
    pub fn new(budget: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            origins: Vec::new(),
            numbers: HashMap::new(),
            version: 0,
            held: 0,
            budget,
            anew: Anew::default(),
        }
    }

    /// Of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Bytes of memory, roughly.
    pub fn held(&self) -> usize {
        self.held
    }

    /// How many topics are known, those that were cleared included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The mapped Kafka topic of an order.
    pub fn origin(&self, order: Order) -> &Origin {
        &self.origins[order.origin as usize]
    }

    /// The entry of a topic.
    pub fn entry(&self, topic: &str) -> Option<&Entry> {
        self.entries.get(topic)
    }

    fn order(&mut self, mapped: &Mapped<'_>) -> Order {
        let origin = Origin {
            topic: mapped.topic.into(),
            id: mapped.id,
        };
        let fresh = self.origins.len() as u32;
        let number = *self.numbers.entry(origin.clone()).or_insert(fresh);
        if number == fresh {
            self.origins.push(origin);
        }
        Order {
            origin: number,
            partition: mapped.partition,
            offset: mapped.offset,
        }
    }

    /// Takes a record. Those of one partition come in the order of their offsets.
    pub fn apply(&mut self, record: Incoming<'_>) -> Applied {
        let order = self.order(&record.mapped);
        let known = self.entries.get_mut(record.topic);
        let is_older = |entry: &Entry| self.anew.is_older((record.topic, entry), &record, order);
        if known.as_deref().is_some_and(is_older) {
            self.keep_older(&record, order);
            return Applied::Nothing;
        }
        let (mut again, mut before) = (None, self.anew.older(record.topic));
        if let Some(entry) = known {
            if !entry.yields_to(order, record.as_of) {
                entry.last = record.place.offset;
                return Applied::Nothing;
            }
            // The same message once more: written again, or repeated by a producer that did not know.
            again = (entry.order == order).then_some(entry.version);
            // Of one that is not met again, what was met before counts.
            before = before.or(Some(&*entry).filter(|entry| !self.anew.is_unmet(entry)));
        }
        let since = before.map_or(-1, |before| before.since(order, record.place));
        self.forget(record.topic);
        let version = again.unwrap_or(self.version + 1);
        self.version = self.version.max(version);
        let cleared = record.body.is_none();
        let expires = record.body.as_ref().and_then(|body| body.expires);
        self.held += record.topic.len() + ENTRY;
        let content = self.keep(record.body);
        let entry = Entry {
            version,
            place: record.place,
            order,
            rule: record.rule,
            last: record.place.offset,
            since,
            reading: self.anew.reading,
            met: record.met,
            expires,
            content,
        };
        self.entries.insert(record.topic.into(), entry);
        if cleared || again.is_some() || self.anew.is_known(record.place) {
            Applied::Nothing
        } else {
            Applied::New(version)
        }
    }

    fn keep(&mut self, body: Option<Body>) -> Content {
        let Some(body) = body else { return Content::Cleared };
        let weight = body.weight();
        if self.held + weight > self.budget {
            return Content::Elsewhere;
        }
        self.held += weight;
        Content::Here(Arc::new(body))
    }

    /// Takes a tombstone. `removes` is the record that whoever wrote it meant. One that lost to that goes with it; one that is newer, or has
    /// no common order with it, has come since, stays, and must be written again.
    pub fn tombstone(&mut self, topic: &str, place: Place, removes: Option<&Mapped<'_>>) {
        let meant = removes.map(|mapped| self.order(mapped));
        let is_meant = |entry: &Entry| meant.is_none_or(|meant| meant == entry.order || meant.beats(entry.order));
        match self.anew.older_mut(topic) {
            Some(older) if is_meant(older) => drop(self.forget_older(topic)),
            Some(older) => older.last = place.offset,
            None => {}
        }
        match self.entries.get_mut(topic) {
            Some(entry) if self.anew.is_unmet(entry) && self.anew.is_known(place) => {}
            Some(entry) if is_meant(entry) => self.fall_back(topic),
            Some(entry) => entry.last = place.offset,
            None => {}
        }
    }

    /// Leaves nothing of a topic: by rules that are no longer there, for one.
    pub fn forget(&mut self, topic: &str) {
        self.forget_older(topic);
        let Some(old) = self.entries.remove(topic) else { return };
        self.held -= topic.len() + ENTRY;
        if let Content::Here(body) = old.content {
            self.held -= body.weight();
        }
    }

    /// The next entry that a filter matches, with its topic; `most` names are looked at.
    pub fn next(&self, filter: &str, from: &From, most: usize) -> Found<'_, Entry> {
        walk::next(&self.entries, filter, from, most)
    }
}

#[cfg(test)]
mod tests;
