//! The answers that we take, piece by piece: one row for each API. Without a row here an API cannot be called.
//!
//! What is written here is Kafka's message definitions as far as lengths go; `guard` walks them. A test holds each row against
//! kafka-protocol's encoder in each version.

mod share_groups;

use kafka_protocol::messages::{
    ApiKey, api_versions_response as versions, create_topics_response as created, describe_configs_response as configs,
    fetch_response as fetch, find_coordinator_response as coordinator, join_group_response as join, leave_group_response as leave,
    list_offsets_response as offsets, metadata_response as metadata, offset_commit_response as commit, offset_fetch_response as committed,
    offset_for_leader_epoch_response as epochs, produce_response as produce,
};
use kafka_protocol::protocol::StrBytes;

use Field::{Array, Fixed, Records, Tags, Text};

/// How the answers of one API look.
pub(super) struct Layout {
    pub(super) api: ApiKey,
    /// Its name in metrics.
    pub(super) name: &'static str,
    /// The newest version that is written down here; a newer one is never asked for.
    pub(super) newest: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub(super) flexible: i16,
    pub(super) body: &'static [Part],
}

/// A piece of a layout, present from one version to another (inclusive).
pub(super) struct Part {
    pub(super) from: i16,
    pub(super) to: i16,
    pub(super) field: Field,
}

pub(super) enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A length and so many bytes; null allowed.
    Text,
    /// The same with a length of four bytes where the layout is not compact.
    Records,
    /// A count and so many elements, each of so many bytes in memory once it is decoded; null allowed.
    Array(usize, &'static [Part]),
    /// A byte that is negative if nothing follows, else a structure.
    Nullable(&'static [Part]),
    /// Tagged fields; not present in old layouts. Known tags hold the given layout.
    Tags(&'static [(u32, &'static [Part])]),
}

const fn part(from: i16, to: i16, field: Field) -> Part {
    Part { from, to, field }
}

const fn all(field: Field) -> Part {
    part(0, LAST, field)
}

/// An array whose elements are decoded into `T`.
const fn array<T>(element: &'static [Part]) -> Field {
    Array(size_of::<T>(), element)
}

const fn row(api: ApiKey, name: &'static str, newest: i16, flexible: i16, body: &'static [Part]) -> Layout {
    Layout {
        api,
        name,
        newest,
        flexible,
        body,
    }
}

const LAST: i16 = i16::MAX;
/// In place of a version: it never came.
const NEVER: i16 = i16::MAX;

/// The row of an API.
pub(super) fn layout(api: ApiKey) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|layout| layout.api == api)
}

#[rustfmt::skip]
pub(super) const LAYOUTS: &[Layout] = &[
    row(ApiKey::Produce,              "produce",                 13, 9,     PRODUCE),
    row(ApiKey::Fetch,                "fetch",                   18, 12,    FETCH),
    row(ApiKey::ListOffsets,          "list_offsets",            10, 6,     LIST_OFFSETS),
    row(ApiKey::Metadata,             "metadata",                13, 9,     METADATA),
    row(ApiKey::OffsetCommit,         "offset_commit",           10, 8,     OFFSET_COMMIT),
    row(ApiKey::OffsetFetch,          "offset_fetch",            10, 6,     OFFSET_FETCH),
    row(ApiKey::FindCoordinator,      "find_coordinator",        6,  3,     FIND_COORDINATOR),
    row(ApiKey::JoinGroup,            "join_group",              9,  6,     JOIN_GROUP),
    row(ApiKey::Heartbeat,            "heartbeat",               4,  4,     HEARTBEAT),
    row(ApiKey::LeaveGroup,           "leave_group",             5,  4,     LEAVE_GROUP),
    row(ApiKey::SyncGroup,            "sync_group",              5,  4,     SYNC_GROUP),
    row(ApiKey::SaslHandshake,        "sasl_handshake",          1,  NEVER, SASL_HANDSHAKE),
    row(ApiKey::ApiVersions,          "api_versions",            4,  3,     API_VERSIONS),
    row(ApiKey::CreateTopics,         "create_topics",           7,  5,     CREATE_TOPICS),
    row(ApiKey::InitProducerId,       "init_producer_id",        6,  2,     INIT_PRODUCER_ID),
    row(ApiKey::DescribeConfigs,      "describe_configs",        4,  4,     DESCRIBE_CONFIGS),
    row(ApiKey::OffsetForLeaderEpoch, "offset_for_leader_epoch", 4,  4,     EPOCHS),
    row(ApiKey::SaslAuthenticate,     "sasl_authenticate",       2,  2,     SASL_AUTHENTICATE),
    row(ApiKey::IncrementalAlterConfigs, "incremental_alter_configs", 1, 1, share_groups::ALTER_CONFIGS),
    row(ApiKey::ShareGroupHeartbeat,  "share_group_heartbeat",   1,  0,     share_groups::HEARTBEAT),
    row(ApiKey::ShareFetch,           "share_fetch",             2,  0,     share_groups::FETCH),
    row(ApiKey::DescribeShareGroupOffsets, "describe_share_group_offsets", 0, 0, share_groups::DESCRIBE_OFFSETS),
    row(ApiKey::AlterShareGroupOffsets, "alter_share_group_offsets", 0, 0,  share_groups::ALTER_OFFSETS),
];

