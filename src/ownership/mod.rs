//! The stored session in the log: records of the compacted topic `mqtt-sessions` in, records wanted and decisions out.
//!
//! Pure: no socket, no task, no clock; time is an argument. An instance has one [`Partition`] for each partition of the topic: its tail
//! feeds [`Partition::read`], its connections and Kafka's answers the other inputs, and what [`Partition::poll`] gives is done in order.
//!
//! The rules, each with the sequence of events it guards against, are in `guard` by name. The two that carry the rest:
//! * **The later claim wins.** Whoever reads a claim behind its own does no more for that client. A claimer writes the state it found
//!   under its own claim, and answers when it has read *that* back: only its own state makes its choice binding for those after it.
//! * **Nothing is answered that is not read back.** Whatever lets the client forget something leaves only when the record it rests on
//!   has been read by the own tail with no foreign claim before it. What a former owner writes late, nobody was told of.
//!
//! The formats, each with an example in its file: `key`, `claim`, `state` (with `will`), `steps` (with `walk`), `checkpoint`, and `text` for what is
//! compact inside them; `seen` is a record as every tail sees it, by key and headers. `index` is what an instance keeps of all sessions.
//! `partition` is the machine (with `requests`), `owner` one client id in it: `adopt` (what a claimer makes of what it finds), `lifetime`, `inbound`,
//! `outbound`, `sending` (wills); `checkpoints` spares them the writes of positions; `custodian` looks after what is nobody's.
//! `roster` is what an operator sees.

mod adopt;
mod arriving;
mod change;
mod checkpoint;
mod checkpoints;
mod claim;
mod custodian;
mod fault;
mod guard;
mod inbound;
mod index;
mod key;
mod lifetime;
mod outbound;
mod output;
mod owner;
mod partition;
mod record;
mod requests;
mod roster;
mod seen;
mod sending;
mod slab;
mod state;
mod steps;
mod text;
mod walk;
mod will;

#[cfg(test)]
pub use arriving::LOOKED_AT;
pub use change::Change;
pub use checkpoint::Checkpoint;
pub use claim::{Claim, ClaimHead};
pub use fault::Fault;
pub use guard::Guard;
#[cfg(test)]
pub use guard::LEFT_OUT;
pub use inbound::MOST_RECORDS;
pub use index::{Entry, Index};
pub use key::Key;
pub use output::{ConnectionId, End, Message, Offer, Outcome, Output, Targets, Tenure};
pub use partition::{Partition, Settings};
pub use record::{Millis, NewRecord, Record};
pub use roster::{Listed, Roster, Shown, Standing};
pub use seen::Seen;
pub use state::{Body, NEVER, State, StateHead, StoredSubscription};
pub use steps::{Outgoing, Steps};
pub use text::{Pair, Place, Source};
pub use walk::{Walk, Walks};
pub use will::{SendingWill, StoredWill};

/// The version of the records this build writes and reads.
pub const VERSION: u32 = 1;
/// Bytes that the steps of a session may take, and as many the rest of its state. Each half has its own bound, so a state, which carries
/// the steps, can always be written where its two halves could.
pub const MAX_PART: usize = 256 << 10;
/// Bytes of the largest value; more is refused, written and read.
pub const MAX_VALUE: usize = 2 * MAX_PART;
