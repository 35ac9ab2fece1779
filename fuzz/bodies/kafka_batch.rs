//! Any bytes, read as the records of a fetch and as compressed records: nothing panics, no bound is passed.
//!
//! A CRC keeps random bytes out of everything behind it, so the first byte chooses: the bytes as they are, a batch that is given a
//! header that fits, or compressed bytes alone.

use bytes::Bytes;
use mqtt_kafka_proxy::kafka::Compression;
use mqtt_kafka_proxy::kafka::batch::{HEADER_LEN, crc32c};
use mqtt_kafka_proxy::kafka::compression::{Compressor, decompress};
use mqtt_kafka_proxy::kafka::fetched::{Limits, batches};

const MOST: usize = 256 * 1024;

/// Reads `bytes` as their first byte says.
pub fn check(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    match mode % 4 {
        0 => read(bytes),
        1 => read(&with_header(bytes)),
        2 => decompression(bytes),
        _ => round_trip(bytes),
    }
}

/// The length, the magic byte and the CRC as they have to be.
fn with_header(bytes: &[u8]) -> Vec<u8> {
    let mut batch = bytes.to_vec();
    if batch.len() < HEADER_LEN {
        return batch;
    }
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn read(bytes: &[u8]) {
    let limits = Limits { max_decompressed: MOST };
    let mut found = 0;
    for batch in batches(Bytes::copy_from_slice(bytes), limits) {
        found += 1;
        assert!(found * 17 <= bytes.len(), "more batches than fit");
        let Ok(batch) = batch else { continue };
        assert!(batch.base_offset >= 0 && batch.last_offset >= batch.base_offset);
        batch.control_type();
        let most = bytes.len().max(MOST);
        let mut records = 0;
        for record in batch.records() {
            // Bytes behind the last are an error, too.
            let Ok(record) = record else { break };
            records += 1;
            assert!(records <= most, "more records than bytes");
            let held = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            let headers: usize = record
                .headers()
                .map(|(name, value)| 2 + name.len() + value.map_or(0, <[u8]>::len))
                .sum();
            assert!(held + headers <= most, "more than was sent");
        }
        assert!(records <= batch.count() as usize, "more records than announced");
    }
}

fn decompression(bytes: &[u8]) {
    for attributes in 0..8 {
        if let Ok(plain) = decompress(attributes, bytes, MOST) {
            assert!(plain.len() <= MOST && (1..=4).contains(&attributes));
        }
    }
}

fn round_trip(bytes: &[u8]) {
    let mut compressor = Compressor::default();
    for compression in [
        Compression::Gzip { level: 1 },
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd { level: 1 },
    ] {
        let small = compressor.compress(compression, bytes).expect("bytes in memory can be compressed");
        let attributes = compression.attribute();
        assert_eq!(decompress(attributes, small, bytes.len()).as_deref(), Ok(bytes), "{compression:?}");
        if !bytes.is_empty() {
            assert!(
                decompress(attributes, small, bytes.len() - 1).is_err(),
                "{compression:?} passes the bound"
            );
        }
    }
}
