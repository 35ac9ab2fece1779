//! The group requests of the fake cluster: Kafka's messages around the model of a coordinator.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
        JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
        OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse, TopicName,
        find_coordinator_response::Coordinator,
        join_group_response::JoinGroupResponseMember,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
            OffsetFetchResponseTopics,
        },
    },
    protocol::{Decodable, StrBytes},
};
use tokio::sync::oneshot;

use super::{
    Fault, World,
    coordinator::{Group, Join, Reply, Token},
    serve::encoded,
};

/// All groups, and who coordinates them.
#[derive(Default)]
pub struct Groups {
    pub groups: HashMap<String, Group>,
    /// The broker that coordinates all of them; broker 1 at first.
    pub coordinator: Option<i32>,
    /// Faults for the next requests of an API, in order.
    pub faults: HashMap<i16, VecDeque<Fault>>,
    /// How long the first member of an empty group waits for others (`group.initial.rebalance.delay.ms`).
    pub initial_delay: Duration,
    /// `(generation, offset)` of each partition of each commit, as it came.
    pub commits: Vec<(i32, i64)>,
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    next: Token,
}

impl Groups {
    /// Moves all groups to another broker; nothing of them is lost.
    pub fn move_to(&mut self, broker: i32) {
        self.coordinator = Some(broker);
    }

    pub fn fail(&mut self, api: ApiKey, faults: impl IntoIterator<Item = Fault>) {
        self.faults.entry(api as i16).or_default().extend(faults);
    }

    fn coordinator(&self) -> i32 {
        self.coordinator.unwrap_or(1)
    }

    fn token(&mut self) -> (Token, oneshot::Receiver<Reply>) {
        self.next += 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(self.next, sender);
        (self.next, receiver)
    }

    /// Sends the answers that are ready.
    fn flush(&mut self) {
        for group in self.groups.values_mut() {
            for (token, reply) in std::mem::take(&mut group.replies) {
                if let Some(sender) = self.waiting.remove(&token) {
                    let _ = sender.send(reply);
                }
            }
        }
    }

    pub fn tick(&mut self) {
        self.groups.values_mut().for_each(|group| group.tick(Instant::now()));
        self.flush();
    }
}

/// Ends sessions whose time is over.
pub async fn keep_time(world: Arc<Mutex<World>>) {
    loop {
        // The broker's clock goes by these steps.
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.lock().unwrap().groups.tick();
    }
}

fn millis(of: i32) -> Duration {
    Duration::from_millis(of as u64)
}

fn owned(text: &StrBytes) -> String {
    text.to_string()
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

/// The answer of broker `id`.
pub async fn answer(world: &Mutex<World>, id: i32, api: ApiKey, version: i16, mut body: Bytes, fault: Option<&Fault>) -> Option<Bytes> {
    let code = match fault {
        Some(Fault::Code(code)) => *code,
        _ if api != ApiKey::FindCoordinator && world.lock().unwrap().groups.coordinator() != id => 16,
        _ => 0,
    };
    match api {
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::decode(&mut body, version).unwrap();
            encoded(&found(world, &request, version, code), version)
        }
        ApiKey::JoinGroup => {
            let request = JoinGroupRequest::decode(&mut body, version).unwrap();
            encoded(&join(world, request, version, code).await?, version)
        }
        ApiKey::SyncGroup => {
            let request = SyncGroupRequest::decode(&mut body, version).unwrap();
            encoded(&sync(world, request, code).await?, version)
        }
        ApiKey::Heartbeat => {
            let request = HeartbeatRequest::decode(&mut body, version).unwrap();
            let instance = request.group_instance_id.as_deref();
            let code = with(world, &request.group_id, code, |group| {
                match group.is_fenced(instance, &request.member_id) {
                    true => 82,
                    false => group.heartbeat(&request.member_id, request.generation_id, Instant::now()),
                }
            });
            encoded(&HeartbeatResponse::default().with_error_code(code), version)
        }
        ApiKey::LeaveGroup => {
            let request = LeaveGroupRequest::decode(&mut body, version).unwrap();
            let member = request.members.first().map_or(&request.member_id, |m| &m.member_id).to_string();
            let code = with(world, &request.group_id, code, |group| group.leave(&member, Instant::now()));
            encoded(&LeaveGroupResponse::default().with_error_code(code), version)
        }
        ApiKey::OffsetCommit => {
            let request = OffsetCommitRequest::decode(&mut body, version).unwrap();
            encoded(&commit(world, &request, code), version)
        }
        ApiKey::OffsetFetch => {
            let request = OffsetFetchRequest::decode(&mut body, version).unwrap();
            encoded(&fetch(world, &request, version, code), version)
        }
        _ => None,
    }
}

fn with(world: &Mutex<World>, group: &str, code: i16, act: impl FnOnce(&mut Group) -> i16) -> i16 {
    let mut world = world.lock().unwrap();
    let code = if code == 0 {
        act(world.groups.groups.entry(group.to_owned()).or_default())
    } else {
        code
    };
    world.groups.flush();
    code
}

fn found(world: &Mutex<World>, request: &FindCoordinatorRequest, version: i16, code: i16) -> FindCoordinatorResponse {
    let world = world.lock().unwrap();
    let id = world.groups.coordinator();
    let at = world.brokers.iter().find(|(broker, _)| *broker == id).unwrap().1;
    let (host, port) = (text(&at.ip().to_string()), i32::from(at.port()));
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_node_id(BrokerId(id))
            .with_host(host)
            .with_port(port);
    }
    let keys = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(code)
            .with_node_id(BrokerId(id))
            .with_host(host.clone())
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(keys.collect())
}

