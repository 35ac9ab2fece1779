//! One broker of the cluster: where it is, and what waits for its tasks.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::{Notify, mpsc};

use super::{fetch::Command, offsets::Question, singles::Singles, topics::Partition};
use crate::kafka::Acks;

/// Reasons that are told of one outage.
const MOST_FAULTS: usize = 4;

/// Partitions that have something to send with one kind of `acks`, for the sender that has a connection of its own for these.
///
/// Kafka closes the connection when it cannot store what was sent with `acks` 0, for want of another way to tell; requests of the
/// others would be in doubt each time. And it answers one request of a connection after the other, so those that wait for the leader alone would
/// wait for the replicas of the others.
#[derive(Default)]
pub(crate) struct Line {
    ready: Mutex<Vec<Arc<Partition>>>,
    /// Rung for the sender.
    pub(crate) kick: Notify,
}

/// A broker. Its tasks (senders, fetcher, offsets) are started when it first appears.
pub(crate) struct Broker {
    pub(crate) id: i32,
    /// `host:port`, as last heard.
    address: Mutex<String>,
    /// The last metadata named it.
    listed: AtomicBool,
    /// Why no connection to it was had since the last that was, each reason once.
    faults: Mutex<Vec<String>>,
    /// One for each [`Acks`], in the order of [`Acks::EACH`].
    lines: [Line; Acks::EACH.len()],
    /// Records that are produced by themselves.
    pub(crate) singles: Singles,
    /// To the fetcher. Unbounded in form; the number of readers bounds it.
    pub(crate) fetcher: mpsc::UnboundedSender<Command>,
    /// To the task that asks for offsets; bounded by the number of calls.
    pub(crate) questions: mpsc::UnboundedSender<Question>,
}

impl Broker {
    pub(crate) fn new(
        id: i32,
        address: String,
        fetcher: mpsc::UnboundedSender<Command>,
        questions: mpsc::UnboundedSender<Question>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            address: Mutex::new(address),
            listed: AtomicBool::new(true),
            faults: Mutex::default(),
            lines: Default::default(),
            singles: Singles::default(),
            fetcher,
            questions,
        })
    }

    pub(crate) fn address(&self) -> String {
        self.address.lock().expect("no code that holds this lock panics").clone()
    }

    /// Takes its address as told; whether that is news.
    pub(crate) fn moved_to(&self, address: String) -> bool {
        let mut known = self.address.lock().expect("no code that holds this lock panics");
        let moved = *known != address;
        *known = address;
        moved
    }

    /// Whether the last metadata named it.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Relaxed)
    }

    pub(crate) fn list_as_known(&self, listed: bool) {
        self.listed.store(listed, Relaxed);
    }

    /// Logs that there is no connection to it, each reason once until there is one: lanes come back every second.
    pub(crate) fn tell_unreachable(&self, why: &str) {
        let mut faults = self.faults.lock().expect("no code that holds this lock panics");
        let new = faults.len() < MOST_FAULTS && faults.iter().all(|told| told != why);
        if new {
            faults.push(why.to_owned());
            tracing::warn!(broker = self.id, why, "no connection to a broker; its partitions wait");
        } else {
            tracing::debug!(broker = self.id, why, "no connection to a broker");
        }
    }

    /// There is a connection: the next fault is told again.
    pub(crate) fn reached(&self) {
        let mut faults = self.faults.lock().expect("no code that holds this lock panics");
        if !faults.is_empty() {
            faults.clear();
            tracing::info!(broker = self.id, "the broker is reached again");
        }
    }

    /// What waits for the sender of this `acks`.
    pub(crate) fn line(&self, acks: Acks) -> &Line {
        &self.lines[acks as usize]
    }

    /// Moves all partitions of all lines to the end of `into`.
    pub(crate) fn take_all_ready(&self, into: &mut Vec<Arc<Partition>>) {
        self.lines.iter().for_each(|line| line.take_ready(into));
    }

    /// Puts a partition in line (its `listed` flag is set by the caller).
    pub(crate) fn list(&self, partition: Arc<Partition>, urgent: bool) {
        self.line(partition.acks()).list(partition, urgent);
    }
}

impl Line {
    /// The sender is woken by the first in line, so that it can
    /// start its linger, and by whatever is urgent; the others are found when it next looks.
    fn list(&self, partition: Arc<Partition>, urgent: bool) {
        let mut ready = self.ready();
        let first = ready.is_empty();
        ready.push(partition);
        drop(ready);
        if first || urgent {
            self.kick.notify_one();
        }
    }

    /// As [`list`](Self::list), but the wake is left to the caller: `true` asks for it.
    pub(crate) fn list_quietly(&self, partition: Arc<Partition>) -> bool {
        let mut ready = self.ready();
        ready.push(partition);
        ready.len() == 1
    }

    /// Moves all partitions in line to the end of `into`.
    pub(crate) fn take_ready(&self, into: &mut Vec<Arc<Partition>>) {
        into.append(&mut self.ready());
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Arc<Partition>>> {
        self.ready.lock().expect("no code that holds this lock panics")
    }
}
