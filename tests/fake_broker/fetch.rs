//! Fetch as a broker carries it out: sessions (KIP-227), logs that part (KIP-595), replicas near the reader (KIP-392).

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName,
    fetch_request::FetchPartition,
    fetch_response::{AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData},
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    Fault, Partition, World,
    serve::{Node, find},
};

/// Name, id, and what is asked for.
pub type Asked = (String, Uuid, FetchPartition);

/// What a broker remembers of a reader.
pub struct Session {
    broker: i32,
    /// Of the next request.
    pub epoch: i32,
    pub asked: Vec<Asked>,
}

impl Node {
    pub(super) async fn fetch(&self, request: &FetchRequest, fault: Option<&Fault>) -> FetchResponse {
        let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms as u64);
        let opened = match fault {
            Some(Fault::Whole(code)) => Err(*code),
            _ => self.open(request),
        };
        let (session, asked) = match opened {
            Ok(opened) => opened,
            Err(code) => return FetchResponse::default().with_error_code(code),
        };
        loop {
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let answers: Vec<_> = asked.iter().map(|asked| self.answer_one(asked, request, fault)).collect();
            let found = answers.iter().any(has_news);
            sleep(self.takes(asked.iter().zip(&answers))).await;
            if found || timeout_at(deadline, appended).await.is_err() {
                let whole = request.session_epoch <= 0;
                let told = asked.iter().zip(answers).filter(|(_, data)| whole || has_news(data));
                let responses = told.map(|((name, id, _), data)| {
                    FetchableTopicResponse::default()
                        .with_topic(topic_name(name))
                        .with_topic_id(*id)
                        .with_partitions(vec![data])
                });
                return FetchResponse::default()
                    .with_session_id(session)
                    .with_responses(responses.collect());
            }
        }
    }

    /// How long an answer takes that brings what it does.
    fn takes<'a>(&self, told: impl Iterator<Item = (&'a Asked, &'a PartitionData)>) -> Duration {
        let takes = &self.world.lock().unwrap().fetch_takes;
        let slow = told
            .filter(|(_, data)| has_records(data))
            .filter_map(|((name, ..), _)| takes.get(name));
        slow.max().copied().unwrap_or_default()
    }

    /// The session of a request, and all that is asked for in it; else an error of the whole fetch.
    fn open(&self, request: &FetchRequest) -> Result<(i32, Vec<Asked>), i16> {
        let mut world = self.world.lock().unwrap();
        let named: Vec<Asked> = named(&world, request);
        world.fetch_named.push(named.len());
        let opened = match request.session_epoch {
            -1 => Ok((0, named)),
            0 => {
                world.sessions.remove(&request.session_id);
                Ok((make(&mut world, self.id, named.clone()), named))
            }
            epoch => go_on(&mut world, self.id, epoch, request, named),
        };
        if let Ok((_, asked)) = &opened {
            let poll = asked.iter().map(|(name, _, p)| (name.clone(), p.partition)).collect();
            world.polls.push(poll);
        }
        opened
    }

    fn answer_one(&self, (name, id, asked): &Asked, request: &FetchRequest, fault: Option<&Fault>) -> PartitionData {
        let mut world = self.world.lock().unwrap();
        let racks = world.racks.clone();
        let rack = request.rack_id.as_str();
        let (tells, refuses) = (world.tells_leader, world.refuses == Some(self.id));
        let near = !rack.is_empty() && racks.get(&self.id) == Some(&rack);
        let ours = find(&mut world, &topic_name(if id.is_nil() { name } else { "" }), *id);
        let partition = ours.and_then(|t| t.partitions.get(asked.partition as usize));
        let data = PartitionData::default().with_partition_index(asked.partition);
        let data = match (partition, fault) {
            (_, Some(Fault::Code(code))) => data.with_error_code(*code),
            _ if refuses => data.with_error_code(1),
            (None, _) => data.with_error_code(if id.is_nil() { 3 } else { 100 }),
            (Some(p), _) if p.leader != self.id && !near && tells => {
                let leader = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(p.leader))
                    .with_leader_epoch(p.epoch);
                data.with_error_code(6).with_current_leader(leader)
            }
            (Some(p), _) if p.leader != self.id && !near => data.with_error_code(6),
            (Some(p), _) if p.epoch_error(asked.current_leader_epoch) != 0 => {
                data.with_error_code(p.epoch_error(asked.current_leader_epoch))
            }
            (Some(p), _) => {
                let nearer = racks.iter().find(|(id, at)| **at == rack && **id != p.leader && !rack.is_empty());
                match nearer {
                    Some((id, _)) if p.leader == self.id && p.followed.is_none_or(|end| asked.fetch_offset <= end) => {
                        data.with_preferred_read_replica(BrokerId(*id))
                    }
                    _ => p.read(asked, request, p.leader == self.id, data),
                }
            }
        };
        let data = match (fault, data.records.clone()) {
            (Some(Fault::Damaged), Some(records)) if !records.is_empty() => {
                let mut records = records.to_vec();
                *records.last_mut().unwrap() ^= 1;
                data.with_records(Some(Bytes::from(records)))
            }
            _ => data,
        };
        if has_records(&data) {
            *world.reads.entry(self.id).or_default() += 1;
        }
        data
    }
}