async fn join(world: &Mutex<World>, request: JoinGroupRequest, version: i16, code: i16) -> Option<JoinGroupResponse> {
    if code != 0 {
        return Some(JoinGroupResponse::default().with_error_code(code));
    }
    let delay = {
        let groups = &world.lock().unwrap().groups;
        let is_named = !request.member_id.is_empty() || request.group_instance_id.is_some();
        let group = groups.groups.get(&*request.group_id.0);
        let is_first = is_named && group.is_none_or(|group| group.members.is_empty());
        if is_first { groups.initial_delay } else { Duration::ZERO }
    };
    tokio::time::sleep(delay).await;
    let receiver = {
        let mut world = world.lock().unwrap();
        let (token, receiver) = world.groups.token();
        let join = Join {
            member: owned(&request.member_id),
            instance: request.group_instance_id.as_ref().map(owned),
            session: millis(request.session_timeout_ms),
            rebalance: millis(request.rebalance_timeout_ms),
            metadata: request.protocols[0].metadata.to_vec(),
        };
        let group = world.groups.groups.entry(owned(&request.group_id.0)).or_default();
        group.join(token, join, Instant::now());
        world.groups.flush();
        receiver
    };
    let Reply::Join {
        code,
        generation,
        member,
        leader,
        members,
        skip,
    } = receiver.await.ok()?
    else {
        panic!("another kind of answer")
    };
    let members = members.into_iter().map(|(name, instance, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&name))
            .with_group_instance_id(instance.filter(|_| version >= 5).map(|i| text(&i)))
            .with_metadata(metadata.into())
    });
    let answer = JoinGroupResponse::default()
        .with_error_code(code)
        .with_generation_id(generation)
        .with_member_id(text(&member))
        .with_leader(text(&leader))
        .with_protocol_name(Some(request.protocols[0].name.clone()))
        .with_members(members.collect());
    Some(if version >= 9 { answer.with_skip_assignment(skip) } else { answer })
}

async fn sync(world: &Mutex<World>, request: SyncGroupRequest, code: i16) -> Option<SyncGroupResponse> {
    if code != 0 {
        return Some(SyncGroupResponse::default().with_error_code(code));
    }
    let receiver = {
        let mut world = world.lock().unwrap();
        let (token, receiver) = world.groups.token();
        let assignments = request
            .assignments
            .iter()
            .map(|a| (owned(&a.member_id), a.assignment.to_vec()))
            .collect();
        let group = world.groups.groups.entry(owned(&request.group_id.0)).or_default();
        group.sync(token, &request.member_id, request.generation_id, assignments, Instant::now());
        world.groups.flush();
        receiver
    };
    let Reply::Sync { code, assignment } = receiver.await.ok()? else {
        panic!("another kind of answer")
    };
    Some(
        SyncGroupResponse::default()
            .with_error_code(code)
            .with_assignment(assignment.into()),
    )
}

fn commit(world: &Mutex<World>, request: &OffsetCommitRequest, code: i16) -> OffsetCommitResponse {
    let mut world = world.lock().unwrap();
    let groups = &mut world.groups;
    let generation = request.generation_id_or_member_epoch;
    let all = request
        .topics
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| (t.name.to_string(), p)));
    let all: Vec<_> = all.collect();
    groups.commits.extend(all.iter().map(|(_, p)| (generation, p.committed_offset)));
    let group = groups.groups.entry(owned(&request.group_id.0)).or_default();
    let code = if group.is_fenced(request.group_instance_id.as_deref(), &request.member_id) {
        82
    } else if code == 0 {
        group.may_commit(&request.member_id, generation, Instant::now())
    } else {
        code
    };
    if code == 0 {
        for (topic, p) in all {
            let metadata = p.committed_metadata.as_ref().map(owned).unwrap_or_default();
            group.offsets.insert((topic, p.partition_index), (p.committed_offset, metadata));
        }
    }
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn fetch(world: &Mutex<World>, request: &OffsetFetchRequest, version: i16, code: i16) -> OffsetFetchResponse {
    let world = world.lock().unwrap();
    let stored = |group: &str, topic: &TopicName, partition: i32| {
        let offsets = world.groups.groups.get(group).map(|g| &g.offsets);
        let found = offsets.and_then(|o| o.get(&(topic.to_string(), partition)).cloned());
        found.map_or((-1, Some(StrBytes::default())), |(offset, metadata)| {
            (offset, Some(text(&metadata)))
        })
    };
    if version < 8 {
        let topics = request.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let (offset, metadata) = stored(&request.group_id, &topic.name, *index);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(*index)
                    .with_committed_offset(offset)
                    .with_metadata(metadata)
                    .with_error_code(code)
            });
            OffsetFetchResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.iter().map(|group| {
        let topics = group.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let (offset, metadata) = stored(&group.group_id, &topic.name, *index);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(*index)
                    .with_committed_offset(offset)
                    .with_metadata(metadata)
                    .with_error_code(code)
            });
            OffsetFetchResponseTopics::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        OffsetFetchResponseGroup::default()
            .with_group_id(group.group_id.clone())
            .with_topics(topics.collect())
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}
