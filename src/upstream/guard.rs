//! A look over an answer before it is decoded: no count in it may promise more than the bytes that are there, and what it would
//! become in memory has a bound.
//!
//! kafka-protocol's decoders reserve memory for as many elements as a count says, so eight bytes of garbage could ask for gigabytes
//! and end the process. They also read a tagged field by its own layout, whatever size was said for it, so a wrong size would let
//! them see other counts than we do. And even honest counts grow: three bytes can become an element of a hundred. This walks the
//! layout of the answer (`layouts`), without building anything.

use kafka_protocol::messages::ApiKey;

use super::layouts::{Field, Layout, Part};

const GARBLED: &str = "an answer whose counts do not fit its length";
const TOO_MUCH: &str = "an answer that would take more memory than any may";

/// What one answer may take in memory beside its own bytes. A cluster's 200,000 partitions in one answer need about half of it.
pub(super) const MOST_MEMORY: usize = 64 * 1024 * 1024;
/// What the first unknown tagged field of a structure costs (a node of a B-tree), and each further one.
const FIRST_TAG: usize = 512;
const NEXT_TAG: usize = 128;

/// Checks a frame from its correlation id on. Gives an upper bound of the memory that decoding it takes.
pub(super) fn check(frame: &[u8], layout: &Layout, version: i16) -> Result<usize, &'static str> {
    let mut walk = Walk {
        rest: frame,
        version,
        flexible: version >= layout.flexible,
        memory: 0,
    };
    let walked = walk.header(layout.api).and_then(|()| walk.parts(layout.body));
    if walk.memory > MOST_MEMORY {
        return Err(TOO_MUCH);
    }
    match walked {
        Some(()) if walk.rest.is_empty() => Ok(walk.memory),
        Some(()) => Err("an answer with bytes left over"),
        None => Err(GARBLED),
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    memory: usize,
}

impl Walk<'_> {
    /// The correlation id, and tagged fields in the newer of the two headers; ApiVersions keeps the older one for ever (KIP-511).
    fn header(&mut self, api: ApiKey) -> Option<()> {
        self.skip(4)?;
        if api == ApiKey::ApiVersions { Some(()) } else { self.tags(&[]) }
    }

    fn parts(&mut self, parts: &[Part]) -> Option<()> {
        let version = self.version;
        for part in parts.iter().filter(|p| p.from <= version && version <= p.to) {
            match &part.field {
                Field::Fixed(bytes) => self.skip(*bytes)?,
                Field::Text => self.sized(2)?,
                Field::Records => self.sized(4)?,
                Field::Array(size, element) => self.array(*size, element)?,
                Field::Nullable(parts) => {
                    let there = self.rest.first()?.cast_signed() >= 0;
                    self.skip(1)?;
                    if there {
                        self.parts(parts)?;
                    }
                }
                Field::Tags(known) => self.tags(known)?,
            }
        }
        Some(())
    }

    fn array(&mut self, size: usize, element: &[Part]) -> Option<()> {
        let count = self.length(4)?;
        // An element is at least a byte, so a count that passes ends at the end of the bytes.
        if count > self.rest.len() {
            return None;
        }
        self.charge(count * size)?;
        for _ in 0..count {
            self.parts(element)?;
        }
        Some(())
    }

    fn tags(&mut self, known: &[(u32, &'static [Part])]) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        let mut price = FIRST_TAG;
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).ok()?;
            let (content, behind) = self.rest.split_at_checked(size)?;
            if let Some((_, layout)) = known.iter().find(|(known, _)| *known == tag) {
                self.rest = content;
                self.parts(layout)?;
                if !self.rest.is_empty() {
                    return None;
                }
            } else {
                self.charge(price)?;
                price = NEXT_TAG;
            }
            self.rest = behind;
        }
        Some(())
    }

    /// Adds to the memory it would take; `None` once that is too much, so that the walk ends, too.
    fn charge(&mut self, bytes: usize) -> Option<()> {
        self.memory = self.memory.saturating_add(bytes);
        (self.memory <= MOST_MEMORY).then_some(())
    }

    fn sized(&mut self, wide: usize) -> Option<()> {
        let length = self.length(wide)?;
        self.skip(length)
    }

    /// A length or count; null counts as 0.
    fn length(&mut self, wide: usize) -> Option<usize> {
        if self.flexible {
            return usize::try_from(self.varint()?.saturating_sub(1)).ok();
        }
        let bytes = self.rest.get(..wide)?;
        let length = match wide {
            2 => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
            _ => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
        };
        self.skip(wide)?;
        usize::try_from(length.max(0)).ok()
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for at in 0..5 {
            let byte = *self.rest.first()?;
            self.skip(1)?;
            value |= u32::from(byte & 0x7f).checked_shl(7 * at)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}
