//! A program, from its text to its outputs.

use std::sync::Arc;

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Ctx, DataT, Exn, Lut, Vars};

use super::expression::{self, Expressions};
use super::fuel::{CutOff, budget, step, within};
use super::library::{Needed, needed};
use super::recursion::said;
use super::size;
use super::value::{Fields, Value};
use crate::mapping::fault::Wrong;
use crate::mapping::tables::{Lack, Table};

/// Outputs of one run, and so records of one message.
const MOST_OUTPUTS: usize = 1_000;
/// Characters of an error that are kept.
const LONGEST_ERROR: usize = 200;

/// What the interpreter is given.
pub(super) struct Kind;

impl DataT for Kind {
    type V<'a> = Value;
    type Data<'a> = Steps<'a>;
}

/// The program, which the interpreter asks for before each step.
#[derive(Clone)]
pub(super) struct Steps<'a> {
    lut: &'a Lut<Kind>,
    /// What it may look into.
    pub(super) tables: &'a [(String, Arc<Table>)],
    /// The regular expressions that stand in it.
    pub(super) expressions: &'a Expressions,
}

impl<'a> jaq_core::data::HasLut<'a, Kind> for Steps<'a> {
    fn lut(&self) -> &'a Lut<Kind> {
        step();
        self.lut
    }
}

