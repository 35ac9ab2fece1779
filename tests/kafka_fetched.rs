//! What the decoder says to batches that are unusual, cut or lie: each with the value that is expected. The batches come from
//! `kafka_batches`, which writes every field by hand.

#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod kafka_batches;

use bytes::Bytes;
use kafka_batches::*;
use mqtt_kafka_proxy::kafka::fetched::{self, BatchError};

const MALFORMED: Result<(), BatchError> = Err(BatchError::Malformed);

fn plain(offset: i64) -> Vec<u8> {
    record(0, offset, Some(b"k"), Some(b"v"), &[])
}

/// A record with this body behind its right length, alone in a batch.
fn body(parts: &[&[u8]]) -> Outcome {
    Raw::of(&[with_length(&parts.concat())]).outcome()
}

/// Attributes, timestamp delta and offset delta of a first record.
const FRONT: &[u8] = &[0, 0, 0];

#[test]
fn the_fields_of_the_header_come_out() {
    let batch = Raw {
        base_offset: 9_000_000_000,
        producer_id: 77,
        ..Raw::of(&[plain(0), plain(1)])
    };
    let read = batch.read().unwrap();
    assert_eq!((read.base_offset, read.last_offset), (9_000_000_000, 9_000_000_001));
    assert_eq!((read.producer_id, read.count()), (77, 2));
    assert_eq!((read.is_control, read.is_transactional, read.log_append_time), (false, false, None));
    let offsets: Vec<_> = read.records().map(|r| r.unwrap().offset).collect();
    assert_eq!(offsets, [9_000_000_000, 9_000_000_001]);
}

#[test]
fn log_append_time_is_that_of_every_record() {
    let records = [record(-999, 0, None, Some(b"a"), &[]), record(12, 1, None, Some(b"b"), &[])];
    let times = |attributes| {
        let raw = Raw {
            attributes,
            ..Raw::of(&records)
        };
        let batch = raw.read().unwrap();
        let times: Vec<_> = batch.records().map(|r| r.unwrap().timestamp).collect();
        (batch.log_append_time, times)
    };
    assert_eq!(times(LOG_APPEND_TIME), (Some(5_000), vec![5_000, 5_000]));
    assert_eq!(times(0), (None, vec![1, 1_012]));
}

/// Bit 6: the base timestamp is the time from which tombstones may go (KIP-534); deltas count from it all the same.
#[test]
fn a_delete_horizon_changes_nothing_for_a_reader() {
    let raw = Raw {
        attributes: 0x40,
        base_timestamp: 90_000,
        ..Raw::of(&[record(-89_000, 0, Some(b"k"), None, &[])])
    };
    let batch = raw.read().unwrap();
    assert_eq!(batch.records().next().unwrap().unwrap().timestamp, 1_000);
}

#[test]
fn transaction_markers_and_their_kind() {
    let marker = |kind: i16| {
        let key = [0i16.to_be_bytes(), kind.to_be_bytes()].concat();
        Raw {
            attributes: CONTROL | TRANSACTIONAL,
            ..Raw::of(&[record(0, 0, Some(&key), Some(&[0, 0, 0, 0, 0, 1]), &[])])
        }
    };
    for kind in [0, 1] {
        let batch = marker(kind).read().unwrap();
        assert!(batch.is_control && batch.is_transactional);
        assert_eq!(batch.control_type(), Some(kind));
    }
    let in_transaction = Raw {
        attributes: TRANSACTIONAL,
        ..marker(1)
    };
    let batch = in_transaction.read().unwrap();
    assert!(batch.is_transactional && !batch.is_control);
    assert_eq!(batch.control_type(), None, "an ordinary record whose key looks like a marker");
    for key in [None, Some(&[][..]), Some(&[0, 0, 0])] {
        let short = Raw {
            attributes: CONTROL,
            ..Raw::of(&[record(0, 0, key, None, &[])])
        };
        assert_eq!(short.read().unwrap().control_type(), None, "{key:?}");
    }
    let empty = Raw {
        attributes: CONTROL,
        last_delta: 0,
        ..Raw::of(&[])
    };
    assert_eq!(empty.read().unwrap().control_type(), None);
}

