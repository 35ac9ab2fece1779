//! The fetcher of one broker: which positions to poll, on which lane, and what to make of the answers.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use kafka_protocol::messages::{FetchResponse, fetch_response::PartitionData};
use tokio::{sync::mpsc, time::sleep_until};

use super::{
    Chunk, Command, Slot, Start, extent,
    lane::{self, Poll, Polled, Want},
};
use crate::kafka::error::ErrorCode;
use crate::upstream::{backoff, broker::Broker, cluster::Core, connection::CallError, offsets, topics::Partition};

/// Connections for fetching to one broker.
const LANES: usize = 3;
/// The wait of a poll that takes the last free lane: a reader that joins finds one free this soon.
const LAST_LANE_WAIT: Duration = Duration::from_millis(10);
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>, broker: Arc<Broker>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let (done, mut polled) = mpsc::channel(LANES);
    let mut fetcher = Fetcher {
        core,
        broker,
        slots: BTreeMap::new(),
        next_slot: 0,
        first: 0,
        lanes: Vec::new(),
        not_before: None,
        failures: 0,
        done,
    };
    loop {
        let wake = fetcher.poll();
        let far = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            Some(command) = commands.recv() => {
                fetcher.obey(command);
                // All that came at once share the next poll.
                while let Ok(command) = commands.try_recv() {
                    fetcher.obey(command);
                }
            }
            Some(polled) = polled.recv() => fetcher.take(polled),
            () = sleep_until(wake.unwrap_or(far).into()), if wake.is_some() => {}
        }
    }
}

struct Lane {
    polls: mpsc::Sender<Poll>,
    busy: bool,
}

struct Fetcher {
    core: Arc<Core>,
    broker: Arc<Broker>,
    slots: BTreeMap<u64, Slot>,
    next_slot: u64,
    /// Where the next poll begins: brokers fill an answer in the order of the request, so the order goes round.
    first: u64,
    /// Started when first needed.
    lanes: Vec<Lane>,
    not_before: Option<Instant>,
    failures: u32,
    done: mpsc::Sender<Polled>,
}

