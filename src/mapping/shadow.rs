//! Of the records that other programs write, which rule takes them: a rule that comes behind one that takes all of them gets none.

use rustc_hash::FxHashMap;

use super::fault::{Faults, Field};
use super::filter::{Filter, Level};
use super::inverse::Recover;
use super::record_template::Part;
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::spec::Direction;
use super::template::{Piece, Template};

/// What a rule needs a key or a header to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Text.
    Any,
    /// Text without a `/`.
    Level,
    /// This, or for a key nothing.
    Exactly(String),
    /// Text of a form of its own: more than the others say.
    Own,
}

/// What a rule needs of a record to make a topic of it.
#[derive(Debug, Default)]
struct Needs {
    key: Option<Form>,
    headers: Vec<(String, Form)>,
}

impl Form {
    /// Whether whatever has the other form has this one.
    fn is_implied_by(&self, other: &Form) -> bool {
        match self {
            Form::Any => !matches!(other, Form::Exactly(_)),
            Form::Level | Form::Exactly(_) => self == other,
            Form::Own => false,
        }
    }
}

impl Needs {
    fn add(&mut self, header: Option<&str>, form: Form) {
        let Some(name) = header else {
            let kept = self.key.take().filter(|kept| *kept == Form::Level);
            self.key = Some(kept.unwrap_or(form));
            return;
        };
        match self.headers.iter_mut().find(|(own, _)| own == name) {
            Some((_, kept)) if *kept != Form::Level => *kept = form,
            Some(_) => {}
            None => self.headers.push((name.to_owned(), form)),
        }
    }

    /// Of a rule as far as can be said; `None`: it makes no topic of what others write.
    fn of(rule: &Rule) -> Option<Needs> {
        match &rule.shape {
            Shape::Record(levels, _) => Some(Needs::of_template(levels)),
            Shape::Filter(..) if !rule.has_inverse => None,
            Shape::Filter(filter, recovers) => Some(Needs::of_inverse(rule, filter, recovers)),
        }
    }

    fn of_template(levels: &[Vec<Part>]) -> Needs {
        let form = |rest: bool| if rest { Form::Any } else { Form::Level };
        let mut needs = Needs::default();
        for part in levels.iter().flatten() {
            match part {
                Part::Key { rest } => needs.add(None, form(*rest)),
                Part::Header { name, rest } => needs.add(Some(name), form(*rest)),
                Part::Text(_) | Part::Topic | Part::Partition | Part::Capture(_) => {}
            }
        }
        needs
    }

    fn of_inverse(rule: &Rule, filter: &Filter, recovers: &[Recover]) -> Needs {
        let mut needs = Needs::default();
        if let Some(constant) = rule.key.as_ref().and_then(Template::constant) {
            needs.key = Some(Form::Exactly(constant.to_owned()));
        }
        let form = |template: &Template| match template.pieces.as_slice() {
            [Piece::Capture(i)] if filter.is_rest(*i) => Form::Any,
            [Piece::Capture(_)] => Form::Level,
            _ => Form::Own,
        };
        for recover in recovers {
            match recover {
                Recover::WholeKey => needs.add(None, Form::Own),
                Recover::Key => needs.add(None, rule.key.as_ref().map_or(Form::Own, form)),
                Recover::Header(i) => needs.add(Some(&rule.headers[*i].0), form(&rule.headers[*i].1)),
                // That it reads the Kafka topic at all says as much.
                Recover::Topic => {}
            }
        }
        needs
    }

    fn are_implied_by(&self, other: &Needs) -> bool {
        let key = match (&self.key, &other.key) {
            (None, _) => true,
            (Some(form), Some(other)) => form.is_implied_by(other),
            (Some(_), None) => false,
        };
        let header = |(name, form): &(String, Form)| {
            let same = other.headers.iter().find(|(own, _)| own == name);
            same.is_some_and(|(_, other)| form.is_implied_by(other))
        };
        key && self.headers.iter().all(header)
    }
}

/// What it reads: its Kafka topic, or of a rule that only reads the form of those, with `*` for each capture. Others may ask more of a name
/// than its form.
fn form(rule: &Rule) -> Option<String> {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        _ => "*".to_owned(),
    };
    let is_known = rule.topic.constant().is_some() || matches!(rule.shape, Shape::Record(..));
    (is_known && rule.delivers()).then(|| rule.topic.pieces.iter().map(piece).collect())
}

/// Whether its topics begin with text of the rule's own. Else it takes no record that would make a topic of the server's own (`$`).
fn begins_with_text(rule: &Rule) -> bool {
    match &rule.shape {
        Shape::Record(levels, _) => matches!(levels.first().and_then(|level| level.first()), Some(Part::Text(_))),
        Shape::Filter(filter, _) => matches!(filter.levels.first(), Some(Level::Literal(text)) if !text.is_empty()),
    }
}

/// Of the rules before one, those that may take all that it could.
#[derive(Debug, Default)]
pub(super) struct Takers {
    /// By the Kafka topic or its form; none is here that takes no more than another.
    by_topic: FxHashMap<String, Vec<(Needs, u32)>>,
}

impl Takers {
    /// Of one topic; beyond that a rule that is never reached may go unnoticed.
    const MOST: usize = 64;

    /// A rule before this one that takes every record of its Kafka topic that others write and that it could make a topic of.
    pub(super) fn before(&self, rule: &Rule) -> Option<RuleId> {
        let takers = self.by_topic.get(&form(rule)?)?;
        let needs = Needs::of(rule)?;
        takers.iter().find(|(own, _)| own.are_implied_by(&needs)).map(|(_, id)| RuleId(*id))
    }

    /// Notes the next rule.
    pub(super) fn add(&mut self, id: u32, rule: &Rule) {
        let Some(form) = form(rule).filter(|_| begins_with_text(rule)) else {
            return;
        };
        let needs = Needs::of(rule).filter(|needs| !matches!(needs.key, Some(Form::Exactly(_))));
        if let (Some(needs), None) = (needs, self.before(rule)) {
            let takers = self.by_topic.entry(form).or_default();
            if takers.len() < Self::MOST {
                takers.push((needs, id));
            }
        }
    }

    /// Tells a rule that only reads if it can never get a record.
    pub(super) fn check(&self, set: &RuleSet, rule: &Rule, faults: &mut Faults) {
        let (Direction::Subscribe, Some(topic)) = (rule.direction, form(rule)) else {
            return;
        };
        if let Some(first) = self.before(rule) {
            let first = &set.rule(first).name;
            faults.add(
                Field::Mqtt,
                Some(0),
                format!("never reached: `{first}` before it takes every record of `{topic}` that it could"),
                format!("place it before `{first}` if it needs more of a record, or remove it"),
            );
        }
    }
}
