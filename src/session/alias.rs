//! Topic aliases of version 5, one table for each direction (§3.3.2.3.4).
//!
//! Both are bounded by [`super::Settings::topic_alias_maximum`], and in the bytes of their names: sixteen of the longest would be a MiB, for as long
//! as the client is there. They allocate nothing before the first alias.

use std::collections::HashMap;

use crate::mqtt::ReasonCode;

/// Bytes of names for each alias that there may be. They share them, so one of a few may be long.
const NAME: usize = 256;

/// A name of so few bytes keeps its memory for the next.
const SHORT: usize = 128;

/// What all names of one table may have together.
fn most_bytes(maximum: u16) -> usize {
    (usize::from(maximum) * NAME).max(u16::MAX.into())
}

/// What the client's aliases stand for.
#[derive(Debug, Default)]
pub(super) struct InboundAliases {
    /// By alias minus one; an empty name is not assigned.
    topics: Vec<String>,
}

impl InboundAliases {
    /// Learns or looks up the alias of one PUBLISH.
    ///
    /// # Errors
    /// 0x94 for zero or above `maximum` [MQTT-3.3.2-8], [MQTT-3.3.2-9]; 0x82 for one that stands for nothing (§3.3.4); 0x97 for names that are
    /// too long together.
    pub(super) fn apply(&mut self, alias: u16, topic: &str, maximum: u16) -> Result<(), ReasonCode> {
        if alias == 0 || alias > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let slot = usize::from(alias) - 1;
        if topic.is_empty() {
            return if self.get(alias).is_empty() {
                Err(ReasonCode::ProtocolError)
            } else {
                Ok(())
            };
        }
        if self.get(alias) == topic {
            return Ok(());
        }
        let others: usize = self.topics.iter().map(String::len).sum::<usize>() - self.get(alias).len();
        if others + topic.len() > most_bytes(maximum) {
            return Err(ReasonCode::QuotaExceeded);
        }
        if slot >= self.topics.len() {
            self.topics.resize_with(slot + 1, String::new);
        }
        learn(&mut self.topics[slot], topic);
        Ok(())
    }

    /// The name, or empty.
    pub(super) fn get(&self, alias: u16) -> &str {
        self.topics.get(usize::from(alias).wrapping_sub(1)).map_or("", String::as_str)
    }
}

/// In place: a client that turns its aliases over allocates nothing in the steady state. Memory that is far too large is not kept, or it would be bounded
/// by the names that were.
fn learn(name: &mut String, topic: &str) {
    if (topic.len()..=SHORT.max(2 * topic.len())).contains(&name.capacity()) {
        name.clear();
        name.push_str(topic);
    } else {
        *name = topic.to_owned();
    }
}

/// Which topics the client knows by a number. First come, first served: devices hear few topics,
/// and turning aliases over would cost more than the names it saves.
#[derive(Debug, Default)]
pub(super) struct OutboundAliases {
    /// Topics come from outside, so the standard hasher.
    aliases: HashMap<Box<str>, u16>,
}

/// How a topic goes into a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicForm {
    /// By name.
    Name,
    /// By name, and the alias is taught.
    Teach(u16),
    /// By alias, the name left empty.
    Alias(u16),
}

impl OutboundAliases {
    /// The best form for a topic. A taught alias counts only after [`OutboundAliases::taught`].
    pub(super) fn form(&self, topic: &str, maximum: u16) -> TopicForm {
        // An alias property takes three bytes.
        if maximum == 0 || topic.len() <= 3 {
            return TopicForm::Name;
        }
        match self.aliases.get(topic) {
            Some(&alias) => TopicForm::Alias(alias),
            None if self.has_room(topic, maximum) => TopicForm::Teach(self.aliases.len() as u16 + 1),
            None => TopicForm::Name,
        }
    }

    fn has_room(&self, topic: &str, maximum: u16) -> bool {
        self.aliases.len() < usize::from(maximum)
            && self.aliases.keys().map(|known| known.len()).sum::<usize>() + topic.len() <= most_bytes(maximum)
    }

