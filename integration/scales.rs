//! Two instances beside each other that serve as many subscribers each with the same records. What else happens on the machine happens to
//! both at the same time, so what one of them is slower by is the doing of what it alone serves.

use crate::load::client::{Client, Event};
use crate::load::ledger::{Ledger, Stamp};
use crate::load::publish::epoch;
use crate::stage::DEADLINE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What a subscriber of a long run got: when each message was due and how long it took, both in microseconds.
pub struct Followed {
    pub ledger: Ledger,
    latencies: Vec<(u64, u64)>,
}

impl Followed {
    /// The last message was due at this time or later.
    fn is_past(&self, due: u64) -> bool {
        self.latencies.last().is_some_and(|(last, _)| *last >= due)
    }
}

/// What a subscriber stays for.
#[derive(Clone, Copy)]
pub struct Enough {
    pub messages: u64,
    /// One message that was due at this time or later, in microseconds since 1970.
    pub due: u64,
}

/// Takes and acknowledges what comes, until it has what it is told is enough.
async fn follow(mut client: Client, mut enough: watch::Receiver<Option<Enough>>) -> std::io::Result<Followed> {
    let mut followed = Followed {
        ledger: Ledger::default(),
        latencies: Vec::new(),
    };
    loop {
        while let Some(event) = client.buffered()? {
            if let Event::Publish { payload, .. } = &event {
                followed.ledger.observe(payload);
                let now = epoch().as_micros() as u64;
                let took = |stamp: Stamp| (stamp.micros, now.saturating_sub(stamp.micros));
                followed.latencies.extend(Stamp::read(payload).map(took));
            }
            client.answer(&event)?;
        }
        client.flush().await?;
        let wanted = *enough.borrow_and_update();
        if wanted.is_some_and(|wanted| followed.ledger.received >= wanted.messages && followed.is_past(wanted.due)) {
            return Ok(followed);
        }
        tokio::select! {
            read = client.read_more() => read?,
            changed = enough.changed() => changed.map_err(std::io::Error::other)?,
        }
    }
}

/// Subscribers that go on for as long as the other end of the channel wants.
pub struct Fleet {
    enough: watch::Sender<Option<Enough>>,
    tasks: JoinSet<std::io::Result<Followed>>,
}

impl Fleet {
    /// From now on.
    pub fn follow(runtime: &Runtime, clients: Vec<Client>) -> Self {
        let (enough, heard) = watch::channel(None);
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn_on(follow(client, heard.clone()), runtime.handle());
        }
        Self { enough, tasks }
    }

    /// Ends each as soon as it has enough.
    pub fn end(self, runtime: &Runtime, enough: Enough) -> Vec<Followed> {
        self.enough.send_replace(Some(enough));
        let all = runtime.block_on(async { timeout(DEADLINE, self.tasks.join_all()).await });
        all.expect("all come in time").into_iter().map(Result::unwrap).collect()
    }
}

/// A stretch of time, in microseconds since 1970.
pub type Period = std::ops::Range<u64>;

/// All that happens while `what` does.
pub fn period(what: impl FnOnce()) -> Period {
    let start = epoch().as_micros() as u64;
    what();
    start..epoch().as_micros() as u64
}

/// The 99th percentiles of the messages that were due in each whole slice of a period, in milliseconds.
pub fn p99s(period: &Period, slice: Duration, fleet: &[Followed]) -> Vec<f64> {
    let slice = slice.as_micros() as u64;
    let mut slices = vec![Vec::new(); ((period.end - period.start) / slice) as usize];
    for (due, took) in fleet.iter().flat_map(|one| &one.latencies) {
        let at = due.checked_sub(period.start).map(|since| (since / slice) as usize);
        if let Some(slice) = at.and_then(|at| slices.get_mut(at)) {
            slice.push(*took);
        }
    }
    slices.into_iter().map(p99).collect()
}

fn p99(mut took: Vec<u64>) -> f64 {
    assert!(took.len() >= 100, "{} messages are no measure", took.len());
    took.sort_unstable();
    took[took.len() * 99 / 100] as f64 / 1000.0
}

/// By how many milliseconds the 99th percentile of those beside a load is above that of those without it, in each slice of a period.
pub fn slower(period: &Period, slice: Duration, beside: &[Followed], without: &[Followed]) -> Vec<f64> {
    let pairs = p99s(period, slice, beside).into_iter().zip(p99s(period, slice, without));
    pairs.map(|(beside, without)| beside - without).collect()
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "there is something to judge by");
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Lets this process have as many connections as the system allows it.
pub fn allow_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).unwrap();
}
