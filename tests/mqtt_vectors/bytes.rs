//! Packets written by hand: bytes in hexadecimal, and a few signs for what would be counted wrongly.
//!
//! `*` is the remaining length of all that follows, `t:abc` text behind its length, `r:abc` text alone,
//! `( … )` a property block behind its length.

/// The bytes that a line stands for.
pub fn bytes(line: &str) -> Vec<u8> {
    let (mut out, mut open) = (vec![], vec![]);
    let mut whole = false;
    for word in line.split_whitespace() {
        match (word, word.split_once(':')) {
            ("*", _) => whole = true,
            ("(", _) => open.push(out.len()),
            (")", _) => {
                let start = open.pop().expect("a block is opened before it is closed");
                let length = varint(out.len() - start);
                out.splice(start..start, length);
            }
            (_, Some(("t", text))) => {
                out.extend((text.len() as u16).to_be_bytes());
                out.extend(text.as_bytes());
            }
            (_, Some(("r", text))) => out.extend(text.as_bytes()),
            _ => out.push(u8::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{word} in {line}"))),
        }
    }
    assert!(open.is_empty(), "{line}");
    if whole {
        let length = varint(out.len() - 1);
        out.splice(1..1, length);
    }
    out
}

/// A variable byte integer, digit by digit.
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut out = vec![];
    loop {
        let digit = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            out.push(digit);
            return out;
        }
        out.push(digit + 128);
    }
}
