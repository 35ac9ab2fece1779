//! Confluent's framing of values: a zero byte, the schema's id in four bytes, and for Protobuf which message of the schema it is.

use crate::wire::varint;

/// What such a value begins with.
const MAGIC: u8 = 0;
/// How deep a message may lie in others, and how many a schema may have beside each other.
const DEEPEST: i32 = 32;
const MOST: i32 = 65_536;

/// A value taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// Of the schema that it was written with.
    pub id: u32,
    /// All behind the id.
    pub rest: &'a [u8],
}

/// A value has no such frame: no zero byte and id in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unframed;

impl<'a> Framed<'a> {
    /// Takes a value apart.
    ///
    /// # Errors
    /// It does not begin with a zero byte and four more.
    pub fn read(value: &'a [u8]) -> Result<Self, Unframed> {
        match *value {
            [MAGIC, a, b, c, d, ref rest @ ..] => Ok(Self {
                id: u32::from_be_bytes([a, b, c, d]),
                rest,
            }),
            _ => Err(Unframed),
        }
    }
}

/// Begins a value.
pub(super) fn put_id(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Appends which message of a schema a value is: the places from the outermost in. The first of all is a single zero.
pub(super) fn put_message(places: &[i32], out: &mut Vec<u8>) {
    if places == [0] {
        return out.push(0);
    }
    varint::put(places.len() as i64, out);
    places.iter().for_each(|place| varint::put(i64::from(*place), out));
}

/// Takes from the front which message of a schema a value is; `None`: it is no list of places.
pub(super) fn take_message(bytes: &mut &[u8]) -> Option<Vec<i32>> {
    let count = varint::take_int(bytes)?;
    if count == 0 {
        return Some(vec![0]);
    }
    let places = (0..count.min(DEEPEST + 1)).map(|_| varint::take_int(bytes).filter(|place| (0..MOST).contains(place)));
    let places: Option<Vec<i32>> = places.collect();
    places.filter(|_| (1..=DEEPEST).contains(&count))
}
