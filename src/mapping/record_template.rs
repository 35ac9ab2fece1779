//! The MQTT side of a subscribe rule: a topic made of a record's key, partition, Kafka topic and headers.

use super::deliver::Stored;
use super::fault::{Faults, Field};
use super::filter::Filter;
use super::own_headers::Raw;
use super::skip::SkipReason;
use super::template::{Captured, Template, Token, lex, place_of};

/// A piece of a level of a subscribe rule's template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Key {
        rest: bool,
    },
    Partition,
    Topic,
    /// What the capture of this place holds, of those of the rule's Kafka topic.
    Capture(u8),
    Header {
        name: String,
        rest: bool,
    },
}

/// Parses the template of a subscribe rule into its levels. `captures` are those of its Kafka topic.
pub(super) fn record_template(written: &str, captures: &Filter, faults: &mut Faults) -> Option<Vec<Vec<Part>>> {
    let before = faults.list.len();
    let tokens = lex(written).map_err(|wrong| faults.wrong(Field::Mqtt, wrong)).ok()?;
    let mut levels: Vec<Vec<Part>> = vec![Vec::new()];
    let mut rest_at = None;
    for token in tokens {
        if let Some(at) = rest_at.take() {
            faults.add(
                Field::Mqtt,
                Some(at),
                "something follows the placeholder that takes the rest",
                "`{name#}` stands last",
            );
        }
        match token {
            Token::Text { at, text } => {
                if let Some(i) = text.find(['+', '#', '\0']) {
                    faults.add(
                        Field::Mqtt,
                        Some(place_of(written, at, i)),
                        "a topic name has no `+`, `#` or U+0000",
                        "write a placeholder: {key}, {partition}, {topic}, {header.NAME}",
                    );
                }
                for (i, level) in text.split('/').enumerate() {
                    if i > 0 {
                        levels.push(Vec::new());
                    }
                    if !level.is_empty() {
                        levels.last_mut().expect("never empty").push(Part::Text(level.to_owned()));
                    }
                }
            }
            Token::Hole { at, name, rest } => {
                let Some(part) = hole(&name, rest, captures) else {
                    let remedy = "a subscribe rule knows {key}, {partition}, {topic}, {header.NAME} and the captures of its Kafka topic";
                    let mark = if rest { "#" } else { "" };
                    let message = format!("`{{{name}{mark}}}` is not a placeholder here");
                    faults.add(Field::Mqtt, Some(at), message, remedy);
                    continue;
                };
                rest_at = rest.then_some(at);
                levels.last_mut().expect("never empty").push(part);
            }
        }
    }
    if written.is_empty() || written.len() > 65_535 {
        faults.add(Field::Mqtt, Some(0), "not a topic name", "a topic name has 1 to 65,535 bytes");
    }
    (faults.list.len() == before).then_some(levels)
}

/// What a placeholder stands for.
fn hole(name: &str, rest: bool, captures: &Filter) -> Option<Part> {
    match (name, rest) {
        ("key", rest) => Some(Part::Key { rest }),
        ("partition", false) => Some(Part::Partition),
        ("topic", false) => Some(Part::Topic),
        (other, rest) if other.len() > 7 && other.starts_with("header.") => Some(Part::Header {
            name: other[7..].to_owned(),
            rest,
        }),
        (other, false) => captures.capture(other).map(Part::Capture),
        _ => None,
    }
}

/// Whether a topic that has the levels of the template has its text where a level begins and ends, too.
pub(super) fn may_make(levels: &[Vec<Part>], topic: &str) -> bool {
    let text = |part: Option<&Part>| match part {
        Some(Part::Text(text)) => text.clone(),
        _ => String::new(),
    };
    // The last has the rest of the topic.
    let mut found = topic.splitn(levels.len(), '/');
    levels.iter().all(|level| {
        let found = found.next();
        found.is_some_and(|found| found.starts_with(&text(level.first())) && found.ends_with(&text(level.last())))
    })
}

/// Appends the topic that the template makes of the record.
pub(super) fn by_template<'a, H>(
    levels: &[Vec<Part>],
    (kafka_topic, template): (&str, &Template),
    partition: i32,
    record: &Stored<'a, H>,
    out: &mut String,
) -> Result<(), SkipReason>
where
    H: Iterator<Item = Raw<'a>> + Clone,
{
    use std::fmt::Write;
    let mut captured = Captured::default();
    if template.constant().is_none() && !template.read_back(kafka_topic, &mut captured) {
        return Err(SkipReason::OtherForm);
    }
    for (place, level) in levels.iter().enumerate() {
        if place > 0 {
            out.push('/');
        }
        for part in level {
            let (text, rest) = match part {
                Part::Text(text) => (text.as_str(), true),
                Part::Topic => (kafka_topic, false),
                Part::Capture(i) => (captured[usize::from(*i)].unwrap_or_default(), false),
                Part::Key { rest } => (utf8_key(record.key)?, *rest),
                Part::Header { name, rest } => (header(record.headers.clone(), name)?, *rest),
                Part::Partition => {
                    write!(out, "{partition}").expect("a String takes all");
                    continue;
                }
            };
            if !rest && text.contains('/') {
                return Err(SkipReason::OtherForm);
            }
            out.push_str(text);
        }
    }
    // A topic of the server's own (`$SYS`) is never made from what a record holds.
    let own_text = matches!(levels.first().and_then(|level| level.first()), Some(Part::Text(_)));
    if out.starts_with('$') && !own_text {
        return Err(SkipReason::IllegalTopic);
    }
    Ok(())
}

/// The key as text.
pub(super) fn utf8_key(key: Option<&[u8]>) -> Result<&str, SkipReason> {
    std::str::from_utf8(key.ok_or(SkipReason::NoKey)?).map_err(|_| SkipReason::KeyNotUtf8)
}

/// The first header of a name, as text.
pub(super) fn header<'a>(mut headers: impl Iterator<Item = Raw<'a>>, name: &str) -> Result<&'a str, SkipReason> {
    let value = headers.find(|(own, _)| *own == name.as_bytes()).and_then(|(_, value)| value);
    std::str::from_utf8(value.ok_or(SkipReason::NoHeader)?).map_err(|_| SkipReason::NoHeader)
}
