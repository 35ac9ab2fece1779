//! Kafka's variable-length integers: zigzag, seven bits a byte, least significant first (KIP-98 record format).

/// Bytes that a value takes, 1 to 10.
#[inline]
pub fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    match zigzag {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => (70 - zigzag.leading_zeros() as usize) / 7,
    }
}

/// Appends a value. One and two bytes, which is what most fields of a record take, have a short way of their own.
#[inline]
pub fn put(value: i64, out: &mut Vec<u8>) {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    if zigzag < 0x80 {
        out.push(zigzag as u8);
    } else if zigzag < 0x4000 {
        out.extend_from_slice(&[zigzag as u8 | 0x80, (zigzag >> 7) as u8]);
    } else {
        put_slowly(zigzag, out);
    }
}

fn put_slowly(mut zigzag: u64, out: &mut Vec<u8>) {
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Takes a value of up to 64 bits from the front; `None` if the bytes end in it or it is longer than ten bytes.
#[inline]
pub fn take_long(bytes: &mut &[u8]) -> Option<i64> {
    match take_short(bytes) {
        Some(value) => Some(i64::from(value)),
        None => take_slowly(bytes),
    }
}

/// Takes a value of one or two bytes; nothing is taken if it is longer.
#[inline]
fn take_short(bytes: &mut &[u8]) -> Option<i32> {
    let zigzag = match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            i32::from(first)
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            i32::from(first & 0x7F) | i32::from(second) << 7
        }
        _ => return None,
    };
    Some(zigzag >> 1 ^ -(zigzag & 1))
}

fn take_slowly(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        // The tenth byte has room for one bit.
        if at == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Some(unzigzag(value));
        }
    }
    None
}

/// Takes a value that must fit 32 bits.
#[inline]
pub fn take_int(bytes: &mut &[u8]) -> Option<i32> {
    match take_short(bytes) {
        Some(value) => Some(value),
        None => i32::try_from(take_slowly(bytes)?).ok(),
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (64, &[128, 1]),
            (-64, &[127]),
            (-65, &[129, 1]),
            (300, &[216, 4]),
        ] {
            let mut out = vec![];
            put(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(len(value), bytes.len(), "{value}");
        }
    }

    #[test]
    fn every_edge_comes_back() {
        for shift in 0..63 {
            for value in [(1i64 << shift) - 1, 1 << shift, -(1i64 << shift), i64::MAX, i64::MIN] {
                let mut out = vec![];
                put(value, &mut out);
                assert_eq!(out.len(), len(value));
                let mut rest = &out[..];
                assert_eq!(take_long(&mut rest), Some(value));
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_refused() {
        assert_eq!(take_long(&mut &[][..]), None);
        assert_eq!(take_long(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take_long(&mut &[0xFF; 11][..]), None);
        let mut eleven = [0x80u8; 11];
        eleven[10] = 0;
        assert_eq!(take_long(&mut &eleven[..]), None);
        let mut big = vec![];
        put(i64::from(i32::MAX) + 1, &mut big);
        assert_eq!(take_int(&mut &big[..]), None);
    }
}
