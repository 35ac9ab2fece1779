//! One broker: a connection with its share session, and one request on it at a time.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::messages::{ApiKey, ShareFetchResponse};
use tokio::{
    sync::{mpsc, watch},
    time::{interval_at, sleep_until},
};

use super::{
    Acquired, ShareEvent,
    board::Board,
    request::{ShareFetch, VERSION},
    session::{Lease, News, Place, Session},
};
use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::{
        backoff,
        broker::Broker,
        cluster::Core,
        connection::{CallError, Connection},
        topics::TopicId,
    },
};

/// How long a broker waits for records. Acknowledgements wait for its answer, too, and what is released with them for whoever gets it.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Records of one request.
const MOST_RECORDS: usize = 500;
/// One batch may be larger than what was asked for.
const LARGEST_BATCH: usize = 128 * 1024 * 1024;
/// An answer that is late by so long makes us ask whether another broker leads by now.
const OVERDUE: Duration = Duration::from_secs(1);

pub(super) struct Lane {
    pub(super) core: Arc<Core>,
    pub(super) broker: Arc<Broker>,
    pub(super) board: Arc<Board>,
    pub(super) events: mpsc::Sender<ShareEvent>,
    /// What is to be read here.
    pub(super) places: watch::Receiver<BTreeSet<Place>>,
    pub(super) session: Session,
    pub(super) link: Option<Connection>,
    pub(super) failures: u32,
}

/// Nobody takes events any more.
struct Unheard;

impl Lane {
    /// Until nothing is to be read here and nothing is left to be acknowledged, or the membership ends.
    pub(super) async fn run(mut self) {
        let mut board = self.board.subscribe();
        loop {
            board.mark_unchanged();
            let places = self.places.borrow_and_update().clone();
            self.session.want(&places);
            self.take_acks();
            if self.board.is_closing() {
                return self.close().await;
            }
            if self.session.is_over() && self.places.has_changed().is_err() {
                return;
            }
            let room = self.board.room().min(MOST_RECORDS) as i32;
            let request = self.session.next(now(), room);
            for news in self.session.lapsed() {
                if self.tell(news).await.is_err() {
                    return;
                }
            }
            let Some(request) = request else {
                let look_at = self.session.look_at().map(tokio::time::Instant::from_std);
                tokio::select! {
                    _ = board.changed() => {}
                    changed = self.places.changed() => if changed.is_err() && self.session.is_over() { return },
                    () = sleep_until(look_at.unwrap_or_else(tokio::time::Instant::now)), if look_at.is_some() => {}
                }
                continue;
            };
            if self.ask(request).await.is_err() {
                return;
            }
        }
    }

    fn take_acks(&mut self) {
        let leases: Vec<Lease> = self.session.leases().collect();
        for lease in leases {
            self.board.hold(lease);
            for (offsets, kind) in self.board.acks(lease) {
                self.session.acknowledge(lease, offsets, kind);
            }
        }
    }

    async fn close(&mut self) {
        self.session.begin_close();
        let until = tokio::time::Instant::now() + self.core.settings.request_timeout;
        // What was refused with others goes in parts: the last request takes one of them only.
        while self.link.as_ref().is_some_and(Connection::is_open)
            && let Some(request) = self.session.next(now(), 0)
        {
            let Ok(Ok(answer)) = tokio::time::timeout_at(until, self.call(&request)).await else {
                return;
            };
            if self.session.take(answer, now()).is_err() {
                return;
            }
        }
        if let Some(request) = self.session.close()
            && let Some(link) = self.link.as_ref().filter(|link| link.is_open())
        {
            let within = self.core.settings.request_timeout;
            let call = link.send::<_, ShareFetchResponse>(ApiKey::ShareFetch, VERSION, &request, within);
            if let Ok(mut call) = call {
                // What is not heard of it is found out by the end of the connection.
                let _ = call.answer().await;
            }
        }
    }

