//! QoS 2 from clients on its way into Kafka: each record by its pair, as the machine wants it.

use std::sync::Arc;

use super::{
    failure,
    order::Letter,
    task::{Errand, Task, now},
};
use crate::{
    kafka::{batch::Producer, error::ErrorCode},
    ownership::{ConnectionId, Message, Outcome, Pair, Source, Tenure},
    upstream::{Fate, Partition, Single},
};

/// A record of a PUBLISH, until Kafka has it or refuses it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The record.
    pub single: Arc<Single>,
    /// Where the rules of the moment want it.
    pub to: Arc<Partition>,
    /// The same, as it is stored.
    pub source: Source,
    /// A refusal of Kafka leaves it out, instead of refusing the message.
    pub skip: bool,
}

/// What became of a record, with Kafka's word if it refused it.
pub type Told = (Outcome, Option<ErrorCode>);

/// The PUBLISH of a guest.
#[derive(Debug)]
pub(super) struct Published {
    records: Vec<Held>,
    refused: Option<ErrorCode>,
}

impl Task {
    /// A PUBLISH of QoS 2 with its records.
    pub(super) fn publish(&mut self, id: ConnectionId, packet: u16, records: Vec<Held>) {
        let targets = records.iter().map(|held| held.source).collect();
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.published.insert(packet, Published { records, refused: None });
        }
        self.partition.publish(id, packet, targets, now());
    }

    /// Kafka has all of it, or refuses it.
    pub(super) fn published(&mut self, id: ConnectionId, packet: u16, refused: bool) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let published = guest.published.remove(&packet);
        let letter = match refused {
            true => Letter::Refused(packet, published.and_then(|published| published.refused)),
            false => Letter::PubRec(packet),
        };
        self.send(id, letter);
    }

    /// Produces one record by its pair. Where the rules of the moment make other records than those of which the pairs were written down,
    /// the one that fits best is taken: nearly always Kafka has the record already and looks at the pair only. `doubt`: an earlier owner
    /// may have produced it.
    pub(super) fn produce(&mut self, tenure: Tenure, packet: u16, index: usize, (pair, doubt): (Pair, bool)) {
        failure::step("produce");
        let guest = self.partition.connection_of(&tenure).and_then(|id| self.guests.get(&id));
        let records = guest
            .and_then(|guest| guest.published.get(&packet))
            .map(|published| &published.records);
        let same_topic = |held: &&Held| held.source.topic == pair.source.topic;
        let at = |records: &'_ Vec<Held>| {
            let fitting = records.get(index).filter(same_topic).or_else(|| records.iter().find(same_topic));
            fitting.or(records.first()).cloned()
        };
        let held = records.and_then(at);
        let cluster = self.around.cluster.clone();
        self.errands.spawn(async move {
            let told = match held {
                Some(held) => produce(&cluster, held, pair, doubt).await,
                None => (Outcome::Refused, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            };
            Errand::Published(tenure, packet, pair, told)
        });
    }

    /// What became of it.
    pub(super) fn produced(&mut self, tenure: &Tenure, packet: u16, pair: &Pair, (outcome, code): Told) {
        failure::step("produced");
        if !self.partition.produced(tenure, Message::Packet(packet), pair, outcome, now()) {
            return;
        }
        if let (Outcome::Skipped, Some(code)) = (outcome, code) {
            return self.around.metrics.refused(code.name());
        }
        let guest = self.partition.connection_of(tenure).and_then(|id| self.guests.get_mut(&id));
        if let Some(published) = guest.and_then(|guest| guest.published.get_mut(&packet)) {
            published.refused = code;
        }
    }
}

/// What a batch says of its pair.
pub(super) fn stamp(pair: &Pair) -> Producer {
    Producer {
        producer_id: pair.producer,
        producer_epoch: pair.epoch,
        base_sequence: pair.sequence,
    }
}

async fn produce(cluster: &crate::upstream::Cluster, held: Held, pair: Pair, doubt: bool) -> Told {
    let to = match held.source == pair.source {
        true => Some(held.to),
        false => cluster.partition_by_id(&pair.source.topic, pair.source.partition),
    };
    // A topic that was deleted takes nothing any more.
    let fate = match to {
        Some(to) => cluster.produce_single(&held.single, &to, &stamp(&pair), doubt).await,
        None => Fate::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    };
    match fate {
        Fate::Appended { .. } => (Outcome::Appended, None),
        Fate::Gap => (Outcome::Gap, None),
        Fate::Unknown => (Outcome::Unknown, None),
        Fate::Refused(code) if held.skip => (Outcome::Skipped, Some(code)),
        Fate::Refused(code) => (Outcome::Refused, Some(code)),
    }
}
