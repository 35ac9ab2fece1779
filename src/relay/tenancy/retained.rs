//! Retained messages on their way to the client. Each has the place of its record in the retained topic, which is no source of the session: none of its
//! positions says anything of it.
//!
//! At QoS 2 its pair is written before it is sent, as of any other. What was sent at QoS 1 and is open is told with the next report, and at
//! the end, so that its packet id stays its own.
//!
//! How far a walk has come is told in the same reports: what lies before that was sent, and stands in them if it is open. Each that tells a position has
//! it, too. Told as a sequence of events: a walk comes to its end; a message is retained, and comes in its order as any other, with a position behind it;
//! were the end of the walk not told with that, whoever claims the session after a crash would walk on, and give it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::Tenancy;
use crate::{
    ownership::{Place, Steps, Walk},
    relay::store::{Order, Report},
    session::SubscriptionKey,
};

/// Walks over retained messages that the store knows, or is to know.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// Those that are not over, with their filters.
    open: BTreeMap<SubscriptionKey, (Box<str>, Walk)>,
    /// Those that have come further since the last report.
    moved: BTreeSet<SubscriptionKey>,
    /// Filters of those that are over since then.
    over: Vec<Box<str>>,
}

impl Walks {
    pub(super) fn end(&mut self, key: SubscriptionKey) {
        self.moved.remove(&key);
        self.over.extend(self.open.remove(&key).map(|(filter, _)| filter));
    }

    fn tell(&mut self, report: &mut Report) {
        report.walks.extend(self.over.drain(..).map(|filter| (filter, None)));
        while let Some(key) = self.moved.pop_first() {
            let moved = self.open.get(&key).map(|(filter, walk)| (filter.clone(), Some(walk.clone())));
            report.walks.extend(moved);
        }
    }
}

impl Tenancy {
    /// A retained message was sent at QoS 1, and will be settled under the last token.
    pub fn sent_retained(&mut self, place: Place, packet: u16, now: Instant) {
        self.sent(place.source, place.offset, packet, false);
        self.is_apart();
        self.untold.insert(packet, place);
        self.look_soon(now);
    }

    /// One is to be sent at QoS 2: asks the store.
    pub fn asked_retained(&mut self, place: Place, packet: u16) {
        self.sent(place.source, place.offset, packet, true);
        self.is_apart();
        let mut report = Report {
            settled: std::mem::take(&mut self.settled),
            ..Report::default()
        };
        self.tell_retained(&mut report);
        self.order(Order::Send(self.id, packet, place, report));
    }

    /// The last that was sent is none of the session's sources.
    pub(super) fn is_apart(&mut self) {
        self.open.entry(self.token).and_modify(|sent| sent.apart = true);
    }

    /// What the store is to know: what is open, and how far walks have come.
    pub(super) fn tell_retained(&mut self, report: &mut Report) {
        while let Some((packet, place)) = self.untold.pop_first() {
            self.told.insert(packet);
            report.sent.push((packet, place));
        }
        self.walks.tell(report);
    }

    /// A SUBSCRIBE begins a walk; `again`: its subscription stood before.
    pub fn walk_begins(&mut self, key: SubscriptionKey, filter: &str, again: bool) {
        let behind = String::new();
        self.walks.open.insert(key, (filter.into(), Walk { behind, again }));
        self.walks.moved.insert(key);
    }

    /// A topic was given, or left out.
    pub fn walked(&mut self, key: SubscriptionKey, topic: &str, now: Instant) {
        let Some((_, walk)) = self.walks.open.get_mut(&key) else { return };
        walk.behind.clear();
        walk.behind.push_str(topic);
        self.walks.moved.insert(key);
        self.look_soon(now);
    }

    /// A walk has come to its end.
    pub fn walk_is_over(&mut self, key: SubscriptionKey) {
        self.walks.end(key);
    }

    /// Walks of a session that goes on; those of other filters are over.
    pub fn walks_go_on(&mut self, steps: &Steps, going: &[(SubscriptionKey, &str)]) {
        for (filter, walk) in &steps.walks {
            match going.iter().find(|(_, known)| **known == **filter) {
                Some((key, _)) => drop(self.walks.open.insert(*key, (filter.clone(), walk.clone()))),
                None => self.walks.over.push(filter.clone()),
            }
        }
    }
}
