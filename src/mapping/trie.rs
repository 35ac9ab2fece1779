//! A trie of topic levels over all filters: one walk finds every filter that matches a topic name.

use rustc_hash::FxHashMap;

use super::filter::{Filter, Level, first_level};

#[derive(Debug, Default)]
struct Node {
    /// The rule set chooses these keys, not a client, so the fast hash is safe.
    literals: FxHashMap<Box<str>, u32>,
    one: Option<u32>,
    ends: Vec<u32>,
    rests: Vec<u32>,
}

/// The trie; nodes are named by their place in the list, the root is 0.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

impl Trie {
    pub(super) fn new() -> Self {
        Trie {
            nodes: vec![Node::default()],
        }
    }

    pub(super) fn insert(&mut self, filter: &Filter, rule: u32) {
        let mut at = 0;
        for level in &filter.levels {
            let next = u32::try_from(self.nodes.len()).expect("fewer than 2^32 levels in a rule file");
            let node = &mut self.nodes[at];
            let child = match level {
                Level::Rest(_) => return node.rests.push(rule),
                Level::Literal(text) => *node.literals.entry(text.as_str().into()).or_insert(next),
                Level::One(_) => *node.one.get_or_insert(next),
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        self.nodes[at].ends.push(rule);
    }

    /// Appends every rule whose filter matches, in no order. Recursion is as deep as the longest filter, and a walk
    /// visits each node at most once, so a hostile topic costs no more than the rules allow.
    pub(super) fn matches(&self, topic: &str, found: &mut Vec<u32>) {
        self.walk(0, Some(topic), topic.starts_with('$'), found);
    }

    /// `system` is true while the first level of a `$` topic is still to come: no wildcard takes it [MQTT-4.7.2-1].
    fn walk(&self, at: u32, left: Option<&str>, system: bool, found: &mut Vec<u32>) {
        let node = &self.nodes[at as usize];
        if !system {
            found.extend_from_slice(&node.rests);
        }
        let Some(left) = left else {
            return found.extend_from_slice(&node.ends);
        };
        let (head, tail) = first_level(left);
        if !node.literals.is_empty()
            && let Some(&child) = node.literals.get(head)
        {
            self.walk(child, tail, false, found);
        }
        if let Some(child) = node.one
            && !system
        {
            self.walk(child, tail, false, found);
        }
    }

    /// Whether one of the rules is `wanted` whose filters may match a topic that this one matches; each is asked about until one is.
    pub(super) fn any_meeting(&self, filter: &Filter, mut wanted: impl FnMut(u32) -> bool) -> bool {
        self.meets(0, &filter.levels, &mut wanted)
    }

    fn meets(&self, at: u32, levels: &[Level], wanted: &mut dyn FnMut(u32) -> bool) -> bool {
        let node = &self.nodes[at as usize];
        if node.rests.iter().any(|&rule| wanted(rule)) {
            return true;
        }
        let Some((level, rest)) = levels.split_first() else {
            return node.ends.iter().any(|&rule| wanted(rule));
        };
        let mut literals = node.literals.values();
        let literal = match level {
            Level::Literal(text) => node
                .literals
                .get(text.as_str())
                .is_some_and(|&child| self.meets(child, rest, wanted)),
            Level::One(_) => literals.any(|&child| self.meets(child, rest, wanted)),
            // All that lies below, this node included.
            Level::Rest(_) => node.ends.iter().any(|&rule| wanted(rule)) || literals.any(|&child| self.meets(child, levels, wanted)),
        };
        let after = if matches!(level, Level::Rest(_)) { levels } else { rest };
        literal || node.one.is_some_and(|child| self.meets(child, after, wanted))
    }

    /// A rule of the trie whose filter matches every topic that this one matches.
    pub(super) fn covering(&self, filter: &Filter) -> Option<u32> {
        self.covers(0, &filter.levels, true)
    }

    fn covers(&self, at: u32, levels: &[Level], first: bool) -> Option<u32> {
        let node = &self.nodes[at as usize];
        let system = first && matches!(levels.first(), Some(Level::Literal(text)) if text.starts_with('$'));
        if !system && let Some(&rule) = node.rests.first() {
            return Some(rule);
        }
        let Some((level, rest)) = levels.split_first() else {
            return node.ends.first().copied();
        };
        let literal = match level {
            Level::Rest(_) => return None,
            Level::Literal(text) => node.literals.get(text.as_str()).and_then(|&child| self.covers(child, rest, false)),
            Level::One(_) => None,
        };
        literal.or_else(|| node.one.filter(|_| !system).and_then(|child| self.covers(child, rest, false)))
    }
}
