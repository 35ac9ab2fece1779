//! Batches on their way to Kafka: what is written is what was given, in every codec, and the independent implementation of
//! kafka-protocol reads ours and writes the same.

#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod kafka_batches;

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    protocol::StrBytes,
    records::{self as theirs, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};
use mqtt_kafka_proxy::kafka::{
    Compression, Header, RecordFields,
    batch::{self, BatchBuilder, HEADER_LEN, NoRoom, Producer, SealedBatch},
    fetched::{self, Batch, BatchError, Limits},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

const LIMITS: Limits = Limits {
    max_decompressed: 16 << 20,
};

const CODECS: [Compression; 11] = [
    Compression::None,
    Compression::Gzip { level: 0 },
    Compression::Gzip { level: 1 },
    Compression::Gzip { level: 6 },
    Compression::Gzip { level: 9 },
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd { level: 1 },
    Compression::Zstd { level: 3 },
    Compression::Zstd { level: 9 },
    Compression::Zstd { level: 19 },
];

/// A record that owns its fields.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    fn fields(&self) -> RecordFields<'_, impl Iterator<Item = Header<'_>> + Clone> {
        RecordFields {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())),
        }
    }
}

fn sealed(records: &[Owned], producer: &Producer, compression: Compression) -> SealedBatch {
    let mut builder = BatchBuilder::new();
    for record in records {
        let expected = builder.len() + builder.encoded_len(&record.fields());
        builder.append(&record.fields()).unwrap();
        assert_eq!(builder.len(), expected, "encoded_len says what append adds");
    }
    assert_eq!(builder.count() as usize, records.len());
    builder.seal(producer, compression)
}

fn read(bytes: &Bytes) -> Result<Batch, BatchError> {
    let mut batches = fetched::batches(bytes.clone(), LIMITS);
    let batch = batches.next().expect("a batch");
    assert!(batches.next().is_none());
    batch
}

fn records_of(batch: &Batch) -> Vec<Owned> {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    batch
        .records()
        .enumerate()
        .map(|(at, record)| {
            let record = record.unwrap();
            assert_eq!(record.offset, batch.base_offset + at as i64);
            Owned {
                timestamp: record.timestamp,
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                headers: record.headers().map(|(name, value)| (text(name), value.map(Into::into))).collect(),
            }
        })
        .collect()
}

/// Bytes that no codec makes smaller.
fn noise(seed: u32, length: u32) -> Vec<u8> {
    (0..length).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Bytes of lengths around the steps of a varint; compressible and not.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        2 => (select(&[0, 1, 62, 63, 64, 65, 127, 128, 8_190, 8_191, 8_192, 8_193][..]), any::<u8>()).prop_map(|(n, b)| vec![b; n]),
        1 => (any::<u32>(), 8_000u32..8_400).prop_map(|(seed, length)| noise(seed, length)),
    ]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => 1_700_000_000_000i64..1_700_000_100_000,
        1 => -1_000i64..1_000,
        1 => select(&[i64::MIN, i64::MAX, -1, 0][..]),
        1 => any::<i64>(),
    ]
}

fn record(names: impl Strategy<Value = String>, timestamp: impl Strategy<Value = i64>) -> impl Strategy<Value = Owned> {
    (
        timestamp,
        option::of(bytes()),
        option::of(bytes()),
        vec((names, option::of(bytes())), 0..5),
    )
        .prop_map(|(timestamp, key, value, headers)| Owned {
            timestamp,
            key,
            value,
            headers,
        })
}

/// Few names, so that they repeat.
fn any_records() -> impl Strategy<Value = Vec<Owned>> {
    let name = prop_oneof![select(&["", "a", "b", "mqtt.topic"][..]).prop_map(String::from), "\\PC{0,80}"];
    vec(record(name, timestamp()), 1..20)
}

