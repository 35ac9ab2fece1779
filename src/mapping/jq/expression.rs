//! Regular expressions of programs: in linear time, and each search costs its run what it walks.
//!
//! One that stands in the program is compiled when that is loaded, to an automaton that walks a byte a time and is shared by all threads without
//! a lock. One that a program makes while it runs is only as large as compiling it may cost, and is run by its states.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use regex_automata::dfa::{Automaton, dense, regex::Regex as Automata};
use regex_automata::nfa::thompson::{NFA, pikevm::PikeVM};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::fuel::{charge, charge_bytes};

/// Bytes of a compiled expression that stands in the program, and of each of its automata.
const LARGEST: usize = 512 << 10;
/// The same of one that is made while the program runs.
const LARGEST_MADE: usize = 64 << 10;
/// Bytes of an expression.
const LONGEST: usize = 1 << 10;
/// Units that each sign of an expression costs that is made while the program runs, some 600 ns at most.
const SIGN: u64 = 200;
/// The same of a class of characters such as `\w`, some 20 µs.
const CLASS: u64 = 8_000;
/// More than any run has: milliseconds.
const ALL: u64 = 1 << 32;
/// Groups in groups, and the like.
const DEEPEST: u32 = 32;
/// Bytes that an automaton walks for one unit.
const BYTES_PER_UNIT: usize = 2;

/// Where each group of a match lies, in bytes; the first is the match itself.
pub(super) type Groups = Vec<Option<Range<usize>>>;

/// How an expression is read, and how often it is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Flags {
    /// `i`
    ignores_case: bool,
    /// `x`: blanks and comments in it mean nothing.
    extended: bool,
    /// `s`: a dot takes line ends, too.
    takes_lines: bool,
    /// `g`: all matches.
    pub(super) all: bool,
    /// `n`: empty matches are none.
    pub(super) not_empty: bool,
}

impl Flags {
    /// Reads them as jq writes them.
    ///
    /// # Errors
    /// The first that is none.
    pub(super) fn read(written: &str) -> Result<Self, char> {
        let mut flags = Self::default();
        for flag in written.chars() {
            match flag {
                'g' => flags.all = true,
                'i' => flags.ignores_case = true,
                'n' => flags.not_empty = true,
                's' => flags.takes_lines = true,
                'x' => flags.extended = true,
                other => return Err(other),
            }
        }
        Ok(flags)
    }

    /// The same for all matches.
    pub(super) fn everywhere(self) -> Self {
        Self { all: true, ..self }
    }

    /// Those that the expression is compiled with.
    fn of_expression(self) -> Self {
        Self {
            all: false,
            not_empty: false,
            ..self
        }
    }
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    /// `None`: it was made while the program runs, or is too much for an automaton.
    automata: Option<Box<Automata>>,
    machine: PikeVM,
    states: usize,
    /// Units that compiling it costs a run, whether it was compiled before or not.
    cost: u64,
}

/// The expressions that stand in a program.
pub(super) type Expressions = HashMap<(Box<str>, Flags), Expression>;

