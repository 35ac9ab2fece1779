//! The sockets of the fake cluster: reads requests, carries them out in the world, answers.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, FetchRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse,
        MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, ProducerId, ResponseHeader, TopicName,
        api_versions_response::ApiVersion,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse},
    },
    protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};
use uuid::Uuid;

use super::{Fault, World, admin, groups};

#[derive(Clone)]
pub struct Node {
    pub id: i32,
    pub world: Arc<Mutex<World>>,
    pub appended: Arc<Notify>,
    pub paused: watch::Receiver<bool>,
    pub stopped: watch::Receiver<BTreeSet<i32>>,
    pub produce_held: watch::Receiver<BTreeSet<i32>>,
    pub offsets_held: watch::Receiver<bool>,
    pub identities_held: watch::Receiver<bool>,
    pub hang_ups: watch::Receiver<u64>,
}

pub async fn accept(node: Node, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(connection(node.clone(), stream));
    }
}

async fn connection(mut node: Node, mut stream: TcpStream) {
    let mut quiet: Option<Instant> = None;
    let mut first = [0];
    node.hang_ups.mark_unchanged();
    loop {
        tokio::select! {
            biased;
            // Unlike `readable`, not because of what was read before.
            _ = stream.peek(&mut first) => {}
            _ = node.hang_ups.changed() => return,
        }
        if !node.runs().await {
            return;
        }
        // What was readable may have been read already.
        let length = tokio::select! {
            biased;
            length = stream.read_u32() => length,
            _ = node.hang_ups.changed() => return,
        };
        let Ok(length) = length else { return };
        let mut frame = vec![0; length as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        if node.paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        let mut frame = Bytes::from(frame);
        let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
        let api = ApiKey::try_from(key).unwrap();
        let header = decode_request_header_from_buffer(&mut frame).unwrap();
        {
            let mut world = node.world.lock().unwrap();
            *world.seen.entry(key).or_default() += 1;
            world.asked_in.insert((node.id, key), version);
            *world.received.entry(key).or_default() += length as usize;
            if quiet.is_some_and(|until| Instant::now() < until) {
                world.too_early.push(key);
            }
        }
        // `acks` 0: the broker carries it out and says nothing.
        let unanswered = api == ApiKey::Produce && acks_of(version, frame.clone()) == 0;
        let fault = node.fault(api, header.client_id.as_deref().unwrap_or_default());
        if fault == Some(Fault::CloseBefore) {
            return;
        }
        let throttle = node.world.lock().unwrap().throttles.remove(&key).unwrap_or(0);
        let Some(body) = node.answer(api, version, frame, fault.as_ref(), throttle).await else {
            return;
        };
        if unanswered {
            // What it cannot carry out it can only answer by closing.
            if matches!(fault, Some(Fault::Code(_))) {
                return;
            }
            continue;
        }
        if !node.may_answer(api).await || !node.runs().await {
            return;
        }
        let mut out = BytesMut::new();
        out.put_u32(0);
        ResponseHeader::default()
            .with_correlation_id(header.correlation_id)
            .encode(&mut out, api.response_header_version(version))
            .unwrap();
        out.put(body);
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        match fault {
            Some(Fault::CloseAfter) => return,
            Some(Fault::Silence) => continue,
            Some(Fault::HalfFrame) => {
                stream.write_all(&out[..out.len() / 2]).await.unwrap();
                return;
            }
            // The right correlation id, then counts that promise four billion elements.
            Some(Fault::Garbage) => out[8..].fill(0xff),
            Some(Fault::WrongCorrelation) => out[4] ^= 0x55,
            _ => {}
        }
        let pause = Duration::from_millis(throttle.max(0) as u64);
        let mutes = node.world.lock().unwrap().mutes;
        if throttle > 0 && !mutes {
            quiet = Some(Instant::now() + pause);
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
        if mutes {
            tokio::time::sleep(pause).await;
        }
    }
}

fn acks_of(version: i16, mut body: Bytes) -> i16 {
    ProduceRequest::decode(&mut body, version).unwrap().acks
}

pub fn encoded(body: &impl Encodable, version: i16) -> Option<Bytes> {
    let mut out = BytesMut::new();
    body.encode(&mut out, version).unwrap();
    Some(out.freeze())
}

impl Node {
    /// Waits while the test has this broker stopped; false when the test is over.
    async fn runs(&mut self) -> bool {
        let id = self.id;
        self.stopped.wait_for(|stopped| !stopped.contains(&id)).await.is_ok()
    }

    /// Waits until the test lets this answer go; false when the test is over.
    async fn may_answer(&mut self, api: ApiKey) -> bool {
        let id = self.id;
        match api {
            ApiKey::Produce => self.produce_held.wait_for(|held| !held.contains(&id)).await.is_ok(),
            ApiKey::ListOffsets => self.offsets_held.wait_for(|held| !held).await.is_ok(),
            ApiKey::InitProducerId => self.identities_held.wait_for(|held| !held).await.is_ok(),
            _ => true,
        }
    }

    fn fault(&self, api: ApiKey, client: &str) -> Option<Fault> {
        let mut world = self.world.lock().unwrap();
        match api {
            ApiKey::Produce => world.produce_faults.pop_front().or_else(|| world.produce_always.clone()),
            ApiKey::Fetch => world.fetch_faults.pop_front(),
            ApiKey::ListOffsets => world.offset_faults.pop_front(),
            ApiKey::Metadata => {
                let hidden = world.hidden.get(client).cloned();
                world.metadata_faults.pop_front().or_else(|| hidden.map(Fault::Hidden))
            }
            ApiKey::InitProducerId if world.without_identities == Some(self.id) => Some(Fault::Code(14)),
            ApiKey::InitProducerId => world.identity_faults.pop_front().or_else(|| world.identity_always.clone()),
            _ => world.groups.faults.get_mut(&(api as i16)).and_then(VecDeque::pop_front),
        }
    }

    async fn answer(&self, api: ApiKey, version: i16, mut body: Bytes, fault: Option<&Fault>, throttle: i32) -> Option<Bytes> {
        match api {
            ApiKey::ApiVersions => self.versions(version),
            ApiKey::Metadata => {
                let mut answer = self.metadata(&MetadataRequest::decode(&mut body, version).unwrap());
                if let Some(Fault::Code(code)) = fault {
                    answer.topics.iter_mut().for_each(|topic| topic.error_code = *code);
                }
                if let Some(Fault::Hidden(name)) = fault {
                    let is = |topic: &&mut MetadataResponseTopic| topic.name.as_ref().is_some_and(|told| told.as_str() == name);
                    answer.topics.iter_mut().filter(is).for_each(|topic| topic.error_code = 3);
                }
                if let Some(forbidden) = &self.world.lock().unwrap().forbidden {
                    let is = |topic: &&mut MetadataResponseTopic| topic.name.as_ref().is_some_and(|told| told.as_str() == forbidden);
                    answer.topics.iter_mut().filter(is).for_each(|topic| topic.error_code = 29);
                }
                encoded(&answer.with_throttle_time_ms(throttle), version)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut body, version).unwrap();
                let answer = self.produce(&request, fault).with_throttle_time_ms(throttle);
                self.world.lock().unwrap().acks.push(request.acks);
                encoded(&answer, version)
            }
            ApiKey::Fetch => {
                let answer = self.fetch(&FetchRequest::decode(&mut body, version).unwrap(), fault).await;
                encoded(&answer.with_throttle_time_ms(throttle), version)
            }
            ApiKey::ListOffsets => {
                let mut answer = self.offsets(&ListOffsetsRequest::decode(&mut body, version).unwrap());
                if version < 4 {
                    let told = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                    told.for_each(|partition| partition.leader_epoch = -1);
                }
                if let Some(Fault::Code(code)) = fault {
                    let told = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                    told.for_each(|partition| partition.error_code = *code);
                }
                encoded(&answer.with_throttle_time_ms(throttle), version)
            }
            ApiKey::InitProducerId => {
                let mut world = self.world.lock().unwrap();
                let answer = InitProducerIdResponse::default().with_throttle_time_ms(throttle);
                if let Some(Fault::Code(code)) = fault {
                    return encoded(&answer.with_error_code(*code), version);
                }
                world.next_producer_id += 1;
                encoded(
                    &answer.with_producer_id(ProducerId(world.next_producer_id)).with_producer_epoch(0),
                    version,
                )
            }
            ApiKey::CreateTopics | ApiKey::DescribeConfigs => admin::answer(&self.world, api, version, body, fault),
            _ => groups::answer(&self.world, self.id, api, version, body, fault).await,
        }
    }

    fn versions(&self, asked: i16) -> Option<Bytes> {
        let old = self.world.lock().unwrap().old;
        let offer: &[(ApiKey, i16, i16)] = if old {
            &[
                (ApiKey::Produce, 3, 7),
                (ApiKey::Fetch, 4, 10),
                (ApiKey::Metadata, 0, 5),
                (ApiKey::ListOffsets, 1, 2),
                (ApiKey::InitProducerId, 0, 1),
                (ApiKey::FindCoordinator, 0, 3),
                (ApiKey::JoinGroup, 0, 4),
                (ApiKey::SyncGroup, 0, 2),
                (ApiKey::Heartbeat, 0, 2),
                (ApiKey::LeaveGroup, 0, 2),
                (ApiKey::OffsetCommit, 2, 6),
                (ApiKey::OffsetFetch, 1, 7),
                (ApiKey::CreateTopics, 0, 2),
                (ApiKey::DescribeConfigs, 0, 1),
            ]
        } else {
            &[
                (ApiKey::Produce, 3, 13),
                (ApiKey::Fetch, 4, 17),
                (ApiKey::Metadata, 0, 13),
                (ApiKey::ListOffsets, 1, 7),
                (ApiKey::InitProducerId, 0, 4),
                (ApiKey::FindCoordinator, 0, 6),
                (ApiKey::JoinGroup, 0, 9),
                (ApiKey::SyncGroup, 0, 5),
                (ApiKey::Heartbeat, 0, 4),
                (ApiKey::LeaveGroup, 0, 5),
                (ApiKey::OffsetCommit, 2, 9),
                (ApiKey::OffsetFetch, 1, 9),
                (ApiKey::CreateTopics, 2, 7),
                (ApiKey::DescribeConfigs, 1, 4),
            ]
        };
        let world = self.world.lock().unwrap();
        let keys = offer.iter().filter_map(|(k, min, max)| {
            let usual = Some((*min, *max));
            let (min, max) = world.versions.get(&(self.id, *k as i16)).copied().unwrap_or(usual)?;
            let key = ApiVersion::default().with_api_key(*k as i16);
            Some(key.with_min_version(min).with_max_version(max))
        });
        let answer = ApiVersionsResponse::default().with_api_keys(keys.collect());
        if old && asked > 0 {
            // In the layout of version 0, as KIP-511 says.
            return encoded(&answer.with_error_code(35), 0);
        }
        encoded(&answer, asked)
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let mut world = self.world.lock().unwrap();
        let error = std::mem::take(&mut world.metadata_error);
        world.named.push(request.topics.as_ref().map_or(0, Vec::len));
        world.listings += usize::from(request.topics.is_none());
        let late = world.late.is_none_or(|late| late == self.id);
        let brokers = world.brokers.iter().map(|(id, at)| {
            let host = StrBytes::from_string(at.ip().to_string());
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*id))
                .with_host(host)
                .with_port(at.port().into())
        });
        let told_id = |name: &String, topic: &super::Topic| *world.former.get(name).filter(|_| late).unwrap_or(&topic.id);
        // By its id, or by its name.
        let asked = |topic: &MetadataRequestTopic| {
            let named = world.topics.iter().find(|(name, known)| told_id(name, known) == topic.topic_id);
            let name = named.map(|(name, _)| TopicName(StrBytes::from_string(name.clone())));
            topic.name.clone().or(name).ok_or(topic.topic_id)
        };
        let names: Vec<Result<TopicName, Uuid>> = match &request.topics {
            Some(topics) => topics.iter().map(asked).collect(),
            // Whoever names none gets all that it may see.
            None => {
                let seen = |name: &&String| Some(*name) != world.forbidden.as_ref();
                let names = world.topics.keys().filter(seen).cloned();
                names.map(|name| Ok(TopicName(StrBytes::from_string(name)))).collect()
            }
        };
        let topics = names.into_iter().map(|name| {
            let unknown = |id| {
                MetadataResponseTopic::default()
                    .with_name(None)
                    .with_topic_id(id)
                    .with_error_code(100)
            };
            let name = match name {
                Ok(name) => name,
                Err(id) => return unknown(id),
            };
            let told = MetadataResponseTopic::default().with_name(Some(name.clone()));
            match world.topics.get(name.as_str()) {
                None => told.with_error_code(3),
                Some(topic) => {
                    let former = world.former.get(name.as_str()).filter(|_| late);
                    let told_of = world.fewer.get(name.as_str()).filter(|_| late);
                    let known = &topic.partitions[..*told_of.unwrap_or(&topic.partitions.len())];
                    let partitions = known.iter().enumerate().map(|(i, p)| {
                        let (leader, epoch) = p.told.filter(|_| late).unwrap_or((p.leader, p.epoch));
                        MetadataResponsePartition::default()
                            .with_partition_index(i as i32)
                            .with_replica_nodes(world.admin.replicas(name.as_str()))
                            .with_leader_id(BrokerId(leader))
                            .with_leader_epoch(epoch)
                    });
                    told.with_topic_id(*former.unwrap_or(&topic.id))
                        .with_partitions(partitions.collect())
                }
            }
        });
        MetadataResponse::default()
            .with_error_code(error)
            .with_brokers(brokers.collect())
            .with_topics(topics.collect())
    }

    fn produce(&self, request: &ProduceRequest, fault: Option<&Fault>) -> ProduceResponse {
        let mut world = self.world.lock().unwrap();
        world.produces.push(request.topic_data.iter().map(|t| t.partition_data.len()).sum());
        let tells = world.tells_leader;
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let ours = find(&mut world, &topic.name, topic.topic_id);
            let mut answers = Vec::new();
            let mut ours = ours;
            for data in &topic.partition_data {
                let partition = ours.as_mut().and_then(|t| t.partitions.get_mut(data.index as usize));
                let mut leader = LeaderIdAndEpoch::default();
                if let Some(p) = partition.as_ref().filter(|p| tells && p.leader != self.id) {
                    leader = leader.with_leader_id(BrokerId(p.leader)).with_leader_epoch(p.epoch);
                }
                let stamp = partition.as_ref().and_then(|p| p.log_append_time);
                let (code, offset) = match (partition, fault) {
                    (_, Some(Fault::Code(code))) => (*code, -1),
                    (None, _) => (3, -1),
                    (Some(p), _) if p.leader != self.id => (6, -1),
                    (Some(p), _) if p.refuses.is_some() => (p.refuses.unwrap(), -1),
                    (Some(p), Some(Fault::StoredBut(code))) => (*code, p.append(data.records.as_ref().unwrap()).1),
                    (Some(p), _) => p.append(data.records.as_ref().unwrap()),
                };
                answers.push(
                    PartitionProduceResponse::default()
                        .with_index(data.index)
                        .with_error_code(code)
                        .with_base_offset(offset)
                        .with_log_append_time_ms(stamp.unwrap_or(-1))
                        .with_current_leader(leader),
                );
            }
            responses.push(
                TopicProduceResponse::default()
                    .with_name(topic.name.clone())
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(answers),
            );
        }
        drop(world);
        self.appended.notify_waiters();
        ProduceResponse::default().with_responses(responses)
    }

    fn offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let world = self.world.lock().unwrap();
        let topics = request.topics.iter().map(|topic| {
            let ours = world.topics.get(topic.name.as_str());
            let answers = topic.partitions.iter().map(|asked| {
                let told = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                match ours.and_then(|t| t.partitions.get(asked.partition_index as usize)) {
                    None => told.with_error_code(3),
                    Some(p) if p.leader != self.id => told.with_error_code(6),
                    Some(_) if world.without_times && asked.timestamp >= 0 => told.with_error_code(6),
                    Some(p) if p.epoch_error(asked.current_leader_epoch) != 0 => {
                        told.with_error_code(p.epoch_error(asked.current_leader_epoch))
                    }
                    Some(p) => told
                        .with_offset(p.offset_at(asked.timestamp))
                        .with_leader_epoch(if world.old { -1 } else { p.epoch }),
                }
            });
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(answers.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }
}

pub(super) fn find<'w>(world: &'w mut World, name: &TopicName, id: uuid::Uuid) -> Option<&'w mut super::Topic> {
    if !name.is_empty() {
        return world.topics.get_mut(name.as_str());
    }
    world.topics.values_mut().find(|t| t.id == id)
}