/// What kafka-protocol can express: header names once each, and no difference of timestamps that overflows.
fn their_records() -> impl Strategy<Value = Vec<Owned>> {
    vec(record("[a-z]{1,10}", 0i64..1 << 41), 1..20).prop_map(|mut records| {
        for record in &mut records {
            record.headers.sort();
            record.headers.dedup_by(|a, b| a.0 == b.0);
        }
        records
    })
}

fn producer() -> impl Strategy<Value = Producer> {
    let stamped = (0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX).prop_map(|(producer_id, producer_epoch, base_sequence)| Producer {
        producer_id,
        producer_epoch,
        base_sequence,
    });
    prop_oneof![Just(Producer::NONE), stamped]
}

fn as_theirs(records: &[Owned], producer: &Producer) -> Vec<theirs::Record> {
    let one = |(at, record): (usize, &Owned)| theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: at as i64,
        sequence: producer.base_sequence.wrapping_add(at as i32),
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: (record.headers.iter())
            .map(|(name, value)| (StrBytes::from_string(name.clone()), value.clone().map(Bytes::from)))
            .collect(),
    };
    records.iter().enumerate().map(one).collect()
}

fn written_by_them(records: &[theirs::Record], compression: theirs::Compression) -> Bytes {
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    out.freeze()
}

fn their_codec(compression: Compression) -> theirs::Compression {
    match compression {
        Compression::None => theirs::Compression::None,
        Compression::Gzip { .. } => theirs::Compression::Gzip,
        Compression::Snappy => theirs::Compression::Snappy,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd { .. } => theirs::Compression::Zstd,
    }
}

