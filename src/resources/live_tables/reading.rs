//! One table: its topic read to the end, and then as it grows; and again from the beginning when it is another, or records of it were lost.
//!
//! Each time the rows are gathered aside, and programs see those of before until all has been read: nothing that is older than what they
//! saw. Of a key that has moved, as keys do when their topic gains partitions, the record with the later timestamp counts.

use std::{
    collections::HashSet,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    kafka::{
        aborted::Aborted,
        error::ErrorCode,
        fetched::{self, Batch, Limits},
    },
    mapping::{Put, Table, TopicRows, Written},
    metrics::{Metrics, TableCounters},
    upstream::{self, Chunk, Cluster, State, TableEvent, TopicState, backoff},
};

/// One compressed batch may become so many bytes.
const LIMITS: Limits = Limits {
    max_decompressed: 64 * 1024 * 1024,
};
/// The pause before the topic is opened again, after it was made anew or could not be read.
const AGAIN: Duration = Duration::from_millis(200);
/// A table that found no room for all is read anew after so long, and then more and more rarely: only so it learns that there is room by now.
const FULL_AGAIN: Duration = Duration::from_secs(60);
const FULL_AGAIN_MOST: Duration = Duration::from_secs(3600);
/// Damaged batches that are asked for again; more are left out at once.
const MOST_DOUBTED: usize = 1_000;

/// See the head of the file.
pub(super) struct Reading {
    table: Arc<Table>,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    counters: TableCounters,
    topic: String,
    /// Where batches began that could not be read when they were first met: those may have been damaged on their way.
    doubted: HashSet<(i32, i64)>,
    /// Readings in a row that found no room for all.
    full: u32,
    /// What was told of it, so that it is told once.
    told_unreadable: bool,
    told_refused: Option<ErrorCode>,
}

/// Rows that are gathered, and what is known of them.
struct Gathered {
    rows: TopicRows,
    /// A batch could not be read, and is to be asked for once more.
    again: bool,
    /// Programs see them.
    live: bool,
    /// When the topic is read anew for want of room.
    full_until: Option<Instant>,
}

impl Reading {
    pub(super) fn new(table: Arc<Table>, cluster: Cluster, metrics: Arc<Metrics>, topic: &str) -> Self {
        Self {
            counters: metrics.table(topic),
            table,
            cluster,
            metrics,
            topic: topic.to_owned(),
            doubted: HashSet::new(),
            full: 0,
            told_unreadable: false,
            told_refused: None,
        }
    }

    /// Runs until it is aborted, or the client is shut down. `read` is called when programs see the rows for the first time.
    pub(super) async fn keep(mut self, read: impl FnOnce()) {
        let mut read = Some(read);
        let mut state = self.cluster.state();
        // Not before: a topic would be looked for again only after a while.
        let _ = state.wait_for(|state| *state == State::Ready).await;
        while let Some(topic) = self.find().await {
            match self.cluster.table(&topic).await {
                Ok(opened) => self.read(opened, &mut read).await,
                Err(code) if self.told_refused.replace(code) == Some(code) => {}
                Err(code) => tracing::error!(
                    topic = self.topic,
                    error = code.name(),
                    "the topic of a lookup table cannot be read"
                ),
            }
            sleep(AGAIN).await;
        }
    }

    async fn find(&self) -> Option<Arc<upstream::Topic>> {
        if let TopicState::Missing = self.cluster.topic_known(&self.topic).await {
            tracing::error!(
                topic = self.topic,
                "the topic of a lookup table does not exist, or the proxy's principal may not see it: make it, or grant DESCRIBE and READ"
            );
        }
        self.cluster.topic_appears(&self.topic).await
    }

