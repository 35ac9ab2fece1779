//! Rows of a file: CSV or JSON.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::as_key;
use super::rows::Rows;
use crate::mapping::jq::{Fields, Value};

/// The rows of a file with this content.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(path: &Path, key: Option<&str>, content: &[u8]) -> Result<Rows, String> {
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
    for (at, name) in names.iter().enumerate() {
        if let Some(first) = names[..at].iter().position(|other| other == name) {
            return Err(format!("has two columns `{name}`: {} and {}", first + 1, at + 1));
        }
    }
    let mut rows = Rows::new(1);
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
    let no_json = |error: serde_json::Error| format!("is no JSON: {error}");
    let mut rows = Rows::new(1);
    match key {
        None => {
            let named: Result<Named, serde_json::Error> = serde_json::from_slice(content);
            let Named(named) = named.map_err(|error| match error.is_data() {
                true => "is no object; an array of objects needs `key`, the field that they are found by".to_owned(),
                false => no_json(error),
            })?;
            for (name, row) in named {
                insert(&mut rows, &name, row)?;
            }
        }
        Some(key) => {
            let value = Value::from_json(content).map_err(no_json)?;
            let items = value.items().ok_or("is no array of objects")?;
            for (number, row) in items.iter().enumerate() {
                let found = row.fields().and_then(|fields: &Fields| fields.get(key));
                let found = found.and_then(as_key).ok_or_else(|| no_key(key, number + 1, row, found))?;
                insert(&mut rows, &found, row.clone())?;
            }
        }
    }
    Ok(rows)
}

/// Why a row of an array cannot be found.
fn no_key(key: &str, number: usize, row: &Value, found: Option<&Value>) -> String {
    let instead = match (row.fields(), found) {
        (None, _) => format!("the row is of the kind {}, and rows are objects", row.kind()),
        (_, None) => "rows are found by it, so each has it".to_owned(),
        (_, Some(value)) => format!(
            "it is of the kind {}, and rows are found by texts, numbers and truth values",
            value.kind()
        ),
    };
    format!("has no text, number or truth value `{key}` in row {number}: {instead}")
}

fn insert(rows: &mut Rows, key: &str, row: Value) -> Result<(), String> {
    match rows.insert(key, row) {
        None => Ok(()),
        Some(_) => Err(format!("has two rows of the key `{key}`")),
    }
}

/// The fields of an object, also such that have one name.
struct Named(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Named;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                let mut named = Vec::new();
                while let Some(field) = map.next_entry()? {
                    named.push(field);
                }
                Ok(Named(named))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
