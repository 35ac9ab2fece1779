//! `value` of a rule: how payloads and the values of records are written.

use crate::mapping::{Format, ValueSpec};

use super::tree::Node;
use super::walk::{Keys, Walk};

const VALUE: Keys = Keys {
    known: &["format", "payload"],
    later: &[],
};
const FORMATS: [(&str, Format); 3] = [("json", Format::Json), ("text", Format::Text), ("bytes", Format::Bytes)];

impl Walk<'_> {
    /// Formats.
    pub(super) fn value(&mut self, node: &Node) -> Option<ValueSpec> {
        let section = self.section(node, "rules[].value", &VALUE)?;
        let payload = match self.optional(&section, "payload") {
            Some(node) => Some(self.choice(node, "rules[].value.payload", &FORMATS, &[])?),
            None => None,
        };
        let format = self.required(&section, "format", "json")?;
        Some(ValueSpec {
            format: self.choice(format, "rules[].value.format", &FORMATS, &[])?,
            payload,
        })
    }

    /// Texts, at least one.
    pub(super) fn texts(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let list = self.list(node, name);
        // All of them, so that all their faults are told.
        let read: Vec<_> = list.iter().map(|node| self.text(node, name)).collect();
        read.into_iter().collect::<Option<Vec<String>>>().filter(|list| !list.is_empty())
    }
}
