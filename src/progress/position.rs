//! A position as it stands in a commit: an offset, and as metadata the topic's id and what is settled above the offset.
//!
//! The metadata are text: `1 <topic id> <gap>+<length> …`. `1` is the format, the topic id 32 hexadecimal digits; then for each settled
//! stretch how many offsets lie between it and what was settled before, and how long it is.

use std::{fmt::Write, ops::Range};

/// The id of a topic (KIP-516).
pub type TopicId = [u8; 16];

/// The one there is.
const FORMAT: &str = "1";

/// What is settled of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Everything below.
    pub offset: i64,
    /// And these: ascending, above the offset, apart from it and from each other.
    pub settled: Vec<Range<i64>>,
}

impl Position {
    /// The metadata of a commit at the offset, in at most `most` bytes: if they do not hold all stretches, the highest are left out.
    pub fn metadata(&self, topic: &TopicId, most: usize) -> String {
        let mut text = format!("{FORMAT} ");
        for byte in topic {
            let _ = write!(text, "{byte:02x}");
        }
        let mut from = self.offset;
        for range in &self.settled {
            let before = text.len();
            let _ = write!(text, " {}+{}", range.start - from, range.end - range.start);
            if text.len() > most {
                text.truncate(before);
                break;
            }
            from = range.end;
        }
        text
    }

    /// The position of a commit. `None`: the metadata speak of another topic, one that had the name before. Metadata that are not
    /// ours, as of an operator who has set the offset, say nothing.
    pub fn read(offset: i64, metadata: &str, topic: &TopicId) -> Option<Self> {
        let mut words = metadata.split(' ');
        let id = words.next().filter(|format| *format == FORMAT).and_then(|_| hex(words.next()?));
        let settled = match id {
            Some(id) if id != *topic => return None,
            Some(_) => stretches(offset, words).unwrap_or_default(),
            None => Vec::new(),
        };
        Some(Self { offset, settled })
    }
}

fn hex(text: &str) -> Option<TopicId> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok().filter(|_| rest.is_empty())
}

/// `None` if one of them makes no sense: then none is believed.
fn stretches<'a>(offset: i64, words: impl Iterator<Item = &'a str>) -> Option<Vec<Range<i64>>> {
    let mut from = offset;
    let mut all = Vec::new();
    for word in words {
        let (gap, length) = word.split_once('+')?;
        let (gap, length): (u32, u32) = (gap.parse().ok()?, length.parse().ok()?);
        let start = from.checked_add(gap.into()).filter(|_| gap > 0 && length > 0)?;
        from = start.checked_add(length.into())?;
        all.push(start..from);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = *b"0123456789abcdef";

    #[test]
    fn what_is_written_is_read_again() {
        let position = Position {
            offset: 100,
            settled: vec![102..105, 110..1_000_000],
        };
        let text = position.metadata(&TOPIC, 4096);
        assert_eq!(text, "1 30313233343536373839616263646566 2+3 5+999890");
        assert_eq!(Position::read(100, &text, &TOPIC), Some(position));
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_above() {
        let position = Position {
            offset: 7,
            settled: (1..1_000).map(|n| 10 * n..10 * n + 1).collect(),
        };
        let text = position.metadata(&TOPIC, 100);
        assert!(text.len() <= 100 && text.len() > 90, "{text}");
        let read = Position::read(7, &text, &TOPIC).unwrap();
        assert!(read.settled.len() > 5);
        assert!(position.settled.starts_with(&read.settled));
    }

    #[test]
    fn of_a_topic_that_was_made_anew_nothing_is_settled() {
        let text = Position::default().metadata(&TOPIC, 4096);
        assert_eq!(Position::read(0, &text, b"0123456789abcdeg"), None);
    }

    #[test]
    fn what_others_have_written_is_an_offset_only() {
        for text in [
            "",
            "1",
            "1 ",
            "by hand",
            "2 30313233343536373839616263646566 1+1",
            "1 3031323334353637383961626364656 1+1",
            "1 303132333435363738396162636465660 1+1",
            "1 30313233343536373839616263646566 0+1",
            "1 30313233343536373839616263646566 1+0",
            "1 30313233343536373839616263646566 1-1",
            "1 30313233343536373839616263646566 4294967296+1",
            "1 30313233343536373839616263646566 1+1 ",
        ] {
            let read = Position::read(i64::MAX - 1, text, &TOPIC);
            assert_eq!(
                read,
                Some(Position {
                    offset: i64::MAX - 1,
                    settled: Vec::new()
                }),
                "{text}"
            );
        }
    }
}