/// Records that every codec makes smaller.
fn compressible() -> Vec<Owned> {
    let headers = vec![("unit".to_owned(), Some(b"rpm".to_vec())), ("none".to_owned(), None)];
    let record = |n: usize| Owned {
        timestamp: 1_700_000_000_000 + n as i64,
        key: Some(format!("vehicle-{}", n % 7).into()),
        value: Some(b"rpm=3000;".repeat(n % 40)),
        headers: headers.clone(),
    };
    (0..400).map(record).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(records in any_records(), producer in producer(), compression in select(&CODECS[..])) {
        let sealed = sealed(&records, &producer, compression);
        let batch = read(&sealed.bytes).unwrap();
        prop_assert_eq!((batch.count(), sealed.count), (records.len() as u32, records.len() as u32));
        prop_assert_eq!((batch.base_offset, batch.last_offset), (0, records.len() as i64 - 1));
        prop_assert_eq!(batch.producer_id, producer.producer_id);
        prop_assert!(!batch.is_control && !batch.is_transactional && batch.log_append_time.is_none());
        prop_assert_eq!(records_of(&batch), records);
    }

    /// The header of the batch, read at the places that KIP-98 gives.
    #[test]
    fn the_header_says_what_is_in_it(records in any_records(), producer in producer()) {
        let bytes = sealed(&records, &producer, Compression::None).bytes;
        let at = |from: usize, to: usize| bytes[from..to].iter().fold(0i128, |n, b| n << 8 | i128::from(*b));
        let max = records.iter().map(|r| r.timestamp).max().unwrap();
        prop_assert_eq!(at(0, 8), 0);
        prop_assert_eq!(at(8, 12), bytes.len() as i128 - 12);
        prop_assert_eq!(at(12, 16) as u32 as i32, -1);
        prop_assert_eq!(at(16, 17), 2);
        prop_assert_eq!(at(17, 21), i128::from(kafka_batches::crc32c(&bytes[21..])));
        prop_assert_eq!(at(21, 23), 0);
        prop_assert_eq!(at(23, 27), records.len() as i128 - 1);
        prop_assert_eq!(at(27, 35) as u64 as i64, records[0].timestamp);
        prop_assert_eq!(at(35, 43) as u64 as i64, max);
        prop_assert_eq!(at(43, 51) as u64 as i64, producer.producer_id);
        prop_assert_eq!(at(51, 53) as u16 as i16, producer.producer_epoch);
        prop_assert_eq!(at(53, 57) as u32 as i32, producer.base_sequence);
        prop_assert_eq!(at(57, 61), records.len() as i128);
    }

    /// Theirs takes the least timestamp for the base, the Java client and we the first: the same if the first is the least.
    #[test]
    fn uncompressed_batches_are_those_of_kafka_protocol_byte_by_byte(mut records in their_records(), producer in producer()) {
        let least = records.iter().map(|r| r.timestamp).min().unwrap();
        records[0].timestamp = least;
        let ours = sealed(&records, &producer, Compression::None).bytes;
        // Without idempotence the sequence is -1 for all of a batch; theirs makes a batch of each record then, so it is stamped afterwards.
        let counted = if producer == Producer::NONE { Producer { base_sequence: 0, ..producer } } else { producer };
        let mut theirs = written_by_them(&as_theirs(&records, &counted), theirs::Compression::None).to_vec();
        batch::restamp(&mut theirs, &producer);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn kafka_protocol_reads_ours(records in their_records(), producer in producer(), compression in select(&CODECS[..])) {
        let mut bytes = sealed(&records, &producer, compression).bytes;
        let read = RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert!(bytes.is_empty());
        let mut expected = as_theirs(&records, &producer);
        // Its decoder counts on from the base sequence also where there is none.
        for (record, read) in expected.iter_mut().zip(&read.records) {
            if producer == Producer::NONE {
                record.sequence = read.sequence;
            }
        }
        prop_assert_eq!(read.records, expected);
    }

    #[test]
    fn we_read_what_kafka_protocol_writes(records in their_records(), compression in select(&CODECS[..])) {
        let producer = Producer { producer_id: 9, producer_epoch: 1, base_sequence: 40 };
        let bytes = written_by_them(&as_theirs(&records, &producer), their_codec(compression));
        let batch = read(&bytes).unwrap();
        prop_assert_eq!(records_of(&batch), records);
        prop_assert_eq!(batch.producer_id, 9);
    }

    #[test]
    fn a_new_stamp_changes_nothing_else(
        records in any_records(), first in producer(), second in producer(), compression in select(&CODECS[..]),
    ) {
        let mut restamped = sealed(&records, &first, compression).bytes.to_vec();
        let before = restamped.clone();
        batch::restamp(&mut restamped, &second);
        prop_assert_eq!(&restamped, &sealed(&records, &second, compression).bytes);
        let kept = |bytes: &[u8]| [&bytes[..17], &bytes[21..43], &bytes[57..]].concat();
        prop_assert_eq!(kept(&restamped), kept(&before));
        prop_assert_eq!(records_of(&read(&restamped.into()).unwrap()), records);
    }

    #[test]
    fn the_limit_is_kept_to_the_byte(records in any_records(), short in 1usize..200) {
        let mut builder = BatchBuilder::new();
        for record in &records {
            let (length, count) = (builder.len(), builder.count());
            let needed = length + builder.encoded_len(&record.fields());
            for limit in [needed - 1, needed.saturating_sub(short), 0] {
                prop_assert_eq!(builder.append_within(&record.fields(), limit), Err(NoRoom { needed }));
                prop_assert_eq!((builder.len(), builder.count()), (length, count));
            }
            prop_assert_eq!(builder.append_within(&record.fields(), needed), Ok(()));
            prop_assert_eq!((builder.len(), builder.count()), (needed, count + 1));
        }
        let batch = read(&builder.seal(&Producer::NONE, Compression::None).bytes).unwrap();
        prop_assert_eq!(records_of(&batch), records);
    }
}

/// A codec that does nothing would pass the properties: each one must be used, be named in the attributes and help.
#[test]
fn every_codec_is_used_where_it_helps_and_left_where_it_does_not() {
    let records = compressible();
    let plain = sealed(&records, &Producer::NONE, Compression::None).bytes;
    let noise = vec![Owned {
        timestamp: 0,
        key: None,
        value: Some(noise(0, 200)),
        headers: vec![],
    }];
    for compression in CODECS {
        let bytes = sealed(&records, &Producer::NONE, compression).bytes;
        let helps = !matches!(compression, Compression::None | Compression::Gzip { level: 0 });
        assert_eq!(
            bytes.len() < plain.len() / 2,
            helps,
            "{compression:?}: {} of {}",
            bytes.len(),
            plain.len()
        );
        let codec = if helps { their_codec(compression) as u8 } else { 0 };
        assert_eq!(bytes[21..23], [0, codec], "{compression:?}");
        assert_eq!(records_of(&read(&bytes).unwrap()), records, "{compression:?}");
        let bytes = sealed(&noise, &Producer::NONE, compression).bytes;
        assert_eq!(bytes, sealed(&noise, &Producer::NONE, Compression::None).bytes, "{compression:?}");
    }
}

/// The properties above rarely reach a second block of snappy or LZ4; these records do.
#[test]
fn long_batches_of_every_codec_go_both_ways() {
    let records: Vec<_> = (0..40).flat_map(|_| compressible()).collect();
    let stamp = Producer {
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 0,
    };
    let expected = as_theirs(&records, &stamp);
    for compression in [
        Compression::Gzip { level: 6 },
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd { level: 3 },
    ] {
        let mut ours = sealed(&records, &stamp, compression).bytes;
        assert_eq!(RecordBatchDecoder::decode(&mut ours).unwrap().records, expected, "{compression:?}");
        let theirs = written_by_them(&expected, their_codec(compression));
        assert_eq!(records_of(&read(&theirs).unwrap()), records, "{compression:?}");
    }
}

/// The Java client reads LZ4 frames of independent blocks only, and xerial's framing in blocks of 32 KiB.
#[test]
fn the_framing_is_what_the_java_client_reads() {
    let records: Vec<_> = (0..40).flat_map(|_| compressible()).collect();
    let lz4 = sealed(&records, &Producer::NONE, Compression::Lz4).bytes;
    let flags = lz4[HEADER_LEN + 4];
    assert_eq!(lz4[HEADER_LEN..HEADER_LEN + 4], 0x184D_2204u32.to_le_bytes());
    assert_eq!((flags >> 6, flags >> 5 & 1), (1, 1), "version 1, independent blocks: {flags:08b}");
    let snappy = sealed(&records, &Producer::NONE, Compression::Snappy).bytes;
    let mut rest = snappy[HEADER_LEN..].strip_prefix(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").unwrap();
    let mut blocks = vec![];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (block, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        blocks.push(snap::raw::decompress_len(block).unwrap());
        rest = after;
    }
    let (last, full) = blocks.split_last().unwrap();
    assert!(
        full.len() > 10 && full.iter().all(|n| *n == 32 * 1024) && *last <= 32 * 1024,
        "{blocks:?}"
    );
}

#[test]
fn a_builder_with_a_used_buffer_forgets_what_was_in_it() {
    let records = compressible();
    let mut builder = BatchBuilder::with_buffer(vec![0xAA; 5_000]);
    assert!(builder.is_empty() && builder.len() == HEADER_LEN);
    records.iter().for_each(|r| builder.append(&r.fields()).unwrap());
    let fresh = sealed(&records, &Producer::NONE, Compression::None);
    assert_eq!(builder.seal(&Producer::NONE, Compression::None).bytes, fresh.bytes);
}

#[test]
fn a_stamp_on_fewer_bytes_than_a_header_does_nothing() {
    let mut short = vec![7; HEADER_LEN - 1];
    batch::restamp(&mut short, &Producer::NONE);
    assert_eq!(short, [7; HEADER_LEN - 1]);
}
