//! Valid batches with a few bytes changed, thousands of times: the decoder never panics, always ends, and never gives out more than its
//! limits allow. In half of the cases the CRC is made to fit again, so that the change reaches what lies behind it. The seeds are
//! fixed: a failure names its case and comes again.

#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod kafka_batches;

use bytes::Bytes;
use kafka_batches::{CONTROL, LOG_APPEND_TIME, Raw, TRANSACTIONAL, record, varint};
use mqtt_kafka_proxy::kafka::{
    Compression, RecordFields,
    batch::{BatchBuilder, HEADER_LEN, Producer, crc32c},
    fetched::{self, BatchError, Limits},
};

const CASES: u64 = 60_000;
/// Less than some of the batches need, so that the limit itself is met.
const MOST: usize = 24 * 1024;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// Right batches of every kind: codecs, headers, control, compacted, several in one fetch.
fn seeds() -> Vec<Vec<u8>> {
    let built = |compression, count: usize, value: usize| {
        let mut builder = BatchBuilder::new();
        for n in 0..count {
            let key = format!("vehicle-{}", n % 3);
            let fields = RecordFields {
                timestamp: 1_700_000_000_000 - n as i64,
                key: (n % 4 > 0).then_some(key.as_bytes()),
                value: (n % 5 > 0).then_some(&b"rpm=3000;speed=80;rpm=3100;speed=81;"[..value]),
                headers: [("unit", Some(&b"rpm"[..])), ("none", None), ("unit", Some(b""))]
                    .into_iter()
                    .take(n % 4),
            };
            builder.append(&fields).unwrap();
        }
        let producer = Producer {
            producer_id: 5,
            producer_epoch: 1,
            base_sequence: 2,
        };
        builder.seal(&producer, compression).bytes.to_vec()
    };
    let codecs = [
        Compression::None,
        Compression::Gzip { level: 6 },
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd { level: 3 },
    ];
    let mut seeds: Vec<_> = codecs.iter().flat_map(|c| [built(*c, 12, 20), built(*c, 60, 36)]).collect();
    // Larger than the limit once decompressed.
    seeds.extend(codecs[1..].iter().map(|c| built(*c, 1_000, 36)));
    let raw = snap::raw::Encoder::new()
        .compress_vec(&record(0, 0, None, Some(&[7; 300]), &[]))
        .unwrap();
    let marker = Raw::of(&[record(0, 0, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[])]);
    let odd = [
        Raw {
            attributes: 2,
            last_delta: 0,
            count: 1,
            records: raw,
            ..Raw::of(&[])
        },
        Raw {
            attributes: CONTROL | TRANSACTIONAL,
            ..marker
        },
        Raw {
            last_delta: 9,
            attributes: LOG_APPEND_TIME,
            ..Raw::of(&[record(0, 3, None, None, &[]), record(-5, 8, Some(b""), Some(b""), &[(b"", None)])])
        },
        Raw {
            last_delta: 9,
            ..Raw::of(&[])
        },
    ];
    seeds.extend(odd.iter().map(Raw::bytes));
    // The plain ones again: behind a changed byte of compressed records there is seldom more to see.
    seeds.extend([1, 2, 3, 5, 8, 13].map(|count| built(Compression::None, count, 7)));
    seeds.push([built(Compression::None, 3, 5), odd[2].bytes(), built(Compression::Lz4, 30, 36)].concat());
    seeds
}

/// One to eight changes; `from` keeps those that must reach the records off the header.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random, from: usize) {
    for _ in 0..=random.below(8) {
        if bytes.len() <= from {
            return;
        }
        let at = from + random.below(bytes.len() - from);
        match random.below(8) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.of(&[0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF]),
            2 => bytes[at] = random.next() as u8,
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.next() as u8),
            5 => {
                bytes.remove(at);
            }
            6 => {
                // A field of four bytes at an edge.
                let value = random.of(&[i32::MAX, i32::MIN, -1, 0, 1, i32::MAX - 12, 1 << 24]).to_be_bytes();
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            _ => {
                // A varint at an edge, written over what is there.
                let edge = random.of(&[
                    i64::MAX,
                    i64::MIN,
                    i64::from(i32::MAX),
                    i64::from(i32::MIN),
                    -1,
                    -2,
                    1 << 31,
                    1 << 40,
                ]);
                let value = varint(edge);
                let end = bytes.len().min(at + value.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
        }
    }
}

