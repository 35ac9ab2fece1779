//! The second record of a retained PUBLISH: written when the first, in its mapped topic, has an offset.
//!
//! A message waits here in between, whoever sent it: its connection may be gone by then, and at QoS 0 nobody waits for it. What waits is bounded in
//! bytes; beyond that a PUBLISH stays at the front of its connection's input. Who waits for an acknowledgement gets one receipt for both records.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    Retained,
    mapped::{AS_OF, Mapped},
};
use crate::{
    audit::cut,
    kafka::{Header, RecordFields, error::ErrorCode},
    mapping::partition_for_key,
    relay::dead_letters::DeadLetters,
    upstream::{AppendError, Appender, Outcome, Receipt, Receipts, Topic, TopicState, WriteOptions},
};

/// Bytes that may wait, all connections together; one message may in any case.
const MOST_WAITING: usize = 16 * 1024 * 1024;
/// The code of a record that no batch can hold.
const MESSAGE_TOO_LARGE: ErrorCode = ErrorCode::MESSAGE_TOO_LARGE;

/// Name and value.
type OwnHeader = (Box<str>, Option<Box<[u8]>>);

/// A retained message whose mapped record is on its way.
#[derive(Clone, Debug)]
pub struct Job {
    topic: Box<str>,
    mapped: Arc<Topic>,
    timestamp: i64,
    payload: Box<[u8]>,
    headers: Box<[OwnHeader]>,
    waiter: Option<(Arc<Receipts>, u64)>,
    /// Where it is kept that may become a dead letter, until the mapped record is stored.
    letter: Option<(Arc<DeadLetters>, u64)>,
    /// Of the mapped record, once it is known.
    stored: Option<(i32, i64)>,
    /// See [`AS_OF`].
    pub(super) as_of: Option<i64>,
}

impl Job {
    /// Copies a message. `fields` are those of its mapped record, `payload` what its subscribers get, `mapped` that record's topic.
    pub fn copy<'a, H>(
        topic: &str,
        fields: &RecordFields<'a, H>,
        payload: &[u8],
        mapped: &Arc<Topic>,
        waiter: Option<(&Arc<Receipts>, u64)>,
    ) -> Self
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let headers = fields.headers.clone();
        Self {
            topic: topic.into(),
            mapped: mapped.clone(),
            timestamp: fields.timestamp,
            payload: payload.into(),
            headers: headers.map(|(name, value)| (name.into(), value.map(Into::into))).collect(),
            waiter: waiter.map(|(receipts, ticket)| (receipts.clone(), ticket)),
            letter: None,
            stored: None,
            as_of: None,
        }
    }

    /// The same of a message that is kept for its dead letter, whose memory is given back when the mapped record is stored.
    pub fn beside(self, letter: Option<(&Arc<DeadLetters>, u64)>) -> Self {
        let letter = letter.map(|(letters, number)| (letters.clone(), number));
        Self { letter, ..self }
    }

    /// Where its mapped record lies.
    pub(super) fn mapped(&self, (partition, offset): (i32, i64)) -> Mapped<'_> {
        Mapped {
            topic: &self.mapped.name,
            id: *self.mapped.id.as_bytes(),
            partition,
            offset,
        }
    }

    /// The MQTT topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn weight(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, |v| v.len()) + 48);
        size_of::<Self>() + self.topic.len() + self.payload.len() + headers.sum::<usize>()
    }
}

/// What waits, and where its receipts come.
#[derive(Debug)]
pub(super) struct Writer {
    waiting: Mutex<Waiting>,
    receipts: Arc<Receipts>,
    news: Arc<Notify>,
    /// Rung when something has left.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: HashMap<u64, Job>,
    next: u64,
    bytes: usize,
}

impl Waiting {
    fn takes(&self, weight: usize) -> bool {
        self.bytes == 0 || self.bytes + weight <= MOST_WAITING
    }
}

impl Default for Writer {
    fn default() -> Self {
        let news = Arc::<Notify>::default();
        Self {
            waiting: Mutex::default(),
            receipts: Receipts::new(news.clone()),
            news,
            room: Notify::new(),
        }
    }
}

