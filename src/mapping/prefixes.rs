//! Templates of Kafka topics by the text that they begin with: of ten thousand rules only those are asked of a name that may make it.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::template::{Piece, Template};

/// Rules are named by their place.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    by_text: FxHashMap<String, Vec<u32>>,
    /// Bytes of these texts.
    lengths: BTreeSet<usize>,
}

impl Prefixes {
    /// Notes a rule. One that `is_free` is asked of every name.
    pub(super) fn add(&mut self, template: &Template, is_free: bool, id: u32) {
        let text = match template.pieces.first() {
            Some(Piece::Text(text)) if !is_free => text.as_str(),
            _ => "",
        };
        self.lengths.insert(text.len());
        self.by_text.entry(text.to_owned()).or_default().push(id);
    }

    /// The rules whose templates begin as this name does.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = u32> {
        let beginnings = self.lengths.range(..=name.len()).filter_map(|length| name.get(..*length));
        beginnings.filter_map(|text| self.by_text.get(text)).flatten().copied()
    }
}
