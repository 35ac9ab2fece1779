//! One task per Kafka partition that somebody wants: fetched records become messages in the mailboxes of those who want them.
//!
//! One fetch serves any number of subscribers at the tail. A feed never waits for a subscriber: mailboxes are bounded, and who does not
//! take what comes is served from `behind`, by the same task.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    allowance,
    arrivals::Arrivals,
    behind::Behind,
    chunk::SourceId,
    frontier::{Frontier, Reached},
    hub::{Hub, Subscriber, TopicHub, stored_source},
    index::Index,
    scribe::{Clock, Scribe},
};
use crate::{
    kafka::{
        aborted::Aborted,
        fetched::{self, Batch, Limits},
    },
    mapping::MissingSchema,
    metrics::Metrics,
    resources::{LiveTables, Registries},
    upstream::{self, Cluster, Reader, Start, Topic},
};

/// One compressed batch may become so many bytes.
pub const LIMITS: Limits = Limits {
    max_decompressed: 64 * 1024 * 1024,
};

/// How often a partition that the topic has no more is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Bytes that the batch in which a turn was over may have become when it was decompressed, to be kept until the next;
const MOST_KEPT: usize = 1024 * 1024;
/// and so many larger ones are kept of all feeds. Others are read again.
static LARGER: Semaphore = Semaphore::const_new(4);

/// The reader of one partition.
pub struct Feed {
    reader: Reader,
    cluster: Cluster,
    topic: Arc<Topic>,
    /// Records below it have been handed out; Kafka sends whole batches, so some come again.
    next: i64,
    /// Batches that begin here or below have been asked for again, or need not be: what cannot be read of them now is left out.
    doubted: i64,
    /// The batch in which the last turn was over; a large one has one of the places for these.
    begun: Option<(Batch, Option<SemaphorePermit<'static>>)>,
    scribe: Scribe,
    behind: Behind,
    metrics: Arc<Metrics>,
    /// How many the gauge knows to be behind here.
    told_behind: i64,
    arrivals: Arc<Arrivals>,
    frontier: Arc<Frontier>,
    registries: Arc<Registries>,
    tables: Arc<LiveTables>,
}

/// Why a fetch is not handed out to its end yet.
pub(super) enum Pause {
    /// The record that is the next waits for its schema.
    Schema(MissingSchema),
    /// Programs have had what they may take of one turn.
    Turn,
}

/// What there is to do.
enum Event {
    /// Records at the tail.
    Tail(upstream::Chunk),
    /// Somebody who is behind can take more.
    Behind,
    /// Somebody has come back who left at an earlier place.
    Arrived,
    /// The topic was deleted.
    Gone,
}

impl Feed {
    /// A feed of a partition from `first` on.
    pub fn new(
        hub: &Hub,
        topic_hub: Arc<TopicHub>,
        topic: &Arc<Topic>,
        partition: i32,
        (source, first): (SourceId, i64),
        (arrivals, frontier): (Arc<Arrivals>, Arc<Frontier>),
    ) -> Self {
        frontier.set(Reached {
            source: stored_source(topic, partition),
            log: source,
            next: first,
        });
        let scribe = Scribe::new(hub, topic_hub, topic, partition, source);
        Self {
            reader: hub.cluster.read(topic, partition, Start::Offset(first)),
            cluster: hub.cluster.clone(),
            topic: topic.clone(),
            next: first,
            doubted: -1,
            begun: None,
            behind: Behind::new(scribe.room(), source, hub.sweeps.clone()),
            scribe,
            metrics: hub.metrics.clone(),
            told_behind: 0,
            arrivals,
            frontier,
            registries: hub.registries.clone(),
            tables: hub.tables.clone(),
        }
    }

    /// Runs until it is aborted or the cluster is shut down.
    pub async fn run(mut self) {
        self.tables.settled_for_readers().await;
        loop {
            match self.event().await {
                Event::Tail(chunk) => self.take(chunk).await,
                Event::Behind if let Some(offset) = self.behind.cut() => self.cut_off(offset),
                Event::Behind => {
                    let hub = self.scribe.hub.clone();
                    let missing = self.behind.step(&mut self.scribe, &hub.index(), self.next);
                    self.wait_for_schema(missing).await;
                }
                Event::Arrived => self.take_arrivals(),
                Event::Gone if !self.find_again().await => return,
                Event::Gone => {}
            }
            self.tell_behind();
            // A fetch may bring much at once: the connections get their turn before the next.
            tokio::task::yield_now().await;
        }
    }

