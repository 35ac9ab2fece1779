//! Whether a rule's filter or expression takes every topic that another takes: asked of automata, a pair of states at a time, within bounds.
//! What is too large for them is not told.

use std::collections::HashSet;

use regex_automata::Anchored;
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::start;

use super::expression::automaton;
use super::filter::{Filter, Level};

/// What may be spent on a whole file: bytes of topics that are looked at, some 50 ns each.
pub(super) struct Budget(u32);

/// An automaton of a filter costs as much as this many.
const AUTOMATON: u32 = 2_000;

impl Budget {
    /// Of a file: a tenth of a second.
    pub(super) const FILE: Budget = Budget(2_000_000);

    fn spend(&mut self, steps: u32) -> Option<()> {
        self.0 = self.0.checked_sub(steps)?;
        Some(())
    }
}

/// Whether `wide` takes every topic that `narrow` takes; `false` if that cannot be told.
pub(super) fn covers(wide: &Filter, narrow: &Filter, budget: &mut Budget) -> bool {
    let Some((wide_automaton, narrow_automaton)) = built(wide, budget).zip(built(narrow, budget)) else {
        return false;
    };
    let (mut own, mut other) = (Side::new(&wide_automaton, wide), Side::new(&narrow_automaton, narrow));
    every(&mut other, Some(&mut own), budget).unwrap_or(false)
}

/// Whether no topic name is one of its topics; `false` if that cannot be told.
pub(super) fn is_empty(filter: &Filter, budget: &mut Budget) -> bool {
    let Some(automaton) = built(filter, budget) else { return false };
    every(&mut Side::new(&automaton, filter), None, budget).unwrap_or(false)
}

fn built(filter: &Filter, budget: &mut Budget) -> Option<DFA> {
    budget.spend(AUTOMATON)?;
    match &filter.expression {
        Some(expression) => automaton(expression.written()),
        None => automaton(&written(filter)),
    }
}

/// A filter as an expression.
fn written(filter: &Filter) -> String {
    let mut out = String::new();
    for (place, level) in filter.levels.iter().enumerate() {
        let slash = if place > 0 { "/" } else { "" };
        match level {
            Level::Literal(text) => out += &format!("{slash}{}", regex_syntax::escape(text)),
            Level::One(_) => out += &format!("{slash}[^/]*"),
            // `a/#` matches `a`, too.
            Level::Rest(_) if place > 0 => out += "(?:/(?s:.)*)?",
            Level::Rest(_) => out += "(?s:.)*",
        }
    }
    out
}

/// One of the two, and its memory.
struct Side<'d> {
    automaton: &'d DFA,
    cache: Cache,
    /// Whether a topic that begins with `$` may be one of its topics [MQTT-4.7.2-1].
    takes_system: bool,
}

impl<'d> Side<'d> {
    fn new(automaton: &'d DFA, filter: &Filter) -> Self {
        Side {
            automaton,
            cache: automaton.create_cache(),
            takes_system: matches!(filter.levels.first(), Some(Level::Literal(_))),
        }
    }

    fn start(&mut self) -> Option<LazyStateID> {
        let anchored = start::Config::new().anchored(Anchored::Yes);
        self.automaton.start_state(&mut self.cache, &anchored).ok()
    }

    /// The state behind a byte; `Err`: the automaton is too large for its memory.
    fn next(&mut self, state: LazyStateID, byte: u8) -> Result<Option<LazyStateID>, TooLarge> {
        let next = self.automaton.next_state(&mut self.cache, state, byte).map_err(|_| TooLarge)?;
        // States that were forgotten have other numbers from then on.
        if next.is_quit() || self.cache.clear_count() > 0 {
            return Err(TooLarge);
        }
        Ok((!next.is_dead()).then_some(next))
    }

    /// Whether a topic may end in this state.
    fn ends(&mut self, state: LazyStateID) -> Result<bool, TooLarge> {
        let end = self.automaton.next_eoi_state(&mut self.cache, state).map_err(|_| TooLarge)?;
        if self.cache.clear_count() > 0 {
            return Err(TooLarge);
        }
        Ok(end.is_match())
    }
}

struct TooLarge;

