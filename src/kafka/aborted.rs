//! Which batches of a fetch belong to aborted transactions (KIP-98): none of their records reaches a device.

use super::fetched::Batch;

/// The aborted transactions that touch a fetch. Asked about its batches in their order.
#[derive(Debug)]
pub struct Aborted {
    /// (producer id, first offset), ordered by first offset, the lowest last.
    ahead: Vec<(i64, i64)>,
    open: Vec<i64>,
}

impl Aborted {
    /// `list`: (producer id, first offset) as the broker told them.
    pub fn new(mut list: Vec<(i64, i64)>) -> Self {
        list.sort_unstable_by_key(|(_, first)| std::cmp::Reverse(*first));
        Self {
            ahead: list,
            open: Vec::new(),
        }
    }

    /// Whether the records of this batch are for nobody: aborted, or a marker.
    pub fn covers(&mut self, batch: &Batch) -> bool {
        while let Some((producer, _)) = self.ahead.pop_if(|(_, first)| *first <= batch.last_offset) {
            self.open.push(producer);
        }
        if batch.is_control {
            // The marker ends the transaction; a later one of the same producer may be committed.
            self.open.retain(|producer| *producer != batch.producer_id);
        }
        batch.is_control || (batch.is_transactional && self.open.contains(&batch.producer_id))
    }
}
