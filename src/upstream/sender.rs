//! One sender per broker and kind of `acks`: takes what its partitions have and keeps a few Produce requests in flight on a connection of
//! its own.
//!
//! With nothing in flight, what there is leaves at once. While requests are in flight records gather, and leave when an answer
//! comes, when a batch is full, or when `linger` has passed. One request carries at most one batch of each partition.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use tokio::{sync::watch, task::JoinSet, time::sleep_until};

use super::{
    accumulator::{Answer, Settled},
    backoff,
    broker::Broker,
    cluster::Core,
    connection::{CallError, Connection, ORDINARY_FRAME},
    flying::{Flying, closed, front_answer},
    produce::{Part, answers_to, judge, produce},
    receipts::Waiters,
    topics::Partition,
    wire::throttle,
};
use crate::kafka::{Acks, compression::Compressor};

/// Requests in flight on one connection.
const MOST_REQUESTS: usize = 5;

/// An answer or a connection that takes so long makes us ask whether another broker leads by now.
const OVERDUE: Duration = Duration::from_secs(1);
/// Then it is asked again and again, often at first: devices wait, and a cluster has a new leader within some seconds (9 s are the
/// default of `broker.session.timeout.ms`, then comes the election).
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// So many times; after that once in `OVERDUE`.
const MOST_QUICK: u32 = 80;
/// So many doubts count as failures: more would make the questions rarer than `ASK_AGAIN` has them.
const MOST_DOUBTED: u32 = 2;

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>, broker: Arc<Broker>, acks: Acks) {
    let mut sender = Sender {
        changed: core.changed.subscribe(),
        core,
        broker,
        acks,
        connection: None,
        opened: Instant::now(),
        written: None,
        line: Vec::new(),
        delayed: Vec::new(),
        flying: VecDeque::new(),
        doubted: Instant::now(),
        doubts: 0,
        go: false,
        line_since: None,
        not_before: None,
        failures: 0,
        nameless: Vec::new(),
        naming: JoinSet::new(),
        settled: Vec::new(),
        compressor: Compressor::default(),
    };
    loop {
        sender.collect();
        match sender.plan(Instant::now()) {
            Plan::Send => sender.send().await,
            Plan::Wait(until) => sender.wait(until).await,
        }
    }
}

enum Plan {
    Send,
    Wait(Option<Instant>),
}

pub(super) struct Sender {
    pub(super) core: Arc<Core>,
    /// Leaders may have moved since it was looked at.
    changed: watch::Receiver<u64>,
    pub(super) broker: Arc<Broker>,
    /// Of all its partitions.
    pub(super) acks: Acks,
    connection: Option<Connection>,
    pub(super) opened: Instant,
    /// When the last request left that the broker does not answer.
    pub(super) written: Option<Instant>,
    /// Partitions with something to send; their `listed` flag is set.
    pub(super) line: Vec<Arc<Partition>>,
    /// Those that must wait after a failure; `listed`, too.
    pub(super) delayed: Vec<Arc<Partition>>,
    pub(super) flying: VecDeque<Flying>,
    /// When it was last asked whether another broker leads by now, because no answer came.
    doubted: Instant,
    /// How often that was since the last answer.
    doubts: u32,
    /// An answer came: what is in line leaves now.
    pub(super) go: bool,
    line_since: Option<Instant>,
    /// No request before (back-off, throttling).
    not_before: Option<Instant>,
    pub(super) failures: u32,
    /// Those that wait for a producer id; `listed`, too. The others go on meanwhile.
    pub(super) nameless: Vec<Arc<Partition>>,
    /// The task that asks for one.
    pub(super) naming: JoinSet<()>,
    pub(super) settled: Vec<Settled<Waiters>>,
    pub(super) compressor: Compressor,
}

impl Sender {
    /// Takes the newly ready, and of the delayed those whose time has come.
    fn collect(&mut self) {
        self.broker.line(self.acks).take_ready(&mut self.line);
        let now = Instant::now();
        let mut at = 0;
        while at < self.delayed.len() {
            let due = {
                let mut slot = self.delayed[at].lock();
                let due = slot.not_before.is_none_or(|t| t <= now);
                if due {
                    slot.not_before = None;
                }
                due || !self.leads(slot.broker.as_ref())
            };
            if due {
                self.line.push(self.delayed.swap_remove(at));
            } else {
                at += 1;
            }
        }
        if self.changed.has_changed().unwrap_or(false) {
            self.changed.mark_unchanged();
            self.release_nameless_of_others();
            self.forsake();
            self.hand_over();
        } else if self.is_held_up() {
            // An appender may have had the old leader in its hands while the partition moved, and listed it here behind the look above. As long as
            // all places are taken nothing is gathered, which would notice.
            self.hand_over();
        }
        if self.line.is_empty() {
            self.line_since = None;
        } else {
            self.line_since.get_or_insert(now);
        }
    }

