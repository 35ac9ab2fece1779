//! Where the characters of a scalar of several lines, or with escapes, stand in the file.
//!
//! YAML folds spaces and line ends, takes indentation away and reads escapes, but it leaves all other characters in their order. So the place of
//! one is found by how many of them are before it, and it is only told if all of them are the same in the file.

use saphyr_parser::ScalarStyle;

use super::tree::Place;

/// A scalar as it was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    source: Box<str>,
    start: Place,
    style: ScalarStyle,
}

impl Written {
    /// Of the file from where the scalar begins, and the text that it is. `None`: what is written cannot be told apart.
    pub(super) fn of(source: &str, place: Place, style: ScalarStyle, text: &str) -> Option<Written> {
        match style {
            // The parser tells where the block begins, or its first line.
            ScalarStyle::Literal | ScalarStyle::Folded => {
                Self::from(source, place, style, text).or_else(|| Self::from(source.split_once('\n')?.1, place.next_line(), style, text))
            }
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Self::from(source.get(1..)?, place.next_column(), style, text),
            ScalarStyle::Plain => Self::from(source, place, style, text),
        }
    }

    fn from(source: &str, start: Place, style: ScalarStyle, text: &str) -> Option<Written> {
        let mut marks = Marks::new(source, start, style);
        let all = text
            .chars()
            .filter(|c| !is_space(*c))
            .all(|c| marks.next().is_some_and(|mark| mark.c == Some(c)));
        let end = source.len() - marks.rest.len();
        all.then(|| Written {
            source: source[..end].into(),
            start,
            style,
        })
    }

    /// Where the first character stands that is behind this text and no space; or where the end is.
    pub(super) fn behind(&self, before: &str) -> Place {
        let passed = before.chars().filter(|c| !is_space(*c)).count();
        let mut marks = Marks::new(&self.source, self.start, self.style);
        for _ in 0..passed {
            marks.next();
        }
        let end = marks.place;
        marks.next().map_or(end, |mark| mark.place)
    }
}

/// What YAML may make more or less of.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// A character that is no space, and where it begins.
struct Mark {
    place: Place,
    /// `None`: an escape by a number.
    c: Option<char>,
}

struct Marks<'s> {
    rest: &'s str,
    /// Of what `rest` begins with.
    place: Place,
    style: ScalarStyle,
}

impl<'s> Marks<'s> {
    fn new(rest: &'s str, place: Place, style: ScalarStyle) -> Self {
        Marks { rest, place, style }
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.place = if c == '\n' {
            self.place.next_line()
        } else {
            self.place.next_column()
        };
        Some(c)
    }

    /// What an escape stands for, behind its backslash.
    fn escaped(&mut self) -> Option<char> {
        match self.take()? {
            c @ ('"' | '/' | '\\') => Some(c),
            'n' | 't' | 'r' | ' ' | '\t' | '\r' | '\n' => Some(' '),
            _ => None,
        }
    }
}

impl Iterator for Marks<'_> {
    type Item = Mark;

    fn next(&mut self) -> Option<Mark> {
        loop {
            let place = self.place;
            let c = match (self.style, self.take()?) {
                (ScalarStyle::DoubleQuoted, '\\') => self.escaped(),
                (ScalarStyle::SingleQuoted, '\'') => self.take().filter(|c| *c == '\''),
                (_, c) => Some(c),
            };
            if !c.is_some_and(is_space) {
                return Some(Mark { place, c });
            }
        }
    }
}
