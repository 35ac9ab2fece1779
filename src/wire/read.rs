//! A reader over bytes that checks every length: big-endian integers, MQTT's variable byte integer and its strings.

/// What a reader can find wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The bytes end within a field.
    Short,
    /// A variable byte integer of more than four bytes, or longer than it need be [MQTT-1.5.5-1].
    Varint,
    /// Text that is not UTF-8 [MQTT-1.5.4-1].
    Text,
    /// Text that holds U+0000 [MQTT-1.5.4-2].
    Null,
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// The top bit of some byte is set if a byte of `word` is zero.
#[inline]
fn zero_byte(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// Whether `found` is not zero for any eight bytes of `bytes`. Words, for this is looked at for each topic; the last word may overlap
/// the one before it, and what is shorter than a word is filled up with a harmless letter.
#[inline]
fn any_word(bytes: &[u8], found: impl Fn(u64) -> u64) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        let padded = bytes.iter().fold(ONES * u64::from(b'x'), |word, byte| word << 8 | u64::from(*byte));
        return found(padded) != 0;
    };
    let (words, _) = bytes.as_chunks::<8>();
    let all = words.iter().fold(0, |all, word| all | found(u64::from_le_bytes(*word)));
    all | found(u64::from_le_bytes(*last)) != 0
}

/// Whether `bytes` hold U+0000.
#[inline]
fn holds_null(bytes: &[u8]) -> bool {
    any_word(bytes, zero_byte)
}

/// Whether `bytes` hold what no topic name may: U+0000, `+` or `#`. The two wildcards differ in one bit.
#[inline]
pub fn holds_null_or_wildcard(bytes: &[u8]) -> bool {
    any_word(bytes, |word| {
        zero_byte(word) | zero_byte((word & !(ONES << 3)) ^ (ONES * b'#' as u64))
    })
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ReadError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ReadError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_be_bytes)
    }

    /// MQTT's variable byte integer, 0 to 268,435,455 (§1.5.5).
    #[inline]
    pub fn varint(&mut self) -> Result<u32, ReadError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        match self.varint_rest(u32::from(first & 0x7F))? {
            (_, 0) => Err(ReadError::Varint),
            (value, _) => Ok(value),
        }
    }

    /// The same, which may be longer than it need be: up to four bytes.
    pub fn padded_varint(&mut self) -> Result<u32, ReadError> {
        match self.u8()? {
            first @ 0..0x80 => Ok(u32::from(first)),
            first => self.varint_rest(u32::from(first & 0x7F)).map(|(value, _)| value),
        }
    }

    /// The value and its last byte.
    fn varint_rest(&mut self, mut value: u32) -> Result<(u32, u8), ReadError> {
        for shift in [7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok((value, byte));
            }
        }
        Err(ReadError::Varint)
    }

    /// Two bytes of length and as many bytes (§1.5.6).
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], ReadError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// The same as text (§1.5.4).
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, ReadError> {
        let text = self.utf8()?;
        if holds_null(text.as_bytes()) {
            Err(ReadError::Null)
        } else {
            Ok(text)
        }
    }

    /// The same, but U+0000 is left for the caller to find.
    #[inline]
    pub fn utf8(&mut self) -> Result<&'a str, ReadError> {
        std::str::from_utf8(self.binary()?).map_err(|_| ReadError::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_looked_for_are_found_wherever_they_stand() {
        for length in 0..40 {
            let mut bytes = vec![b'a'; length];
            assert!(!holds_null(&bytes) && !holds_null_or_wildcard(&bytes));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    assert_eq!(holds_null(&bytes), byte == 0, "{byte} at {at} of {length}");
                    assert_eq!(
                        holds_null_or_wildcard(&bytes),
                        b"\0+#".contains(&byte),
                        "{byte} at {at} of {length}"
                    );
                }
                bytes[at] = 0xC3;
            }
        }
    }
}
