//! Records from a connection into the open batches of their partitions.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{accumulator::Refusal, broker::Broker, cluster::Core, memory::Memory, receipts::Receipts, singles::Single, topics::Topic};
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
    /// The memory budget is used up: wait for [`Appender::memory_available`] and try again.
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
    pub(super) core: Arc<Core>,
    /// Brokers whose senders must be woken, each once. Keeps its capacity.
    kicks: Vec<(Arc<Broker>, Acks)>,
    now: Option<Instant>,
    /// What the record that found no memory needs.
    pub(super) wanted: usize,
    /// Charged in advance, for that record.
    pub(super) granted: usize,
    /// See [`ahead`](Self::ahead).
    ahead: bool,
}

impl Appender {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            kicks: Vec::new(),
            now: None,
            wanted: 0,
            granted: 0,
            ahead: false,
        }
    }

    /// For records that the producer's memory itself waits for: they get some when it is full. A QoS 2 message of a stored session holds
    /// memory until its pair is written; with nothing but such messages in the memory, the pair would find none, and nothing would ever move
    /// again.
    #[must_use]
    pub fn ahead(mut self) -> Self {
        self.ahead = true;
        self
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
        let granted = Cell::new(self.granted);
        let ahead = self.ahead;
        let charge = |bytes| charge(memory, &granted, bytes) || (ahead && memory.charge_ahead(bytes));
        let mut slot = partition.lock();
        let appended = slot
            .queue
            .append(fields, now, &self.core.limits, compression, charge, || memory.buffer());
        self.granted = granted.get();
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
        let acks = partition.acks();
        let first = newly && broker.line(acks).list_quietly(Arc::clone(partition));
        if (first || filled) && !self.kicks.iter().any(|(b, a)| Arc::ptr_eq(b, &broker) && *a == acks) {
            self.kicks.push((broker, acks));
        }
        Ok(())
    }

    /// See [`single`](Self::single).
    pub(super) fn take_single<'a, H>(&mut self, fields: &RecordFields<'a, H>, options: WriteOptions) -> Result<Single, AppendError>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        if self.core.closing.load(Relaxed) {
            return Err(AppendError::Closed);
        }
        let granted = Cell::new(self.granted);
        let made = self
            .core
            .single(fields, options, |bytes| charge(&self.core.memory, &granted, bytes));
        self.granted = granted.get();
        made.map_err(|needed| match Some(needed).filter(|needed| self.core.memory.could_hold(*needed)) {
            None => AppendError::TooLarge,
            Some(needed) => {
                self.wanted = needed;
                self.core.counters.memory_full.inc();
                self.kick();
                AppendError::MemoryFull
            }
        })
    }

    /// Waits until there is memory for the record that found none; those who wait longest come first. Cancel-safe.
    pub async fn memory_available(&mut self) {
        let granted = self.core.memory.available(self.wanted).await;
        self.granted += granted;
    }

    /// Wakes the senders of the brokers that got something, each once.
    pub fn kick(&mut self) {
        self.now = None;
        if self.granted > 0 {
            self.core.memory.release(std::mem::take(&mut self.granted));
        }
        for (broker, acks) in self.kicks.drain(..) {
            broker.line(acks).kick.notify_one();
        }
    }

    fn refuse(&mut self, refusal: Refusal, topic: &Topic) -> AppendError {
        match refusal {
            Refusal::MemoryFull { needed } if !self.core.memory.could_hold(needed) => self.refuse(Refusal::TooLarge, topic),
            Refusal::MemoryFull { needed } => {
                self.wanted = needed;
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

/// Takes `bytes`, first of what was granted, then of the budget; or nothing.
pub(super) fn charge(memory: &Memory, granted: &Cell<usize>, bytes: usize) -> bool {
    let ours = granted.get().min(bytes);
    let taken = ours == bytes || memory.charge(bytes - ours);
    if taken {
        granted.set(granted.get() - ours);
    }
    taken
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.kick();
    }
}
