//! Record batches written out by hand, field by field (KIP-98), so that a test can lie in any of them. Shares no line with
//! `src/kafka`: its varints and its CRC are the plain ones of the definitions.

// Each test binary uses its own part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

use bytes::Bytes;
use mqtt_kafka_proxy::kafka::fetched::{self, Batch, BatchError, Limits};

pub const LIMITS: Limits = Limits { max_decompressed: 1 << 20 };

pub const LOG_APPEND_TIME: i16 = 0x08;
pub const TRANSACTIONAL: i16 = 0x10;
pub const CONTROL: i16 = 0x20;

/// A batch as its fields; `records` are bytes as they lie in it.
#[derive(Clone, Debug)]
pub struct Raw {
    pub base_offset: i64,
    pub magic: i8,
    pub attributes: i16,
    pub last_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub count: i32,
    pub records: Vec<u8>,
}

impl Raw {
    /// A batch at offset 100 that is right if the records are.
    pub fn of(records: &[Vec<u8>]) -> Self {
        Self {
            base_offset: 100,
            magic: 2,
            attributes: 0,
            last_delta: records.len() as i32 - 1,
            base_timestamp: 1_000,
            max_timestamp: 5_000,
            producer_id: -1,
            count: records.len() as i32,
            records: records.concat(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut covered = vec![];
        covered.extend(self.attributes.to_be_bytes());
        covered.extend(self.last_delta.to_be_bytes());
        covered.extend(self.base_timestamp.to_be_bytes());
        covered.extend(self.max_timestamp.to_be_bytes());
        covered.extend(self.producer_id.to_be_bytes());
        covered.extend(7i16.to_be_bytes());
        covered.extend(11i32.to_be_bytes());
        covered.extend(self.count.to_be_bytes());
        covered.extend(&self.records);
        let mut out = vec![];
        out.extend(self.base_offset.to_be_bytes());
        out.extend((4 + 1 + 4 + covered.len() as i32).to_be_bytes());
        out.extend(3i32.to_be_bytes());
        out.push(self.magic as u8);
        out.extend(crc32c(&covered).to_be_bytes());
        out.extend(covered);
        out
    }

    /// What the decoder says of it when it stands alone.
    pub fn read(&self) -> Result<Batch, BatchError> {
        one(self.bytes())
    }

    /// What the decoder says of its records.
    pub fn outcome(&self) -> Outcome {
        outcome(self.bytes(), LIMITS)
    }
}

/// What reading one batch to its end came to: records before an error, and the error.
pub type Outcome = (usize, Result<(), BatchError>);

pub fn outcome(bytes: Vec<u8>, limits: Limits) -> Outcome {
    let mut batches = fetched::batches(Bytes::from(bytes), limits);
    let batch = match batches.next().expect("a batch") {
        Ok(batch) => batch,
        Err(error) => return (0, Err(error)),
    };
    assert!(batches.next().is_none(), "one batch");
    let mut whole = 0;
    let mut records = batch.records();
    for record in records.by_ref() {
        if let Err(error) = record {
            assert!(records.next().is_none(), "an error ends the batch");
            return (whole, Err(error));
        }
        whole += 1;
    }
    (whole, Ok(()))
}

/// The only batch in these bytes.
pub fn one(bytes: Vec<u8>) -> Result<Batch, BatchError> {
    let mut batches = fetched::batches(Bytes::from(bytes), LIMITS);
    let batch = batches.next().expect("a batch");
    assert!(batches.next().is_none(), "one batch");
    batch
}

/// A record whose length is right.
pub fn record(timestamp: i64, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], Option<&[u8]>)]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(varint(timestamp));
    body.extend(varint(offset));
    body.extend(field(key));
    body.extend(field(value));
    body.extend(varint(headers.len() as i64));
    for (name, value) in headers {
        body.extend(field(Some(name)));
        body.extend(field(*value));
    }
    with_length(&body)
}

pub fn with_length(body: &[u8]) -> Vec<u8> {
    [varint(body.len() as i64), body.to_vec()].concat()
}

/// A length and so many bytes.
pub fn field(bytes: Option<&[u8]>) -> Vec<u8> {
    match bytes {
        Some(bytes) => [varint(bytes.len() as i64), bytes.to_vec()].concat(),
        None => varint(-1),
    }
}

/// Zigzag, then seven bits a byte.
pub fn varint(value: i64) -> Vec<u8> {
    let mut rest = if value < 0 { !(value as u64) * 2 + 1 } else { value as u64 * 2 };
    let mut out = vec![];
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            out.push(low);
            return out;
        }
        out.push(low + 128);
    }
}

/// CRC-32C bit by bit, reflected, polynomial 0x1EDC6F41.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
