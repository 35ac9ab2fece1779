//! A fetch session (KIP-227): the broker remembers what a lane polls for, so that a poll names only what has changed since the one before,
//! and an answer only those that have news.
//!
//! The broker gives a session its id with the answer to a *full* fetch (epoch 0). From then on each poll counts the epoch up. Whenever
//! the two may differ in what they remember (an error, a broken connection, topics named another way), the next fetch is full
//! again; it names the old session, so that the broker lets go of that.

use std::sync::Arc;

use kafka_protocol::{
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
        fetch_response::PartitionData,
    },
    protocol::StrBytes,
};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::lane::Want;
use crate::upstream::{metadata::topic_name, topics::Partition};

/// The first version that names topics by id.
pub(super) const BY_ID: i16 = 13;
/// The first version that tells the epoch of the last record read (KIP-595).
const LAST_EPOCH: i16 = 12;
/// The first version that tells where we are.
const RACK: i16 = 11;
/// The first version with sessions.
const SESSIONS: i16 = 7;
/// The epoch that makes a session.
const FULL: i32 = 0;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;

/// What a lane and its broker both remember.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0: none yet.
    id: i32,
    /// Of the next fetch.
    epoch: i32,
    by_id: bool,
    known: FxHashMap<Name, FxHashMap<i32, Known>>,
    /// Counts the fetches, to tell who is not wanted any more.
    round: u64,
}

/// How requests call a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Id(Uuid),
    Text(Arc<str>),
}

/// A partition in the session.
#[derive(Debug)]
struct Known {
    place: Place,
    slot: u64,
    round: u64,
}

/// What a fetch says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: i64,
    leader_epoch: i32,
    last_epoch: i32,
}

/// What came for one position.
pub(super) struct Piece {
    pub(super) slot: u64,
    /// The position that was asked for.
    pub(super) offset: i64,
    pub(super) data: PartitionData,
}

impl Session {
    /// The request for all of `wants`, which names each partition once: of an open session what is new or has changed, and what is
    /// not wanted any more. `most`: bytes for one partition.
    pub(super) fn ask(&mut self, wants: &[Want], version: i16, most: i32) -> FetchRequest {
        if self.by_id != (version >= BY_ID) {
            self.by_id = version >= BY_ID;
            self.restart();
        }
        if version < SESSIONS {
            (self.id, self.epoch) = (0, FULL);
            self.known.clear();
        }
        self.round += 1;
        let mut topics = Topics::default();
        for want in wants {
            let name = self.name(&want.partition);
            if let Some(place) = self.enter(&name, want, version) {
                topics.push(name, place.piece(want.partition.index, most));
            }
        }
        FetchRequest::default()
            .with_session_id(self.id)
            .with_session_epoch(if version < SESSIONS { -1 } else { self.epoch })
            .with_topics(topics.list)
            .with_forgotten_topics_data(self.forget(wants.len()))
    }

    /// Notes that a partition is wanted; what is to be said of it, if anything.
    fn enter(&mut self, name: &Name, want: &Want, version: i16) -> Option<Place> {
        let place = Place {
            offset: want.offset,
            leader_epoch: want.partition.leader_epoch(),
            // Older brokers cannot be told: there a log that was cut off is noticed only by an offset out of range.
            last_epoch: if version < LAST_EPOCH { -1 } else { want.last_epoch },
        };
        let known = Known {
            place,
            slot: want.slot,
            round: self.round,
        };
        if !self.known.contains_key(name) {
            self.known.insert(name.clone(), FxHashMap::default());
        }
        let partitions = self.known.get_mut(name).expect("inserted above");
        let before = partitions.insert(want.partition.index, known);
        (before.map(|b| b.place) != Some(place)).then_some(place)
    }

    /// Forgets what this round did not want; the session holds `wanted` partitions afterwards.
    fn forget(&mut self, wanted: usize) -> Vec<ForgottenTopic> {
        if self.known.values().map(FxHashMap::len).sum::<usize>() == wanted {
            return Vec::new();
        }
        let (round, mut forgotten) = (self.round, Vec::new());
        self.known.retain(|name, partitions| {
            let mut gone = Vec::new();
            partitions.retain(|index, known| known.round == round || (gone.push(*index), false).1);
            if !gone.is_empty() {
                forgotten.push(name.forgotten(gone));
            }
            !partitions.is_empty()
        });
        forgotten
    }

    fn name(&self, partition: &Partition) -> Name {
        if self.by_id {
            Name::Id(partition.topic_id)
        } else {
            Name::Text(Arc::clone(&partition.topic))
        }
    }

    /// The next fetch is full. The id stays, for the broker to let the old session go.
    pub(super) fn restart(&mut self) {
        self.epoch = FULL;
        self.known.clear();
    }

    /// Takes the answer to the last request: what came for which position.
    pub(super) fn take(&mut self, answer: FetchResponse) -> Vec<Piece> {
        let pieces = self.pieces(answer.responses);
        match answer.error_code {
            0 if self.epoch == FULL => {
                self.id = answer.session_id;
                // A broker with too many sessions gives none: each fetch is full.
                if self.id == 0 { self.known.clear() } else { self.epoch = 1 }
            }
            0 if answer.session_id == self.id => self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 },
            0 | FETCH_SESSION_ID_NOT_FOUND => {
                self.id = 0;
                self.restart();
            }
            _ => self.restart(),
        }
        pieces
    }

    fn pieces(&self, responses: Vec<kafka_protocol::messages::fetch_response::FetchableTopicResponse>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for topic in responses {
            let name = if self.by_id {
                Name::Id(topic.topic_id)
            } else {
                Name::Text(Arc::from(&*topic.topic.0))
            };
            // What was not asked for concerns nobody.
            let Some(known) = self.known.get(&name) else { continue };
            pieces.extend(topic.partitions.into_iter().filter_map(|data| {
                let known = known.get(&data.partition_index)?;
                Some(Piece {
                    slot: known.slot,
                    offset: known.place.offset,
                    data,
                })
            }));
        }
        pieces
    }
}

impl Place {
    fn piece(self, index: i32, most: i32) -> FetchPartition {
        FetchPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(self.leader_epoch)
            .with_fetch_offset(self.offset)
            .with_last_fetched_epoch(self.last_epoch)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(most)
    }
}

impl Name {
    fn topic(&self) -> FetchTopic {
        match self {
            Self::Id(id) => FetchTopic::default().with_topic_id(*id),
            Self::Text(name) => FetchTopic::default().with_topic(topic_name(name)),
        }
    }

    fn forgotten(&self, partitions: Vec<i32>) -> ForgottenTopic {
        let forgotten = ForgottenTopic::default().with_partitions(partitions);
        match self {
            Self::Id(id) => forgotten.with_topic_id(*id),
            Self::Text(name) => forgotten.with_topic(topic_name(name)),
        }
    }
}

/// Partitions by topic, in the order in which topics first came.
#[derive(Default)]
struct Topics {
    list: Vec<FetchTopic>,
    places: FxHashMap<Name, usize>,
}

impl Topics {
    fn push(&mut self, name: Name, piece: FetchPartition) {
        let at = *self.places.entry(name).or_insert_with_key(|name| {
            self.list.push(name.topic());
            self.list.len() - 1
        });
        self.list[at].partitions.push(piece);
    }
}

/// The rack as requests want it; empty: none, or a broker that is too old for it (KIP-392).
pub(super) fn rack(rack: Option<&str>, version: i16) -> StrBytes {
    let rack = rack.filter(|_| version >= RACK);
    rack.map_or_else(StrBytes::default, |rack| StrBytes::from_string(rack.to_owned()))
}
