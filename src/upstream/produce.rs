//! Produce requests and what their answers mean; when they are sent is the sender's business.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, BrokerId, ProduceResponse};

use super::{
    accumulator::Answer,
    batches::{BY_ID, Batches, TopicBatches},
    cluster::Core,
    connection::{Call, CallError, Connection, Unanswered},
    topics::Partition,
};
use crate::kafka::{
    Acks,
    error::{ErrorCode, Retry},
};

/// The last version whose layout we send.
const NEWEST_PRODUCE: i16 = 13;

/// One batch in a request.
pub(super) struct Part {
    pub(super) partition: Arc<Partition>,
    pub(super) ordinal: u64,
    /// Empty once it is in a request.
    pub(super) bytes: Bytes,
    /// How often in a row its partition has failed before.
    pub(super) failures: u32,
}

/// What a request on the wire waits for.
pub(super) enum Awaited {
    /// The broker's answer.
    Answer(Call<ProduceResponse>),
    /// Only the socket: the broker does not answer.
    Written(Unanswered),
}

impl Awaited {
    /// The answer, or `None` if it is written and none will come. Cancel-safe.
    pub(super) async fn wait(&mut self) -> Result<Option<ProduceResponse>, CallError> {
        match self {
            Awaited::Answer(call) => call.answer().await.map(Some),
            Awaited::Written(unanswered) => unanswered.written().await.map(|()| None),
        }
    }
}

/// Puts one request with all `parts` on the wire; all of them have the `acks` of the first.
pub(super) fn produce(core: &Core, connection: &Connection, parts: &[Part]) -> Result<Awaited, CallError> {
    let by_id = parts.iter().all(|p| !p.partition.topic_id.is_nil());
    let most = if by_id { NEWEST_PRODUCE } else { BY_ID - 1 };
    let version = connection
        .version(ApiKey::Produce, most)
        .ok_or(CallError::Unsendable("the broker shares no version of Produce"))?;
    let acks = parts.first().map_or(Acks::All, |p| p.partition.acks());
    let timeout = core.settings.request_timeout;
    let request = Batches {
        acks: acks.code(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topics: by_topic(parts),
    };
    // The broker itself gives up after `timeout`; its answer needs a moment more.
    let within = timeout + Duration::from_secs(1);
    match acks {
        Acks::None => connection
            .send_unanswered(ApiKey::Produce, version, &request, within)
            .map(Awaited::Written),
        _ => connection.send(ApiKey::Produce, version, &request, within).map(Awaited::Answer),
    }
}

fn by_topic(parts: &[Part]) -> Vec<TopicBatches<'_>> {
    let mut topics: Vec<TopicBatches<'_>> = Vec::new();
    for part in parts {
        let (name, id) = (&*part.partition.topic, part.partition.topic_id);
        let batch = (part.partition.index, &part.bytes);
        match topics.iter_mut().rev().find(|topic| topic.id == id && topic.name == name) {
            Some(topic) => topic.batches.push(batch),
            None => topics.push(TopicBatches {
                name,
                id,
                batches: vec![batch],
            }),
        }
    }
    topics
}

/// What a broker tells of a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartAnswer {
    pub(super) code: i16,
    /// Of the first record; -1 if not told.
    pub(super) offset: i64,
    /// Of the batch that it has of before, or has given it itself (LogAppendTime); else -1.
    pub(super) timestamp: i64,
    /// Who leads instead, and since which epoch; -1 if not told (KIP-951).
    pub(super) leader: (BrokerId, i32),
}

/// What is told of each of `parts`, if anything is.
pub(super) fn answers_to(parts: &[Part], answer: &ProduceResponse) -> Vec<Option<PartAnswer>> {
    let mut told = vec![None; parts.len()];
    // Answers come mostly in the order of the request, so the search starts behind the last hit.
    let mut hint = 0;
    for topic in &answer.responses {
        for partition in &topic.partition_responses {
            let at = (hint..parts.len()).chain(0..hint).find(|at| {
                let ours = &parts[*at].partition;
                ours.index == partition.index
                    && if topic.name.0.is_empty() {
                        ours.topic_id == topic.topic_id
                    } else {
                        *ours.topic == *topic.name.0
                    }
            });
            let Some(at) = at else { continue };
            told[at].get_or_insert(PartAnswer {
                code: partition.error_code,
                offset: partition.base_offset,
                timestamp: partition.log_append_time_ms,
                leader: (partition.current_leader.leader_id, partition.current_leader.leader_epoch),
            });
            hint = at + 1;
        }
    }
    told
}