const LEADER: &[Part] = &[all(Fixed(4 + 4)), all(Tags(&[]))];
const NODE: &[Part] = &[all(Fixed(4)), all(Text), all(Fixed(4)), all(Text), all(Tags(&[]))];

const PRODUCE: &[Part] = &[
    all(array::<produce::TopicProduceResponse>(&[
        part(0, 12, Text),
        part(13, LAST, Fixed(16)),
        all(array::<produce::PartitionProduceResponse>(&[
            all(Fixed(4 + 2 + 8)),
            part(2, LAST, Fixed(8)),
            part(5, LAST, Fixed(8)),
            part(
                8,
                LAST,
                array::<produce::BatchIndexAndErrorMessage>(&[all(Fixed(4)), all(Text), all(Tags(&[]))]),
            ),
            part(8, LAST, Text),
            all(Tags(&[(0, LEADER)])),
        ])),
        all(Tags(&[])),
    ])),
    part(1, LAST, Fixed(4)),
    all(Tags(&[(0, &[all(array::<produce::NodeEndpoint>(NODE))])])),
];

const FETCH: &[Part] = &[
    part(1, LAST, Fixed(4)),
    part(7, LAST, Fixed(6)),
    all(array::<fetch::FetchableTopicResponse>(&[
        part(0, 12, Text),
        part(13, LAST, Fixed(16)),
        all(array::<fetch::PartitionData>(&[
            all(Fixed(4 + 2 + 8)),
            part(4, LAST, Fixed(8)),
            part(5, LAST, Fixed(8)),
            part(4, LAST, array::<fetch::AbortedTransaction>(&[all(Fixed(16)), all(Tags(&[]))])),
            part(11, LAST, Fixed(4)),
            all(Records),
            all(Tags(&[
                (0, &[all(Fixed(4 + 8)), all(Tags(&[]))]),
                (1, LEADER),
                (2, &[all(Fixed(8 + 4)), all(Tags(&[]))]),
            ])),
        ])),
        all(Tags(&[])),
    ])),
    all(Tags(&[(0, &[all(array::<fetch::NodeEndpoint>(NODE))])])),
];

const METADATA: &[Part] = &[
    part(3, LAST, Fixed(4)),
    all(array::<metadata::MetadataResponseBroker>(&[
        all(Fixed(4)),
        all(Text),
        all(Fixed(4)),
        part(1, LAST, Text),
        all(Tags(&[])),
    ])),
    part(2, LAST, Text),
    part(1, LAST, Fixed(4)),
    all(array::<metadata::MetadataResponseTopic>(&[
        all(Fixed(2)),
        all(Text),
        part(10, LAST, Fixed(16)),
        part(1, LAST, Fixed(1)),
        all(array::<metadata::MetadataResponsePartition>(&[
            all(Fixed(2 + 4 + 4)),
            part(7, LAST, Fixed(4)),
            all(array::<i32>(&[all(Fixed(4))])),
            all(array::<i32>(&[all(Fixed(4))])),
            part(5, LAST, array::<i32>(&[all(Fixed(4))])),
            all(Tags(&[])),
        ])),
        part(8, LAST, Fixed(4)),
        all(Tags(&[])),
    ])),
    part(8, 10, Fixed(4)),
    part(13, LAST, Fixed(2)),
    all(Tags(&[])),
];

