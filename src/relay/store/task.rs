//! One partition of `mqtt-sessions`: its tail and its connections' orders go into the machine, what that wants is done.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    Around,
    clocks::Clocks,
    failure,
    kept::{self, Kept, Latest},
    lent::Borrowed,
    loose::Loose,
    once::{Published, Told},
    order::{Arrival, Order},
    tail::{Met, Tail},
    writer::{Lost, Writer},
};
use crate::{
    kafka::fetched,
    ownership::{ConnectionId, Message, Millis, Outcome, Pair, Partition, Record, Settings, Targets, Tenure},
    relay::{feed::LIMITS, inbound::now_ms, mailbox::Mailbox},
    upstream::{Chunk, Topic},
};

/// The machine is ticked at least so often: the custodian makes a step each time.
const TICK: Duration = Duration::from_secs(1);
/// How soon a record is tried again that found no memory.
const STALLED: Duration = Duration::from_millis(20);

/// What a task of its own has found out.
pub enum Errand {
    /// The answer to a question for a record.
    Fetched(u64, Option<Kept>),
    /// Where a will goes.
    Routed(Tenure, u64, Targets),
    /// A producer id that nobody has used: for whose will, or for the client's messages; id and epoch.
    Producer(Tenure, Option<u64>, (i64, i16)),
    /// Kafka's answer to a record of a will.
    Produced(Tenure, Message, Pair, Outcome),
    /// What became of one record of a PUBLISH, by its packet id.
    Published(Tenure, u16, Pair, Told),
}

/// A connection as the store knows it.
pub(super) struct Guest {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) client: Box<str>,
    /// Something of its session is stored.
    pub(super) stored: bool,
    /// Its PUBLISHes of QoS 2 on their way into Kafka, by packet id. Bounded by the client's receive maximum.
    pub(super) published: HashMap<u16, Published>,
}

/// A CONNECT that waits for the tail; `Some` for an end that was asked for later than it came.
pub(super) struct Waiting {
    pub(super) arrival: Arrival,
    pub(super) question: Option<u64>,
}

/// See the head of the file.
pub struct Task {
    pub(super) around: Arc<Around>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) partition: Partition,
    pub(super) tail: Tail,
    pub(super) writer: Writer,
    /// Rung when Kafka has answered the writer.
    written: Arc<Notify>,
    pub(super) latest: Latest,
    pub(super) guests: HashMap<ConnectionId, Guest>,
    pub(super) loose: Loose,
    pub(super) waiting: Vec<Waiting>,
    pub(super) errands: JoinSet<Errand>,
    pub(super) borrowed: Vec<Borrowed>,
    /// Answers that were at hand.
    pub(super) at_hand: VecDeque<(u64, Option<Kept>)>,
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    /// The tail has been at the end.
    pub(super) is_there: bool,
    /// It has been there once.
    was_there: bool,
    /// Others know that this instance is alive. What is claimed before would be an orphan's.
    pub(super) is_member: bool,
    /// Sessions and bytes that the metrics know of.
    counted: (i64, i64),
    counted_at: Option<Instant>,
    pub(super) clocks: Clocks,
    /// When the next checkpoint is due.
    pub(super) checkpoint_at: Option<Instant>,
    /// When the machine is ticked next at the latest.
    tick_at: Instant,
    /// Tells of pauses of this process.
    paused: watch::Receiver<u64>,
    /// After so many of them the end is asked for, by this question.
    asked_after: Option<(u64, u64)>,
    /// After so many of them the tail has come to the end.
    read_after: Option<u64>,
}

/// What there is to do.
enum Event {
    Order(Option<Order>),
    Met(Met),
    Written,
    Errand(Errand),
    Paused,
    Time,
}

/// This moment, as the log counts.
pub fn now() -> Millis {
    u64::try_from(now_ms()).unwrap_or(0)
}