    /// The PUBLISH that teaches `alias` is in the outbox.
    pub(super) fn taught(&mut self, topic: &str, alias: u16) {
        self.aliases.insert(topic.into(), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-3.3.2-8] and its neighbours.
    #[test]
    fn inbound_aliases_are_learned_replaced_and_bounded() {
        let mut aliases = InboundAliases::default();
        assert_eq!(aliases.apply(2, "", 4), Err(ReasonCode::ProtocolError));
        assert_eq!(aliases.apply(2, "a/b", 4), Ok(()));
        assert_eq!(aliases.apply(2, "", 4), Ok(()));
        assert_eq!(aliases.get(2), "a/b");
        assert_eq!(aliases.apply(1, "", 4), Err(ReasonCode::ProtocolError));
        assert_eq!(aliases.apply(2, "c", 4), Ok(()));
        assert_eq!(aliases.get(2), "c");
        assert_eq!(aliases.apply(5, "d", 4), Err(ReasonCode::TopicAliasInvalid));
        assert_eq!(aliases.apply(0, "d", 4), Err(ReasonCode::TopicAliasInvalid));
        assert_eq!(aliases.get(0), "");
    }

    #[test]
    fn names_are_bounded_together_and_so_is_the_memory_that_they_leave_behind() {
        let (mut aliases, longest) = (InboundAliases::default(), "a".repeat(u16::MAX.into()));
        assert_eq!(aliases.apply(1, &longest, 16), Ok(()), "one may be as long as there are");
        assert_eq!(aliases.apply(16, "b", 16), Err(ReasonCode::QuotaExceeded));
        assert_eq!(aliases.apply(1, &longest[1..], 16), Ok(()));
        assert_eq!(aliases.apply(16, "b", 16), Ok(()));
        assert_eq!(aliases.apply(16, &longest, 16), Err(ReasonCode::QuotaExceeded));
        assert_eq!(aliases.get(16), "b", "it stands for what it stood for");
        assert_eq!(aliases.apply(1, "b", 16), Ok(()));
        // Each in turn is long, and short then.
        for alias in 1..=16 {
            assert_eq!(aliases.apply(alias, &longest[100..], 16), Ok(()));
            assert_eq!(aliases.apply(alias, "b", 16), Ok(()));
        }
        let kept: usize = aliases.topics.iter().map(String::capacity).sum();
        assert!(kept <= 16 * SHORT, "{kept} bytes");
        // Fewer than 256 bytes for each would refuse a client that has as many as it may.
        let name = "c".repeat(NAME);
        for alias in 1..=1000 {
            assert_eq!(aliases.apply(alias, &name, 1000), Ok(()));
        }
    }

    #[test]
    fn a_name_that_finds_no_room_is_written_out() {
        let (mut aliases, long) = (OutboundAliases::default(), "a".repeat(40_000));
        assert_eq!(aliases.form(&long, 16), TopicForm::Teach(1));
        aliases.taught(&long, 1);
        assert_eq!(aliases.form(&long.replace('a', "b"), 16), TopicForm::Name);
        assert_eq!(aliases.form("topic/1", 16), TopicForm::Teach(2), "a short one still does");
        assert_eq!(aliases.form(&long, 16), TopicForm::Alias(1));
    }

    #[test]
    fn outbound_aliases_are_taught_first_and_bounded() {
        let mut aliases = OutboundAliases::default();
        assert_eq!(aliases.form("topic/1", 0), TopicForm::Name);
        assert_eq!(aliases.form("topic/1", 1), TopicForm::Teach(1));
        assert_eq!(aliases.form("topic/1", 1), TopicForm::Teach(1), "not taught yet");
        aliases.taught("topic/1", 1);
        assert_eq!(aliases.form("topic/1", 1), TopicForm::Alias(1));
        assert_eq!(aliases.form("topic/2", 1), TopicForm::Name);
        assert_eq!(aliases.form("abc", 9), TopicForm::Name, "an alias would save nothing");
    }
}
