//! Records by themselves, each a batch of its own under a stamp that its user gives: exactly once over connections, processes and crashes.
//!
//! The stamp (producer id, epoch, sequence; KIP-98) is written down before the record is produced, so whoever produces it again says the
//! same, and Kafka drops what it has. So a record is retried under its stamp whatever happens, until Kafka has said something definite.
//!
//! `lane` sends: a broker serves one request of a connection after the other, so these have connections of their own, a few for each
//! broker. A request has one batch for each partition at most; records for the same partition go by different requests. `spare` keeps
//! producer ids ready that nobody has used.

mod lane;
mod spare;

use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

pub(crate) use lane::{Singles, run};
pub(crate) use spare::Spare;

use super::{
    accumulator::Answer,
    appender::{AppendError, WriteOptions},
    backoff,
    cluster::{Cluster, Core},
    topics::Partition,
};
use crate::kafka::{
    Header, RecordFields,
    batch::{BatchBuilder, Producer, restamp},
    error::ErrorCode,
};

/// After so long without an answer it is asked whether another broker leads by now.
const OVERDUE: Duration = Duration::from_secs(1);

/// A record by itself. Its bytes count to the producer's memory until it is dropped.
pub struct Single {
    core: Arc<Core>,
    /// A sealed batch, under the stamp it was produced with last.
    batch: Mutex<Bytes>,
    charged: usize,
}

/// What became of a record under its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Kafka has it, from now or from before.
    Appended {
        /// Where, of a repeated record where it was appended first; -1 if the broker does not tell: 46 DUPLICATE_SEQUENCE_NUMBER says
        /// only that it is there. Brokers of the supported lines say 0 and the first offset.
        offset: i64,
        /// The timestamp of what is there, if the broker tells: of a repeated record that of the first; of a new one only where the topic has
        /// LogAppendTime.
        timestamp: Option<i64>,
    },
    /// 45 OUT_OF_ORDER_SEQUENCE_NUMBER: something before it is missing. Also 59 UNKNOWN_PRODUCER_ID of brokers before 2.5: the producer
    /// is forgotten, and newer ones would take any sequence of it.
    Gap,
    /// It will never be there.
    Refused(ErrorCode),
    /// 47 INVALID_PRODUCER_EPOCH: the id is used under a higher epoch already.
    Fenced,
    /// No definite answer within the delivery timeout; or a refusal, say for a right that is missing, after an attempt that may have been stored.
    Unknown,
}

impl Single {
    /// The batch under a stamp. It is written where it lies; only while somebody else produces it, or a request of before still carries it, there
    /// are two.
    fn stamped(&self, stamp: &Producer) -> Bytes {
        let mut kept = self.batch.lock().expect("no code that holds this lock panics");
        let mut batch = std::mem::take(&mut *kept)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        restamp(&mut batch, stamp);
        *kept = batch.freeze();
        kept.clone()
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.core.memory.release(self.charged);
    }
}

impl std::fmt::Debug for Single {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Single({} bytes)", self.charged)
    }
}

impl Core {
    /// Makes a batch of one record; `charge` takes memory of the budget.
    ///
    /// # Errors
    /// The bytes that it needs: there is no memory for them.
    pub(super) fn single<'a, H>(
        self: &Arc<Self>,
        fields: &RecordFields<'a, H>,
        options: WriteOptions,
        charge: impl FnOnce(usize) -> bool,
    ) -> Result<Single, usize>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let mut builder = BatchBuilder::new();
        let needed = builder.len() + builder.encoded_len(fields);
        if !charge(needed) {
            return Err(needed);
        }
        if builder.append(fields).is_err() {
            self.memory.release(needed);
            return Err(usize::MAX);
        }
        let compression = options.compression.unwrap_or(self.settings.producer.compression);
        Ok(Single {
            core: Arc::clone(self),
            batch: Mutex::new(builder.seal(&Producer::NONE, compression).bytes),
            charged: needed,
        })
    }
}

impl Cluster {
    /// A producer id that nobody has used, and its epoch (InitProducerId). Waits as long as Kafka gives none. Cancel-safe.
    pub async fn fresh_producer_id(&self) -> (i64, i16) {
        let identity = self.core().spare.take(self.core()).await;
        (identity.producer_id, identity.epoch)
    }

