//! What is settled of a partition: as a position in its log that a consumer group commits, or record by record, as a share group has it.

use std::collections::BTreeMap;

use crate::progress::Progress;

/// Of one partition.
#[derive(Debug)]
pub(super) enum Ledger {
    Log(Progress),
    Locks(Locks),
}

/// Records that are locked for this instance, and what is to be said of others.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Whether nobody would get it if it were given back.
    open: BTreeMap<i64, bool>,
    pub(super) said: Vec<(i64, Said)>,
}

/// What is said of a record of a share group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is done.
    Done,
    /// Another gets it.
    Released,
}

impl Ledger {
    /// Records that were started and not settled.
    pub(super) fn open(&self) -> usize {
        match self {
            Self::Log(progress) => progress.open(),
            Self::Locks(locks) => locks.open.len(),
        }
    }

    /// Starts a record. False: nothing is to be done for it.
    pub(super) fn start(&mut self, offset: i64) -> bool {
        match self {
            Self::Log(progress) => progress.start(offset),
            Self::Locks(locks) => locks.start(offset, false),
        }
    }

    pub(super) fn settle(&mut self, offset: i64) {
        match self {
            Self::Log(progress) => _ = progress.settle(offset),
            Self::Locks(locks) => {
                if locks.open.remove(&offset).is_some() {
                    locks.said.push((offset, Said::Done));
                }
            }
        }
    }

    /// Lets others have it. False: it stays, since there are no others, or it would be its end.
    pub(super) fn release(&mut self, offset: i64) -> bool {
        let Self::Locks(locks) = self else { return false };
        if locks.open.get(&offset) != Some(&false) {
            return false;
        }
        locks.open.remove(&offset);
        locks.said.push((offset, Said::Released));
        true
    }
}

impl Locks {
    /// A record is locked for us. False: it was already, and whoever has it goes on.
    pub(super) fn start(&mut self, offset: i64, is_last: bool) -> bool {
        self.open.insert(offset, is_last).is_none()
    }

    /// It is not any more.
    pub(super) fn expire(&mut self, offset: i64) {
        self.open.remove(&offset);
    }

    /// Those that nobody gets if they are given back.
    pub(super) fn last(&self) -> usize {
        self.open.values().filter(|is_last| **is_last).count()
    }
}
