//! The membership itself: signs of life for the coordinator, and a lane for each broker that leads a partition of the assignment.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use kafka_protocol::messages::{ApiKey, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicName};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    ShareEvent,
    board::Board,
    known,
    lane::Lane,
    session::{Place, Session},
};
use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::{
        backoff,
        broker::Broker,
        cluster::Core,
        connection::CallError,
        group::{
            coordinator::{Coordinator, Fault, Identity, accepted, text},
            finding::{find, unless_succeeded},
            settings::GroupSettings,
        },
    },
};

/// Between signs of life as long as the coordinator has not said how often it wants them.
const BEAT: Duration = Duration::from_secs(3);
/// As long as there is nothing to read the next sign of life comes sooner, and later each time: the coordinator may only by then have what is to be
/// read.
const SOON: Duration = Duration::from_millis(200);
/// Epochs that are no epochs.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// The coordinator that was asked, and what it said.
type Beat = (Option<Coordinator>, Result<ShareGroupHeartbeatResponse, Fault>);

pub(super) struct Task {
    core: Arc<Core>,
    me: Arc<Identity>,
    topics: watch::Receiver<Vec<String>>,
    /// Those that the sign of life names that is out, or was last.
    naming: Vec<String>,
    /// Those that the coordinator knows of.
    named: Vec<String>,
    member: String,
    epoch: i32,
    coordinator: Option<Coordinator>,
    assigned: BTreeSet<Place>,
    lanes: HashMap<i32, watch::Sender<BTreeSet<Place>>>,
    running: JoinSet<i32>,
    /// At most one.
    beats: JoinSet<Beat>,
    board: Arc<Board>,
    events: mpsc::Sender<ShareEvent>,
    failures: u32,
    /// Signs of life in a row that brought nothing to read.
    idle: u32,
    /// The user knows that it is refused.
    told: bool,
    joined: bool,
    /// A sign of life had no answer, or was refused. The answer may have had the assignment, which a coordinator says once, when it has made
    /// it: it says it again to who names its topics.
    unheard: bool,
}

