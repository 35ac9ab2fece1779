//! Topic patterns of rights: a filter of MQTT with `{identity}`, `{client}` and `{claim.NAME}` in it.
//!
//! What stands for a placeholder is text, never a wildcard: an identity `#` owns nothing. A value that is missing, empty or holds a
//! wildcard makes an allowing pattern match nothing, and a denying one everything from there on.

use super::rights::Subject;
use crate::mqtt::topic;

/// A pattern, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Without wildcards.
    Text(Box<str>),
    Identity,
    Client,
    Claim(Box<str>),
    /// `+`: one level.
    One,
    /// `#`: all the rest.
    Rest,
}

impl Pattern {
    /// Reads one as it is written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = vec![];
        let mut rest = text;
        let mut plain = String::new();
        while let Some(open) = rest.find('{') {
            let end = rest[open..].find('}').ok_or("`{` without `}`")? + open;
            literal(&rest[..open], &mut pieces);
            plain += &rest[..open];
            plain.push('x');
            pieces.push(match &rest[open + 1..end] {
                "identity" => Piece::Identity,
                "client" => Piece::Client,
                other => match other.strip_prefix("claim.").filter(|name| !name.is_empty()) {
                    Some(claim) => Piece::Claim(claim.into()),
                    None => {
                        return Err(format!(
                            "`{{{other}}}` stands for nothing; write {{identity}}, {{client}} or {{claim.NAME}}"
                        ));
                    }
                },
            });
            rest = &rest[end + 1..];
        }
        literal(rest, &mut pieces);
        plain += rest;
        // With a letter for each placeholder it must be a filter: so no wildcard shares its level with one.
        topic::validate_plain_filter(&plain).map_err(|e| e.as_str().to_owned())?;
        Ok(Self { pieces })
    }

    /// The claims that it names.
    pub(super) fn claims(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Claim(name) => Some(&**name),
            _ => None,
        })
    }

    /// Whether every topic of `text`, a topic name or a filter, is one of the pattern's. `unknown` is the answer where a placeholder
    /// has no value.
    pub(super) fn covers(&self, text: &str, subject: &Subject<'_>, unknown: bool) -> bool {
        if text.starts_with('$') && matches!(self.pieces.first(), Some(Piece::One | Piece::Rest)) {
            return false;
        }
        let mut rest = text;
        for (at, piece) in self.pieces.iter().enumerate() {
            let fixed = match piece {
                Piece::Rest => return true,
                Piece::One => {
                    let level = rest.find('/').unwrap_or(rest.len());
                    if &rest[..level] == "#" {
                        return false;
                    }
                    rest = &rest[level..];
                    continue;
                }
                Piece::Text(text) => &**text,
                variable => match variable.value(subject) {
                    Some(value) => value,
                    None => return unknown,
                },
            };
            match rest.strip_prefix(fixed) {
                Some(after) => rest = after,
                // `a/#` has `a` itself, too (§4.7.1.2).
                None => return self.pieces.get(at + 1) == Some(&Piece::Rest) && fixed.strip_suffix('/') == Some(rest),
            }
        }
        rest.is_empty()
    }

    /// Whether any topic of a filter is one of the pattern's, or may be.
    pub(super) fn meets(&self, filter: &str, subject: &Subject<'_>) -> bool {
        let own = self.filled(subject);
        let is_wild = |level: Option<&str>| matches!(level, Some("+" | "#"));
        let (mut ours, mut theirs) = (topic::levels(&own), topic::levels(filter));
        let (first, other) = (ours.clone().next(), theirs.clone().next());
        let hidden = |level: Option<&str>| level.is_some_and(|level| level.starts_with('$'));
        if is_wild(first) && hidden(other) || is_wild(other) && hidden(first) {
            return false;
        }
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
                _ => return false,
            }
        }
    }

    /// As a filter; from a placeholder without a value on it is everything.
    fn filled(&self, subject: &Subject<'_>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out += text,
                Piece::One => out.push('+'),
                Piece::Rest => out.push('#'),
                variable => match variable.value(subject) {
                    Some(value) => out += value,
                    None => {
                        let level = out.rfind('/').map_or(0, |slash| slash + 1);
                        out.truncate(level);
                        out.push('#');
                        return out;
                    }
                },
            }
        }
        out
    }
}

impl Piece {
    fn value<'a>(&self, subject: &Subject<'a>) -> Option<&'a str> {
        let value = match self {
            Self::Identity => subject.identity()?,
            Self::Client => subject.client,
            Self::Claim(name) => subject.claim(name)?,
            _ => return None,
        };
        (!value.is_empty() && !value.contains(['+', '#', '\0'])).then_some(value)
    }
}

/// Text between placeholders: its wildcards become pieces of their own.
fn literal(text: &str, pieces: &mut Vec<Piece>) {
    let mut rest = text;
    while let Some(at) = rest.find(['+', '#']) {
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].into()));
        }
        pieces.push(if rest[at..].starts_with('+') { Piece::One } else { Piece::Rest });
        rest = &rest[at + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
}
