//! Dead letters: messages that Kafka refuses for good, or that their rule cannot map, go with the reason to a topic that the rule names.
//!
//! Kafka's refusal comes when the record has left, so of a rule with such a topic each message is kept beside its record until the receipt is
//! there, whoever sent it: its connection may be gone by then, and at QoS 0 nobody waits for it. What is kept counts to the producer's memory:
//! a PUBLISH that finds none waits as for its record. Who waits for an acknowledgement gets one receipt, of the record or of its dead letter.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::said::Said;
use crate::{
    kafka::error::ErrorCode,
    mapping::{DeadLetter, Failure, Rule, RuleSet, Stage, partition_for_key},
    metrics::RuleCounters,
    upstream::{AppendError, Cluster, Outcome, Receipt, Receipts, Reserved, TopicState, WriteOptions},
};

/// A message that is kept until it is known what became of its record.
#[derive(Debug)]
struct Kept {
    letter: DeadLetter,
    /// Until its record is stored, see [`DeadLetters::let_go`].
    reserved: Option<Reserved>,
    waiter: Option<(Arc<Receipts>, u64)>,
}

/// A message that may become a dead letter, with the memory that is reserved for it.
#[derive(Debug)]
pub struct HeldLetter(DeadLetter, Mutex<Option<Reserved>>);

impl HeldLetter {
    pub fn new(letter: DeadLetter, reserved: Reserved) -> Self {
        Self(letter, Mutex::new(Some(reserved)))
    }
}

/// The dead letters of the process.
pub struct DeadLetters {
    cluster: Cluster,
    rules: Arc<RuleSet>,
    counters: Arc<[RuleCounters]>,
    /// For one dead letter; then its outcome is unknown.
    delivery_timeout: Duration,
    kept: Mutex<Waiting>,
    receipts: Arc<Receipts>,
    news: Arc<Notify>,
    /// Rung when nothing waits any more.
    written: Notify,
    said: Said,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: HashMap<u64, Kept>,
    next: u64,
    /// Messages that are being written to their dead letter topics.
    burials: usize,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}

/// Ends what runs for dead letters.
pub struct Undertaker(AbortHandle);

impl Drop for Undertaker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl DeadLetters {
    /// Begins to look after them.
    pub fn start(
        cluster: Cluster,
        rules: Arc<RuleSet>,
        counters: Arc<[RuleCounters]>,
        delivery_timeout: Duration,
    ) -> (Arc<Self>, Undertaker) {
        let news = Arc::<Notify>::default();
        let own = Arc::new(Self {
            cluster,
            rules,
            counters,
            delivery_timeout,
            kept: Mutex::default(),
            receipts: Receipts::new(news.clone()),
            news,
            written: Notify::new(),
            said: Said::default(),
        });
        let task = tokio::spawn(run(own.clone()));
        (own, Undertaker(task.abort_handle()))
    }

    fn kept(&self) -> MutexGuard<'_, Waiting> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message; its record is to be appended with what comes back as its waiter.
    pub fn keep(&self, letter: DeadLetter, reserved: Reserved, waiter: Option<(&Arc<Receipts>, u64)>) -> (&Arc<Receipts>, u64) {
        let waiter = waiter.map(|(receipts, ticket)| (receipts.clone(), ticket));
        let mut kept = self.kept();
        let number = kept.next;
        kept.next += 1;
        let reserved = Some(reserved);
        let message = Kept { letter, reserved, waiter };
        kept.messages.insert(number, message);
        (&self.receipts, number)
    }

    /// Gives back the memory of a message that is stored and still has to be retained. It is kept, but no part of the producer's memory any more: the record
    /// that retains it needs some, and would find none if all of it belonged to messages that wait for such records.
    pub fn let_go(&self, number: u64) {
        let reserved = self.kept().messages.get_mut(&number).and_then(|message| message.reserved.take());
        drop(reserved);
    }

    /// The record was not appended: nothing is kept any more. Gives back what was reserved.
    pub fn cancel(&self, number: u64) -> Option<Reserved> {
        let message = self.kept().messages.remove(&number)?;
        self.tell_if_written();
        message.reserved
    }

    /// Stores a message in the dead letter topic of its rule, and waits for what comes of it. Dropping the future does not take back what has
    /// left.
    pub async fn bury(&self, letter: &DeadLetter, reserved: Option<Reserved>, failure: Failure) -> Outcome {
        let written = timeout(self.delivery_timeout, self.write(letter, reserved, failure)).await;
        let outcome = written.unwrap_or(Outcome::Unknown);
        let id = letter.rule();
        let (rule, why) = (self.rules.rule(id), failure.why);
        match outcome {
            Outcome::Stored { .. } => self.counters[id.0 as usize].dead_letter(why),
            Outcome::Refused(error) => self.refused(rule, error),
            Outcome::Unknown | Outcome::Expired { .. } => {}
        }
        outcome
    }

    /// The same, with the memory that is reserved for it.
    pub async fn bury_held(&self, HeldLetter(letter, reserved): &HeldLetter, failure: Failure) -> Outcome {
        let reserved = reserved.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.bury(letter, reserved, failure).await
    }

