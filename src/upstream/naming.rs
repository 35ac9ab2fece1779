//! Partitions that wait for a producer id: at the beginning, and after Kafka has refused theirs.
//!
//! Only they wait. Partitions whose id is good go on: an id may be refused until an operator grants a right.

use std::sync::Arc;

use super::{sender::Sender, topics::Partition};
use crate::kafka::Acks;

impl Sender {
    /// Parks those in line that need an id as long as there is none at all.
    pub(super) fn park_nameless(&mut self) {
        if self.acks != Acks::All || self.core.identities.current().is_some() {
            return;
        }
        for partition in std::mem::take(&mut self.line) {
            // What it was given it keeps, though no other begins with that any more.
            let has_one = partition.lock().queue.stamps().0.is_some();
            if has_one {
                self.line.push(partition);
            } else {
                self.park(partition, None);
            }
        }
    }

    /// It needs an id other than `dead`. Its `listed` flag stays set.
    pub(super) fn park(&mut self, partition: Arc<Partition>, dead: Option<i64>) {
        self.nameless.push(partition);
        // One question at a time; should its answer not do for somebody, that one comes here again.
        if self.naming.is_empty() {
            let core = Arc::clone(&self.core);
            self.naming.spawn(async move { core.identities.other_than(dead, &core).await });
        }
    }

    /// There is another id.
    pub(super) fn named(&mut self) {
        self.line.append(&mut self.nameless);
        self.go = true;
    }

    /// Those that another broker leads by now go back in line, to be handed over.
    pub(super) fn release_nameless_of_others(&mut self) {
        let nameless = std::mem::take(&mut self.nameless);
        for partition in nameless {
            let ours = self.leads(partition.lock().broker.as_ref());
            let list = if ours { &mut self.nameless } else { &mut self.line };
            list.push(partition);
        }
    }
}