/// Whether a broker tells of it at once.
fn has_news(data: &PartitionData) -> bool {
    data.error_code != 0 || has_records(data) || data.diverging_epoch.epoch >= 0 || data.preferred_read_replica.0 >= 0
}

fn has_records(data: &PartitionData) -> bool {
    data.records.as_ref().is_some_and(|records| !records.is_empty())
}

fn named(world: &World, request: &FetchRequest) -> Vec<Asked> {
    let mut named = Vec::new();
    for topic in &request.topics {
        let ours = world
            .topics
            .iter()
            .find(|(n, t)| ***n == *topic.topic.0 || (!t.id.is_nil() && t.id == topic.topic_id));
        let name = ours.map_or_else(|| topic.topic.0.to_string(), |(name, _)| name.clone());
        named.extend(topic.partitions.iter().map(|p| (name.clone(), topic.topic_id, p.clone())));
    }
    named
}

fn make(world: &mut World, broker: i32, asked: Vec<Asked>) -> i32 {
    if world.no_sessions {
        return 0;
    }
    world.last_session += 1;
    let id = world.last_session;
    world.sessions.insert(id, Session { broker, epoch: 1, asked });
    id
}

fn go_on(world: &mut World, broker: i32, epoch: i32, request: &FetchRequest, named: Vec<Asked>) -> Result<(i32, Vec<Asked>), i16> {
    let id = request.session_id;
    let session = world.sessions.get_mut(&id).filter(|s| s.broker == broker).ok_or(70_i16)?;
    if session.epoch != epoch {
        return Err(71);
    }
    session.epoch += 1;
    for topic in &request.forgotten_topics_data {
        let is = |asked: &Asked| asked.1 == topic.topic_id && (!asked.1.is_nil() || asked.0 == *topic.topic.0);
        for partition in &topic.partitions {
            let at = session.asked.iter().position(|asked| is(asked) && asked.2.partition == *partition);
            session.asked.remove(at.expect("only what the session holds is forgotten"));
        }
    }
    for new in named {
        // The id names a topic also when its name is another's by now.
        let same = |old: &&mut Asked| (old.1, old.2.partition) == (new.1, new.2.partition) && (!old.1.is_nil() || old.0 == new.0);
        match session.asked.iter_mut().find(same) {
            Some(old) => {
                assert_ne!(old.2, new.2, "what has not changed is not named again");
                *old = new;
            }
            None => session.asked.push(new),
        }
    }
    Ok((id, session.asked.clone()))
}