    /// Produces a record under a stamp, over all that can go wrong, for as long as the delivery timeout. Dropping the future does not
    /// take back what has left.
    ///
    /// `doubt`: somebody may have produced it under this stamp before, and heard nothing.
    pub async fn produce_single(&self, single: &Single, to: &Arc<Partition>, stamp: &Producer, mut doubt: bool) -> Fate {
        let core = self.core();
        let deadline = Instant::now() + core.settings.producer.delivery_timeout;
        let batch = single.stamped(stamp);
        let (mut failures, mut looks) = (0, 0);
        while Instant::now() < deadline && !core.closing.load(Relaxed) && !to.is_gone() {
            let told = tokio::select! {
                told = attempt(core, to, &batch, failures.max(looks)) => told,
                () = sleep_until(deadline) => break,
            };
            match told {
                Some((Answer::Stored(offset), timestamp)) => {
                    core.counters.batches.inc();
                    core.counters.records.inc();
                    core.counters.bytes.inc_by(batch.len() as u64);
                    return Fate::Appended { offset, timestamp };
                }
                Some((Answer::OutOfOrder, _)) => return Fate::Gap,
                Some((Answer::IdentityDead, _)) => return Fate::Fenced,
                Some((Answer::Refused(code) | Answer::TooLarge(code) | Answer::Unfit(code), _)) => {
                    to.tell_refused(code, 1, batch.len());
                    return if doubt && !is_of_content(code) {
                        Fate::Unknown
                    } else {
                        Fate::Refused(code)
                    };
                }
                Some((told @ (Answer::NotStored | Answer::Doubt), _)) => {
                    doubt |= told == Answer::Doubt;
                    core.counters.retries.inc();
                    sleep(backoff::wait(failures, Duration::from_millis(20), Duration::from_secs(1))).await;
                    failures += 1;
                }
                // Another broker leads by now, or still none; the former one may have appended it.
                None => {
                    doubt = true;
                    looks += 1;
                }
            }
        }
        core.counters.expired.inc();
        Fate::Unknown
    }
}

/// Whether a refusal is for what the record is: an earlier attempt, if it came to its end, ended the same way. The others (a right that is
/// missing, a topic that is gone) tell nothing of an earlier one. Somebody who lowers `max.message.bytes` between two attempts makes this
/// wrong; without it a record that Kafka will never take would be in doubt for ever once its first owner died.
fn is_of_content(code: ErrorCode) -> bool {
    // MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_TIMESTAMP, UNSUPPORTED_FOR_MESSAGE_FORMAT, POLICY_VIOLATION,
    // UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD.
    matches!(code.code(), 10 | 18 | 32 | 43 | 44 | 76 | 87)
}

/// One attempt at the broker that leads; `None` if another one leads before there is an answer. A paused broker owes its answers for long,
/// while its heir knows the sequences. `failures`: attempts before this one.
async fn attempt(core: &Arc<Core>, to: &Arc<Partition>, batch: &Bytes, mut failures: u32) -> Option<lane::Told> {
    let mut changed = core.changed.subscribe();
    changed.mark_unchanged();
    let Some(broker) = to.lock().broker.clone() else {
        core.refresh_all(failures);
        // Nobody leads. Said again now and then: what is asked for once may be answered by a broker that is late.
        tokio::select! {
            _ = changed.changed() => {}
            () = sleep(OVERDUE) => {}
        }
        return None;
    };
    let (reply, mut told) = oneshot::channel();
    broker.singles.push(to, batch, failures, reply);
    loop {
        tokio::select! {
            told = &mut told => return Some(told.unwrap_or((Answer::Doubt, None))),
            _ = changed.changed() => {
                if to.leader() != Some(broker.id) {
                    return None;
                }
            }
            () = sleep(OVERDUE) => {
                core.refresh_all(failures);
                failures += 1;
            }
        }
    }
}

impl super::Appender {
    /// Makes a record that is produced by itself, with [`Cluster::produce_single`].
    ///
    /// # Errors
    /// As of [`append`](Self::append).
    pub fn single<'a, H>(&mut self, fields: &RecordFields<'a, H>, options: WriteOptions) -> Result<Single, AppendError>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        self.take_single(fields, options)
    }
}