/// What an answer means for the batch, and whether the next attempt should wait.
pub(super) fn judge(core: &Core, part: &Part, told: PartAnswer) -> (Answer, bool) {
    let error = ErrorCode::from(told.code);
    if !error.is_ok() {
        core.counters.error(error.name());
    }
    let mut heard = false;
    if error.retry() == Retry::AfterMetadata {
        core.refresh_all(part.failures);
        heard = core.hear_of_leader(&part.partition, told.leader.0, told.leader.1);
    }
    let answer = meaning(error, told.offset);
    (answer, !heard && matches!(answer, Answer::NotStored | Answer::Doubt))
}

/// The class of the code decides, but where an idempotent producer must know more: what was stored, and what its sequence is worth.
pub(super) fn meaning(error: ErrorCode, offset: i64) -> Answer {
    match (error.code(), error.retry()) {
        // DUPLICATE_SEQUENCE_NUMBER: stored by an earlier attempt.
        (0 | 46, _) => Answer::Stored(offset),
        // MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE: parts of it may be taken.
        (10 | 18, _) => Answer::TooLarge(error),
        // INVALID_TIMESTAMP, INVALID_RECORD: of some of its records, as brokers say that validate them (KIP-467).
        (32 | 87, _) => Answer::Unfit(error),
        (45, _) => Answer::OutOfOrder,
        // INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID, PRODUCER_FENCED.
        (47 | 59 | 90, _) => Answer::IdentityDead,
        (_, Retry::None | Retry::Never | Retry::AfterJoin | Retry::Fatal) => Answer::Refused(error),
        (code, _) if surely_not_stored(code) => Answer::NotStored,
        _ => Answer::Doubt,
    }
}

/// Codes of retriable errors that the broker gives only before it appends.
///
/// Most others come in two ways. A leader appends the batch and waits for the replicas; if the partition is taken from it meanwhile, the
/// waiting request is answered 6 NOT_LEADER_OR_FOLLOWER (3 or 100 if the topic was deleted), while its followers, one of which leads now,
/// may have the batch. The same codes refuse a batch that was never looked at, and nothing tells the two apart.
fn surely_not_stored(code: i16) -> bool {
    // CORRUPT_MESSAGE, NOT_ENOUGH_REPLICAS (20 is the one that comes after the append), THROTTLING_QUOTA_EXCEEDED.
    matches!(code, 2 | 19 | 89)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_means_what_its_class_says_or_is_one_of_the_producers_own() {
        for code in -2..200 {
            let error = ErrorCode::from(code);
            let meaning = meaning(error, 7);
            let fits = match error.retry() {
                Retry::None => meaning == Answer::Stored(7),
                Retry::Again | Retry::AfterMetadata | Retry::AfterCoordinator => matches!(meaning, Answer::NotStored | Answer::Doubt),
                Retry::Never | Retry::AfterJoin => match code {
                    46 => meaning == Answer::Stored(7),
                    10 | 18 => meaning == Answer::TooLarge(error),
                    32 | 87 => meaning == Answer::Unfit(error),
                    _ => meaning == Answer::Refused(error),
                },
                Retry::Fatal => match code {
                    45 => meaning == Answer::OutOfOrder,
                    47 | 59 | 90 => meaning == Answer::IdentityDead,
                    _ => meaning == Answer::Refused(error),
                },
            };
            assert!(fits, "{code} {}: {meaning:?}", error.name());
        }
        // Replicas were short, or another leads, after the leader had appended; a time-out and an unknown fault tell nothing either.
        for code in [-1, 3, 6, 7, 13, 20, 56, 74, 75, 100, 103] {
            assert_eq!(meaning(ErrorCode::from(code), 7), Answer::Doubt, "{code}");
        }
    }
}
