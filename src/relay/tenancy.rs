//! What a connection keeps whose session is in the store: how far its client has come in each partition, and what waits for the store.
//!
//! Of a partition everything below its position is settled (PUBACK or PUBCOMP has come, or it was not wanted), but for the open messages
//! that the store knows. Positions are reported once a second at most, and at the end. What was sent at QoS 1 above a position comes again
//! after a crash. A QoS 2 message is told before it is sent, with a position behind it: so it never comes again under another packet id,
//! and the QoS 1 messages before it that are open are told along.

mod away;
mod cut;
mod former;
mod progress;
mod resting;
mod retained;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::task::AbortHandle;

use super::{
    chunk::SourceId,
    leftover::Leftover,
    share::Lent,
    store::{Order, Orders, Report},
    subscribing::StartAt,
};
use crate::{
    ownership::{ConnectionId, End, Place, Source},
    session::{Answer, SubscriptionKey, Ticket},
};

pub use away::Away;
pub use former::Known;
use progress::Progress;
pub use resting::Resting;
use retained::Walks;

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Between two reports of one that has something open, and is at the tail: less than between two checkpoints, or it would count as behind.
const OPEN_EVERY: Duration = Duration::from_secs(3);
/// Longest time until it is seen that one has caught up, to which nothing is sent.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// See the head of the file.
pub struct Tenancy {
    orders: Orders,
    id: ConnectionId,
    /// Something of the session is stored. Otherwise the store only knows of the connection.
    pub stored: bool,
    sources: BTreeMap<Source, Progress>,
    /// Which log the last message of each came from.
    logs: BTreeMap<Source, SourceId>,
    /// Logs that were cut off, and where: starts that lay behind that are not written anew yet.
    cut: BTreeMap<Source, i64>,
    /// Messages without their last acknowledgement, by the token that the session knows them by.
    open: FxHashMap<u64, Sent>,
    token: u64,
    /// Messages from before that were not sent again yet: packet ids.
    again: BTreeMap<(Source, i64), u16>,
    /// Of those, what no subscription brings any more.
    pub leftover: Leftover,
    /// Retained messages that were sent at QoS 1 and have no PUBACK, by their packet ids: those that the store does not know.
    untold: BTreeMap<u16, Place>,
    /// Walks over retained messages.
    walks: Walks,
    /// Packet ids of QoS 1 that the store knows as open.
    told: HashSet<u16>,
    /// Packet ids that the store knows and that are free again.
    settled: Vec<u16>,
    /// Packet ids of the client's QoS 2 messages of which pairs were written down before this connection.
    pub former: BTreeSet<u16>,
    /// Its QoS 2 messages that are on their way into Kafka.
    pub publishing: HashMap<u16, Publishing>,
    /// Filters of stored subscriptions that its client has no right to, until the session has them.
    pub denied: Vec<Box<str>>,
    /// Where subscriptions start.
    starts: HashMap<SubscriptionKey, BTreeMap<Source, i64>>,
    /// SUBSCRIBEs and UNSUBSCRIBEs whose answers rest on what is written.
    pub resting: Vec<Resting>,
    /// Takes the seats of a session that goes on, also in topics that appear later.
    pub resuming: Option<AbortHandle>,
    away: Vec<Away>,
    /// Messages of such topics that were open at QoS 1 when it went on, and whose packet ids are free again.
    owed: BTreeSet<(Source, i64)>,
    report_at: Option<Instant>,
    /// Until the next look after that.
    pause: Duration,
}

/// A QoS 2 message of the client that is with the store.
pub struct Publishing {
    pub ticket: Ticket,
    /// Hash of its topic.
    pub topic: u64,
    /// The answer to one that makes no record by now; if Kafka has it all the same, that counts.
    pub left_out: Option<Answer>,
}

/// A message without its last acknowledgement.
#[derive(Debug)]
struct Sent {
    source: Source,
    offset: i64,
    packet: u16,
    exactly_once: bool,
    /// It came by a shared subscription, or was retained: the session's places in the logs have nothing to do with it.
    apart: bool,
}

