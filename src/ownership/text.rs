//! The compact text forms inside the JSON of session records: places in mapped topics, producer sequences, bytes.
//!
//! | form | of |
//! |---|---|
//! | `hBKuK8bnSVqDRrlT2pDEKQ/3` | [`Source`]: topic id as Kafka's tools print it, partition |
//! | `hBKuK8bnSVqDRrlT2pDEKQ/3@1234` | [`Place`]: an offset in it |
//! | `hBKuK8bnSVqDRrlT2pDEKQ/3 4711.0.5` | [`Pair`]: producer id, epoch and sequence of a record in it |
//!
//! There is one way to write each value, and parsing takes no other.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::Fault;

/// A partition of a mapped topic. The topic by its id: one that was deleted and made anew is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Kafka's topic id (KIP-516).
    pub topic: [u8; 16],
    /// Partition.
    pub partition: u32,
}

/// A record of a mapped topic, there or still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Where.
    pub source: Source,
    /// Its offset, never negative.
    pub offset: i64,
}

/// The right to append one record once: sent again with the same three numbers, Kafka answers with the first offset (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// Where to.
    pub source: Source,
    /// Producer id, never negative.
    pub producer: i64,
    /// Its epoch, never negative.
    pub epoch: i16,
    /// Sequence in this partition, never negative.
    pub sequence: i32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 22];
        let written = URL_SAFE_NO_PAD.encode_slice(self.topic, &mut text);
        debug_assert_eq!(written, Ok(22), "16 bytes are 22 digits");
        write!(f, "{}/{}", std::str::from_utf8(&text).unwrap_or_default(), self.partition)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.source, self.offset)
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}.{}", self.source, self.producer, self.epoch, self.sequence)
    }
}

/// A number as `to_string` writes it: no sign, no leading zero.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, Fault> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(Fault::Damaged("a number"));
    }
    text.parse().map_err(|_| Fault::Damaged("a number out of range"))
}

impl FromStr for Source {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (id, partition) = text.split_once('/').ok_or(Fault::Damaged("a source without a partition"))?;
        let mut topic = [0; 16];
        // The strict decoder refuses set bits behind the last byte, so an id has one spelling.
        let length = URL_SAFE_NO_PAD
            .decode_slice(id, &mut topic)
            .map_err(|_| Fault::Damaged("a topic id"))?;
        if length != topic.len() {
            return Err(Fault::Damaged("a topic id"));
        }
        Ok(Self {
            topic,
            partition: number(partition)?,
        })
    }
}

impl FromStr for Place {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (source, offset) = text.split_once('@').ok_or(Fault::Damaged("a place without an offset"))?;
        Ok(Self {
            source: source.parse()?,
            offset: number(offset)?,
        })
    }
}

impl Pair {
    /// From its two words.
    pub(super) fn parse(source: &str, numbers: &str) -> Result<Self, Fault> {
        let mut numbers = numbers.split('.');
        let mut next = || numbers.next().ok_or(Fault::Damaged("a pair"));
        let pair = Self {
            source: source.parse()?,
            producer: number(next()?)?,
            epoch: number(next()?)?,
            sequence: number(next()?)?,
        };
        match numbers.next() {
            Some(_) => Err(Fault::Damaged("a pair")),
            None => Ok(pair),
        }
    }

    /// The pairs in what is left of a line; at least one.
    pub(super) fn parse_all<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Vec<Self>, Fault> {
        let mut pairs = Vec::new();
        while let Some(source) = words.next() {
            pairs.push(Self::parse(source, words.next().ok_or(Fault::Damaged("a pair"))?)?);
        }
        match pairs.is_empty() {
            true => Err(Fault::Damaged("no pair")),
            false => Ok(pairs),
        }
    }
}

/// Bytes as standard base64 with padding.
pub(super) fn encode_bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of standard base64 with padding.
pub(super) fn decode_bytes(text: &str) -> Result<Vec<u8>, Fault> {
    STANDARD.decode(text).map_err(|_| Fault::Damaged("base64"))
}
