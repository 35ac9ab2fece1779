//! The kinds of keys in `mqtt-sessions`.
//!
//! Claim and state have different keys, and states the claim's offset in theirs, because compaction keeps only the last record of a
//! key: a claim must never erase a state that its writer has not read yet, nor a late write of a former owner the new owner's.

use std::fmt;

use super::Fault;
use super::text::number;

/// Bytes of the longest client id (§1.5.4 of MQTT).
const MAX_ID: usize = 65_535;

/// The key of a record, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// `claim:<client>`: who owns the session.
    Claim(&'a str),
    /// `bid:<client>@<claim offset>`: a custodian wants it, unless somebody has claimed it since.
    Bid(&'a str, i64),
    /// `state:<client>@<claim offset>`: what changes seldom, under the claim with that offset.
    State(&'a str, i64),
    /// `steps:<client>@<claim offset>`: what changes often.
    Steps(&'a str, i64),
    /// `checkpoint:<instance>`: what is settled for all sessions of an instance in this partition.
    Checkpoint(&'a str),
}

impl<'a> Key<'a> {
    /// Reads a key. A client id may hold any character, `@` and `:` included.
    ///
    /// # Errors
    /// [`Fault::Damaged`] for what is no key of this topic.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Damaged("a key that is no text"))?;
        let (kind, rest) = text.split_once(':').ok_or(Fault::Damaged("a key without a kind"))?;
        let key = match kind {
            "claim" => Key::Claim(rest),
            "checkpoint" => Key::Checkpoint(rest),
            "bid" | "state" | "steps" => {
                let (client, claim) = rest.rsplit_once('@').ok_or(Fault::Damaged("a key without a claim offset"))?;
                let claim = number(claim)?;
                match kind {
                    "bid" => Key::Bid(client, claim),
                    "state" => Key::State(client, claim),
                    _ => Key::Steps(client, claim),
                }
            }
            _ => return Err(Fault::Damaged("a key of an unknown kind")),
        };
        match key.id() {
            "" => Err(Fault::Damaged("a key without an id")),
            id if id.len() > MAX_ID => Err(Fault::Damaged("a key with too long an id")),
            _ => Ok(key),
        }
    }

    /// The client id, or the instance id of a checkpoint. The partition is murmur2 of a client id.
    pub fn id(&self) -> &'a str {
        match self {
            Key::Claim(id) | Key::Bid(id, _) | Key::State(id, _) | Key::Steps(id, _) | Key::Checkpoint(id) => id,
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Claim(client) => write!(f, "claim:{client}"),
            Key::Bid(client, claim) => write!(f, "bid:{client}@{claim}"),
            Key::State(client, claim) => write!(f, "state:{client}@{claim}"),
            Key::Steps(client, claim) => write!(f, "steps:{client}@{claim}"),
            Key::Checkpoint(instance) => write!(f, "checkpoint:{instance}"),
        }
    }
}
