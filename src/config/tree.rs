//! The file as a tree in which every key and every value knows its line and column.
//!
//! Built from the parser's events, so that the bounds are ours: size, depth, and what aliases may multiply. Not here:
//! what a value means.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Problem, one_line, quoted};
use super::scalar::Written;

/// Keys and values in the tree, copies made by aliases included: as many as ten thousand rules have with fifty each.
const MOST_NODES: usize = 500_000;

/// Levels of lists and tables; the contract has six.
const DEEPEST: usize = 32;

/// Faults after which a file is not looked at any further.
const MOST_DUPLICATES: usize = 1_000;

/// A place in the file, both from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) fn problem(self, message: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem {
            line: self.line,
            column: self.column,
            message: one_line(message.into()),
            remedy: one_line(remedy.into()),
        }
    }

    pub(super) fn next_line(self) -> Self {
        Self {
            line: self.line.saturating_add(1),
            column: 1,
        }
    }

    pub(super) fn next_column(self) -> Self {
        Self {
            line: self.line,
            column: self.column.saturating_add(1),
        }
    }

    fn of(span: &Span) -> Self {
        let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: bounded(span.start.line()).max(1),
            column: bounded(span.start.col()).saturating_add(1),
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// Itself and all keys and values below it.
    weight: usize,
}

/// What kind of value.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A scalar: its text, and whether it stood in quotes (`""` is a value, nothing is not).
    Scalar { text: String, quoted: bool, stands: Stands },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, without duplicates.
    Table(Vec<(Key, Node)>),
}

/// How the text of a scalar stands in the file.
#[derive(Clone, Debug)]
pub(super) enum Stands {
    /// As it is, in one line.
    Plainly,
    /// With line breaks or escapes.
    Written(Box<Written>),
    /// Nobody can tell.
    Somehow,
}

/// The key of an entry.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Node {
    /// Whether there is nothing: `key:`, `~` or `null`.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, quoted: false, .. } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Where byte `at` of a scalar stands. Where escapes make that uncertain: where it begins.
    pub(super) fn place_at(&self, at: usize) -> Place {
        let Kind::Scalar { text, quoted, stands } = &self.kind else {
            return self.place;
        };
        let Some(before) = text.get(..at.min(text.len())) else {
            return self.place;
        };
        match stands {
            Stands::Plainly => {}
            Stands::Written(written) => return written.behind(before),
            Stands::Somehow => return self.place,
        }
        let skipped = before.chars().count() + usize::from(*quoted);
        Place {
            line: self.place.line,
            column: self.place.column.saturating_add(u32::try_from(skipped).unwrap_or(u32::MAX)),
        }
    }
}

/// Reads `text`. `None` as tree means that it is no YAML or beyond the bounds, and the problems say why; with a tree
/// the problems are keys that stand there twice.
pub(super) fn read(text: &str) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder {
        source: text,
        characters: None,
        open: vec![],
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
        problems: vec![],
    };
    for event in Parser::new_from_str(text) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, &span),
            Err(e) => {
                let place = Place::of(&Span::empty(*e.marker()));
                let line = text.lines().nth(place.line as usize - 1).unwrap_or("");
                Err(place.problem(format!("this is not YAML: {}", e.info()), syntax_remedy(line)))
            }
        };
        if let Err(problem) = taken {
            builder.problems.push(problem);
            return (None, builder.problems);
        }
    }
    (builder.root, builder.problems)
}

/// A list or table that has not ended.
struct Open {
    place: Place,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Table(Vec<(Key, Node)>, HashMap<String, Place>, Option<Key>),
}

