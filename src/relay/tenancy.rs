//! What a connection keeps whose session is in the store: how far its client has come in each partition, and what waits for the store.
//!
//! Of a partition everything below its position is settled: PUBACK or PUBCOMP has come, or it was not wanted. Positions are reported once
//! a second at most, and at the end. What was sent above a position comes again after a crash.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    granting::Granted,
    store::{Order, Orders, Report},
    subscribing::StartAt,
};
use crate::{
    ownership::{ConnectionId, End, Source},
    session::SubscriptionKey,
};

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// See the head of the file.
pub struct Tenancy {
    orders: Orders,
    id: ConnectionId,
    /// Something of the session is stored. Otherwise the store only knows of the connection.
    pub stored: bool,
    sources: BTreeMap<Source, Progress>,
    /// Messages without their last acknowledgement, by the token that the session knows them by.
    open: FxHashMap<u64, (Source, i64)>,
    token: u64,
    /// Where subscriptions start.
    starts: HashMap<SubscriptionKey, BTreeMap<Source, i64>>,
    /// SUBSCRIBEs and UNSUBSCRIBEs whose answers rest on what is written.
    pub resting: Vec<Resting>,
    report_at: Option<Instant>,
}

/// An answer that waits until what it says is written.
pub enum Resting {
    /// Of a SUBSCRIBE.
    Granted(Granted),
    /// Of an UNSUBSCRIBE, by its ticket.
    Removed(crate::session::Ticket),
}

impl Resting {
    fn ticket(&self) -> u32 {
        match self {
            Resting::Granted(granted) => granted.ticket().0,
            Resting::Removed(ticket) => ticket.0,
        }
    }
}

#[derive(Debug)]
struct Progress {
    /// Everything below was sent, or is not wanted.
    next: i64,
    /// Of that, what is not settled.
    open: BTreeSet<i64>,
    /// The position that the store knows.
    told: Option<i64>,
}

impl Progress {
    fn at(next: i64, told: Option<i64>) -> Self {
        let open = BTreeSet::new();
        Self { next, open, told }
    }

    fn position(&self) -> i64 {
        self.open.first().map_or(self.next, |lowest| self.next.min(*lowest))
    }
}

