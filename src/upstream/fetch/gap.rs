//! Whether anything is to be read from an offset on, asked once: compaction may have taken all there was up to the end of a log.
//!
//! A reader waits there as it waits at the end. That is no error to Kafka, and a fetch session (KIP-227) does not even name a partition that
//! has no news.

use std::sync::Arc;

use kafka_protocol::messages::{ApiKey, BrokerId, FetchResponse};

use super::{
    lane::{LARGEST_BATCH, NEWEST_FETCH, Want},
    session::{BY_ID, Session},
};
use crate::upstream::{
    cluster::Core,
    connection::{CallError, Connection},
    offsets,
    settings::Isolation,
    topics::Partition,
};

/// The offset up to which the log of `partition` holds nothing to be read from `offset` on; `None` if it does, or if no broker says so in time.
/// What is written later lies behind it.
pub(crate) async fn find(core: Arc<Core>, partition: Arc<Partition>, offset: i64) -> Option<i64> {
    let end = ask(&core, &partition, offset).await.ok()??;
    // What lies in remote storage (KIP-405) may be late, and then it is left out of the answer as if it were not there. Asked for after that:
    // the local log only ever loses its beginning.
    let local = offsets::list(&core, vec![Some(&partition)], offsets::EARLIEST_LOCAL).await;
    matches!(local.as_slice(), [Ok(begin)] if *begin <= offset).then_some(end)
}

/// One fetch, outside of all sessions and on a connection of its own: the polls on the others are out for long.
async fn ask(core: &Core, partition: &Arc<Partition>, offset: i64) -> Result<Option<i64>, CallError> {
    let Some(broker) = partition.lock().broker.clone() else {
        return Ok(None);
    };
    let connection = Connection::open(&broker.address(), core, LARGEST_BATCH).await?;
    let newest = if partition.topic_id.is_nil() { BY_ID - 1 } else { NEWEST_FETCH };
    let version = connection
        .version(ApiKey::Fetch, newest)
        .ok_or(CallError::Unsendable("the broker shares no version of Fetch"))?;
    let want = Want {
        slot: 0,
        partition: Arc::clone(partition),
        offset,
        last_epoch: -1,
    };
    let mut session = Session::default();
    let isolation = core.settings.consumer.isolation;
    let request = session
        .ask(&[want], version, 1)
        .with_session_epoch(-1)
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_max_bytes(1)
        .with_isolation_level(isolation.level());
    let mut call = connection.send(ApiKey::Fetch, version, &request, core.settings.request_timeout)?;
    let answer: FetchResponse = call.answer().await?;
    // Whoever has used up its quota gets nothing, whatever there is.
    let is_told = answer.error_code == 0 && answer.throttle_time_ms == 0;
    let piece = session.take(answer).pop().filter(|_| is_told);
    Ok(piece.and_then(|piece| {
        let data = piece.data;
        let is_empty = data.error_code == 0 && data.records.is_none_or(|records| records.is_empty());
        let is_there = data.preferred_read_replica.0 < 0 && data.diverging_epoch.epoch < 0;
        let end = match isolation {
            Isolation::ReadCommitted => data.last_stable_offset,
            Isolation::ReadUncommitted => data.high_watermark,
        };
        (is_empty && is_there && end > offset).then_some(end)
    }))
}
