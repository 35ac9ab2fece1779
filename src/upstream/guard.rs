//! A look over an answer before it is decoded: no count in it may promise more than the bytes that are there.
//!
//! kafka-protocol's decoders reserve memory for as many elements as a count says, so eight bytes of garbage could ask for gigabytes
//! and end the process. This walks the layout of the answers that we take, without building anything.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use Field::{Array, Fixed, Records, Tags, Text};

const GARBLED: &str = "an answer whose counts do not fit its length";

/// A piece of a layout, present from one version to another (inclusive).
struct Part {
    from: i16,
    to: i16,
    field: Field,
}

enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A length and so many bytes; null allowed.
    Text,
    /// The same with a length of four bytes where the layout is not compact.
    Records,
    /// A count and so many elements; null allowed.
    Array(&'static [Part]),
    /// Tagged fields; not present in old layouts. Known tags hold the given layout.
    Tags(&'static [(u32, &'static [Part])]),
}

const fn part(from: i16, to: i16, field: Field) -> Part {
    Part { from, to, field }
}

const fn all(field: Field) -> Part {
    Part {
        from: 0,
        to: i16::MAX,
        field,
    }
}

const LAST: i16 = i16::MAX;
const NODES: &[Part] = &[all(Array(&[all(Fixed(4)), all(Text), all(Fixed(4)), all(Text), all(Tags(&[]))]))];

const PRODUCE: &[Part] = &[
    all(Array(&[
        part(0, 12, Text),
        part(13, LAST, Fixed(16)),
        all(Array(&[
            all(Fixed(4 + 2 + 8)),
            part(2, LAST, Fixed(8)),
            part(5, LAST, Fixed(8)),
            part(8, LAST, Array(&[all(Fixed(4)), all(Text), all(Tags(&[]))])),
            part(8, LAST, Text),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    part(1, LAST, Fixed(4)),
    all(Tags(&[(0, NODES)])),
];

const FETCH: &[Part] = &[
    part(1, LAST, Fixed(4)),
    part(7, LAST, Fixed(6)),
    all(Array(&[
        part(0, 12, Text),
        part(13, LAST, Fixed(16)),
        all(Array(&[
            all(Fixed(4 + 2 + 8)),
            part(4, LAST, Fixed(8)),
            part(5, LAST, Fixed(8)),
            part(4, LAST, Array(&[all(Fixed(16)), all(Tags(&[]))])),
            part(11, LAST, Fixed(4)),
            all(Records),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    all(Tags(&[(0, NODES)])),
];

const METADATA: &[Part] = &[
    part(3, LAST, Fixed(4)),
    all(Array(&[
        all(Fixed(4)),
        all(Text),
        all(Fixed(4)),
        part(1, LAST, Text),
        all(Tags(&[])),
    ])),
    part(2, LAST, Text),
    part(1, LAST, Fixed(4)),
    all(Array(&[
        all(Fixed(2)),
        all(Text),
        part(10, LAST, Fixed(16)),
        part(1, LAST, Fixed(1)),
        all(Array(&[
            all(Fixed(2 + 4 + 4)),
            part(7, LAST, Fixed(4)),
            all(Array(&[all(Fixed(4))])),
            all(Array(&[all(Fixed(4))])),
            part(5, LAST, Array(&[all(Fixed(4))])),
            all(Tags(&[])),
        ])),
        part(8, LAST, Fixed(4)),
        all(Tags(&[])),
    ])),
    part(8, 10, Fixed(4)),
    part(13, LAST, Fixed(2)),
    all(Tags(&[])),
];

const LIST_OFFSETS: &[Part] = &[
    part(2, LAST, Fixed(4)),
    all(Array(&[
        all(Text),
        all(Array(&[all(Fixed(4 + 2 + 8 + 8)), part(4, LAST, Fixed(4)), all(Tags(&[]))])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

const FEATURES: &[Part] = &[all(Array(&[all(Text), all(Fixed(4)), all(Tags(&[]))]))];
const API_VERSIONS: &[Part] = &[
    all(Fixed(2)),
    all(Array(&[all(Fixed(6)), all(Tags(&[]))])),
    part(1, LAST, Fixed(4)),
    all(Tags(&[(0, FEATURES), (2, FEATURES)])),
];

/// Checks the body of an answer (behind its header). Answers without arrays need none.
pub(crate) fn check(body: &Bytes, api: ApiKey, version: i16) -> Result<(), &'static str> {
    let (layout, flexible) = match api {
        ApiKey::Produce => (PRODUCE, version >= 9),
        ApiKey::Fetch => (FETCH, version >= 12),
        ApiKey::Metadata => (METADATA, version >= 9),
        ApiKey::ListOffsets => (LIST_OFFSETS, version >= 6),
        ApiKey::ApiVersions => (API_VERSIONS, version >= 3),
        _ => return Ok(()),
    };
    let mut walk = Walk {
        rest: body,
        version,
        flexible,
    };
    walk.parts(layout).ok_or(GARBLED)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
}

impl Walk<'_> {
    fn parts(&mut self, parts: &[Part]) -> Option<()> {
        let version = self.version;
        for part in parts.iter().filter(|p| p.from <= version && version <= p.to) {
            match &part.field {
                Fixed(bytes) => self.skip(*bytes)?,
                Text => self.sized(2)?,
                Records => self.sized(4)?,
                Array(element) => {
                    let count = self.length(4)?;
                    // An element is at least a byte, so a count that passes ends at the end of the bytes.
                    if count > self.rest.len() {
                        return None;
                    }
                    for _ in 0..count {
                        self.parts(element)?;
                    }
                }
                Tags(known) => self.tags(known)?,
            }
        }
        Some(())
    }

    fn tags(&mut self, known: &[(u32, &'static [Part])]) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).ok()?;
            let content = self.rest.get(..size)?;
            if let Some((_, layout)) = known.iter().find(|(known, _)| *known == tag) {
                Walk {
                    rest: content,
                    version: self.version,
                    flexible: true,
                }
                .parts(layout)?;
            }
            self.skip(size)?;
        }
        Some(())
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