/// What ends below the offset is not even looked into; but markers say what became of transactions, so they are there.
#[test]
fn reading_from_an_offset_leaves_out_what_ends_below_it_but_for_markers() {
    let at = |base_offset, attributes, records: &[Vec<u8>]| {
        let raw = Raw {
            base_offset,
            attributes,
            ..Raw::of(records)
        };
        raw.bytes()
    };
    let mut damaged = at(100, 0, &[plain(0), plain(1)]);
    *damaged.last_mut().unwrap() ^= 1;
    let set = [
        damaged,
        at(102, CONTROL | TRANSACTIONAL, &[plain(0)]),
        at(103, 0, &[plain(0), plain(1)]),
        at(105, 0, &[plain(0), plain(1)]),
    ]
    .concat();
    let from = |offset| -> Vec<_> {
        fetched::batches(Bytes::from(set.clone()), LIMITS)
            .starting_at(offset)
            .map(|batch| batch.map(|b| b.base_offset))
            .collect()
    };
    assert_eq!(from(101), [Err(BatchError::Corrupt), Ok(102), Ok(103), Ok(105)]);
    assert_eq!(from(104), [Ok(102), Ok(103), Ok(105)]);
    assert_eq!(from(105), [Ok(102), Ok(105)]);
    assert_eq!(from(107), [Ok(102)]);
    // Cut anywhere: no panic, and nothing new.
    for cut in 0..set.len() {
        let count = fetched::batches(Bytes::copy_from_slice(&set[..cut]), LIMITS)
            .starting_at(105)
            .count();
        assert!(count <= 2, "{cut}");
    }
}

/// A fetch ends where its size limit fell.
#[test]
fn a_partial_last_batch_ends_quietly_at_every_cut() {
    let first = Raw::of(&[plain(0), plain(1)]).bytes();
    let second = Raw {
        base_offset: 102,
        ..Raw::of(&[plain(0)])
    }
    .bytes();
    let both = [first.clone(), second].concat();
    for cut in 0..=both.len() {
        let offsets: Vec<_> = fetched::batches(Bytes::copy_from_slice(&both[..cut]), LIMITS)
            .map(|batch| batch.unwrap_or_else(|error| panic!("cut at {cut}: {error}")).base_offset)
            .collect();
        let whole: &[i64] = match cut {
            _ if cut == both.len() => &[100, 102],
            _ if cut >= first.len() => &[100],
            _ => &[],
        };
        assert_eq!(offsets, whole, "cut at {cut}");
    }
}

#[test]
fn compaction_leaves_gaps_and_empty_batches() {
    let gaps = Raw {
        last_delta: 9,
        ..Raw::of(&[plain(2), plain(7)])
    };
    let batch = gaps.read().unwrap();
    let offsets: Vec<_> = batch.records().map(|r| r.unwrap().offset).collect();
    assert_eq!((batch.base_offset, batch.last_offset, offsets), (100, 109, vec![102, 107]));
    let empty = Raw {
        last_delta: 4,
        ..Raw::of(&[])
    };
    let batch = empty.read().unwrap();
    assert_eq!((batch.base_offset, batch.last_offset, batch.count()), (100, 104, 0));
    assert!(batch.records().next().is_none());
    for codec in 1..=4 {
        let compressed = Raw {
            attributes: codec,
            ..empty.clone()
        };
        assert_eq!(compressed.outcome(), (0, Ok(())), "codec {codec}");
    }
}

#[test]
fn other_formats_are_named_and_do_not_hide_what_follows() {
    let batch = |magic| Raw {
        magic,
        ..Raw::of(&[plain(0)])
    };
    // A message of format 0 and 1 with a body of three bytes: offset, size, CRC, magic, attributes.
    let message = |magic: u8| [&[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 1, 2, 3, 4, magic][..], &[0, 0, 0]].concat();
    for (other, error) in [
        (message(0), BatchError::OldFormat { magic: 0 }),
        (message(1), BatchError::OldFormat { magic: 1 }),
        (batch(0).bytes(), BatchError::OldFormat { magic: 0 }),
        (batch(3).bytes(), BatchError::UnknownFormat { magic: 3 }),
        (batch(-1).bytes(), BatchError::UnknownFormat { magic: -1 }),
    ] {
        let bytes = [other, batch(2).bytes()].concat();
        let mut batches = fetched::batches(Bytes::from(bytes), LIMITS);
        assert_eq!(batches.next().unwrap().unwrap_err(), error);
        assert_eq!(batches.next().unwrap().unwrap().base_offset, 100);
        assert!(batches.next().is_none());
    }
    // Alone, though it is shorter than the header of a batch.
    assert_eq!(one(message(1)).unwrap_err(), BatchError::OldFormat { magic: 1 });
}

