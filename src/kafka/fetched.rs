//! Record batches v2 as Kafka sends them (KIP-98): bounded reading that trusts no length.
//!
//! A fetch ends where its size limit fell, often in the middle of a batch: such a rest ends the iteration quietly.

use std::fmt;

use bytes::Bytes;

use super::{
    batch::{CRC_FROM, HEADER_LEN, crc32c},
    compression::{self, CompressionError},
};
use crate::wire::varint;

/// What reading may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that one compressed batch may become.
    pub max_decompressed: usize,
}

/// What is wrong with a batch or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// A format before Kafka 0.11, which brokers of today convert or refuse.
    OldFormat {
        /// Its magic byte.
        magic: i8,
    },
    /// A format that is newer than this build.
    UnknownFormat {
        /// Its magic byte.
        magic: i8,
    },
    /// The CRC says that bytes were changed.
    Corrupt,
    /// Lengths or counts contradict each other.
    Malformed,
    /// The records cannot be decompressed.
    Compression(CompressionError),
}

impl BatchError {
    /// Whether the batch may be read when it is fetched again: it may have been damaged on its way. An old format is none.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::OldFormat { .. })
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::OldFormat { magic } => write!(f, "message format {magic}, older than Kafka 0.11, is not supported"),
            BatchError::UnknownFormat { magic } => write!(f, "message format {magic} is not known"),
            BatchError::Corrupt => write!(f, "the CRC does not match"),
            BatchError::Malformed => write!(f, "lengths or counts contradict each other"),
            BatchError::Compression(CompressionError::UnknownCodec) => write!(f, "unknown compression codec"),
            BatchError::Compression(CompressionError::Damaged) => write!(f, "the compressed records are damaged"),
            BatchError::Compression(CompressionError::TooLarge) => write!(f, "the compressed records become too large"),
        }
    }
}

impl std::error::Error for BatchError {}

/// The least bytes of a record: one of its length, six of its fields.
const LEAST_RECORD: usize = 7;

/// One batch; its records are read by [`Batch::records`].
#[derive(Clone, Debug)]
pub struct Batch {
    /// Offset of the first record that was written in it.
    pub base_offset: i64,
    /// Offset of the last one, also if compaction has removed it.
    pub last_offset: i64,
    /// Transaction markers, nothing for applications.
    pub is_control: bool,
    /// Part of a transaction.
    pub is_transactional: bool,
    /// Who produced it; -1 without idempotence.
    pub producer_id: i64,
    /// LogAppendTime of all its records, if the topic uses that.
    pub log_append_time: Option<i64>,
    base_timestamp: i64,
    last_delta: i32,
    count: u32,
    is_compressed: bool,
    records: Bytes,
}

/// The batches of a fetch.
#[derive(Debug)]
pub struct Batches {
    rest: Bytes,
    limits: Limits,
    from: i64,
}

/// Reads the record set of a fetch response.
pub fn batches(bytes: Bytes, limits: Limits) -> Batches {
    Batches {
        rest: bytes,
        limits,
        from: i64::MIN,
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.leave_out();
        // The magic byte lies at 16 in every format.
        if self.rest.len() < 17 {
            return None;
        }
        let length = i32::from_be_bytes(field(&self.rest, 8));
        let magic = self.rest[16] as i8;
        let Some(whole) = usize::try_from(length).ok().and_then(|l| l.checked_add(12)) else {
            return self.fail(BatchError::Malformed);
        };
        if whole > self.rest.len() {
            return None;
        }
        if magic != 2 {
            self.rest = self.rest.slice(whole.max(17).min(self.rest.len())..);
            return Some(Err(match magic {
                0 | 1 => BatchError::OldFormat { magic },
                _ => BatchError::UnknownFormat { magic },
            }));
        }
        if whole < HEADER_LEN {
            return self.fail(BatchError::Malformed);
        }
        let batch = self.rest.split_to(whole);
        Some(parse(&batch, self.limits))
    }
}

impl Batches {
    /// Leaves out, unread, what ends below `offset`; except control batches, which say what became of transactions.
    pub fn starting_at(mut self, offset: i64) -> Self {
        self.from = offset;
        self
    }

    /// The offset with which the next batch begins, as its header has it, whether the rest of it can be read or not.
    pub fn next_base(&mut self) -> Option<i64> {
        self.leave_out();
        let base = self.rest.get(..17).map(|head| field(head, 0));
        base.map(i64::from_be_bytes)
    }

    fn leave_out(&mut self) {
        while let Some(whole) = self.lies_below() {
            self.rest = self.rest.slice(whole..);
        }
    }

    /// The length of the next batch, if it is to be left out. What is wrong with it, if anything, was told when it was read.
    fn lies_below(&self) -> Option<usize> {
        let head = self.rest.get(..HEADER_LEN).filter(|head| self.from > 0 && head[16] == 2)?;
        let last = i64::from_be_bytes(field(head, 0)).checked_add(i32::from_be_bytes(field(head, 23)).into())?;
        let is_control = head[22] & 0x20 != 0;
        let whole = usize::try_from(i32::from_be_bytes(field(head, 8))).ok()?.checked_add(12)?;
        (last < self.from && !is_control && (HEADER_LEN..=self.rest.len()).contains(&whole)).then_some(whole)
    }

