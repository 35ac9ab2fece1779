//! Rows by their key, in parts: who changes some rows copies the parts that they lie in, and nobody waits who reads.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::mapping::jq::Value;

type Part = HashMap<Arc<str>, Value>;

/// Bytes of a place in a map beside what lies in it. At most seven of eight places are taken.
pub(super) const PLACE: usize = 1;

/// Bytes that a row takes beside its key and what its value holds: its place in the map, and the head of the key.
const ROW: usize = (size_of::<(Arc<str>, Value)>() + PLACE) * 8 / 7 + 16;

/// All rows of a table. A clone shares the parts of both until one of them is changed.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    parts: Box<[Arc<Part>]>,
    hasher: RandomState,
    /// No row was left out for want of room.
    pub(super) whole: bool,
}

impl Rows {
    /// None yet, in so many parts.
    pub(super) fn new(parts: usize) -> Self {
        Self {
            parts: vec![Arc::default(); parts.max(1)].into(),
            hasher: RandomState::new(),
            whole: true,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.parts[self.part(key)].get(key)
    }

    /// Gives the row that was there.
    pub(super) fn insert(&mut self, key: &str, row: Value) -> Option<Value> {
        let part = self.part(key);
        Arc::make_mut(&mut self.parts[part]).insert(key.into(), row)
    }

    /// Gives the row that was there.
    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        let part = self.part(key);
        // What is not there is no reason to copy the part.
        if !self.parts[part].contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.parts[part]).remove(key)
    }

    fn part(&self, key: &str) -> usize {
        match self.parts.len() {
            1 => 0,
            parts => (self.hasher.hash_one(key) % parts as u64) as usize,
        }
    }
}

/// Bytes of memory that a row takes, as far as they can be told.
pub(super) fn weight(key: &str, row: &Value) -> usize {
    ROW + key.len() + row.held()
}
