//! Answers of every API that the client calls, filled to the brim: each array with elements, each text set, tagged fields known and
//! unknown. Written by kafka-protocol's encoders.
#![allow(clippy::unwrap_used)] // Test code.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        AlterShareGroupOffsetsResponse, ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsResponse, DescribeConfigsResponse,
        DescribeShareGroupOffsetsResponse, FetchResponse, FindCoordinatorResponse, GroupId, HeartbeatResponse,
        IncrementalAlterConfigsResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse, ListOffsetsResponse,
        MetadataResponse, OffsetCommitResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse, ProduceResponse, ProducerId,
        ResponseHeader, SaslAuthenticateResponse, SaslHandshakeResponse, ShareFetchResponse, ShareGroupHeartbeatResponse,
        SyncGroupResponse, TopicName, alter_share_group_offsets_response as moved, api_versions_response as versions,
        create_topics_response as created, describe_configs_response as configs, describe_share_group_offsets_response as begun,
        fetch_response as fetch, find_coordinator_response as coordinator, incremental_alter_configs_response as altered,
        join_group_response as join, leave_group_response as leave, list_offsets_response as offsets, metadata_response as metadata,
        offset_commit_response as commit, offset_fetch_response as committed, offset_for_leader_epoch_response as epochs,
        produce_response as produce, share_fetch_response as acquired, share_group_heartbeat_response as beaten,
    },
    protocol::{Encodable, HeaderVersion, StrBytes, VersionRange},
};
use uuid::Uuid;

/// Every API that the client calls.
pub const APIS: [ApiKey; 23] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::SaslHandshake,
    ApiKey::ApiVersions,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::SaslAuthenticate,
    ApiKey::CreateTopics,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareFetch,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
];

/// The versions that we speak of an API. Of ShareFetch one more than kafka-protocol, with the answers of the one before.
pub fn versions_of(api: ApiKey) -> VersionRange {
    let VersionRange { min, max } = api.valid_versions();
    let max = if api == ApiKey::ShareFetch { 2 } else { max };
    VersionRange { min, max }
}

/// A full answer, from its correlation id on.
pub fn full(api: ApiKey, v: i16) -> Bytes {
    match api {
        ApiKey::Produce => frame(&produced(v), api, v),
        ApiKey::Fetch => frame(&fetched(v), api, v),
        ApiKey::ListOffsets => frame(&listed(v), api, v),
        ApiKey::Metadata => frame(&described(v), api, v),
        ApiKey::OffsetCommit => frame(&stored(v), api, v),
        ApiKey::OffsetFetch => frame(&found(v), api, v),
        ApiKey::FindCoordinator => frame(&coordinated(v), api, v),
        ApiKey::JoinGroup => frame(&joined(v), api, v),
        ApiKey::Heartbeat => frame(&HeartbeatResponse::default().with_unknown_tagged_fields(tags(v >= 4)), api, v),
        ApiKey::LeaveGroup => frame(&left(v), api, v),
        ApiKey::SyncGroup => frame(&synced(v), api, v),
        ApiKey::SaslHandshake => frame(&SaslHandshakeResponse::default().with_mechanisms(vec![text(), text()]), api, v),
        ApiKey::ApiVersions => frame(&offered(v), api, v),
        ApiKey::CreateTopics => frame(&made(v), api, v),
        ApiKey::InitProducerId => frame(&InitProducerIdResponse::default().with_unknown_tagged_fields(tags(v >= 2)), api, v),
        ApiKey::OffsetForLeaderEpoch => frame(&ended(v), api, v),
        ApiKey::DescribeConfigs => frame(&configured(v), api, v),
        ApiKey::SaslAuthenticate => frame(&authenticated(v), api, v),
        ApiKey::IncrementalAlterConfigs => frame(&altered(v), api, v),
        ApiKey::ShareGroupHeartbeat => frame(&beaten(), api, v),
        ApiKey::ShareFetch => frame(&acquired(), api, v),
        ApiKey::DescribeShareGroupOffsets => frame(&begun(), api, v),
        ApiKey::AlterShareGroupOffsets => frame(&moved(), api, v),
        _ => panic!("{api:?} is not called"),
    }
}

