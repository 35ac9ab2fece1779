//! A reader as its fetcher sees it: its position, and what an answer makes of that.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use tokio::sync::mpsc;

use super::{
    Bell, Chunk, Command, Keeping, Start,
    epochs::Epochs,
    extent::{self, Extent},
    position::Sought,
};
use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::{backoff, broker::Broker, cluster::Core, topics::Partition},
};

const OFFSET_OUT_OF_RANGE: i16 = 1;
/// For so long a partition is read from its leader after a replica was of no use for the first time.
const AT_LEADER: Duration = Duration::from_secs(5);

/// A reader's place in a fetcher.
pub(crate) struct Slot {
    pub(super) partition: Arc<Partition>,
    start: Start,
    keeping: Keeping,
    /// `None` until a broker was asked where the start is.
    pub(super) position: Option<i64>,
    epochs: Epochs,
    pub(super) chunks: mpsc::Sender<Chunk>,
    bell: Arc<Bell>,
    /// Lanes, as bits, whose poll carries the current position.
    pub(super) covered: u8,
    /// The broker is being asked for an offset.
    pub(super) resolving: bool,
    pub(super) not_before: Option<Instant>,
    failures: u32,
    /// The position that was gone, until the reader is told where reading goes on. Kept over questions that fail and leaders that move:
    /// the next who looks for a position must not take it for a start.
    lost: Option<i64>,
    follower: Option<Follower>,
    /// A replica was of no use: until then the leader is to serve us itself.
    at_leader: Option<Instant>,
    /// How often in a row a replica was of no use.
    let_down: u32,
    /// The last code that an operator was told of.
    told: Option<ErrorCode>,
    /// An operator was told that what lies at the position cannot be read.
    told_unreadable: bool,
}

/// A replica that the leader told us to fetch from (KIP-392).
struct Follower {
    broker: Arc<Broker>,
    /// The leader is asked again then.
    until: Instant,
    /// Of the leader that told.
    epoch: i32,
}

impl Slot {
    pub(super) fn new(partition: Arc<Partition>, (start, keeping): (Start, Keeping), chunks: mpsc::Sender<Chunk>, bell: Arc<Bell>) -> Self {
        let position = match start {
            Start::Tail | Start::Timestamp(_) => None,
            Start::Offset(offset) => Some(offset.max(0)),
        };
        let epochs = position.map_or_else(Epochs::default, |offset| Epochs::starting(partition.epoch_of_end(offset), offset));
        Self {
            partition,
            start,
            keeping,
            position,
            epochs,
            chunks,
            bell,
            covered: 0,
            resolving: false,
            not_before: None,
            failures: 0,
            lost: None,
            follower: None,
            at_leader: None,
            let_down: 0,
            told: None,
            told_unreadable: false,
        }
    }

    /// It has come to a fetcher, and is looked at anew.
    pub(super) fn join(&mut self, fetcher: &mpsc::UnboundedSender<Command>) {
        self.bell.hang(fetcher.clone());
        self.covered = 0;
        self.resolving = false;
    }

    /// Nobody reads any more.
    pub(super) fn is_left(&self) -> bool {
        self.chunks.is_closed()
    }

    /// The broker to fetch from: the replica that the leader named as long as that may count, else the leader.
    pub(super) fn home(&self) -> Option<Arc<Broker>> {
        match self.follower() {
            Some(follower) => Some(Arc::clone(&follower.broker)),
            None => self.partition.lock().broker.clone(),
        }
    }

    /// The id of that.
    pub(super) fn home_id(&self) -> Option<i32> {
        self.follower().map(|f| f.broker.id).or_else(|| self.partition.leader())
    }

    /// When the leader is to be asked again for a replica.
    pub(super) fn leaves_at(&self) -> Option<Instant> {
        self.follower.as_ref().map(|f| f.until)
    }

    fn follower(&self) -> Option<&Follower> {
        self.follower
            .as_ref()
            .filter(|f| self.partition.leader().is_some() && self.partition.leader_epoch() == f.epoch && Instant::now() < f.until)
    }

    /// The replica, if it is read from one, is silent or its connection is broken. The leader would name it again until it hears of that itself,
    /// so for a while (longer each time, up to `most`) it is not told where we are: then it serves us. `None`: it was read from no replica.
    pub(super) fn leave_follower(&mut self, most: Duration) -> Option<()> {
        self.follower.take()?;
        self.at_leader = Some(Instant::now() + backoff::wait(self.let_down, AT_LEADER, most));
        self.let_down += 1;
        Some(())
    }

