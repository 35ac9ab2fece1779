//! Records of `mqtt-sessions` in memory, and where one that is not is read.
//!
//! What was written lately is what is asked for: a client that goes from one instance to another left its state a moment ago, and every
//! tail has read it.

use std::collections::BTreeMap;

use crate::{
    kafka::fetched::{self, RecordView},
    ownership::Record,
    relay::feed::LIMITS,
    upstream::{Cluster, Start, Topic},
};

/// Bytes of a partition's latest records that are kept.
const MOST: usize = 2 << 20;
/// Bytes of a kept record beside its own.
const OVERHEAD: usize = 128;

/// Name and value.
type Header = (Box<str>, Box<[u8]>);

/// A record that owns its bytes.
#[derive(Clone, Debug)]
pub struct Kept {
    offset: i64,
    timestamp: u64,
    key: Box<[u8]>,
    headers: Vec<Header>,
    value: Option<Box<[u8]>>,
}

impl Kept {
    fn copy(record: &Record<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.into(),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            value: record.value.map(Into::into),
        }
    }

    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        OVERHEAD + self.key.len() + headers + self.value.as_ref().map_or(0, |value| value.len())
    }

    /// Lends it out as what was read.
    pub fn lend<T>(&self, take: impl FnOnce(&Record<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        take(&Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: &self.key,
            headers: &headers,
            value: self.value.as_deref(),
        })
    }
}

/// The latest states and steps, by offset.
#[derive(Debug, Default)]
pub struct Latest {
    records: BTreeMap<i64, Kept>,
    bytes: usize,
}

impl Latest {
    /// Keeps a record that may be asked for.
    pub fn keep(&mut self, record: &Record<'_>) {
        let body = record.key.starts_with(b"state:") || record.key.starts_with(b"steps:");
        if !body || record.value.is_none_or(|value| value.len() > MOST / 8) {
            return;
        }
        let kept = Kept::copy(record);
        self.bytes += kept.size();
        self.records.insert(kept.offset, kept);
        while self.bytes > MOST {
            let Some((_, oldest)) = self.records.pop_first() else { return };
            self.bytes -= oldest.size();
        }
    }

    /// The record at an offset, if it is kept.
    pub fn find(&self, offset: i64) -> Option<&Kept> {
        self.records.get(&offset)
    }

    /// The log is another.
    pub fn clear(&mut self) {
        (self.records, self.bytes) = (BTreeMap::new(), 0);
    }
}

/// A record of the log as this room has it.
pub fn read<T>(view: &RecordView<'_>, take: impl FnOnce(&Record<'_>) -> T) -> T {
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    headers.extend(
        view.headers()
            .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value?))),
    );
    take(&Record {
        offset: view.offset,
        timestamp: u64::try_from(view.timestamp).unwrap_or(0),
        key: view.key.unwrap_or_default(),
        headers: &headers,
        value: view.value,
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
