//! The lanes of a broker: a few connections, on each one request at a time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use crate::upstream::{
    accumulator::Answer,
    backoff,
    broker::Broker,
    cluster::Core,
    connection::{CallError, Connection, ORDINARY_FRAME},
    produce::{Part, PartAnswer, answers_to, judge, produce},
    topics::Partition,
};

/// A request is not filled beyond this, plus one record.
const FULL_REQUEST: usize = 1 << 20;

/// Of brokers before 2.5; see [`super::Fate::Gap`].
const UNKNOWN_PRODUCER_ID: i16 = 59;

/// What waits for a broker's lanes. Bounded by the memory of the records.
#[derive(Default)]
pub(crate) struct Singles {
    line: Mutex<VecDeque<Job>>,
    bell: Notify,
}

/// The answer to a batch, with the timestamp of what is there, if the broker tells.
pub(super) type Told = (Answer, Option<i64>);

/// A batch on its way.
struct Job {
    part: Part,
    reply: oneshot::Sender<Told>,
}

impl Singles {
    fn line(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.line.lock().expect("no code that holds this lock panics")
    }

    /// A record for a partition that this broker leads, which has failed so often before; dropped if nobody waits for the answer any more.
    pub(super) fn push(&self, partition: &Arc<Partition>, bytes: &Bytes, failures: u32, reply: oneshot::Sender<Told>) {
        let part = Part {
            partition: Arc::clone(partition),
            ordinal: 0,
            bytes: bytes.clone(),
            failures,
        };
        self.line().push_back(Job { part, reply });
        self.bell.notify_one();
    }

    /// What the next request holds: of each partition the first that waits.
    fn take(&self) -> Vec<Job> {
        let mut line = self.line();
        let mut taken: Vec<Job> = Vec::new();
        let mut bytes = 0;
        for job in std::mem::take(&mut *line) {
            if job.reply.is_closed() {
                continue;
            }
            let full = bytes >= FULL_REQUEST || taken.iter().any(|other| Arc::ptr_eq(&other.part.partition, &job.part.partition));
            if full {
                line.push_back(job);
            } else {
                bytes += job.part.bytes.len();
                taken.push(job);
            }
        }
        if !line.is_empty() {
            // Another lane's, if one is free.
            self.bell.notify_one();
        }
        taken
    }
}

/// Runs a lane until the client stops.
pub(crate) async fn run(core: Arc<Core>, broker: Arc<Broker>) {
    let mut connection = None;
    let mut failures = 0;
    loop {
        let jobs = broker.singles.take();
        if jobs.is_empty() {
            broker.singles.bell.notified().await;
            continue;
        }
        match request(&core, &broker, &mut connection, jobs).await {
            Ok(()) => failures = 0,
            Err(why) => {
                tracing::debug!(broker = broker.id, %why, "a lane of single records breaks off");
                core.refresh_all(failures);
                sleep(backoff::wait(failures, Duration::from_millis(20), Duration::from_secs(1))).await;
                failures += 1;
            }
        }
    }
}

/// Sends one request and tells each what became of it. Who is not told hears it by the end of the channel: in doubt.
async fn request(core: &Arc<Core>, broker: &Broker, connection: &mut Option<Connection>, jobs: Vec<Job>) -> Result<(), CallError> {
    if connection.as_ref().is_none_or(|connection| !connection.is_open()) {
        *connection = match Connection::open(&broker.address(), core, ORDINARY_FRAME).await {
            Ok(opened) => {
                broker.reached();
                Some(opened)
            }
            Err(why) => {
                broker.tell_unreachable(&why.to_string());
                return Err(why);
            }
        };
    }
    let connection = connection.as_ref().expect("opened above");
    let (parts, replies): (Vec<Part>, Vec<_>) = jobs.into_iter().map(|job| (job.part, job.reply)).unzip();
    let Some(answer) = produce(core, connection, &parts)?.wait().await? else {
        return Ok(());
    };
    for ((reply, part), told) in replies.into_iter().zip(&parts).zip(answers_to(&parts, &answer)) {
        let answer = match told {
            Some(PartAnswer {
                code: UNKNOWN_PRODUCER_ID, ..
            }) => (Answer::OutOfOrder, None),
            Some(told) => (judge(core, part, told).0, Some(told.timestamp).filter(|at| *at >= 0)),
            None => (Answer::Doubt, None),
        };
        // Whoever waited may have gone to another broker.
        let _ = reply.send(answer);
    }
    Ok(())
}
