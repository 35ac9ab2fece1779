//! Nanoseconds of one record on its way into a batch and out of one, as the proxy does it, with kafka-protocol's encoder and decoder
//! beside them in the same run. A record has a key of 20 bytes and a value of 100; batches hold what fits 16 KiB, the usual
//! `batch_size`. Encoding includes the seal (header, CRC), decoding the CRC and a walk over all headers: both divided by the records.
//!
//! The machine is shared: the loops of the contestants alternate, and the best of each counts. A goal that is missed is an error once all
//! has been measured.

use std::{hint::black_box, process::ExitCode, time::Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    protocol::StrBytes,
    records::{self as theirs, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
};
use mqtt_kafka_proxy::kafka::{
    Compression, Header, RecordFields,
    batch::{BatchBuilder, Producer, crc32c},
    fetched::{self, Limits},
};

const LOOPS: usize = 200;
/// Batches in one loop: about half a millisecond.
const BATCHES: usize = 100;
const BATCH_SIZE: usize = 16 * 1024;
const KEY: &[u8] = b"WVWZZZ1JZ3W386752-01";
const VALUE: &[u8] = &[0x37; 100];
const HEADERS: [Header<'static>; 3] = [
    ("mqtt.qos", Some(b"1")),
    ("mqtt.client", Some(b"device-0042")),
    ("sensor", Some(b"rpm")),
];
const PRODUCER: Producer = Producer {
    producer_id: 4_000,
    producer_epoch: 0,
    base_sequence: 77,
};
const LIMITS: Limits = Limits { max_decompressed: 1 << 24 };

/// What was measured, and what is to be reached, in nanoseconds a record.
struct Line {
    what: &'static str,
    ours: f64,
    theirs: f64,
    goal: Option<f64>,
}

fn fields(headers: &'static [Header<'static>], at: usize) -> RecordFields<'static, impl Iterator<Item = Header<'static>> + Clone> {
    RecordFields {
        timestamp: 1_700_000_000_000 + at as i64,
        key: Some(KEY),
        value: Some(VALUE),
        headers: headers.iter().copied(),
    }
}

/// Fills one batch and gives its buffer back for the next, as the producer's memory does.
fn encode(headers: &'static [Header<'static>], buffer: Vec<u8>) -> (Bytes, usize) {
    let mut builder = BatchBuilder::with_buffer(buffer);
    let mut count = 0;
    while builder.append_within(black_box(&fields(headers, count)), BATCH_SIZE).is_ok() {
        count += 1;
    }
    (builder.seal(&PRODUCER, Compression::None).bytes, count)
}

fn decode(batch: &Bytes) -> usize {
    let mut sum = 0;
    for batch in fetched::batches(batch.clone(), LIMITS) {
        for record in batch.expect("it was just written").records() {
            let record = &record.expect("it was just written");
            black_box(record);
            sum += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            sum += record.headers().map(|(name, _)| name.len()).sum::<usize>();
        }
    }
    sum
}

/// Their encoder takes owned records: making one of the borrowed fields is part of the price, as it would be in the proxy.
fn encode_theirs(headers: &'static [Header<'static>], count: usize, out: &mut BytesMut) {
    let records: Vec<_> = (0..count)
        .map(|at| {
            let fields = black_box(fields(headers, at));
            theirs::Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id: PRODUCER.producer_id,
                producer_epoch: PRODUCER.producer_epoch,
                timestamp_type: TimestampType::Creation,
                offset: at as i64,
                sequence: PRODUCER.base_sequence + at as i32,
                timestamp: fields.timestamp,
                key: fields.key.map(Bytes::copy_from_slice),
                value: fields.value.map(Bytes::copy_from_slice),
                headers: fields
                    .headers
                    .map(|(name, value)| (StrBytes::from_string(name.to_owned()), value.map(Bytes::copy_from_slice)))
                    .collect(),
            }
        })
        .collect();
    let options = RecordEncodeOptions {
        version: 2,
        compression: theirs::Compression::None,
    };
    RecordBatchEncoder::encode(out, &records, &options).expect("the records are right");
}

fn decode_theirs(batch: &Bytes) -> usize {
    let set = RecordBatchDecoder::decode(&mut batch.clone()).expect("it was just written");
    let lengths = |record: &theirs::Record| {
        let fields = record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len);
        fields + record.headers.keys().map(|name| name.len()).sum::<usize>()
    };
    black_box(&set.records).iter().map(lengths).sum()
}

/// Best nanoseconds a record of each contestant; they take turns.
fn race<const N: usize>(records: usize, mut contestants: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..LOOPS {
        for (best, contestant) in best.iter_mut().zip(&mut contestants) {
            let start = Instant::now();
            (0..BATCHES).for_each(|_| contestant());
            *best = best.min(start.elapsed().as_secs_f64() * 1e9 / (BATCHES * records) as f64);
        }
    }
    best
}

/// Encode and decode of records with these headers.
fn lines(headers: &'static [Header<'static>], names: [&'static str; 2], goals: [Option<f64>; 2]) -> [Line; 2] {
    let (batch, records) = encode(headers, Vec::new());
    let mut written = BytesMut::new();
    encode_theirs(headers, records, &mut written);
    assert_eq!(batch, written, "both write the same");
    assert_eq!(decode(&batch), decode_theirs(&batch), "both read the same");
    let mut buffer = Vec::with_capacity(BATCH_SIZE);
    let encoded = race(
        records,
        [
            &mut || {
                let (bytes, _) = encode(headers, std::mem::take(&mut buffer));
                buffer = Vec::from(black_box(bytes));
            },
            &mut || {
                written.clear();
                encode_theirs(headers, records, black_box(&mut written));
            },
        ],
    );
    let decoded = race(
        records,
        [
            &mut || {
                black_box(decode(black_box(&batch)));
            },
            &mut || {
                black_box(decode_theirs(black_box(&batch)));
            },
        ],
    );
    let line = |at: usize, [ours, theirs]: [f64; 2]| Line {
        what: names[at],
        ours,
        theirs,
        goal: goals[at],
    };
    [line(0, encoded), line(1, decoded)]
}

fn main() -> ExitCode {
    let mut missed = 0;
    let [encode_plain, decode_plain] = lines(&[], ["encode, no headers", "decode, no headers"], [Some(40.0), Some(25.0)]);
    let [encode_headers, decode_headers] = lines(&HEADERS, ["encode, 3 headers", "decode, 3 headers"], [None, None]);
    let (batch, records) = encode(&[], Vec::new());
    let mut copy = Vec::with_capacity(BATCH_SIZE);
    let [crc, memory] = race(
        records,
        [
            &mut || {
                black_box(crc32c(black_box(&batch)));
            },
            &mut || {
                copy.clear();
                copy.extend_from_slice(black_box(&batch));
                black_box(&copy);
            },
        ],
    );
    println!("Kafka records of 20 + 100 bytes, {records} in a batch, not compressed: ns a record, best of {LOOPS} loops");
    println!("{:<20} {:>10} {:>16} {:>8}", "", "this proxy", "kafka-protocol", "goal");
    for line in [encode_plain, decode_plain, encode_headers, decode_headers] {
        let goal = match line.goal {
            Some(goal) if line.ours <= goal => format!("{goal:.0} met"),
            Some(goal) => {
                missed += 1;
                format!("{goal:.0} missed")
            }
            None => "-".to_owned(),
        };
        println!("{:<20} {:>10.1} {:>16.1} {:>8}", line.what, line.ours, line.theirs, goal);
    }
    println!("{:<20} {crc:>10.1}", "of it CRC-32C");
    println!("{:<20} {memory:>10.1}", "a bare copy");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
