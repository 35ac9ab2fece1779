//! Compressed batches that become too large, are cut or lie about a length: decompression stops at the limit, whatever they say.

#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod kafka_batches;

use std::io::Write;

use kafka_batches::*;
use kafka_protocol::records::{Record, RecordBatchDecoder};
use mqtt_kafka_proxy::kafka::{
    Compression, RecordFields,
    batch::{BatchBuilder, HEADER_LEN, Producer},
    compression::{
        CompressionError::{Damaged, TooLarge, UnknownCodec},
        Compressor, decompress,
    },
    fetched::{BatchError, Limits},
};

fn plain(offset: i64) -> Vec<u8> {
    record(0, offset, Some(b"k"), Some(b"v"), &[])
}

/// `bytes` compressed by each codec, with its number, by encoders that are not the proxy's own code.
fn compressed(bytes: &[u8]) -> Vec<(i16, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(vec![]);
    lz4.write_all(bytes).unwrap();
    vec![
        (1, gzip.finish().unwrap()),
        (2, snap::raw::Encoder::new().compress_vec(bytes).unwrap()),
        (3, lz4.finish().unwrap()),
        (4, zstd::bulk::compress(bytes, 19).unwrap()),
    ]
}

fn in_codec(codec: i16, count: usize, records: Vec<u8>) -> Vec<u8> {
    Raw {
        attributes: codec,
        last_delta: count as i32 - 1,
        count: count as i32,
        records,
        ..Raw::of(&[])
    }
    .bytes()
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let value = vec![0u8; 3 << 20];
    let bomb = record(0, 0, None, Some(&value), &[]);
    for (codec, small) in compressed(&bomb) {
        assert!(small.len() < bomb.len() / 20, "codec {codec} does not make a bomb: {}", small.len());
        for (most, expected) in [
            (bomb.len(), (1, Ok(()))),
            (bomb.len() - 1, (0, Err(BatchError::Compression(TooLarge)))),
            (1_000, (0, Err(BatchError::Compression(TooLarge)))),
            (0, (0, Err(BatchError::Compression(TooLarge)))),
        ] {
            let limits = Limits { max_decompressed: most };
            assert_eq!(
                outcome(in_codec(codec, 1, small.clone()), limits),
                expected,
                "codec {codec}, most {most}"
            );
        }
    }
}

#[test]
fn compressed_records_that_are_cut_or_damaged() {
    let records: Vec<u8> = (0..50).flat_map(plain).collect();
    for (codec, good) in compressed(&records) {
        assert_eq!(outcome(in_codec(codec, 50, good.clone()), LIMITS), (50, Ok(())), "codec {codec}");
        for cut in 1..good.len() {
            let (whole, end) = outcome(in_codec(codec, 50, good[..cut].to_vec()), LIMITS);
            let damaged = (0, Err(BatchError::Compression(Damaged)));
            let expected = match codec {
                // An end before the length of its first block is whole is an empty frame to the codec, but not fifty records.
                3 if cut == 4 || (7..11).contains(&cut) => (0, Err(BatchError::Malformed)),
                // The end mark says nothing about the records.
                3 if cut >= good.len() - 4 => (50, Ok(())),
                _ => damaged,
            };
            assert_eq!((whole, end), expected, "codec {codec}, cut at {cut} of {}", good.len());
        }
        let (_, end) = outcome(in_codec(codec, 50, vec![0x5A; 40]), LIMITS);
        assert!(
            matches!(end, Err(BatchError::Compression(Damaged | TooLarge))),
            "codec {codec}: {end:?}"
        );
    }
    for codec in 5..=7 {
        let said = outcome(in_codec(codec, 50, records.clone()), LIMITS);
        assert_eq!(said, (0, Err(BatchError::Compression(UnknownCodec))), "codec {codec}");
    }
}

/// A zstd frame (RFC 8878) says with one byte how much memory its decoder needs; `--long=31`, or a producer at the highest levels, ask for
/// much more than their content. The content counts, not the window.
#[test]
fn a_zstd_window_is_not_memory() {
    let ten: Vec<u8> = plain(0);
    for log in [10, 23, 27, 31_u8] {
        // The magic, no content size and no checksum, the window as an exponent above 10, and one raw block: the last.
        let block = (ten.len() as u32) << 3 | 1;
        let frame = [
            &0xFD2F_B528_u32.to_le_bytes()[..],
            &[0, (log - 10) << 3],
            &block.to_le_bytes()[..3],
            &ten,
        ]
        .concat();
        assert_eq!(
            outcome(in_codec(4, 1, frame.clone()), LIMITS),
            (1, Ok(())),
            "a window of 2^{log} bytes"
        );
        let limits = Limits {
            max_decompressed: ten.len() - 1,
        };
        let said = outcome(in_codec(4, 1, frame), limits);
        assert_eq!(said, (0, Err(BatchError::Compression(TooLarge))), "a window of 2^{log} bytes");
    }
}

