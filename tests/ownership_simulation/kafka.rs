//! Kafka as far as the protocol leans on it: one compacted log, mapped topics, and its rules for idempotent producers as they were found
//! with raw requests against Apache Kafka 4.4.0.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ownership::{Millis, NewRecord, Outcome, Pair, Record, Source};

/// `min.compaction.lag.ms` and `delete.retention.ms` of `mqtt-sessions`.
const TEN_MINUTES: Millis = 600_000;

pub struct Stored {
    pub offset: i64,
    timestamp: Millis,
    pub record: NewRecord,
}

/// What a broker knows of a producer in a partition.
#[derive(Default)]
struct Producer {
    epoch: i16,
    last: VecDeque<i32>,
}

#[derive(Default)]
pub struct Kafka {
    pub log: Vec<Stored>,
    pub end: i64,
    /// Payloads of the mapped topics.
    pub topics: BTreeMap<Source, Vec<u64>>,
    /// Payloads that it does not take (there).
    pub refused: BTreeSet<(Source, u64)>,
    producers: BTreeMap<(i64, Source), Producer>,
    next_id: i64,
}

impl Kafka {
    pub fn append(&mut self, record: NewRecord, now: Millis) -> i64 {
        let offset = self.end;
        self.end += 1;
        self.log.push(Stored {
            offset,
            timestamp: now,
            record,
        });
        offset
    }

    /// The first record at or above an offset.
    pub fn next(&self, offset: i64) -> Option<&Stored> {
        self.log.get(self.log.partition_point(|stored| stored.offset < offset))
    }

    pub fn at(&self, offset: i64) -> Option<&Stored> {
        self.next(offset).filter(|stored| stored.offset == offset)
    }

    pub fn producer_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// A batch of one record.
    pub fn produce(&mut self, pair: Pair, payload: u64) -> Result<Outcome, &'static str> {
        let refused = self.refused.contains(&(pair.source, payload));
        let producer = self.producers.entry((pair.producer, pair.source)).or_insert_with(|| Producer {
            epoch: pair.epoch,
            ..Producer::default()
        });
        if pair.epoch < producer.epoch {
            // 47 INVALID_PRODUCER_EPOCH: no pair of ours has an older epoch than one that was used.
            return Err("fenced");
        }
        if pair.epoch > producer.epoch {
            if pair.sequence != 0 {
                return Ok(Outcome::Gap);
            }
            producer.epoch = pair.epoch;
            producer.last.clear();
        }
        if producer.last.contains(&pair.sequence) {
            return Ok(Outcome::Appended);
        }
        // Before sequences are looked at; but it was taken once.
        if refused {
            return Ok(Outcome::Refused);
        }
        // A producer that is not known may begin anywhere.
        if producer.last.back().is_some_and(|last| pair.sequence != last + 1) {
            return Ok(Outcome::Gap);
        }
        producer.last.push_back(pair.sequence);
        if producer.last.len() > 5 {
            producer.last.pop_front();
        }
        self.topics.entry(pair.source).or_default().push(payload);
        Ok(Outcome::Appended)
    }

    /// The cleaner, up to an offset of its choice below what may be cleaned: of each key the last record stays; a tombstone goes when
    /// nobody who reads at an ordinary pace can have missed it.
    pub fn compact(&mut self, upto: i64, now: Millis) {
        let cleanable = |stored: &Stored| stored.timestamp + TEN_MINUTES <= now && stored.offset < upto;
        let end = self.log.iter().position(|stored| !cleanable(stored)).unwrap_or(self.log.len());
        let mut last = BTreeMap::new();
        for stored in &self.log[..end] {
            last.insert(stored.record.key.clone(), stored.offset);
        }
        let limit = self.log.get(end).map_or(self.end, |stored| stored.offset);
        self.log.retain(|stored| {
            let old = stored.timestamp + 2 * TEN_MINUTES <= now;
            let stays = last.get(&stored.record.key) == Some(&stored.offset) && !(stored.record.value.is_none() && old);
            stored.offset >= limit || stays
        });
    }
}

impl Stored {
    /// Reads it as a tail does.
    pub fn read<T>(&self, take: impl FnOnce(&Record<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self.record.headers.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        take(&Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.record.key.as_bytes(),
            headers: &headers,
            value: self.record.value.as_deref(),
        })
    }
}