impl Task {
    pub(super) fn new(around: Arc<Around>, topic: Arc<Topic>, partition: i32, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        let written = Arc::new(Notify::new());
        let settings = Settings {
            instance: around.instance.clone(),
            fresh_if_damaged: around.settings.fresh_if_damaged,
            operator: around.operator,
        };
        Self {
            partition: Partition::new(settings),
            tail: Tail::new(around.cluster.clone(), topic, partition),
            writer: Writer::new(&around.cluster, written.clone()),
            orders,
            written,
            latest: Latest::default(),
            guests: HashMap::new(),
            loose: Loose::new(),
            waiting: Vec::new(),
            errands: JoinSet::new(),
            borrowed: Vec::new(),
            at_hand: VecDeque::new(),
            flushes: Vec::new(),
            is_there: false,
            was_there: false,
            is_member: false,
            counted: (0, 0),
            counted_at: None,
            clocks: Clocks::default(),
            checkpoint_at: None,
            tick_at: Instant::now(),
            paused: around.pauses.told(),
            asked_after: None,
            read_after: None,
            around,
        }
    }

    /// Until the store is gone, or the cluster is shut down.
    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::Order(None) => return,
                Event::Order(Some(order)) => self.take_orders(order),
                Event::Met(Met::Gone) => {
                    if !self.find_again().await {
                        return;
                    }
                }
                Event::Met(met) => self.met(met),
                Event::Written => {
                    failure::step("appended");
                    let settled = self.writer.settle();
                    self.or_step_down(&settled);
                }
                Event::Errand(errand) => self.errand(errand),
                Event::Paused => self.ask_after_pause(),
                Event::Time => {}
            }
            self.tick();
            self.drain();
            self.checkpoint();
            self.drain();
            if self.is_member {
                if !self.writer.is_idle() {
                    failure::step("append");
                }
                self.clocks.sends(self.writer.next(), now());
                let sent = self.writer.go_on(&self.tail.topic, self.tail.partition as usize, now());
                self.or_step_down(&sent);
                self.drain();
            }
            // An operator's word is carried out when the end is read back, and the will sent. CONNACK of a client with nothing stored comes
            // before even its claim is written, so at this moment there may be nothing to be written yet.
            let is_open = self.around.operator && self.partition.owns_any();
            if self.writer.is_idle() && !is_open {
                for flush in self.flushes.drain(..) {
                    // Nobody waits any more.
                    let _ = flush.send(());
                }
            }
            if let Some(count) = self.read_after.take() {
                self.around.pauses.read(self.tail.partition, count);
            }
            self.count();
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass if it is time for that, after each event: on a busy partition the next one comes before any pause is over.
    fn tick(&mut self) {
        let (moment, now) = (Instant::now(), now());
        if self.tick_at <= moment || self.partition.deadline().is_some_and(|at| at <= now) {
            self.tick_at = moment + TICK;
            self.partition.tick(now);
        }
    }

    /// Tells the metrics, now and then, how much there is.
    fn count(&mut self) {
        let moment = Instant::now();
        if self.counted_at.is_some_and(|at| moment.duration_since(at) < TICK) {
            return;
        }
        self.counted_at = Some(moment);
        let index = self.partition.index();
        let now = (index.len() as i64, index.bytes() as i64);
        let stored = &self.around.metrics.stored;
        stored.sessions.inc_by(now.0 - self.counted.0);
        stored.index_bytes.inc_by(now.1 - self.counted.1);
        self.counted = now;
    }

    async fn event(&mut self) -> Event {
        let tick = self.tick_at.saturating_duration_since(Instant::now());
        let due = self
            .partition
            .deadline()
            .map_or(tick, |at| Duration::from_millis(at.saturating_sub(now())).min(tick));
        let pause = if self.writer.stalled { STALLED.min(due) } else { due };
        let Self {
            orders,
            tail,
            written,
            errands,
            paused,
            ..
        } = self;
        tokio::select! {
            Ok(()) = paused.changed() => Event::Paused,
            order = orders.recv() => Event::Order(order),
            met = tail.next() => Event::Met(met),
            () = written.notified() => Event::Written,
            Some(Ok(errand)) = errands.join_next(), if !errands.is_empty() => Event::Errand(errand),
            () = tokio::time::sleep(pause) => Event::Time,
        }
    }

    /// Who owns what is known when the tail has come to an end that is asked for from now on.
    fn ask_after_pause(&mut self) {
        self.asked_after = Some((*self.paused.borrow_and_update(), self.tail.number + 1));
        self.tail.hurry();
    }

    fn or_step_down(&mut self, done: &Result<(), Lost>) {
        if let Err(Lost(why)) = done {
            self.step_down(why);
        }
    }

    pub(super) fn step_down(&mut self, why: &str) {
        let partition = self.tail.partition;
        tracing::warn!(
            partition,
            why,
            "the stored sessions of a partition are read anew; their clients have to come again, and nothing is lost"
        );
        self.partition.step_down();
    }

    /// The topic was deleted: if it is made anew, all of it is another. False: the cluster is shut down.
    async fn find_again(&mut self) -> bool {
        let Some(topic) = self.around.cluster.topic_appears(&self.around.settings.topic).await else {
            return false;
        };
        if topic.id == self.tail.topic.id {
            self.tail.go_on(topic);
        } else {
            self.step_down("the topic was made anew");
            self.borrowed.clear();
            self.tail.topic = topic;
            self.drain();
        }
        // It may have fewer partitions now: then this one is looked for now and then.
        if self.tail.partition as usize >= self.tail.topic.partitions.len() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        true
    }

    fn met(&mut self, met: Met) {
        match met {
            Met::Records(chunk) => self.read(&chunk),
            Met::Broken(why) => self.step_down(why),
            Met::End | Met::Gone => {}
        }
        self.arrive();
    }

    fn read(&mut self, chunk: &Chunk) {
        let now = now();
        let position = self.tail.position;
        let mut batches = fetched::batches(chunk.bytes.clone(), LIMITS);
        while let (Some(base), Some(batch)) = (batches.next_base(), batches.next()) {
            match batch {
                Ok(batch) if batch.is_control => {}
                Ok(batch) => {
                    let views = batch.records().map_while(Result::ok).filter(|view| view.offset >= position);
                    views.for_each(|view| kept::read(&view, |record| self.one(record, now)));
                }
                Err(error) => {
                    if self.unreadable(base, &error) {
                        return;
                    }
                }
            }
        }
        self.tail.position = position.max(chunk.next_offset);
    }

    /// True: it is asked for once more, with what is behind it.
    fn unreadable(&mut self, base: i64, error: &fetched::BatchError) -> bool {
        let (partition, metrics) = (self.tail.partition, &self.around.metrics);
        let again = self.tail.reads_again(base);
        if again {
            metrics.batches_read_again.inc();
            tracing::warn!(partition, base, %error, "a record batch of sessions cannot be read and is asked for again");
        } else {
            metrics.unreadable_batches.inc();
            tracing::error!(partition, base, %error, "a record batch of sessions cannot be read and is left out");
        }
        again
    }

    fn one(&mut self, record: &Record<'_>, now: Millis) {
        self.latest.keep(record);
        if let Some((seconds, tells)) = self.clocks.reads(record, now) {
            self.around.metrics.stored.clock_difference.set(seconds);
            if tells {
                tracing::warn!(
                    seconds,
                    "the clock of Kafka's brokers and that of this host differ: sessions expire and wills are sent by them, so all need the same time (NTP)"
                );
            }
        }
        self.partition.read(record, now);
        if !self.loose.is_empty() {
            self.mind_claim(record);
        }
        if !self.borrowed.is_empty() {
            self.resolve(record);
        }
    }

    /// If the tail has come to the end that was asked for, those are let in who wait for it.
    fn arrive(&mut self) {
        let Some(mark) = self.tail.arrived() else { return };
        self.partition.at_end(mark.end, mark.asked, now());
        if !std::mem::replace(&mut self.was_there, true) {
            self.around.beginning.send_modify(|now| now.read += 1);
        }
        self.is_there = true;
        self.read_after = self.asked_after.take_if(|(_, asked)| *asked <= mark.number).map(|(count, _)| count);
        self.let_in(mark.number, mark.end);
        // The others are hurried by the membership.
        let asks_again = |waiting: &Waiting| self.is_member || waiting.question.is_some();
        if self.waiting.iter().any(asks_again) {
            self.tail.hurry();
        }
    }
}
