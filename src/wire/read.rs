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
        self.varint_rest(u32::from(first & 0x7F))
    }

    fn varint_rest(&mut self, mut value: u32) -> Result<u32, ReadError> {
        for shift in [7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if byte == 0 { Err(ReadError::Varint) } else { Ok(value) };
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
        let text = std::str::from_utf8(self.binary()?).map_err(|_| ReadError::Text)?;
        if text.as_bytes().contains(&0) {
            Err(ReadError::Null)
        } else {
            Ok(text)
        }
    }
}
