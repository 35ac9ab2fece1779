//! Record batches v2 on their way to Kafka (KIP-98): written once into one growing buffer, sealed once.
//!
//! The layout of the 61 bytes in front of the records, offsets in parentheses: base offset (0), length (8), partition
//! leader epoch (12), magic (16), CRC-32C of all that follows (17), attributes (21), last offset delta (23), base
//! timestamp (27), max timestamp (35), producer id (43), producer epoch (51), base sequence (53), record count (57).

use bytes::Bytes;

use super::{Compression, Header, RecordFields, compression::Compressor};
use crate::wire::varint;

/// Bytes in front of the records.
pub const HEADER_LEN: usize = 61;
/// Where the CRC's coverage begins.
pub(super) const CRC_FROM: usize = 21;
/// Largest batch, header included: its length is a signed 32-bit field.
const MAX_LEN: usize = i32::MAX as usize;

/// Who produced a batch, and where in its sequence it stands (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// From InitProducerId.
    pub producer_id: i64,
    /// From InitProducerId, or bumped.
    pub producer_epoch: i16,
    /// Of the first record.
    pub base_sequence: i32,
}

impl Producer {
    /// A batch without idempotence.
    pub const NONE: Self = Self {
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
    };
}

/// A record that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// A field, or the batch with it, would be longer than a signed 32-bit length can say.
    TooLarge,
}

/// A record would make a batch longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that the batch would have with it, header included.
    pub needed: usize,
}

/// A batch being filled.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// A batch ready to be sent.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    /// Header and records.
    pub bytes: Bytes,
    /// Records in it.
    pub count: u32,
}

/// Lengths of one record, worked out once.
struct Lengths {
    headers: usize,
    body: usize,
}

