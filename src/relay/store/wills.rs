//! Wills of stored sessions on their way into Kafka: by the pairs that their sessions have written down, so that nobody sends them twice.
//! One that is to be retained is over when both its records are there, as a PUBLISH is (`once`).

use std::sync::Arc;

use super::{Around, fitting::fitting, once};
use crate::{
    audit::cut,
    kafka::{Header, RecordFields, error::ErrorCode},
    mapping::{DeadLetter, Draft, Failure, Inbound, PartitionChoice, RuleId, Stage, partition_for_key},
    mqtt::{Publish, PublishProperties, UserProperties, publish::SharedProperties},
    ownership::{Outcome, Pair, StoredWill, Targets},
    relay::{
        hub::stored_source,
        inbound::{inbound, now_ms},
        retained::{Job, Retained},
        routing::routed,
    },
    upstream::{AppendError, Fate, Located, Outcome as Written, Single, Topic, TopicState, WriteOptions},
};

/// Where one record of a will goes: its number in the draft, topic and partition.
type Place = (usize, Arc<Topic>, i32);

/// Where a will goes by the rules; nowhere if no rule maps it any more.
pub(super) async fn targets(around: &Around, client: &str, will: &StoredWill) -> Targets {
    let user = user_properties(will);
    let publish = publish(will, user.as_bytes());
    let inbound = inbound(&publish, publish.topic, client, will.identity.as_deref(), now_ms());
    let mut draft = Draft::new();
    if routed(&around.rules, around.tables(), &inbound, &mut draft).await.is_err() {
        tracing::warn!(
            client = &*cut(client),
            topic = &*cut(&will.topic),
            "no rule maps a will any more: it is dropped"
        );
        return Targets::new();
    }
    let (places, lost) = places(around, &draft, &inbound).await;
    let unmappable = draft
        .dead_letters()
        .iter()
        .map(|refusal| (refusal.rule, None, Failure::from(*refusal)));
    for (rule, topic, failure) in unmappable.chain(lost) {
        let letter = DeadLetter::copy(&around.rules, rule, &inbound, topic.as_deref());
        bury(around, client, &letter, failure).await;
    }
    places
        .iter()
        .map(|(_, topic, partition)| stored_source(topic, *partition))
        .collect()
}

/// Produces one of the records of a will by its pair, wherever the rules of the moment want it: the pair says where it goes.
pub(super) async fn produce(around: &Around, client: &str, will: &StoredWill, index: usize, pairs: &[Pair]) -> Outcome {
    let Some(pair) = pairs.get(index) else { return Outcome::Unknown };
    let user = user_properties(will);
    let publish = publish(will, user.as_bytes());
    let inbound = inbound(&publish, publish.topic, client, will.identity.as_deref(), now_ms());
    let mut draft = Draft::new();
    if routed(&around.rules, around.tables(), &inbound, &mut draft).await.is_err() || draft.is_empty() {
        tracing::error!(
            client = &*cut(client),
            topic = &*cut(&will.topic),
            "the rules make nothing of a will any more: it is dropped"
        );
        return Outcome::Refused;
    }
    let (topic, to) = match around.cluster.partition_by_id(&pair.source.topic, pair.source.partition).await {
        Located::Here(topic, to) => (topic, to),
        Located::Gone => {
            tracing::error!(
                client = &*cut(client),
                topic = &*cut(&will.topic),
                "the Kafka topic of a will is gone: the will is dropped"
            );
            return Outcome::Refused;
        }
        Located::Unknown => return Outcome::Unknown,
    };
    let Some((record, is_mapped)) = record_of(around, &draft, &inbound, pairs, index).await else {
        tracing::info!(
            client = &*cut(client),
            topic = &*cut(&will.topic),
            "a will makes fewer records than before: those are done with"
        );
        return Outcome::Skipped;
    };
    let rule = around.rules.rule(draft.rule(record));
    let fields = draft.fields(record, &around.rules, &inbound);
    let options = WriteOptions {
        compression: rule.compression,
        ..WriteOptions::default()
    };
    let single = match sealed(around, &fields, options).await {
        Ok(single) => single,
        Err(outcome) => return outcome,
    };
    // A will has a producer id of its own: where it is refused, no sequence is used again, whatever became of an earlier attempt.
    match around.cluster.produce_single(&single, &to, &once::stamp(pair), false).await {
        Fate::Appended { offset, timestamp } => {
            drop(single);
            // Of what the rules do not map any more nothing is retained.
            let keeper = around
                .retained
                .as_ref()
                .filter(|_| will.retain && is_mapped && rule.keeps_retained());
            let Some(keeper) = keeper else { return Outcome::Appended };
            let mut memory = Vec::new();
            let payload = around.rules.payload_of_own(draft.rule(record), fields.value, &inbound, &mut memory);
            let job = Job::copy(&will.topic, &fields, payload, &topic, None);
            retain(keeper, client, &job, (to.index(), offset), timestamp).await
        }
        Fate::Gap => Outcome::Gap,
        // A will goes on under no other epoch: somebody else has the say.
        Fate::Fenced | Fate::Unknown => Outcome::Unknown,
        Fate::Refused(error) => {
            let letter = rule.dead_letter.as_ref();
            let letter = letter.map(|_| DeadLetter::copy(&around.rules, draft.rule(record), &inbound, Some(&topic.name)));
            drop(single);
            refused(around, client, letter.as_ref(), error).await
        }
    }
}

/// Which record of a will goes by one of its pairs, and whether the rules want it in the same topic.
async fn record_of(around: &Around, draft: &Draft, inbound: &Inbound<'_>, pairs: &[Pair], index: usize) -> Option<(usize, bool)> {
    let (places, _) = places(around, draft, inbound).await;
    let mut topics = vec![None; draft.len()];
    for (record, topic, _) in &places {
        topics[*record] = Some(*topic.id.as_bytes());
    }
    let record = fitting(pairs, &topics).get(index).copied().flatten()?;
    Some((record, topics[record] == Some(pairs[index].source.topic)))
}

