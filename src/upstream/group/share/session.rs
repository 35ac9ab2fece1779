//! A share session with one broker (KIP-932): what is asked of it next, and what an answer means. Neither sockets nor the clock.
//!
//! A broker counts the requests of a session; one that it does not expect ends it, and so does the end of the connection. Then all that was
//! acquired is lost: the broker gives it to whoever asks. A partition's acknowledgements in one request are taken or refused together,
//! so after a refusal they go in halves, and only those whose locks had run out are refused in the end. Nothing is fetched until they are
//! through: a fetch may wait, and their locks do not. Of `n` that takes `2 n` requests at most, and renewals no longer than a lock and a quarter:
//! what has run out by our own clock is not asked about.

mod apart;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::messages::{ShareFetchResponse, share_fetch_response::PartitionData};
use uuid::Uuid;

use super::request::{AckBatch, AckKind, Piece, ShareFetch};
use crate::kafka::error::ErrorCode;

/// A partition: its topic's id, and its index.
pub(super) type Place = (Uuid, i32);

/// What was acquired of one partition in one share session. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease(u64);

/// Records that were acquired together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredRange {
    /// The first offset.
    pub first: i64,
    /// The last, inclusive.
    pub last: i64,
    /// How often they have been given to somebody, this time included.
    pub deliveries: i16,
}

/// Offsets that one answer may hand out of a partition. Brokers lock 4,000 records of one at most.
const MOST_ACQUIRED: i64 = 10_000;
/// As long as the broker has not said how long its locks last: the least that brokers allow unless set otherwise.
const LOCK: Duration = Duration::from_secs(15);

/// What came of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    Acquired {
        place: Place,
        lease: Lease,
        records: Bytes,
        ranges: Vec<AcquiredRange>,
    },
    /// What was acquired under it is not ours any more.
    Lost(Lease),
    /// Nor is this one.
    Expired(Lease, i64),
    /// So many acknowledgements came too late: what they spoke of comes again.
    Late(u64),
    /// The broker refuses a partition; it may say who leads it, and in which epoch.
    Refused {
        place: Place,
        error: ErrorCode,
        leader: (i32, i32),
    },
}

pub(super) struct Session {
    group: String,
    member: String,
    epoch: i32,
    parts: BTreeMap<Place, Part>,
    lock: Duration,
    /// When it is looked next for locks to renew.
    look_at: Option<Instant>,
    /// Locks that have run out, and of which nothing was told yet.
    lapsed: Vec<News>,
    /// It is about to be closed: nothing is renewed.
    is_closing: bool,
}

struct Part {
    lease: Lease,
    /// It is to be read.
    wanted: bool,
    /// The broker reads it for the session.
    known: bool,
    /// Acquired and not acknowledged, and since when they are locked.
    held: BTreeMap<i64, Instant>,
    acks: Vec<AckBatch>,
    /// In the request that is not answered yet.
    sent: Vec<AckBatch>,
    /// They were refused with others: each of these goes by itself, the last first.
    apart: Vec<Vec<AckBatch>>,
}

impl Part {
    fn new() -> Self {
        Self {
            lease: Lease(NEXT_LEASE.fetch_add(1, Relaxed)),
            wanted: true,
            known: false,
            held: BTreeMap::new(),
            acks: Vec::new(),
            sent: Vec::new(),
            apart: Vec::new(),
        }
    }

    /// Whether nothing ties it to the session.
    fn is_over(&self) -> bool {
        !self.wanted && !self.known && self.held.is_empty() && self.acks.is_empty() && self.sent.is_empty() && self.apart.is_empty()
    }

    /// The next acknowledgements, in order and as few batches as can be.
    fn take_acks(&mut self) -> Vec<AckBatch> {
        let acks = self.apart.pop().unwrap_or_else(|| {
            let mut acks = std::mem::take(&mut self.acks);
            acks.sort_unstable_by_key(|ack| ack.first);
            acks.dedup_by(|next, before| {
                let joins = before.kind == next.kind && before.last + 1 == next.first;
                if joins {
                    before.last = next.last;
                }
                joins
            });
            acks
        });
        self.sent.clone_from(&acks);
        acks
    }

    /// What was sent was taken.
    fn settle(&mut self, now: Instant) {
        for ack in std::mem::take(&mut self.sent) {
            if ack.kind == AckKind::Renew {
                self.held.range_mut(ack.first..=ack.last).for_each(|(_, since)| *since = now);
            }
        }
    }

