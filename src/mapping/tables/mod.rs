//! Lookup tables of programs: rows by their key, from a file or from a compacted Kafka topic. Reading either is others' business.

mod file;
mod rows;
mod topic;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::jq::Value;
use rows::Rows;
pub use topic::{Put, TopicRows, TopicTable, Written};

/// Bytes of a file of rows; it is held in memory, some five times as large.
pub const LARGEST_TABLE: u64 = 64 << 20;

/// A table. Who looks into it takes no lock, and sees all rows of one reading of a file, or all of the next; of a topic each row as it was told last.
#[derive(Debug)]
pub struct Table {
    source: Source,
    /// `None`: a topic that was not read to its end yet, or a file that could not be read.
    rows: ArcSwapOption<Rows>,
}

#[derive(Debug)]
enum Source {
    /// `key`: the column or field that rows are found by.
    File {
        path: PathBuf,
        key: Option<String>,
    },
    Topic(TopicTable),
}

/// Why a table has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Its topic was not read to its end yet, or its file could not be read.
    NotRead,
    /// There is no such row, and rows were left out that found no room.
    NoRoom,
}

impl Table {
    /// The table of a file with this content. `key`: the column or field that rows are found by; of CSV the first one if there is none.
    ///
    /// # Errors
    /// What is wrong with the content.
    pub fn new(path: PathBuf, key: Option<String>, content: &[u8]) -> Result<Self, String> {
        let rows = file::read(&path, key.as_deref(), content)?;
        Ok(Self {
            source: Source::File { path, key },
            rows: ArcSwapOption::from_pointee(rows),
        })
    }

    /// The table of a topic that is still to be read.
    pub fn of_topic(topic: TopicTable) -> Self {
        Self {
            source: Source::Topic(topic),
            rows: ArcSwapOption::empty(),
        }
    }

    /// The table of a file that could not be read: it has a name, and no answer.
    pub fn unread(path: PathBuf, key: Option<String>) -> Self {
        Self {
            source: Source::File { path, key },
            rows: ArcSwapOption::empty(),
        }
    }

    /// Its file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path, .. } => Some(path),
            Source::Topic(_) => None,
        }
    }

    /// Its topic, if it has one.
    pub fn topic(&self) -> Option<&TopicTable> {
        match &self.source {
            Source::File { .. } => None,
            Source::Topic(topic) => Some(topic),
        }
    }

    /// Takes what the file holds by now. Gives how many rows there are.
    ///
    /// # Errors
    /// What is wrong with the content; the rows are those of before.
    pub fn renew(&self, content: &[u8]) -> Result<usize, String> {
        match &self.source {
            Source::File { path, key } => self.take(file::read(path, key.as_deref(), content)?),
            Source::Topic(topic) => Err(format!("is the table of the topic {}", topic.topic)),
        }
    }

    /// Takes rows of a file in the place of those of a topic, for examples and those who explain. Gives how many there are.
    ///
    /// # Errors
    /// What is wrong with the content.
    pub fn stand_in(&self, path: &Path, content: &[u8]) -> Result<usize, String> {
        self.take(file::read(path, None, content)?)
    }

    /// The rows of a topic are not known any more.
    pub fn forget(&self) {
        if self.topic().is_some() {
            self.rows.store(None);
        }
    }

    fn take(&self, rows: Rows) -> Result<usize, String> {
        let count = rows.len();
        self.rows.store(Some(Arc::new(rows)));
        Ok(count)
    }

    /// Whether programs see rows: a file's unless it could not be read, a topic's once it was read to its end.
    pub fn is_read(&self) -> bool {
        self.rows.load().is_some()
    }

    /// The row of a key as JSON, for people; `None` if there is none, or if that is not known.
    pub fn row_as_json(&self, key: &str) -> Option<String> {
        self.row(key).ok().flatten().map(|row| row.to_json())
    }

    /// The row of a key.
    pub(super) fn row(&self, key: &str) -> Result<Option<Value>, Lack> {
        let rows = self.rows.load();
        let rows = rows.as_ref().ok_or(Lack::NotRead)?;
        match rows.get(key) {
            None if !rows.whole => Err(Lack::NoRoom),
            row => Ok(row.cloned()),
        }
    }
}

/// What a row is found by. A number or truth value is found as it is written in JSON.
fn as_key(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => Some(Cow::Owned(value.to_json())),
        _ => None,
    }
}