    async fn event(&mut self) -> Event {
        let Self {
            reader,
            behind,
            cluster,
            topic,
            scribe,
            arrivals,
            ..
        } = self;
        tokio::select! {
            chunk = reader.next() => chunk.map_or(Event::Gone, Event::Tail),
            () = behind.due(
                |offset| cluster.read_copies(topic, scribe.partition, Start::Offset(offset)),
                |offset| Box::pin(cluster.gap(topic, scribe.partition, offset)),
            ) => Event::Behind,
            () = arrivals.come() => Event::Arrived,
        }
    }

    /// The topic was deleted. If it is made anew it begins at its beginning. False: the cluster is shut down.
    async fn find_again(&mut self) -> bool {
        let (name, partition) = (self.scribe.hub.name().to_owned(), self.scribe.partition);
        let Some(topic) = self.cluster.topic_appears(&name).await else {
            return false;
        };
        if topic.id != self.topic.id {
            tracing::warn!(topic = name, "the Kafka topic was made anew: it is read from its beginning");
            self.topic = topic.clone();
            self.renew(0);
        }
        self.topic = topic;
        self.read_from_next();
        // It may have fewer partitions now: then this one is looked for every few seconds.
        if partition as usize >= self.topic.partitions.len() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        true
    }

    fn tell_behind(&mut self) {
        let now = self.behind.len() as i64;
        self.metrics.subscribers_behind.inc_by(now - self.told_behind);
        self.told_behind = now;
    }

    /// Whoever came back to a place that the feed has left is behind. One who is ahead of it leaves out what it has had by itself.
    fn take_arrivals(&mut self) {
        for (mailbox, position) in self.arrivals.take() {
            if position < self.next {
                self.behind.join(mailbox, position);
            } else {
                mailbox.caught_up();
            }
        }
    }

    /// Hands a fetch out, in pieces where a schema has to be waited for or programs take long.
    async fn take(&mut self, mut chunk: upstream::Chunk) {
        let mut is_new = true;
        while let Some(pause) = self.hand_out(chunk.clone(), is_new) {
            (chunk.reset, is_new) = (false, false);
            match pause {
                Pause::Schema(missing) => self.wait_for_schema(Some((missing, self.next))).await,
                Pause::Turn => allowance::next_turn().await,
            }
        }
    }

    /// Has the schema of a record looked for. Nothing else of the partition is read meanwhile, or the order would be lost; that is bounded.
    async fn wait_for_schema(&mut self, missing: Option<(MissingSchema, i64)>) {
        if let Some((schema, offset)) = missing {
            self.registries.look_up(&schema.catalog, schema.id).await;
            self.scribe.has_waited(offset);
        }
    }

    /// Hands out in one turn what a fetch holds from `next` on; why that is not all, if it is not. Of a new one the damage is looked for, also where
    /// nobody needs what is damaged.
    pub(super) fn hand_out(&mut self, chunk: upstream::Chunk, is_new: bool) -> Option<Pause> {
        allowance::begin();
        let begun = self.begun.take();
        self.take_arrivals();
        if chunk.reset {
            self.reset(chunk.offset);
        }
        let clock = Clock::now();
        let hub = self.scribe.hub.clone();
        let index = hub.index();
        // Under the lock: whoever is found in the index has told where it stands, unless it has told another feed.
        if self.arrivals.is_over() {
            return None;
        }
        self.take_arrivals();
        let mut aborted = Aborted::new(chunk.aborted);
        // What was handed out before is not read again.
        let again = if is_new { i64::MIN } else { self.next };
        let from = begun.as_ref().map_or(again, |(batch, _)| batch.last_offset.saturating_add(1));
        let mut batches = fetched::batches(chunk.bytes, LIMITS).starting_at(from);
        let (mut doubtful, mut pause) = (None, None);
        if let Some((batch, place)) = begun {
            pause = self.batch(batch, place, &index, clock);
        }
        while pause.is_none()
            && let (Some(base), Some(batch)) = (batches.next_base(), batches.next())
        {
            match batch {
                Ok(batch) if aborted.covers(&batch) || batch.last_offset < self.next => {}
                Ok(batch) => pause = self.batch(batch, None, &index, clock),
                Err(error) if base <= self.doubted || !error.may_pass() => {
                    self.scribe.unreadable(&error);
                    // Were a further one asked for again, this one should not come with it.
                    self.next = self.next.max(batches.next_base().unwrap_or(self.next));
                }
                Err(error) => {
                    doubtful = Some((base, error));
                    break;
                }
            }
        }
        self.flush();
        match doubtful {
            Some((base, error)) => {
                self.scribe.read_again(&error);
                self.doubted = base;
                self.read_from_next();
            }
            None if pause.is_some() => {}
            None => self.next = self.next.max(chunk.next_offset),
        }
        self.frontier.set(Reached {
            source: stored_source(&self.topic, self.scribe.partition),
            log: self.scribe.source(),
            next: self.next,
        });
        pause
    }