    /// Nothing behind such a batch can be found.
    fn fail(&mut self, error: BatchError) -> Option<Result<Batch, BatchError>> {
        self.rest = Bytes::new();
        Some(Err(error))
    }
}

fn parse(batch: &Bytes, limits: Limits) -> Result<Batch, BatchError> {
    if crc32c(&batch[CRC_FROM..]) != u32::from_be_bytes(field(batch, 17)) {
        return Err(BatchError::Corrupt);
    }
    let attributes = i16::from_be_bytes(field(batch, 21));
    let base_offset = i64::from_be_bytes(field(batch, 0));
    let last_delta = i32::from_be_bytes(field(batch, 23));
    let count = u32::try_from(i32::from_be_bytes(field(batch, 57))).map_err(|_| BatchError::Malformed)?;
    let last_offset = base_offset
        .checked_add(i64::from(last_delta))
        .filter(|last| *last >= base_offset && base_offset >= 0);
    let max_timestamp = i64::from_be_bytes(field(batch, 35));
    let records = records(batch, attributes, limits)?;
    if count as usize > records.len() / LEAST_RECORD {
        return Err(BatchError::Malformed);
    }
    Ok(Batch {
        base_offset,
        last_offset: last_offset.ok_or(BatchError::Malformed)?,
        is_control: attributes & 0x20 != 0,
        is_transactional: attributes & 0x10 != 0,
        producer_id: i64::from_be_bytes(field(batch, 43)),
        log_append_time: (attributes & 0x08 != 0).then_some(max_timestamp),
        base_timestamp: i64::from_be_bytes(field(batch, 27)),
        last_delta,
        count,
        is_compressed: attributes & 7 != 0,
        records,
    })
}

fn records(batch: &Bytes, attributes: i16, limits: Limits) -> Result<Bytes, BatchError> {
    let raw = batch.slice(HEADER_LEN..);
    if attributes & 7 == 0 || raw.is_empty() {
        return Ok(raw);
    }
    compression::decompress(attributes, &raw, limits.max_decompressed)
        .map(Bytes::from)
        .map_err(BatchError::Compression)
}

impl Batch {
    /// Its records in order. The first one that cannot be read ends the iteration with an error, and so do bytes behind the last.
    pub fn records(&self) -> Records<'_> {
        Records {
            batch: self,
            rest: &self.records,
            left: self.count,
        }
    }

    /// Records that the header announces; no more than could be in its bytes.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of its records, decompressed.
    pub fn records_len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of memory that it holds beside the fetch that it came with.
    pub fn decompressed(&self) -> usize {
        if self.is_compressed { self.records.len() } else { 0 }
    }

    /// What a control batch says: 0 abort, 1 commit.
    pub fn control_type(&self) -> Option<i16> {
        let record = self.records().next()?.ok()?;
        let (_version, kind) = record.key.filter(|_| self.is_control)?.split_at_checked(2)?;
        kind.first_chunk().map(|kind| i16::from_be_bytes(*kind))
    }
}

/// The records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    batch: &'a Batch,
    rest: &'a [u8],
    left: u32,
}

/// One record; borrowed from its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch: the producer's, or LogAppendTime.
    pub timestamp: i64,
    /// `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    header_count: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 && self.rest.is_empty() {
            return None;
        }
        let record = if self.left == 0 { None } else { self.record() };
        let Some(record) = record else {
            (self.left, self.rest) = (0, &[]);
            return Some(Err(BatchError::Malformed));
        };
        self.left -= 1;
        Some(Ok(record))
    }
}

impl<'a> Records<'a> {
    #[inline]
    fn record(&mut self) -> Option<RecordView<'a>> {
        let length = usize::try_from(varint::take_int(&mut self.rest)?).ok()?;
        let (mut body, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let (_attributes, after) = body.split_first()?;
        body = after;
        let timestamp = varint::take_long(&mut body)?;
        let delta = varint::take_int(&mut body)?;
        if delta < 0 || delta > self.batch.last_delta {
            return None;
        }
        let key = take_bytes(&mut body)?;
        let value = take_bytes(&mut body)?;
        let header_count = u32::try_from(varint::take_int(&mut body)?).ok()?;
        // Each header takes two bytes at least; they are walked once here, so that reading them later cannot fail.
        if header_count as usize > body.len() / 2 || !headers_whole(body, header_count) {
            return None;
        }
        Some(RecordView {
            // No more than `last_offset`, which was found to be an offset.
            offset: self.batch.base_offset + i64::from(delta),
            timestamp: self
                .batch
                .log_append_time
                .unwrap_or(self.batch.base_timestamp.wrapping_add(timestamp)),
            key,
            value,
            headers: body,
            header_count,
        })
    }
}

/// A length and so many bytes; -1 is null.
#[inline]
fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take_int(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(taken))
}

fn headers_whole(mut bytes: &[u8], count: u32) -> bool {
    (0..count).all(|_| matches!(take_bytes(&mut bytes), Some(Some(_))) && take_bytes(&mut bytes).is_some()) && bytes.is_empty()
}

impl<'a> RecordView<'a> {
    /// Headers in their order, repeats kept. Names need not be UTF-8.
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            rest: self.headers,
            left: self.header_count,
        }
    }
}

/// The headers of a record.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = take_bytes(&mut self.rest)??;
        Some((name, take_bytes(&mut self.rest)?))
    }
}
