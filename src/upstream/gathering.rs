//! What a sender's next request holds: batches of the partitions in line, sealed and stamped.

use std::{sync::Arc, time::Instant};

use super::{accumulator::Next, produce::Part, sender::Sender};

/// A request is not filled beyond this (plus one batch), so that answers keep coming.
const FULL_REQUEST: usize = 4 * 1024 * 1024;

impl Sender {
    /// Takes at most one batch of each partition in line. Sealing happens without the partition's lock.
    pub(super) fn gather(&mut self) -> Vec<Part> {
        self.hand_over();
        let current = self.core.identities.current();
        let now = Instant::now();
        let mut parts = Vec::with_capacity(self.line.len());
        let mut bytes = 0;
        let line = std::mem::take(&mut self.line);
        for partition in line {
            if bytes >= FULL_REQUEST {
                self.line.push(partition);
                continue;
            }
            let mut slot = partition.lock();
            if !self.leads(slot.broker.as_ref()) {
                // It has moved, or its topic is gone, since the look above: nothing of it may be stamped here. The next look hands it over.
                drop(slot);
                self.line.push(partition);
                continue;
            }
            if slot.not_before.is_some_and(|t| t > now) {
                drop(slot);
                self.delayed.push(partition);
                continue;
            }
            let next = slot.queue.next(current, &mut self.settled);
            self.core.counters.tally(slot.queue.take_tally());
            if let Next::Identity { dead } = next {
                slot.listed = true;
                drop(slot);
                self.park(partition, dead);
                continue;
            }
            let (more, failures) = (slot.queue.is_ready(), slot.failures);
            slot.listed = more;
            drop(slot);
            let part = match next {
                Next::Nothing | Next::Identity { .. } => None,
                Next::Again { ordinal, bytes } => {
                    self.core.counters.retries.inc();
                    Some((ordinal, bytes))
                }
                Next::First {
                    ordinal,
                    builder,
                    producer,
                    compression,
                } => {
                    let sealed = builder.seal_with(&producer, compression, &mut self.compressor);
                    partition.lock().queue.sealed(ordinal, sealed.bytes.clone());
                    Some((ordinal, sealed.bytes))
                }
            };
            if !self.settled.is_empty() {
                self.core.settle(&partition, &mut self.settled);
            }
            if let Some((ordinal, batch)) = part {
                bytes += batch.len();
                parts.push(Part {
                    partition: Arc::clone(&partition),
                    ordinal,
                    bytes: batch,
                    failures,
                });
            }
            if more {
                self.line.push(partition);
            }
        }
        parts
    }
}
