//! The error table against Apache Kafka 4.4.0 itself: every code of its `Errors`, by name and by what its own client does about it.

use mqtt_kafka_proxy::kafka::error::{ErrorCode, Retry};

/// Written out by a program over the broker's `org.apache.kafka.common.protocol.Errors`: `metadata` is an `InvalidMetadataException`
/// (the client asks for fresh metadata and tries again), `retriable` another `RetriableException`, `never` is neither.
const KAFKA_4_4: &[(i16, &str, Java)] = {
    use Java::{Metadata, Never, Ok, Retriable};
    &[
        (-1, "UNKNOWN_SERVER_ERROR", Never),
        (0, "NONE", Ok),
        (1, "OFFSET_OUT_OF_RANGE", Never),
        (2, "CORRUPT_MESSAGE", Retriable),
        (3, "UNKNOWN_TOPIC_OR_PARTITION", Metadata),
        (4, "INVALID_FETCH_SIZE", Never),
        (5, "LEADER_NOT_AVAILABLE", Metadata),
        (6, "NOT_LEADER_OR_FOLLOWER", Metadata),
        (7, "REQUEST_TIMED_OUT", Retriable),
        (8, "BROKER_NOT_AVAILABLE", Never),
        (9, "REPLICA_NOT_AVAILABLE", Metadata),
        (10, "MESSAGE_TOO_LARGE", Never),
        (11, "STALE_CONTROLLER_EPOCH", Never),
        (12, "OFFSET_METADATA_TOO_LARGE", Never),
        (13, "NETWORK_EXCEPTION", Metadata),
        (14, "COORDINATOR_LOAD_IN_PROGRESS", Retriable),
        (15, "COORDINATOR_NOT_AVAILABLE", Retriable),
        (16, "NOT_COORDINATOR", Retriable),
        (17, "INVALID_TOPIC_EXCEPTION", Never),
        (18, "RECORD_LIST_TOO_LARGE", Never),
        (19, "NOT_ENOUGH_REPLICAS", Retriable),
        (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Retriable),
        (21, "INVALID_REQUIRED_ACKS", Never),
        (22, "ILLEGAL_GENERATION", Never),
        (23, "INCONSISTENT_GROUP_PROTOCOL", Never),
        (24, "INVALID_GROUP_ID", Never),
        (25, "UNKNOWN_MEMBER_ID", Never),
        (26, "INVALID_SESSION_TIMEOUT", Never),
        (27, "REBALANCE_IN_PROGRESS", Never),
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
        (41, "NOT_CONTROLLER", Retriable),
        (42, "INVALID_REQUEST", Never),
        (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Never),
        (44, "POLICY_VIOLATION", Never),
        (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Never),
        (46, "DUPLICATE_SEQUENCE_NUMBER", Never),
        (47, "INVALID_PRODUCER_EPOCH", Never),
        (48, "INVALID_TXN_STATE", Never),
        (49, "INVALID_PRODUCER_ID_MAPPING", Never),
        (50, "INVALID_TRANSACTION_TIMEOUT", Never),
        (51, "CONCURRENT_TRANSACTIONS", Retriable),
        (52, "TRANSACTION_COORDINATOR_FENCED", Never),
        (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Never),
        (54, "SECURITY_DISABLED", Never),
        (55, "OPERATION_NOT_ATTEMPTED", Never),
        (56, "KAFKA_STORAGE_ERROR", Metadata),
        (57, "LOG_DIR_NOT_FOUND", Never),
        (58, "SASL_AUTHENTICATION_FAILED", Never),
        (59, "UNKNOWN_PRODUCER_ID", Never),
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
        (70, "FETCH_SESSION_ID_NOT_FOUND", Retriable),
        (71, "INVALID_FETCH_SESSION_EPOCH", Retriable),
        (72, "LISTENER_NOT_FOUND", Metadata),
        (73, "TOPIC_DELETION_DISABLED", Never),
        (74, "FENCED_LEADER_EPOCH", Metadata),
        (75, "UNKNOWN_LEADER_EPOCH", Retriable),
        (76, "UNSUPPORTED_COMPRESSION_TYPE", Never),
        (77, "STALE_BROKER_EPOCH", Never),
        (78, "OFFSET_NOT_AVAILABLE", Retriable),
        (79, "MEMBER_ID_REQUIRED", Never),
        (80, "PREFERRED_LEADER_NOT_AVAILABLE", Metadata),
        (81, "GROUP_MAX_SIZE_REACHED", Never),
        (82, "FENCED_INSTANCE_ID", Never),
        (83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", Metadata),
        (84, "ELECTION_NOT_NEEDED", Metadata),
        (85, "NO_REASSIGNMENT_IN_PROGRESS", Never),
        (86, "GROUP_SUBSCRIBED_TO_TOPIC", Never),
        (87, "INVALID_RECORD", Never),
        (88, "UNSTABLE_OFFSET_COMMIT", Retriable),
        (89, "THROTTLING_QUOTA_EXCEEDED", Retriable),
        (90, "PRODUCER_FENCED", Never),
        (91, "RESOURCE_NOT_FOUND", Never),
        (92, "DUPLICATE_RESOURCE", Never),
        (93, "UNACCEPTABLE_CREDENTIAL", Never),
        (94, "INCONSISTENT_VOTER_SET", Never),
        (95, "INVALID_UPDATE_VERSION", Never),
        (96, "FEATURE_UPDATE_FAILED", Never),
        (97, "PRINCIPAL_DESERIALIZATION_FAILURE", Never),
        (98, "SNAPSHOT_NOT_FOUND", Never),
        (99, "POSITION_OUT_OF_RANGE", Never),
        (100, "UNKNOWN_TOPIC_ID", Metadata),
        (101, "DUPLICATE_BROKER_REGISTRATION", Never),
        (102, "BROKER_ID_NOT_REGISTERED", Never),
        (103, "INCONSISTENT_TOPIC_ID", Metadata),
        (104, "INCONSISTENT_CLUSTER_ID", Never),
        (105, "TRANSACTIONAL_ID_NOT_FOUND", Never),
        (106, "FETCH_SESSION_TOPIC_ID_ERROR", Retriable),
        (107, "INELIGIBLE_REPLICA", Never),
        (108, "NEW_LEADER_ELECTED", Never),
        (109, "OFFSET_MOVED_TO_TIERED_STORAGE", Never),
        (110, "FENCED_MEMBER_EPOCH", Never),
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
        (122, "SHARE_SESSION_NOT_FOUND", Retriable),
        (123, "INVALID_SHARE_SESSION_EPOCH", Retriable),
        (124, "FENCED_STATE_EPOCH", Never),
        (125, "INVALID_VOTER_KEY", Never),
        (126, "DUPLICATE_VOTER", Never),
        (127, "VOTER_NOT_FOUND", Never),
        (128, "INVALID_REGULAR_EXPRESSION", Never),
        (129, "REBOOTSTRAP_REQUIRED", Never),
        (130, "STREAMS_INVALID_TOPOLOGY", Never),
        (131, "STREAMS_INVALID_TOPOLOGY_EPOCH", Never),
        (132, "STREAMS_TOPOLOGY_FENCED", Never),
        (133, "SHARE_SESSION_LIMIT_REACHED", Retriable),
        (134, "GROUP_DELETION_FAILED", Never),
        (135, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", Never),
        (136, "CONTROLLER_ID_NOT_REGISTERED", Never),
    ]
};

/// What Kafka's own client makes of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Java {
    Ok,
    Metadata,
    Retriable,
    Never,
}

/// Where this proxy does otherwise, and why.
const OTHERWISE: &[(i16, Retry)] = &[
    // Nothing says that it lasts; the batch keeps its sequence, so trying again cannot double it. `delivery_timeout` ends it.
    (-1, Retry::Again),
    // A broker that is not there is found again, or another leads, by fresh metadata.
    (8, Retry::AfterMetadata),
    // The Java client looks for the coordinator in its own code, whatever the class of the exception.
    (15, Retry::AfterCoordinator),
    (16, Retry::AfterCoordinator),
    // The controller is found in metadata; the Java client's admin does the same in its own code.
    (41, Retry::AfterMetadata),
    // The leader does not know the epoch yet, or our metadata is ahead of it: asked for again either way.
    (75, Retry::AfterMetadata),
    // An answer to an election that an administrator asks for; the proxy never does.
    (84, Retry::Never),
    // The cluster asks the client to begin again with its bootstrap servers (KIP-1102).
    (129, Retry::AfterMetadata),
];

#[test]
fn every_code_of_kafka_has_its_name() {
    for (code, name, _) in KAFKA_4_4 {
        assert_eq!(ErrorCode::from(*code).name(), *name, "{code}");
    }
    let newest = KAFKA_4_4.last().unwrap().0;
    assert_eq!(KAFKA_4_4.len(), newest as usize + 2, "the list has a gap");
    for unknown in [newest + 1, 1_000, i16::MAX, -2, i16::MIN] {
        let code = ErrorCode::from(unknown);
        assert_eq!(
            (code.name(), code.retry(), code.code()),
            ("UNKNOWN_ERROR_CODE", Retry::Never, unknown)
        );
    }
}

#[test]
fn every_class_is_that_of_kafkas_own_client_or_says_why_not() {
    for (code, name, java) in KAFKA_4_4 {
        let ours = ErrorCode::from(*code).retry();
        let as_java = match java {
            Java::Ok => ours == Retry::None,
            Java::Metadata => ours == Retry::AfterMetadata,
            Java::Retriable => ours == Retry::Again,
            Java::Never => matches!(ours, Retry::Never | Retry::Fatal | Retry::AfterJoin),
        };
        match OTHERWISE.iter().find(|(c, _)| c == code) {
            Some((_, why)) => {
                assert_eq!(ours, *why, "{name}");
                assert!(!as_java, "{name} is as Kafka has it: it needs no row of its own");
            }
            None => assert!(as_java, "{name}: {ours:?}, but Kafka's own client: {java:?}"),
        }
    }
}

#[test]
fn the_generated_client_knows_no_code_that_is_not_in_the_table() {
    for code in i16::MIN..=i16::MAX {
        let Some(theirs) = kafka_protocol::ResponseError::try_from_code(code) else {
            continue;
        };
        if matches!(theirs, kafka_protocol::ResponseError::Unknown(_)) {
            continue;
        }
        let ours = ErrorCode::from(code).name();
        assert_ne!(ours, "UNKNOWN_ERROR_CODE", "{code}: {theirs:?}");
        let (ours, theirs) = (ours.replace('_', "").to_lowercase(), format!("{theirs:?}").to_lowercase());
        assert!(
            theirs.starts_with(&ours) || ours.starts_with(&theirs),
            "{code}: {ours} and {theirs}"
        );
    }
}

/// The codes that Kafka's documentation gives for Produce, Fetch, ListOffsets, Metadata and InitProducerId, each with the one right answer.
#[test]
fn what_produce_fetch_and_metadata_answer_has_its_class() {
    use Retry::{AfterCoordinator, AfterMetadata, Again, Fatal, Never};
    let classes: &[(Retry, &[i16])] = &[
        // The request again: the partition is short of replicas, the broker busy, damaged in transit, or the fetch session is gone.
        (Again, &[-1, 2, 7, 14, 19, 20, 51, 70, 71, 78, 89, 106]),
        // The leader, the partition or the topic is not where it was: created a moment ago, moved, made anew, disk lost.
        (AfterMetadata, &[3, 5, 6, 8, 9, 13, 56, 72, 74, 75, 100, 103, 129]),
        (AfterCoordinator, &[15, 16]),
        // The record, the request or the permission is wrong and stays so.
        (
            Never,
            &[1, 4, 10, 17, 18, 21, 29, 31, 32, 35, 42, 43, 44, 53, 58, 76, 87, 107, 109, 116, 120],
        ),
        // The producer's id, epoch or sequence is of no use any more.
        (Fatal, &[45, 47, 48, 49, 52, 59, 90]),
    ];
    for (class, codes) in classes {
        for code in *codes {
            assert_eq!(ErrorCode::from(*code).retry(), *class, "{}", ErrorCode::from(*code).name());
        }
    }
}

/// The codes of FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit and OffsetFetch.
#[test]
fn what_a_groups_coordinator_answers_has_its_class() {
    use Retry::{AfterCoordinator, AfterJoin, Again, Fatal, Never};
    let classes: &[(Retry, &[i16])] = &[
        // It loads its part of the log, or waits for a transaction to end.
        (Again, &[14, 88]),
        // The group has moved to another broker.
        (AfterCoordinator, &[15, 16]),
        // The generation or the member id is over: a new one is had by joining.
        (AfterJoin, &[22, 25, 27, 79]),
        // Settings, permissions or limits: an operator must act.
        (Never, &[12, 23, 24, 26, 28, 29, 30, 81]),
        // Another process lives under the same id: joining again would throw that one out.
        (Fatal, &[82]),
    ];
    for (class, codes) in classes {
        for code in *codes {
            assert_eq!(ErrorCode::from(*code).retry(), *class, "{}", ErrorCode::from(*code).name());
        }
    }
}
