//! Topic aliases of version 5, one table for each direction (§3.3.2.3.4).
//!
//! Both are bounded by [`super::Settings::topic_alias_maximum`] and allocate nothing before the first alias.

use std::collections::HashMap;

use crate::mqtt::ReasonCode;

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
    /// 0x94 for zero or above `maximum` [MQTT-3.3.2-8], [MQTT-3.3.2-9]; 0x82 for one that stands for nothing (§3.3.4).
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
        if slot >= self.topics.len() {
            self.topics.resize_with(slot + 1, String::new);
        }
        if self.topics[slot] != topic {
            // In place: a client that turns its aliases over allocates nothing in the steady state.
            self.topics[slot].clear();
            self.topics[slot].push_str(topic);
        }
        Ok(())
    }

    /// The name, or empty.
    pub(super) fn get(&self, alias: u16) -> &str {
        self.topics.get(usize::from(alias).wrapping_sub(1)).map_or("", String::as_str)
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
            None if self.aliases.len() < usize::from(maximum) => TopicForm::Teach(self.aliases.len() as u16 + 1),
            None => TopicForm::Name,
        }
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
