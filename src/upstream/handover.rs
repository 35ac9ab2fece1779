//! Partitions whose leader has moved leave a sender: what waits goes to the new leader's, and so does what is in flight.

use std::sync::Arc;

use super::{accumulator::Answer, broker::Broker, produce::Part, sender::Sender};
use crate::kafka::Acks;

impl Sender {
    pub(super) fn leads(&self, broker: Option<&Arc<Broker>>) -> bool {
        broker.is_some_and(|b| Arc::ptr_eq(b, &self.broker))
    }

    /// Gives partitions that another broker leads by now to its sender.
    pub(super) fn hand_over(&mut self) {
        self.broker.line(self.acks).take_ready(&mut self.line);
        let line = std::mem::take(&mut self.line);
        for partition in line {
            let mut slot = partition.lock();
            if self.leads(slot.broker.as_ref()) {
                drop(slot);
                self.line.push(partition);
                continue;
            }
            let heir = slot.broker.clone();
            slot.listed = heir.is_some();
            drop(slot);
            if let Some(heir) = heir {
                heir.list(partition, true);
            }
        }
    }

    /// What is in flight for a partition that another broker leads by now is not waited for: a broker that is paused, or cut off, owes its
    /// answers until the request timeout, while its heir can tell at once what became of the batch, since it knows the last sequences. So
    /// the attempt is in doubt and the batch goes to the heir under its old stamp. An answer that comes after all is not looked at.
    ///
    /// Only with a producer id: without, the second attempt would be a second copy.
    pub(super) fn forsake(&mut self) {
        if self.acks != Acks::All {
            return;
        }
        let mut forsaken: Vec<Part> = Vec::new();
        for flying in &mut self.flying {
            let moved = |part: &mut Part| part.partition.leader().is_some_and(|id| id != self.broker.id);
            forsaken.extend(flying.parts.extract_if(.., moved));
        }
        for part in forsaken {
            self.settle_part(&part, Answer::Doubt, false);
        }
    }
}