impl Fetcher {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(mut slot) => {
                slot.covered = 0;
                slot.resolving = false;
                self.slots.insert(self.next_slot, *slot);
                self.next_slot += 1;
            }
            Command::Look => {}
            Command::Positioned { slot, offset } => {
                let Some(slot) = self.slots.get_mut(&slot) else { return };
                slot.resolving = false;
                match offset {
                    Some(offset) => slot.position = Some(offset),
                    None => slot.fail(),
                }
            }
        }
    }

    /// Sends a poll if a position is not on its way and a lane is free. Gives the time to look again, if any.
    fn poll(&mut self) -> Option<Instant> {
        self.part();
        let now = Instant::now();
        if let Some(until) = self.not_before {
            if until > now {
                return Some(until);
            }
            self.not_before = None;
        }
        self.locate();
        let wake = self
            .slots
            .values()
            .filter(|s| !s.resolving)
            .filter_map(|s| s.not_before)
            .filter(|t| *t > now)
            .min();
        let uncovered = self.slots.values().any(|s| s.covered == 0 && s.is_due(now));
        if !uncovered {
            return wake;
        }
        let Some(at) = self.free_lane() else { return wake };
        let last = self.lanes.len() == LANES && self.lanes.iter().enumerate().all(|(other, lane)| other == at || lane.busy);
        let max_wait = self.core.settings.consumer.max_wait;
        let wants = self.wants(at, now);
        if wants.is_empty() {
            return wake;
        }
        let poll = Poll {
            wants,
            max_wait: if last { max_wait.min(LAST_LANE_WAIT) } else { max_wait },
        };
        self.lanes[at].busy = true;
        // The lane takes one poll at a time and has room for it: it was not busy.
        let _ = self.lanes[at].polls.try_send(poll);
        // There may be another that did not fit (two readers of one partition): look at once.
        let more = self.slots.values().any(|s| s.covered == 0 && s.is_due(now)) && self.lanes.iter().any(|l| !l.busy);
        if more { Some(now) } else { wake }
    }

    /// Lets those go that have no reader or another leader.
    fn part(&mut self) {
        let id = self.broker.id;
        let leaving: Vec<u64> = self
            .slots
            .iter()
            .filter(|(_, s)| s.chunks.is_closed() || s.partition.leader() != Some(id))
            .map(|(id, _)| *id)
            .collect();
        for id in leaving {
            let slot = self.slots.remove(&id).expect("listed above");
            if !slot.chunks.is_closed() {
                self.core.orphans.adopt(Box::new(slot));
            }
        }
    }

    /// Has the positions asked for that are not known.
    fn locate(&mut self) {
        let now = Instant::now();
        for (id, slot) in &mut self.slots {
            if slot.position.is_some() || slot.resolving || slot.not_before.is_some_and(|t| t > now) {
                continue;
            }
            slot.resolving = true;
            self.core.spawn(locate(
                Arc::clone(&self.core),
                Arc::clone(&self.broker),
                *id,
                Arc::clone(&slot.partition),
                slot.lost.map(|lost| (slot.start, lost)),
            ));
        }
    }

    fn free_lane(&mut self) -> Option<usize> {
        if let Some(at) = self.lanes.iter().position(|lane| !lane.busy) {
            return Some(at);
        }
        if self.lanes.len() == LANES {
            return None;
        }
        let (polls, asked) = mpsc::channel(1);
        let at = self.lanes.len();
        self.core.spawn(lane::run(
            Arc::clone(&self.core),
            Arc::clone(&self.broker),
            at,
            asked,
            self.done.clone(),
        ));
        self.lanes.push(Lane { polls, busy: false });
        Some(at)
    }

    /// All due positions, each partition once; from here on the lane covers them.
    fn wants(&mut self, lane: usize, now: Instant) -> Vec<Want> {
        // The uncovered come first, so that of two readers of one partition the one who waits is served.
        let uncovered: Vec<u64> = self.slots.iter().filter(|(_, s)| s.covered == 0).map(|(id, _)| *id).collect();
        let first = self.first;
        let order: Vec<u64> = uncovered
            .iter()
            .copied()
            .filter(|id| *id >= first)
            .chain(uncovered.iter().copied().filter(|id| *id < first))
            .chain(self.slots.iter().filter(|(_, s)| s.covered != 0).map(|(id, _)| *id))
            .collect();
        let mut named = HashSet::new();
        let mut wants = Vec::with_capacity(order.len());
        for id in order {
            let slot = self.slots.get_mut(&id).expect("listed above");
            let Some(offset) = slot.position.filter(|_| slot.is_due(now)) else {
                continue;
            };
            if named.insert(Arc::as_ptr(&slot.partition)) {
                slot.covered |= 1 << lane;
                wants.push(Want {
                    slot: id,
                    partition: Arc::clone(&slot.partition),
                    offset,
                });
            }
        }
        self.first = wants.first().map_or(0, |w| w.slot + 1);
        wants
    }

    fn take(&mut self, polled: Polled) {
        self.lanes[polled.lane].busy = false;
        for want in &polled.wants {
            if let Some(slot) = self.slots.get_mut(&want.slot).filter(|s| s.position == Some(want.offset)) {
                slot.covered &= !(1 << polled.lane);
            }
        }
        match polled.result {
            Ok(answer) if answer.error_code == 0 => {
                self.failures = 0;
                self.hand_out(&polled.wants, answer);
            }
            Ok(answer) => self.pause(ErrorCode::from(answer.error_code).name()),
            Err(CallError::Broken(why)) => self.pause(&why),
            Err(CallError::Unsendable(why)) => self.pause(why),
        }
    }

    fn pause(&mut self, why: &str) {
        tracing::debug!(broker = self.broker.id, why, "a fetch failed");
        self.not_before = Some(Instant::now() + backoff::wait(self.failures, Duration::from_millis(50), Duration::from_secs(1)));
        self.failures += 1;
        self.core.refresh_all();
    }

    fn hand_out(&mut self, wants: &[Want], answer: FetchResponse) {
        let mut hint = 0;
        for topic in answer.responses {
            for data in topic.partitions {
                let at = (hint..wants.len()).chain(0..hint).find(|at| {
                    let ours = &wants[*at].partition;
                    ours.index == data.partition_index
                        && if topic.topic.0.is_empty() {
                            ours.topic_id == topic.topic_id
                        } else {
                            *ours.topic == *topic.topic.0
                        }
                });
                let Some(at) = at else { continue };
                hint = at + 1;
                let want = &wants[at];
                // Another poll was faster: this answer is for a position that was left.
                if let Some(slot) = self.slots.get_mut(&want.slot).filter(|s| s.position == Some(want.offset)) {
                    slot.take(want.offset, data, &self.core);
                }
            }
        }
    }
}

