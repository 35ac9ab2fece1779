//! The MQTT side of a rule as a regular expression, for topics that a filter cannot tell: `mqtt_regex`. It takes whole
//! topics, in time linear in their length, and without allocating once it is warm.

use std::cell::RefCell;
use std::sync::Arc;

use regex_automata::dfa::onepass;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::start;
use regex_automata::{Anchored, Input};
use regex_syntax::ast::{self, Ast, GroupKind};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Hir, HirKind, Look};
use thread_local::ThreadLocal;

use super::fault::Wrong;
use super::filter::{Filter, Level};
use super::said::is_reserved;
use super::template::{Captured, MAX_CAPTURES};

/// Bytes of a compiled expression, and of each of the caches that it is run with: a hostile topic is looked at for as
/// long as expression times topic is large.
const LARGEST: usize = 256 << 10;

/// Groups in groups, and the like.
const DEEPEST: u32 = 32;

/// A compiled expression; its groups are numbered as the captures of the filter that it is in.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    /// What all its topics begin with: compared at once, and searched behind.
    beginning: Box<[u8]>,
    searcher: Searcher,
    /// Of each thread its own, without a lock.
    caches: Arc<ThreadLocal<RefCell<Cache>>>,
    /// The whole topic and its groups have so many ends.
    slots: usize,
    /// To look at the beginning of topics; without it (`\b` in it is too much for an automaton) nothing is known of them.
    beginnings: Option<Box<DFA>>,
    written: String,
}

/// What the rest of an expression is searched with.
#[derive(Clone, Debug)]
enum Searcher {
    /// Where each byte leaves one way only, as in most expressions of topics: the groups are found as it goes.
    OnePass(Box<onepass::DFA>),
    Any(Regex),
}

#[derive(Debug)]
enum Cache {
    OnePass(onepass::Cache),
    Any(Box<meta::Cache>),
}

impl Searcher {
    fn cache(&self) -> RefCell<Cache> {
        RefCell::new(match self {
            Searcher::OnePass(dfa) => Cache::OnePass(dfa.create_cache()),
            Searcher::Any(regex) => Cache::Any(Box::new(regex.create_cache())),
        })
    }

    /// Whether it takes what is to be searched; the ends of its groups.
    fn search(&self, cache: &mut Cache, input: &Input<'_>, slots: &mut [Option<NonMaxUsize>]) -> bool {
        match (self, cache) {
            // It fails only where the search is not anchored.
            (Searcher::OnePass(dfa), Cache::OnePass(cache)) => dfa.try_search_slots(cache, input, slots).is_ok_and(|found| found.is_some()),
            (Searcher::Any(regex), Cache::Any(cache)) => regex.search_slots_with(cache, input, slots).is_some(),
            _ => false,
        }
    }
}

impl Expression {
    /// What is to be searched of a topic; `None`: it begins otherwise.
    fn input<'a>(&self, topic: &'a str) -> Option<Input<'a>> {
        let begins = topic.as_bytes().starts_with(&self.beginning);
        begins.then(|| Input::new(topic).range(self.beginning.len()..).anchored(Anchored::Yes))
    }

    /// As it stands in the file.
    pub(super) fn written(&self) -> &str {
        &self.written
    }

    /// Whether it takes this topic, as `captures` would say.
    pub(super) fn takes(&self, topic: &str) -> bool {
        let cache = self.caches.get_or(|| self.searcher.cache());
        self.input(topic)
            .is_some_and(|input| self.searcher.search(&mut cache.borrow_mut(), &input, &mut []))
    }

    /// Whether it may take a topic that begins like this. Allocates: meant for SUBSCRIBE.
    pub(super) fn may_begin(&self, beginning: &str) -> bool {
        let Some(dfa) = &self.beginnings else { return true };
        let mut cache = dfa.create_cache();
        let Ok(mut state) = dfa.start_state(&mut cache, &start::Config::new().anchored(Anchored::Yes)) else {
            return true;
        };
        for byte in beginning.bytes() {
            match dfa.next_state(&mut cache, state, byte) {
                Ok(next) if next.is_dead() => return false,
                Ok(next) if !next.is_quit() => state = next,
                // The cache is too small for it.
                _ => return true,
            }
        }
        true
    }

    /// What its groups hold; a group that took no part holds nothing.
    pub(super) fn captures<'a>(&self, topic: &'a str) -> Option<Captured<'a>> {
        let mut slots: [Option<NonMaxUsize>; 2 * (MAX_CAPTURES + 1)] = [None; _];
        let slots = &mut slots[..self.slots];
        let input = self.input(topic)?;
        let cache = self.caches.get_or(|| self.searcher.cache());
        if !self.searcher.search(&mut cache.borrow_mut(), &input, slots) {
            return None;
        }
        let mut captured = Captured::default();
        // The first pair is the whole topic.
        for (held, ends) in captured.iter_mut().zip(slots.as_chunks::<2>().0.iter().skip(1)) {
            if let [Some(start), Some(end)] = ends {
                *held = Some(&topic[start.get()..end.get()]);
            }
        }
        Some(captured)
    }
}

