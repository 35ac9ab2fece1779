//! Appending to a `Vec<u8>`: MQTT's variable byte integer and its strings.

/// Largest value of a variable byte integer (§1.5.5).
pub const VARINT_MAX: usize = 268_435_455;

/// Bytes that a variable byte integer takes, 1 to 4.
#[inline]
pub fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer; the caller has checked [`VARINT_MAX`].
#[inline]
pub fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends two bytes of length and the bytes. The caller has checked that they are no more than 65,535.
#[inline]
pub fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Up to eight bytes that are put together in a register and appended at once: each append to a `Vec` checks for room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Short {
    bytes: u64,
    len: usize,
}

impl Short {
    /// Adds a byte; the ninth is lost.
    #[inline]
    pub fn u8(&mut self, byte: u8) {
        self.bytes |= u64::from(byte).checked_shl(8 * self.len as u32).unwrap_or(0);
        self.len += 1;
    }

    /// Adds two bytes, big-endian.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        value.to_be_bytes().into_iter().for_each(|byte| self.u8(byte));
    }

    /// Adds a variable byte integer; the caller has checked [`VARINT_MAX`].
    #[inline]
    pub fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// Appends what was added. All eight are copied, which takes one instruction, and those too many are cut off again.
    #[inline]
    pub fn append_to(self, out: &mut Vec<u8>) {
        let end = out.len() + self.len.min(8);
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_is_appended_as_it_was_put_together() {
        let mut short = Short::default();
        short.u8(0x32);
        short.varint(VARINT_MAX);
        short.u16(0x0102);
        let mut out = vec![9];
        short.append_to(&mut out);
        assert_eq!(out, [9, 0x32, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2]);
        Short::default().append_to(&mut out);
        assert_eq!(out.len(), 8);
    }
}
