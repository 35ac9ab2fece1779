//! Stored sessions: the driver of `ownership` over the compacted topic `mqtt-sessions`.
//!
//! One task for each partition of the topic (`task`, `outputs`) has its tail (`tail`), what it is to be appended (`writer`) and the latest records
//! (`kept`). Connections give it `order`s and get letters back through their mailboxes. `once` produces QoS 2 by pairs, `wills` sends wills, `custodian` is the
//! membership in the group of instances, `checkpoint` spares sessions at the tail the writes of their positions; `clocks` compares this host's clock
//! with the brokers', `pauses` tells whether this process runs at all.

mod checkpoint;
mod clocks;
mod custodian;
mod discard;
mod failure;
mod fitting;
mod kept;
mod lent;
mod loose;
mod once;
mod order;
mod outputs;
mod pauses;
mod tail;
mod taking;
mod task;
mod wills;
mod writer;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

use super::{dead_letters::DeadLetters, hub::Hub, retained::Retained};
use crate::{
    mapping::{RuleSet, partition_for_key},
    metrics::Metrics,
    resources::LiveTables,
    upstream::{Cluster, State, Topic},
};

pub use discard::{DiscardError, discard};
pub use once::{Held, Unsaid};
pub use order::{Arrival, Letter, Order, Report};
pub use pauses::Pauses;

/// Records that are read by their offsets at one time.
const FETCHES: usize = 32;
/// How long the end of the process waits for what is to be written.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// How sessions are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The compacted topic.
    pub topic: String,
    /// Kafka topics of the proxy's own state, this one among them: no will is written there, whatever the rules make of its topic.
    pub state_topics: Vec<String>,
    /// The retained topic, if rules keep retained messages: wills may be retained.
    pub retained: Option<String>,
    /// How long the group's coordinator may hear nothing of an instance before others take it for dead.
    pub instance_timeout: Duration,
    /// Between two checkpoints of a partition. What a session at the tail has settled at QoS 1 may come again after a crash if it is younger.
    /// Longer than two seconds and a half, or a client that gets something each second goes by its own writes.
    pub checkpoint_every: Duration,
    /// Throw-away clients (clean start, expiry 0) are taken over within an instance only, and cost Kafka nothing.
    pub local_takeover: bool,
    /// Whose session cannot be read gets a fresh one, instead of 0x88.
    pub fresh_if_damaged: bool,
}

/// What all tasks share.
struct Around {
    settings: StoreSettings,
    /// Of this run of this process: no other has had it or will have it. What the members of the group of instances tell each other.
    id: u128,
    /// The same as it is written into records.
    instance: Box<str>,
    /// It is none that serves clients: an operator ends a session.
    operator: bool,
    cluster: Cluster,
    rules: Arc<RuleSet>,
    metrics: Arc<Metrics>,
    /// For wills that are to be retained; `None` if no rule keeps any.
    retained: Option<Arc<Retained>>,
    /// For what Kafka refuses; `None` if no rule has a topic for that.
    dead_letters: Option<Arc<DeadLetters>>,
    fetches: Semaphore,
    /// The feeds; an operator has none.
    hub: Option<Arc<Hub>>,
    beginning: watch::Sender<Beginning>,
    pauses: Arc<Pauses>,
}

impl Around {
    /// Lookup tables of Kafka topics; an operator reads none.
    fn tables(&self) -> Option<&LiveTables> {
        self.hub.as_deref().map(|hub| &*hub.tables)
    }
}

/// How far an instance is that has just started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Beginning {
    /// Once the topic is known.
    partitions: Option<usize>,
    /// Of those, read to their ends.
    read: usize,
    /// The others know of this instance.
    member: bool,
}

impl Beginning {
    /// What a client with a stored session would wait for.
    fn waits_for(&self) -> Option<&'static str> {
        match self.partitions {
            Some(all) if self.read >= all && self.member => None,
            Some(all) if self.read >= all => Some("the group of instances is being joined"),
            _ => Some("the stored sessions are being read"),
        }
    }
}

/// Where the orders for a client go. A connection has few on their way: each SUBSCRIBE is one, reports come once a second.
pub type Orders = mpsc::UnboundedSender<Order>;

/// The id of an instance as it stands in records.
fn instance_name(id: u128) -> Box<str> {
    format!("proxy-{id:032x}").into()
}

impl Around {
    /// A new instance.
    fn new(settings: StoreSettings, cluster: Cluster, rules: Arc<RuleSet>, metrics: Arc<Metrics>) -> Self {
        let chance = || u128::from(RandomState::new().hash_one(()));
        let id = chance() << 64 | chance();
        let instance = instance_name(id);
        tracing::info!(
            instance = &*instance,
            "this instance, as it is named in the records of stored sessions"
        );
        Self {
            id,
            instance,
            settings,
            operator: false,
            cluster,
            rules,
            metrics,
            retained: None,
            dead_letters: None,
            fetches: Semaphore::new(FETCHES),
            hub: None,
            beginning: watch::Sender::default(),
            pauses: Arc::new(Pauses::new()),
        }
    }
}

