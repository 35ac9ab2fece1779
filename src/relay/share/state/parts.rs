//! The partitions of a shared subscription that this instance has: what of them waits to be handed out, and what may be committed.

use std::collections::{BTreeMap, VecDeque};

use super::{Handout, PartId, State, Step, ledger::Ledger};
use crate::progress::{Position, Progress};

/// Messages of a partition that may be with members. With as many the metadata of a commit nearly always hold what is settled between them.
pub(super) const MOST_OPEN: usize = 400;

/// One partition.
#[derive(Debug)]
pub(super) struct Part<T> {
    /// All that was read and is not settled is open in it, what waits in the queue included.
    pub(super) ledger: Ledger,
    /// It is about to be given up: nothing of it goes out any more.
    pub(super) closing: bool,
    /// Not handed out yet.
    pub(super) queue: VecDeque<(i64, T)>,
    /// What members have given back.
    pub(super) returned: BTreeMap<i64, T>,
    /// What was told to commit last.
    told: Option<Position>,
}

impl<T> Part<T> {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            closing: false,
            queue: VecDeque::new(),
            returned: BTreeMap::new(),
            told: None,
        }
    }

    /// Whether something of it can be handed out: what has come back in any case.
    pub(super) fn is_ready(&self) -> bool {
        // What is open is part of what is committed; locks are the broker's to count.
        let has_place = || match &self.ledger {
            Ledger::Log(_) => self.ledger.open() - self.queue.len() < MOST_OPEN,
            _ => true,
        };
        !self.closing && (!self.returned.is_empty() || !self.queue.is_empty() && has_place())
    }

    /// The next of it, with its offset.
    pub(super) fn next(&mut self) -> Option<(i64, T)> {
        self.returned.pop_first().or_else(|| self.queue.pop_front())
    }
}

impl<T: Clone> State<T> {
    /// This instance has a partition.
    pub fn begin(&mut self, progress: Progress) -> PartId {
        let id = PartId(self.fresh());
        self.parts.insert(id, Part::new(Ledger::Log(progress)));
        id
    }

    /// Whether more of a partition should be read.
    pub fn wants(&self, part: PartId) -> bool {
        let wants = |part: &Part<T>| !part.closing && part.queue.is_empty() && part.ledger.open() < MOST_OPEN;
        !self.members.is_empty() && self.parts.get(&part).is_some_and(wants)
    }

    /// A message of a partition, in the order of the log.
    pub fn push(&mut self, part: PartId, offset: i64, item: T) {
        if let Some(part) = self.parts.get_mut(&part).filter(|part| !part.closing)
            && part.ledger.start(offset)
        {
            part.queue.push_back((offset, item));
        }
    }

    /// Nothing else below `offset` is for anybody.
    pub fn reach(&mut self, part: PartId, offset: i64) {
        if let Some(part) = self.parts.get_mut(&part).filter(|part| !part.closing)
            && let Ledger::Log(progress) = &mut part.ledger
        {
            progress.reach(offset);
        }
    }

    /// A partition is about to be given up: nothing of it is sent any more, what was sent may still be acknowledged.
    pub fn close(&mut self, part: PartId) {
        if let Some(part) = self.parts.get_mut(&part) {
            part.closing = true;
            part.queue.clear();
            part.returned.clear();
        }
        self.forget(part, |handout| handout.step == Step::Waiting);
    }

    /// Whether nothing of a partition waits for an acknowledgement.
    pub fn is_quiet(&self, part: PartId) -> bool {
        let waits = |handout: &Handout<T>| matches!(handout.step, Step::Sent | Step::Lent { .. });
        !self.out.values().any(|handout| handout.part == part && waits(handout))
    }

    /// Whether a session is about to take something of a partition.
    pub fn lends_of(&self, part: PartId) -> bool {
        let lends = |handout: &Handout<T>| handout.part == part && matches!(handout.step, Step::Lent { .. });
        self.out.values().any(lends)
    }

    /// The log was cut off at `offset`: whatever is said about messages from there on does not count. Those below are what they were.
    pub fn cut_off(&mut self, part: PartId, offset: i64) {
        if let Some(part) = self.parts.get_mut(&part) {
            if let Ledger::Log(progress) = &mut part.ledger {
                progress.cut_off(offset);
            }
            part.queue.retain(|(at, _)| *at < offset);
            part.returned.split_off(&offset);
            part.told = None;
        }
        self.forget(part, |handout| handout.offset >= offset);
    }

    /// A partition is not ours any more: whatever is said about its messages does not count.
    pub fn end(&mut self, part: PartId) {
        self.parts.remove(&part);
        self.forget(part, |_| true);
    }

    pub(super) fn forget(&mut self, part: PartId, which: impl Fn(&Handout<T>) -> bool) {
        let of = self.out.iter().filter(|(_, handout)| handout.part == part && which(handout));
        let of: Vec<_> = of.map(|(id, _)| *id).collect();
        for id in of {
            self.take(id);
        }
    }

    /// The positions of partitions that have moved since they were told last.
    pub fn moved(&mut self) -> Vec<(PartId, Position)> {
        let mut moved = Vec::new();
        for (id, part) in &mut self.parts {
            let Ledger::Log(progress) = &part.ledger else { continue };
            let position = progress.position();
            if part.told.as_ref() != Some(&position) {
                part.told = Some(position.clone());
                moved.push((*id, position));
            }
        }
        moved
    }

    /// What may be committed of one partition.
    pub fn position(&self, part: PartId) -> Option<Position> {
        match &self.parts.get(&part)?.ledger {
            Ledger::Log(progress) => Some(progress.position()),
            Ledger::Locks(_) => None,
        }
    }

    /// What was told of a partition last was not committed.
    pub fn tell_again(&mut self, part: PartId) {
        if let Some(part) = self.parts.get_mut(&part) {
            part.told = None;
        }
    }
}