fn frame<A: Encodable + HeaderVersion>(answer: &A, api: ApiKey, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    let header_version = api.response_header_version(version);
    ResponseHeader::default()
        .with_correlation_id(7)
        .with_unknown_tagged_fields(tags(header_version > 0))
        .encode(&mut out, header_version)
        .unwrap();
    answer.encode(&mut out, version.min(api.valid_versions().max)).unwrap();
    out.freeze()
}

fn text() -> StrBytes {
    StrBytes::from_static_str("some text")
}

fn name() -> TopicName {
    TopicName(text())
}

/// Two tagged fields that nobody knows.
fn tags(there: bool) -> BTreeMap<i32, Bytes> {
    if there {
        BTreeMap::from([(900, Bytes::from_static(b"unknown")), (70_000, Bytes::new())])
    } else {
        BTreeMap::new()
    }
}

fn produced(v: i16) -> ProduceResponse {
    let flexible = v >= 9;
    let mut partition = produce::PartitionProduceResponse::default().with_unknown_tagged_fields(tags(flexible));
    if v >= 8 {
        let wrong = produce::BatchIndexAndErrorMessage::default()
            .with_batch_index_error_message(Some(text()))
            .with_unknown_tagged_fields(tags(flexible));
        partition = partition
            .with_record_errors(vec![wrong.clone(), wrong])
            .with_error_message(Some(text()));
    }
    if v >= 10 {
        let leader = produce::LeaderIdAndEpoch::default()
            .with_leader_epoch(3)
            .with_unknown_tagged_fields(tags(true));
        partition = partition.with_current_leader(leader);
    }
    let mut topic = produce::TopicProduceResponse::default()
        .with_partition_responses(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(flexible));
    topic = if v >= 13 {
        topic.with_topic_id(Uuid::from_u128(5))
    } else {
        topic.with_name(name())
    };
    let answer = ProduceResponse::default()
        .with_responses(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(flexible));
    if v < 10 {
        return answer;
    }
    let node = produce::NodeEndpoint::default()
        .with_host(text())
        .with_rack(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    answer.with_node_endpoints(vec![node])
}

fn fetched(v: i16) -> FetchResponse {
    let flexible = v >= 12;
    let aborted = fetch::AbortedTransaction::default()
        .with_producer_id(ProducerId(4))
        .with_unknown_tagged_fields(tags(flexible));
    let mut partition = fetch::PartitionData::default()
        .with_aborted_transactions(Some(vec![aborted.clone(), aborted]))
        .with_records(Some(Bytes::from_static(b"records")))
        .with_unknown_tagged_fields(tags(flexible));
    if flexible {
        partition = partition
            .with_diverging_epoch(
                fetch::EpochEndOffset::default()
                    .with_epoch(1)
                    .with_unknown_tagged_fields(tags(true)),
            )
            .with_current_leader(
                fetch::LeaderIdAndEpoch::default()
                    .with_leader_epoch(2)
                    .with_unknown_tagged_fields(tags(true)),
            )
            .with_snapshot_id(fetch::SnapshotId::default().with_epoch(3).with_unknown_tagged_fields(tags(true)));
    }
    let mut topic = fetch::FetchableTopicResponse::default()
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(flexible));
    topic = if v >= 13 {
        topic.with_topic_id(Uuid::from_u128(5))
    } else {
        topic.with_topic(name())
    };
    let answer = FetchResponse::default()
        .with_responses(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(flexible));
    if v < 16 {
        return answer;
    }
    let node = fetch::NodeEndpoint::default()
        .with_host(text())
        .with_rack(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    answer.with_node_endpoints(vec![node])
}

fn listed(v: i16) -> ListOffsetsResponse {
    let flexible = v >= 6;
    let partition = offsets::ListOffsetsPartitionResponse::default().with_unknown_tagged_fields(tags(flexible));
    let topic = offsets::ListOffsetsTopicResponse::default()
        .with_name(name())
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(flexible));
    ListOffsetsResponse::default()
        .with_topics(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(flexible))
}

