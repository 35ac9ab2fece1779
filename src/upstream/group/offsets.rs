//! OffsetFetch and OffsetCommit.

use std::{collections::HashMap, sync::Arc};

use kafka_protocol::{
    messages::{
        ApiKey, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};

use super::{
    coordinator::{Coordinator, Fault, Identity, accepted, text},
    embedded::by_topic,
    event::{Committed, TopicPartition},
    requests::Answer,
};
use crate::{
    kafka::error::ErrorCode,
    upstream::{cluster::Core, metadata::topic_name},
};

/// The newest versions that name topics by name; later ones need ids (KIP-848), which a group's commits had not before.
const BY_NAME: i16 = 9;
/// The first OffsetFetch that asks for several groups at once (KIP-709).
const BATCHED: i16 = 8;
/// The first OffsetFetch that waits for open transactions (KIP-447).
const STABLE: i16 = 7;

/// What the answer says of one partition.
struct Told {
    topic: StrBytes,
    partition: i32,
    offset: i64,
    metadata: Option<StrBytes>,
    code: i16,
}

/// What the group has committed. Offsets of open transactions are waited for (88 UNSTABLE_OFFSET_COMMIT).
pub(super) async fn fetch(at: &Coordinator, core: &Core, me: &Identity, of: &[TopicPartition]) -> Result<Answer, Fault> {
    let make = |version| fetch_request(version, me, of);
    let answer: OffsetFetchResponse = at.call(core, me, ApiKey::OffsetFetch, BY_NAME, make).await?;
    let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
    accepted(me, "OffsetFetch", code)?;
    let mut told: HashMap<(String, i32), Told> = HashMap::new();
    for one in flatten(answer) {
        told.insert((one.topic.to_string(), one.partition), one);
    }
    let results = of.iter().filter_map(|one| {
        let told = told.remove(&(one.topic.to_string(), one.partition))?;
        Some((one.clone(), read(told)))
    });
    Ok(Answer::Fetched(results.collect()))
}

fn fetch_request(version: i16, me: &Identity, of: &[TopicPartition]) -> OffsetFetchRequest {
    let topics = by_topic(of);
    if version >= BATCHED {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopics::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions)
        });
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(me.group())
            .with_member_epoch(-1)
            .with_topics(Some(topics.collect()));
        return OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(partitions)
    });
    OffsetFetchRequest::default()
        .with_group_id(me.group())
        .with_topics(Some(topics.collect()))
        .with_require_stable(version >= STABLE)
}

/// Both layouts as one.
fn flatten(answer: OffsetFetchResponse) -> Vec<Told> {
    let mut all = Vec::new();
    for topic in answer.groups.into_iter().flat_map(|group| group.topics) {
        let told = topic.partitions.into_iter().map(|p| Told {
            topic: topic.name.0.clone(),
            partition: p.partition_index,
            offset: p.committed_offset,
            metadata: p.metadata,
            code: p.error_code,
        });
        all.extend(told);
    }
    for topic in answer.topics {
        let told = topic.partitions.into_iter().map(|p| Told {
            topic: topic.name.0.clone(),
            partition: p.partition_index,
            offset: p.committed_offset,
            metadata: p.metadata,
            code: p.error_code,
        });
        all.extend(told);
    }
    all
}

fn read(told: Told) -> Result<Option<Committed>, ErrorCode> {
    let code = ErrorCode::from(told.code);
    if !code.is_ok() {
        return Err(code);
    }
    // -1 says that there is none.
    Ok((told.offset >= 0).then(|| Committed {
        offset: told.offset,
        metadata: told.metadata.map(|text| text.to_string()).unwrap_or_default(),
    }))
}

/// Commits as a member of a generation.
pub(super) async fn commit(
    at: &Coordinator,
    core: &Core,
    me: &Identity,
    member: &str,
    generation: i32,
    offsets: &[(TopicPartition, Committed)],
) -> Result<Answer, Fault> {
    let make = |_| {
        let mut topics: HashMap<&str, Vec<OffsetCommitRequestPartition>> = HashMap::new();
        for (of, what) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(of.partition)
                .with_committed_offset(what.offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text(&what.metadata)));
            topics.entry(&of.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        OffsetCommitRequest::default()
            .with_group_id(me.group())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(member))
            .with_group_instance_id(me.instance())
            .with_topics(topics.collect())
    };
    let answer: OffsetCommitResponse = at.call(core, me, ApiKey::OffsetCommit, BY_NAME, make).await?;
    let mut codes = Vec::new();
    for topic in answer.topics {
        let name: Arc<str> = Arc::from(&*topic.name.0);
        for partition in topic.partitions {
            let code = ErrorCode::from(partition.error_code);
            if !code.is_ok() {
                core.counters.error(code.name());
            }
            let of = TopicPartition {
                topic: Arc::clone(&name),
                partition: partition.partition_index,
            };
            codes.push((of, code));
        }
    }
    Ok(Answer::Committed(codes))
}
