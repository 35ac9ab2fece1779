//! How many replicas must have a record before the broker answers.

/// `acks` of a Produce request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// All in-sync replicas; the only one that goes with idempotence.
    #[default]
    All,
    /// The leader alone: lost if it dies before the others have it, and doubled if an answer is lost.
    Leader,
    /// Nobody: the broker does not answer at all.
    None,
}

impl Acks {
    /// All of them.
    pub const EACH: [Self; 3] = [Acks::All, Acks::Leader, Acks::None];

    /// The number that stands for it in requests.
    pub fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}