/// As Kafka's own clients write the one that they make.
fn member_id() -> String {
    let mut bytes = [0; 16];
    // Without random numbers there is no TLS either; what is left differs from process to process.
    if rand::fill(&mut bytes).is_err() {
        let bits = |salt: u8| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), salt).to_be_bytes();
        bytes = [bits(0), bits(1)].concat().try_into().expect("two of eight bytes");
    }
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Task {
    /// `topics`: those that are to be read. `board` and `events` are its user's.
    pub(super) fn new(
        core: Arc<Core>,
        settings: Arc<GroupSettings>,
        topics: watch::Receiver<Vec<String>>,
        (board, events): (Arc<Board>, mpsc::Sender<ShareEvent>),
    ) -> Self {
        Self {
            topics,
            naming: Vec::new(),
            named: Vec::new(),
            me: Arc::new(Identity::new(settings)),
            core,
            member: member_id(),
            epoch: JOIN,
            coordinator: None,
            assigned: BTreeSet::new(),
            lanes: HashMap::new(),
            running: JoinSet::new(),
            beats: JoinSet::new(),
            board,
            events,
            failures: 0,
            idle: 0,
            told: false,
            joined: false,
            unheard: false,
        }
    }

    /// Runs until the user has left or dropped the membership.
    pub(super) async fn run(mut self, mut leaving: oneshot::Receiver<oneshot::Sender<()>>) {
        let mut changed = self.core.changed.subscribe();
        let mut beat_at = Some(Instant::now());
        let reply = loop {
            tokio::select! {
                reply = &mut leaving => break reply.ok(),
                () = sleep_until(beat_at.unwrap_or_else(Instant::now)), if beat_at.is_some() => {
                    beat_at = None;
                    self.beat();
                }
                Some(answered) = self.beats.join_next() => {
                    let pause = self.answered(answered.ok()).await;
                    beat_at = Some(Instant::now() + pause);
                }
                // Those that come while a sign of life is out are told with the next.
                Ok(()) = self.topics.changed(), if self.beats.is_empty() => beat_at = Some(Instant::now()),
                Ok(()) = changed.changed() => {}
                Some(ended) = self.running.join_next() => if let Ok(id) = ended {
                    self.lanes.remove(&id);
                },
            }
            self.spread();
        };
        // It was dropped: the lanes end with this task.
        let Some(reply) = reply else { return };
        self.leave().await;
        let _ = reply.send(());
    }

    /// Gives a sign of life. Who has nothing to read is told of by none: nobody may join so.
    fn beat(&mut self) {
        self.naming = self.topics.borrow_and_update().clone();
        if self.epoch == JOIN && self.naming.is_empty() {
            return;
        }
        let beat = self.sign(self.epoch, self.names());
        self.beats.spawn(beat);
    }

    /// The topics, if the coordinator is to hear them.
    fn names(&self) -> Option<Vec<String>> {
        (self.epoch == JOIN || self.unheard || self.naming != self.named).then(|| self.naming.clone())
    }

    /// Takes what came of it. When the next is due.
    async fn answered(&mut self, beat: Option<Beat>) -> Duration {
        let Some((coordinator, answer)) = beat else {
            return self.unreached("a fault of the program");
        };
        self.coordinator = coordinator;
        match answer {
            Ok(answer) => self.taken(answer).await,
            Err(Fault::Refused(error, why)) => self.refused(error, &why).await,
            Err(Fault::Call(error)) => self.unreached(&error.to_string()),
        }
    }

    fn unreached(&mut self, why: &str) -> Duration {
        tracing::debug!(
            group = self.me.settings.group,
            why,
            "the coordinator of a share group is not reached"
        );
        self.coordinator = None;
        self.wait()
    }

    fn wait(&mut self) -> Duration {
        self.unheard = true;
        self.failures += 1;
        backoff::wait(self.failures - 1, Duration::from_millis(100), BEAT)
    }

    async fn taken(&mut self, answer: ShareGroupHeartbeatResponse) -> Duration {
        let began = self.epoch == JOIN || self.naming != self.named;
        self.named.clone_from(&self.naming);
        self.unheard = false;
        self.epoch = answer.member_epoch;
        self.failures = 0;
        if let Some(assignment) = answer.assignment {
            let places = |topic: kafka_protocol::messages::share_group_heartbeat_response::TopicPartitions| {
                topic.partitions.into_iter().map(move |partition| (topic.topic_id, partition))
            };
            self.assigned = assignment.topic_partitions.into_iter().flat_map(places).collect();
        }
        if !std::mem::replace(&mut self.joined, true) {
            self.tell(ShareEvent::Joined).await;
        }
        self.told = false;
        let asked = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        let interval = if asked == 0 { BEAT } else { Duration::from_millis(asked) };
        if began || self.assigned.is_empty() {
            self.idle += 1;
            return backoff::wait(self.idle - 1, SOON, interval);
        }
        self.idle = 0;
        interval
    }

    async fn refused(&mut self, error: ErrorCode, why: &str) -> Duration {
        self.core.counters.error(error.name());
        match error.retry() {
            // What was acquired stays so: its locks are the brokers' that lead.
            Retry::AfterJoin => {
                tracing::info!(group = self.me.settings.group, why, "the share group is joined anew");
                self.epoch = JOIN;
                if self.failures == 0 {
                    self.failures = 1;
                    return Duration::ZERO;
                }
            }
            Retry::AfterCoordinator => self.coordinator = None,
            Retry::Again | Retry::AfterMetadata | Retry::None => {}
            Retry::Never | Retry::Fatal => {
                // It was deleted while nobody was heard of: it is made again for who joins, and for nobody else.
                if error == ErrorCode::GROUP_ID_NOT_FOUND {
                    self.epoch = JOIN;
                }
                if !std::mem::replace(&mut self.told, true) {
                    let cure = if error == ErrorCode::GROUP_ID_NOT_FOUND {
                        "a group of another type has its name: delete that, or set another sessions.group_prefix"
                    } else {
                        ""
                    };
                    tracing::error!(group = self.me.settings.group, why, cure, "a share group cannot be joined");
                    self.tell(ShareEvent::Refused).await;
                }
            }
        }
        self.wait()
    }

    async fn tell(&self, event: ShareEvent) {
        // Nobody listens any more: then it ends.
        let _ = self.events.send(event).await;
    }

    /// A sign of life, or a goodbye, on its way.
    fn sign(&mut self, epoch: i32, names: Option<Vec<String>>) -> impl Future<Output = Beat> + Send + use<> {
        let (core, me, member) = (Arc::clone(&self.core), Arc::clone(&self.me), self.member.clone());
        let at = self.coordinator.take();
        async move {
            let patience = core.settings.connect_timeout + core.settings.request_timeout;
            match timeout(patience, ask(&core, &me, (&member, epoch, names), at)).await {
                Ok(beat) => beat,
                Err(_) => (None, Err(Fault::Call(CallError::Broken("no answer in time".into())))),
            }
        }
    }

    /// Has each partition read by the lane of the broker that leads it.
    fn spread(&mut self) {
        let topics = known(&self.core, &self.topics.borrow());
        let mut led: BTreeMap<i32, (Arc<Broker>, BTreeSet<Place>)> = BTreeMap::new();
        for topic in &topics {
            for partition in &topic.partitions {
                let place = (topic.id.0, partition.index());
                let Some(broker) = partition.lock().broker.clone().filter(|_| self.assigned.contains(&place)) else {
                    continue;
                };
                led.entry(broker.id).or_insert_with(|| (broker, BTreeSet::new())).1.insert(place);
            }
        }
        self.board.shared_by(led.len());
        for (id, lane) in &self.lanes {
            let places = led.remove(id).map(|(_, places)| places).unwrap_or_default();
            lane.send_if_modified(|known| {
                let news = *known != places;
                *known = places;
                news
            });
        }
        for (id, (broker, places)) in led {
            let (sender, places) = watch::channel(places);
            self.lanes.insert(id, sender);
            let lane = Lane {
                core: Arc::clone(&self.core),
                broker,
                board: Arc::clone(&self.board),
                events: self.events.clone(),
                places,
                session: Session::new(self.me.settings.group.clone(), self.member.clone()),
                link: None,
                failures: 0,
            };
            self.running.spawn(async move {
                lane.run().await;
                id
            });
        }
    }

    async fn leave(&mut self) {
        let bound = self.core.settings.request_timeout;
        self.board.close();
        let lanes = timeout(bound, async { while self.running.join_next().await.is_some() {} });
        if lanes.await.is_err() {
            self.running.abort_all();
        }
        self.beats.abort_all();
        if self.joined && timeout(bound, self.sign(LEAVE, None)).await.is_err() {
            tracing::debug!(group = self.me.settings.group, "the goodbye to a share group was not answered");
        }
    }
}

async fn ask(core: &Core, me: &Identity, (member, epoch, names): (&str, i32, Option<Vec<String>>), at: Option<Coordinator>) -> Beat {
    let at = match at {
        Some(at) => at,
        None => match find(core, me).await {
            Ok(at) => at,
            Err(fault) => return (None, Err(fault)),
        },
    };
    let names = names.map(|names| names.iter().map(|topic| TopicName(text(topic))).collect());
    let make = |_| {
        ShareGroupHeartbeatRequest::default()
            .with_group_id(me.group())
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names(names)
    };
    // One that is paused owes its answer for long: its heir is looked for meanwhile.
    let asked = at.call::<_, ShareGroupHeartbeatResponse>(core, me, ApiKey::ShareGroupHeartbeat, 1, make);
    let answer = unless_succeeded(core, me, &at, asked).await.and_then(|answer| {
        accepted(me, "ShareGroupHeartbeat", answer.error_code)?;
        Ok(answer)
    });
    (Some(at), answer)
}

#[cfg(test)]
mod tests;