/// The stored sessions of this instance. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// One for each partition, once the topic is known.
    partitions: watch::Receiver<Option<Arc<[Orders]>>>,
    leave: watch::Sender<bool>,
    beginning: watch::Receiver<Beginning>,
    /// Of this process.
    pub pauses: Arc<Pauses>,
}

impl Store {
    /// Begins to look for the topic and to read it.
    pub fn start(settings: StoreSettings, hub: &Arc<Hub>, retained: Option<Arc<Retained>>, dead_letters: Option<Arc<DeadLetters>>) -> Self {
        let (cluster, rules) = (hub.cluster.clone(), hub.rules.clone());
        let around = Arc::new(Around {
            retained,
            dead_letters,
            hub: Some(hub.clone()),
            ..Around::new(settings, cluster, rules, hub.metrics.clone())
        });
        let (found, partitions) = watch::channel(None);
        let beginning = around.beginning.subscribe();
        let pauses = around.pauses.clone();
        tokio::spawn(count_pauses(around.clone()));
        let leave = watch::Sender::new(false);
        let left = leave.subscribe();
        tokio::spawn(async move {
            let Some(topic) = topic(&around).await else { return };
            around.beginning.send_modify(|now| now.partitions = Some(topic.partitions.len()));
            let orders: Arc<[Orders]> = begin(&around, &topic).into();
            found.send_replace(Some(orders.clone()));
            custodian::run(&around, &orders, left).await;
        });
        Self {
            partitions,
            leave,
            beginning,
            pauses,
        }
    }

    /// Where the orders for a client go; `None` as long as the topic is not known.
    pub fn orders(&self, client: &str) -> Option<Orders> {
        let partitions = self.partitions.borrow();
        let partitions = partitions.as_ref().filter(|all| !all.is_empty())?;
        Some(partitions[partition_for_key(client.as_bytes(), partitions.len() as u32) as usize].clone())
    }

    /// Tells when the topic is known.
    pub fn found(&self) -> watch::Receiver<Option<Arc<[Orders]>>> {
        self.partitions.clone()
    }

    /// Until clients with stored sessions need not wait for anything that this instance has to do first; tells `waits` what that is.
    pub async fn begun(&self, waits: impl Fn(&'static str)) {
        let mut beginning = self.beginning.clone();
        loop {
            let now = *beginning.borrow_and_update();
            let Some(what) = now.waits_for() else { return };
            waits(what);
            if beginning.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits, for a bounded time, until all is written that connections have ordered, and leaves the group.
    pub async fn finish(&self) {
        let partitions = self.partitions.borrow().clone();
        let flush = |orders: &Orders| {
            let (flush, flushed) = oneshot::channel();
            orders.send(Order::Flush(flush)).ok().map(|()| flushed)
        };
        let flushes: Vec<_> = partitions.iter().flat_map(|all| all.iter()).filter_map(flush).collect();
        let all = async {
            for flushed in flushes {
                let _ = flushed.await;
            }
        };
        if timeout(LAST_WRITES, all).await.is_err() {
            tracing::warn!("not all sessions could be written: what is missing counts as a connection that was lost");
        }
        self.leave.send_replace(true);
        // The custodian's task drops its receiver when it has left.
        let _ = timeout(LAST_WRITES, self.leave.closed()).await;
    }
}

/// Waits for the topic. It is made, or asked of an operator, before Kafka counts as ready.
async fn topic(around: &Around) -> Option<Arc<Topic>> {
    let mut kafka = around.cluster.state();
    kafka.wait_for(|state| *state == State::Ready).await.ok()?;
    around.cluster.topic_appears(&around.settings.topic).await
}

async fn count_pauses(around: Arc<Around>) {
    let tell = |pause: Duration| {
        around.metrics.stored.pauses.inc();
        tracing::warn!(
            seconds = pause.as_secs_f64(),
            "this process did not run: its stored sessions say nothing before it is read who has them now"
        );
    };
    around.pauses.run(tell).await;
}

fn begin(around: &Arc<Around>, topic: &Arc<Topic>) -> Vec<Orders> {
    around.pauses.partitions(topic.partitions.len());
    let partitions = 0..topic.partitions.len() as i32;
    let one = |partition| {
        let (orders, taken) = mpsc::unbounded_channel();
        tokio::spawn(task::Task::new(around.clone(), topic.clone(), partition, taken).run());
        orders
    };
    partitions.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_ready_when_all_is_read_and_the_others_know_of_it() {
        let at = |partitions, read, member| Beginning { partitions, read, member }.waits_for();
        let (reading, joining) = (
            Some("the stored sessions are being read"),
            Some("the group of instances is being joined"),
        );
        assert_eq!(at(None, 0, false), reading);
        assert_eq!(at(Some(2), 1, true), reading);
        assert_eq!(at(Some(2), 2, false), joining);
        assert_eq!(at(Some(2), 2, true), None);
    }
}