impl Filter {
    /// Parses the expression of a rule; all faults at once. Its levels then are those that every topic of it begins with.
    pub(super) fn expression(written: &str) -> Result<Filter, Vec<Wrong>> {
        let ast = ast::parse::ParserBuilder::new().nest_limit(DEEPEST).build().parse(written);
        let ast = ast.map_err(|error| vec![not_one(error.span().start.offset, &error.kind().to_string())])?;
        let hir = Translator::new().translate(written, &ast);
        let hir = hir.map_err(|error| vec![not_one(error.span().start.offset, &error.kind().to_string())])?;
        let mut wrong = Vec::new();
        let captures = names(&ast, &mut wrong);
        if hir.properties().minimum_len().is_none() || hir.properties().maximum_len() == Some(0) {
            wrong.push(Wrong::new(
                0,
                "no topic matches this expression",
                "write one that takes whole topics",
            ));
        }
        let levels = common_levels(&hir, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Filter {
            levels,
            captures,
            expression: Some(compile(hir, written)?),
        })
    }
}

fn not_one(at: usize, why: &str) -> Wrong {
    let remedy = "write it as the Rust crate `regex` reads it: no look-around and no back-references";
    Wrong::new(at, format!("not a regular expression: {why}"), remedy)
}

/// The expression, made to take the whole topic or nothing of it.
fn compile(hir: Hir, written: &str) -> Result<Expression, Vec<Wrong>> {
    let whole = Hir::concat(vec![hir, Hir::look(Look::End)]);
    let (beginning, rest) = apart(&whole);
    let searcher = one_pass(&rest).map_or_else(|| any(&rest), |dfa| Ok(Searcher::OnePass(Box::new(dfa))));
    let searcher = searcher.map_err(|_| {
        let remedy = "repeat less, or write `[a-z0-9]` instead of `\\w`, which is a thousand ranges of Unicode";
        vec![Wrong::new(
            0,
            format!("the expression takes more than {} KiB", LARGEST >> 10),
            remedy,
        )]
    })?;
    let groups = match &searcher {
        Searcher::OnePass(dfa) => dfa.get_nfa().group_info(),
        Searcher::Any(regex) => regex.group_info(),
    };
    Ok(Expression {
        slots: groups.slot_len(),
        beginning,
        searcher,
        caches: Arc::default(),
        beginnings: automaton_of(&whole).map(Box::new),
        written: written.to_owned(),
    })
}

/// The text that all begin with, and what stands behind it.
fn apart(whole: &Hir) -> (Box<[u8]>, Hir) {
    if let HirKind::Concat(parts) = whole.kind()
        && let [first, rest @ ..] = parts.as_slice()
        && let HirKind::Literal(literal) = first.kind()
    {
        return (literal.0.clone(), Hir::concat(rest.to_vec()));
    }
    (Box::default(), whole.clone())
}