impl Partition {
    fn read(&self, asked: &FetchPartition, request: &FetchRequest, leads: bool, data: PartitionData) -> PartitionData {
        let end = if leads { self.end } else { self.followed.unwrap_or(self.end) };
        match self.end_of_epoch(asked, leads, end) {
            Some((epoch, end)) if epoch < asked.last_fetched_epoch || end < asked.fetch_offset => {
                return data.with_diverging_epoch(EpochEndOffset::default().with_epoch(epoch).with_end_offset(end));
            }
            // A follower knows only the epochs of batches that it has.
            None => return data.with_error_code(1),
            _ => {}
        }
        if asked.fetch_offset > end || asked.fetch_offset < self.start {
            return data.with_error_code(1);
        }
        let from = self.log.iter().rposition(|(base, _)| *base <= asked.fetch_offset).unwrap_or(0);
        let fresh = self.log[from.min(self.log.len())..].iter().filter(|(base, batch)| {
            // What is no batch has one record here.
            let last = i64::from(i32::from_be_bytes(batch[23..27].try_into().unwrap()).max(0));
            asked.fetch_offset < end && *base < end && base + last >= asked.fetch_offset
        });
        let mut set: Vec<u8> = Vec::new();
        for (_, batch) in fresh {
            // At least one batch, and what fits beside it.
            if !set.is_empty() && set.len() + batch.len() > asked.partition_max_bytes as usize {
                break;
            }
            set.extend(batch);
        }
        data.with_high_watermark(end)
            .with_last_stable_offset(end)
            .with_aborted_transactions(Some(self.aborted_for(request, asked.fetch_offset)))
            .with_records(Some(Bytes::from(set)))
    }

    /// The largest epoch up to that of the last record that the reader has, and where it ends; `None` if that epoch is later than all that are known.
    fn end_of_epoch(&self, asked: &FetchPartition, leads: bool, log_end: i64) -> Option<(i32, i64)> {
        if asked.last_fetched_epoch < 0 {
            return Some((-1, i64::MAX));
        }
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        let of_log = self
            .log
            .iter()
            .filter(|(base, _)| *base < log_end)
            .map(|(base, batch)| (i32::from_be_bytes(batch[12..16].try_into().unwrap()), *base));
        for (epoch, base) in of_log.chain(leads.then_some((self.epoch, self.end))) {
            if epochs.last().is_none_or(|(last, _)| *last < epoch) {
                epochs.push((epoch, base));
            }
        }
        let floor = epochs.iter().rev().find(|(epoch, _)| *epoch <= asked.last_fetched_epoch);
        let higher = epochs.iter().find(|(epoch, _)| *epoch > asked.last_fetched_epoch);
        let epoch = floor.map_or(asked.last_fetched_epoch, |(epoch, _)| *epoch);
        match higher {
            Some((_, base)) => Some((epoch, *base)),
            None => floor
                .filter(|(epoch, _)| *epoch == asked.last_fetched_epoch)
                .map(|_| (epoch, log_end)),
        }
    }

    /// The aborted transactions that are not over at `offset`, for who reads committed records only.
    fn aborted_for(&self, request: &FetchRequest, offset: i64) -> Vec<AbortedTransaction> {
        let all = self.aborted.iter().filter(|_| request.isolation_level == 1);
        let all = all.filter(|(producer, first)| self.marker_behind(*producer, *first).is_none_or(|marker| marker >= offset));
        all.map(|(producer, first)| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(*producer))
                .with_first_offset(*first)
        })
        .collect()
    }

    fn marker_behind(&self, producer: i64, first: i64) -> Option<i64> {
        let markers = self.log.iter().filter(|(base, batch)| {
            let of = i64::from_be_bytes(batch[43..51].try_into().unwrap());
            *base > first && of == producer && batch[22] & 0x20 != 0
        });
        markers.map(|(base, _)| *base).next()
    }

    /// ListOffsets: the end (-1), the beginning (-2), or the first batch whose largest timestamp is at or behind `time` (-1: none).
    pub fn offset_at(&self, time: i64) -> i64 {
        let newest = |batch: &[u8]| i64::from_be_bytes(batch[35..43].try_into().unwrap());
        match time {
            -1 => self.end,
            -2 => self.start,
            -4 => self.local.unwrap_or(self.start),
            _ => {
                let young = self.log.iter().find(|(base, batch)| *base >= self.start && newest(batch) >= time);
                young.map_or(-1, |(base, _)| *base)
            }
        }
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