impl Expression {
    /// One that stands in the program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn written(pattern: &str, flags: Flags) -> Result<Self, String> {
        let mut expression = Self::compile(pattern, flags, LARGEST)?;
        let bounds = dense::Config::new()
            .dfa_size_limit(Some(LARGEST))
            .determinize_size_limit(Some(LARGEST));
        let automata = Automata::builder().syntax(reading(flags)).dense(bounds).build(pattern);
        expression.automata = automata.ok().map(Box::new);
        Ok(expression)
    }

    /// One that a program makes, at the cost of its run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn made(pattern: &str, flags: Flags) -> Result<Self, String> {
        if pattern.len() <= LONGEST {
            charge(reading_costs(pattern, flags));
        }
        let made = Self::compile(pattern, flags, LARGEST_MADE);
        // What becomes too large has cost as much as the largest, and a `try` of the program goes on behind it.
        charge(made.as_ref().map_or(LARGEST_MADE as u64, |expression| expression.cost));
        made
    }

    fn compile(pattern: &str, flags: Flags, largest: usize) -> Result<Self, String> {
        if pattern.len() > LONGEST {
            return Err(format!("longer than {} KiB", LONGEST >> 10));
        }
        let hir = syntax::parse_with(pattern, &reading(flags)).map_err(|error| reason(&error.to_string()))?;
        let nfa = NFA::compiler()
            .configure(NFA::config().nfa_size_limit(Some(largest)))
            .build_from_hir(&hir)
            .map_err(|_| format!("takes more than {} KiB", largest >> 10))?;
        let (states, cost) = (nfa.states().len(), nfa.memory_usage() as u64);
        let machine = PikeVM::new_from_nfa(nfa).map_err(|error| error.to_string())?;
        Ok(Self {
            automata: None,
            machine,
            states,
            cost,
        })
    }

    /// The names of its groups, in order; the first is that of the match itself, which has none.
    pub(super) fn names(&self) -> impl Iterator<Item = Option<&str>> {
        let nfa = self.machine.get_nfa();
        nfa.group_info().pattern_names(regex_automata::PatternID::ZERO)
    }

    /// Whether it matches anywhere.
    pub(super) fn is_in(&self, text: &str, not_empty: bool) -> bool {
        match &self.automata {
            Some(automata) if !not_empty => forward(automata.forward(), text, 0, true).is_some(),
            _ => self.next(text, 0, not_empty).is_some(),
        }
    }

    /// Tells its matches, from left to right, all of them or the first; none begins within another.
    pub(super) fn matches(&self, text: &str, flags: Flags, mut take: impl FnMut(Groups)) {
        let mut from = 0;
        while let Some(groups) = self.next(text, from, flags.not_empty) {
            let whole = groups[0].clone().unwrap_or(from..text.len());
            take(groups);
            if !flags.all || (whole.is_empty() && whole.end >= text.len()) {
                return;
            }
            from = if whole.is_empty() { after(text, whole.end) } else { whole.end };
        }
    }

    /// The first match from there on.
    fn next(&self, text: &str, mut from: usize, not_empty: bool) -> Option<Groups> {
        loop {
            let groups = match &self.automata {
                Some(automata) => self.by_automata(automata, text, from)?,
                None => self.by_states(text, from..text.len(), Anchored::No)?,
            };
            let whole = groups[0].clone()?;
            // An automaton that looks at bytes finds nothing between those of one character, too.
            let is_none = whole.is_empty() && (not_empty || !text.is_char_boundary(whole.end));
            if !is_none {
                return Some(groups);
            }
            if whole.end >= text.len() {
                return None;
            }
            from = after(text, whole.end);
        }
    }

    fn by_automata(&self, automata: &Automata, text: &str, from: usize) -> Option<Groups> {
        let end = forward(automata.forward(), text, from, false)?;
        let start = backward(automata.reverse(), text, from, end)?;
        if self.names().count() == 1 {
            return Some(vec![Some(start..end)]);
        }
        self.by_states(text, start..end, Anchored::Yes)
    }

    fn by_states(&self, text: &str, within: Range<usize>, anchored: Anchored) -> Option<Groups> {
        // Each byte may be looked at in each state; and they need memory.
        charge((within.len() as u64 + 2).saturating_mul(self.states as u64));
        let mut slots: Vec<Option<NonMaxUsize>> = vec![None; 2 * self.names().count()];
        let input = Input::new(text).span(within).anchored(anchored);
        let mut cache = self.machine.create_cache();
        self.machine.search_slots(&mut cache, &input, &mut slots)?;
        let ends = slots.as_chunks::<2>().0.iter();
        Some(ends.map(|[start, end]| Some(start.as_ref()?.get()..end.as_ref()?.get())).collect())
    }
}

/// Where the first match from there on ends: the longest that jq's rules make of it, or the first that is seen.
fn forward(dfa: &impl Automaton, text: &str, from: usize, any: bool) -> Option<usize> {
    let input = Input::new(text).span(from..text.len());
    let mut state = dfa.start_state_forward(&input).ok()?;
    let (mut found, mut at) = (None, from);
    for byte in &text.as_bytes()[from..] {
        state = dfa.next_state(state, *byte);
        if dfa.is_special_state(state) {
            if dfa.is_match_state(state) {
                found = Some(at);
                if any {
                    break;
                }
            } else if dfa.is_dead_state(state) {
                break;
            }
        }
        at += 1;
    }
    charge(1 + ((at - from) / BYTES_PER_UNIT) as u64);
    if at == text.len() && dfa.is_match_state(dfa.next_eoi_state(state)) {
        found = Some(at);
    }
    found
}

/// Where the match begins that ends there.
fn backward(dfa: &impl Automaton, text: &str, from: usize, end: usize) -> Option<usize> {
    let input = Input::new(text).span(from..end).anchored(Anchored::Yes);
    let mut state = dfa.start_state_reverse(&input).ok()?;
    let (mut found, mut at) = (None, end);
    let bytes = text.as_bytes();
    while at > from {
        state = dfa.next_state(state, bytes[at - 1]);
        if dfa.is_match_state(state) {
            found = Some(at);
        } else if dfa.is_dead_state(state) {
            break;
        }
        at -= 1;
    }
    charge(1 + ((end - at) / BYTES_PER_UNIT) as u64);
    if at == from {
        let last = match from {
            0 => dfa.next_eoi_state(state),
            from => dfa.next_state(state, bytes[from - 1]),
        };
        if dfa.is_match_state(last) {
            found = Some(from);
        }
    }
    found
}