const LIST_OFFSETS: &[Part] = &[
    part(2, LAST, Fixed(4)),
    all(array::<offsets::ListOffsetsTopicResponse>(&[
        all(Text),
        all(array::<offsets::ListOffsetsPartitionResponse>(&[
            all(Fixed(4 + 2 + 8 + 8)),
            part(4, LAST, Fixed(4)),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

const API_VERSIONS: &[Part] = &[
    all(Fixed(2)),
    all(array::<versions::ApiVersion>(&[all(Fixed(6)), all(Tags(&[]))])),
    part(1, LAST, Fixed(4)),
    all(Tags(&[
        (
            0,
            &[all(array::<versions::SupportedFeatureKey>(&[
                all(Text),
                all(Fixed(4)),
                all(Tags(&[])),
            ]))],
        ),
        (1, &[all(Fixed(8))]),
        (
            2,
            &[all(array::<versions::FinalizedFeatureKey>(&[
                all(Text),
                all(Fixed(4)),
                all(Tags(&[])),
            ]))],
        ),
        (3, &[all(Fixed(1))]),
    ])),
];

const INIT_PRODUCER_ID: &[Part] = &[all(Fixed(4 + 2 + 8 + 2)), part(6, LAST, Fixed(8 + 2)), all(Tags(&[]))];

const FIND_COORDINATOR: &[Part] = &[
    part(1, LAST, Fixed(4)),
    part(0, 3, Fixed(2)),
    part(1, 3, Text),
    part(0, 3, Fixed(4)),
    part(0, 3, Text),
    part(0, 3, Fixed(4)),
    part(
        4,
        LAST,
        array::<coordinator::Coordinator>(&[all(Text), all(Fixed(4)), all(Text), all(Fixed(4 + 2)), all(Text), all(Tags(&[]))]),
    ),
    all(Tags(&[])),
];

const JOIN_GROUP: &[Part] = &[
    part(2, LAST, Fixed(4)),
    all(Fixed(2 + 4)),
    part(7, LAST, Text),
    all(Text),
    all(Text),
    part(9, LAST, Fixed(1)),
    all(Text),
    all(array::<join::JoinGroupResponseMember>(&[
        all(Text),
        part(5, LAST, Text),
        all(Records),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

const SYNC_GROUP: &[Part] = &[
    part(1, LAST, Fixed(4)),
    all(Fixed(2)),
    part(5, LAST, Text),
    part(5, LAST, Text),
    all(Records),
    all(Tags(&[])),
];

const HEARTBEAT: &[Part] = &[part(1, LAST, Fixed(4)), all(Fixed(2)), all(Tags(&[]))];

const LEAVE_GROUP: &[Part] = &[
    part(1, LAST, Fixed(4)),
    all(Fixed(2)),
    part(
        3,
        LAST,
        array::<leave::MemberResponse>(&[all(Text), all(Text), all(Fixed(2)), all(Tags(&[]))]),
    ),
    all(Tags(&[])),
];

const OFFSET_COMMIT: &[Part] = &[
    part(3, LAST, Fixed(4)),
    all(array::<commit::OffsetCommitResponseTopic>(&[
        part(0, 9, Text),
        part(10, LAST, Fixed(16)),
        all(array::<commit::OffsetCommitResponsePartition>(&[all(Fixed(4 + 2)), all(Tags(&[]))])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

const OFFSET_FETCH: &[Part] = &[
    part(3, LAST, Fixed(4)),
    part(
        0,
        7,
        array::<committed::OffsetFetchResponseTopic>(&[
            all(Text),
            all(array::<committed::OffsetFetchResponsePartition>(COMMITTED)),
            all(Tags(&[])),
        ]),
    ),
    part(2, 7, Fixed(2)),
    part(
        8,
        LAST,
        array::<committed::OffsetFetchResponseGroup>(&[
            all(Text),
            all(array::<committed::OffsetFetchResponseTopics>(&[
                part(0, 9, Text),
                part(10, LAST, Fixed(16)),
                all(array::<committed::OffsetFetchResponsePartitions>(COMMITTED)),
                all(Tags(&[])),
            ])),
            all(Fixed(2)),
            all(Tags(&[])),
        ]),
    ),
    all(Tags(&[])),
];
const COMMITTED: &[Part] = &[all(Fixed(4 + 8)), part(5, LAST, Fixed(4)), all(Text), all(Fixed(2)), all(Tags(&[]))];

const CREATE_TOPICS: &[Part] = &[
    part(2, LAST, Fixed(4)),
    all(array::<created::CreatableTopicResult>(&[
        all(Text),
        part(7, LAST, Fixed(16)),
        all(Fixed(2)),
        part(1, LAST, Text),
        part(5, LAST, Fixed(4 + 2)),
        part(
            5,
            LAST,
            // Read only, source, sensitive.
            array::<created::CreatableTopicConfigs>(&[all(Text), all(Text), all(Fixed(1 + 1 + 1)), all(Tags(&[]))]),
        ),
        all(Tags(&[(0, &[all(Fixed(2))])])),
    ])),
    all(Tags(&[])),
];

const DESCRIBE_CONFIGS: &[Part] = &[
    all(Fixed(4)),
    all(array::<configs::DescribeConfigsResult>(&[
        all(Fixed(2)),
        all(Text),
        all(Fixed(1)),
        all(Text),
        all(array::<configs::DescribeConfigsResourceResult>(&[
            all(Text),
            all(Text),
            // Read only, source, sensitive.
            all(Fixed(1 + 1 + 1)),
            all(array::<configs::DescribeConfigsSynonym>(&[
                all(Text),
                all(Text),
                all(Fixed(1)),
                all(Tags(&[])),
            ])),
            part(3, LAST, Fixed(1)),
            part(3, LAST, Text),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

const EPOCHS: &[Part] = &[
    part(2, LAST, Fixed(4)),
    all(array::<epochs::OffsetForLeaderTopicResult>(&[
        all(Text),
        all(array::<epochs::EpochEndOffset>(&[all(Fixed(2 + 4 + 4 + 8)), all(Tags(&[]))])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

const SASL_HANDSHAKE: &[Part] = &[all(Fixed(2)), all(array::<StrBytes>(&[all(Text)]))];

const SASL_AUTHENTICATE: &[Part] = &[all(Fixed(2)), all(Text), all(Records), part(1, LAST, Fixed(8)), all(Tags(&[]))];
