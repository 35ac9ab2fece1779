//! Which Kafka topics a subscriber's filter reads.

use super::filter::{Filter, Level, illegal_kafka_char, illegal_kafka_topic};
use super::record_template::Part;
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::spec::{PartitionSpec, Unmapped};
use super::template::{Captured, Piece, Template};
use crate::kafka::TopicPattern;
use crate::kafka::topic_pattern::is_internal;

/// What a subscriber of a filter reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// By which rule.
    pub rule: RuleId,
    /// From where.
    pub kafka_topics: KafkaTopics,
    /// The only key that the filter can want, if it is one. Records of this rule lie in its murmur2 partition;
    /// another producer's may lie elsewhere if its partitioner is another.
    pub key: Option<Vec<u8>>,
}

impl Source {
    /// The Kafka topic, if it is one whose name is known.
    pub fn named(&self) -> Option<&str> {
        match &self.kafka_topics {
            KafkaTopics::One(name) => Some(name),
            KafkaTopics::Like(_) => None,
        }
    }
}

/// Kafka topics of a source, or of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KafkaTopics {
    /// This one.
    One(String),
    /// All of the cluster whose names have this form: the filter leaves open which. It may be more than the filter wants.
    Like(TopicPattern),
}

impl std::fmt::Display for KafkaTopics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KafkaTopics::One(name) => f.write_str(name),
            KafkaTopics::Like(pattern) => pattern.fmt(f),
        }
    }
}

impl RuleSet {
    /// The sources of a valid subscriber's filter (without `$share`). Walks all rules: meant for SUBSCRIBE.
    ///
    /// # Errors
    /// No rule delivers such topics; what then is to be done.
    pub fn sources(&self, filter: &str) -> Result<Vec<Source>, Unmapped> {
        let mut sources = Vec::new();
        for (id, rule) in self.iter().filter(|(_, rule)| rule.delivers()) {
            let source = match &rule.shape {
                Shape::Filter(own, _) => intersect(own, filter).and_then(|captured| rule_source(id, rule, filter, &captured)),
                Shape::Record(levels, _) => record_source(id, rule, levels, filter),
            };
            sources.extend(source);
        }
        if sources.is_empty() {
            Err(self.unmapped_filter(filter))
        } else {
            Ok(sources)
        }
    }

    /// Whether some filter may leave open from which Kafka topics it is read.
    pub fn reads_patterns(&self) -> bool {
        !self.templated.is_empty()
    }
}

fn rule_source(id: RuleId, rule: &Rule, filter: &str, captured: &Captured<'_>) -> Option<Source> {
    let kafka_topics = kafka_topics(&rule.topic, captured)?;
    let mut text = String::new();
    let key = match &rule.key {
        None => (!filter.contains(['+', '#'])).then(|| filter.as_bytes().to_vec()),
        Some(key) => key.render(captured, None, &mut text).then(|| text.into_bytes()),
    };
    Some(Source {
        rule: id,
        kafka_topics,
        // A program may choose another one.
        key: key.filter(|_| rule.partition == PartitionSpec::Hash && !rule.chooses_keys()),
    })
}

/// The Kafka topics that a template makes with these captures. `None`: no legal one, so nothing was ever stored there, or Kafka's own.
fn kafka_topics(template: &Template, captured: &Captured<'_>) -> Option<KafkaTopics> {
    let (mut name, mut is_open) = (String::new(), false);
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => name.push_str(text),
            Piece::Capture(i) => match captured[usize::from(*i)] {
                Some(text) if illegal_kafka_char(text).is_some() => return None,
                Some(text) => name.push_str(text),
                None => {
                    is_open = true;
                    name.push('*');
                }
            },
            // The Kafka topic has neither.
            Piece::Client | Piece::Said(_) => return None,
        }
    }
    let written = match template.pieces.first() {
        Some(Piece::Text(text)) => text,
        _ => "",
    };
    if is_internal(&name, written) {
        return None;
    }
    if is_open {
        return Some(KafkaTopics::Like(TopicPattern::new(&name)));
    }
    illegal_kafka_topic(&name).is_none().then_some(KafkaTopics::One(name))
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
        [Part::Capture(i)] => Level::One(Some(*i)),
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

/// A subscribe rule reads all keys, since other producers choose the partition.
fn record_source(id: RuleId, rule: &Rule, levels: &[Vec<Part>], filter: &str) -> Option<Source> {
    let captured = intersect(&record_filter(levels), filter)?;
    Some(Source {
        rule: id,
        kafka_topics: kafka_topics(&rule.topic, &captured)?,
        key: None,
    })
}