    /// Reads from `next` on, whatever was on its way.
    fn read_from_next(&mut self) {
        self.reader = self.cluster.read(&self.topic, self.scribe.partition, Start::Offset(self.next));
    }

    /// What the partition holds from `offset` on is for everybody who sits here, as if it were another.
    fn renew(&mut self, offset: i64) {
        (self.next, self.doubted) = (offset, -1);
        self.scribe.renew(&self.topic);
        self.behind.cut_off(offset, self.scribe.source());
    }

    /// A sweep has heard that the log was cut off, and this feed has not since: it has read too little to know.
    fn cut_off(&mut self, offset: i64) {
        self.reset(offset);
        self.read_from_next();
    }

    /// Reading goes on elsewhere than where it was.
    fn reset(&mut self, offset: i64) {
        if offset < self.next {
            let (topic, partition) = (self.scribe.hub.name(), self.scribe.partition);
            // Cut off by an unclean leader election. What the log holds from there on was written later than every SUBSCRIBE whose start
            // lies behind it, so it counts for all who sit here, as with a topic that was made anew.
            tracing::error!(
                topic,
                partition,
                offset,
                "the log was cut off: what it holds from there on is delivered"
            );
            self.renew(offset);
        } else {
            self.scribe.deleted(self.next, offset);
            self.next = offset;
        }
    }

    /// Hands out a batch from `next` on, unless it has to pause.
    fn batch(&mut self, batch: Batch, place: Option<SemaphorePermit<'static>>, index: &Index<Subscriber>, clock: Clock) -> Option<Pause> {
        let pause = self.records(&batch, index, clock);
        match pause {
            None => self.next = self.next.max(batch.last_offset.saturating_add(1)),
            Some(Pause::Turn) => {
                let is_large = batch.decompressed() > MOST_KEPT;
                let place = place.or_else(|| LARGER.try_acquire().ok().filter(|_| is_large));
                self.begun = (place.is_some() || !is_large).then_some((batch, place));
            }
            Some(_) => {}
        }
        pause
    }

    /// Up to the first record that has to wait, at which `next` is then.
    fn records(&mut self, batch: &Batch, index: &Index<Subscriber>, clock: Clock) -> Option<Pause> {
        for record in batch.records() {
            let record = match record {
                Ok(record) if record.offset < self.next => continue,
                Ok(record) => record,
                Err(error) => {
                    self.scribe.unreadable(&error);
                    return None;
                }
            };
            let noted = self
                .scribe
                .record(&record, index, clock, |subscriber| !self.behind.holds(subscriber));
            if let Err(missing) = noted {
                self.next = record.offset;
                return Some(Pause::Schema(missing));
            }
            if self.scribe.is_full() {
                self.flush();
            }
            if allowance::is_used_up() {
                self.next = record.offset.saturating_add(1);
                return Some(Pause::Turn);
            }
        }
        None
    }

    fn flush(&mut self) {
        self.scribe.flush(|mailbox, from| self.behind.add(mailbox, from));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.metrics.subscribers_behind.dec_by(self.told_behind);
    }
}