    /// Until the topic has to be read anew.
    async fn read(&mut self, mut opened: upstream::Table, read: &mut Option<impl FnOnce()>) {
        let (topic, cluster) = (opened.topic().clone(), self.cluster.clone());
        let Some(rows) = TopicRows::new(&self.table, topic.partitions.len()) else {
            return;
        };
        self.told_refused = None;
        let mut gathered = Gathered {
            rows,
            again: false,
            live: false,
            full_until: None,
        };
        let mut grown = pin!(cluster.topic_grows(&topic));
        loop {
            let event = tokio::select! {
                event = opened.next() => event,
                _ = &mut grown => return tracing::warn!(topic = self.topic, "the topic of a lookup table has become another: it is read anew"),
                () = until(gathered.full_until), if gathered.live => return,
            };
            match event {
                None => return,
                Some(TableEvent::Records(chunk)) if chunk.reset => {
                    return tracing::warn!(topic = self.topic, "records of a lookup table's topic were lost: it is read anew");
                }
                Some(TableEvent::Records(chunk)) => {
                    self.take(chunk, &mut gathered);
                    if gathered.live {
                        self.show(&mut gathered);
                    }
                }
                Some(TableEvent::CaughtUp { .. }) => continue,
                Some(TableEvent::Complete) => {
                    gathered.live = true;
                    gathered.rows.settle();
                    if !gathered.again {
                        self.arrive(&mut gathered);
                        read.take().into_iter().for_each(|read| read());
                    }
                }
            }
            if gathered.live && gathered.again {
                return;
            }
            // Much may come at once: others get their turn.
            tokio::task::yield_now().await;
        }
    }

    fn arrive(&mut self, gathered: &mut Gathered) {
        let rows = &gathered.rows;
        let (count, bytes) = (rows.count(), rows.held());
        tracing::info!(topic = self.topic, rows = count, bytes, "a lookup table is read");
        if rows.is_whole() {
            self.full = 0;
        }
        self.show(gathered);
    }

    /// Lets programs see what was gathered.
    fn show(&mut self, gathered: &mut Gathered) {
        let rows = &gathered.rows;
        rows.publish();
        self.counters.rows.set(rows.count() as i64);
        self.counters.bytes.set(rows.held() as i64);
        self.counters.complete.set(rows.is_whole().into());
        if !rows.is_whole() && gathered.full_until.is_none() {
            let pause = backoff::wait(self.full, FULL_AGAIN, FULL_AGAIN_MOST);
            gathered.full_until = Some(Instant::now() + pause);
            self.full += 1;
            let (rows, bytes) = (rows.count(), rows.held());
            tracing::error!(
                topic = self.topic,
                rows,
                bytes,
                ?pause,
                "a lookup table has no room for all rows of its topic (`memory` of the table): programs that look for a row that is not there get \
                 the rule's `on_error`; it is read anew after a pause"
            );
        }
    }

    fn take(&mut self, chunk: Chunk, gathered: &mut Gathered) {
        let partition = chunk.partition;
        let mut aborted = Aborted::new(chunk.aborted);
        let mut batches = fetched::batches(chunk.bytes, LIMITS).starting_at(chunk.offset);
        while let (Some(base), Some(batch)) = (batches.next_base(), batches.next()) {
            match batch {
                Ok(batch) if aborted.covers(&batch) => {}
                Ok(batch) => self.batch(&batch, (partition, chunk.offset), &mut gathered.rows),
                Err(error) if error.may_pass() && self.doubted.len() < MOST_DOUBTED && self.doubted.insert((partition, base)) => {
                    self.metrics.batches_read_again.inc();
                    tracing::warn!(topic = self.topic, partition, base, %error, "a batch of a lookup table cannot be read: the topic is read anew");
                    gathered.again = true;
                }
                Err(error) => self.unreadable(partition, &error),
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.counters.updated.set(now.map_or(0, |since| since.as_secs() as i64));
    }

    fn batch(&mut self, batch: &Batch, (partition, from): (i32, i64), rows: &mut TopicRows) {
        for record in batch.records() {
            let record = match record {
                Ok(record) if record.offset < from => continue,
                Ok(record) => record,
                Err(error) => return self.unreadable(partition, &error),
            };
            let written = Written {
                timestamp: record.timestamp,
                partition,
            };
            match rows.put(record.key, record.value, written) {
                Put::Taken => {}
                Put::NoRoom => drop(self.counters.left_out.inc()),
                Put::Unreadable => {
                    self.counters.skipped.inc();
                    if !std::mem::replace(&mut self.told_unreadable, true) {
                        let offset = record.offset;
                        tracing::warn!(
                            topic = self.topic,
                            offset,
                            "a record of a lookup table has no key, or that or its value is not as the table is told: it is left out; more of them are counted only"
                        );
                    }
                }
            }
        }
    }

    fn unreadable(&self, partition: i32, error: &fetched::BatchError) {
        self.metrics.unreadable_batches.inc();
        tracing::error!(topic = self.topic, partition, %error, "a batch of a lookup table cannot be read and is left out");
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