/// A record by itself. Waits for memory.
async fn sealed<'a, H>(around: &Around, fields: &RecordFields<'a, H>, options: WriteOptions) -> Result<Single, Outcome>
where
    H: Iterator<Item = Header<'a>> + Clone,
{
    let mut appender = around.cluster.appender();
    loop {
        match appender.single(fields, options) {
            Ok(single) => return Ok(single),
            Err(AppendError::MemoryFull) => appender.memory_available().await,
            Err(AppendError::Closed) => return Err(Outcome::Unknown),
            Err(AppendError::TooLarge | AppendError::NoPartition) => return Err(Outcome::Refused),
        }
    }
}

/// Retains a will whose first record is there. A refusal changes nothing of that.
async fn retain(keeper: &Retained, client: &str, job: &Job, place: (i32, i64), timestamp: Option<i64>) -> Outcome {
    let (outcome, code) = once::retain(keeper, job, place, timestamp).await;
    if outcome != Outcome::Refused {
        return outcome;
    }
    let (topic, error) = (job.topic(), code.map(ErrorCode::name));
    tracing::error!(
        client = &*cut(client),
        topic = &*cut(topic),
        error,
        "Kafka refuses to retain a will: it was sent, but is not retained"
    );
    Outcome::Appended
}

/// A will that Kafka refuses: it is over, unless nobody knows whether its dead letter is stored.
async fn refused(around: &Around, client: &str, letter: Option<&DeadLetter>, error: ErrorCode) -> Outcome {
    let (stage, why) = (Stage::Produce, error.name());
    let Some(letter) = letter else {
        tracing::error!(client = &*cut(client), error = why, "Kafka refuses a will: it is dropped");
        return Outcome::Refused;
    };
    match bury(around, client, letter, Failure { stage, why }).await {
        // The whole is done again, by the same pair.
        Written::Unknown | Written::Expired { .. } => Outcome::Unknown,
        Written::Stored { .. } | Written::Refused(_) => Outcome::Refused,
    }
}

/// Stores a will, or a record of it, in the dead letter topic of its rule.
async fn bury(around: &Around, client: &str, letter: &DeadLetter, failure: Failure) -> Written {
    let Some(letters) = &around.dead_letters else {
        return Written::Unknown;
    };
    let outcome = letters.bury(letter, None, failure).await;
    if !matches!(outcome, Written::Stored { .. }) {
        tracing::error!(
            client = &*cut(client),
            reason = failure.why,
            ?outcome,
            "a will cannot be stored, nor its dead letter"
        );
    }
    outcome
}

/// A record of a will that has no place, for the dead letter topic of its rule: of which rule, for which Kafka topic, and why.
type Lost = (RuleId, Option<String>, Failure);

/// Places of all records whose topics exist and are not the proxy's own, in the order of the draft; and those that have none, of rules with
/// a dead letter topic.
async fn places(around: &Around, draft: &Draft, inbound: &Inbound<'_>) -> (Vec<Place>, Vec<Lost>) {
    let (mut places, mut lost) = (Vec::with_capacity(draft.len()), Vec::new());
    for record in 0..draft.len() {
        let (id, name) = (draft.rule(record), draft.kafka_topic(record, &around.rules));
        let mut lose = |why| {
            let stage = Stage::Produce;
            let has_letters = around.rules.rule(id).dead_letter.is_some();
            lost.extend(has_letters.then(|| (id, Some(name.to_owned()), Failure { stage, why })));
        };
        // CONNECT refuses such a will; where its rule skips what is refused, or has changed since, it comes until here.
        if around.settings.state_topics.iter().any(|own| own == name) {
            tracing::warn!(
                client = &*cut(inbound.client),
                topic = name,
                "a will would be written to the proxy's own state: its record is dropped"
            );
            lose("state_topic");
            continue;
        }
        let TopicState::Ready(topic) = around.cluster.topic_known(name).await else {
            tracing::error!(
                client = &*cut(inbound.client),
                topic = name,
                "the Kafka topic of a will does not exist: its record is dropped"
            );
            lose("no_such_topic");
            continue;
        };
        let partition = match draft.partition(record, &around.rules, inbound, topic.partitions.len() as u32) {
            Ok(PartitionChoice::Index(index)) => index.cast_signed(),
            // Wills are rare: no turn is kept for them, and each instance that sends one again has to choose the same.
            Ok(PartitionChoice::RoundRobin | PartitionChoice::Sticky) => {
                partition_for_key(inbound.client.as_bytes(), topic.partitions.len() as u32).cast_signed()
            }
            Err(refusal) => {
                lose(refusal.reason.as_str());
                continue;
            }
        };
        places.push((record, topic, partition));
    }
    (places, lost)
}

fn user_properties(will: &StoredWill) -> SharedProperties {
    let mut user = SharedProperties::new();
    for (name, value) in &will.user {
        user.user(name, value);
    }
    user
}

/// The PUBLISH that a will stands for.
fn publish<'a>(will: &'a StoredWill, user: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: will.qos,
        retain: will.retain,
        topic: &will.topic,
        packet_id: None,
        properties: PublishProperties {
            payload_format: will.payload_format,
            message_expiry_interval: will.expiry,
            topic_alias: None,
            response_topic: will.response_topic.as_deref(),
            correlation_data: will.correlation_data.as_deref(),
            subscription_ids: Default::default(),
            content_type: will.content_type.as_deref(),
            user: UserProperties { block: user },
        },
        payload: &will.payload,
    }
}