fn described(v: i16) -> MetadataResponse {
    let flexible = v >= 9;
    let mut partition = metadata::MetadataResponsePartition::default()
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        .with_isr_nodes(vec![BrokerId(1)])
        .with_unknown_tagged_fields(tags(flexible));
    if v >= 5 {
        partition = partition.with_offline_replicas(vec![BrokerId(2)]);
    }
    let mut topic = metadata::MetadataResponseTopic::default()
        .with_name(Some(name()))
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(flexible));
    if v >= 10 {
        topic = topic.with_topic_id(Uuid::from_u128(5));
    }
    let mut broker = metadata::MetadataResponseBroker::default()
        .with_host(text())
        .with_unknown_tagged_fields(tags(flexible));
    if v >= 1 {
        broker = broker.with_rack(Some(text()));
    }
    let answer = MetadataResponse::default()
        .with_brokers(vec![broker.clone(), broker])
        .with_topics(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(flexible));
    if v >= 2 { answer.with_cluster_id(Some(text())) } else { answer }
}

fn stored(v: i16) -> OffsetCommitResponse {
    let flexible = v >= 8;
    let partition = commit::OffsetCommitResponsePartition::default().with_unknown_tagged_fields(tags(flexible));
    let topic = commit::OffsetCommitResponseTopic::default()
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(flexible));
    let topic = if v >= 10 {
        topic.with_topic_id(Uuid::from_u128(5))
    } else {
        topic.with_name(name())
    };
    OffsetCommitResponse::default()
        .with_topics(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(flexible))
}

fn found(v: i16) -> OffsetFetchResponse {
    let flexible = v >= 6;
    let answer = OffsetFetchResponse::default().with_unknown_tagged_fields(tags(flexible));
    if v < 8 {
        let partition = committed::OffsetFetchResponsePartition::default()
            .with_metadata(Some(text()))
            .with_unknown_tagged_fields(tags(flexible));
        let topic = committed::OffsetFetchResponseTopic::default()
            .with_name(name())
            .with_partitions(vec![partition.clone(), partition])
            .with_unknown_tagged_fields(tags(flexible));
        return answer.with_topics(vec![topic.clone(), topic]);
    }
    let partition = committed::OffsetFetchResponsePartitions::default()
        .with_metadata(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    let topic = committed::OffsetFetchResponseTopics::default()
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(true));
    let topic = if v >= 10 {
        topic.with_topic_id(Uuid::from_u128(5))
    } else {
        topic.with_name(name())
    };
    let group = committed::OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(text()))
        .with_topics(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(true));
    answer.with_groups(vec![group.clone(), group])
}

