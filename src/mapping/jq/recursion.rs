//! What a program says before it runs: which tables it looks into, and whether it is one that cannot be bounded.
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
}

/// Walks a program.
pub(super) fn said<'s>(program: &Term<&'s str>) -> Said<'s> {
    let mut search = Search {
        within: Vec::new(),
        said: Said::default(),
    };
    search.term(program);
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
            Term::Str(_, parts) => {
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
        if let ("lookup", [Term::Str(None, parts), _]) = (name, given)
            && let [StrPart::Str(table)] = parts.as_slice()
        {
            self.said.tables.push(table);
        }
        let itself = self.within.iter().find(|def| def.name == name && def.args.len() == given.len());
        let Some(def) = itself else { return };
        let is_handed_on = |(parameter, given): (&&str, &Term<&str>)| {
            parameter.starts_with('$') || matches!(given, Term::Call(name, none) if name == parameter && none.is_empty())
        };
        if !def.args.iter().zip(given).all(is_handed_on) {
            self.said.chain_of_filters.get_or_insert(name);
        }
    }
}
