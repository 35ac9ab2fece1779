//! What a partition of `mqtt-sessions` is to be appended: in order, each once.
//!
//! One group of records is on its way at a time, so a batch stays small (who reads one record gets its whole batch) and what Kafka surely
//! does not have can go again in its place. Of what it may have nothing is said twice: then all is given up, and read anew.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::Notify;

use crate::{
    kafka::{Acks, Compression, RecordFields},
    ownership::{Millis, NewRecord},
    upstream::{AppendError, Appender, Cluster, Outcome, Receipt, Receipts, Topic, WriteOptions},
};

/// Bytes of a group; a larger record goes alone.
const GROUP: usize = 32 << 10;
/// Bytes that wait above which nobody else may come: Kafka is away, or cannot keep up.
const SWAMPED: usize = 16 << 20;
/// Bytes of a record beside its key, headers and value.
const OVERHEAD: usize = 32;

const OPTIONS: WriteOptions = WriteOptions {
    acks: Acks::All,
    compression: Some(Compression::None),
};

/// Order or count cannot be kept: everything is to be given up.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost(pub &'static str);

/// See the head of the file.
pub struct Writer {
    appender: Appender,
    receipts: Arc<Receipts>,
    queue: VecDeque<NewRecord>,
    /// Of the queue.
    bytes: usize,
    flying: Vec<Flying>,
    ticket: u64,
    taken: Vec<Receipt>,
    /// The producer had no memory: to be tried again.
    pub stalled: bool,
}

struct Flying {
    ticket: u64,
    record: NewRecord,
    outcome: Option<Outcome>,
}

impl Writer {
    /// Rings `notify` when Kafka has answered.
    pub fn new(cluster: &Cluster, notify: Arc<Notify>) -> Self {
        Self {
            appender: cluster.appender().ahead(),
            receipts: Receipts::new(notify),
            queue: VecDeque::new(),
            bytes: 0,
            flying: Vec::new(),
            ticket: 0,
            taken: Vec::new(),
            stalled: false,
        }
    }

    /// After all that was wanted before.
    pub fn push(&mut self, records: Vec<NewRecord>) {
        self.bytes += records.iter().map(size).sum::<usize>();
        self.queue.extend(records);
    }

    /// Throws away what has not left; answers to what has are nobody's.
    pub fn clear(&mut self) {
        (self.bytes, self.stalled) = (0, false);
        self.queue.clear();
        self.flying.clear();
    }

    /// Whether more waits than should.
    pub fn is_swamped(&self) -> bool {
        self.bytes > SWAMPED
    }

    /// Whether all is written.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flying.is_empty()
    }

    /// What is sent next, if that may leave now.
    pub fn next(&self) -> Option<&NewRecord> {
        self.queue.front().filter(|_| self.flying.is_empty())
    }

    /// Sends the next group, if none is on its way.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn go_on(&mut self, topic: &Topic, partition: usize, now: Millis) -> Result<(), Lost> {
        self.stalled = false;
        if !self.flying.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        while let Some(record) = self.queue.front() {
            let size = size(record);
            if bytes > 0 && bytes + size > GROUP {
                break;
            }
            match append(&mut self.appender, &self.receipts, topic, partition, record, self.ticket, now) {
                Ok(()) => {}
                Err(AppendError::MemoryFull) => {
                    self.stalled = true;
                    break;
                }
                Err(AppendError::NoPartition) => return Err(Lost("the topic has no such partition any more")),
                Err(AppendError::TooLarge) => return Err(Lost("a record is too large for the producer")),
                Err(AppendError::Closed) => return Ok(()),
            }
            let record = self.queue.pop_front().expect("it was looked at");
            bytes += size;
            self.bytes -= size;
            self.flying.push(Flying {
                ticket: self.ticket,
                record,
                outcome: None,
            });
            self.ticket += 1;
        }
        self.appender.kick();
        Ok(())
    }

    /// Takes Kafka's answers.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn settle(&mut self) -> Result<(), Lost> {
        self.receipts.take(&mut self.taken);
        for receipt in self.taken.drain(..) {
            if let Some(flying) = self.flying.iter_mut().find(|flying| flying.ticket == receipt.ticket) {
                flying.outcome = Some(receipt.outcome);
            }
        }
        if self.flying.iter().any(|flying| flying.outcome.is_none()) {
            return Ok(());
        }
        let stored = |flying: &Flying| matches!(flying.outcome, Some(Outcome::Stored { .. }));
        let unsent = |flying: &Flying| matches!(flying.outcome, Some(Outcome::Expired { sent: false }));
        let there = self.flying.iter().take_while(|flying| stored(flying)).count();
        if !self.flying[there..].iter().all(unsent) {
            return Err(Lost("Kafka did not say that it has a record, or refused it"));
        }
        for flying in self.flying.drain(..).skip(there).rev() {
            self.bytes += size(&flying.record);
            self.queue.push_front(flying.record);
        }
        Ok(())
    }
}

fn size(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    OVERHEAD + record.key.len() + headers + record.value.as_ref().map_or(0, Vec::len)
}

fn append(
    appender: &mut Appender,
    receipts: &Arc<Receipts>,
    topic: &Topic,
    partition: usize,
    record: &NewRecord,
    ticket: u64,
    now: Millis,
) -> Result<(), AppendError> {
    let fields = RecordFields {
        timestamp: i64::try_from(now).unwrap_or(i64::MAX),
        key: Some(record.key.as_bytes()),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))),
    };
    appender.append(topic, partition, &fields, OPTIONS, Some((receipts, ticket)))
}
