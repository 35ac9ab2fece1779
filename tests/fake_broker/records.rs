//! Record batches as other producers write them (format v2), by the layout of Kafka's documentation: shares no line with `src/kafka`.

use std::io::Write;

/// One record; all of it may be changed before it is put into a batch.
#[derive(Clone)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, String)>,
    /// Milliseconds before now.
    pub age_ms: i64,
}

pub fn record(key: &str, value: &str) -> Record {
    Record {
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Vec::new(),
        age_ms: 0,
    }
}

impl Record {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// The codecs by their numbers in the attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

/// A batch about to be written.
pub struct Batch {
    records: Vec<Record>,
    codec: Codec,
    /// Of the transaction it belongs to.
    transaction: Option<i64>,
    control: bool,
    first_sequence: i32,
}

impl Batch {
    pub fn of(records: &[Record]) -> Self {
        Self {
            records: records.to_vec(),
            codec: Codec::None,
            transaction: None,
            control: false,
            first_sequence: -1,
        }
    }

    /// The marker that ends a transaction.
    pub fn marker(producer: i64, commit: bool) -> Self {
        let marker = Record {
            key: Some(vec![0, 0, 0, u8::from(commit)]),
            value: Some(vec![0; 6]),
            headers: Vec::new(),
            age_ms: 0,
        };
        Self {
            control: true,
            transaction: Some(producer),
            ..Self::of(&[marker])
        }
    }

    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    pub fn transaction(mut self, producer: i64, first_sequence: i32) -> Self {
        self.transaction = Some(producer);
        self.first_sequence = first_sequence;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as i64;
        let stamps: Vec<i64> = self.records.iter().map(|r| now - r.age_ms).collect();
        let mut plain = Vec::new();
        for (i, record) in self.records.iter().enumerate() {
            let body = body(record, stamps[i] - stamps[0], i as i64);
            varint(&mut plain, body.len() as i64);
            plain.extend(body);
        }
        let attributes = self.codec as i16 | if self.transaction.is_some() { 0x10 } else { 0 } | if self.control { 0x20 } else { 0 };
        let mut tail = Vec::new();
        tail.extend(attributes.to_be_bytes());
        tail.extend((self.records.len() as i32 - 1).to_be_bytes());
        tail.extend(stamps[0].to_be_bytes());
        tail.extend(stamps.iter().max().unwrap().to_be_bytes());
        tail.extend(self.transaction.unwrap_or(-1).to_be_bytes());
        tail.extend((if self.transaction.is_some() { 0i16 } else { -1 }).to_be_bytes());
        tail.extend(self.first_sequence.to_be_bytes());
        tail.extend((self.records.len() as i32).to_be_bytes());
        tail.extend(self.compressed(&plain));
        let mut all = 0i64.to_be_bytes().to_vec();
        all.extend((4 + 1 + 4 + tail.len() as i32).to_be_bytes());
        all.extend(0i32.to_be_bytes());
        all.push(2);
        all.extend((crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &tail) as u32).to_be_bytes());
        all.extend(tail);
        all
    }

    fn compressed(&self, plain: &[u8]) -> Vec<u8> {
        match self.codec {
            Codec::None => plain.to_vec(),
            Codec::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                gzip.write_all(plain).unwrap();
                gzip.finish().unwrap()
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
            Codec::Lz4 => {
                let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
                lz4.write_all(plain).unwrap();
                lz4.finish().unwrap()
            }
            Codec::Zstd => zstd::encode_all(plain, 3).unwrap(),
        }
    }
}

fn body(record: &Record, stamp: i64, offset: i64) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, stamp);
    varint(&mut body, offset);
    for part in [&record.key, &record.value] {
        match part {
            None => varint(&mut body, -1),
            Some(bytes) => {
                varint(&mut body, bytes.len() as i64);
                body.extend(bytes);
            }
        }
    }
    varint(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        for text in [name, value.as_str()] {
            varint(&mut body, text.len() as i64);
            body.extend(text.as_bytes());
        }
    }
    body
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
