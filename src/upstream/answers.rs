//! What the answers of all APIs have in common: they can be decoded, and most say whether the client is to slow down.

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        AlterShareGroupOffsetsResponse, ApiKey, ApiVersionsResponse, CreateTopicsResponse, DescribeConfigsResponse,
        DescribeShareGroupOffsetsResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse, IncrementalAlterConfigsResponse,
        InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
        OffsetFetchResponse, OffsetForLeaderEpochResponse, ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
        ShareFetchResponse, ShareGroupHeartbeatResponse, SyncGroupResponse,
    },
    protocol::{Decodable, HeaderVersion},
};

use super::frame;

/// An answer that a connection can take.
pub(crate) trait Answer: Decodable + HeaderVersion {
    /// How long the broker wants no further request on the connection (KIP-219), in milliseconds.
    fn throttle_time_ms(&self) -> i32;
}

/// The answers that are throttled, and those that say nothing of it, each with its API.
macro_rules! answers {
    (throttled: $($answer:ident $api:ident),*; never: $($silent:ident $quiet:ident),*) => {
        $(impl Answer for $answer {
            fn throttle_time_ms(&self) -> i32 {
                self.throttle_time_ms
            }
        })*
        $(impl Answer for $silent {
            fn throttle_time_ms(&self) -> i32 {
                0
            }
        })*

        /// Decodes an answer as a connection does, from its correlation id on, and throws it away: the way in for fuzzers and tests.
        /// Gives the upper bound of the memory that it took.
        ///
        /// # Errors
        /// What makes a connection be closed; also an API or a version that we do not speak.
        pub fn decode_answer(api: i16, version: i16, frame: Bytes) -> Result<usize, &'static str> {
            match ApiKey::try_from(api) {
                $(Ok(ApiKey::$api) => frame::decode::<$answer>(frame, ApiKey::$api, version).map(|(_, memory)| memory),)*
                $(Ok(ApiKey::$quiet) => frame::decode::<$silent>(frame, ApiKey::$quiet, version).map(|(_, memory)| memory),)*
                _ => Err("an API that we do not speak"),
            }
        }
    };
}

answers! {
    throttled:
        ProduceResponse Produce,
        FetchResponse Fetch,
        ListOffsetsResponse ListOffsets,
        MetadataResponse Metadata,
        OffsetCommitResponse OffsetCommit,
        OffsetFetchResponse OffsetFetch,
        FindCoordinatorResponse FindCoordinator,
        JoinGroupResponse JoinGroup,
        HeartbeatResponse Heartbeat,
        LeaveGroupResponse LeaveGroup,
        SyncGroupResponse SyncGroup,
        ApiVersionsResponse ApiVersions,
        CreateTopicsResponse CreateTopics,
        InitProducerIdResponse InitProducerId,
        DescribeConfigsResponse DescribeConfigs,
        OffsetForLeaderEpochResponse OffsetForLeaderEpoch,
        IncrementalAlterConfigsResponse IncrementalAlterConfigs,
        ShareGroupHeartbeatResponse ShareGroupHeartbeat,
        ShareFetchResponse ShareFetch,
        DescribeShareGroupOffsetsResponse DescribeShareGroupOffsets,
        AlterShareGroupOffsetsResponse AlterShareGroupOffsets;
    never:
        SaslHandshakeResponse SaslHandshake,
        SaslAuthenticateResponse SaslAuthenticate
}
