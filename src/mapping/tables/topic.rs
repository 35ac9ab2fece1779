//! The table of a compacted Kafka topic: what its records make of the rows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::rows::{PLACE, Rows, weight};
use super::{Table, as_key};
use crate::mapping::format::Format;
use crate::mapping::jq::Value;

/// Parts of the rows. A change copies one of them: of a million rows a thousand.
const PARTS: usize = 1024;

/// What a table of a topic is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTable {
    /// The Kafka topic.
    pub topic: String,
    /// Rows are found by this field of the record's key, which is a JSON object; `None`: by the key, as text.
    pub key: Option<String>,
    /// How values are written.
    pub format: Format,
    /// Bytes of memory for the rows.
    pub memory: usize,
    /// A file of rows that stand for the topic's where nobody reads that: in examples, and when it is explained what rules do.
    pub sample: Option<PathBuf>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It made, changed or removed a row, or there was none to remove.
    Taken,
    /// It has no key, or that or the value is not as the table is told. The row of its key, if there is one, stays.
    Unreadable,
    /// Its row finds no room. There is none of its key by now, and the table is not whole any more.
    NoRoom,
}

/// When a record was written, and where it lies. The later one counts; within a partition that which comes later, whatever its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// Its partition.
    pub partition: i32,
}

/// Rows of a topic that is being read. Nobody sees them before they are published.
///
/// A key lies in one partition, whose order is that of its records. But when a topic has gained partitions keys have moved: an old record
/// of a key still lies where it was, and partitions are read beside each other. So of topics with several partitions it is known of each
/// key which record was the last one, also if that removed the row, until all has been read; from then on of those that have a row.
#[derive(Debug)]
pub struct TopicRows {
    table: Arc<Table>,
    rows: Rows,
    held: usize,
    count: usize,
    /// `None`: there is one partition.
    last: Option<HashMap<Box<str>, Written>>,
    /// What `last` takes: as much as the rows at most, and beside them.
    held_by_last: usize,
    /// All that was there has been read: nothing that is older comes any more.
    is_settled: bool,
}

impl TopicRows {
    /// No rows yet, of a topic with so many partitions. `None`: the table is that of a file.
    pub fn new(table: &Arc<Table>, partitions: usize) -> Option<Self> {
        table.topic()?;
        Some(Self {
            table: table.clone(),
            rows: Rows::new(PARTS),
            held: 0,
            count: 0,
            last: (partitions > 1).then(HashMap::new),
            held_by_last: 0,
            is_settled: false,
        })
    }

    /// Takes a record; one without a value removes its row. One that is older than what another partition has of its key changes nothing.
    pub fn put(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, written: Written) -> Put {
        let table = self.table.clone();
        let Some(topic) = table.topic() else { return Put::Unreadable };
        let Some(key) = key.and_then(|key| key_of(topic, key)) else {
            return Put::Unreadable;
        };
        let row = match value.map(|value| topic.format.decode(value)) {
            None => None,
            Some(Ok(row)) => Some(row),
            Some(Err(_)) => return Put::Unreadable,
        };
        if !self.is_last(&key, written) {
            return Put::Taken;
        }
        if !self.has_room_to_know(&key) {
            self.remove(&key);
            self.rows.whole = false;
            return Put::NoRoom;
        }
        let put = match row {
            None => {
                self.remove(&key);
                Put::Taken
            }
            Some(row) => self.insert(&key, row),
        };
        self.remember(&key, written);
        put
    }

    /// Whether no other partition has a later record of this key.
    fn is_last(&self, key: &str, written: Written) -> bool {
        let last = self.last.as_ref().and_then(|last| last.get(key));
        last.is_none_or(|last| last.partition == written.partition || *last < written)
    }

    /// Whether it finds room which record of this key was the last one. Where it found none for a key there is none until all has been read, so
    /// no older record takes the place of one that was forgotten. From then on they are those of rows, which are heavier.
    fn has_room_to_know(&self, key: &str) -> bool {
        let Some(last) = &self.last else { return true };
        let most = self.table.topic().map_or(0, |topic| topic.memory);
        self.is_settled || last.contains_key(key) || self.held_by_last + memory_of_last(key) <= most
    }

    fn remember(&mut self, key: &str, written: Written) {
        let wanted = !self.is_settled || self.rows.get(key).is_some();
        let Some(last) = &mut self.last else { return };
        let before = if wanted {
            last.insert(key.into(), written)
        } else {
            last.remove(key)
        };
        match (before, wanted) {
            (None, true) => self.held_by_last += memory_of_last(key),
            (Some(_), false) => self.held_by_last -= memory_of_last(key),
            _ => {}
        }
    }

    /// All that the topic held has been read: records that removed a row need not be remembered any more.
    pub fn settle(&mut self) {
        self.is_settled = true;
        let (rows, held) = (&self.rows, &mut self.held_by_last);
        let Some(last) = &mut self.last else { return };
        last.retain(|key, _| {
            let stays = rows.get(key).is_some();
            *held -= if stays { 0 } else { memory_of_last(key) };
            stays
        });
        last.shrink_to_fit();
    }

    fn insert(&mut self, key: &str, row: Value) -> Put {
        // What was there is wrong from now on, whether or not there is room for what follows.
        let (weight, most) = (weight(key, &row), self.table.topic().map_or(0, |topic| topic.memory));
        let before = self.rows.get(key).map_or(0, |before| super::rows::weight(key, before));
        if self.held - before + weight > most {
            self.remove(key);
            self.rows.whole = false;
            return Put::NoRoom;
        }
        self.count += usize::from(self.rows.insert(key, row).is_none());
        self.held = self.held - before + weight;
        Put::Taken
    }

    fn remove(&mut self, key: &str) {
        if let Some(before) = self.rows.remove(key) {
            self.held -= weight(key, &before);
            self.count -= 1;
        }
    }

    /// Lets programs see the rows as they are now.
    pub fn publish(&self) {
        self.table.rows.store(Some(Arc::new(self.rows.clone())));
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of memory that they take, and what is known of their records.
    pub fn held(&self) -> usize {
        self.held + self.held_by_last
    }

    /// Whether no row was left out for want of room.
    pub fn is_whole(&self) -> bool {
        self.rows.whole
    }
}

/// Bytes that it takes to know the last record of a key.
fn memory_of_last(key: &str) -> usize {
    (size_of::<(Box<str>, Written)>() + PLACE) * 8 / 7 + key.len()
}

/// What a record's row is found by.
fn key_of<'k>(topic: &TopicTable, key: &'k [u8]) -> Option<Cow<'k, str>> {
    let Some(field) = &topic.key else {
        return std::str::from_utf8(key).ok().map(Cow::Borrowed);
    };
    let object = Value::from_json(key).ok()?;
    as_key(object.fields()?.get(field.as_str())?).map(|key| Cow::Owned(key.into_owned()))
}