fn one_pass(rest: &Hir) -> Option<onepass::DFA> {
    let bounds = NFA::config().nfa_size_limit(Some(LARGEST));
    let nfa = NFA::compiler().configure(bounds).build_from_hir(rest).ok()?;
    let bounds = onepass::Config::new().size_limit(Some(LARGEST));
    onepass::Builder::new().configure(bounds).build_from_nfa(nfa).ok()
}

fn any(rest: &Hir) -> Result<Searcher, Box<meta::BuildError>> {
    let bounds = Regex::config()
        .nfa_size_limit(Some(LARGEST))
        .onepass(false)
        .hybrid_cache_capacity(LARGEST);
    let regex = Regex::builder().configure(bounds).build_from_hir(rest);
    regex.map(Searcher::Any).map_err(Box::new)
}

/// An automaton that takes the topics of an expression, whole. `None`: it is none, or too much for one.
pub(super) fn automaton(written: &str) -> Option<DFA> {
    let hir = regex_syntax::ParserBuilder::new().nest_limit(DEEPEST).build().parse(written).ok()?;
    automaton_of(&Hir::concat(vec![hir, Hir::look(Look::End)]))
}

fn automaton_of(whole: &Hir) -> Option<DFA> {
    let bounds = NFA::config().nfa_size_limit(Some(LARGEST));
    let nfa = NFA::compiler().configure(bounds).build_from_hir(whole).ok()?;
    let bounds = DFA::config().cache_capacity(LARGEST);
    DFA::builder().configure(bounds).build_from_nfa(nfa).ok()
}

/// The names of the groups, in the order of their numbers, and where they stand.
fn names(ast: &Ast, wrong: &mut Vec<Wrong>) -> Vec<(String, usize)> {
    struct Names<'w>(Vec<(String, usize)>, &'w mut Vec<Wrong>);
    impl ast::Visitor for Names<'_> {
        type Output = Vec<(String, usize)>;
        type Err = std::convert::Infallible;

        fn finish(self) -> Result<Self::Output, Self::Err> {
            Ok(self.0)
        }

        fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
            let Ast::Group(group) = ast else { return Ok(()) };
            let at = group.span.start.offset;
            match &group.kind {
                GroupKind::NonCapturing(_) => {}
                GroupKind::CaptureIndex(_) => {
                    let remedy = "name it, `(?<name>…)`, to use it in templates, or write `(?:…)`";
                    self.1.push(Wrong::new(at, "a group without a name", remedy));
                }
                GroupKind::CaptureName { name, .. } => self.0.push((name.name.clone(), at)),
            }
            Ok(())
        }
    }
    let Ok(names) = ast::visit(ast, Names(Vec::new(), wrong));
    for (name, at) in &names {
        if is_reserved(name) {
            let remedy = "give the group another name";
            wrong.push(Wrong::new(*at, format!("`{{{name}}}` is of the message, not a group"), remedy));
        }
    }
    if let Some((_, at)) = names.get(MAX_CAPTURES) {
        wrong.push(Wrong::new(
            *at,
            "more than 16 groups with names",
            "write `(?:…)` where the value is not needed",
        ));
    }
    names
}

/// The whole levels that all its topics begin with, and the rest. By them the expression is found in the trie, so that of
/// many only those are run that may take a topic; and no topic of the server's own is taken but by its written name.
fn common_levels(hir: &Hir, wrong: &mut Vec<Wrong>) -> Vec<Level> {
    let beginnings = Extractor::new().extract(hir);
    let common = beginnings.longest_common_prefix().unwrap_or(b"");
    let end = common.iter().rposition(|byte| *byte == b'/');
    if end.is_none() && common.starts_with(b"$") {
        let remedy = "write the first level out up to its `/`, for example `\\$app/`";
        wrong.push(Wrong::new(0, "no wildcard takes a topic that begins with `$`", remedy));
    }
    let whole = end.and_then(|end| std::str::from_utf8(&common[..end]).ok());
    let levels = whole.into_iter().flat_map(|whole| whole.split('/'));
    let mut levels: Vec<Level> = levels.map(|level| Level::Literal(level.to_owned())).collect();
    levels.push(Level::Rest(None));
    levels
}