/// What is kept of a batch is what it holds, not what its codec thought it might need.
#[test]
fn decompressed_records_hold_no_more_than_their_length() {
    let records: Vec<u8> = (0..5_000).flat_map(plain).collect();
    for (codec, small) in compressed(&records) {
        let plain = decompress(codec, &small, 64 << 20).unwrap();
        assert_eq!((plain.len(), plain.capacity()), (records.len(), records.len()), "codec {codec}");
    }
    let mut stream = zstd::stream::Encoder::new(vec![], 3).unwrap();
    stream.write_all(&records).unwrap();
    let plain = decompress(4, &stream.finish().unwrap(), 64 << 20).unwrap();
    assert_eq!((plain.len(), plain.capacity()), (records.len(), records.len()), "a stream of zstd");
}

/// The lengths in snappy's two framings are the sender's word alone.
#[test]
fn snappy_lengths_that_lie() {
    let xerial = |blocks: &[u8]| [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], blocks].concat();
    let block = snap::raw::Encoder::new().compress_vec(&plain(0)).unwrap();
    let framed = |length: u32| xerial(&[&length.to_be_bytes()[..], &block].concat());
    let said = |records: Vec<u8>| outcome(in_codec(2, 1, records), LIMITS);
    assert_eq!(said(framed(block.len() as u32)), (1, Ok(())));
    for length in [block.len() as u32 + 1, 1, u32::MAX, i32::MAX as u32] {
        assert_eq!(said(framed(length)), (0, Err(BatchError::Compression(Damaged))), "{length}");
    }
    assert_eq!(said(xerial(&[])[..12].to_vec()), (0, Err(BatchError::Compression(Damaged))));
    // A raw block that says it becomes 4 GiB, one that says it becomes just less than the limit.
    assert_eq!(
        said(vec![0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]),
        (0, Err(BatchError::Compression(TooLarge)))
    );
    assert_eq!(said(vec![0xFF, 0xFF, 0x3F, 0]), (0, Err(BatchError::Compression(Damaged))));
    // Blocks that are small each and too much together.
    let block = snap::raw::Encoder::new().compress_vec(&[7; 30_000]).unwrap();
    let framed = [&(block.len() as u32).to_be_bytes()[..], &block].concat();
    for (blocks, expected) in [(34, Err(BatchError::Malformed)), (35, Err(BatchError::Compression(TooLarge)))] {
        assert_eq!(
            said(xerial(&framed.repeat(blocks))).1,
            expected,
            "{blocks} blocks of 30,000 bytes, {} allowed",
            1 << 20
        );
    }
}

/// Values of 1,000 bytes, some of which no codec can make smaller: enough of them that an LZ4 block is stored as it is.
fn batch(records: usize, noisy: std::ops::Range<usize>) -> BatchBuilder {
    let mut state = 1u64;
    let mut builder = BatchBuilder::new();
    for at in 0..records {
        let value: Vec<u8> = (0..1000)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if noisy.contains(&at) { (state >> 56) as u8 } else { (i % 10) as u8 }
            })
            .collect();
        let fields = RecordFields {
            timestamp: 0,
            key: None,
            value: Some(&value),
            headers: std::iter::empty(),
        };
        builder.append(&fields).unwrap();
    }
    builder
}

#[test]
fn a_compressor_that_was_used_before_writes_what_a_new_one_writes() {
    let mut compressor = Compressor::default();
    for (records, noisy) in [(300, 100..250), (3, 0..0), (3000, 0..0), (1, 0..1), (70, 10..20), (300, 100..250)] {
        for compression in [
            Compression::Lz4,
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 6 },
            Compression::Snappy,
            Compression::Zstd { level: 1 },
            Compression::None,
            Compression::Lz4,
        ] {
            let case = format!("{records} records, {noisy:?} noisy, {compression:?}");
            let plain = batch(records, noisy.clone()).seal(&Producer::NONE, Compression::None).bytes;
            let fresh = batch(records, noisy.clone()).seal(&Producer::NONE, compression).bytes;
            let again = batch(records, noisy.clone())
                .seal_with(&Producer::NONE, compression, &mut compressor)
                .bytes;
            assert_eq!(again, fresh, "{case}");
            let helps = records != 1 && compression != Compression::None;
            assert_eq!(again.len() < plain.len(), helps, "{case}");
            assert_eq!(
                outcome(again.to_vec(), Limits { max_decompressed: 8 << 20 }),
                (records, Ok(())),
                "{case}"
            );
        }
    }
}

/// A block that LZ4 would make larger is stored, with the highest bit of its length set, and the C library reads it.
#[test]
fn an_lz4_block_of_noise_is_stored() {
    let plain = batch(300, 100..250).seal(&Producer::NONE, Compression::None).bytes;
    let mut bytes = batch(300, 100..250).seal(&Producer::NONE, Compression::Lz4).bytes;
    let (mut rest, mut stored) = (&bytes[HEADER_LEN + 7..], 0);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        stored += usize::from(length >> 31 == 1);
        rest = &after[(length & 0x7fff_ffff) as usize..];
    }
    assert!(stored > 0, "no block is stored");
    let theirs = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
    let expected = RecordBatchDecoder::decode(&mut plain.clone()).unwrap().records;
    let values = |records: Vec<Record>| records.into_iter().map(|r| r.value).collect::<Vec<_>>();
    assert_eq!(values(theirs), values(expected));
}
