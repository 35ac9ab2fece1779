//! Records from a connection into the open batches of their partitions.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{accumulator::Refusal, broker::Broker, cluster::Core, receipts::Receipts, topics::Topic};
use crate::kafka::{Acks, Compression, Header, RecordFields};

/// How a record is written: what a rule may say of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How many replicas must have it before its receipt comes.
    pub acks: Acks,
    /// Instead of the producer's.
    pub compression: Option<Compression>,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The memory budget is used up: wait for [`Cluster::memory_available`](super::Cluster::memory_available) and try again.
    MemoryFull,
    /// Larger than the producer can hold.
    TooLarge,
    /// The client was shut down.
    Closed,
    /// The topic has no such partition.
    NoPartition,
}

/// Appends records. A connection may keep one for its life and call [`kick`](Self::kick) after each read, or drop one each time.
/// Not kicking leaves records unsent until the next kick of anybody.
pub struct Appender {
    core: Arc<Core>,
    /// Brokers whose senders must be woken, each once. Keeps its capacity.
    kicks: Vec<Arc<Broker>>,
    now: Option<Instant>,
}

impl Appender {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            kicks: Vec::new(),
            now: None,
        }
    }

    /// Writes a record into the open batch of its partition: the only copy of its bytes. `waiter` gets a receipt with its ticket.
    ///
    /// # Errors
    /// [`AppendError`]; the record was not taken, and nobody will get a receipt for it.
    pub fn append<'a, H>(
        &mut self,
        topic: &Topic,
        partition: usize,
        fields: &RecordFields<'a, H>,
        options: WriteOptions,
        waiter: Option<(&Arc<Receipts>, u64)>,
    ) -> Result<(), AppendError>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        if self.core.closing.load(Relaxed) {
            return Err(AppendError::Closed);
        }
        // One look at the clock for all records of a read.
        let now = *self.now.get_or_insert_with(Instant::now);
        let partition = topic
            .partitions
            .get(partition)
            .ok_or(AppendError::NoPartition)?
            .with_acks(options.acks);
        let compression = options.compression.unwrap_or(self.core.settings.producer.compression);
        let memory = &self.core.memory;
        let mut slot = partition.lock();
        let appended = slot.queue.append(
            fields,
            now,
            &self.core.limits,
            compression,
            |bytes| memory.charge(bytes),
            || memory.buffer(),
        );
        let filled = match appended {
            Ok(appended) => {
                if let Some((receipts, ticket)) = waiter {
                    appended.waiters.push(receipts, ticket, appended.index);
                }
                appended.filled
            }
            Err(refusal) => return Err(self.refuse(refusal, topic)),
        };
        let newly = !std::mem::replace(&mut slot.listed, true);
        if !newly && !filled {
            return Ok(());
        }
        let Some(broker) = slot.broker.clone() else {
            // Nobody leads: whoever does next gets it (Partition::lead_by).
            slot.listed = false;
            return Ok(());
        };
        drop(slot);
        let first = newly && broker.list_quietly(Arc::clone(partition));
        if (first || filled) && !self.kicks.iter().any(|b| Arc::ptr_eq(b, &broker)) {
            self.kicks.push(broker);
        }
        Ok(())
    }

    /// Wakes the senders of the brokers that got something, each once.
    pub fn kick(&mut self) {
        self.now = None;
        for broker in self.kicks.drain(..) {
            broker.kick.notify_one();
        }
    }

    fn refuse(&mut self, refusal: Refusal, topic: &Topic) -> AppendError {
        match refusal {
            Refusal::MemoryFull => {
                self.core.counters.memory_full.inc();
                // What this connection holds must leave, or nothing frees the memory it waits for.
                self.kick();
                AppendError::MemoryFull
            }
            Refusal::TooLarge => {
                tracing::debug!(topic = &*topic.name, "a record is too large to be held");
                AppendError::TooLarge
            }
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.kick();
    }
}
