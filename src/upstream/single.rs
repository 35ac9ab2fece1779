//! Single records by a pair of the caller's: producer id, epoch and sequence are its own, and outlive this process (KIP-98).
//!
//! Sent again with the same three numbers a record is not written twice, whoever sends it. The caller writes the pair down before it
//! produces, has one record in doubt for each producer id and partition, and stays within the five sequences that a broker remembers.
//! Each broker has a connection of its own for these: a batch for each record must not wait behind the batches of many.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::sleep;

use super::{
    accumulator::Answer,
    backoff,
    broker::Broker,
    cluster::{Cluster, Core},
    connection::{Connection, ORDINARY_FRAME},
    identity,
    produce::{Awaited, Part, answers_to, judge, produce},
    topics::{Partition, Topic},
};
use crate::kafka::error::ErrorCode;

/// Between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MOST_PAUSE: Duration = Duration::from_secs(1);

/// What Kafka said to a single record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SingleOutcome {
    /// It is there, from now or from before.
    Stored,
    /// 45 OUT_OF_ORDER_SEQUENCE_NUMBER: it is not there, since one before it is missing, and cannot be by this pair.
    Gap,
    /// It will never be there.
    Refused(ErrorCode),
    /// No answer within the delivery timeout: nobody knows.
    Unknown,
}

/// The connections for single records, by broker, and one that producer ids are asked for on.
#[derive(Default)]
pub(crate) struct Singles {
    lanes: tokio::sync::Mutex<HashMap<i32, Arc<Connection>>>,
    ids: tokio::sync::Mutex<Option<Connection>>,
}

impl Cluster {
    /// A producer id that nobody has used, and its epoch. Waits until there is one. Cancel-safe.
    pub async fn fresh_producer(&self) -> (i64, i16) {
        let core = self.core();
        let mut attempt = 0;
        loop {
            let mut link = core.singles.ids.lock().await;
            match identity::ask(core, &mut link).await {
                Ok(identity) => return (identity.producer_id, identity.epoch),
                Err(why) => tracing::debug!(why = why.text(), "no producer id for a session yet"),
            }
            drop(link);
            sleep(backoff::wait(attempt, FIRST_PAUSE, MOST_PAUSE)).await;
            attempt += 1;
        }
    }

    /// Produces a sealed batch of one record. Tried until Kafka has answered for it, for the delivery timeout at most. A call that is given
    /// up may still be carried out.
    pub async fn produce_single(&self, topic: &Topic, partition: i32, batch: Bytes) -> SingleOutcome {
        let core = self.core();
        let partition = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
        let Some(partition) = partition else {
            return SingleOutcome::Unknown;
        };
        let until = Instant::now() + core.settings.producer.delivery_timeout;
        let mut attempt = 0;
        while Instant::now() < until {
            let part = Part {
                partition: Arc::clone(partition),
                ordinal: 0,
                bytes: batch.clone(),
            };
            match once(core, part).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(why) => {
                    tracing::debug!(why, "a single record is sent again");
                    core.refresh_all();
                }
            }
            sleep(backoff::wait(attempt, FIRST_PAUSE, MOST_PAUSE)).await;
            attempt += 1;
        }
        SingleOutcome::Unknown
    }
}

/// One attempt; `None` if it is to be made again.
async fn once(core: &Core, part: Part) -> Result<Option<SingleOutcome>, String> {
    let broker = leader(core, &part.partition).ok_or("nobody leads the partition")?;
    let connection = lane(core, &broker).await?;
    let parts = [part];
    let mut awaited: Awaited = produce(core, &connection, &parts).map_err(|e| e.to_string())?;
    let answer = awaited.wait().await.map_err(|e| e.to_string())?.ok_or("no answer was asked for")?;
    let (code, offset) = answers_to(&parts, &answer)[0].ok_or("the answer does not name the partition")?;
    let (answer, _) = judge(core, code, offset);
    Ok(match answer {
        Answer::Stored(_) => Some(SingleOutcome::Stored),
        Answer::OutOfOrder => Some(SingleOutcome::Gap),
        Answer::TooLarge(error) | Answer::Refused(error) => Some(SingleOutcome::Refused(error)),
        // A later epoch of this id was used: whoever did that has decided about the record.
        Answer::IdentityDead => Some(SingleOutcome::Unknown),
        Answer::NotStored | Answer::Doubt => None,
    })
}

fn leader(core: &Core, partition: &Partition) -> Option<Arc<Broker>> {
    partition.leader().and_then(|id| core.broker(id))
}

async fn lane(core: &Core, broker: &Broker) -> Result<Arc<Connection>, String> {
    let mut lanes = core.singles.lanes.lock().await;
    if let Some(open) = lanes.get(&broker.id).filter(|lane| lane.is_open()) {
        return Ok(Arc::clone(open));
    }
    let opened = Connection::open(&broker.address(), core, ORDINARY_FRAME).await;
    let opened = Arc::new(opened.map_err(|e| e.to_string()).inspect_err(|why| broker.tell_unreachable(why))?);
    broker.reached();
    lanes.insert(broker.id, Arc::clone(&opened));
    Ok(opened)
}
