//! QoS 2 from clients on its way into Kafka: each record by its pair, as the machine wants it.
//!
//! A message that is to be retained makes a second record, in the retained topic, once the first has an offset. Both are one step for the
//! session: its pair is done with only when Kafka has the two. Told as sequences of events, wherever the owner dies:
//! * Before the first record is there: the next owner produces it by the pair, and goes on as if nothing had been.
//! * Between the two: the next owner produces the first by the same pair. Kafka has it and answers with the offset that it has, and
//!   under this the second is written.
//! * Behind the second, before the session has written down that it is done: both are done once more. The first is not written again;
//!   the second is, with the same mapped offset, so readers take it for the message that they have.
//! * The same, but somebody has retained something newer meanwhile: the second, written again, lies behind the newer one in the log
//!   and has the lower mapped offset, so it loses for everybody, and the newer one is written again by the custodian.
//! * The same where the newer one lies in another mapped partition, or has been cleared and forgotten: then no order tells. So of a record
//!   that Kafka had from before it is looked at what is retained by now (`crate::relay::retained::again`).
//!
//! Were the pair done with behind the first record, an owner that dies between the two would leave a message that nobody retains.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    failure,
    fitting::fitting,
    order::Letter,
    task::{Errand, Task, now},
};
use crate::{
    audit::cut,
    kafka::{batch::Producer, error::ErrorCode},
    mapping::{Failure, Stage},
    metrics::RuleCounters,
    ownership::{ConnectionId, Message, Outcome, Pair, Source, Tenure},
    relay::{
        dead_letters::{DeadLetters, HeldLetter},
        retained::{Job, Retained},
    },
    upstream::{Cluster, Fate, Located, Outcome as Written, Partition, Single},
};

/// A record of a PUBLISH, until Kafka has it or refuses it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The record.
    pub single: Unsaid<Single>,
    /// Where the rules of the moment want it.
    pub to: Arc<Partition>,
    /// The same, as it is stored.
    pub source: Source,
    /// What is to be retained of it.
    pub retained: Option<Arc<Job>>,
    /// A refusal of Kafka leaves it out, instead of refusing the message, and is counted here.
    pub skip: Option<RuleCounters>,
    /// A refusal of Kafka makes this of it, instead of refusing the message.
    pub letter: Option<Unsaid<HeldLetter>>,
}

/// A record, or what may be made of it, until Kafka has it. All who hold it let it go at the same time: it counts in the producer's memory, of which the record that
/// retains the same message needs some.
#[derive(Debug)]
pub struct Unsaid<T>(Arc<Mutex<Option<Arc<T>>>>);

impl<T> Clone for Unsaid<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Unsaid<T> {
    /// Nobody else holds it.
    pub fn new(whole: T) -> Self {
        Self(Arc::new(Mutex::new(Some(Arc::new(whole)))))
    }

    fn get(&self) -> Option<Arc<T>> {
        self.slot().clone()
    }

    fn let_go(&self) {
        self.slot().take();
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().expect("no code that holds this lock panics")
    }
}

/// What became of a record, with Kafka's word if it refused it.
pub type Told = (Outcome, Option<ErrorCode>);

/// The PUBLISH of a guest.
#[derive(Debug)]
pub(super) struct Published {
    records: Vec<Held>,
    /// Which of them goes by each pair; once one is produced.
    fitting: Option<Vec<Option<usize>>>,
    refused: Option<ErrorCode>,
}

/// What goes by a pair.
enum Goes {
    Record(Held),
    /// The message makes other records, and fewer than when its pairs were written down.
    NoRecord,
    /// The message makes none at all: it is refused, or left out.
    Nothing,
    /// Its connection is gone.
    Unsaid,
}

impl Published {
    fn new(records: Vec<Held>) -> Self {
        Self {
            records,
            fitting: None,
            refused: None,
        }
    }

    /// What goes by one of the pairs of the message.
    fn goes(&mut self, index: usize, pairs: &[Pair]) -> Goes {
        if self.records.is_empty() {
            return Goes::Nothing;
        }
        let fit = || {
            let topics: Vec<_> = self.records.iter().map(|held| Some(held.source.topic)).collect();
            fitting(pairs, &topics)
        };
        let at = self.fitting.get_or_insert_with(fit).get(index).copied().flatten();
        at.and_then(|at| self.records.get(at)).cloned().map_or(Goes::NoRecord, Goes::Record)
    }
}

