//! The answers of share groups (KIP-932) and of what is set for them.

use kafka_protocol::messages::{
    alter_share_group_offsets_response as altered, describe_share_group_offsets_response as described,
    incremental_alter_configs_response as configs, share_fetch_response as fetch, share_group_heartbeat_response as heartbeat,
};

use super::{
    Field::{Fixed, Nullable, Records, Tags, Text},
    NODE, Part, all, array,
};

pub(super) const HEARTBEAT: &[Part] = &[
    all(Fixed(4 + 2)),
    all(Text),
    all(Text),
    all(Fixed(4 + 4)),
    all(Nullable(&[
        all(array::<heartbeat::TopicPartitions>(&[
            all(Fixed(16)),
            all(array::<i32>(&[all(Fixed(4))])),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

pub(super) const FETCH: &[Part] = &[
    all(Fixed(4 + 2)),
    all(Text),
    all(Fixed(4)),
    all(array::<fetch::ShareFetchableTopicResponse>(&[
        all(Fixed(16)),
        all(array::<fetch::PartitionData>(&[
            all(Fixed(4 + 2)),
            all(Text),
            all(Fixed(2)),
            all(Text),
            // The leader and its epoch: a structure, with tags of its own.
            all(Fixed(4 + 4)),
            all(Tags(&[])),
            all(Records),
            all(array::<fetch::AcquiredRecords>(&[all(Fixed(8 + 8 + 2)), all(Tags(&[]))])),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    all(array::<fetch::NodeEndpoint>(NODE)),
    all(Tags(&[])),
];

pub(super) const DESCRIBE_OFFSETS: &[Part] = &[
    all(Fixed(4)),
    all(array::<described::DescribeShareGroupOffsetsResponseGroup>(&[
        all(Text),
        all(array::<described::DescribeShareGroupOffsetsResponseTopic>(&[
            all(Text),
            all(Fixed(16)),
            all(array::<described::DescribeShareGroupOffsetsResponsePartition>(&[
                all(Fixed(4 + 8 + 4 + 2)),
                all(Text),
                all(Tags(&[])),
            ])),
            all(Tags(&[])),
        ])),
        all(Fixed(2)),
        all(Text),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

pub(super) const ALTER_OFFSETS: &[Part] = &[
    all(Fixed(4 + 2)),
    all(Text),
    all(array::<altered::AlterShareGroupOffsetsResponseTopic>(&[
        all(Text),
        all(Fixed(16)),
        all(array::<altered::AlterShareGroupOffsetsResponsePartition>(&[
            all(Fixed(4 + 2)),
            all(Text),
            all(Tags(&[])),
        ])),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];

pub(super) const ALTER_CONFIGS: &[Part] = &[
    all(Fixed(4)),
    all(array::<configs::AlterConfigsResourceResponse>(&[
        all(Fixed(2)),
        all(Text),
        all(Fixed(1)),
        all(Text),
        all(Tags(&[])),
    ])),
    all(Tags(&[])),
];
