//! One lane of a fetcher: a connection with its fetch session, and one poll on it at a time.

use std::{sync::Arc, time::Duration};

use kafka_protocol::messages::{ApiKey, BrokerId, FetchResponse};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at},
};

use super::session::{BY_ID, Piece, Session, rack};
use crate::upstream::{
    broker::Broker,
    cluster::Core,
    connection::{CallError, Connection},
    topics::Partition,
};

/// The last version whose layout we send.
pub(super) const NEWEST_FETCH: i16 = 17;
/// One batch may be larger than what was asked for; a broker's `message.max.bytes` is rarely above this.
pub(super) const LARGEST_BATCH: usize = 128 * 1024 * 1024;
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
    /// The leader epoch of the record before it; -1 if not known.
    pub(super) last_epoch: i32,
}

/// A poll that has ended.
pub(super) struct Polled {
    pub(super) lane: usize,
    pub(super) wants: Vec<Want>,
    pub(super) result: Result<Answer, CallError>,
}

/// What a broker answered.
pub(super) struct Answer {
    /// Of the whole fetch.
    pub(super) error_code: i16,
    pub(super) pieces: Vec<Piece>,
}

/// An answer that is late by so long makes us ask whether another broker leads by now, and again after as long: a broker that is paused
/// owes it until the request timeout, and its heir has the records.
const OVERDUE: Duration = Duration::from_secs(1);

/// Waits for a poll; what it reads moves to another broker as soon as metadata say so.
async fn watched<T>(core: &Core, max_wait: Duration, poll: impl Future<Output = T>) -> T {
    tokio::pin!(poll);
    let mut doubts = 0;
    let mut overdue = interval_at(Instant::now() + max_wait + OVERDUE, OVERDUE);
    loop {
        tokio::select! {
            done = &mut poll => return done,
            _ = overdue.tick() => {
                core.refresh_all(doubts);
                doubts += 1;
            }
        }
    }
}

/// Makes the polls it is given, one after the other.
pub(super) async fn run(core: Arc<Core>, broker: Arc<Broker>, lane: usize, mut polls: mpsc::Receiver<Poll>, done: mpsc::Sender<Polled>) {
    let mut link: Option<Connection> = None;
    let mut session = Session::default();
    while let Some(poll) = polls.recv().await {
        let since = Instant::now();
        let result = watched(&core, poll.max_wait, fetch(&core, &broker, &mut link, &mut session, &poll)).await;
        core.counters.fetch_latency.observe(since.elapsed().as_secs_f64());
        if result.is_err() {
            link = None;
            session.restart();
        }
        let result = result.map(|answer| Answer {
            error_code: answer.error_code,
            pieces: session.take(answer),
        });
        let wants = poll.wants;
        if done.send(Polled { lane, wants, result }).await.is_err() {
            return;
        }
    }
}

async fn fetch(
    core: &Core,
    broker: &Broker,
    link: &mut Option<Connection>,
    session: &mut Session,
    poll: &Poll,
) -> Result<FetchResponse, CallError> {
    let consumer = &core.settings.consumer;
    let full = consumer.fetch_size.saturating_mul(MOST_FULL);
    if link.as_ref().is_none_or(|l| !l.is_open()) {
        // What the broker remembers is not known any more.
        session.restart();
        let largest = full.saturating_add(LARGEST_BATCH);
        *link = Some(Connection::open(&broker.address(), core, largest).await?);
    }
    let connection = link.as_ref().expect("opened above");
    let by_id = poll.wants.iter().all(|w| !w.partition.topic_id.is_nil());
    let version = connection
        .version(ApiKey::Fetch, if by_id { NEWEST_FETCH } else { BY_ID - 1 })
        .ok_or(CallError::Unsendable("the broker shares no version of Fetch"))?;
    let request = session
        .ask(&poll.wants, version, i32::try_from(consumer.fetch_size).unwrap_or(i32::MAX))
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(poll.max_wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(i32::try_from(full).unwrap_or(i32::MAX))
        .with_isolation_level(consumer.isolation.level())
        .with_rack_id(rack(consumer.rack.as_deref(), version));
    let within = poll.max_wait + core.settings.request_timeout;
    connection.send(ApiKey::Fetch, version, &request, within)?.answer().await
}