#[test]
fn any_changed_byte_that_the_crc_covers_is_found() {
    let good = Raw::of(&[plain(0)]).bytes();
    let next = Raw {
        base_offset: 101,
        ..Raw::of(&[plain(0)])
    };
    for at in 17..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let mut batches = fetched::batches(Bytes::from([bad, next.bytes()].concat()), LIMITS);
        assert_eq!(batches.next().unwrap().unwrap_err(), BatchError::Corrupt, "byte {at}");
        assert_eq!(batches.next().unwrap().unwrap().base_offset, 101, "byte {at} hides the next batch");
    }
    // The leader writes the epoch (12 to 15) when it appends; it and the base offset are outside of the CRC.
    let mut appended = good.clone();
    appended[..16].copy_from_slice(&[&7i64.to_be_bytes()[..], &good[8..12], &99i32.to_be_bytes()].concat());
    assert_eq!(one(appended).unwrap().base_offset, 7);
}

#[test]
fn batch_lengths_that_lie() {
    let good = Raw::of(&[plain(0)]).bytes();
    let said = |length: i32| {
        let mut bytes = [good.clone(), good.clone()].concat();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let read: Vec<_> = fetched::batches(Bytes::from(bytes), LIMITS)
            .map(|b| b.map(|b| b.base_offset))
            .collect();
        read
    };
    // Shorter than a header: nothing behind it can be found.
    for length in [-1, i32::MIN, 0, 1, 4, 48] {
        assert_eq!(said(length), [Err(BatchError::Malformed)], "{length}");
    }
    // The header alone, or more than the batch: the CRC covers other bytes.
    assert_eq!(said(49)[0], Err(BatchError::Corrupt));
    assert_eq!(said(good.len() as i32 - 12 + 1)[0], Err(BatchError::Corrupt));
    // More than there is looks like a cut.
    for length in [i32::MAX, 2 * good.len() as i32] {
        assert_eq!(said(length), [], "{length}");
    }
}

#[test]
fn record_counts_that_lie() {
    let said = |count| {
        Raw {
            count,
            last_delta: 2,
            ..Raw::of(&[plain(0), plain(1), plain(2)])
        }
        .outcome()
    };
    assert_eq!(said(3), (3, Ok(())));
    assert_eq!(said(2), (2, MALFORMED), "a record behind the last must not be lost in silence");
    assert_eq!(said(0), (0, MALFORMED));
    for count in [4, 5, 1_000, i32::MAX, -1, i32::MIN] {
        assert_eq!(said(count).1, MALFORMED, "{count}");
    }
    // Three records of nine bytes: the header cannot announce more than three of seven.
    assert_eq!(said(4).0, 0);
}

#[test]
fn offsets_that_lie() {
    let said = |base_offset, last_delta| {
        Raw {
            base_offset,
            last_delta,
            ..Raw::of(&[plain(0)])
        }
        .outcome()
    };
    assert_eq!(said(i64::MAX - 1, 1), (1, Ok(())));
    for (base, last) in [(-1, 0), (i64::MIN, 0), (i64::MAX, 1), (5, -1), (5, i32::MIN)] {
        assert_eq!(said(base, last), (0, MALFORMED), "{base} {last}");
    }
    for delta in [-1, 1, i64::from(i32::MIN), i64::from(i32::MAX), 1 << 40, i64::MIN] {
        assert_eq!(Raw::of(&[plain(delta)]).outcome(), (0, MALFORMED), "record at {delta} of one");
    }
}

