//! Records that a share group has locked for this instance.

use super::{
    PartId, Said, State,
    ledger::{Ledger, Locks},
    parts::Part,
};

impl<T: Clone> State<T> {
    /// This instance has records of a partition.
    pub fn begin_locked(&mut self) -> PartId {
        let id = PartId(self.fresh());
        self.parts.insert(id, Part::new(Ledger::Locks(Locks::default())));
        id
    }

    fn locks(part: &mut Part<T>) -> Option<&mut Locks> {
        match &mut part.ledger {
            Ledger::Locks(locks) => Some(locks),
            Ledger::Log(_) => None,
        }
    }

    /// A record that was locked. `is_last`: the group gives it to nobody any more if it is given back, so it stays here as long as anybody
    /// does.
    pub fn push_locked(&mut self, part: PartId, offset: i64, is_last: bool, item: T) {
        if let Some(part) = self.parts.get_mut(&part)
            && Self::locks(part).is_some_and(|locks| locks.start(offset, is_last))
        {
            part.queue.push_back((offset, item));
        }
    }

    /// How many more records members would take now.
    pub fn room_left(&self) -> usize {
        let room: usize = self.members.values().map(|member| member.limit.saturating_sub(member.held)).sum();
        room.saturating_sub(self.waiting())
    }

    fn waiting(&self) -> usize {
        self.parts.values().map(|part| part.queue.len() + part.returned.len()).sum()
    }

    /// What is to be told of records that are not ours any more.
    pub fn said(&mut self) -> Vec<(PartId, Vec<(i64, Said)>)> {
        let mut all = Vec::new();
        for (id, part) in &mut self.parts {
            let said = Self::locks(part).map(|locks| std::mem::take(&mut locks.said)).unwrap_or_default();
            if !said.is_empty() {
                all.push((*id, said));
            }
        }
        all
    }

    /// The lock of a record has run out: whatever is said about it does not count.
    pub fn expire(&mut self, id: PartId, offset: i64) {
        let Some(part) = self.parts.get_mut(&id) else { return };
        if let Some(locks) = Self::locks(part) {
            locks.expire(offset);
        }
        part.queue.retain(|(at, _)| *at != offset);
        part.returned.remove(&offset);
        self.forget(id, |handout| handout.offset == offset);
    }

    /// A member has left: others get what those who are left have no room for.
    pub(super) fn release_excess(&mut self) {
        let room: usize = self.members.values().map(|member| member.limit.saturating_sub(member.held)).sum();
        let mut excess = self.waiting().saturating_sub(room);
        for part in self.parts.values_mut().filter(|part| Self::is_locked(part)) {
            let waiting = part.queue.iter().map(|(offset, _)| *offset).chain(part.returned.keys().copied());
            let mut waiting: Vec<i64> = waiting.collect();
            waiting.sort_unstable();
            for offset in waiting.into_iter().rev().take(excess) {
                if part.ledger.release(offset) {
                    part.queue.retain(|(at, _)| *at != offset);
                    part.returned.remove(&offset);
                    excess -= 1;
                }
            }
        }
    }

    fn is_locked(part: &Part<T>) -> bool {
        matches!(part.ledger, Ledger::Locks(_))
    }

    /// Records that nobody gets any more if this instance gives them back.
    pub fn last(&self) -> usize {
        let locks = |part: &Part<T>| match &part.ledger {
            Ledger::Locks(locks) => locks.last(),
            Ledger::Log(_) => 0,
        };
        self.parts.values().map(locks).sum()
    }

    /// Whether nothing of any partition waits for an acknowledgement.
    pub fn is_all_quiet(&self) -> bool {
        self.parts.keys().all(|part| self.is_quiet(*part))
    }
}
