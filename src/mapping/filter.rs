//! Topic filters with captures: `vehicles/{vin}/telemetry/{sensor}`, `+` and `#` as in MQTT (§4.7).

use super::expression::Expression;
use super::fault::{Field, Wrong};
use super::said::is_reserved;
use super::template::{Captured, MAX_CAPTURES, Token, lex, place_of};

/// One level of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Exactly this.
    Literal(String),
    /// Any one level, captured or (`+`) not.
    One(Option<u8>),
    /// All that follows, captured or (`#`) not; also nothing, as MQTT's `a/#` matches `a`.
    Rest(Option<u8>),
}

/// Which topics a rule takes: a parsed filter, or an expression.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) levels: Vec<Level>,
    /// Names and where they stand in the written filter.
    pub(super) captures: Vec<(String, usize)>,
    /// It decides among the topics of these levels.
    pub(super) expression: Option<Expression>,
}

/// What one level is made of while the filter is read.
#[derive(Default)]
struct Part {
    text: String,
    at: usize,
    hole: Option<(String, usize, bool)>,
}

impl Filter {
    /// Parses a filter as written in a rule; all faults at once.
    pub(super) fn parse(written: &str) -> Result<Filter, Vec<Wrong>> {
        let mut wrong = Vec::new();
        if written.is_empty() || written.len() > 65_535 || written.contains('\0') {
            let remedy = "a filter has 1 to 65,535 bytes and no U+0000";
            return Err(vec![Wrong::new(0, "not a topic filter", remedy)]);
        }
        let parts = split(written, lex(written).map_err(|fault| vec![fault])?, &mut wrong);
        let last = parts.len() - 1;
        let mut filter = Filter {
            levels: Vec::new(),
            captures: Vec::new(),
            expression: None,
        };
        for (place, part) in parts.into_iter().enumerate() {
            filter.push(written, part, place == last, &mut wrong);
        }
        if wrong.is_empty() { Ok(filter) } else { Err(wrong) }
    }

    fn push(&mut self, written: &str, part: Part, last: bool, wrong: &mut Vec<Wrong>) {
        let Part { text, at, hole } = part;
        let level = if let Some((name, at, rest)) = hole {
            if !text.is_empty() {
                wrong.push(Wrong::new(
                    at,
                    format!("`{{{name}}}` is only a part of its level"),
                    "a capture fills a whole level, between two `/`",
                ));
            }
            let capture = self.name(name, at, wrong);
            if rest {
                Level::Rest(Some(capture))
            } else {
                Level::One(Some(capture))
            }
        } else {
            match text.as_str() {
                "+" => Level::One(None),
                "#" => Level::Rest(None),
                _ => {
                    if let Some(i) = text.find(['+', '#']) {
                        wrong.push(Wrong::new(
                            place_of(written, at, i),
                            "a wildcard that is only a part of its level",
                            "`+` and `#` fill a whole level [MQTT-4.7.1-2]",
                        ));
                    }
                    Level::Literal(text)
                }
            }
        };
        if matches!(level, Level::Rest(_)) && !last {
            wrong.push(Wrong::new(
                at,
                "levels after the one that takes the rest",
                "`#` and `{name#}` stand last [MQTT-4.7.1-1]",
            ));
        }
        self.levels.push(level);
    }

    fn name(&mut self, name: String, at: usize, wrong: &mut Vec<Wrong>) -> u8 {
        if is_reserved(&name) {
            wrong.push(Wrong::new(
                at,
                format!("`{{{name}}}` is of the message, not a capture"),
                "give the capture another name",
            ));
        }
        if self.captures.iter().any(|(known, _)| *known == name) {
            wrong.push(Wrong::new(
                at,
                format!("the capture `{{{name}}}` is named twice"),
                "give each capture a name of its own",
            ));
        }
        if self.captures.len() == MAX_CAPTURES {
            wrong.push(Wrong::new(at, "more than 16 captures", "use `+` where the value is not needed"));
            return 0;
        }
        self.captures.push((name, at));
        u8::try_from(self.captures.len() - 1).expect("at most MAX_CAPTURES")
    }

    pub(super) fn capture(&self, name: &str) -> Option<u8> {
        self.captures
            .iter()
            .position(|(known, _)| known == name)
            .map(|i| u8::try_from(i).expect("at most MAX_CAPTURES"))
    }

    /// The key of the rule that it is written under.
    pub(super) fn field(&self) -> Field {
        match self.expression {
            Some(_) => Field::MqttRegex,
            None => Field::Mqtt,
        }
    }

    /// Whether the capture may hold more than one level.
    pub(super) fn is_rest(&self, capture: u8) -> bool {
        self.expression.is_some() || self.levels.contains(&Level::Rest(Some(capture)))
    }

