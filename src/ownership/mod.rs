//! The stored session in the log: records of the compacted topic `mqtt-sessions` in, records wanted and decisions out.
//!
//! Pure: no socket, no task, no clock; time is an argument.
//!
//! The formats, each with an example in its file: `key`, `claim`, `state` (with `will`), `steps`, `checkpoint`, and `text` for what is
//! compact inside them; `seen` is a record as every tail sees it, by key and headers. `index` is what an instance keeps of all
//! sessions in memory.

mod checkpoint;
mod claim;
mod fault;
mod index;
mod key;
mod record;
mod seen;
mod slab;
mod state;
mod steps;
mod text;
mod will;

pub use checkpoint::Checkpoint;
pub use claim::{Claim, ClaimHead};
pub use fault::Fault;
pub use index::{Change, Entry, Index};
pub use key::Key;
pub use record::{Millis, NewRecord, Record};
pub use seen::Seen;
pub use state::{Body, NEVER, State, StateHead, StoredSubscription};
pub use steps::{Outgoing, Steps};
pub use text::{Pair, Place, Source};
pub use will::{SendingWill, StoredWill};

/// The version of the records this build writes and reads.
pub const VERSION: u32 = 1;
/// Bytes of the largest value; more is refused, written and read.
pub const MAX_VALUE: usize = 256 << 10;
