//! What an identity may publish and subscribe: rules in order, the first that speaks of the request decides, and none allows nothing.
//!
//! An allowing rule speaks of a request that it covers as a whole: a filter must lie within one of its patterns. A denying rule speaks
//! of a filter already when one topic of it is denied, or a subscriber to `#` would get what it must not see.

use super::{Pattern, Principal};
use crate::mqtt::QoS;
use crate::mqtt::topic::parse_share;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `None` is somebody anonymous.
    pub principal: Option<&'a Principal>,
    /// The client id.
    pub client: &'a str,
}

impl<'a> Subject<'a> {
    pub(super) fn identity(&self) -> Option<&'a str> {
        self.principal.map(|p| &*p.name)
    }

    pub(super) fn claim(&self, name: &str) -> Option<&'a str> {
        let claims = &self.principal?.claims;
        claims.iter().find(|(claim, _)| &**claim == name).map(|(_, value)| &**value)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message, or a will.
    Publish {
        /// With the RETAIN flag.
        retain: bool,
    },
    /// A subscription.
    Subscribe,
}

/// Whom a rule is about: all that is named must fit. `*` in a text stands for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The identity; nobody anonymous fits.
    pub identity: Option<String>,
    /// The client id.
    pub client: Option<String>,
    /// Claims of a token.
    pub claims: Vec<(String, String)>,
}

impl Who {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        self.identity
            .as_ref()
            .is_none_or(|glob| subject.identity().is_some_and(|name| fits(glob, name)))
            && self.client.as_ref().is_none_or(|glob| fits(glob, subject.client))
            && self
                .claims
                .iter()
                .all(|(name, glob)| subject.claim(name).is_some_and(|value| fits(glob, value)))
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// It allows; else it denies.
    pub allow: bool,
    /// It is about publishing.
    pub publish: bool,
    /// It is about subscribing.
    pub subscribe: bool,
    /// Whom it is about.
    pub who: Who,
    /// Which topics.
    pub topics: Vec<Pattern>,
    /// The highest QoS that it allows.
    pub max_qos: QoS,
    /// Whether it allows RETAIN.
    pub retain: bool,
}

impl Right {
    fn allows(&self, subject: &Subject<'_>, action: Action, topic: &str, qos: QoS) -> bool {
        qos <= self.max_qos
            && (self.retain || action != Action::Publish { retain: true })
            && self.topics.iter().any(|pattern| pattern.covers(topic, subject, false))
    }

    fn denies(&self, subject: &Subject<'_>, action: Action, topic: &str) -> bool {
        self.topics.iter().any(|pattern| match action {
            Action::Publish { .. } => pattern.covers(topic, subject, true),
            Action::Subscribe => pattern.meets(topic, subject),
        })
    }
}

/// All rules, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    rules: Vec<Right>,
}

impl Rights {
    /// Of these rules.
    pub fn new(rules: Vec<Right>) -> Self {
        Self { rules }
    }

    /// Whether `subject` may. `topic` is a topic name, or a filter, also a shared one: what counts then is the filter in it.
    pub fn permit(&self, subject: &Subject<'_>, action: Action, topic: &str, qos: QoS) -> bool {
        let shared = match (action, parse_share(topic)) {
            (Action::Subscribe, Ok(shared)) => shared,
            // No filter at all.
            (Action::Subscribe, Err(_)) => return false,
            (Action::Publish { .. }, _) => None,
        };
        let topic = shared.map_or(topic, |shared| shared.filter);
        for right in &self.rules {
            let speaks = if action == Action::Subscribe {
                right.subscribe
            } else {
                right.publish
            };
            if !speaks || !right.who.fits(subject) {
                continue;
            }
            if right.allow && right.allows(subject, action, topic, qos) {
                return true;
            }
            if !right.allow && right.denies(subject, action, topic) {
                return false;
            }
        }
        false
    }

    /// Claims that the rules ask for, each once.
    pub fn claims(&self) -> Vec<String> {
        let patterns = self.rules.iter().flat_map(|r| &r.topics).flat_map(Pattern::claims);
        let whose = self.rules.iter().flat_map(|r| &r.who.claims).map(|(name, _)| name.as_str());
        let mut names: Vec<String> = patterns.chain(whose).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Whether a text is what `glob` says, `*` standing for any characters.
fn fits(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