fn coordinated(v: i16) -> FindCoordinatorResponse {
    let answer = FindCoordinatorResponse::default().with_unknown_tagged_fields(tags(v >= 3));
    if v < 4 {
        let answer = answer.with_host(text());
        return if v >= 1 { answer.with_error_message(Some(text())) } else { answer };
    }
    let one = coordinator::Coordinator::default()
        .with_key(text())
        .with_host(text())
        .with_error_message(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    answer.with_coordinators(vec![one.clone(), one])
}

fn joined(v: i16) -> JoinGroupResponse {
    let mut member = join::JoinGroupResponseMember::default()
        .with_member_id(text())
        .with_metadata(Bytes::from_static(b"subscription"))
        .with_unknown_tagged_fields(tags(v >= 6));
    if v >= 5 {
        member = member.with_group_instance_id(Some(text()));
    }
    let answer = JoinGroupResponse::default()
        .with_protocol_name(Some(text()))
        .with_leader(text())
        .with_member_id(text())
        .with_members(vec![member.clone(), member])
        .with_unknown_tagged_fields(tags(v >= 6));
    if v >= 7 { answer.with_protocol_type(Some(text())) } else { answer }
}

fn left(v: i16) -> LeaveGroupResponse {
    let answer = LeaveGroupResponse::default().with_unknown_tagged_fields(tags(v >= 4));
    if v < 3 {
        return answer;
    }
    let member = leave::MemberResponse::default()
        .with_member_id(text())
        .with_group_instance_id(Some(text()))
        .with_unknown_tagged_fields(tags(v >= 4));
    answer.with_members(vec![member.clone(), member])
}

fn synced(v: i16) -> SyncGroupResponse {
    let answer = SyncGroupResponse::default()
        .with_assignment(Bytes::from_static(b"assignment"))
        .with_unknown_tagged_fields(tags(v >= 4));
    if v >= 5 {
        answer.with_protocol_type(Some(text())).with_protocol_name(Some(text()))
    } else {
        answer
    }
}

fn offered(v: i16) -> ApiVersionsResponse {
    let key = versions::ApiVersion::default().with_unknown_tagged_fields(tags(v >= 3));
    let answer = ApiVersionsResponse::default()
        .with_api_keys(vec![key.clone(), key])
        .with_unknown_tagged_fields(tags(v >= 3));
    if v < 3 {
        return answer;
    }
    let supported = versions::SupportedFeatureKey::default()
        .with_name(text())
        .with_max_version(2)
        .with_unknown_tagged_fields(tags(true));
    let finalized = versions::FinalizedFeatureKey::default()
        .with_name(text())
        .with_unknown_tagged_fields(tags(true));
    answer
        .with_supported_features(vec![supported.clone(), supported])
        .with_finalized_features_epoch(9)
        .with_finalized_features(vec![finalized])
        .with_zk_migration_ready(true)
}

fn made(v: i16) -> CreateTopicsResponse {
    let flexible = v >= 5;
    let mut topic = created::CreatableTopicResult::default()
        .with_name(name())
        .with_error_message(Some(text()))
        .with_unknown_tagged_fields(tags(flexible));
    if flexible {
        let config = created::CreatableTopicConfigs::default()
            .with_name(text())
            .with_value(Some(text()))
            .with_unknown_tagged_fields(tags(true));
        topic = topic
            .with_topic_config_error_code(29)
            .with_num_partitions(16)
            .with_configs(Some(vec![config.clone(), config]));
    }
    if v >= 7 {
        topic = topic.with_topic_id(Uuid::from_u128(5));
    }
    CreateTopicsResponse::default()
        .with_topics(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(flexible))
}

fn ended(v: i16) -> OffsetForLeaderEpochResponse {
    let partition = epochs::EpochEndOffset::default().with_unknown_tagged_fields(tags(v >= 4));
    let topic = epochs::OffsetForLeaderTopicResult::default()
        .with_topic(name())
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(v >= 4));
    OffsetForLeaderEpochResponse::default()
        .with_topics(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(v >= 4))
}

fn configured(v: i16) -> DescribeConfigsResponse {
    let flexible = v >= 4;
    let synonym = configs::DescribeConfigsSynonym::default()
        .with_name(text())
        .with_value(Some(text()))
        .with_unknown_tagged_fields(tags(flexible));
    let mut config = configs::DescribeConfigsResourceResult::default()
        .with_name(text())
        .with_value(Some(text()))
        .with_synonyms(vec![synonym.clone(), synonym])
        .with_unknown_tagged_fields(tags(flexible));
    if v >= 3 {
        config = config.with_config_type(5).with_documentation(Some(text()));
    }
    let result = configs::DescribeConfigsResult::default()
        .with_error_message(Some(text()))
        .with_resource_name(text())
        .with_configs(vec![config.clone(), config])
        .with_unknown_tagged_fields(tags(flexible));
    DescribeConfigsResponse::default()
        .with_results(vec![result.clone(), result])
        .with_unknown_tagged_fields(tags(flexible))
}

fn authenticated(v: i16) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_message(Some(text()))
        .with_auth_bytes(Bytes::from_static(b"challenge"))
        .with_unknown_tagged_fields(tags(v >= 2))
}

