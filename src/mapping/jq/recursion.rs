//! What a program says before it runs: which tables it looks into, which regular expressions it has, and whether it is one that cannot be bounded.
//!
//! A definition that hands an ever longer chain of filters to itself makes what the interpreter takes down by recursion when the run is
//! over, as deep as the chain is long. No count of steps bounds that stack, so such programs are refused when they are compiled.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::Part;

/// What was found.
#[derive(Default)]
pub(super) struct Said<'s> {
    /// The first call by which a definition hands itself another filter than it was given.
    pub(super) chain_of_filters: Option<&'s str>,
    /// Names of tables that are looked into, as far as they stand there.
    pub(super) tables: Vec<&'s str>,
    /// It may look into tables that are not named there.
    pub(super) looks_anywhere: bool,
    /// Names of all functions and formats that are called.
    pub(super) calls: Vec<&'s str>,
    /// Regular expressions that stand there, with flags that do, too.
    pub(super) expressions: Vec<Written<'s>>,
    /// Names that the program defines itself.
    own: Vec<&'s str>,
}

/// A regular expression of a call.
pub(super) struct Written<'s> {
    /// What the call is of.
    of: &'s str,
    /// The first part of it, to find it by.
    pub(super) at: &'s str,
    pattern: String,
    flags: String,
}

impl Said<'_> {
    /// Regular expressions of calls, and their flags.
    pub(super) fn patterns(&self) -> Vec<(String, String)> {
        let each = self.expressions.iter();
        each.map(|written| (written.pattern.clone(), written.flags.clone())).collect()
    }
}

/// Walks a program.
pub(super) fn said<'s>(program: &Term<&'s str>) -> Said<'s> {
    let mut search = Search {
        within: Vec::new(),
        said: Said::default(),
    };
    search.term(program);
    let Said {
        expressions,
        own,
        looks_anywhere,
        ..
    } = &mut search.said;
    // What the program defines itself may be something else.
    expressions.retain(|written| !own.contains(&written.of));
    *looks_anywhere |= own.contains(&"lookup");
    search.said
}

struct Search<'t, 's> {
    /// Definitions that the place lies in.
    within: Vec<&'t Def<&'s str>>,
    said: Said<'s>,
}

impl<'t, 's> Search<'t, 's> {
    fn term(&mut self, term: &'t Term<&'s str>) {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {}
            Term::Str(format, parts) => {
                self.said.calls.extend(format);
                for part in parts {
                    if let StrPart::Term(term) = part {
                        self.term(term);
                    }
                }
            }
            Term::Arr(Some(one)) | Term::Neg(one) | Term::Label(_, one) | Term::TryCatch(one, None) => self.term(one),
            Term::Obj(fields) => {
                for (name, value) in fields {
                    self.term(name);
                    value.iter().for_each(|value| self.term(value));
                }
            }
            Term::BinOp(left, op, right) => {
                self.term(left);
                if let BinaryOp::Pipe(Some(pattern)) = op {
                    self.pattern(pattern);
                }
                self.term(right);
            }
            Term::Fold(_, over, pattern, parts) => {
                self.term(over);
                self.pattern(pattern);
                parts.iter().for_each(|part| self.term(part));
            }
            Term::TryCatch(tried, Some(caught)) => {
                self.term(tried);
                self.term(caught);
            }
            Term::IfThenElse(cases, otherwise) => {
                for (condition, then) in cases {
                    self.term(condition);
                    self.term(then);
                }
                otherwise.iter().for_each(|otherwise| self.term(otherwise));
            }
            Term::Def(defs, rest) => {
                for def in defs {
                    self.said.own.push(def.name);
                    self.within.push(def);
                    self.term(&def.body);
                    self.within.pop();
                }
                self.term(rest);
            }
            Term::Call(name, given) => self.call(name, given),
            Term::Path(from, path) => {
                self.term(from);
                for (part, _) in &path.0 {
                    match part {
                        Part::Index(index) => self.term(index),
                        Part::Range(from, to) => from.iter().chain(to).for_each(|end| self.term(end)),
                    }
                }
            }
        }
    }

    fn pattern(&mut self, pattern: &'t Pattern<&'s str>) {
        match pattern {
            Pattern::Var(_) => {}
            Pattern::Arr(parts) => parts.iter().for_each(|part| self.pattern(part)),
            Pattern::Obj(fields) => {
                for (name, part) in fields {
                    self.term(name);
                    self.pattern(part);
                }
            }
        }
    }

    fn call(&mut self, name: &'s str, given: &'t [Term<&'s str>]) {
        given.iter().for_each(|given| self.term(given));
        self.said.calls.push(name);
        if let ("lookup", [Term::Str(None, parts), _]) = (name, given)
            && let [StrPart::Str(table)] = parts.as_slice()
        {
            self.said.tables.push(table);
        } else {
            self.said.looks_anywhere |= name == "lookup";
        }
        self.expression(name, given);
        let itself = self.within.iter().find(|def| def.name == name && def.args.len() == given.len());
        let Some(def) = itself else { return };
        let is_handed_on = |(parameter, given): (&&str, &Term<&str>)| {
            parameter.starts_with('$') || matches!(given, Term::Call(name, none) if name == parameter && none.is_empty())
        };
        if !def.args.iter().zip(given).all(is_handed_on) {
            self.said.chain_of_filters.get_or_insert(name);
        }
    }
    /// Notes the regular expression of a call, if it stands there.
    fn expression(&mut self, name: &'s str, given: &'t [Term<&'s str>]) {
        let flags = match (name, given.len()) {
            ("test" | "match" | "capture" | "scan" | "splits", 1) | ("sub" | "gsub", 2) => None,
            ("test" | "match" | "capture" | "scan" | "split" | "splits", 2) => given.get(1),
            ("sub" | "gsub", 3) => given.get(2),
            _ => return,
        };
        let flags = flags.map_or(Some(String::new()), |flags| written(flags).map(|(flags, _)| flags));
        if let (Some((pattern, Some(at))), Some(flags)) = (given.first().and_then(written), flags) {
            self.said.expressions.push(Written {
                of: name,
                at,
                pattern,
                flags,
            });
        }
    }
}

/// The text of a string that stands in the program, and its first part that is no escape.
fn written<'s>(term: &Term<&'s str>) -> Option<(String, Option<&'s str>)> {
    let Term::Str(None, parts) = term else { return None };
    let (mut text, mut first) = (String::new(), None);
    for part in parts {
        match part {
            StrPart::Str(part) => {
                text.push_str(part);
                first = first.or(Some(*part));
            }
            StrPart::Char(c) => text.push(*c),
            StrPart::Term(_) => return None,
        }
    }
    Some((text, first))
}