/// Behind the character that begins there, or goes on.
fn after(text: &str, at: usize) -> usize {
    let mut next = at + 1;
    while next < text.len() && !text.is_char_boundary(next) {
        next += 1;
    }
    next
}

fn reading(flags: Flags) -> syntax::Config {
    syntax::Config::new()
        .nest_limit(DEEPEST)
        .case_insensitive(flags.ignores_case)
        .ignore_whitespace(flags.extended)
        .dot_matches_new_line(flags.takes_lines)
}

/// The last line of what the parser says: those before show the expression.
/// Units that a pattern takes at most to be read, and those of its classes of characters to be built: Unicode has hundreds of ranges of letters,
/// and without regard to case each character of a class is looked up by itself.
fn reading_costs(pattern: &str, flags: Flags) -> u64 {
    let folds = flags.ignores_case || turns_on_folding(pattern);
    let is_wide = folds && (!pattern.is_ascii() || ["\\x", "\\u", "\\U"].iter().any(|escape| pattern.contains(escape)));
    let mut escaped = false;
    pattern.bytes().fold(0, |sum: u64, byte| {
        let cost = match (byte, escaped) {
            (b'p' | b'P', true) if folds => ALL,
            (b'w' | b'W' | b'd' | b'D' | b's' | b'S' | b'b' | b'B' | b'p' | b'P', true) => CLASS,
            (b'[', false) if is_wide => ALL,
            (b'[', false) => CLASS / 2,
            _ if folds => 2 * SIGN,
            _ => SIGN,
        };
        escaped = byte == b'\\' && !escaped;
        sum.saturating_add(cost)
    })
}

/// Whether the pattern itself may say that case does not matter: `(?i)` and its like.
fn turns_on_folding(pattern: &str) -> bool {
    let flags = |rest: &str| {
        rest.bytes()
            .take_while(|byte| byte.is_ascii_alphabetic() || *byte == b'-')
            .any(|byte| byte == b'i')
    };
    pattern.split("(?").skip(1).any(flags)
}

fn reason(said: &str) -> String {
    let last = said.lines().last().unwrap_or("");
    last.trim_start_matches("error: ").to_owned()
}

/// Counts characters of a text, forward.
pub(super) struct Places<'t> {
    text: &'t str,
    byte: usize,
    place: usize,
}

impl<'t> Places<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, byte: 0, place: 0 }
    }

    /// Part of the text.
    pub(super) fn part(&self, of: &Range<usize>) -> &'t str {
        &self.text[of.clone()]
    }

    /// How many characters lie before this byte; cheap if it lies behind those that were asked for.
    pub(super) fn at(&mut self, byte: usize) -> usize {
        let text = self.text;
        let count = |from: usize, to: usize| {
            charge_bytes(4 * (to - from));
            text[from..to].chars().count()
        };
        if byte >= self.byte {
            self.place += count(self.byte, byte);
        } else {
            self.place -= count(byte, self.byte);
        }
        self.byte = byte;
        self.place
    }
}

/// The expression of a call: one that stands in the program, or one that is made for it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn with<T>(known: &Expressions, pattern: &str, flags: Flags, run: impl FnOnce(&Expression) -> T) -> Result<T, String> {
    // Hashed as a whole, and copied to be looked for.
    charge_bytes(2 * pattern.len());
    let key = (Box::from(pattern), flags.of_expression());
    match known.get(&key) {
        Some(expression) => Ok(run(expression)),
        None => Expression::made(pattern, flags).map(|expression| run(&expression)),
    }
}

/// The expressions of calls whose pattern and flags stand in a program. Gives the place in the list, and what is wrong, of the first that is none.
///
/// # Errors
/// See above.
pub(super) fn compile(said: &[(String, String)]) -> Result<Expressions, (usize, String)> {
    let mut all = Expressions::new();
    for (place, (pattern, written)) in said.iter().enumerate() {
        let flags = Flags::read(written).map_err(|flag| (place, unknown_flag(flag)))?;
        if let Entry::Vacant(free) = all.entry((Box::from(pattern.as_str()), flags.of_expression())) {
            let wrong = |why| (place, format!("not a regular expression: {why}"));
            free.insert(Expression::written(pattern, flags).map_err(wrong)?);
        }
    }
    Ok(all)
}

/// What is said of a flag that is none.
pub(super) fn unknown_flag(flag: char) -> String {
    format!("`{flag}` is no flag: there are g, i, n, s and x")
}
