//! `claim:<client>`: who owns a session from this offset on. The offset is the session's *generation*: a total order that nobody counts.
//! `bid:<client>@<claim offset>`: a custodian's claim.
//!
//! ```json
//! {"v":1,"owner":"proxy-2-5f1c","n":17,"since":1764102345678}
//! ```
//! with `"fresh":true` if its writer, no operator, answers the client before it has read the claim back, and `"operator":true` if an operator ends the
//! session: its client is told so (0x98), instead of a takeover.
//!
//! A bid counts, and its offset is the next generation, only if the claim it names is still the last when the bid is read. A plain claim
//! of a custodian would take the session away from a client that has come back in the meantime. It has a key of its own for the
//! cleaner's sake: void bids under the claim's key would be the last record of it, and the claim that counts would be gone.

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
    /// Not for a client: an operator ends the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
}

impl Claim {
    /// A claim, or a bid.
    pub fn new(owner: &str, n: u64, since: Millis) -> Self {
        Self {
            v: VERSION,
            owner: owner.to_owned(),
            n,
            since,
            fresh: false,
            operator: false,
        }
    }

    /// As a record: what every tail needs is in the headers.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] for an absurd instance id.
    pub fn record(&self, client: &str) -> Result<NewRecord, Fault> {
        self.under(Key::Claim(client))
    }

    /// As a bid for the session whose last claim is at `of`.
    ///
    /// # Errors
    /// As [`Claim::record`].
    pub fn bid(&self, client: &str, of: i64) -> Result<NewRecord, Fault> {
        self.under(Key::Bid(client, of))
    }

    fn under(&self, key: Key<'_>) -> Result<NewRecord, Fault> {
        let mut headers = vec![("v", self.v.to_string()), ("owner", self.owner.clone()), ("n", self.n.to_string())];
        if self.fresh {
            headers.push(("fresh", "1".to_owned()));
        }
        if self.operator {
            headers.push(("operator", "1".to_owned()));
        }
        NewRecord::json(key, headers, self)
    }

    /// Reads the value.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(value: &[u8]) -> Result<Self, Fault> {
        parse(value, "a claim")
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
    /// See [`Claim::operator`].
    pub operator: bool,
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
            operator: record.header("operator").is_some(),
        })
    }
}