impl Task {
    /// A PUBLISH of QoS 2 with its records.
    pub(super) fn publish(&mut self, id: ConnectionId, packet: u16, records: Vec<Held>) {
        let targets = records.iter().map(|held| held.source).collect();
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.published.insert(packet, Published::new(records));
        }
        self.partition.publish(id, packet, targets, now());
    }

    /// Kafka has all of it, or refuses it.
    pub(super) fn published(&mut self, id: ConnectionId, packet: u16, refused: bool) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let published = guest.published.remove(&packet);
        let letter = match refused {
            true => Letter::Refused(packet, published.and_then(|published| published.refused)),
            false => Letter::PubRec(packet),
        };
        self.send(id, letter);
    }

    /// Produces one record by its pair, whatever the rules of the moment make of the message (`fitting`). `doubt`: an earlier owner may have
    /// produced it.
    pub(super) fn produce(&mut self, tenure: Tenure, packet: u16, index: usize, (pair, doubt): (Pair, bool)) {
        failure::step("produce");
        let pairs = self.partition.pairs(&tenure, Message::Packet(packet));
        let guest = self.partition.connection_of(&tenure).and_then(|id| self.guests.get_mut(&id));
        let published = guest.and_then(|guest| guest.published.get_mut(&packet));
        let goes = published.map_or(Goes::Unsaid, |published| published.goes(index, pairs));
        let (cluster, keeper) = (self.around.cluster.clone(), self.around.retained.clone());
        let letters = self.around.dead_letters.clone();
        self.errands.spawn(async move {
            let told = match goes {
                Goes::Record(held) => {
                    let letter = held.letter.clone();
                    let told = produce(&cluster, keeper.as_deref(), held, (pair, doubt)).await;
                    bury(letters.as_deref(), letter.as_ref(), told).await
                }
                Goes::NoRecord => {
                    let client = &*tenure.client;
                    tracing::info!(
                        client = &*cut(client),
                        packet,
                        "a message that is repeated makes fewer records than before: those are done with"
                    );
                    (Outcome::Skipped, None)
                }
                Goes::Nothing => (Outcome::Refused, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
                Goes::Unsaid => (Outcome::Unknown, None),
            };
            Errand::Published(tenure, packet, pair, told)
        });
    }

    /// What became of it.
    pub(super) fn produced(&mut self, tenure: &Tenure, packet: u16, pair: &Pair, (outcome, code): Told) {
        failure::step("produced");
        if !self.partition.produced(tenure, Message::Packet(packet), pair, outcome, now()) {
            return;
        }
        if let (Outcome::Skipped | Outcome::Appended, Some(code)) = (outcome, code) {
            return self.around.metrics.refused(code.name());
        }
        let guest = self.partition.connection_of(tenure).and_then(|id| self.guests.get_mut(&id));
        if let Some(published) = guest.and_then(|guest| guest.published.get_mut(&packet)) {
            published.refused = code;
        }
    }
}

/// What a batch says of its pair.
pub(super) fn stamp(pair: &Pair) -> Producer {
    Producer {
        producer_id: pair.producer,
        producer_epoch: pair.epoch,
        base_sequence: pair.sequence,
    }
}

/// Where Kafka refuses a record and there is a dead letter of it, what becomes of that. An owner that dies in between leaves the next one to do
/// both again: the record is refused once more, and its dead letter may come twice.
async fn bury(letters: Option<&DeadLetters>, letter: Option<&Unsaid<HeldLetter>>, told: Told) -> Told {
    let ((Outcome::Refused, Some(error)), Some(letters), Some(letter)) = (told, letters, letter.and_then(Unsaid::get)) else {
        return told;
    };
    let failure = Failure {
        stage: Stage::Produce,
        why: error.name(),
    };
    match letters.bury_held(&letter, failure).await {
        Written::Stored { .. } => (Outcome::Skipped, None),
        Written::Refused(_) => told,
        Written::Unknown | Written::Expired { .. } => (Outcome::Unknown, None),
    }
}

async fn produce(cluster: &Cluster, keeper: Option<&Retained>, held: Held, (pair, doubt): (Pair, bool)) -> Told {
    let to = match held.source == pair.source {
        true => Ok(held.to),
        false => match cluster.partition_by_id(&pair.source.topic, pair.source.partition).await {
            Located::Here(_, to) => Ok(to),
            // A topic that was deleted takes nothing any more.
            Located::Gone => Err(Fate::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            Located::Unknown => Err(Fate::Unknown),
        },
    };
    let fate = match (to, held.single.get()) {
        (Ok(to), Some(single)) => cluster.produce_single(&single, &to, &stamp(&pair), doubt).await,
        // Kafka has it; whoever asks again has to say it again.
        (Ok(_), None) => Fate::Unknown,
        (Err(fate), _) => fate,
    };
    match fate {
        Fate::Appended { offset, timestamp } => {
            held.single.let_go();
            held.letter.iter().for_each(Unsaid::let_go);
            // The rules may have become others: of what they do not map any more nothing is retained.
            let job = held.retained.as_deref().filter(|_| held.source.topic == pair.source.topic);
            let Some((keeper, job)) = keeper.zip(job) else {
                return (Outcome::Appended, None);
            };
            // Where topics have LogAppendTime a new one has a timestamp, too, and clocks of brokers differ.
            let timestamp = timestamp.filter(|_| doubt);
            match retain(keeper, job, (pair.source.partition.cast_signed(), offset), timestamp).await {
                // It is left out, but not the first: its sequence is used.
                (Outcome::Refused, code) if held.skip.is_some() || held.letter.is_some() => (Outcome::Appended, code),
                told => told,
            }
        }
        Fate::Gap => (Outcome::Gap, None),
        Fate::Fenced => (Outcome::Fenced, None),
        Fate::Unknown => (Outcome::Unknown, None),
        Fate::Refused(code) => match &held.skip {
            Some(rule) => {
                rule.dropped(code.name());
                (Outcome::Skipped, Some(code))
            }
            None => (Outcome::Refused, Some(code)),
        },
    }
}

/// Retains a message whose first record lies at a partition and offset, and has a timestamp if Kafka may have had it from before.
pub(super) async fn retain(keeper: &Retained, job: &Job, (partition, offset): (i32, i64), timestamp: Option<i64>) -> Told {
    failure::step("mapped");
    if offset < 0 {
        // No broker of the supported lines answers so. Under a made-up offset it could win over what is newer.
        let topic = cut(job.topic());
        tracing::error!(
            topic = &*topic,
            "Kafka does not say where a message lies: it is stored, but not retained"
        );
        return (Outcome::Appended, None);
    }
    let kept = match timestamp {
        Some(timestamp) => keeper.keep_again(job.clone(), (partition, offset), timestamp).await,
        None => keeper.keep(job.clone(), partition, offset).await,
    };
    match kept {
        Written::Stored { .. } => (Outcome::Appended, None),
        Written::Refused(code) => (Outcome::Refused, Some(code)),
        // The whole is done again, by the same pair.
        Written::Unknown | Written::Expired { .. } => (Outcome::Unknown, None),
    }
}