    async fn ask(&mut self, mut request: ShareFetch) -> Result<(), Unheard> {
        if request.fetches() {
            request.max_wait = MAX_WAIT.as_millis() as i32;
            request.max_bytes = i32::try_from(self.core.settings.consumer.fetch_size).unwrap_or(i32::MAX);
        }
        let answer = self.call(&request).await;
        let news = match answer {
            Ok(answer) => self.session.take(answer, now()).map_err(|error| {
                self.core.counters.error(error.name());
                format!("ShareFetch: {}", error.name())
            }),
            Err(error) => {
                self.link = None;
                Err(error.to_string())
            }
        };
        match news {
            Ok(news) => {
                let refused = news.iter().any(|news| matches!(news, News::Refused { .. }));
                for news in news {
                    self.tell(news).await?;
                }
                if refused {
                    self.pause().await;
                } else {
                    self.failures = 0;
                }
                Ok(())
            }
            Err(why) => {
                self.broker.tell_unreachable(&why);
                self.lose_all().await?;
                self.core.refresh_all(self.failures);
                self.pause().await;
                Ok(())
            }
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(backoff::wait(self.failures, Duration::from_millis(50), Duration::from_secs(2))).await;
        self.failures += 1;
    }

    async fn call(&mut self, request: &ShareFetch) -> Result<ShareFetchResponse, CallError> {
        let link = match self.link.take().filter(Connection::is_open) {
            Some(link) => link,
            // The session ended with the connection that it was opened on.
            None if request.epoch != 0 => return Err(CallError::Broken("the connection with the share session was closed".into())),
            None => self.open().await?,
        };
        let within = MAX_WAIT + self.core.settings.request_timeout;
        let mut call = link.send(ApiKey::ShareFetch, VERSION, request, within)?;
        let answer = self.watched(call.answer()).await;
        self.link = Some(link);
        answer
    }

    async fn open(&mut self) -> Result<Connection, CallError> {
        let largest = self.core.settings.consumer.fetch_size.saturating_add(LARGEST_BATCH);
        let address = self.broker.address();
        let link = Connection::open(&address, &self.core, largest).await?;
        if !link.offers(ApiKey::ShareFetch, VERSION) {
            return Err(CallError::Unsendable(
                "the broker has no ShareFetch 2 (Apache Kafka 4.2 or newer has it)",
            ));
        }
        self.broker.reached();
        Ok(link)
    }

    /// Waits for an answer. One that is late is given up if meanwhile nothing is to be read here any more: what it would bring is others' by then.
    async fn watched<T>(&mut self, answer: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        tokio::pin!(answer);
        let mut overdue = interval_at(tokio::time::Instant::now() + MAX_WAIT + OVERDUE, OVERDUE);
        let mut doubts = 0;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                _ = overdue.tick() => {
                    if self.places.borrow().is_empty() || self.board.is_closing() {
                        return Err(CallError::Broken("it does not answer, and other brokers lead".into()));
                    }
                    self.core.refresh_all(doubts);
                    doubts += 1;
                }
            }
        }
    }

    async fn lose_all(&mut self) -> Result<(), Unheard> {
        for lease in self.session.restart() {
            self.lose(lease).await?;
        }
        Ok(())
    }

    async fn lose(&self, lease: Lease) -> Result<(), Unheard> {
        self.board.release(lease);
        self.send(ShareEvent::Lost(lease)).await
    }

    async fn send(&self, event: ShareEvent) -> Result<(), Unheard> {
        self.events
            .send(event)
            .await
            .map_err(|_| Unheard)
            .or_else(|unheard| match self.board.is_closing() {
                // The goodbye is to be said all the same.
                true => Ok(()),
                false => Err(unheard),
            })
    }

    async fn tell(&self, news: News) -> Result<(), Unheard> {
        match news {
            News::Acquired {
                place: (topic, partition),
                lease,
                records,
                ranges,
            } => {
                self.core.counters.fetched_bytes.inc_by(records.len() as u64);
                self.board.hold(lease);
                let index = usize::try_from(partition).ok();
                let known = index.and_then(|index| self.core.topics.by_id(topic.as_bytes(), index));
                // Its topic is gone, and so are they.
                let Some(known) = known else { return Ok(()) };
                let acquired = Acquired {
                    lease,
                    topic: Arc::clone(&known.topic),
                    topic_id: TopicId(topic),
                    partition,
                    records,
                    ranges,
                };
                let records = acquired.ranges.iter().map(|range| (range.last - range.first + 1) as usize);
                self.board.acquired(records.sum());
                self.send(ShareEvent::Acquired(acquired)).await
            }
            News::Lost(lease) => self.lose(lease).await,
            News::Expired(lease, offset) => self.send(ShareEvent::Expired(lease, offset)).await,
            News::Late(count) => self.send(ShareEvent::Late(count)).await,
            News::Refused { place, error, leader } => {
                self.refused(place, error, leader);
                Ok(())
            }
        }
    }

    fn refused(&self, (topic, index): Place, error: ErrorCode, (leader, epoch): (i32, i32)) {
        self.core.counters.error(error.name());
        let partition = usize::try_from(index).ok();
        let partition = partition.and_then(|index| self.core.topics.by_id(topic.as_bytes(), index));
        if matches!(error.retry(), Retry::Never | Retry::Fatal) {
            let topic = partition.as_ref().map_or("?", |partition| &*partition.topic);
            tracing::warn!(topic, partition = index, error = error.name(), "Kafka refuses to share a partition");
        }
        let heard = partition.is_some_and(|partition| self.core.hear_of_leader(&partition, leader.into(), epoch));
        if !heard {
            self.core.refresh_all(self.failures);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.session.leases().for_each(|lease| self.board.release(lease));
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