impl Tenancy {
    /// Of a connection that the store is asked for.
    pub fn new(orders: Orders, id: ConnectionId) -> Self {
        Self {
            orders,
            id,
            stored: false,
            sources: BTreeMap::new(),
            logs: BTreeMap::new(),
            cut: BTreeMap::new(),
            open: FxHashMap::default(),
            token: 0,
            again: BTreeMap::new(),
            leftover: Leftover::default(),
            untold: BTreeMap::new(),
            walks: Walks::default(),
            told: HashSet::new(),
            settled: Vec::new(),
            former: BTreeSet::new(),
            publishing: HashMap::new(),
            denied: Vec::new(),
            starts: HashMap::new(),
            resting: Vec::new(),
            resuming: None,
            away: Vec::new(),
            owed: BTreeSet::new(),
            report_at: None,
            pause: REPORT_EVERY,
        }
    }

    /// The connection, as the store knows it.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Tells the store something. If its task has ended the process does, too.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// A subscription starts. A partition that is read for another one already, `is_read`, or will be, keeps its position: its SUBACK has
    /// not left yet, and what it promises begins there. So does a subscription that is asked for once more keep its first start.
    pub fn begins(&mut self, start: &StartAt, is_read: bool) {
        let log = self.logs.entry(start.place).or_insert(start.source);
        *log = start.source.max(*log);
        let is_read = is_read || self.starts.values().any(|places| places.contains_key(&start.place));
        self.starts.entry(start.key).or_default().entry(start.place).or_insert(start.offset);
        if !is_read || !self.sources.contains_key(&start.place) {
            self.begins_anew(start);
        }
    }

    /// Where a subscription starts.
    pub fn starts(&self, key: SubscriptionKey) -> BTreeMap<Source, i64> {
        self.starts.get(&key).cloned().unwrap_or_default()
    }

    /// A subscription is over.
    pub fn ends(&mut self, key: SubscriptionKey) {
        self.starts.remove(&key);
        self.walks.end(key);
    }

    /// The token of a message that is about to be sent.
    pub fn token(&self) -> u64 {
        self.token + 1
    }

    /// A message was sent at QoS 1 (`Some`, with its packet id) and will be settled under the last token, or is for nobody or of QoS 0.
    pub fn passed(&mut self, source: Source, offset: i64, packet: Option<u16>, now: Instant) {
        let progress = match self.sources.get_mut(&source).filter(|_| self.owed.remove(&(source, offset))) {
            Some(progress) => {
                // It lies below what is told.
                progress.told = None;
                progress
            }
            None => self.pass(source, offset),
        };
        if let Some(packet) = packet {
            progress.open.insert(offset, packet);
            self.sent(source, offset, packet, false);
        }
        self.look_soon(now);
    }

    /// Everything of a partition below `next` was handed out, and nothing of it waits.
    pub fn reached(&mut self, source: Source, next: i64) {
        let progress = self.sources.entry(source).or_insert_with(|| Progress::at(next, None));
        progress.next = progress.next.max(next);
    }

    /// A QoS 2 message is to be sent: asks the store.
    pub fn asked(&mut self, source: Source, offset: i64, packet: u16) {
        self.pass(source, offset).floor = offset + 1;
        self.sent(source, offset, packet, true);
        let mut report = self.begin_report();
        self.tell_retained(&mut report);
        self.tell(source, &mut report);
        self.order(Order::Send(self.id, packet, Place { source, offset }, report));
    }

    fn pass(&mut self, source: Source, offset: i64) -> &mut Progress {
        let next = offset + 1;
        let progress = self.sources.entry(source).or_insert_with(|| Progress::at(next, None));
        progress.next = next;
        progress
    }

    fn sent(&mut self, source: Source, offset: i64, packet: u16, exactly_once: bool) {
        self.token += 1;
        let sent = Sent {
            source,
            offset,
            packet,
            exactly_once,
            apart: false,
        };
        self.open.insert(self.token, sent);
    }

    /// A QoS 2 message of a shared subscription is to be sent: asks the store.
    pub fn borrows(&mut self, place: Place, packet: u16, lent: Lent) {
        let report = self.begin_report();
        self.order(Order::SendShared(self.id, packet, place, lent, report));
    }