struct Builder<'t> {
    source: &'t str,
    /// Byte offsets of the characters, made when first asked for: the parser counts characters.
    characters: Option<Vec<usize>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let place = Place::of(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                let stands = self.stands(span, &text, style);
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    quoted: style != ScalarStyle::Plain,
                    stands,
                };
                self.place(Node { place, kind, weight: 1 }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => self.begin(place, anchor, tag.is_some(), Items::List(vec![])),
            Event::MappingStart(anchor, tag) => self.begin(place, anchor, tag.is_some(), Items::Table(vec![], HashMap::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { place, anchor, items }) = self.open.pop() else {
                    return Ok(());
                };
                let (below, kind) = match items {
                    Items::List(list) => (list.iter().map(|n| n.weight).sum::<usize>(), Kind::List(list)),
                    Items::Table(entries, ..) => (entries.iter().map(|(_, n)| n.weight + 1).sum(), Kind::Table(entries)),
                };
                self.place(
                    Node {
                        place,
                        kind,
                        weight: below + 1,
                    },
                    anchor,
                    1,
                )
            }
            // An anchor is known once its value has ended, so a value cannot hold itself.
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    let more = node.weight;
                    self.place(node, 0, more)
                }
                None => Err(place.problem("the alias stands inside what it names", "write the value out")),
            },
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(place.problem("a second document begins here", "keep one document in the file"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, tagged: bool, items: Items) -> Result<(), Problem> {
        refuse_tag(tagged, place)?;
        if let Some(Open {
            items: Items::Table(_, _, None),
            ..
        }) = self.open.last()
        {
            return Err(place.problem("a list or table stands as a key", "put text in quotes if it begins with `{` or `[`"));
        }
        if self.open.len() >= DEEPEST {
            return Err(place.problem(
                format!("more than {DEEPEST} levels of lists and tables"),
                "the configuration needs six",
            ));
        }
        self.open.push(Open { place, anchor, items });
        Ok(())
    }

    /// Puts a finished value where it belongs: as the root, an item, a key, or the value of the key before it. `more` is how many keys and
    /// values come with it that were not counted yet.
    fn place(&mut self, node: Node, anchor: usize, more: usize) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MOST_NODES {
            return Err(node.place.problem(
                format!("more than {MOST_NODES} values, those that aliases repeat included"),
                "use fewer aliases",
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|o| &mut o.items) {
            None => self.root = Some(node),
            Some(Items::List(list)) => list.push(node),
            Some(Items::Table(entries, seen, key)) => match key.take() {
                None => {
                    let Kind::Scalar { text, .. } = node.kind else {
                        return Err(node.place.problem("a list or table stands as a key", "write a name as key"));
                    };
                    *key = Some(Key { text, place: node.place });
                }
                Some(key) => match seen.get(&key.text) {
                    None => {
                        seen.insert(key.text.clone(), key.place);
                        entries.push((key, node));
                    }
                    Some(first) if self.problems.len() < MOST_DUPLICATES => {
                        let message = format!("{} stands here a second time, first in line {}", quoted(&key.text), first.line);
                        self.problems.push(key.place.problem(message, "keep one of them"));
                    }
                    Some(_) => {}
                },
            },
        }
        Ok(())
    }

    /// How a scalar's characters stand in the file, so that places in it can be told.
    fn stands(&mut self, span: &Span, text: &str, style: ScalarStyle) -> Stands {
        let source = self.source;
        let characters = self
            .characters
            .get_or_insert_with(|| source.char_indices().map(|(at, _)| at).chain([source.len()]).collect());
        let from = |start: usize| characters.get(start).and_then(|at| source.get(*at..)).unwrap_or("");
        let start = span.start.index();
        let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
        if from(start + usize::from(quoted)).starts_with(text) && !text.contains('\n') {
            return Stands::Plainly;
        }
        let written = Written::of(from(start), Place::of(span), style, text);
        written.map_or(Stands::Somehow, |written| Stands::Written(Box::new(written)))
    }
}

/// What to mend in a line at which the parser gave up.
fn syntax_remedy(line: &str) -> String {
    if let Some(key) = bare_program(line) {
        return format!(
            "the program of `{key}` stands in no quotes: put it in single quotes, or write `{key}: |` and the program indented in the lines \
             below; what follows was not looked at"
        );
    }
    match bare_template(line) {
        Some(template) => format!(
            "`{template}` stands in no quotes, and a brace begins a table: put the whole value in quotes, for example \
             {{topic: \"plant-{template}\"}}; what follows was not looked at"
        ),
        None => "mend the syntax; what follows was not looked at".to_owned(),
    }
}

/// The key of a jq program that stands in no quotes and holds what means something to YAML.
fn bare_program(line: &str) -> Option<&'static str> {
    ["transform", "transform_back"].into_iter().find(|key| {
        let stands = |(at, _): (usize, &str)| {
            let before = line[..at].trim_start_matches([' ', '-']);
            let value = line[at + key.len()..].strip_prefix(": ").map(str::trim_start);
            let is_bare = |value: &str| !value.starts_with(['"', '\'', '|', '>']) && value.contains(['{', '[', ':', '#']);
            (before.is_empty() || before.ends_with([' ', ',', '{'])) && value.is_some_and(is_bare)
        };
        line.match_indices(key).any(stands)
    })
}

/// The first placeholder of a template that stands in no quotes: a name in braces.
fn bare_template(line: &str) -> Option<&str> {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut quote = None;
    // The last character that is no blank: quotes within a word are none.
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if matches!(before, ' ' | ':' | ',' | '{' | '[' | '-') => quote = Some(c),
            (None, '#') if line[..at].ends_with([' ', '\t']) => return None,
            (None, '{') => {
                let inside = &line[at + 1..];
                let end = inside.find(|c| !is_of_name(c)).unwrap_or(inside.len());
                let closed = inside[end..].strip_prefix('#').unwrap_or(&inside[end..]);
                if end > 0 && closed.starts_with('}') {
                    return Some(&line[at..line.len() - closed.len() + 1]);
                }
            }
            (None, _) => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    None
}

fn refuse_tag(tagged: bool, place: Place) -> Result<(), Problem> {
    if tagged {
        Err(place.problem("a YAML tag (`!…`) has no meaning here", "remove it"))
    } else {
        Ok(())
    }
}
