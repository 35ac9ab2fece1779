//! The table of a compacted Kafka topic: what its records make of the rows.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::Table;
use super::rows::{Rows, weight};
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

/// Rows of a topic that is being read. Nobody sees them before they are published.
#[derive(Debug)]
pub struct TopicRows {
    table: Arc<Table>,
    rows: Rows,
    held: usize,
    count: usize,
}

impl TopicRows {
    /// No rows yet. `None`: the table is that of a file.
    pub fn new(table: &Arc<Table>) -> Option<Self> {
        table.topic()?;
        Some(Self {
            table: table.clone(),
            rows: Rows::new(PARTS),
            held: 0,
            count: 0,
        })
    }

    /// Takes a record; one without a value removes its row.
    pub fn put(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Put {
        let table = self.table.clone();
        let Some(topic) = table.topic() else { return Put::Unreadable };
        let Some(key) = key.and_then(|key| key_of(topic, key)) else {
            return Put::Unreadable;
        };
        match value.map(|value| topic.format.decode(value)) {
            None => {
                self.remove(&key);
                Put::Taken
            }
            Some(Ok(row)) => self.insert(&key, row),
            Some(Err(_)) => Put::Unreadable,
        }
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

    /// Bytes of memory that they take.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether no row was left out for want of room.
    pub fn is_whole(&self) -> bool {
        self.rows.whole
    }
}

/// What a record's row is found by. A number or truth value is found as it is written in JSON.
fn key_of<'k>(topic: &TopicTable, key: &'k [u8]) -> Option<Cow<'k, str>> {
    let Some(field) = &topic.key else {
        return std::str::from_utf8(key).ok().map(Cow::Borrowed);
    };
    let object = Value::from_json(key).ok()?;
    match object.fields()?.get(field.as_str())? {
        Value::Text(text) => Some(Cow::Owned(text.to_string())),
        number @ (Value::Int(_) | Value::Float(_) | Value::Bool(_)) => Some(Cow::Owned(number.to_json())),
        _ => None,
    }
}
