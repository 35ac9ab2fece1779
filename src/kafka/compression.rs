//! The codecs of record batches (attributes bits 0 to 2), both ways. Decompression stops at a bound that the caller sets.

use std::io::{Read, Write};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Deflate with a gzip header; levels 0 to 9.
    Gzip {
        /// 6 is the usual one.
        level: u32,
    },
    /// Snappy blocks in the framing of the Java client.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard; levels 1 to 22.
    Zstd {
        /// 3 is the usual one.
        level: i32,
    },
}

/// What is wrong with compressed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionError {
    /// Attributes name a codec that Kafka does not have.
    UnknownCodec,
    /// The codec cannot read it.
    Damaged,
    /// More bytes than the bound.
    TooLarge,
}

/// "\x82SNAPPY\0", version 1, compatible with 1: how the Java client begins its snappy streams.
const XERIAL: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of one block in that framing.
const XERIAL_BLOCK: usize = 32 * 1024;

impl Compression {
    /// The codec's bits in the attributes.
    pub fn attribute(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip { .. } => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd { .. } => 4,
        }
    }
}

/// Compresses the records of a batch; `None` without compression, or if the codec fails (then they are sent as they are).
pub fn compress(compression: Compression, records: &[u8]) -> Option<Vec<u8>> {
    match compression {
        Compression::None => None,
        Compression::Gzip { level } => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level.min(9)));
            out.write_all(records).ok()?;
            out.finish().ok()
        }
        Compression::Snappy => snappy(records),
        Compression::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(records).ok()?;
            out.finish().ok()
        }
        Compression::Zstd { level } => zstd::bulk::compress(records, level).ok(),
    }
}

fn snappy(records: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut out = XERIAL.to_vec();
    for block in records.chunks(XERIAL_BLOCK) {
        let block = encoder.compress_vec(block).ok()?;
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Some(out)
}

/// Decompresses the records of a batch.
///
/// # Errors
/// [`CompressionError`]; never more than `most` bytes are held.
pub fn decompress(attributes: i16, records: &[u8], most: usize) -> Result<Vec<u8>, CompressionError> {
    match attributes & 7 {
        1 => bounded(flate2::read::MultiGzDecoder::new(records), most),
        2 => unsnappy(records, most),
        3 => bounded(lz4_flex::frame::FrameDecoder::new(records), most),
        4 => bounded(
            zstd::stream::read::Decoder::with_buffer(records).map_err(|_| CompressionError::Damaged)?,
            most,
        ),
        _ => Err(CompressionError::UnknownCodec),
    }
}

fn bounded(reader: impl Read, most: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    reader
        .take(most as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_| CompressionError::Damaged)?;
    if out.len() > most {
        Err(CompressionError::TooLarge)
    } else {
        Ok(out)
    }
}

/// The Java client writes framed blocks, others one raw block.
fn unsnappy(records: &[u8], most: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !records.starts_with(&XERIAL[..8]) {
        unsnappy_block(records, most, &mut out)?;
        return Ok(out);
    }
    let mut rest = records.get(XERIAL.len()..).ok_or(CompressionError::Damaged)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(CompressionError::Damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or(CompressionError::Damaged)?;
        unsnappy_block(block, most, &mut out)?;
        rest = &after[length..];
    }
    Ok(out)
}

fn unsnappy_block(block: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let length = snap::raw::decompress_len(block).map_err(|_| CompressionError::Damaged)?;
    let start = out.len();
    if length > most - start {
        return Err(CompressionError::TooLarge);
    }
    // A block of n bytes cannot hold more than some 21 times as much, so a declared length alone reserves little.
    if length > block.len().saturating_mul(64) + 64 {
        return Err(CompressionError::Damaged);
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|_| CompressionError::Damaged)?;
    if written == length {
        Ok(())
    } else {
        Err(CompressionError::Damaged)
    }
}