/// The length of the first batch and its CRC made to fit its bytes; what follows is part of it then.
fn repair(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() < HEADER_LEN {
        return bytes;
    }
    let mut bytes = bytes;
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// What the cases came to, so that the test knows that it reached what it is about.
#[derive(Debug, Default)]
struct Tally {
    batches: u64,
    whole_batches: u64,
    records: u64,
    headers: u64,
    corrupt: u64,
    malformed_header: u64,
    malformed_record: u64,
    compression: u64,
    other_format: u64,
}

fn read(bytes: Bytes, tally: &mut Tally) {
    let (length, most_batches) = (bytes.len(), bytes.len() / 17 + 1);
    let mut seen = 0;
    for batch in fetched::batches(bytes, Limits { max_decompressed: MOST }) {
        seen += 1;
        assert!(seen <= most_batches, "more batches than can be in {length} bytes");
        tally.batches += 1;
        match batch {
            Ok(batch) => read_batch(&batch, length, tally),
            Err(BatchError::Corrupt) => tally.corrupt += 1,
            Err(BatchError::Malformed) => tally.malformed_header += 1,
            Err(BatchError::Compression(_)) => tally.compression += 1,
            Err(BatchError::OldFormat { .. } | BatchError::UnknownFormat { .. }) => tally.other_format += 1,
        }
    }
}

fn read_batch(batch: &fetched::Batch, length: usize, tally: &mut Tally) {
    let most = MOST.max(length);
    assert!(batch.count() as usize <= most / 7, "{} records announced", batch.count());
    assert!(batch.base_offset >= 0 && batch.last_offset >= batch.base_offset);
    if let Some(kind) = batch.control_type() {
        assert!(batch.is_control, "kind {kind}");
    }
    let (mut records, mut given) = (0, 0);
    for record in batch.records() {
        records += 1;
        assert!(records <= batch.count() + 1, "records without end");
        let Ok(record) = record else {
            tally.malformed_record += 1;
            return;
        };
        assert!((batch.base_offset..=batch.last_offset).contains(&record.offset));
        given += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let announced = record.headers().clone().count() as u64;
        let mut walked = 0;
        for (name, value) in record.headers() {
            walked += 1;
            given += name.len() + value.map_or(0, <[u8]>::len);
        }
        assert_eq!(announced, walked);
        tally.records += 1;
        tally.headers += walked;
    }
    assert!(given <= most, "{given} bytes of records from {length}");
    tally.whole_batches += 1;
}

#[test]
fn changed_batches_never_panic_and_never_pass_the_limits() {
    let seeds = seeds();
    let mut tally = Tally::default();
    for case in 0..CASES {
        let mut random = Random(case);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        let fits = case % 2 == 0;
        // The attributes and what follows, or only the records: changes of the header end most cases early.
        let from = match (fits, random.below(4)) {
            (false, _) => 0,
            (true, 0) => 21,
            (true, _) => HEADER_LEN,
        };
        mutate(&mut bytes, &mut random, from);
        let bytes = if fits { repair(bytes) } else { bytes };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(Bytes::from(bytes), &mut tally)));
        assert!(result.is_ok(), "case {case}");
    }
    println!("{tally:?}");
    // It met every kind of end often.
    assert!(tally.records > CASES / 2 && tally.headers > CASES / 2, "{tally:?}");
    for met in [
        tally.whole_batches,
        tally.corrupt,
        tally.malformed_header,
        tally.malformed_record,
        tally.compression,
        tally.other_format,
    ] {
        assert!(met > CASES / 500, "{tally:?}");
    }
    assert!(tally.malformed_record > CASES / 20 && tally.batches > CASES / 2, "{tally:?}");
}

/// Unchanged, the seeds are read whole, or stopped at the limit: the changes are what the test above tests.
#[test]
fn the_seeds_are_right() {
    for (at, seed) in seeds().into_iter().enumerate() {
        let mut tally = Tally::default();
        read(Bytes::from(seed), &mut tally);
        assert_eq!(tally.batches, tally.whole_batches + tally.compression, "seed {at}: {tally:?}");
        assert_eq!(tally.compression > 0, (10..14).contains(&at), "seed {at}: {tally:?}");
    }
}