impl BatchBuilder {
    /// An empty batch; nothing is allocated before the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch that writes into a buffer used before.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { buffer, ..Self::default() }
    }

    /// Bytes a record would add to this batch.
    pub fn encoded_len<'a, H: Iterator<Item = Header<'a>> + Clone>(&self, fields: &RecordFields<'a, H>) -> usize {
        let body = self.lengths(fields).body;
        varint::len(body as i64) + body
    }

    /// Writes a record behind the others. Timestamps may go backwards.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`]; the batch is as before.
    pub fn append<'a, H: Iterator<Item = Header<'a>> + Clone>(&mut self, fields: &RecordFields<'a, H>) -> Result<(), AppendError> {
        self.append_within(fields, MAX_LEN).map_err(|_| AppendError::TooLarge)
    }

    /// Writes a record behind the others if the batch then has no more than `limit` bytes, header included. The length is
    /// worked out once for both, so the headers are walked twice in all.
    ///
    /// # Errors
    /// [`NoRoom`]; the batch is as before.
    #[inline]
    pub fn append_within<'a, H>(&mut self, fields: &RecordFields<'a, H>, limit: usize) -> Result<(), NoRoom>
    where
        H: Iterator<Item = Header<'a>> + Clone,
    {
        let lengths = self.lengths(fields);
        let needed = self.len() + varint::len(lengths.body as i64) + lengths.body;
        if needed > limit.min(MAX_LEN) {
            return Err(NoRoom { needed });
        }
        if self.count == 0 {
            self.buffer.clear();
            self.buffer.resize(HEADER_LEN, 0);
            (self.base_timestamp, self.max_timestamp) = (fields.timestamp, fields.timestamp);
        }
        let (delta, index) = (fields.timestamp.wrapping_sub(self.base_timestamp), i64::from(self.count));
        let out = &mut self.buffer;
        out.reserve(needed - out.len());
        varint::put(lengths.body as i64, out);
        out.push(0);
        varint::put(delta, out);
        varint::put(index, out);
        put_bytes(fields.key, out);
        put_bytes(fields.value, out);
        varint::put(lengths.headers as i64, out);
        for (name, value) in fields.headers.clone() {
            put_bytes(Some(name.as_bytes()), out);
            put_bytes(value, out);
        }
        debug_assert_eq!(out.len(), needed, "the headers were others when they were walked again");
        self.max_timestamp = self.max_timestamp.max(fields.timestamp);
        self.count += 1;
        Ok(())
    }

    fn lengths<'a, H: Iterator<Item = Header<'a>> + Clone>(&self, fields: &RecordFields<'a, H>) -> Lengths {
        let base = if self.count == 0 { fields.timestamp } else { self.base_timestamp };
        let (mut headers, mut body) = (0, 1);
        body += varint::len(fields.timestamp.wrapping_sub(base)) + varint::len(i64::from(self.count));
        body += bytes_len(fields.key) + bytes_len(fields.value);
        for (name, value) in fields.headers.clone() {
            headers += 1;
            body += bytes_len(Some(name.as_bytes())) + bytes_len(value);
        }
        Lengths {
            headers,
            body: body + varint::len(headers as i64),
        }
    }

    /// Bytes so far, header included.
    pub fn len(&self) -> usize {
        self.buffer.len().max(HEADER_LEN)
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether no record is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// As [`seal_with`](Self::seal_with), with a compressor for this batch alone.
    pub fn seal(self, producer: &Producer, compression: Compression) -> SealedBatch {
        self.seal_with(producer, compression, &mut Compressor::default())
    }

    /// Compresses (if that makes it smaller), fills the header, computes the CRC.
    pub fn seal_with(mut self, producer: &Producer, compression: Compression, compressor: &mut Compressor) -> SealedBatch {
        if self.buffer.len() < HEADER_LEN {
            self.buffer.resize(HEADER_LEN, 0);
        }
        let attributes = self.compress(compression, compressor);
        let count = self.count as i32;
        let length = (self.buffer.len() - 12) as i32;
        let batch = &mut self.buffer;
        batch[..8].fill(0);
        set(batch, 8, length.to_be_bytes());
        set(batch, 12, (-1i32).to_be_bytes());
        batch[16] = 2;
        set(batch, 21, attributes.to_be_bytes());
        set(batch, 23, (count - 1).to_be_bytes());
        set(batch, 27, self.base_timestamp.to_be_bytes());
        set(batch, 35, self.max_timestamp.to_be_bytes());
        set(batch, 57, count.to_be_bytes());
        restamp(batch, producer);
        SealedBatch {
            bytes: Bytes::from(self.buffer),
            count: self.count,
        }
    }

    fn compress(&mut self, compression: Compression, compressor: &mut Compressor) -> i16 {
        let records = &mut self.buffer[HEADER_LEN..];
        let Some(smaller) = compressor.compress(compression, records).filter(|out| out.len() < records.len()) else {
            return 0;
        };
        records[..smaller.len()].copy_from_slice(smaller);
        self.buffer.truncate(HEADER_LEN + smaller.len());
        compression.attribute()
    }
}

/// Gives a sealed batch another producer id, epoch and sequence; the CRC is computed anew. Fewer than 61 bytes are left alone.
pub fn restamp(batch: &mut [u8], producer: &Producer) {
    if batch.len() < HEADER_LEN {
        return;
    }
    set(batch, 43, producer.producer_id.to_be_bytes());
    set(batch, 51, producer.producer_epoch.to_be_bytes());
    set(batch, 53, producer.base_sequence.to_be_bytes());
    let crc = crc32c(&batch[CRC_FROM..]);
    set(batch, 17, crc.to_be_bytes());
}

/// CRC-32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

fn set<const N: usize>(batch: &mut [u8], at: usize, bytes: [u8; N]) {
    batch[at..at + N].copy_from_slice(&bytes);
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::len(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn put_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => {
            varint::put(bytes.len() as i64, out);
            out.extend_from_slice(bytes);
        }
        None => varint::put(-1, out),
    }
}