fn altered(v: i16) -> IncrementalAlterConfigsResponse {
    let one = altered::AlterConfigsResourceResponse::default()
        .with_error_message(Some(text()))
        .with_resource_name(text())
        .with_unknown_tagged_fields(tags(v >= 1));
    IncrementalAlterConfigsResponse::default()
        .with_responses(vec![one.clone(), one])
        .with_unknown_tagged_fields(tags(v >= 1))
}

fn beaten() -> ShareGroupHeartbeatResponse {
    let topic = beaten::TopicPartitions::default()
        .with_topic_id(Uuid::from_u128(5))
        .with_partitions(vec![1, 2, 3])
        .with_unknown_tagged_fields(tags(true));
    let assignment = beaten::Assignment::default()
        .with_topic_partitions(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(true));
    ShareGroupHeartbeatResponse::default()
        .with_error_message(Some(text()))
        .with_member_id(Some(text()))
        .with_assignment(Some(assignment))
        .with_unknown_tagged_fields(tags(true))
}

fn acquired() -> ShareFetchResponse {
    let range = acquired::AcquiredRecords::default()
        .with_last_offset(9)
        .with_unknown_tagged_fields(tags(true));
    let leader = acquired::LeaderIdAndEpoch::default()
        .with_leader_epoch(2)
        .with_unknown_tagged_fields(tags(true));
    let partition = acquired::PartitionData::default()
        .with_error_message(Some(text()))
        .with_acknowledge_error_message(Some(text()))
        .with_current_leader(leader)
        .with_records(Some(Bytes::from_static(b"records")))
        .with_acquired_records(vec![range.clone(), range])
        .with_unknown_tagged_fields(tags(true));
    let topic = acquired::ShareFetchableTopicResponse::default()
        .with_topic_id(Uuid::from_u128(5))
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(true));
    let node = acquired::NodeEndpoint::default()
        .with_host(text())
        .with_rack(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    ShareFetchResponse::default()
        .with_error_message(Some(text()))
        .with_responses(vec![topic.clone(), topic])
        .with_node_endpoints(vec![node])
        .with_unknown_tagged_fields(tags(true))
}

fn begun() -> DescribeShareGroupOffsetsResponse {
    let partition = begun::DescribeShareGroupOffsetsResponsePartition::default()
        .with_error_message(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    let topic = begun::DescribeShareGroupOffsetsResponseTopic::default()
        .with_topic_name(name())
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(true));
    let group = begun::DescribeShareGroupOffsetsResponseGroup::default()
        .with_group_id(GroupId(text()))
        .with_topics(vec![topic.clone(), topic])
        .with_error_message(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    DescribeShareGroupOffsetsResponse::default()
        .with_groups(vec![group.clone(), group])
        .with_unknown_tagged_fields(tags(true))
}

fn moved() -> AlterShareGroupOffsetsResponse {
    let partition = moved::AlterShareGroupOffsetsResponsePartition::default()
        .with_error_message(Some(text()))
        .with_unknown_tagged_fields(tags(true));
    let topic = moved::AlterShareGroupOffsetsResponseTopic::default()
        .with_topic_name(name())
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(tags(true));
    AlterShareGroupOffsetsResponse::default()
        .with_error_message(Some(text()))
        .with_responses(vec![topic.clone(), topic])
        .with_unknown_tagged_fields(tags(true))
}

/// The same answer with a tagged field of its end whose size is said to be `size`. The answer must be a flexible one.
pub fn with_tag_of_size(api: ApiKey, version: i16, tag: u8, content: &[u8], size: u8) -> Bytes {
    let plain: Bytes = match api {
        ApiKey::Produce => frame(&ProduceResponse::default(), api, version),
        ApiKey::ApiVersions => frame(&ApiVersionsResponse::default(), api, version),
        _ => panic!("not prepared"),
    };
    let mut out = BytesMut::from(&plain[..plain.len() - 1]);
    out.put_slice(&[1, tag, size]);
    out.put_slice(content);
    out.freeze()
}