impl Writer {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message, under a number that its receipts have. Gives it back if it weighs too much beside what waits.
    fn begin(&self, job: Job) -> Result<u64, Box<Job>> {
        let mut waiting = self.waiting();
        let weight = job.weight();
        if !waiting.takes(weight) {
            return Err(Box::new(job));
        }
        waiting.bytes += weight;
        let number = waiting.next;
        waiting.next += 1;
        waiting.jobs.insert(number, job);
        Ok(number)
    }

    /// Waits until what weighs so much may be taken. Cancel-safe.
    async fn room(&self, weight: usize) {
        loop {
            let left = self.room.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.waiting().takes(weight) {
                return;
            }
            left.await;
        }
    }

    /// Ends a message: whoever waits is told.
    fn finish(&self, number: u64, outcome: Outcome) {
        let mut waiting = self.waiting();
        let Some(job) = waiting.jobs.remove(&number) else { return };
        waiting.bytes -= job.weight();
        drop(waiting);
        self.room.notify_waiters();
        if let Some((receipts, ticket)) = job.waiter {
            receipts.put(Receipt { ticket, outcome });
        } else if !matches!(outcome, Outcome::Stored { .. }) {
            tracing::warn!(
                topic = &*cut(&job.topic),
                ?outcome,
                "a retained message for which nobody waits is not kept"
            );
        }
    }
}

impl Retained {
    /// Takes a message; the mapped record is to be appended with what comes back as its waiter.
    ///
    /// # Errors
    /// Too much waits: what it weighs, to wait for [`room`](Self::room).
    pub fn begin(&self, job: Job) -> Result<(&Arc<Receipts>, u64), usize> {
        let number = self.writer.begin(job).map_err(|job| job.weight())?;
        Ok((&self.writer.receipts, number))
    }

    /// Writes a message whose mapped record Kafka has, and waits for what comes of it. What is begun is written even if the future is
    /// dropped: that is harmless, since its mapped offset says which message it is.
    pub async fn keep(&self, mut job: Job, partition: i32, offset: i64) -> Outcome {
        let news = Arc::<Notify>::default();
        let receipts = Receipts::new(news.clone());
        job.waiter = Some((receipts.clone(), 0));
        let ticket = loop {
            match self.writer.begin(job) {
                Ok(ticket) => break ticket,
                Err(back) => {
                    self.writer.room(back.weight()).await;
                    job = *back;
                }
            }
        };
        let outcome = Outcome::Stored { partition, offset };
        self.writer.receipts.put(Receipt { ticket, outcome });
        let mut told = Vec::new();
        loop {
            news.notified().await;
            receipts.take(&mut told);
            if let Some(receipt) = told.pop() {
                return receipt.outcome;
            }
        }
    }

    /// The mapped record was not appended: nothing waits any more.
    pub fn cancel(&self, number: u64) {
        let mut waiting = self.writer.waiting();
        if let Some(job) = waiting.jobs.remove(&number) {
            waiting.bytes -= job.weight();
            drop(waiting);
            self.writer.room.notify_waiters();
        }
    }

    /// Waits until there is room for a message that found none and weighs so much. Another may be quicker. Cancel-safe.
    pub async fn room(&self, weight: usize) {
        self.writer.room(weight).await;
    }

