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

/// The last version whose layout we send. 17 and 18 brought fields of replicas that fetch (KIP-853, KIP-1166), which readers leave out.
pub(super) const NEWEST_FETCH: i16 = 18;
/// One batch may be larger than what was asked for; a broker's `message.max.bytes` is rarely above this.
pub(super) const LARGEST_BATCH: usize = 128 * 1024 * 1024;
/// A fetch of many partitions is answered with at most so many times `fetch_size`.
const MOST_FULL: usize = 8;

/// A poll to be made.
pub(super) struct Poll {
    pub(super) wants: Vec<Want>,
    pub(super) max_wait: Duration,
    /// The broker is told where we are, so that it may name a replica nearer to us (KIP-392).
    pub(super) near: bool,
}

/// A partition in a poll.
pub(super) struct Want {
    pub(super) slot: u64,
    pub(super) partition: Arc<Partition>,
    pub(super) offset: i64,
    /// The leader epoch of the record before it; -1 if not known.
    pub(super) last_epoch: i32,
}

/// What a lane tells its fetcher.
pub(super) enum Report {
    /// Its poll is long overdue, and nothing of an answer comes. Told again and again while that is so.
    Silent,
    /// Its poll has ended.
    Polled(Polled),
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
/// owes it until the request timeout, and its heir has the records. A replica that does not lead is left.
const OVERDUE: Duration = Duration::from_secs(1);

/// Makes the polls it is given, one after the other.
pub(super) async fn run(core: Arc<Core>, broker: Arc<Broker>, lane: usize, mut polls: mpsc::Receiver<Poll>, reports: mpsc::Sender<Report>) {
    let mut lane = Lane {
        core,
        broker,
        lane,
        reports,
        link: None,
        session: Session::default(),
    };
    while let Some(poll) = polls.recv().await {
        let polled = lane.poll(poll).await;
        if lane.reports.send(Report::Polled(polled)).await.is_err() {
            return;
        }
    }
}

struct Lane {
    core: Arc<Core>,
    broker: Arc<Broker>,
    lane: usize,
    reports: mpsc::Sender<Report>,
    link: Option<Connection>,
    session: Session,
}

impl Lane {
    async fn poll(&mut self, poll: Poll) -> Polled {
        let since = Instant::now();
        let result = self.fetch(&poll).await;
        self.core.counters.fetch_latency.observe(since.elapsed().as_secs_f64());
        if result.is_err() {
            self.link = None;
            self.session.restart();
        }
        let result = result.map(|answer| Answer {
            error_code: answer.error_code,
            pieces: self.session.take(answer),
        });
        Polled {
            lane: self.lane,
            wants: poll.wants,
            result,
        }
    }

    async fn fetch(&mut self, poll: &Poll) -> Result<FetchResponse, CallError> {
        self.connect(poll).await?;
        let connection = self.link.as_ref().expect("connected above");
        let consumer = &self.core.settings.consumer;
        let by_id = poll.wants.iter().all(|w| !w.partition.topic_id.is_nil());
        let version = connection
            .version(ApiKey::Fetch, if by_id { NEWEST_FETCH } else { BY_ID - 1 })
            .ok_or(CallError::Unsendable("the broker shares no version of Fetch"))?;
        let here = consumer.rack.as_deref().filter(|_| poll.near);
        let request = self
            .session
            .ask(&poll.wants, version, i32::try_from(consumer.fetch_size).unwrap_or(i32::MAX))
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(poll.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(i32::try_from(self.full()).unwrap_or(i32::MAX))
            .with_isolation_level(consumer.isolation.level())
            .with_rack_id(rack(here, version));
        let within = poll.max_wait + self.core.settings.request_timeout;
        let mut call = connection.send(ApiKey::Fetch, version, &request, within)?;
        self.watched(poll.max_wait, Some(connection), call.answer()).await
    }

    /// Sees to a connection.
    async fn connect(&mut self, poll: &Poll) -> Result<(), CallError> {
        if self.link.as_ref().is_none_or(|l| !l.is_open()) {
            // What the broker remembers is not known any more.
            self.session.restart();
            let (address, largest) = (self.broker.address(), self.full().saturating_add(LARGEST_BATCH));
            let open = Connection::open(&address, &self.core, largest);
            self.link = Some(self.watched(poll.max_wait, None, open).await?);
        }
        Ok(())
    }

    /// Bytes that are asked for in one fetch.
    fn full(&self) -> usize {
        self.core.settings.consumer.fetch_size.saturating_mul(MOST_FULL)
    }

    /// Waits for a step of a poll; what it reads moves to another broker as soon as metadata say so, or at once if this one does not lead.
    async fn watched<T>(&self, max_wait: Duration, link: Option<&Connection>, step: impl Future<Output = T>) -> T {
        tokio::pin!(step);
        let heard = || link.map_or(0, Connection::heard);
        let (mut doubts, mut before) = (0, heard());
        // Who asks for quiet is silent for no other reason.
        let from = link.and_then(Connection::throttled).unwrap_or_else(Instant::now);
        let mut overdue = interval_at(from + max_wait + OVERDUE, OVERDUE);
        loop {
            tokio::select! {
                done = &mut step => return done,
                _ = overdue.tick() => {
                    self.core.refresh_all(doubts);
                    doubts += 1;
                    // A large answer over a narrow line takes its time, and would elsewhere, too.
                    if std::mem::replace(&mut before, heard()) == heard() {
                        // Nobody listens any more once the client is shut down.
                        let _ = self.reports.send(Report::Silent).await;
                    }
                }
            }
        }
    }
}
