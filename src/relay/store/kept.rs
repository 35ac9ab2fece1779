//! Records of `mqtt-sessions` in memory, and where one that is not is read.
//!
//! What was written lately is what is asked for: a client that goes from one instance to another left its state a moment ago, and every
//! tail has read it.

use std::collections::VecDeque;

use crate::{
    kafka::fetched::{self, RecordView},
    ownership::Record,
    relay::feed::LIMITS,
    upstream::{Cluster, Start, Topic},
};

/// Bytes of a partition's latest records that are kept.
const MOST: usize = 2 << 20;
/// Bytes of a kept record beside its own.
const OVERHEAD: usize = 64;
/// Headers of a record that need no allocation; those of the topic have fewer.
const FEW: usize = 16;

type Header<'a> = (&'a str, &'a [u8]);

/// A record that owns its bytes.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    offset: i64,
    timestamp: u64,
    has_value: bool,
    /// Key, value, if there is one, then names and values of the headers, each behind its length.
    parts: Vec<u8>,
}

impl Kept {
    fn copy(record: &Record<'_>) -> Self {
        let mut kept = Self::default();
        kept.take(record);
        kept
    }

    /// Becomes a copy of another record.
    fn take(&mut self, record: &Record<'_>) {
        (self.offset, self.timestamp) = (record.offset, record.timestamp);
        self.has_value = record.value.is_some();
        self.parts.clear();
        let headers = record.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
        for part in [record.key].into_iter().chain(record.value).chain(headers) {
            // A record is smaller than the batch that it came in.
            self.parts.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.parts.extend_from_slice(part);
        }
    }

    fn size(&self) -> usize {
        OVERHEAD + self.parts.capacity()
    }

    /// Lends it out as what was read.
    pub fn lend<T>(&self, take: impl FnOnce(&Record<'_>) -> T) -> T {
        let mut parts = Parts(&self.parts);
        let key = parts.next().unwrap_or_default();
        let value = if self.has_value { parts.next() } else { None };
        let headers = std::iter::from_fn(|| Some((std::str::from_utf8(parts.next()?).ok()?, parts.next()?)));
        gathered(headers, |headers| {
            take(&Record {
                offset: self.offset,
                timestamp: self.timestamp,
                key,
                headers,
                value,
            })
        })
    }
}

/// What is left of [`Kept::parts`].
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(part)
    }
}

/// The latest states and steps, by offset. An instance that starts reads a million of them, so the memory of those that go is used again.
#[derive(Debug, Default)]
pub struct Latest {
    /// In the order of their offsets.
    records: VecDeque<Kept>,
    bytes: usize,
}

impl Latest {
    /// Keeps a record that may be asked for. They come in the order of the log.
    pub fn keep(&mut self, record: &Record<'_>) {
        let body = record.key.starts_with(b"state:") || record.key.starts_with(b"steps:");
        if !body || record.value.is_none_or(|value| value.len() > MOST / 8) {
            return;
        }
        let mut kept = Kept::default();
        while self.bytes > MOST {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.size();
            kept = oldest;
        }
        kept.take(record);
        self.bytes += kept.size();
        self.records.push_back(kept);
    }

    /// The record at an offset, if it is kept.
    pub fn find(&self, offset: i64) -> Option<&Kept> {
        let at = self.records.binary_search_by_key(&offset, |kept| kept.offset).ok()?;
        self.records.get(at)
    }

    /// The log is another.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Headers in a row, which are few.
fn gathered<'a, T>(headers: impl Iterator<Item = Header<'a>>, take: impl FnOnce(&[Header<'a>]) -> T) -> T {
    let mut headers = headers.fuse();
    let (mut few, mut count) = ([("", &[][..]); FEW], 0);
    for (slot, header) in few.iter_mut().zip(&mut headers) {
        *slot = header;
        count += 1;
    }
    match headers.next() {
        None => take(&few[..count]),
        Some(next) => take(&few.into_iter().chain([next]).chain(headers).collect::<Vec<_>>()),
    }
}

/// A record of the log as this room has it.
pub fn read<T>(view: &RecordView<'_>, take: impl FnOnce(&Record<'_>) -> T) -> T {
    let headers = view
        .headers()
        .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value?)));
    gathered(headers, |headers| {
        take(&Record {
            offset: view.offset,
            timestamp: u64::try_from(view.timestamp).unwrap_or(0),
            key: view.key.unwrap_or_default(),
            headers,
            value: view.value,
        })
    })
}

/// Reads the record at an offset; `None` if it is gone. Waits as long as Kafka is away: every question is answered.
pub async fn fetch(cluster: Cluster, topic: std::sync::Arc<Topic>, partition: i32, offset: i64) -> Option<Kept> {
    let mut reader = cluster.read(&topic, partition, Start::Offset(offset));
    loop {
        let chunk = reader.next().await?;
        if chunk.reset {
            return None;
        }
        for batch in fetched::batches(chunk.bytes, LIMITS).flatten() {
            let found = batch.records().map_while(Result::ok).find(|record| record.offset >= offset);
            if let Some(found) = found {
                return (found.offset == offset).then(|| read(&found, Kept::copy));
            }
        }
        if chunk.next_offset > offset {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(offset: i64, key: &'a [u8], headers: &'a [Header<'a>], value: Option<&'a [u8]>) -> Record<'a> {
        Record {
            offset,
            timestamp: 7,
            key,
            headers,
            value,
        }
    }

    #[test]
    fn what_is_kept_is_lent_as_it_was() {
        let many: Vec<(String, [u8; 2])> = (0..FEW + 3).map(|n| (format!("h{n}"), [n as u8, 0xff])).collect();
        let many: Vec<Header<'_>> = many.iter().map(|(name, value)| (&**name, &value[..])).collect();
        for count in [0, 1, FEW - 1, FEW, FEW + 1, many.len()] {
            for value in [None, Some(&b""[..]), Some(b"{}")] {
                let record = record(3, b"state:a@1", &many[..count], value);
                Kept::copy(&record).lend(|lent| {
                    let fields = |r: &Record<'_>| (r.offset, r.timestamp, r.key.to_vec(), r.value.map(<[u8]>::to_vec));
                    assert_eq!(fields(lent), fields(&record));
                    assert_eq!(lent.headers, record.headers);
                });
            }
        }
    }

    #[test]
    fn the_latest_are_found_and_the_others_cost_nothing() {
        let mut latest = Latest::default();
        let value = [b'x'; 1000];
        let headers: [Header<'_>; 2] = [("v", b"1"), ("expiry", b"3600")];
        let mut keep = |offset| latest.keep(&record(offset, b"state:client@5", &headers, Some(&value)));
        // Claims lie between.
        let warm = 10_000;
        (0..warm).for_each(|at| keep(2 * at));
        let made = allocation_counter::measure(|| (warm..2 * warm).for_each(|at| keep(2 * at)));
        assert_eq!(made.count_total, 0);
        latest.keep(&record(4 * warm, b"claim:client", &[], Some(b"{}")));
        latest.keep(&record(4 * warm, b"state:client@5", &[], None));
        assert!(latest.find(4 * warm).is_none(), "it is no body");
        assert!(latest.find(4 * warm - 1).is_none());
        assert!(latest.find(4 * warm - 2).is_some_and(|kept| kept.offset == 4 * warm - 2));
        let kept = latest.records.iter().map(Kept::size).sum::<usize>();
        assert_eq!(latest.bytes, kept);
        assert!((MOST / 2..MOST + 2 * value.len()).contains(&kept), "{kept}");
        assert!(latest.find(0).is_none());
    }
}
