//! What a record of the topic means for an instance that reads it.

use super::claim::ClaimHead;

/// What a record did to the index, for those who must act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A claim or bid that counts: whoever owned the client before does no more.
    Claimed(&'a str, Option<ClaimHead<'a>>),
    /// A bid that came too late.
    VoidBid(&'a str, i64),
    /// A state under a claim counts from now on: its number, and the older claim whose state does no more.
    State(&'a str, i64, Option<u64>, Option<i64>),
    /// Steps under the same claim as the state that counts, and their number.
    Steps(&'a str, i64, u64),
    /// A state or steps under an older claim than the state that counts, or under none: nobody needs it.
    Stray(&'a str, i64),
    /// The state of that claim was cleaned up.
    Cleaned(&'a str, i64),
    /// A bid was cleaned up.
    BidCleaned(&'a str, i64),
    /// A checkpoint of an instance, or its end.
    Checkpoint(&'a str),
    /// Nothing anybody must act on.
    Nothing,
}