    /// Whether some level is taken without being captured: then captures alone do not give a topic back.
    pub(super) fn has_wildcards(&self) -> bool {
        self.levels
            .iter()
            .any(|level| matches!(level, Level::One(None) | Level::Rest(None)))
    }

    /// What the captures hold for a topic name; `None` if it does not match. A rest of no level is not captured.
    pub(super) fn captures<'a>(&self, topic: &'a str) -> Option<Captured<'a>> {
        let mut captured = Captured::default();
        let mut left = Some(topic);
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Literal(_))) {
            return None; // [MQTT-4.7.2-1]
        }
        for level in &self.levels {
            left = match level {
                Level::Rest(capture) => {
                    if let (Some(i), Some(rest)) = (capture, left) {
                        captured[usize::from(*i)] = Some(rest);
                    }
                    return match &self.expression {
                        Some(expression) => expression.captures(topic),
                        None => Some(captured),
                    };
                }
                // Compared where it lies: where it ends is known without a search.
                Level::Literal(text) => match left?.strip_prefix(text.as_str())? {
                    "" => None,
                    rest => Some(rest.strip_prefix('/')?),
                },
                Level::One(capture) => {
                    let (head, tail) = first_level(left?);
                    if let Some(i) = capture {
                        captured[usize::from(*i)] = Some(head);
                    }
                    tail
                }
            };
        }
        left.is_none().then_some(captured)
    }

    /// Appends the topic that these captures make; false if one is missing or is more than its level may be.
    pub(super) fn render(&self, captured: &Captured<'_>, out: &mut String) -> bool {
        for (place, level) in self.levels.iter().enumerate() {
            if place > 0 {
                out.push('/');
            }
            match level {
                Level::Literal(text) => out.push_str(text),
                Level::One(Some(i)) => match captured[usize::from(*i)] {
                    Some(text) if !text.contains('/') => out.push_str(text),
                    _ => return false,
                },
                Level::Rest(Some(i)) => match captured[usize::from(*i)] {
                    Some(text) => out.push_str(text),
                    None => return false,
                },
                Level::One(None) | Level::Rest(None) => return false,
            }
        }
        // A topic of the server's own (`$SYS`) is never made from a capture.
        !out.starts_with('$') || matches!(self.levels.first(), Some(Level::Literal(_)))
    }
}

/// The first level of a topic, and what follows its `/`. Levels are short: looking at each byte beats a search that has to be set up.
#[inline]
pub(super) fn first_level(topic: &str) -> (&str, Option<&str>) {
    match topic.bytes().position(|byte| byte == b'/') {
        Some(at) => (&topic[..at], Some(&topic[at + 1..])),
        None => (topic, None),
    }
}

fn split(written: &str, tokens: Vec<Token>, wrong: &mut Vec<Wrong>) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    for token in tokens {
        match token {
            Token::Text { at, text } => {
                let mut offset = 0;
                for (i, level) in text.split('/').enumerate() {
                    if i > 0 {
                        parts.push(Part {
                            at: place_of(written, at, offset),
                            ..Part::default()
                        });
                    }
                    parts.last_mut().expect("never empty").text.push_str(level);
                    offset += level.len() + 1;
                }
            }
            Token::Hole { at, name, rest } => {
                let part = parts.last_mut().expect("never empty");
                if part.hole.is_some() {
                    wrong.push(Wrong::new(
                        at,
                        format!("`{{{name}}}` shares its level with another capture"),
                        "a capture fills a whole level, between two `/`",
                    ));
                }
                part.hole = Some((name, at, rest));
            }
        }
    }
    parts
}

/// Whether this may be the topic name of a PUBLISH (§4.7).
pub(super) fn is_topic_name(topic: &str) -> bool {
    // Each byte is looked at, without a branch: many at once, where a search for the first would go one by one.
    let wild = topic.bytes().fold(false, |wild, byte| wild | matches!(byte, b'+' | b'#' | 0));
    !topic.is_empty() && topic.len() <= 65_535 && !wild
}

/// Why a Kafka topic name is not legal, in words; `None` if it is (Kafka's `Topic.validate`).
pub fn illegal_kafka_topic(name: &str) -> Option<(usize, &'static str)> {
    if let Some(at) = illegal_kafka_char(name) {
        return Some((at, "Kafka topic names are made of ASCII letters, digits, `.`, `_` and `-`"));
    }
    match name {
        "" => Some((0, "the Kafka topic name is empty")),
        "." | ".." => Some((0, "`.` and `..` are not Kafka topic names")),
        _ if name.len() > 249 => Some((249, "a Kafka topic name has at most 249 characters")),
        _ => None,
    }
}

/// The first byte that no Kafka topic name has.
pub(super) fn illegal_kafka_char(name: &str) -> Option<usize> {
    name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
}