    /// Nothing is renewed any more.
    fn let_go(&mut self) {
        let stays = |ack: &AckBatch| ack.kind != AckKind::Renew;
        self.acks.retain(stays);
        self.apart.iter_mut().for_each(|some| some.retain(stays));
        self.apart.retain(|some| !some.is_empty());
    }
}

static NEXT_LEASE: AtomicU64 = AtomicU64::new(1);

impl Session {
    pub(super) fn new(group: String, member: String) -> Self {
        Self {
            group,
            member,
            epoch: 0,
            parts: BTreeMap::new(),
            lock: LOCK,
            look_at: None,
            lapsed: Vec::new(),
            is_closing: false,
        }
    }

    /// Which partitions are to be read. What was acquired of others can still be acknowledged.
    pub(super) fn want(&mut self, places: &BTreeSet<Place>) {
        self.parts.iter_mut().for_each(|(place, part)| part.wanted = places.contains(place));
        for place in places {
            self.parts.entry(*place).or_insert_with(Part::new);
        }
        self.parts.retain(|_, part| !part.is_over());
    }

    /// Those that are read.
    pub(super) fn reads_any(&self) -> bool {
        self.parts.values().any(|part| part.wanted)
    }

    /// Whether nothing is left to be said to the broker, ever.
    pub(super) fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = Lease> {
        self.parts.values().map(|part| part.lease)
    }

    /// What became of records. Those that are not held any more were lost before, and nothing is said of them.
    pub(super) fn acknowledge(&mut self, lease: Lease, (first, last): (i64, i64), kind: AckKind) {
        let Some(part) = self.parts.values_mut().find(|part| part.lease == lease) else {
            return;
        };
        let held: Vec<i64> = part.held.range(first..=last).map(|(offset, _)| *offset).collect();
        for offset in held {
            part.held.remove(&offset);
            match part.acks.last_mut().filter(|ack| ack.kind == kind && ack.last + 1 == offset) {
                Some(ack) => ack.last = offset,
                None => part.acks.push(AckBatch {
                    first: offset,
                    last: offset,
                    kind,
                }),
            }
        }
    }

