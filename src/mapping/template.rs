//! Text with holes: `vehicle-{vin}`. The lexer that filters share, rendering, and reading the holes back.

use super::fault::Wrong;
use super::said::Said;

/// A filter has at most this many captures, so that they fit an array on the stack.
pub(super) const MAX_CAPTURES: usize = 16;

/// What captures hold, by their place in the filter.
pub(super) type Captured<'a> = [Option<&'a str>; MAX_CAPTURES];

/// A piece as written, before its name has a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Text with `{{` and `}}` resolved.
    Text { at: usize, text: String },
    /// `{name}` or `{name#}`.
    Hole { at: usize, name: String, rest: bool },
}

const BRACES: &str = "write `{name}` for a placeholder, `{{` and `}}` for the characters themselves";

/// Splits text into literals and holes; positions are bytes of `written`.
pub(super) fn lex(written: &str) -> Result<Vec<Token>, Wrong> {
    let mut tokens = Vec::new();
    let mut text = String::new();
    let mut began = 0;
    let mut at = 0;
    while let Some(c) = written[at..].chars().next() {
        let after = &written[at + c.len_utf8()..];
        if (c == '{' || c == '}') && after.starts_with(c) {
            text.push(c);
            at += 2;
        } else if c == '}' {
            return Err(Wrong::new(at, "a `}` without its `{`", BRACES));
        } else if c == '{' {
            let Some(len) = after.find('}') else {
                return Err(Wrong::new(at, "a `{` without its `}`", BRACES));
            };
            if !text.is_empty() {
                tokens.push(Token::Text {
                    at: began,
                    text: std::mem::take(&mut text),
                });
            }
            tokens.push(hole(at, &after[..len])?);
            at += len + 2;
            began = at;
        } else {
            text.push(c);
            at += c.len_utf8();
        }
    }
    if !text.is_empty() {
        tokens.push(Token::Text { at: began, text });
    }
    Ok(tokens)
}

/// Where byte `i` of a text token that begins at `at` stands as written: each brace of it is written twice.
pub(super) fn place_of(written: &str, at: usize, i: usize) -> usize {
    let (mut place, mut left) = (at, i);
    let mut chars = written[at..].chars();
    while let Some(c) = chars.next().filter(|_| left > 0) {
        left -= c.len_utf8();
        place += c.len_utf8();
        if c == '{' || c == '}' {
            place += 1;
            chars.next();
        }
    }
    place
}

fn hole(at: usize, inner: &str) -> Result<Token, Wrong> {
    let (name, rest) = inner.strip_suffix('#').map_or((inner, false), |name| (name, true));
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(legal) {
        let remedy = "names are made of ASCII letters, digits, `_`, `-` and `.`";
        return Err(Wrong::new(at, format!("`{{{inner}}}` is not a placeholder"), remedy));
    }
    Ok(Token::Hole {
        at,
        name: name.to_owned(),
        rest,
    })
}

/// A piece of a compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Stands for itself.
    Text(String),
    /// What the filter's capture of this place holds.
    Capture(u8),
    /// The client id.
    Client,
    /// What the message says beside its topic; its record need not hold it.
    Said(Said),
}

/// A compiled template of a publish rule: Kafka topic, key, header or partition.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Template {
    pub(super) pieces: Vec<Piece>,
}

impl Template {
    /// The text, if there is no hole in it.
    pub(super) fn constant(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn uses(&self, capture: u8) -> bool {
        self.pieces.contains(&Piece::Capture(capture))
    }

    /// Whether a record tells what the template was filled with, if it holds the captures and the client id.
    pub(super) fn is_told_by_records(&self) -> bool {
        !self.pieces.iter().any(|piece| matches!(piece, Piece::Said(_)))
    }

    /// Appends the filled template; false if a hole has nothing to hold (the text is then incomplete).
    pub(super) fn render(&self, captured: &Captured<'_>, client: Option<&str>, out: &mut String) -> bool {
        for piece in &self.pieces {
            let filled = match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Capture(i) => captured[usize::from(*i)],
                Piece::Client => client,
                Piece::Said(_) => None,
            };
            let Some(text) = filled else { return false };
            out.push_str(text);
        }
        true
    }

    /// Whether this template, so filled, gives exactly this text; it is compared piece by piece and not written.
    /// A capture that holds nothing counts as empty, as on the way in.
    pub(super) fn gives(&self, captured: &Captured<'_>, client: &[u8], text: &[u8]) -> bool {
        let mut left = text;
        for piece in &self.pieces {
            let filled = match piece {
                Piece::Text(text) => text.as_bytes(),
                Piece::Capture(i) => captured[usize::from(*i)].unwrap_or("").as_bytes(),
                Piece::Client => client,
                Piece::Said(_) => return false,
            };
            let Some(rest) = left.strip_prefix(filled) else { return false };
            left = rest;
        }
        left.is_empty()
    }

    /// Whether a filled text gives each hole back, in one way only.
    ///
    /// One hole always does. Of several, all but the last must be captures of a single level and each separator
    /// must hold a `/`, which such a capture cannot: `{a}-{b}` could be cut at any `-`.
    pub(super) fn is_unambiguous(&self, is_rest: impl Fn(u8) -> bool) -> bool {
        let holes: Vec<usize> = (0..self.pieces.len())
            .filter(|&i| !matches!(self.pieces[i], Piece::Text(_)))
            .collect();
        if holes.len() > 1 && holes.iter().any(|&i| !matches!(self.pieces[i], Piece::Capture(_))) {
            return false;
        }
        holes.windows(2).all(|pair| {
            let single = matches!(self.pieces[pair[0]], Piece::Capture(i) if !is_rest(i));
            let parted = matches!(&self.pieces[pair[0] + 1], Piece::Text(text) if text.contains('/'));
            single && parted
        })
    }

    /// Reads the holes of a filled text back; false if the text was not made by this template.
    /// Only right for templates that are unambiguous. A capture that already holds something keeps it.
    pub(super) fn read_back<'a>(&self, text: &'a str, captured: &mut Captured<'a>) -> bool {
        let mut left = text;
        for (place, piece) in self.pieces.iter().enumerate() {
            if let Piece::Text(literal) = piece {
                let Some(rest) = left.strip_prefix(literal.as_str()) else {
                    return false;
                };
                left = rest;
                continue;
            }
            let end = match self.pieces.get(place + 1) {
                // The last literal is looked for from the end, since nothing follows it.
                Some(Piece::Text(next)) if place + 2 == self.pieces.len() => left.strip_suffix(next.as_str()).map(str::len),
                Some(Piece::Text(next)) => left.find(next.as_str()),
                _ => Some(left.len()),
            };
            let Some(end) = end else { return false };
            if let Piece::Capture(i) = piece {
                captured[usize::from(*i)].get_or_insert(&left[..end]);
            }
            left = &left[end..];
        }
        left.is_empty()
    }
}
