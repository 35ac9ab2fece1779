//! Kafka's error codes, each with its name and what a client does about it: one table, so that no call decides by itself.

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It is no error.
    None,
    /// The same request again, after a pause.
    Again,
    /// After fresh metadata: another broker leads, or the topic has changed.
    AfterMetadata,
    /// After looking for the coordinator.
    AfterCoordinator,
    /// After joining the group again: what a member said rests on a generation that is over.
    AfterJoin,
    /// Never: it will not go better.
    Never,
    /// Never, and the identity that sent it (producer id, member) is of no use any more.
    Fatal,
}

/// An error code of a response. Codes newer than this build are kept as they are and never retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(i16);

/// Code, name, class; ordered by code, without a gap from -1 on.
const TABLE: [(i16, &str, Retry); 138] = {
    use Retry::{AfterCoordinator, AfterJoin, AfterMetadata, Again, Fatal, Never, None};
    [
        (-1, "UNKNOWN_SERVER_ERROR", Again),
        (0, "NONE", None),
        (1, "OFFSET_OUT_OF_RANGE", Never),
        (2, "CORRUPT_MESSAGE", Again),
        (3, "UNKNOWN_TOPIC_OR_PARTITION", AfterMetadata),
        (4, "INVALID_FETCH_SIZE", Never),
        (5, "LEADER_NOT_AVAILABLE", AfterMetadata),
        (6, "NOT_LEADER_OR_FOLLOWER", AfterMetadata),
        (7, "REQUEST_TIMED_OUT", Again),
        (8, "BROKER_NOT_AVAILABLE", AfterMetadata),
        (9, "REPLICA_NOT_AVAILABLE", AfterMetadata),
        (10, "MESSAGE_TOO_LARGE", Never),
        (11, "STALE_CONTROLLER_EPOCH", Never),
        (12, "OFFSET_METADATA_TOO_LARGE", Never),
        (13, "NETWORK_EXCEPTION", AfterMetadata),
        (14, "COORDINATOR_LOAD_IN_PROGRESS", Again),
        (15, "COORDINATOR_NOT_AVAILABLE", AfterCoordinator),
        (16, "NOT_COORDINATOR", AfterCoordinator),
        (17, "INVALID_TOPIC_EXCEPTION", Never),
        (18, "RECORD_LIST_TOO_LARGE", Never),
        (19, "NOT_ENOUGH_REPLICAS", Again),
        (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Again),
        (21, "INVALID_REQUIRED_ACKS", Never),
        (22, "ILLEGAL_GENERATION", AfterJoin),
        (23, "INCONSISTENT_GROUP_PROTOCOL", Never),
        (24, "INVALID_GROUP_ID", Never),
        (25, "UNKNOWN_MEMBER_ID", AfterJoin),
        (26, "INVALID_SESSION_TIMEOUT", Never),
        (27, "REBALANCE_IN_PROGRESS", AfterJoin),
        (28, "INVALID_COMMIT_OFFSET_SIZE", Never),
        (29, "TOPIC_AUTHORIZATION_FAILED", Never),
        (30, "GROUP_AUTHORIZATION_FAILED", Never),
        (31, "CLUSTER_AUTHORIZATION_FAILED", Never),
        (32, "INVALID_TIMESTAMP", Never),
        (33, "UNSUPPORTED_SASL_MECHANISM", Never),
        (34, "ILLEGAL_SASL_STATE", Never),
        (35, "UNSUPPORTED_VERSION", Never),
        (36, "TOPIC_ALREADY_EXISTS", Never),
        (37, "INVALID_PARTITIONS", Never),
        (38, "INVALID_REPLICATION_FACTOR", Never),
        (39, "INVALID_REPLICA_ASSIGNMENT", Never),
        (40, "INVALID_CONFIG", Never),
        (41, "NOT_CONTROLLER", AfterMetadata),
        (42, "INVALID_REQUEST", Never),
        (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Never),
        (44, "POLICY_VIOLATION", Never),
        (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Fatal),
        (46, "DUPLICATE_SEQUENCE_NUMBER", Never),
        (47, "INVALID_PRODUCER_EPOCH", Fatal),
        (48, "INVALID_TXN_STATE", Fatal),
        (49, "INVALID_PRODUCER_ID_MAPPING", Fatal),
        (50, "INVALID_TRANSACTION_TIMEOUT", Never),
        (51, "CONCURRENT_TRANSACTIONS", Again),
        (52, "TRANSACTION_COORDINATOR_FENCED", Fatal),
        (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Never),
        (54, "SECURITY_DISABLED", Never),
        (55, "OPERATION_NOT_ATTEMPTED", Never),
        (56, "KAFKA_STORAGE_ERROR", AfterMetadata),
        (57, "LOG_DIR_NOT_FOUND", Never),
        (58, "SASL_AUTHENTICATION_FAILED", Never),
        (59, "UNKNOWN_PRODUCER_ID", Fatal),
        (60, "REASSIGNMENT_IN_PROGRESS", Never),
        (61, "DELEGATION_TOKEN_AUTH_DISABLED", Never),
        (62, "DELEGATION_TOKEN_NOT_FOUND", Never),
        (63, "DELEGATION_TOKEN_OWNER_MISMATCH", Never),
        (64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", Never),
        (65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", Never),
        (66, "DELEGATION_TOKEN_EXPIRED", Never),
        (67, "INVALID_PRINCIPAL_TYPE", Never),
        (68, "NON_EMPTY_GROUP", Never),
        (69, "GROUP_ID_NOT_FOUND", Never),
        (70, "FETCH_SESSION_ID_NOT_FOUND", Again),
        (71, "INVALID_FETCH_SESSION_EPOCH", Again),
        (72, "LISTENER_NOT_FOUND", AfterMetadata),
        (73, "TOPIC_DELETION_DISABLED", Never),
        (74, "FENCED_LEADER_EPOCH", AfterMetadata),
        (75, "UNKNOWN_LEADER_EPOCH", AfterMetadata),
        (76, "UNSUPPORTED_COMPRESSION_TYPE", Never),
        (77, "STALE_BROKER_EPOCH", Never),
        (78, "OFFSET_NOT_AVAILABLE", Again),
        (79, "MEMBER_ID_REQUIRED", AfterJoin),
        (80, "PREFERRED_LEADER_NOT_AVAILABLE", AfterMetadata),
        (81, "GROUP_MAX_SIZE_REACHED", Never),
        (82, "FENCED_INSTANCE_ID", Fatal),
        (83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", AfterMetadata),
        (84, "ELECTION_NOT_NEEDED", Never),
        (85, "NO_REASSIGNMENT_IN_PROGRESS", Never),
        (86, "GROUP_SUBSCRIBED_TO_TOPIC", Never),
        (87, "INVALID_RECORD", Never),
        (88, "UNSTABLE_OFFSET_COMMIT", Again),
        (89, "THROTTLING_QUOTA_EXCEEDED", Again),
        (90, "PRODUCER_FENCED", Fatal),
        (91, "RESOURCE_NOT_FOUND", Never),
        (92, "DUPLICATE_RESOURCE", Never),
        (93, "UNACCEPTABLE_CREDENTIAL", Never),
        (94, "INCONSISTENT_VOTER_SET", Never),
        (95, "INVALID_UPDATE_VERSION", Never),
        (96, "FEATURE_UPDATE_FAILED", Never),
        (97, "PRINCIPAL_DESERIALIZATION_FAILURE", Never),
        (98, "SNAPSHOT_NOT_FOUND", Never),
        (99, "POSITION_OUT_OF_RANGE", Never),
        (100, "UNKNOWN_TOPIC_ID", AfterMetadata),
        (101, "DUPLICATE_BROKER_REGISTRATION", Never),
        (102, "BROKER_ID_NOT_REGISTERED", Never),
        (103, "INCONSISTENT_TOPIC_ID", AfterMetadata),
        (104, "INCONSISTENT_CLUSTER_ID", Never),
        (105, "TRANSACTIONAL_ID_NOT_FOUND", Never),
        (106, "FETCH_SESSION_TOPIC_ID_ERROR", Again),
        (107, "INELIGIBLE_REPLICA", Never),
        (108, "NEW_LEADER_ELECTED", Never),
        (109, "OFFSET_MOVED_TO_TIERED_STORAGE", Never),
        (110, "FENCED_MEMBER_EPOCH", AfterJoin),
        (111, "UNRELEASED_INSTANCE_ID", Never),
        (112, "UNSUPPORTED_ASSIGNOR", Never),
        (113, "STALE_MEMBER_EPOCH", Never),
        (114, "MISMATCHED_ENDPOINT_TYPE", Never),
        (115, "UNSUPPORTED_ENDPOINT_TYPE", Never),
        (116, "UNKNOWN_CONTROLLER_ID", Never),
        (117, "UNKNOWN_SUBSCRIPTION_ID", Never),
        (118, "TELEMETRY_TOO_LARGE", Never),
        (119, "INVALID_REGISTRATION", Never),
        (120, "TRANSACTION_ABORTABLE", Never),
        (121, "INVALID_RECORD_STATE", Never),
        (122, "SHARE_SESSION_NOT_FOUND", Again),
        (123, "INVALID_SHARE_SESSION_EPOCH", Again),
        (124, "FENCED_STATE_EPOCH", Fatal),
        (125, "INVALID_VOTER_KEY", Never),
        (126, "DUPLICATE_VOTER", Never),
        (127, "VOTER_NOT_FOUND", Never),
        (128, "INVALID_REGULAR_EXPRESSION", Never),
        (129, "REBOOTSTRAP_REQUIRED", AfterMetadata),
        (130, "STREAMS_INVALID_TOPOLOGY", Never),
        (131, "STREAMS_INVALID_TOPOLOGY_EPOCH", Never),
        (132, "STREAMS_TOPOLOGY_FENCED", Never),
        (133, "SHARE_SESSION_LIMIT_REACHED", Again),
        (134, "GROUP_DELETION_FAILED", Never),
        (135, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", Never),
        (136, "CONTROLLER_ID_NOT_REGISTERED", Never),
    ]
};

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

impl ErrorCode {
    /// -1: the broker cannot say what is wrong.
    pub const UNKNOWN_SERVER_ERROR: Self = Self(-1);
    /// 3: the broker does not know the topic or partition, or may not tell.
    pub const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    /// 7: not within the time that the request gave.
    pub const REQUEST_TIMED_OUT: Self = Self(7);
    /// 10: larger than the topic's or broker's limit.
    pub const MESSAGE_TOO_LARGE: Self = Self(10);
    /// 18: the batch is larger than a segment.
    pub const RECORD_LIST_TOO_LARGE: Self = Self(18);
    /// 22: the group is in another generation than the member.
    pub const ILLEGAL_GENERATION: Self = Self(22);
    /// 25: the coordinator does not know the member, or not any more.
    pub const UNKNOWN_MEMBER_ID: Self = Self(25);
    /// 26: outside of what the brokers allow.
    pub const INVALID_SESSION_TIMEOUT: Self = Self(26);
    /// 27: the group is on its way to another generation.
    pub const REBALANCE_IN_PROGRESS: Self = Self(27);
    /// 29: the proxy's principal may not use the topic.
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    /// 30: nor the group.
    pub const GROUP_AUTHORIZATION_FAILED: Self = Self(30);
    /// 31: nor the cluster.
    pub const CLUSTER_AUTHORIZATION_FAILED: Self = Self(31);
    /// 36: somebody has made it.
    pub const TOPIC_ALREADY_EXISTS: Self = Self(36);
    /// 38: there are not as many brokers.
    pub const INVALID_REPLICATION_FACTOR: Self = Self(38);
    /// 42: not as the broker expects it.
    pub const INVALID_REQUEST: Self = Self(42);
    /// 68: a group has members where it must have none.
    pub const NON_EMPTY_GROUP: Self = Self(68);
    /// 69: there is no such group, or it is one of another type.
    pub const GROUP_ID_NOT_FOUND: Self = Self(69);
    /// 79: join again with the member id that comes with this (KIP-394).
    pub const MEMBER_ID_REQUIRED: Self = Self(79);
    /// 82: another member has taken the `group.instance.id` (KIP-345).
    pub const FENCED_INSTANCE_ID: Self = Self(82);
    /// 89: a quota of the cluster.
    pub const THROTTLING_QUOTA_EXCEEDED: Self = Self(89);
    /// 100: no topic has this id, as far as the broker knows (KIP-516).
    pub const UNKNOWN_TOPIC_ID: Self = Self(100);
    /// 110: the member's epoch is not the coordinator's (KIP-848).
    pub const FENCED_MEMBER_EPOCH: Self = Self(110);
    /// 121: a record is not acquired by the member that acknowledges it (KIP-932).
    pub const INVALID_RECORD_STATE: Self = Self(121);
    /// 129: the client should begin again with its bootstrap servers (KIP-1102).
    pub const REBOOTSTRAP_REQUIRED: Self = Self(129);

    /// The number.
    pub fn code(self) -> i16 {
        self.0
    }

    /// Whether it is 0.
    pub fn is_ok(self) -> bool {
        self.0 == 0
    }

    fn row(self) -> Option<&'static (i16, &'static str, Retry)> {
        usize::try_from(i32::from(self.0) + 1).ok().and_then(|at| TABLE.get(at))
    }

    /// Whether the broker does not know the fetch session as we do (KIP-227): the next fetch must be a full one.
    pub fn is_fetch_session(self) -> bool {
        matches!(self.0, 70 | 71 | 106)
    }

    /// Whether an acknowledgement speaks of a record that is not the member's any more (KIP-932): it has not gone wrong with the others.
    pub fn is_of_records(self) -> bool {
        matches!(self, Self::INVALID_RECORD_STATE | Self::INVALID_REQUEST)
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN_ERROR_CODE", |row| row.1)
    }

    /// What to do about it.
    pub fn retry(self) -> Retry {
        self.row().map_or(Retry::Never, |row| row.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_without_a_gap() {
        for (at, (code, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(i32::from(*code), at as i32 - 1, "{name}");
            assert_eq!(ErrorCode::from(*code).name(), *name);
        }
        assert_eq!(ErrorCode::from(30_000).retry(), Retry::Never);
        assert_eq!(ErrorCode::from(-2).name(), "UNKNOWN_ERROR_CODE");
    }
}
