//! Wills of stored sessions on their way into Kafka: by the pairs that their sessions have written down, so that nobody sends them twice.
//! One that is to be retained is over when both its records are there, as a PUBLISH is (`once`).

use std::sync::Arc;

use super::{Around, once};
use crate::{
    kafka::error::ErrorCode,
    mapping::{DeadLetter, Draft, Failure, Inbound, PartitionChoice, RuleId, Stage},
    mqtt::{Publish, PublishProperties, UserProperties, publish::SharedProperties},
    ownership::{Outcome, Pair, StoredWill, Targets},
    relay::{
        hub::stored_source,
        inbound::{inbound, now_ms},
        retained::Job,
        routing::routed,
    },
    upstream::{AppendError, Fate, Outcome as Written, Topic, TopicState, WriteOptions},
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
        tracing::warn!(client, topic = will.topic, "no rule maps a will any more: it is dropped");
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

/// Produces one of the records of a will by its pair.
pub(super) async fn produce(around: &Around, client: &str, will: &StoredWill, index: usize, pair: Pair) -> Outcome {
    let user = user_properties(will);
    let publish = publish(will, user.as_bytes());
    let inbound = inbound(&publish, publish.topic, client, will.identity.as_deref(), now_ms());
    let mut draft = Draft::new();
    if routed(&around.rules, around.tables(), &inbound, &mut draft).await.is_err() {
        return Outcome::Refused;
    }
    let (places, _) = places(around, &draft, &inbound).await;
    // The pair says where it goes. The rules may have become others since; what they say of that topic now is written there.
    let fits = |place: &&Place| *place.1.id.as_bytes() == pair.source.topic;
    let place = places.get(index).filter(fits).or_else(|| places.iter().find(fits));
    let Some((record, topic, _)) = place else {
        tracing::error!(client, topic = will.topic, "the Kafka topic of a will is gone: the will is dropped");
        return Outcome::Refused;
    };
    let Some(to) = topic.partitions.get(pair.source.partition as usize) else {
        return Outcome::Refused;
    };
    let rule = around.rules.rule(draft.rule(*record));
    let fields = draft.fields(*record, &around.rules, &inbound);
    let options = WriteOptions {
        compression: rule.compression,
        ..WriteOptions::default()
    };
    let mut appender = around.cluster.appender();
    let single = loop {
        match appender.single(&fields, options) {
            Ok(single) => break single,
            Err(AppendError::MemoryFull) => appender.memory_available().await,
            Err(AppendError::Closed) => return Outcome::Unknown,
            Err(AppendError::TooLarge | AppendError::NoPartition) => return Outcome::Refused,
        }
    };
    drop(appender);
    // A will has a producer id of its own: where it is refused, no sequence is used again, whatever became of an earlier attempt.
    match around.cluster.produce_single(&single, to, &once::stamp(&pair), false).await {
        Fate::Appended { offset, timestamp } => {
            drop(single);
            let keeper = around.retained.as_ref().filter(|_| will.retain && rule.keeps_retained());
            let Some(keeper) = keeper else { return Outcome::Appended };
            let mut memory = Vec::new();
            let payload = around
                .rules
                .payload_of_own(draft.rule(*record), fields.value, &inbound, &mut memory);
            let job = Job::copy(&will.topic, &fields, payload, topic, None);
            match once::retain(keeper, &job, (to.index(), offset), timestamp).await {
                (Outcome::Refused, code) => {
                    let error = code.map(ErrorCode::name);
                    tracing::error!(
                        client,
                        topic = will.topic,
                        error,
                        "Kafka refuses to retain a will: it was sent, but is not retained"
                    );
                    Outcome::Appended
                }
                (outcome, _) => outcome,
            }
        }
        Fate::Gap => Outcome::Gap,
        Fate::Unknown => Outcome::Unknown,
        Fate::Refused(error) => {
            let letter = rule.dead_letter.as_ref();
            let letter = letter.map(|_| DeadLetter::copy(&around.rules, draft.rule(*record), &inbound, Some(&topic.name)));
            drop(single);
            refused(around, client, letter.as_ref(), error).await
        }
    }
}

/// A will that Kafka refuses: it is over, unless nobody knows whether its dead letter is stored.
async fn refused(around: &Around, client: &str, letter: Option<&DeadLetter>, error: ErrorCode) -> Outcome {
    let (stage, why) = (Stage::Produce, error.name());
    let Some(letter) = letter else {
        tracing::error!(client, error = why, "Kafka refuses a will: it is dropped");
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
            client,
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
                client = inbound.client,
                topic = name,
                "a will would be written to the proxy's own state: its record is dropped"
            );
            lose("state_topic");
            continue;
        }
        let TopicState::Ready(topic) = around.cluster.topic_known(name).await else {
            tracing::error!(
                client = inbound.client,
                topic = name,
                "the Kafka topic of a will does not exist: its record is dropped"
            );
            lose("no_such_topic");
            continue;
        };
        let partition = match draft.partition(record, &around.rules, inbound, topic.partitions.len() as u32) {
            Ok(PartitionChoice::Index(index)) => index.cast_signed(),
            // Wills are rare: no turn is kept for them.
            Ok(PartitionChoice::RoundRobin | PartitionChoice::Sticky) => 0,
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
