//! The fetcher of one broker: which positions to poll, on which lane, and what to make of the answers.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep_until};

use super::{
    Command, Slot,
    lane::{self, Answer, Poll, Polled, Report, Want},
    position,
};
use crate::kafka::error::ErrorCode;
use crate::upstream::{backoff, broker::Broker, cluster::Core};

/// Connections for fetching to one broker.
const LANES: usize = 3;
/// The wait of a poll that takes the last free lane: a reader that joins finds one free this soon.
const LAST_LANE_WAIT: Duration = Duration::from_millis(10);

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>, broker: Arc<Broker>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let (reports, mut reported) = mpsc::channel(LANES);
    let mut fetcher = Fetcher {
        core,
        broker,
        slots: BTreeMap::new(),
        next_slot: 0,
        first: 0,
        lanes: Vec::new(),
        not_before: None,
        failures: 0,
        reports,
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
            Some(report) = reported.recv() => match report {
                Report::Silent => fetcher.leave(),
                Report::Polled(polled) => fetcher.take(polled),
            },
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
    reports: mpsc::Sender<Report>,
}

impl Fetcher {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(mut slot) => {
                slot.join(&self.broker.fetcher);
                self.slots.insert(self.next_slot, *slot);
                self.next_slot += 1;
            }
            Command::Look => {}
            Command::Positioned { slot, offset } => {
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.found(offset);
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
        let wake = self.wake(now);
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
            near: !wants.iter().any(|want| self.slots[&want.slot].is_at_leader(now)),
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

    /// When a position may be asked for again, or is to be asked for elsewhere.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let waits = self.slots.values().filter(|s| !s.resolving).filter_map(|s| s.not_before);
        let leaves = self.slots.values().filter_map(Slot::leaves_at);
        waits.chain(leaves).filter(|t| *t > now).min()
    }

    /// Lets those go that have no reader, or are to be read from another broker.
    fn part(&mut self) {
        let id = self.broker.id;
        let leaving: Vec<u64> = self
            .slots
            .iter()
            .filter(|(_, s)| s.chunks.is_closed() || s.home_id() != Some(id))
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
            self.core.spawn(position::find(
                Arc::clone(&self.core),
                Arc::clone(&self.broker),
                *id,
                Arc::clone(&slot.partition),
                slot.sought(),
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
            self.reports.clone(),
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
                    last_epoch: slot.last_epoch(),
                });
            }
        }
        self.first = wants.first().map_or(0, |w| w.slot + 1);
        wants
    }

    /// The broker says nothing. Whom it does not lead for is read from the leader, on whatever lane it was: the next may be silent as well.
    fn leave(&mut self) {
        let most = self.core.settings.metadata_max_age;
        let left = self.slots.values_mut().filter_map(|slot| slot.leave_follower(most)).count();
        if left > 0 {
            let broker = self.broker.id;
            tracing::warn!(
                broker,
                left,
                "a replica says nothing: partitions are read from their leaders for a while"
            );
        }
    }

    fn take(&mut self, polled: Polled) {
        self.lanes[polled.lane].busy = false;
        for want in &polled.wants {
            if let Some(slot) = self.slots.get_mut(&want.slot).filter(|s| s.position == Some(want.offset)) {
                slot.covered &= !(1 << polled.lane);
            }
        }
        match polled.result {
            Ok(answer) => self.answered(answer),
            Err(why) => {
                let most = self.core.settings.metadata_max_age;
                for want in &polled.wants {
                    self.slots.get_mut(&want.slot).and_then(|slot| slot.leave_follower(most));
                }
                self.pause(&why.to_string());
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        let code = ErrorCode::from(answer.error_code);
        if !code.is_ok() {
            self.core.counters.error(code.name());
            // The next fetch is full: nothing to wait for, unless that does not help.
            if code.is_fetch_session() && self.failures == 0 {
                self.failures = 1;
                return;
            }
            return self.pause(code.name());
        }
        self.failures = 0;
        for piece in answer.pieces {
            // Another poll may have been faster: then this is for a position that was left.
            if let Some(slot) = self.slots.get_mut(&piece.slot).filter(|s| s.position == Some(piece.offset)) {
                slot.take(piece.offset, piece.data, &self.core);
            }
        }
    }

    fn pause(&mut self, why: &str) {
        tracing::debug!(broker = self.broker.id, why, "a fetch failed");
        self.not_before = Some(Instant::now() + backoff::wait(self.failures, Duration::from_millis(50), Duration::from_secs(1)));
        self.core.refresh_all(self.failures);
        self.failures += 1;
    }
}
