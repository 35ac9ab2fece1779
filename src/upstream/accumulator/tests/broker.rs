//! A model of the broker's side.

use std::collections::{HashMap, HashSet, VecDeque};

use super::super::{Answer, Producer};

/// What one partition of a broker remembers, as measured against Apache Kafka (see the module's head).
#[derive(Default)]
pub(super) struct Broker {
    pub(super) log: Vec<u32>,
    pub(super) producers: HashMap<i64, Remembered>,
    /// Ids that it refuses for ever.
    pub(super) dead: HashSet<i64>,
}

pub(super) struct Remembered {
    pub(super) epoch: i16,
    /// (first sequence, last sequence, first offset) of the last five batches.
    pub(super) batches: VecDeque<(i32, i32, i64)>,
}

impl Broker {
    pub(super) fn append(&mut self, stamp: Producer, ids: &[u32]) -> Answer {
        if stamp == Producer::NONE {
            self.log.extend(ids);
            return Answer::Stored(self.log.len() as i64 - ids.len() as i64);
        }
        if self.dead.contains(&stamp.producer_id) {
            return Answer::IdentityDead;
        }
        let last = stamp.base_sequence + ids.len() as i32 - 1;
        if let Some(known) = self.producers.get_mut(&stamp.producer_id) {
            if stamp.producer_epoch < known.epoch {
                return Answer::IdentityDead;
            }
            if stamp.producer_epoch > known.epoch {
                if stamp.base_sequence != 0 {
                    return Answer::OutOfOrder;
                }
                known.batches.clear();
                known.epoch = stamp.producer_epoch;
            } else {
                if let Some(batch) = known.batches.iter().find(|b| b.0 == stamp.base_sequence && b.1 == last) {
                    return Answer::Stored(batch.2);
                }
                if known.batches.back().is_some_and(|b| b.1 + 1 != stamp.base_sequence) {
                    return Answer::OutOfOrder;
                }
            }
        }
        let known = self.producers.entry(stamp.producer_id).or_insert_with(|| Remembered {
            epoch: stamp.producer_epoch,
            batches: VecDeque::new(),
        });
        let offset = self.log.len() as i64;
        known.batches.push_back((stamp.base_sequence, last, offset));
        if known.batches.len() > 5 {
            known.batches.pop_front();
        }
        self.log.extend(ids);
        Answer::Stored(offset)
    }
}
