//! All stored sessions, read once from `mqtt-sessions` for an operator. Nobody's session is touched.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::feed::LIMITS;
use crate::{
    kafka::{error::ErrorCode, fetched},
    mapping::partition_for_key,
    ownership::{Record, Roster},
    upstream::{Chunk, Cluster, Start, State, Topic, TopicState},
};

/// How long Kafka may take to tell whether the topic is there, and for each chunk of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterError {
    /// No broker answers; the last reason.
    Unreachable(String),
    /// There is no such topic, or it must not be read.
    NoTopic(String),
    /// A broker refuses.
    Kafka(ErrorCode),
    /// Nothing came in time.
    Silent,
    /// A batch cannot be read; what is wrong with it.
    Damaged(String),
    /// The log changed while it was read: it was cut off, or the topic was deleted.
    Changed,
}

impl fmt::Display for RosterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RosterError::Unreachable(why) => write!(f, "Kafka cannot be reached: {why}"),
            RosterError::NoTopic(topic) => write!(
                f,
                "the topic {topic} does not exist or may not be read: no session was ever stored there"
            ),
            RosterError::Kafka(error) => write!(f, "the sessions cannot be read: {error:?}"),
            RosterError::Silent => write!(f, "the sessions cannot be read: Kafka did not answer in time"),
            RosterError::Damaged(why) => write!(f, "the sessions cannot be read: {why}"),
            RosterError::Changed => write!(f, "the topic was changed while it was read; try again"),
        }
    }
}

impl std::error::Error for RosterError {}

/// Reads what the topic holds at the moment: of all clients, or of one, which takes its partition only.
///
/// # Errors
/// See [`RosterError`]; each comes within some 15 seconds after the last thing that Kafka told.
pub async fn roster(cluster: &Cluster, topic: &str, client: Option<&str>) -> Result<Roster, RosterError> {
    let topic = find(cluster, topic).await?;
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let (mut roster, partitions) = match client {
        Some(client) => {
            let partition = partition_for_key(client.as_bytes(), count);
            (Roster::of(client), partition..partition + 1)
        }
        None => (Roster::new(), 0..count),
    };
    for partition in partitions {
        read(cluster, &topic, partition as i32, &mut roster).await?;
    }
    Ok(roster)
}

async fn find(cluster: &Cluster, name: &str) -> Result<Arc<Topic>, RosterError> {
    match timeout(PATIENCE, cluster.topic_known(name)).await {
        Ok(TopicState::Ready(topic)) => Ok(topic),
        Ok(_) => Err(RosterError::NoTopic(name.to_owned())),
        Err(_) => Err(RosterError::Unreachable(match &*cluster.state().borrow() {
            State::Connecting { why } | State::Unfit { why } => why.clone(),
            State::Ready => format!("nothing was told of the topic {name} in time"),
        })),
    }
}

/// One partition, from the earliest offset to the end there is now.
async fn read(cluster: &Cluster, topic: &Arc<Topic>, partition: i32, roster: &mut Roster) -> Result<(), RosterError> {
    let of = [(Arc::clone(topic), partition)];
    let one = |offsets: Vec<Result<i64, ErrorCode>>| offsets.into_iter().next().unwrap_or(Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let first = one(cluster.offsets_since(&of, 0).await).map_err(RosterError::Kafka)?;
    let end = one(cluster.end_offsets(&of).await).map_err(RosterError::Kafka)?;
    let mut position = first;
    let mut reader = cluster.read(topic, partition, Start::Offset(first));
    while position < end {
        let chunk = timeout(PATIENCE, reader.next()).await.map_err(|_| RosterError::Silent)?;
        let chunk = chunk.filter(|chunk| !chunk.reset).ok_or(RosterError::Changed)?;
        position = chunk.next_offset;
        take(partition, chunk, roster)?;
    }
    Ok(())
}

fn take(partition: i32, chunk: Chunk, roster: &mut Roster) -> Result<(), RosterError> {
    let damaged = |error: fetched::BatchError| RosterError::Damaged(error.to_string());
    for batch in fetched::batches(chunk.bytes, LIMITS).starting_at(chunk.offset) {
        let batch = batch.map_err(damaged)?;
        for record in batch.records().filter(|_| !batch.is_control) {
            let record = record.map_err(damaged)?;
            if record.offset < chunk.offset {
                continue;
            }
            let headers: Vec<_> = record
                .headers()
                .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value?)))
                .collect();
            roster.read(
                partition,
                &Record {
                    offset: record.offset,
                    timestamp: u64::try_from(record.timestamp).unwrap_or(0),
                    key: record.key.unwrap_or_default(),
                    headers: &headers,
                    value: record.value,
                },
            );
        }
    }
    Ok(())
}
