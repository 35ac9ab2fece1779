//! The guards of the protocol by name. Each stops one sequence of events; the simulation leaves out one at a time and must fail.
//!
//! Outside of tests all of them hold, and the compiler removes the question.

/// What must be so before something else is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// CONNACK of a stored session rests on the own state, not on the claim.
    ConnAckAfterOwnState,
    /// A pair is read back before its record is produced.
    ProduceAfterReadBack,
    /// The removal of a pair is read back before PUBCOMP.
    PubCompAfterReadBack,
    /// SUBACK rests on the state that was read back.
    SubAckAfterReadBack,
    /// So does UNSUBACK.
    UnsubAckAfterReadBack,
    /// An outgoing pair is read back before its first PUBLISH.
    PublishAfterReadBack,
    /// "Released" is read back before PUBREL.
    PubRelAfterReadBack,
    /// States and steps have the claim's offset in their keys.
    OwnKeys,
    /// Each claim takes a producer id of its own.
    FreshIds,
    /// A record is produced only when the one before it in its partition is there.
    OneAtATime,
    /// No more than five sequences between the lowest open and the next.
    Span,
    /// A session whose tail lags by more than a minute is given up.
    Minute,
    /// The pair of a will is read back before the will is produced.
    WillAfterReadBack,
    /// A will goes by a pair, and not by one that nobody remembers.
    WillByPair,
    /// A custodian's claim counts only if nobody claimed in the meantime.
    Bid,
    /// A claim that is foreign ends all rights of the owner.
    StopAtForeignClaim,
    /// A fresh claim voids older states that come after it.
    Floor,
    /// What a checkpoint rests on is wanted before it.
    CheckpointAfterSteps,
    /// A checkpoint lies no higher than the positions of those it speaks for who have something open.
    CheckpointWaits,
    /// A checkpoint speaks for nobody who is behind.
    OnlyAtTheTail,
    /// A checkpoint that comes after a claim says nothing to the claimer.
    CheckpointBeforeClaim,
    /// Who was forgotten and is still spoken for holds its checkpoints back.
    HoldForgotten,
    /// Nobody waits any more for who was forgotten: another run begins, which does not speak for it.
    ReleaseByRun,
    /// After a gap the message goes by the next epoch.
    EpochAfterGap,
    /// What cannot be read is claimed by nobody but its client.
    LeaveUnreadable,
    /// A process that stops drops no will.
    WillsOutliveShutdown,
    /// An instance that has forgotten everything speaks for nobody whom it had.
    OwnRun,
}

#[cfg(test)]
thread_local! {
    /// The guard that is left out.
    pub static LEFT_OUT: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}

/// Whether a guard is kept.
#[inline]
pub(super) fn keeps(guard: Guard) -> bool {
    #[cfg(test)]
    return LEFT_OUT.with(|left_out| left_out.get() != Some(guard));
    #[cfg(not(test))]
    {
        let _ = guard;
        true
    }
}
