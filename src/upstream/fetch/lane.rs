//! One lane of a fetcher: a connection, and one poll on it at a time.

use std::{sync::Arc, time::Duration};

use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse,
    fetch_request::{FetchPartition, FetchTopic},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::upstream::{
    broker::Broker,
    cluster::Core,
    connection::{CallError, Connection},
    metadata::topic_name,
    topics::Partition,
};

/// The last version whose layout we send.
const NEWEST_FETCH: i16 = 17;
/// The first version that names topics by id.
const BY_ID: i16 = 13;
/// One batch may be larger than what was asked for; a broker's `message.max.bytes` is rarely above this.
const LARGEST_BATCH: usize = 128 * 1024 * 1024;
/// A fetch of many partitions is answered with at most so many times `fetch_size`.
const MOST_FULL: usize = 8;

/// A poll to be made.
pub(super) struct Poll {
    pub(super) wants: Vec<Want>,
    pub(super) max_wait: Duration,
}

/// A partition in a poll.
pub(super) struct Want {
    pub(super) slot: u64,
    pub(super) partition: Arc<Partition>,
    pub(super) offset: i64,
}

/// A poll that has ended.
pub(super) struct Polled {
    pub(super) lane: usize,
    pub(super) wants: Vec<Want>,
    pub(super) result: Result<FetchResponse, CallError>,
}

/// Makes the polls it is given, one after the other.
pub(super) async fn run(core: Arc<Core>, broker: Arc<Broker>, lane: usize, mut polls: mpsc::Receiver<Poll>, done: mpsc::Sender<Polled>) {
    let mut link: Option<Connection> = None;
    let mut not_before = Instant::now();
    while let Some(poll) = polls.recv().await {
        sleep_until(not_before).await;
        let since = Instant::now();
        let result = fetch(&core, &broker, &mut link, &poll).await;
        core.counters.fetch_latency.observe(since.elapsed().as_secs_f64());
        match &result {
            Ok(answer) if answer.throttle_time_ms > 0 => {
                core.counters.throttled_ms.inc_by(answer.throttle_time_ms as u64);
                not_before = Instant::now() + Duration::from_millis(answer.throttle_time_ms as u64);
            }
            Ok(_) => {}
            Err(_) => link = None,
        }
        if done
            .send(Polled {
                lane,
                wants: poll.wants,
                result,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn fetch(core: &Core, broker: &Broker, link: &mut Option<Connection>, poll: &Poll) -> Result<FetchResponse, CallError> {
    let full = core.settings.consumer.fetch_size.saturating_mul(MOST_FULL);
    if link.as_ref().is_none_or(|l| !l.is_open()) {
        *link = Some(
            Connection::open(
                &broker.address(),
                &core.settings,
                &core.counters,
                full.saturating_add(LARGEST_BATCH),
            )
            .await?,
        );
    }
    let connection = link.as_ref().expect("opened above");
    let by_id = poll.wants.iter().all(|w| !w.partition.topic_id.is_nil());
    let most = if by_id { NEWEST_FETCH } else { BY_ID - 1 };
    let version = connection
        .version(ApiKey::Fetch, most)
        .ok_or(CallError::Unsendable("the broker shares no version of Fetch"))?;
    let partition_bytes = i32::try_from(core.settings.consumer.fetch_size).unwrap_or(i32::MAX);
    let mut topics: Vec<(&Arc<Partition>, FetchTopic)> = Vec::new();
    for want in &poll.wants {
        let piece = FetchPartition::default()
            .with_partition(want.partition.index)
            .with_current_leader_epoch(want.partition.leader_epoch())
            .with_fetch_offset(want.offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(partition_bytes);
        let topic = &want.partition;
        match topics
            .iter_mut()
            .rev()
            .find(|(first, _)| first.topic_id == topic.topic_id && first.topic == topic.topic)
        {
            Some((_, pieces)) => pieces.partitions.push(piece),
            None => {
                let named = if version >= BY_ID {
                    FetchTopic::default().with_topic_id(topic.topic_id)
                } else {
                    FetchTopic::default().with_topic(topic_name(&topic.topic))
                };
                topics.push((topic, named.with_partitions(vec![piece])));
            }
        }
    }
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(poll.max_wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(i32::try_from(full).unwrap_or(i32::MAX))
        .with_isolation_level(core.settings.consumer.isolation.level())
        // No fetch session (KIP-227): each poll names all it wants.
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics.into_iter().map(|(_, topic)| topic).collect());
    let within = poll.max_wait + core.settings.request_timeout;
    connection.send(ApiKey::Fetch, version, &request, within)?.answer().await
}