    /// Says once that a rule has no place for its dead letters.
    fn refused(&self, rule: &Rule, error: ErrorCode) {
        let (name, topic, error) = (&*rule.name, rule.dead_letter.as_deref().unwrap_or(""), error.name());
        if self.said.first(&format!("{name}: {error}")) {
            tracing::error!(
                rule = name,
                topic,
                error,
                "dead letters of this rule cannot be stored: devices are told (said once)"
            );
        }
    }

    async fn write(&self, letter: &DeadLetter, reserved: Option<Reserved>, failure: Failure) -> Outcome {
        let name = self.rules.rule(letter.rule()).dead_letter.as_deref().unwrap_or("");
        let news = Arc::<Notify>::default();
        let receipts = Receipts::new(news.clone());
        // With the memory of its message, and ahead of others: what they wait for is given back when it is written.
        let mut appender = self.cluster.appender().ahead();
        reserved.into_iter().for_each(|reserved| appender.spend(reserved));
        loop {
            let topic = match self.cluster.topic_known(name).await {
                TopicState::Ready(topic) => topic,
                TopicState::Missing => return Outcome::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                // The client was shut down.
                TopicState::Unknown => return Outcome::Unknown,
            };
            let fields = letter.fields(failure);
            let partition = partition_for_key(fields.key.unwrap_or(b""), topic.partitions.len() as u32) as usize;
            match appender.append(&topic, partition, &fields, WriteOptions::default(), Some((&receipts, 0))) {
                Ok(()) => break,
                Err(AppendError::MemoryFull) => appender.memory_available().await,
                Err(AppendError::TooLarge) => return Outcome::Refused(ErrorCode::MESSAGE_TOO_LARGE),
                Err(AppendError::Closed | AppendError::NoPartition) => return Outcome::Unknown,
            }
        }
        appender.kick();
        let mut told = Vec::new();
        loop {
            news.notified().await;
            receipts.take(&mut told);
            if let Some(receipt) = told.pop() {
                return receipt.outcome;
            }
        }
    }

    /// Waits until no message is kept and none is on its way to its dead letter topic. Cancel-safe.
    pub async fn written(&self) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            if self.kept().is_done() {
                return;
            }
            written.await;
        }
    }

    fn tell_if_written(&self) {
        if self.kept().is_done() {
            self.written.notify_waiters();
        }
    }

    /// A receipt of a record whose message is kept.
    fn follow(self: &Arc<Self>, Receipt { ticket, outcome }: Receipt, burials: &mut JoinSet<()>) {
        let mut kept = self.kept();
        let Some(message) = kept.messages.remove(&ticket) else { return };
        let Outcome::Refused(error) = outcome else {
            drop(kept);
            message.settle(outcome);
            return self.tell_if_written();
        };
        kept.burials += 1;
        drop(kept);
        self.tell_refusal(&message.letter, error);
        let own = self.clone();
        burials.spawn(async move {
            own.bury_kept(message, error).await;
            own.kept().burials -= 1;
            own.tell_if_written();
        });
    }

    async fn bury_kept(&self, Kept { letter, reserved, waiter }: Kept, error: ErrorCode) {
        let failure = Failure {
            stage: Stage::Produce,
            why: error.name(),
        };
        let outcome = match self.bury(&letter, reserved, failure).await {
            // What the device is told is what was wrong with its message.
            Outcome::Refused(_) => Outcome::Refused(error),
            outcome => outcome,
        };
        tell(waiter, outcome);
    }

    fn tell_refusal(&self, letter: &DeadLetter, error: ErrorCode) {
        let rule = self.rules.rule(letter.rule());
        let (name, error) = (&*rule.name, error.name());
        if self.said.first(&format!("{name}: {error}, dead letter")) {
            let topic = rule.dead_letter.as_deref();
            tracing::warn!(
                rule = name,
                error,
                topic,
                "Kafka refuses records of this rule: they become dead letters (said once)"
            );
        }
    }
}

impl Waiting {
    fn is_done(&self) -> bool {
        self.messages.is_empty() && self.burials == 0
    }
}

impl Kept {
    /// Its memory is free before its connection hears of it.
    fn settle(self, outcome: Outcome) {
        drop(self.reserved);
        tell(self.waiter, outcome);
    }
}

fn tell(waiter: Option<(Arc<Receipts>, u64)>, outcome: Outcome) {
    if let Some((receipts, ticket)) = waiter {
        receipts.put(Receipt { ticket, outcome });
    }
}

/// Runs until it is aborted.
async fn run(own: Arc<DeadLetters>) {
    let (mut receipts, mut burials) = (Vec::new(), JoinSet::new());
    loop {
        tokio::select! {
            () = own.news.notified() => {}
            Some(_) = burials.join_next() => continue,
        }
        own.receipts.take(&mut receipts);
        for receipt in receipts.drain(..) {
            own.follow(receipt, &mut burials);
        }
    }
}