    /// Nothing can be sent, and the broker owes its answers for longer than one that is well.
    fn is_held_up(&self) -> bool {
        let late = self.flying.front().is_some_and(|front| front.since.elapsed() > OVERDUE);
        late && self.flying.len() >= MOST_REQUESTS && !self.line.is_empty()
    }

    fn plan(&self, now: Instant) -> Plan {
        if self.line.is_empty() {
            return Plan::Wait(self.delayed.iter().filter_map(|p| p.lock().not_before).min());
        }
        if self.flying.len() >= MOST_REQUESTS {
            return Plan::Wait(None);
        }
        if let Some(until) = self.not_before.filter(|t| *t > now) {
            return Plan::Wait(Some(until));
        }
        let lingered = self.line_since.unwrap_or(now) + self.core.settings.producer.linger;
        if self.flying.is_empty() || self.go || lingered <= now || self.line.iter().any(|p| p.lock().queue.is_urgent()) {
            return Plan::Send;
        }
        Plan::Wait(Some(lingered))
    }

    async fn wait(&mut self, until: Option<Instant>) {
        let far = Instant::now() + Duration::from_secs(3600);
        let broker = Arc::clone(&self.broker);
        let overdue = self.next_doubt();
        let unanswering = self.connection.as_ref().filter(|_| self.acks == Acks::None);
        let unanswering = unanswering.map(Connection::closed);
        tokio::select! {
            biased;
            answer = front_answer(&mut self.flying) => self.take_answer(answer),
            () = broker.line(self.acks).kick.notified() => {}
            () = closed(unanswering) => self.close_unanswered(),
            Some(_) = self.naming.join_next(), if !self.naming.is_empty() => self.named(),
            () = sleep_until(until.unwrap_or(far).into()), if until.is_some() => {}
            () = sleep_until(overdue.unwrap_or(far).into()), if overdue.is_some() => self.doubt(),
        }
    }

    /// The broker lets us wait: it may be gone, and another may lead by now.
    fn doubt(&mut self) {
        self.doubted = Instant::now();
        self.core.refresh_all(self.doubts.min(MOST_DOUBTED));
        self.doubts = self.doubts.saturating_add(1);
    }

    /// When the next doubt is due: an answer is late, or records wait for a broker that is not reached.
    fn next_doubt(&self) -> Option<Instant> {
        // A broker that asked for quiet owes nothing until that is over.
        let late = self
            .flying
            .front()
            .map(|f| self.not_before.map_or(f.since, |quiet| quiet.max(f.since)) + OVERDUE);
        let unreached = (self.failures > 0 && self.connection.is_none() && !self.line.is_empty()).then_some(self.doubted);
        Some(late.or(unreached)?.max(self.doubted + self.until_next_doubt()))
    }

    fn until_next_doubt(&self) -> Duration {
        if self.doubts < MOST_QUICK { ASK_AGAIN } else { OVERDUE }
    }

    /// Builds one request from the line and puts it on the wire.
    async fn send(&mut self) {
        self.go = false;
        self.park_nameless();
        if self.line.is_empty() || !self.connect().await {
            return;
        }
        let parts = self.gather();
        self.line_since = None;
        if !parts.is_empty() {
            self.fly(parts);
        }
    }

    /// Puts one request on the wire.
    fn fly(&mut self, mut parts: Vec<Part>) {
        let sent = match &self.connection {
            Some(connection) => produce(&self.core, connection, &parts),
            None => Err(CallError::Unsendable("no connection")),
        };
        // From here on the queue has them, and the request until it is written: who else holds one keeps its memory from coming back.
        parts.iter_mut().for_each(|part| part.bytes = Bytes::new());
        match sent {
            Ok(awaited) => self.flying.push_back(Flying {
                awaited,
                parts,
                since: Instant::now(),
            }),
            Err(why) => {
                // It never left, so nothing of it is stored.
                tracing::warn!(broker = self.broker.id, %why, "a produce request could not be sent");
                for part in parts {
                    self.settle_part(&part, Answer::NotStored, true);
                }
                self.break_off();
            }
        }
    }

