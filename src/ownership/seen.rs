//! A record as every tail sees it: by key and headers, without parsing JSON.

use super::claim::ClaimHead;
use super::record::Record;
use super::state::StateHead;
use super::{Fault, Key, VERSION};

/// What a record of the topic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Somebody takes a client id. One that cannot be read is a claim all the same: to stop is the safe side.
    Claim(&'a str, Result<ClaimHead<'a>, Fault>),
    /// The claim at that offset was cleaned up, its session being over; `None` if the record does not say which.
    ClaimGone(&'a str, Option<i64>),
    /// A custodian wants the session whose last claim is at that offset.
    Bid(&'a str, i64, Result<ClaimHead<'a>, Fault>),
    /// It was cleaned up.
    BidGone(&'a str, i64),
    /// A state under the claim at that offset.
    State(&'a str, i64, Result<StateHead<'a>, Fault>),
    /// It was cleaned up.
    StateGone(&'a str, i64),
    /// Steps under the claim at that offset, and their number.
    Steps(&'a str, i64, Result<u64, Fault>),
    /// They were cleaned up.
    StepsGone(&'a str, i64),
    /// A checkpoint of an instance, or its end.
    Checkpoint(&'a str),
    /// Not ours: a key of no known kind.
    Unknown,
}

impl<'a> Seen<'a> {
    /// Looks at key and headers.
    pub fn of(record: &Record<'a>) -> Self {
        let Ok(key) = Key::parse(record.key) else { return Seen::Unknown };
        match (key, record.value.is_some()) {
            (Key::Claim(client), true) => Seen::Claim(client, ClaimHead::parse(record)),
            (Key::Claim(client), false) => Seen::ClaimGone(client, record.number("of").ok()),
            (Key::Bid(client, of), true) => Seen::Bid(client, of, ClaimHead::parse(record)),
            (Key::Bid(client, of), false) => Seen::BidGone(client, of),
            (Key::State(client, claim), true) => Seen::State(client, claim, StateHead::parse(record)),
            (Key::State(client, claim), false) => Seen::StateGone(client, claim),
            (Key::Steps(client, claim), true) => Seen::Steps(client, claim, version(record).and_then(|()| record.number("n"))),
            (Key::Steps(client, claim), false) => Seen::StepsGone(client, claim),
            (Key::Checkpoint(instance), _) => Seen::Checkpoint(instance),
        }
    }
}

/// The version header must be this build's.
pub(super) fn version(record: &Record<'_>) -> Result<(), Fault> {
    match record.number("v")? {
        VERSION => Ok(()),
        other => Err(Fault::UnknownVersion(other)),
    }
}
