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