#[test]
fn record_lengths_that_lie() {
    let whole = plain(0);
    for length in [
        -1,
        0,
        1,
        2,
        3,
        5,
        7,
        9,
        100,
        i64::from(i32::MIN),
        i64::from(i32::MAX),
        1 << 31,
        1 << 32,
        i64::MAX,
    ] {
        let lying = [&varint(length)[..], &whole[1..]].concat();
        let raw = Raw::of(&[lying]);
        assert_eq!(raw.outcome(), (0, MALFORMED), "{length}");
    }
    // Longer than the record: it would swallow the next one's beginning.
    let two = Raw::of(&[[&varint(9)[..], &whole[1..]].concat(), plain(1)]);
    assert_eq!(two.outcome(), (0, MALFORMED));
    // A varint that does not end within its ten bytes.
    assert_eq!(Raw::of(&[vec![0xFF; 30]]).outcome(), (0, MALFORMED));
}

#[test]
fn key_and_value_lengths_that_lie() {
    assert_eq!(body(&[FRONT, &varint(-1), &varint(-1), &[0]]), (1, Ok(())));
    for length in [-2, -3, i64::from(i32::MIN), 4, 1_000, i64::from(i32::MAX), 1 << 31, 1 << 40] {
        assert_eq!(
            body(&[FRONT, &varint(length), b"k", &varint(-1), &[0]]),
            (0, MALFORMED),
            "key {length}"
        );
        assert_eq!(
            body(&[FRONT, &varint(-1), &varint(length), b"v", &[0]]),
            (0, MALFORMED),
            "value {length}"
        );
    }
}

#[test]
fn bytes_behind_the_fields_of_a_record() {
    let right = [FRONT, &varint(-1), &varint(-1), &[0]].concat();
    assert_eq!(body(&[&right]), (1, Ok(())));
    assert_eq!(body(&[&right, &[0]]), (0, MALFORMED));
    assert_eq!(body(&[&right, &plain(0)]), (0, MALFORMED));
    for cut in 0..right.len() {
        let short = Raw::of(&[with_length(&right[..cut])]);
        assert_eq!(short.outcome(), (0, MALFORMED), "cut at {cut}");
    }
    // Behind the last record of a batch.
    let raw = Raw::of(&[plain(0)]);
    let behind = Raw {
        records: [raw.records.clone(), vec![0]].concat(),
        ..raw
    };
    assert_eq!(behind.outcome(), (1, MALFORMED));
}

#[test]
fn header_counts_that_lie() {
    let front = [FRONT, &varint(-1), &varint(-1)].concat();
    let pair = [field(Some(b"h")), field(Some(b"1"))].concat();
    assert_eq!(body(&[&front, &varint(2), &pair, &pair]), (1, Ok(())));
    for count in [
        0,
        1,
        3,
        4,
        5,
        1_000,
        i64::from(i32::MAX),
        1 << 31,
        1 << 40,
        -1,
        -2,
        i64::from(i32::MIN),
    ] {
        assert_eq!(body(&[&front, &varint(count), &pair, &pair]), (0, MALFORMED), "{count}");
    }
    // Empty names and null values are right; null names are not.
    let odd = [field(Some(b"")), field(None)].concat();
    assert_eq!(body(&[&front, &varint(1), &odd]), (1, Ok(())));
    assert_eq!(body(&[&front, &varint(1), &field(None), &field(Some(b"1"))]), (0, MALFORMED));
    for length in [-2, 2, i64::from(i32::MAX)] {
        assert_eq!(
            body(&[&front, &varint(1), &varint(length), b"h", &field(None)]),
            (0, MALFORMED),
            "name {length}"
        );
        assert_eq!(
            body(&[&front, &varint(1), &field(Some(b"h")), &varint(length), b"1"]),
            (0, MALFORMED),
            "value {length}"
        );
    }
}

#[test]
fn header_names_need_not_be_text() {
    let raw = Raw::of(&[record(0, 0, None, None, &[(&[0xFF, 0xFE], Some(b"")), (b"", None)])]);
    let batch = raw.read().unwrap();
    let record = batch.records().next().unwrap().unwrap();
    let headers: Vec<_> = record.headers().collect();
    assert_eq!(headers, [(&[0xFF, 0xFE][..], Some(&b""[..])), (b"", None)]);
}
