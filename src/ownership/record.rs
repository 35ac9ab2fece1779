//! Records of `mqtt-sessions` as they are read and as they are to be written.

use super::{Fault, Key, MAX_VALUE};

/// Milliseconds since 1970. Expiry and will delay outlive processes, so this room has no other clock.
pub type Millis = u64;

/// A record that was read; borrowed from the batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// The broker's (LogAppendTime).
    pub timestamp: Millis,
    /// Key.
    pub key: &'a [u8],
    /// Headers in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// The first header of that name, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.headers.iter().find(|(known, _)| *known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The header as a number, written as we write it.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, Fault> {
        super::text::number(self.header(name).ok_or(Fault::Damaged(name))?)
    }
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Key.
    pub key: String,
    /// Headers in their order.
    pub headers: Vec<(&'static str, String)>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl NewRecord {
    /// The end of a key.
    pub fn tombstone(key: Key<'_>) -> Self {
        Self {
            key: key.to_string(),
            headers: Vec::new(),
            value: None,
        }
    }

    /// The end of the claim at that offset, which the cleaner need not know but every tail: a later claim is not meant.
    pub fn claim_tombstone(client: &str, claim: i64) -> Self {
        Self {
            headers: vec![("of", claim.to_string())],
            ..Self::tombstone(Key::Claim(client))
        }
    }

    /// A record with a JSON value.
    ///
    /// # Errors
    /// [`Fault::TooLarge`].
    pub(super) fn json<T: serde::Serialize>(key: Key<'_>, headers: Vec<(&'static str, String)>, value: &T) -> Result<Self, Fault> {
        let value = serde_json::to_vec(value).map_err(|_| Fault::Damaged("a value without a JSON form"))?;
        if value.len() > MAX_VALUE {
            return Err(Fault::TooLarge(value.len()));
        }
        Ok(Self {
            key: key.to_string(),
            headers,
            value: Some(value),
        })
    }
}

/// Reads a JSON value of the version this build writes.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(value: &'a [u8], what: &'static str) -> Result<T, Fault> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u32,
    }
    if value.len() > MAX_VALUE {
        return Err(Fault::TooLarge(value.len()));
    }
    // The version first: what a later build writes need not have another word that we know.
    match serde_json::from_slice::<Versioned>(value) {
        Ok(Versioned { v: super::VERSION }) => {}
        Ok(Versioned { v }) => return Err(Fault::UnknownVersion(v)),
        Err(_) => return Err(Fault::Damaged(what)),
    }
    serde_json::from_slice(value).map_err(|_| Fault::Damaged(what))
}