impl Tenancy {
    /// Of a connection that the store is asked for.
    pub fn new(orders: Orders, id: ConnectionId) -> Self {
        Self {
            orders,
            id,
            stored: false,
            sources: BTreeMap::new(),
            open: FxHashMap::default(),
            token: 0,
            starts: HashMap::new(),
            resting: Vec::new(),
            report_at: None,
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

    /// A session that goes on stands at these places.
    pub fn stands(&mut self, positions: &BTreeMap<Source, i64>) {
        let known = positions.iter().map(|(source, next)| (*source, Progress::at(*next, Some(*next))));
        self.sources.extend(known);
    }

    /// A subscription starts. A partition that is read for another one already, `is_read`, keeps its position.
    pub fn begins(&mut self, start: &StartAt, is_read: bool) {
        self.starts.entry(start.key).or_default().insert(start.place, start.offset);
        if !is_read || !self.sources.contains_key(&start.place) {
            self.sources.insert(start.place, Progress::at(start.offset, None));
        }
    }

    /// Where a subscription starts.
    pub fn starts(&self, key: SubscriptionKey) -> BTreeMap<Source, i64> {
        self.starts.get(&key).cloned().unwrap_or_default()
    }

    /// A subscription is over.
    pub fn ends(&mut self, key: SubscriptionKey) {
        self.starts.remove(&key);
    }

    /// The token of a message that is about to be sent.
    pub fn token(&self) -> u64 {
        self.token + 1
    }

    /// A message was sent, or is for nobody. `open`: it will be settled under the last token.
    pub fn passed(&mut self, source: Source, offset: i64, open: bool, now: Instant) {
        let next = offset + 1;
        let progress = self.sources.entry(source).or_insert_with(|| Progress::at(next, None));
        progress.next = next;
        if open {
            progress.open.insert(offset);
            self.token += 1;
            self.open.insert(self.token, (source, offset));
        }
        self.report_at.get_or_insert(now + REPORT_EVERY);
    }

    /// Everything of a partition below `next` was handed out, and nothing of it waits.
    pub fn reached(&mut self, source: Source, next: i64) {
        let progress = self.sources.entry(source).or_insert_with(|| Progress::at(next, None));
        progress.next = progress.next.max(next);
    }

    /// A message reached its end.
    pub fn settled(&mut self, token: u64, now: Instant) {
        let Some((source, offset)) = self.open.remove(&token) else { return };
        if let Some(progress) = self.sources.get_mut(&source) {
            progress.open.remove(&offset);
        }
        self.report_at.get_or_insert(now + REPORT_EVERY);
    }

    /// When the next report is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.report_at.filter(|_| self.stored)
    }

    /// Reports, if it is time.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            let report = self.report();
            self.order(Order::Report(self.id, report));
        }
    }

    /// What has changed since the last report.
    pub fn report(&mut self) -> Report {
        self.report_at = None;
        let mut report = Report::default();
        for (source, progress) in &mut self.sources {
            let position = progress.position();
            if progress.told != Some(position) {
                progress.told = Some(position);
                report.positions.push((*source, position));
            }
        }
        report
    }

    /// The answer that rests on what is written now.
    pub fn rested(&mut self, ticket: u32) -> Option<Resting> {
        let at = self.resting.iter().position(|resting| resting.ticket() == ticket)?;
        Some(self.resting.remove(at))
    }

    /// The connection has ended.
    pub fn end(mut self, end: End) {
        let report = if self.stored { self.report() } else { Report::default() };
        self.order(Order::Ended(self.id, end, report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const SOURCE: Source = Source {
        topic: [7; 16],
        partition: 3,
    };

    fn tenancy() -> (Tenancy, mpsc::UnboundedReceiver<Order>) {
        let (orders, taken) = mpsc::unbounded_channel();
        let mut tenancy = Tenancy::new(orders, ConnectionId(1));
        tenancy.stored = true;
        (tenancy, taken)
    }

    #[test]
    fn a_position_waits_for_the_lowest_message_without_an_answer() {
        let (mut tenancy, mut orders) = tenancy();
        let now = Instant::now();
        tenancy.stands(&[(SOURCE, 10)].into());
        assert_eq!(tenancy.report(), Report::default(), "the store knows that");
        for offset in 10..13 {
            assert_eq!(tenancy.token(), offset as u64 - 9);
            tenancy.passed(SOURCE, offset, true, now);
        }
        tenancy.settled(2, now);
        assert_eq!(tenancy.report(), Report::default(), "10 is open");
        tenancy.settled(1, now);
        assert_eq!(tenancy.report().positions, [(SOURCE, 12)]);
        tenancy.settled(3, now);
        tenancy.passed(SOURCE, 20, false, now);
        assert_eq!(tenancy.deadline(), Some(now + REPORT_EVERY));
        tenancy.tick(now + REPORT_EVERY);
        let Ok(Order::Report(ConnectionId(1), report)) = orders.try_recv() else {
            panic!()
        };
        assert_eq!(report.positions, [(SOURCE, 21)]);
        assert_eq!(tenancy.deadline(), None);
    }

    #[test]
    fn a_new_subscription_takes_no_other_one_forward() {
        let (mut tenancy, _orders) = tenancy();
        tenancy.stands(&[(SOURCE, 10)].into());
        let start = StartAt {
            key: SubscriptionKey(1),
            source: super::super::chunk::SourceId(1),
            place: SOURCE,
            offset: 50,
        };
        tenancy.begins(&start, true);
        assert_eq!(tenancy.report(), Report::default());
        assert_eq!(tenancy.starts(SubscriptionKey(1)), [(SOURCE, 50)].into());
        // All others were unsubscribed: what lies between is nobody's.
        tenancy.begins(&start, false);
        assert_eq!(tenancy.report().positions, [(SOURCE, 50)]);
    }
}