/// Whether every topic of `narrow` is one of `wide`, or none is there if that is `None`. `None`: it cannot be told.
fn every(narrow: &mut Side<'_>, mut wide: Option<&mut Side<'_>>, budget: &mut Budget) -> Option<bool> {
    let bytes = representatives(narrow, wide.as_deref());
    let start = (
        narrow.start()?,
        match &mut wide {
            Some(wide) => Some(wide.start()?),
            None => None,
        },
    );
    // Not the start: the automaton may come back to it, and then `$` is a character like others.
    let mut seen = HashSet::new();
    let mut open = vec![(start, true)];
    while let Some(((own, other), first)) = open.pop() {
        for &byte in &bytes {
            budget.spend(1)?;
            let system = first && byte == b'$';
            if system && !narrow.takes_system {
                continue;
            }
            let Some(own) = narrow.next(own, byte).ok()? else { continue };
            let other = match (&mut wide, other) {
                (Some(wide), Some(other)) if !system || wide.takes_system => wide.next(other, byte).ok()?,
                _ => None,
            };
            if !seen.insert((own, other)) {
                continue;
            }
            let is_taken = match (&mut wide, other) {
                (Some(wide), Some(other)) => wide.ends(other).ok()?,
                _ => false,
            };
            if narrow.ends(own).ok()? && !is_taken {
                return Some(false);
            }
            open.push(((own, other), false));
        }
    }
    Some(true)
}

/// A byte for each kind of them that either automaton tells apart. Topic names have no wildcards (§4.7), and one with control characters,
/// which a server may refuse (§1.5.4) and `.` does not take, is no reason to tell nothing.
fn representatives(narrow: &Side<'_>, wide: Option<&Side<'_>>) -> Vec<u8> {
    let mut kinds = HashSet::new();
    let kind = |byte: u8| {
        let wide = wide.map(|wide| wide.automaton.byte_classes().get(byte));
        (narrow.automaton.byte_classes().get(byte), wide, byte == b'$')
    };
    let legal = (b' '..=255).filter(|byte| !matches!(byte, b'+' | b'#' | 0x7f));
    legal.filter(|byte| kinds.insert(kind(*byte))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        match text.strip_prefix('~') {
            Some(expression) => Filter::expression(expression).unwrap(),
            None => Filter::parse(text).unwrap(),
        }
    }

    #[test]
    fn what_covers_another_is_found() {
        for (wide, narrow, covered) in [
            ("~.*", "a/+/{b#}", true),
            ("~.*", "~a/[0-9]+", true),
            ("~a/.*", "a/+", true),
            ("~a/.*", "a/#", false),
            ("~a(?:/.*)?", "a/#", true),
            ("~a/[a-z]+", "a/b", true),
            ("~a/[a-z]+", "a/B", false),
            ("~a/[a-z]+", "a/+", false),
            ("~(?:a|b)/[^/]*", "{x}/{y}", false),
            ("~[^/]*/[^/]*", "{x}/{y}", true),
            ("a/+/c", "~a/[0-9]+/c", true),
            ("a/+/c", "~a/[0-9]+/[cd]", false),
            ("~a/[0-9]{2,}", "~a/[0-9]{3}", true),
            ("~a/[0-9]{3}", "~a/[0-9]{2,}", false),
            ("~.*temperature", "~room/.*/temperature", true),
            ("~(?i)abc", "~ABC", true),
            ("~[^$]*", "~.*[$]", false),
            // No wildcard takes what is the server's own.
            ("~.*", "$app/x", false),
            ("~\\$app/.*", "$app/x", true),
            ("#", "~\\$app/x", false),
        ] {
            assert_eq!(
                covers(&filter(wide), &filter(narrow), &mut Budget(1_000_000)),
                covered,
                "{wide} {narrow}"
            );
        }
    }

    #[test]
    fn what_no_topic_name_matches_is_found() {
        for (expression, empty) in [
            ("~a/\\+", true),
            ("~a#b", true),
            ("~a/[+#x]", false),
            ("~a^b", true),
            ("~\\$|x", false),
            ("~.*[$]", false),
            ("~a", false),
        ] {
            assert_eq!(is_empty(&filter(expression), &mut Budget(1_000_000)), empty, "{expression}");
        }
    }

    /// Neither time nor memory goes beyond its bound, and nothing is told then.
    #[test]
    fn what_is_too_large_is_not_told() {
        let hostile = "~(?:a|b)*a(?:a|b){12}";
        let mut budget = Budget(100_000);
        assert!(!covers(&filter(hostile), &filter("~(?:a|b)*b(?:a|b){12}"), &mut budget));
        assert!(!covers(&filter("~.*"), &filter("a"), &mut Budget(100)));
    }
}