    /// Sees to a connection. False: not now, look again.
    async fn connect(&mut self) -> bool {
        if self.connection.as_ref().is_some_and(Connection::is_open) {
            return true;
        }
        let core = Arc::clone(&self.core);
        let address = self.broker.address();
        let open = Connection::open(&address, &core, ORDINARY_FRAME);
        match self.meanwhile(open).await {
            Some(Ok(connection)) => {
                self.connection = Some(connection);
                self.opened = Instant::now();
                self.broker.reached();
                true
            }
            Some(Err(why)) => {
                self.broker.tell_unreachable(&why.to_string());
                self.break_off();
                false
            }
            None => false,
        }
    }

    /// Waits for what sending needs. It may take long, so answers are taken meanwhile, and what another broker leads by now goes to
    /// that one. `None`: nothing is left in line, so it is not needed any more.
    async fn meanwhile<T>(&mut self, needed: impl Future<Output = T>) -> Option<T> {
        let broker = Arc::clone(&self.broker);
        tokio::pin!(needed);
        let mut overdue = Instant::now() + OVERDUE;
        loop {
            tokio::select! {
                done = &mut needed => return Some(done),
                answer = front_answer(&mut self.flying) => self.take_answer(answer),
                () = broker.line(self.acks).kick.notified() => {
                    self.collect();
                    if self.line.is_empty() {
                        return None;
                    }
                }
                () = sleep_until(overdue.into()) => {
                    self.doubt();
                    overdue = self.doubted + self.until_next_doubt();
                }
            }
        }
    }

    /// The connection is of no use: waits a while, and has the metadata asked for.
    pub(super) fn break_off(&mut self) {
        self.connection = None;
        self.not_before = Some(Instant::now() + backoff::wait(self.failures, Duration::from_millis(50), Duration::from_secs(1)));
        self.failures += 1;
        self.doubt();
    }

    /// The oldest request has its answer, or has none any more.
    fn take_answer(&mut self, answer: Result<Option<ProduceResponse>, CallError>) {
        let flying = self.flying.pop_front().expect("its answer was awaited");
        self.go = true;
        self.core.counters.produce_latency.observe(flying.since.elapsed().as_secs_f64());
        let answer = match answer {
            Ok(Some(answer)) => answer,
            // The rule asks for no more than that it has left.
            Ok(None) => {
                self.written = Some(Instant::now());
                for part in flying.parts {
                    self.settle_part(&part, Answer::Stored(-1), false);
                }
                return;
            }
            Err(why) => {
                tracing::debug!(broker = self.broker.id, %why, "a produce request has no answer");
                for part in flying.parts {
                    self.settle_part(&part, Answer::Doubt, false);
                }
                // All requests of a connection end with it; that is one break.
                if self.connection.take_if(|c| !c.is_open()).is_some() {
                    self.tell_unanswered();
                    self.break_off();
                }
                return;
            }
        };
        (self.failures, self.doubts) = (0, 0);
        // The connection holds requests back for so long; until then records gather in their batches.
        if let Some(pause) = throttle(answer.throttle_time_ms) {
            self.not_before = self.not_before.max(Some(Instant::now() + pause));
        }
        self.settle_parts(&flying.parts, &answer);
    }

    fn settle_parts(&mut self, parts: &[Part], answer: &ProduceResponse) {
        for (part, told) in parts.iter().zip(answers_to(parts, answer)) {
            let (answer, delay) = match told {
                Some(told) => judge(&self.core, part, told),
                None => (Answer::Doubt, true),
            };
            self.settle_part(part, answer, delay);
        }
    }

    pub(super) fn settle_part(&mut self, part: &Part, answer: Answer, delay: bool) {
        let mut slot = part.partition.lock();
        slot.queue.answered(part.ordinal, answer, &mut self.settled);
        if delay {
            slot.not_before = Some(Instant::now() + backoff::wait(slot.failures, Duration::from_millis(20), Duration::from_secs(1)));
            slot.failures += 1;
        } else if matches!(answer, Answer::Stored(_)) {
            slot.failures = 0;
        }
        let enlist = !slot.listed && slot.queue.is_ready();
        slot.listed |= enlist;
        let waits = slot.not_before.is_some();
        drop(slot);
        if enlist {
            let list = if waits { &mut self.delayed } else { &mut self.line };
            list.push(Arc::clone(&part.partition));
        }
        if !self.settled.is_empty() {
            self.core.settle(&part.partition, &mut self.settled);
        }
    }
}
