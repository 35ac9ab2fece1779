//! `claim:<client>`: who owns a session from this offset on. The offset is the session's *generation*.
//!
//! ```json
//! {"v":1,"owner":"proxy-2-5f1c","n":17,"since":1764102345678}
//! ```
//! with `"fresh":true` if its writer answers the client before it has read the claim back, and `"of":1200` if it counts only as long
//! as no other claim came after the one at that offset.

use serde::{Deserialize, Serialize};

use super::record::{Millis, NewRecord, Record, parse};
use super::{Fault, Key, VERSION};

/// The value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    v: u32,
    /// Instance id of the writer. Unique for each run of a process.
    pub owner: String,
    /// Counts the claims of its writer, which knows its own again by it.
    pub n: u64,
    /// When it was written, by the writer's clock.
    pub since: Millis,
    /// Clean start, expiry 0, no will, and nothing was stored: states of earlier generations that come after it are void.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// A custodian's claim: void unless the claim at this offset is still the last when this one is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<i64>,
}

impl Claim {
    /// An unconditional claim.
    pub fn new(owner: &str, n: u64, since: Millis) -> Self {
        Self {
            v: VERSION,
            owner: owner.to_owned(),
            n,
            since,
            fresh: false,
            of: None,
        }
    }

    /// As a record: what every tail needs is in the headers.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] for an absurd instance id.
    pub fn record(&self, client: &str) -> Result<NewRecord, Fault> {
        let mut headers = vec![("v", self.v.to_string()), ("owner", self.owner.clone()), ("n", self.n.to_string())];
        if self.fresh {
            headers.push(("fresh", "1".to_owned()));
        }
        if let Some(of) = self.of {
            headers.push(("of", of.to_string()));
        }
        NewRecord::json(Key::Claim(client), headers, self)
    }

    /// Reads the value.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(value: &[u8]) -> Result<Self, Fault> {
        let claim: Self = parse(value, "a claim")?;
        match claim.of {
            Some(of) if of < 0 => Err(Fault::Damaged("a negative offset")),
            _ => Ok(claim),
        }
    }
}

/// A claim as its headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimHead<'a> {
    /// See [`Claim::owner`].
    pub owner: &'a str,
    /// See [`Claim::n`].
    pub n: u64,
    /// See [`Claim::fresh`].
    pub fresh: bool,
    /// See [`Claim::of`].
    pub of: Option<i64>,
}

impl<'a> ClaimHead<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(record: &Record<'a>) -> Result<Self, Fault> {
        super::seen::version(record)?;
        Ok(Self {
            owner: record.header("owner").ok_or(Fault::Damaged("owner"))?,
            n: record.number("n")?,
            fresh: record.header("fresh").is_some(),
            of: record.header("of").map(super::text::number).transpose()?,
        })
    }
}