    /// Such a message reached its end.
    pub fn is_free(&mut self, packet: u16, now: Instant) {
        self.settled.push(packet);
        self.look_soon(now);
    }

    /// A message reached its end.
    pub fn settled(&mut self, token: u64, now: Instant) {
        let Some(sent) = self.open.remove(&token) else { return };
        if sent.apart {
            self.untold.remove(&sent.packet);
        } else {
            self.again.remove(&(sent.source, sent.offset));
            if let Some(progress) = self.sources.get_mut(&sent.source) {
                // Another one may stand there, see `looks_at`.
                if progress.open.get(&sent.offset) == Some(&sent.packet) {
                    progress.open.remove(&sent.offset);
                }
            }
        }
        if sent.exactly_once || self.told.remove(&sent.packet) {
            self.settled.push(sent.packet);
        }
        self.look_soon(now);
    }

    /// When the next report is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.report_at.filter(|_| self.stored)
    }

    /// Has it looked at soon: something of it may have changed.
    pub fn look_soon(&mut self, now: Instant) {
        let at = now + REPORT_EVERY;
        self.pause = REPORT_EVERY;
        self.report_at = Some(self.report_at.map_or(at, |known| known.min(at)));
    }

    /// It does not rest: has it looked at again, sooner if nothing waits for it but what it has open.
    pub fn look_again(&mut self, is_clear: bool, now: Instant) {
        self.pause = (2 * self.pause).min(if is_clear { OPEN_EVERY } else { LOOK_EVERY });
        self.report_at.get_or_insert(now + self.pause);
    }

    /// Whether it is time for a report.
    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// Whether nothing is open, asked for or missing: of what it was handed all is settled.
    pub fn is_settled(&self) -> bool {
        let nothing_open = self.open.is_empty() && self.again.is_empty() && self.resting.is_empty();
        nothing_open && self.owed.is_empty() && self.away.is_empty()
    }

    /// Whether something holds of all partitions in which it has a place.
    pub fn all_places(&self, holds: impl Fn(&Source) -> bool) -> bool {
        self.sources.keys().all(holds)
    }

    /// Reports what has changed. A message of QoS 1 that was open at the last look already is told, with its packet id: so a client that
    /// takes its time keeps no position down.
    pub fn tick(&mut self) {
        for progress in self.sources.values_mut() {
            let lowest = progress.open.first_key_value().map(|(lowest, _)| *lowest);
            if lowest.is_some() && progress.waits_for == lowest {
                progress.floor = progress.next.max(progress.floor);
            }
            progress.waits_for = lowest;
        }
        let report = self.report();
        if report != Report::default() {
            self.order(Order::Report(self.id, report));
        }
    }

    /// What has changed since the last report.
    pub fn report(&mut self) -> Report {
        self.report_at = None;
        let mut report = self.begin_report();
        self.tell_retained(&mut report);
        let sources: Vec<Source> = self.sources.keys().copied().collect();
        for source in sources {
            self.tell(source, &mut report);
        }
        report
    }

    /// What has changed in one partition.
    fn tell(&mut self, source: Source, report: &mut Report) {
        let Some(progress) = self.sources.get_mut(&source) else { return };
        let position = progress.position();
        if progress.told == Some(position) {
            return;
        }
        progress.told = Some(position);
        report.positions.push((source, position));
        for (&offset, &packet) in progress.open.range(..position) {
            if self.told.insert(packet) {
                report.sent.push((packet, Place { source, offset }));
            }
        }
    }

    /// The connection has ended.
    pub fn end(mut self, end: End) {
        self.resuming.take().inspect(AbortHandle::abort);
        // Here the packet ids in flight are told, so that the same return [MQTT-4.4.0-1].
        self.sources.values_mut().for_each(|progress| progress.floor = progress.next);
        let report = if self.stored { self.report() } else { Report::default() };
        self.order(Order::Ended(self.id, end, report));
    }
}

#[cfg(test)]
mod tests;
