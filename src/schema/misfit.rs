//! Why a value and a schema do not go together.

use std::fmt;

/// Of which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The value is not as the schema says.
    Mismatch,
    /// The bytes are no value of this schema.
    Damaged,
    /// It is larger, deeper or of more parts than is taken apart.
    TooMuch,
}

/// Where in a value it does not go together with its schema, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Of which kind.
    pub why: Why,
    /// In words.
    pub what: String,
    /// The part of the value, as a JSON pointer (RFC 6901); empty: the whole.
    pub at: String,
}

impl Misfit {
    pub(super) fn new(why: Why, what: impl Into<String>) -> Self {
        Self {
            why,
            what: what.into(),
            at: String::new(),
        }
    }

    pub(super) fn mismatch(what: impl Into<String>) -> Self {
        Self::new(Why::Mismatch, what)
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::new(Why::Damaged, what)
    }

    pub(super) fn too_much(what: impl Into<String>) -> Self {
        Self::new(Why::TooMuch, what)
    }

    /// The same, of a part of a larger value.
    pub(super) fn within(mut self, part: impl fmt::Display) -> Self {
        // What an adversary nests is told to some depth only.
        if self.at.len() < 256 {
            self.at = format!("/{part}{}", self.at);
        }
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.what),
            at => write!(f, "{at}: {}", self.what),
        }
    }
}
