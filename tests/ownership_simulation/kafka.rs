//! Kafka as far as the protocol leans on it: one compacted log, mapped topics, and its rules for idempotent producers as they were found
//! with raw requests against Apache Kafka 4.4.0.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ownership::{Key, Millis, NewRecord, Outcome, Pair, Record, Source, State};

/// `min.compaction.lag.ms` and `delete.retention.ms` of `mqtt-sessions`.
const TEN_MINUTES: Millis = 600_000;

pub struct Stored {
    pub offset: i64,
    timestamp: Millis,
    pub record: NewRecord,
}

/// The names of operators' commands begin so, and no other instance's.
pub const COMMAND: char = 'c';

/// A claim that counts.
struct Claim {
    at: i64,
    owner: String,
    /// By which an operator ends a session.
    operator: bool,
    /// Of a custodian.
    bid: bool,
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
    /// By what each payload was written.
    pairs: BTreeMap<Source, Vec<Pair>>,
    /// Payloads that were there and are lost.
    pub lost: BTreeSet<(Source, u64)>,
    /// The newest epoch that a producer ever wrote with in a partition: what kept older ones out may be lost with it.
    newest: BTreeMap<(i64, Source), i16>,
    /// Pairs that were refused, since something before them is not there.
    gaps: BTreeSet<(i64, Source, i16, i32)>,
    /// Payloads that came late with an older one, or with a pair that was refused before, when what kept it out was lost: Kafka's promise is broken,
    /// and the message may be there twice.
    pub unfenced: BTreeSet<(Source, u64)>,
    /// Bids for each client.
    pub bids: BTreeMap<String, usize>,
    /// Claims that count, and whose they are, of each client. Cleaned up or not.
    claims: BTreeMap<String, Vec<Claim>>,
    /// Claims of operators, where their own state lies, and whether no other claim had come between: then the session from before is over.
    discards: BTreeMap<String, Vec<(i64, i64, bool)>>,
    next_id: i64,
}

impl Kafka {
    pub fn append(&mut self, record: NewRecord, now: Millis) -> i64 {
        let offset = self.end;
        self.end += 1;
        if let Ok(Key::Bid(client, _)) = Key::parse(record.key.as_bytes()) {
            *self.bids.entry(client.to_owned()).or_default() += usize::from(record.value.is_some());
        }
        self.claim(&record, offset);
        self.log.push(Stored {
            offset,
            timestamp: now,
            record,
        });
        offset
    }