    /// When there may be locks to renew.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at.filter(|_| self.parts.values().any(|part| !part.held.is_empty()))
    }

    /// Renews what is held for half of a lock's time. Looked for so often that it is done before three quarters are over. What is held for all of
    /// it is not asked about: the lock began before it was heard of.
    fn renew(&mut self, now: Instant) {
        if self.is_closing || self.look_at.is_some_and(|at| at > now) {
            return;
        }
        self.look_at = Some(now + self.lock / 4);
        for part in self.parts.values_mut() {
            self.lapsed.extend(part.lapse(now, self.lock));
            let due = part.held.iter_mut().filter(|(_, since)| **since + self.lock / 2 <= now);
            part.acks.extend(due.map(|(offset, since)| {
                // Not once more before this is answered.
                *since = now;
                AckBatch {
                    first: *offset,
                    last: *offset,
                    kind: AckKind::Renew,
                }
            }));
        }
    }

    /// The next request, if there is anything to ask: at most `room` records, and whatever is to be acknowledged.
    pub(super) fn next(&mut self, now: Instant, room: i32) -> Option<ShareFetch> {
        let opens = self.epoch == 0;
        if opens && (room <= 0 || !self.reads_any()) {
            return None;
        }
        self.renew(now);
        self.parts.values_mut().for_each(Part::forget_needless);
        let is_urgent = |part: &Part| !part.apart.is_empty() || part.acks.iter().any(|ack| ack.kind == AckKind::Renew);
        let fetches = room > 0 && self.reads_any() && !self.parts.values().any(is_urgent);
        let (mut pieces, mut forgotten) = (Vec::new(), Vec::new());
        for (place, part) in &mut self.parts {
            let acks = part.take_acks();
            if !acks.is_empty() || fetches && part.wanted && !part.known {
                part.known = true;
                let (topic, partition) = *place;
                pieces.push(Piece { topic, partition, acks });
            } else if part.known && !part.wanted {
                forgotten.push(*place);
            }
        }
        if !fetches && pieces.is_empty() {
            return None;
        }
        for place in &forgotten {
            self.parts.get_mut(place).expect("of the same map").known = false;
        }
        self.parts.retain(|_, part| !part.is_over());
        Some(ShareFetch {
            max_records: if fetches { room } else { 0 },
            pieces,
            forgotten,
            ..self.empty(self.epoch)
        })
    }

    /// What was found out since it was asked last, while the next request was made.
    pub(super) fn lapsed(&mut self) -> Vec<News> {
        std::mem::take(&mut self.lapsed)
    }

    /// What is held is let go from now on; what was acknowledged is still told by [`next`](Self::next), without room for more.
    pub(super) fn begin_close(&mut self) {
        self.is_closing = true;
        self.parts.values_mut().for_each(Part::let_go);
    }

    /// The last request: what is still held goes to others.
    pub(super) fn close(&mut self) -> Option<ShareFetch> {
        if self.epoch == 0 {
            return None;
        }
        let acked = self.parts.iter_mut().filter_map(|((topic, partition), part)| {
            part.let_go();
            let acks = part.take_acks();
            let (topic, partition) = (*topic, *partition);
            (!acks.is_empty()).then_some(Piece { topic, partition, acks })
        });
        let pieces = acked.collect();
        Some(ShareFetch { pieces, ..self.empty(-1) })
    }

    fn empty(&self, epoch: i32) -> ShareFetch {
        ShareFetch {
            group: self.group.clone(),
            member: self.member.clone(),
            epoch,
            ..ShareFetch::default()
        }
    }

    /// The session is over, or nobody knows whether it is. What was acquired in it.
    pub(super) fn restart(&mut self) -> Vec<Lease> {
        self.epoch = 0;
        let wanted: BTreeSet<Place> = self.parts.iter().filter(|(_, part)| part.wanted).map(|(place, _)| *place).collect();
        let lost = self.leases().collect();
        self.parts.clear();
        self.want(&wanted);
        lost
    }

    /// Takes the answer to the last request.
    ///
    /// # Errors
    /// The broker refuses all of it, or hands out more than any does: then the session must be begun anew.
    pub(super) fn take(&mut self, answer: ShareFetchResponse, now: Instant) -> Result<Vec<News>, ErrorCode> {
        let error = ErrorCode::from(answer.error_code);
        if !error.is_ok() {
            return Err(error);
        }
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        if let Ok(lock @ 1..) = u64::try_from(answer.acquisition_lock_timeout_ms) {
            self.lock = Duration::from_millis(lock);
            // They may be shorter than it was thought.
            self.look_at = self.look_at.map(|at| at.min(now + self.lock / 4));
        }
        let mut news = Vec::new();
        for topic in answer.responses {
            for data in topic.partitions {
                self.take_one((topic.topic_id, data.partition_index), data, now, &mut news)?;
            }
        }
        // Nothing is said against the rest.
        self.parts.values_mut().for_each(|part| part.settle(now));
        self.parts.retain(|_, part| !part.is_over());
        Ok(news)
    }

    fn take_one(&mut self, place: Place, data: PartitionData, now: Instant, news: &mut Vec<News>) -> Result<(), ErrorCode> {
        let Some(part) = self.parts.get_mut(&place) else { return Ok(()) };
        let acknowledged = ErrorCode::from(data.acknowledge_error_code);
        let fetched = ErrorCode::from(data.error_code);
        if acknowledged.is_of_records() {
            part.refused(news);
        } else if acknowledged.is_ok() {
            part.settle(now);
        }
        let refusal = [fetched, acknowledged]
            .into_iter()
            .find(|code| !code.is_ok() && !code.is_of_records());
        if let Some(error) = refusal {
            let leader = (data.current_leader.leader_id, data.current_leader.leader_epoch);
            news.push(News::Lost(part.lease));
            news.push(News::Refused { place, error, leader });
            let wanted = part.wanted;
            // It is asked for again as if it were a new one.
            *part = Part { wanted, ..Part::new() };
            return Ok(());
        }
        if data.acquired_records.is_empty() {
            return Ok(());
        }
        let mut ranges = Vec::with_capacity(data.acquired_records.len());
        for range in &data.acquired_records {
            let (first, last) = (range.first_offset, range.last_offset);
            if !(0..MOST_ACQUIRED).contains(&last.saturating_sub(first)) {
                return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
            }
            part.forget_releases(first, last);
            part.held.extend((first..=last).map(|offset| (offset, now)));
            ranges.push(AcquiredRange {
                first,
                last,
                deliveries: range.delivery_count,
            });
        }
        news.push(News::Acquired {
            place,
            lease: part.lease,
            records: data.records.unwrap_or_default(),
            ranges,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