/// A compiled program.
pub(in crate::mapping) struct Program {
    filter: jaq_core::Filter<Kind>,
    /// Names with their `$`, and whether the program uses them.
    variables: Vec<(String, bool)>,
    /// Whether it may say what a record has beside its value.
    pub(in crate::mapping) makes_records: bool,
    /// The tables that it names, if it looks into no others.
    pub(in crate::mapping) looks_into: Option<Vec<String>>,
    text: String,
    tables: Vec<(String, Arc<Table>)>,
    expressions: Expressions,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum Trouble {
    /// The payload is not of the format that it has to be.
    Unreadable(&'static str),
    /// The program said so.
    Error(String),
    /// It has cost too much.
    CutOff,
    /// A table that it looks into has no answer.
    Lacks(Lack),
    /// What came out cannot be written as it should be.
    Unwritable(String),
}

impl Trouble {
    /// What a program or its output said, for people.
    pub(in crate::mapping) fn words(self) -> Option<String> {
        match self {
            Trouble::Error(words) | Trouble::Unwritable(words) => Some(words),
            Trouble::Lacks(Lack::NotRead) => Some("the topic of a lookup table is not read to its end".to_owned()),
            Trouble::Lacks(Lack::NoRoom) => Some("a lookup table has no such row, and left rows out for want of memory".to_owned()),
            Trouble::Unreadable(_) | Trouble::CutOff => None,
        }
    }
}

/// One output.
pub(in crate::mapping) struct Output {
    pub(in crate::mapping) value: Value,
    /// What `record` was given.
    pub(in crate::mapping) with: Option<Fields>,
}

impl Program {
    /// Compiles a program that knows these variables (with `$`) and tables.
    ///
    /// # Errors
    /// All names in it that mean nothing, or the first thing that is wrong with its form.
    pub(in crate::mapping) fn compile(
        text: &str,
        variables: Vec<String>,
        tables: Vec<(String, Arc<Table>)>,
    ) -> Result<Program, Vec<Wrong>> {
        size::on_large_stack(|| Self::compile_here(text, variables, tables)).unwrap_or_else(|error| {
            let message = format!("no thread to compile the program on: {error}");
            Err(vec![Wrong::new(0, message, "allow more threads or more virtual memory")])
        })
    }

    fn compile_here(text: &str, variables: Vec<String>, tables: Vec<(String, Arc<Table>)>) -> Result<Program, Vec<Wrong>> {
        size::check(text).map_err(|wrong| vec![wrong])?;
        let arena = Arena::default();
        let file = File { code: text, path: () };
        let parsed = load::parse(text, |parser| parser.term());
        let said = parsed.as_ref().map(said).unwrap_or_default();
        let Needed { definitions, functions } = needed(&said.calls);
        let modules = Loader::new(definitions)
            .load(&arena, file)
            .map_err(|errors| vec![unloadable(text, errors)])?;
        if parsed.is_none() {
            // The loader takes one, and nothing would be known of what is behind it.
            return Err(vec![Wrong::new(0, "a program is no module", "leave `module` out")]);
        }
        let unknown = said.tables.iter().filter(|name| tables.iter().all(|(known, _)| known != *name));
        let mut wrong: Vec<Wrong> = unknown.map(|table| no_table(text, table)).collect();
        if let Some(call) = said.chain_of_filters {
            let message = format!("`{call}` calls itself with a filter that grows by each call");
            let remedy = "hand a value on, as in `def f($x): …`, or use `recurse`, `until`, `while`, `reduce` or `foreach`";
            wrong.push(Wrong::new(load::span(text, call).start, message, remedy));
            return Err(wrong);
        }
        let expressions = expression::compile(&said.patterns());
        if let Err((place, message)) = &expressions {
            let at = said.expressions.get(*place).map_or(0, |pattern| load::span(text, pattern.at).start);
            wrong.push(Wrong::new(at, message.clone(), EXPRESSIONS));
        }
        let compiler = jaq_core::Compiler::default().with_funs(functions);
        let compiled = compiler.with_global_vars(variables.iter().map(String::as_str)).compile(modules);
        let (filter, expressions) = match (compiled, expressions) {
            (Ok(filter), Ok(expressions)) if wrong.is_empty() => (filter, expressions),
            (Ok(_), _) => return Err(wrong),
            (Err(errors), _) => {
                wrong.extend(undefined(text, errors, &variables));
                return Err(wrong);
            }
        };
        let used = |name: &String| text.contains(name.as_str());
        Ok(Program {
            filter,
            makes_records: text.contains("record"),
            variables: variables.into_iter().map(|name| (name.clone(), used(&name))).collect(),
            looks_into: (!said.looks_anywhere).then(|| said.tables.iter().map(|name| (*name).to_owned()).collect()),
            text: text.to_owned(),
            tables,
            expressions,
        })
    }

    /// Whether the program has this word anywhere.
    pub(in crate::mapping) fn mentions(&self, word: &str) -> bool {
        self.text.contains(word)
    }

    /// Runs it over a payload of so many bytes, which `read` makes a value of. `variable` gives what one holds that is used; `take` is
    /// handed each output. Gives the steps that it took, too.
    pub(in crate::mapping) fn run(
        &self,
        payload: usize,
        read: impl FnOnce() -> Result<Value, Trouble>,
        variable: impl Fn(&str) -> Value,
        mut take: impl FnMut(Output) -> Result<(), Trouble>,
    ) -> (Result<(), Trouble>, u64) {
        let (outcome, steps) = within(budget(payload), || {
            let input = read()?;
            let held = |(name, used): &(String, bool)| if *used { variable(name) } else { Value::Null };
            let vars = Vars::new(self.variables.iter().map(held));
            let context = Ctx::<Kind>::new(
                Steps {
                    lut: &self.filter.lut,
                    tables: &self.tables,
                    expressions: &self.expressions,
                },
                vars,
            );
            for (number, output) in self.filter.id.run((context, input)).enumerate() {
                if number == MOST_OUTPUTS {
                    return Err(Trouble::CutOff);
                }
                take(opened(output.map_err(told)?))?;
            }
            Ok(())
        });
        let outcome = outcome.unwrap_or_else(|cut_off| {
            Err(match cut_off {
                CutOff::Spent | CutOff::TooDeep => Trouble::CutOff,
                CutOff::Lacks(lack) => Trouble::Lacks(lack),
                CutOff::Fault => Trouble::Error("the interpreter failed".to_owned()),
            })
        });
        (outcome, steps)
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.text).finish()
    }
}

fn opened(output: Value) -> Output {
    match output {
        Value::Envelope(envelope) => Output {
            value: envelope.value.clone(),
            with: Some(envelope.with.clone()),
        },
        value => Output { value, with: None },
    }
}

fn told(exception: Exn<'_, Value>) -> Trouble {
    let mut text = match exception.get_err() {
        Ok(error) => error.to_string(),
        Err(_) => "it left a label that is not there".to_owned(),
    };
    if let Some((end, _)) = text.char_indices().nth(LONGEST_ERROR) {
        text.truncate(end);
    }
    Trouble::Error(text)
}

const EXPRESSIONS: &str =
    "write it as the Rust crate `regex` reads it: no look-around and no back-references; a backslash is `\\\\` in a string";
const LANGUAGE: &str = "docs/transforms.md has the language and the functions that programs may call";

fn unloadable(text: &str, errors: load::Errors<&str, ()>) -> Wrong {
    let error = errors.into_iter().next().map(|(_, error)| error);
    let at = |found: &str| {
        if found.is_empty() {
            text.len()
        } else {
            load::span(text, found).start
        }
    };
    let found = |found: &str| {
        if found.is_empty() {
            "the end".to_owned()
        } else {
            format!("`{}`", short(found))
        }
    };
    match error {
        Some(load::Error::Lex(list)) => match list.into_iter().next() {
            Some((expected, rest)) => Wrong::new(
                at(rest),
                format!("the program has {} where {} is expected", found(rest), expected.as_str()),
                LANGUAGE,
            ),
            None => Wrong::new(0, "the program cannot be read", LANGUAGE),
        },
        Some(load::Error::Parse(list)) => match list.into_iter().next() {
            Some((expected, rest)) => Wrong::new(
                at(rest),
                format!("the program has {} where {} is expected", found(rest), expected.as_str()),
                LANGUAGE,
            ),
            None => Wrong::new(0, "the program cannot be read", LANGUAGE),
        },
        Some(load::Error::Io(list)) => {
            let place = list.first().map_or(0, |(path, _)| load::span(text, path).start);
            Wrong::new(place, "a program cannot load modules", "define what it needs with `def`")
        }
        None => Wrong::new(0, "the program cannot be read", LANGUAGE),
    }
}

fn no_table(text: &str, table: &str) -> Wrong {
    let message = format!("there is no table `{table}`");
    Wrong::new(load::span(text, table).start, message, "name it under `lookup` of the rule")
}

/// At least one.
fn undefined(text: &str, errors: jaq_core::compile::Errors<&str, ()>, variables: &[String]) -> Vec<Wrong> {
    let of_text = |symbol: &str| {
        let (from, to) = (text.as_ptr().addr(), text.as_ptr().addr() + text.len());
        (from..to).contains(&symbol.as_ptr().addr()).then(|| load::span(text, symbol).start)
    };
    let symbols = errors.into_iter().flat_map(|(_, list)| list);
    let mut told: Vec<Wrong> = symbols
        .map(|(name, kind)| undefined_name(of_text(name).unwrap_or(0), name, &kind, variables))
        .collect();
    if told.is_empty() {
        told.push(Wrong::new(0, "the program cannot be compiled", LANGUAGE));
    }
    told
}

fn undefined_name(at: usize, name: &str, kind: &jaq_core::compile::Undefined, variables: &[String]) -> Wrong {
    match kind {
        jaq_core::compile::Undefined::Var if !variables.is_empty() => Wrong::new(
            at,
            format!("there is no variable `{name}`: there are {}", variables.join(", ")),
            "captures of the rule are variables, too, as far as their names are jq's: letters, digits and `_`",
        ),
        jaq_core::compile::Undefined::Filter(arity) => {
            Wrong::new(at, format!("there is no function `{name}` with {arity} arguments"), LANGUAGE)
        }
        other => Wrong::new(at, format!("there is no {} `{name}`", other.as_str()), LANGUAGE),
    }
}

fn short(text: &str) -> &str {
    let end = text.char_indices().nth(20).map_or(text.len(), |(at, _)| at);
    text[..end].lines().next().unwrap_or("")
}
