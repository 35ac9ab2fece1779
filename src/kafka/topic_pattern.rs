//! Names of Kafka topics with holes in them: `plant-*`.

use std::fmt;
use std::sync::Arc;

/// What Kafka calls its own topics, and many programs theirs.
const INTERNAL: &str = "__";

/// A name in which `*` stands for any characters, or for none. Kafka's own topics (`__consumer_offsets`) are only meant where the `__` is
/// written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPattern(Arc<str>);

impl TopicPattern {
    /// As written; two holes in a row are one.
    pub fn new(written: &str) -> Self {
        let mut text = String::with_capacity(written.len());
        for c in written.chars() {
            if c != '*' || !text.ends_with('*') {
                text.push(c);
            }
        }
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is such a name. Takes time linear in the name for each hole.
    pub fn matches(&self, name: &str) -> bool {
        if is_internal(name, &self.0) {
            return false;
        }
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut left) = name.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return left.is_empty() };
        for piece in pieces {
            // The leftmost place leaves most for those that follow.
            let Some(at) = left.find(piece) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name that was made of this text with holes is one of Kafka's own, and the text does not say so.
pub fn is_internal(name: &str, written: &str) -> bool {
    name.starts_with(INTERNAL) && !written.starts_with(INTERNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stand_for_any_characters_and_the_rest_for_itself() {
        let cases = [
            ("plant-*", "plant-a", true),
            ("plant-*", "plant-", true),
            ("plant-*", "plant", false),
            ("plant-*", "implant-a", false),
            ("*-events", "a-events", true),
            ("*-events", "a-events-b", false),
            ("a-*-b-*-c", "a-1-b-2-c", true),
            ("a-*-b-*-c", "a--b--c", true),
            ("a-*-b-*-c", "a-b-c", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "xabab", true),
            ("plant", "plant", true),
            ("plant", "plants", false),
            ("*", "anything", true),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(TopicPattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
        assert_eq!(TopicPattern::new("a**b").as_str(), "a*b");
    }

    #[test]
    fn kafkas_own_topics_are_meant_only_where_that_is_written() {
        assert!(!TopicPattern::new("*").matches("__consumer_offsets"));
        assert!(!TopicPattern::new("_*").matches("__consumer_offsets"));
        assert!(TopicPattern::new("__mine-*").matches("__mine-a"));
        assert!(TopicPattern::new("*").matches("_schemas"));
    }
}
