//! Which Kafka topics a subscriber's filter reads.

use super::filter::{Filter, Level, illegal_kafka_topic};
use super::record_template::Part;
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::spec::{PartitionSpec, Unmapped};
use super::template::Captured;

/// What a subscriber of a filter reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// By which rule.
    pub rule: RuleId,
    /// From where.
    pub kafka_topic: String,
    /// The only key that the filter can want, if it is one. Records of this rule lie in its murmur2 partition;
    /// another producer's may lie elsewhere if its partitioner is another.
    pub key: Option<Vec<u8>>,
}

/// Why a filter reads nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSources {
    /// No rule delivers such topics; what then is to be done.
    Unmapped(Unmapped),
    /// A rule would, but the filter leaves open from which Kafka topic.
    NotReadable {
        /// Which.
        rule: RuleId,
        /// For the reason string.
        why: String,
    },
}

impl RuleSet {
    /// The sources of a valid subscriber's filter (without `$share`). Walks all rules: meant for SUBSCRIBE.
    pub fn sources(&self, filter: &str) -> Result<Vec<Source>, NoSources> {
        let mut sources = Vec::new();
        for (id, rule) in self.iter().filter(|(_, rule)| rule.delivers()) {
            let source = match &rule.shape {
                Shape::Filter(own, _) => match intersect(own, filter) {
                    Some(captured) => rule_source(id, rule, filter, &captured)?,
                    None => None,
                },
                Shape::Record(levels) => record_source(id, rule, levels, filter),
            };
            sources.extend(source);
        }
        if sources.is_empty() {
            Err(NoSources::Unmapped(self.unmapped_filter(filter)))
        } else {
            Ok(sources)
        }
    }
}

fn rule_source(id: RuleId, rule: &Rule, filter: &str, captured: &Captured<'_>) -> Result<Option<Source>, NoSources> {
    let mut kafka_topic = String::new();
    if !rule.topic.render(captured, None, &mut kafka_topic) {
        let why = format!("the filter must name each level that chooses the Kafka topic of rule {}", rule.name);
        return Err(NoSources::NotReadable { rule: id, why });
    }
    if illegal_kafka_topic(&kafka_topic).is_some() {
        return Ok(None); // Nothing was ever stored there.
    }
    let mut text = String::new();
    let key = match &rule.key {
        None => (!filter.contains(['+', '#'])).then(|| filter.as_bytes().to_vec()),
        Some(key) => key.render(captured, None, &mut text).then(|| text.into_bytes()),
    };
    Ok(Some(Source {
        rule: id,
        kafka_topic,
        key: key.filter(|_| rule.partition == PartitionSpec::Hash),
    }))
}

/// What captures hold for all topics that both filters match; `None` if there is no such topic. Of an expression and a filter with
/// wildcards only beginnings are compared, up to the first wildcard: there may be none then, too.
pub(super) fn intersect<'a>(own: &Filter, filter: &'a str) -> Option<Captured<'a>> {
    if let Some(expression) = &own.expression {
        let Some(wild) = filter.find(['+', '#']) else {
            // What takes no part counts as empty, as on the way in.
            return own.captures(filter).map(|captured| captured.map(|held| held.or(Some(""))));
        };
        // `a/#` matches `a`, too.
        let parent = filter[..wild].strip_suffix('/').filter(|_| filter[wild..].starts_with('#'));
        if !expression.may_begin(&filter[..wild]) && !parent.is_some_and(|parent| expression.takes(parent)) {
            return None;
        }
    }
    let mut captured = Captured::default();
    let mut left = Some(filter);
    let system = filter.starts_with('$');
    for (place, level) in own.levels.iter().enumerate() {
        if place == 0 && system && !matches!(level, Level::Literal(_)) {
            return None;
        }
        if let Level::Rest(capture) = level {
            let rest = left.unwrap_or("");
            if let Some(i) = capture.filter(|_| !rest.contains(['+', '#'])) {
                captured[usize::from(i)] = Some(rest);
            }
            return Some(captured);
        }
        let (head, tail) = left.map(|left| left.split_once('/').map_or((left, None), |(head, tail)| (head, Some(tail))))?;
        let wild = head == "+" || head == "#";
        if let Level::Literal(text) = level
            && if wild { place == 0 && text.starts_with('$') } else { text != head }
        {
            return None;
        }
        if head == "#" {
            return Some(captured);
        }
        if let Level::One(Some(i)) = level
            && !wild
        {
            captured[usize::from(*i)] = Some(head);
        }
        left = tail;
    }
    (left.is_none() || left == Some("#")).then_some(captured)
}

/// The topics that a subscribe rule makes, as far as a filter can say it.
pub(super) fn record_filter(levels: &[Vec<Part>]) -> Filter {
    let levels = levels.iter().map(|level| match level.as_slice() {
        [] => Level::Literal(String::new()),
        [Part::Text(text)] => Level::Literal(text.clone()),
        parts
            if parts
                .iter()
                .any(|part| matches!(part, Part::Key { rest: true } | Part::Header { rest: true, .. })) =>
        {
            Level::Rest(None)
        }
        _ => Level::One(None),
    });
    Filter {
        levels: levels.collect(),
        captures: Vec::new(),
        expression: None,
    }
}

/// A subscribe rule reads one topic; all keys, since other producers choose the partition.
fn record_source(id: RuleId, rule: &Rule, levels: &[Vec<Part>], filter: &str) -> Option<Source> {
    intersect(&record_filter(levels), filter)?;
    Some(Source {
        rule: id,
        kafka_topic: rule.topic.constant()?.to_owned(),
        key: None,
    })
}