    /// Whether the leader is to serve it itself.
    pub(super) fn is_at_leader(&self, now: Instant) -> bool {
        self.at_leader.is_some_and(|until| until > now)
    }

    /// What a fetch names as the leader epoch of the last record that was read; -1: none.
    ///
    /// None to a follower. It hears of an epoch with the first batch of it; the leader says already that the log ends in that epoch, and asked
    /// with it the follower would answer that the offset is out of range, until somebody writes. One that has lost its tail would
    /// answer that the log was cut off, which it was not. Logs part only when the leader changes, and then the new one is asked first.
    pub(super) fn last_epoch(&self) -> i32 {
        if self.follower().is_some() { -1 } else { self.epochs.last() }
    }

    /// Whether it may be polled for.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        if self.position.is_none() || !self.bell.is_asked() || self.resolving || self.not_before.is_some_and(|t| t > now) {
            return false;
        }
        if self.chunks.capacity() > 0 {
            return true;
        }
        // First say that we starve, then look again: the reader does it the other way round.
        self.bell.starved.store(true, SeqCst);
        self.chunks.capacity() > 0
    }

    pub(super) fn fail(&mut self) {
        self.not_before = Some(Instant::now() + backoff::wait(self.failures, Duration::from_millis(20), Duration::from_secs(1)));
        self.failures += 1;
    }

    /// Which position to look for while there is none.
    pub(super) fn sought(&self) -> Sought {
        match (self.start, self.lost) {
            (Start::Tail, _) => Sought::End,
            (Start::Timestamp(time), None) => Sought::Time(time),
            (Start::Offset(lost), None) | (Start::Offset(_) | Start::Timestamp(_), Some(lost)) => Sought::Nearest(lost),
        }
    }

    /// The position that was looked for; `None`: the question failed.
    pub(super) fn found(&mut self, offset: Option<i64>) {
        self.resolving = false;
        let Some(offset) = offset else { return self.fail() };
        if let Some(lost) = self.lost {
            let (topic, partition) = (&*self.partition.topic, self.partition.index);
            tracing::warn!(
                topic,
                partition,
                lost,
                offset,
                "the offset to read from is gone: reading goes on at another"
            );
        }
        self.epochs = Epochs::starting(self.partition.epoch_of_end(offset), offset);
        self.position = Some(offset);
        self.tell_lost(offset);
    }

    /// A reader whose position was lost hears of it at once, by a chunk without records: there may be nothing to read at the new one for a
    /// long time, and who waits for records that are gone would hold what others want.
    fn tell_lost(&mut self, offset: i64) {
        if self.lost.take().is_none() {
            return;
        }
        let chunk = Chunk {
            topic: Arc::clone(&self.partition.topic),
            partition: self.partition.index,
            bytes: Bytes::new(),
            offset,
            next_offset: offset,
            high_watermark: -1,
            last_stable_offset: -1,
            aborted: Vec::new(),
            reset: true,
        };
        self.bell.asked.store(false, SeqCst);
        // As with records: there was room when the poll was sent that told of the loss, and nothing was handed over since.
        let _ = self.chunks.try_send(chunk);
    }

    /// Takes what came for its position.
    pub(super) fn take(&mut self, offset: i64, mut data: PartitionData, core: &Core) {
        if data.error_code != 0 {
            return self.refused(offset, &data, core);
        }
        if data.diverging_epoch.epoch >= 0 {
            return self.cut_off(offset, &data, core);
        }
        self.not_before = None;
        if data.preferred_read_replica.0 >= 0 && self.home_id() != Some(data.preferred_read_replica.0) {
            // Not what was asked for: a replica that refuses each time is named each time.
            return self.follow(data.preferred_read_replica.0, core);
        }
        self.told = None;
        if self.follower.is_some() {
            self.let_down = 0;
        }
        let Some(bytes) = data.records.take().filter(|b| !b.is_empty()) else {
            self.failures = 0;
            return;
        };
        let extent = extent::walk(&bytes, |_| {}).filter(|extent| extent.next_offset > offset);
        match extent {
            Some(extent) => {
                (self.failures, self.told_unreadable) = (0, false);
                self.hand_over(offset, &bytes, extent, data, core);
            }
            // Not one whole batch, or one that ends before what was asked for: asking again at once would not help.
            None => self.unreadable(offset, bytes.len(), core),
        }
    }

    /// What cannot be read is asked for again, more and more slowly: another replica may lead soon, an operator may cut the log there. It
    /// cannot be left out, since nothing says where it ends.
    fn unreadable(&mut self, offset: i64, size: usize, core: &Core) {
        self.fail();
        core.counters.unreadable_sets.inc();
        if !std::mem::replace(&mut self.told_unreadable, true) {
            tracing::error!(
                topic = &*self.partition.topic,
                partition = self.partition.index,
                offset,
                size,
                "what Kafka sends from here on is no record batch: the partition is not read on until that changes"
            );
        }
    }

    fn hand_over(&mut self, offset: i64, bytes: &Bytes, extent: Extent, data: PartitionData, core: &Core) {
        let aborted = data.aborted_transactions.unwrap_or_default();
        let followed = self.follower.is_some();
        let chunk = Chunk {
            topic: Arc::clone(&self.partition.topic),
            partition: self.partition.index,
            bytes: match self.keeping {
                Keeping::Answer => bytes.slice(..extent.length),
                Keeping::Copy | Keeping::OneCopy => Bytes::copy_from_slice(&bytes[..extent.length]),
            },
            offset,
            next_offset: extent.next_offset,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            aborted: aborted.iter().map(|t| (t.producer_id.0, t.first_offset)).collect(),
            reset: false,
        };
        self.bell.asked.store(false, SeqCst);
        // Room was seen when the poll was sent and only one answer for a position is taken, so a refusal means that the reader is gone.
        if self.chunks.try_send(chunk).is_ok() {
            core.counters.fetched_bytes.inc_by(extent.length as u64);
            if followed {
                core.counters.followed_bytes.inc_by(extent.length as u64);
            }
            extent::walk(bytes, |head| self.epochs.note(head.leader_epoch, head.base_offset.max(offset)));
            self.position = Some(extent.next_offset);
            self.covered = 0;
        }
    }

    /// An error instead of records.
    fn refused(&mut self, offset: i64, data: &PartitionData, core: &Core) {
        let code = ErrorCode::from(data.error_code);
        core.counters.error(code.name());
        // Whatever a replica has against it, the leader is asked.
        let follower = self.follower.take();
        if data.error_code == OFFSET_OUT_OF_RANGE && follower.is_none() {
            self.position = None;
            self.covered = 0;
            self.lost = Some(offset);
            self.epochs = Epochs::default();
            core.counters.offset_resets.inc();
            return;
        }
        if data.error_code != OFFSET_OUT_OF_RANGE {
            self.tell(code);
        }
        if code.retry() == Retry::AfterMetadata {
            core.refresh_all(self.failures);
        }
        let told = &data.current_leader;
        // Then there is nothing to wait for.
        if !core.hear_of_leader(&self.partition, told.leader_id, told.leader_epoch) {
            self.fail();
        }
    }

    /// What will not pass by itself is told once. It is asked for all the same: rights can be granted.
    fn tell(&mut self, code: ErrorCode) {
        if matches!(code.retry(), Retry::Never | Retry::Fatal) && self.told.replace(code) != Some(code) {
            let (topic, partition) = (&*self.partition.topic, self.partition.index);
            tracing::warn!(
                topic,
                partition,
                error = code.name(),
                "Kafka refuses to let a partition be read; subscribers wait"
            );
        }
    }

    /// The log does not hold what was read: it was cut off, and may have grown anew since. Goes on where both part, so that nothing that
    /// is there now is left out, and nothing comes again that was the same.
    fn cut_off(&mut self, offset: i64, data: &PartitionData, core: &Core) {
        let (epoch, end) = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
        let shared = self.epochs.cut(epoch, end, offset);
        self.covered = 0;
        if shared >= offset {
            // All that was read is there: only nothing was written under the last leader that we know of.
            return;
        }
        core.counters.truncations.inc();
        tracing::error!(
            topic = &*self.partition.topic,
            partition = self.partition.index,
            read_up_to = offset,
            shared_up_to = shared,
            "records that were read are gone from the log (unclean leader election): reading goes on where it was cut off"
        );
        self.lost = Some(offset);
        self.position = Some(shared);
        self.tell_lost(shared);
    }

    /// The leader names a replica nearer to us.
    fn follow(&mut self, id: i32, core: &Core) {
        match core.broker(id) {
            Some(broker) => {
                self.follower = Some(Follower {
                    broker,
                    until: Instant::now() + core.settings.metadata_max_age,
                    epoch: self.partition.leader_epoch(),
                });
            }
            // The leader would name it again at once.
            None => {
                core.refresh_all(self.failures);
                self.fail();
            }
        }
    }
}
