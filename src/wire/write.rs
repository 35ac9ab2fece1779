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
    /// Adds the lowest `len` bytes of `bytes`, lowest first; the others are zero. Beyond the eighth nothing is kept whole.
    #[inline]
    fn push(&mut self, bytes: u64, len: usize) {
        debug_assert!(self.len + len <= 8, "no more than eight bytes are put together");
        self.bytes |= bytes << ((8 * self.len) & 63);
        self.len += len;
    }

    /// Adds a byte.
    #[inline]
    pub fn u8(&mut self, byte: u8) {
        self.push(u64::from(byte), 1);
    }

    /// Adds two bytes, big-endian.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.push(u64::from(value.swap_bytes()), 2);
    }

    /// Adds a variable byte integer; the caller has checked [`VARINT_MAX`].
    #[inline]
    pub fn varint(&mut self, value: usize) {
        let value = value as u64;
        if value < 0x80 {
            return self.push(value, 1);
        }
        let two = value & 0x7F | 0x80 | (value << 1 & 0x7F00);
        if value < 0x4000 {
            return self.push(two, 2);
        }
        let three = two | 0x8000 | (value << 2 & 0x7F_0000);
        if value < 0x20_0000 {
            return self.push(three, 3);
        }
        self.push(three | 0x80_0000 | (value << 3 & 0x7F00_0000), 4);
    }

    /// Appends what was added. All eight are copied, which takes one instruction, and those too many are cut off again.
    #[inline]
    pub fn append_to(self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
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

    #[test]
    fn a_short_writes_the_variable_byte_integer_as_the_loop_does() {
        let edges = [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 0x1F_FFFF, 0x20_0000, VARINT_MAX];
        for value in edges.into_iter().chain((0..28).map(|bit| 0x0ABC_DEF1 >> bit)) {
            let (mut short, mut one, mut other) = (Short::default(), vec![], vec![]);
            short.varint(value);
            short.append_to(&mut one);
            varint(value, &mut other);
            assert_eq!(one, other, "{value}");
        }
    }
}
