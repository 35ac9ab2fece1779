//! Lookup tables of programs: rows by their key, as they were read last. Reading files is others' business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::jq::{Fields, Value};

/// Bytes of a file of rows; it is held in memory, some five times as large.
pub const LARGEST_TABLE: u64 = 64 << 20;

type Rows = HashMap<Box<str>, Value>;

/// A table. Programs see all rows of one reading, or all of the next.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    key: Option<String>,
    rows: RwLock<Arc<Rows>>,
}

impl Table {
    /// The table of a file with this content. `key`: the column or field that rows are found by; of CSV the first one if there is none.
    ///
    /// # Errors
    /// What is wrong with the content.
    pub fn new(path: PathBuf, key: Option<String>, content: &[u8]) -> Result<Self, String> {
        let rows = RwLock::new(Arc::new(read(&path, key.as_deref(), content)?));
        Ok(Self { path, key, rows })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes what the file holds by now. Gives how many rows there are.
    ///
    /// # Errors
    /// What is wrong with the content; the rows are those of before.
    pub fn renew(&self, content: &[u8]) -> Result<usize, String> {
        let rows = Arc::new(read(&self.path, self.key.as_deref(), content)?);
        let count = rows.len();
        let before = std::mem::replace(&mut *self.rows.write().unwrap_or_else(PoisonError::into_inner), rows);
        // Taken down when nobody can wait for the lock any more.
        drop(before);
        Ok(count)
    }

    /// The row of a key as JSON, for people.
    pub fn row_as_json(&self, key: &str) -> Option<String> {
        self.row(key).map(|row| row.to_json())
    }

    /// The row of a key.
    pub(super) fn row(&self, key: &str) -> Option<Value> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

fn read(path: &Path, key: Option<&str>, content: &[u8]) -> Result<Rows, String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => read_csv(key, content),
        Some("json") => read_json(key, content),
        _ => Err("is neither .csv nor .json".to_owned()),
    }
}

/// Each row is an object of texts, by the names in the first line.
fn read_csv(key: Option<&str>, content: &[u8]) -> Result<Rows, String> {
    let mut reader = csv::Reader::from_reader(content);
    let wrong = |error: csv::Error| format!("is no CSV: {error}");
    let names: Vec<Arc<str>> = reader.headers().map_err(wrong)?.iter().map(Into::into).collect();
    let place = match key {
        None => 0,
        Some(key) => names
            .iter()
            .position(|name| **name == *key)
            .ok_or_else(|| format!("has no column `{key}`"))?,
    };
    let mut rows = Rows::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let cells = names.iter().cloned().zip(record.iter().map(Value::text));
        let row = Value::object(cells.collect());
        insert(&mut rows, record.get(place).unwrap_or(""), row)?;
    }
    Ok(rows)
}

/// An object of rows by their keys, or with `key` an array of objects.
fn read_json(key: Option<&str>, content: &[u8]) -> Result<Rows, String> {
    let value = Value::from_json(content).map_err(|error| format!("is no JSON: {error}"))?;
    let mut rows = Rows::new();
    match (key, &value) {
        (None, Value::Object(object)) => object
            .names_and_values()
            .try_for_each(|(name, row)| insert(&mut rows, name, row.clone()))?,
        (None, _) => return Err("is no object; an array of objects needs `key`, the field that they are found by".to_owned()),
        (Some(key), _) => {
            let items = value.items().ok_or("is no array of objects")?;
            for (number, row) in items.iter().enumerate() {
                let found = row.fields().and_then(|fields: &Fields| fields.get(key));
                let found = found
                    .and_then(Value::as_text)
                    .ok_or_else(|| format!("has no text `{key}` in row {}", number + 1))?;
                insert(&mut rows, found, row.clone())?;
            }
        }
    }
    Ok(rows)
}

fn insert(rows: &mut Rows, key: &str, row: Value) -> Result<(), String> {
    match rows.insert(key.into(), row) {
        None => Ok(()),
        Some(_) => Err(format!("has two rows of the key `{key}`")),
    }
}
