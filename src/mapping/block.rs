//! The encoded property block of a PUBLISH (MQTT 5 §2.2.2): read for its user properties, written for subscribers.

/// User properties of an encoded, already validated PUBLISH property block, in their order.
#[derive(Clone, Debug)]
pub(super) struct UserPairs<'a>(pub(super) &'a [u8]);

impl<'a> UserPairs<'a> {
    fn binary(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for UserPairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&id, rest) = self.0.split_first()?;
            self.0 = rest;
            match id {
                0x26 => {
                    let (name, value) = (self.binary()?, self.binary()?);
                    return Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?));
                }
                0x01 => self.0 = self.0.get(1..)?,
                0x23 => self.0 = self.0.get(2..)?,
                0x02 => self.0 = self.0.get(4..)?,
                0x03 | 0x08 | 0x09 => drop(self.binary()?),
                0x0B => self.0 = self.0.get(self.0.iter().position(|byte| *byte < 0x80)? + 1..)?,
                _ => return None,
            }
        }
    }
}

pub(super) fn put_format(out: &mut Vec<u8>, utf8: bool) {
    out.extend_from_slice(&[0x01, u8::from(utf8)]);
}

/// Response topic 0x08, correlation data 0x09, content type 0x03; false if it is longer than 65,535 bytes.
pub(super) fn put_binary(out: &mut Vec<u8>, id: u8, bytes: &[u8]) -> bool {
    let Ok(len) = u16::try_from(bytes.len()) else { return false };
    out.push(id);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    true
}

/// A user property; false if it cannot be one (too long, or U+0000 in it [MQTT-1.5.4-2]).
pub(super) fn put_user(out: &mut Vec<u8>, name: &str, value: &str) -> bool {
    if name.contains('\0') || value.contains('\0') || name.len() > 65_535 || value.len() > 65_535 {
        return false;
    }
    put_binary(out, 0x26, name.as_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
    true
}