    fn claim(&mut self, record: &NewRecord, offset: i64) {
        let (client, of) = match Key::parse(record.key.as_bytes()) {
            Ok(Key::Claim(client)) => (client, None),
            Ok(Key::Bid(client, of)) => (client, Some(of)),
            Ok(Key::State(client, claim)) => return self.state(client, claim, record.value.as_deref(), offset),
            _ => return,
        };
        let header = |wanted| {
            record
                .headers
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, text)| text.clone())
        };
        let claims = self.claims.entry(client.to_owned()).or_default();
        let last = claims.last().map(|claim| claim.at);
        match header("owner") {
            Some(owner) if of.is_none() || of == last => claims.push(Claim {
                at: offset,
                operator: owner.starts_with(COMMAND),
                owner,
                bid: of.is_some(),
            }),
            // The session is over, and its claim cleaned up: nobody bids for that any more.
            None if of.is_none() && header("of").is_some_and(|of| last.is_some_and(|last| of == last.to_string())) => claims.clear(),
            _ => {}
        }
    }

    /// The last claim of a client below an offset, and whose it is.
    pub fn claimed(&self, client: &str, below: i64) -> Option<(i64, &str)> {
        let claims = self.claims.get(client)?;
        let last = claims.iter().rev().find(|claim| claim.at < below);
        last.map(|claim| (claim.at, claim.owner.as_str()))
    }

    /// Whether the claim at an offset ends the session at an operator's word.
    pub fn is_operators(&self, client: &str, at: i64) -> bool {
        let claims = self.claims.get(client).into_iter().flatten();
        claims.rev().any(|claim| claim.at == at && claim.operator)
    }

    /// A session that goes on under the claim of an operator is younger than the command, or was claimed when that was broken off.
    fn state(&mut self, client: &str, claim: i64, value: Option<&[u8]>, offset: i64) {
        let is_over = |value| match State::parse(value) {
            Ok((_, State::Goes(body))) => body.expiry == 0,
            _ => true,
        };
        if self.is_operators(client, claim) && value.is_some_and(is_over) {
            let is_last = self.claims[client].last().is_some_and(|last| last.at == claim);
            let discards = self.discards.entry(client.to_owned()).or_default();
            discards.push((claim, offset, is_last));
        }
    }

    /// The last claim below an offset by which an operator has ended a session of this client, or (`maybe`) the state of which has come too late
    /// for that, but in time for somebody who found no later one.
    pub fn discarded(&self, client: &str, below: i64, maybe: bool) -> Option<i64> {
        let discards = self.discards.get(client)?.iter();
        let counts = discards.filter(|(_, state, is_last)| *state < below && (maybe || *is_last));
        counts.map(|(claim, ..)| *claim).max()
    }

    /// Whether a client has claimed its session between two offsets, be it for a CONNECT that it has given up.
    pub fn is_claimed_between(&self, client: &str, after: i64, before: i64) -> bool {
        let claims = self.claims.get(client).into_iter().flatten();
        claims
            .rev()
            .any(|claim| after < claim.at && claim.at < before && !claim.operator && !claim.bid)
    }

    /// What was written last under a claim, below an offset.
    pub fn written(&self, client: &str, claim: i64, below: i64) -> Option<&NewRecord> {
        let keys = [Key::State(client, claim).to_string(), Key::Steps(client, claim).to_string()];
        let read = &self.log[..self.log.partition_point(|stored| stored.offset < below)];
        let is_one = |stored: &&Stored| stored.record.value.is_some() && keys.contains(&stored.record.key);
        read.iter().rev().find(is_one).map(|stored| &stored.record)
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
            // 47 INVALID_PRODUCER_EPOCH: no pair of ours has an older epoch than one that was used; but one that went on after a gap has, while it
            // is still on its way.
            return if self.lost.is_empty() { Err("fenced") } else { Ok(Outcome::Fenced) };
        }
        let key = (pair.producer, pair.source, pair.epoch, pair.sequence);
        if pair.epoch > producer.epoch {
            if pair.sequence != 0 {
                self.gaps.insert(key);
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
            self.gaps.insert(key);
            return Ok(Outcome::Gap);
        }
        // Told as a sequence of events: the last records of a producer are lost, its next one is refused (what is before it is not there), its owner
        // goes on under another epoch, and the rest of its records is lost, too. Then a former owner that was paused sends the same pair, and of a
        // producer that is not known it is taken.
        if producer.last.is_empty() && self.gaps.contains(&key) {
            self.unfenced.insert((pair.source, payload));
        }
        producer.take(pair.sequence);
        let newest = self.newest.entry((pair.producer, pair.source)).or_insert(pair.epoch);
        *newest = pair.epoch.max(*newest);
        if pair.epoch < *newest {
            self.unfenced.insert((pair.source, payload));
        }
        self.pairs.entry(pair.source).or_default().push(pair);
        self.topics.entry(pair.source).or_default().push(payload);
        Ok(Outcome::Appended)
    }

    /// An unclean election: the last records of a partition are gone, and the new leader knows of producers what its log tells.
    pub fn cut_off(&mut self, source: Source, count: usize) {
        let (Some(payloads), Some(pairs)) = (self.topics.get_mut(&source), self.pairs.get_mut(&source)) else {
            return;
        };
        let left = payloads.len().saturating_sub(count);
        self.lost.extend(payloads.drain(left..).map(|payload| (source, payload)));
        pairs.truncate(left);
        self.producers.retain(|(_, of), _| *of != source);
        for pair in pairs {
            let producer = self.producers.entry((pair.producer, source)).or_default();
            if pair.epoch > producer.epoch {
                (producer.epoch, producer.last) = (pair.epoch, VecDeque::new());
            }
            producer.take(pair.sequence);
        }
    }

    /// The last record of the log is damaged; whose it is.
    pub fn damage(&mut self, behind_headers: bool) -> Option<String> {
        let record = &mut self.log.last_mut()?.record;
        let body = ["state:", "steps:", "checkpoint:"].iter().any(|kind| record.key.starts_with(kind));
        record.value.as_ref().filter(|_| body)?;
        record.value = Some(b"{\"v\":1".to_vec());
        if !behind_headers {
            record.headers.clear();
        }
        Some(Key::parse(record.key.as_bytes()).ok()?.id().to_owned())
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

impl Producer {
    fn take(&mut self, sequence: i32) {
        self.last.push_back(sequence);
        if self.last.len() > 5 {
            self.last.pop_front();
        }
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
