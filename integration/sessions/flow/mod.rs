//! Clients that keep their sessions while connections break, instances die and sleep. They forget what the protocol lets them forget, and
//! nothing else.

mod line;
mod pump;
mod valve;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;

pub(super) use self::pump::{Pump, WINDOW};
pub(super) use self::valve::Valve;
use super::once::chance;
use crate::load::client::{Client, Event, Version};
use crate::stage::Kafka;

/// How a client changes its connection.
enum Farewell {
    /// It is cut, and then there is another.
    Cut,
    /// There is another; the former one is not read any more.
    Forget,
    /// There is another; what comes on the former one until that is taken over counts.
    Overlap,
}

/// How often and how a client changes its connection by itself.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// At one in so many packets.
    pub(super) restless: u64,
    /// Now and then the former connection is read until it is taken over, which its instance must live to see.
    pub(super) overlaps: bool,
}

impl Habits {
    /// Stays as long as it can.
    pub(super) const FAITHFUL: Self = Self {
        restless: u64::MAX,
        overlaps: false,
    };

    fn leaves(self, dice: &mut u64) -> bool {
        chance(dice, self.restless) == 0
    }

    fn farewell(self, dice: &mut u64) -> Farewell {
        match chance(dice, 2 + u64::from(self.overlaps)) {
            0 => Farewell::Cut,
            1 => Farewell::Forget,
            _ => Farewell::Overlap,
        }
    }
}

/// What has come on a connection by now.
async fn drained(mut client: Client) -> (Client, Vec<Event>) {
    let mut events = Vec::new();
    // What was written to a socket of this machine lies in it; the time is for the runtime to see that.
    while let Ok(event) = client.next_within(Duration::from_millis(50)).await {
        let last = matches!(event, Event::Disconnect(_));
        events.push(event);
        if last {
            break;
        }
    }
    (client, events)
}

/// Whose messages flow, and where.
pub(super) struct Flow<'a> {
    pub(super) kafka: &'a Kafka,
    /// The topic in Kafka, and the first level of the names in MQTT.
    pub(super) name: &'a str,
    pub(super) at: SocketAddr,
    /// Publishers of each quality of service, the first in version 5, more in 3.1.1; there is a subscriber of each and in each version, too, to all of them.
    pub(super) publishers: usize,
    pub(super) seed: u64,
    pub(super) habits: Habits,
}

impl Flow<'_> {
    /// Lets messages flow as long as something else lasts, then judges what has come; the publishers.
    pub(super) async fn during(&self, something: impl Future<Output = ()>) -> Vec<Pump> {
        let Self {
            name, at, seed, habits, ..
        } = *self;
        let mut valves = Vec::new();
        // All messages come to each of them, and no more may be published than they take.
        let calmer = Habits {
            restless: 4 * habits.restless,
            ..habits
        };
        for (qos, version) in [(1, Version::V5), (2, Version::V5), (1, Version::V4), (2, Version::V4)] {
            let (valve, filter) = (format!("valve{qos}{version:?}"), format!("{name}/+"));
            valves.push(Valve::begin((at, version), &valve, &filter, qos, seed + u64::from(qos), calmer).await);
        }
        let (mut pumps, enough) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for number in 0..2 * self.publishers {
            let qos = 1 + (number % 2) as u8;
            let pump = Pump::new(at, name, &format!("pump{number}"), qos, seed + 10 + number as u64, habits);
            let version = if number < 2 { Version::V5 } else { Version::V4 };
            pumps.spawn(pump.speaking(version).run(Arc::clone(&enough)));
        }
        let valves = all_take_until("last 0", valves);
        something.await;
        enough.store(true, Relaxed);
        let mut pumps = pumps.join_all().await;
        let mut last = Pump::new(at, name, "last", 2, seed, Habits::FAITHFUL);
        last.say().await;
        let mut valves = valves.join_all().await;
        // What would come again behind the last one, on the next connection, comes before this.
        valves.iter_mut().for_each(Valve::leave);
        let taking = all_take_until("last 1", valves);
        last.say().await;
        pumps.push(last);
        judge_all(self.kafka, name, &pumps, &taking.join_all().await, seed);
        pumps
    }
}

fn all_take_until(last: &'static str, valves: Vec<Valve>) -> JoinSet<Valve> {
    let taking = valves.into_iter().map(|mut valve| async move {
        valve.take_until(last).await;
        valve
    });
    taking.collect()
}

/// Everything is there in order, in Kafka and at the subscribers: at QoS 2 once.
pub(super) fn judge_all(kafka: &Kafka, topic: &str, pumps: &[Pump], valves: &[Valve], seed: u64) {
    let stored = kafka.consume(topic, "%s");
    for pump in pumps {
        judge(&stored, pump, pump.qos == 2, &format!("{topic}, SEED={seed}: Kafka"));
        for valve in valves {
            let once = pump.qos == 2 && valve.qos == 2;
            let what = format!("{topic}, SEED={seed}: subscriber of QoS {}", valve.qos);
            judge(&valve.got, pump, once, &what);
        }
    }
}

/// Everything of a publisher's is there in order: once each, or the first occurrences of it.
fn judge(seen: &[String], pump: &Pump, once: bool, what: &str) {
    let own = format!("{} ", pump.line.name);
    let mut known = BTreeSet::new();
    let got: Vec<_> = seen
        .iter()
        .filter(|text| text.starts_with(&own) && (once || known.insert(*text)))
        .collect();
    let wanted = pump.texts();
    // The whole lists would fill screens.
    let apart = (0..got.len().max(wanted.len())).find(|place| got.get(*place).copied() != wanted.get(*place));
    if let Some(place) = apart {
        let around = &got[place.saturating_sub(3).min(got.len())..(place + 3).min(got.len())];
        let (got, wanted) = (got.len(), wanted.len());
        panic!("{what}: {own}: {got} of {wanted}, which part at {place}: {around:?}");
    }
}