impl Slot {
    /// Whether it may be polled for.
    fn is_due(&self, now: Instant) -> bool {
        if self.position.is_none() || self.resolving || self.not_before.is_some_and(|t| t > now) {
            return false;
        }
        if self.chunks.capacity() > 0 {
            return true;
        }
        // First say that we starve, then look again: the reader does it the other way round.
        self.starved.store(true, SeqCst);
        self.chunks.capacity() > 0
    }

    fn fail(&mut self) {
        self.not_before = Some(Instant::now() + backoff::wait(self.failures, Duration::from_millis(20), Duration::from_secs(1)));
        self.failures += 1;
    }

    /// Takes what came for its position.
    fn take(&mut self, offset: i64, data: PartitionData, core: &Core) {
        if data.error_code != 0 {
            let code = ErrorCode::from(data.error_code);
            core.counters.error(code.name());
            if data.error_code == OFFSET_OUT_OF_RANGE {
                self.position = None;
                self.covered = 0;
                self.lost = Some(offset);
                core.counters.offset_resets.inc();
                tracing::warn!(
                    topic = &*self.partition.topic,
                    partition = self.partition.index,
                    offset,
                    "the offset to read from is gone"
                );
                return;
            }
            self.fail();
            core.refresh_all();
            return;
        }
        self.failures = 0;
        self.not_before = None;
        let Some(bytes) = data.records.filter(|b| !b.is_empty()) else {
            return;
        };
        let Some((next_offset, length)) = extent(&bytes).filter(|(next, _)| *next > offset) else {
            // Not one whole batch, or one that ends before what was asked for: asking again at once would not help.
            self.fail();
            core.counters.error("UNREADABLE_RECORD_SET");
            return;
        };
        let chunk = Chunk {
            topic: Arc::clone(&self.partition.topic),
            partition: self.partition.index,
            bytes: bytes.slice(..length),
            offset,
            next_offset,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            aborted: data
                .aborted_transactions
                .unwrap_or_default()
                .iter()
                .map(|t| (t.producer_id.0, t.first_offset))
                .collect(),
            reset: self.lost.is_some(),
        };
        // Room was seen when the poll was sent and only one answer for a position is taken, so a refusal means that the reader is gone.
        if self.chunks.try_send(chunk).is_ok() {
            core.counters.fetched_bytes.inc_by(length as u64);
            self.lost = None;
            self.position = Some(next_offset);
            self.covered = 0;
        }
    }
}

/// Finds a position: the end of the log for a start at the tail, and the nearest there is for an offset that is out of range.
async fn locate(core: Arc<Core>, broker: Arc<Broker>, slot: u64, partition: Arc<Partition>, lost: Option<(Start, i64)>) {
    let ask = async |timestamp| {
        offsets::list(&core, vec![Some(&partition)], timestamp)
            .await
            .pop()
            .and_then(Result::ok)
    };
    let offset = match lost {
        None | Some((Start::Tail, _)) => ask(offsets::LATEST).await,
        Some((Start::Offset(_), lost)) => match ask(offsets::EARLIEST).await {
            Some(earliest) if earliest > lost => Some(earliest),
            Some(_) => ask(offsets::LATEST).await,
            None => None,
        },
    };
    let _ = broker.fetcher.send(Command::Positioned { slot, offset });
}
