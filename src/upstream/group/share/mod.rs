//! Membership in a share group (KIP-932): records of some topics, each locked for one member until it says what became of it.
//!
//! `start` sets where a new group begins and reads what is set for it, `task` is the membership: signs of life, and which partitions are
//! read. `lane` speaks with one broker, `session` is the protocol of that as a pure state machine, `request` its one request.
//! Locks are renewed as long as the user has not said what became of a record (KIP-1222), so it may take its time.

mod board;
mod lane;
mod request;
mod session;
mod start;
mod task;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::sync::{mpsc, oneshot, watch};

use super::settings::GroupSettings;
use crate::upstream::{
    bootstrap::{Among, any_connection},
    cluster::Core,
    connection::Connection,
    topics::{Topic, TopicId},
};
use board::Board;
pub use request::AckKind;
pub use session::{AcquiredRange, Lease};
pub use start::{ShareStart, Terms};
use task::Task;

/// Events that wait for the user.
const MOST_EVENTS: usize = 16;

/// What happens to a membership.
#[derive(Debug)]
pub enum ShareEvent {
    /// The coordinator has taken the member.
    Joined,
    /// It refuses it, which may last; it is asked again. Told once.
    Refused,
    /// Records are locked for the member.
    Acquired(Acquired),
    /// All that was acquired under it and is not acknowledged goes to others, or has gone.
    Lost(Lease),
    /// The lock of the record at this offset has run out.
    Expired(Lease, i64),
    /// So many acknowledgements were too late: what they spoke of comes again.
    Late(u64),
}

/// Records of one partition.
#[derive(Clone, Debug)]
pub struct Acquired {
    /// To be named when they are acknowledged.
    pub lease: Lease,
    /// Their topic's name.
    pub topic: Arc<str>,
    /// And its id.
    pub topic_id: TopicId,
    /// The index of their partition.
    pub partition: i32,
    /// Record batches. They may hold records that were not acquired.
    pub records: Bytes,
    /// What was.
    pub ranges: Vec<AcquiredRange>,
}

/// A membership. Dropping it ends it without a word; brokers give what it has to others when its connections are closed.
#[derive(Debug)]
pub struct ShareGroup {
    events: mpsc::Receiver<ShareEvent>,
    board: Arc<Board>,
    topics: watch::Sender<Vec<String>>,
    leave: oneshot::Sender<oneshot::Sender<()>>,
}

/// Begins a membership.
pub(crate) fn join(core: &Arc<Core>, group: String, topics: Vec<String>) -> ShareGroup {
    let (events, taken) = mpsc::channel(MOST_EVENTS);
    let (leave, leaving) = oneshot::channel();
    let board = Arc::<Board>::default();
    let settings = GroupSettings {
        group,
        ..GroupSettings::default()
    };
    let (topics, wanted) = watch::channel(topics);
    let task = Task::new(Arc::clone(core), Arc::new(settings), wanted, (Arc::clone(&board), events));
    core.spawn(task.run(leaving));
    ShareGroup {
        events: taken,
        board,
        topics,
        leave,
    }
}

/// Sets where a group begins. See [`Cluster::prepare_share_group`](crate::upstream::Cluster::prepare_share_group).
pub(crate) async fn prepare(core: &Core, group: &str, starts: &[ShareStart]) -> Result<Terms, &'static str> {
    start::prepare(core, group, starts).await
}

/// What of share groups a broker lacks.
///
/// # Errors
/// Why no broker tells.
pub(crate) async fn lacking(core: &Core) -> Result<Option<String>, String> {
    any_connection(core, Among::All(0)).await.map(|connection| lack_of(&connection))
}

/// What we ask of brokers for share groups, each API with its version.
const NEEDED: [(ApiKey, i16); 5] = [
    (ApiKey::ShareGroupHeartbeat, 1),
    (ApiKey::ShareFetch, request::VERSION),
    (ApiKey::DescribeShareGroupOffsets, 0),
    (ApiKey::AlterShareGroupOffsets, 0),
    (ApiKey::IncrementalAlterConfigs, 1),
];

fn lack_of(connection: &Connection) -> Option<String> {
    let lacks = NEEDED.iter().filter(|(api, version)| !connection.offers(*api, *version));
    let lacks: Vec<String> = lacks.map(|(api, version)| format!("{api:?} {version}")).collect();
    (!lacks.is_empty()).then(|| lacks.join(", "))
}

impl ShareGroup {
    /// The next thing that happens. `None` when the client was shut down. Cancel-safe. Once it has given records, none are asked for
    /// before [`want`](Self::want).
    pub async fn next(&mut self) -> Option<ShareEvent> {
        let event = self.events.recv().await?;
        if matches!(event, ShareEvent::Acquired(_)) {
            self.board.taken();
        }
        Some(event)
    }

    /// It reads these topics from now on. One that has none is no member until it has.
    pub fn subscribe(&self, topics: Vec<String>) {
        self.topics.send_replace(topics);
    }

    /// How many more records are wanted now, about: each broker may give one more.
    pub fn want(&self, records: usize) {
        self.board.want(records);
    }

    /// What became of records that were acquired, from the first to the last offset. It is on its way when this returns.
    pub fn acknowledge(&self, lease: Lease, first: i64, last: i64, kind: AckKind) {
        self.board.acknowledge(lease, (first, last), kind);
    }

    /// Says goodbye: what was acknowledged reaches the brokers first, what was not goes to others at once. Takes the request timeout at
    /// most, twice.
    pub async fn leave(self) {
        let (reply, gone) = oneshot::channel();
        // Nobody takes events any more: lanes must not wait for that, nor take it for the end.
        self.board.close();
        drop(self.events);
        if self.leave.send(reply).is_ok() {
            let _ = gone.await;
        }
    }
}

/// Topics by their ids, as far as they are known here.
fn known(core: &Core, topics: &[String]) -> Vec<Arc<Topic>> {
    let look = |name: &String| match core.topics.look_up(name) {
        (crate::upstream::topics::TopicState::Ready(topic), _) => Some(topic),
        (_, true) => {
            core.refresh.notify_one();
            None
        }
        _ => None,
    };
    topics.iter().filter_map(look).collect()
}
