//! What a session has open at QoS 2 of shared subscriptions: each is read by its place, since no seat of the session comes by there.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::{
    kafka::fetched,
    mapping::{LocateScratch, MissingSchema, Stored},
    mqtt::{publish::SharedProperties, topic},
    ownership::{Body, Place},
    relay::{
        chunk::{Chunk, ChunkBuilder, SourceId},
        feed::LIMITS,
        hub::Hub,
        lookouts::topics,
        placing::{grown, known},
        scribe::{self, Clock, Making},
    },
    session::SubscriptionKey,
    upstream::{Start, Topic},
};

/// A message that is to be sent once more.
#[derive(Debug)]
pub struct Again {
    /// As it was sent with.
    pub packet: u16,
    /// The subscription that it came by, if the session still has it.
    pub key: Option<SubscriptionKey>,
    /// With its place in the chunk; `None` if it cannot be had any more.
    pub message: Option<(Arc<Chunk>, usize)>,
}

/// All of them that can be known of. One whose topic or partition cannot be seen is left for the next connection. `None`: Kafka did not say in time what there is to know.
pub(super) async fn find(hub: &Arc<Hub>, body: &Body, until: Instant) -> Option<Vec<Again>> {
    let mut all = Vec::new();
    for (&packet, outgoing) in body.steps.outbound.iter().filter(|(_, outgoing)| !outgoing.released) {
        let Some(share) = &outgoing.share else { continue };
        let at = body.subscriptions.iter().position(|subscription| *subscription.filter == **share);
        let message = match topic_of(hub, share, outgoing.place, until).await? {
            Seen::There(topic) => timeout_at(until, read(hub, &topic, outgoing.place)).await.ok()??,
            Seen::Gone => None,
            Seen::Hidden => continue,
        };
        all.push(Again {
            packet,
            key: at.map(|at| SubscriptionKey(at as u32)),
            message: message.map(|chunk| (Arc::new(chunk), 0)),
        });
    }
    Some(all)
}

/// What can be had of a record.
#[derive(Clone, Debug)]
pub enum Found {
    /// Its message alone.
    Message(Arc<Chunk>),
    /// It cannot be had any more.
    Gone,
    /// It cannot be seen, or not in time.
    Unseen,
}

/// The message of a record that may lie in any topic that rules read.
pub async fn find_one(hub: &Arc<Hub>, place: Place, until: Instant) -> Found {
    match topic_of(hub, "#", place, until).await {
        Some(Seen::There(topic)) => match timeout_at(until, read(hub, &topic, place)).await {
            Ok(Some(message)) => message.map_or(Found::Gone, |chunk| Found::Message(Arc::new(chunk))),
            Ok(None) | Err(_) => Found::Unseen,
        },
        Some(Seen::Gone) => Found::Gone,
        Some(Seen::Hidden) | None => Found::Unseen,
    }
}

enum Seen {
    There(Arc<Topic>),
    Gone,
    /// One of those that the subscription reads cannot be seen: it may be that. Or its partition is not known here yet.
    Hidden,
}

/// The topic of a place, among those that a subscription reads.
async fn topic_of(hub: &Arc<Hub>, share: &str, place: Place, until: Instant) -> Option<Seen> {
    let filter = topic::parse_share(share).ok().flatten().map_or(share, |share| share.filter);
    let mut seen = Seen::Gone;
    // Of those that are listed by the form of their names, one that cannot be seen is as good as gone.
    let (names, _) = topics(hub, &hub.rules.sources(filter).unwrap_or_default(), until).await?;
    for name in &names {
        match known(hub, name, until).await.ok()? {
            Some(topic) if stored_topic(&topic) == place.source.topic => {
                let topic = grown(hub, topic, Some(place.source.partition), until).await;
                let is_known = (place.source.partition as usize) < topic.partitions.len();
                return Some(if is_known { Seen::There(topic) } else { Seen::Hidden });
            }
            None if hub.cluster.is_hidden(name) => seen = Seen::Hidden,
            _ => {}
        }
    }
    Some(seen)
}

fn stored_topic(topic: &Arc<Topic>) -> [u8; 16] {
    crate::relay::hub::stored_source(topic, 0).topic
}

/// Reads one record; `Some(None)` if it is gone, or is no message any more.
async fn read(hub: &Arc<Hub>, topic: &Arc<Topic>, place: Place) -> Option<Option<Chunk>> {
    let partition = place.source.partition.cast_signed();
    let ends = hub.cluster.end_offsets(&[(topic.clone(), partition)]).await;
    // Nothing would come of what lies behind the end.
    if *ends.first()?.as_ref().ok()? <= place.offset {
        return Some(None);
    }
    let mut reader = hub.cluster.read_one_by_one(topic, partition, Start::Offset(place.offset));
    loop {
        let chunk = reader.next().await?;
        if chunk.reset {
            return Some(None);
        }
        for batch in fetched::batches(chunk.bytes, LIMITS).flatten() {
            let mut records = batch.records().map_while(Result::ok);
            if let Some(found) = records.find(|record| record.offset >= place.offset) {
                if found.offset != place.offset {
                    return Some(None);
                }
                if let Some(missing) = missing_schema(hub, topic, place, &found) {
                    hub.registries.look_up(&missing.catalog, missing.id).await;
                }
                hub.tables.settled_for_readers().await;
                return Some(message(hub, topic, place, &found));
            }
        }
        if chunk.next_offset > place.offset {
            return Some(None);
        }
    }
}

fn missing_schema(hub: &Hub, topic: &Topic, place: Place, record: &fetched::RecordView<'_>) -> Option<MissingSchema> {
    let (stored, mut scratch) = (Stored::from(record), LocateScratch::default());
    let rules = hub.rules.reader(&topic.name);
    let located = hub
        .rules
        .locate(&rules, place.source.partition.cast_signed(), &stored, &mut scratch);
    hub.rules.missing_schema(located.ok()?.rule, record.value)
}

fn message(hub: &Arc<Hub>, topic: &Arc<Topic>, place: Place, record: &fetched::RecordView<'_>) -> Option<Chunk> {
    let stored = Stored::from(record);
    let (mut scratch, mut properties) = (LocateScratch::default(), SharedProperties::default());
    let rules = hub.rules.reader(&topic.name);
    let located = hub
        .rules
        .locate(&rules, place.source.partition.cast_signed(), &stored, &mut scratch)
        .ok()?;
    let mut builder = ChunkBuilder::new(SourceId::fresh(), place.source, hub.budget.clone());
    let with = Making {
        rules: &hub.rules,
        counters: &hub.rule_counters,
        properties: &mut properties,
        payload: &mut Vec::new(),
    };
    scribe::push(&mut builder, with, &located, &stored, place.offset, Clock::now());
    (!builder.is_empty()).then(|| builder.finish())
}