    /// Waits until nothing is on its way any more. Cancel-safe.
    pub async fn written(&self) {
        loop {
            let left = self.writer.room.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.writer.waiting().jobs.is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// Runs until it is aborted.
pub(super) async fn run(retained: Arc<Retained>) {
    let mut appender = retained.cluster.appender();
    let (mut receipts, mut stored) = (Vec::new(), VecDeque::new());
    loop {
        retained.writer.news.notified().await;
        heed(&retained.writer, &mut receipts, &mut stored);
        while let Some(ticket) = stored.pop_front() {
            let mut writing = pin!(write(&retained, &mut appender, ticket));
            // One that waits for memory keeps no other from giving back what it holds: that is what it waits for.
            loop {
                tokio::select! {
                    () = &mut writing => break,
                    () = retained.writer.news.notified() => heed(&retained.writer, &mut receipts, &mut stored),
                }
            }
        }
        appender.kick();
    }
}

/// Takes what receipts there are. Those whose mapped record is stored are to be written next.
fn heed(writer: &Writer, receipts: &mut Vec<Receipt>, stored: &mut VecDeque<u64>) {
    writer.receipts.take(receipts);
    stored.extend(receipts.drain(..).filter_map(|receipt| follow(writer, receipt)));
}

/// A receipt of the mapped record, then one of the retained record. Gives back the number of a message whose mapped record is stored.
fn follow(writer: &Writer, Receipt { ticket, outcome }: Receipt) -> Option<u64> {
    let mut waiting = writer.waiting();
    let job = waiting.jobs.get_mut(&ticket)?;
    let is_first = job.stored.is_none();
    if let (
        true,
        Outcome::Stored {
            partition,
            offset: offset @ 0..,
        },
    ) = (is_first, outcome)
    {
        job.stored = Some((partition, offset));
        let letter = job.letter.take();
        drop(waiting);
        if let Some((letters, number)) = letter {
            letters.let_go(number);
        }
        return Some(ticket);
    }
    drop(waiting);
    // Its offset, and so its order, is not known: the device sends it again.
    let lost = is_first && matches!(outcome, Outcome::Stored { .. });
    writer.finish(ticket, if lost { Outcome::Unknown } else { outcome });
    None
}

/// Appends the retained record, when there is memory for it.
async fn write(retained: &Retained, appender: &mut Appender, ticket: u64) {
    let failed = loop {
        match append(retained, appender, ticket) {
            Ok(()) => return,
            Err(Append::Refused(AppendError::MemoryFull)) => appender.memory_available().await,
            Err(Append::Refused(AppendError::TooLarge)) => break Outcome::Refused(MESSAGE_TOO_LARGE),
            Err(Append::Refused(AppendError::Closed | AppendError::NoPartition) | Append::Missing) => break Outcome::Unknown,
            Err(Append::Unknown) => {
                // After a shutdown of the client it will not be known any more.
                if let TopicState::Unknown = retained.cluster.topic_known(&retained.settings.topic).await {
                    break Outcome::Unknown;
                }
            }
        }
    };
    retained.writer.finish(ticket, failed);
}

/// Why nothing was appended.
enum Append {
    Refused(AppendError),
    /// The retained topic is not known yet, or there is none.
    Unknown,
    Missing,
}

fn append(retained: &Retained, appender: &mut Appender, number: u64) -> Result<(), Append> {
    let topic = match retained.cluster.topic(&retained.settings.topic) {
        TopicState::Ready(topic) => topic,
        TopicState::Unknown => return Err(Append::Unknown),
        TopicState::Missing => return Err(Append::Missing),
    };
    let writer = &retained.writer;
    let waiting = writer.waiting();
    let Some(job) = waiting.jobs.get(&number) else { return Ok(()) };
    let mapped = job.mapped(job.stored.unwrap_or_default()).to_string();
    let as_of = job.as_of.map(|as_of| as_of.to_string());
    let as_of = as_of.iter().map(|as_of| (AS_OF, Some(as_of.as_bytes())));
    let own = std::iter::once(("mqtt.mapped", Some(mapped.as_bytes()))).chain(as_of);
    let headers = job.headers.iter().map(|(name, value)| (&**name, value.as_deref()));
    let fields = RecordFields {
        timestamp: job.timestamp,
        key: Some(job.topic.as_bytes()),
        value: Some(&job.payload),
        headers: own.chain(headers),
    };
    let partition = partition_for_key(job.topic.as_bytes(), topic.partitions.len() as u32) as usize;
    let waiter = Some((&writer.receipts, number));
    appender
        .append(&topic, partition, &fields, WriteOptions::default(), waiter)
        .map_err(Append::Refused)
}

#[cfg(test)]
mod tests;
