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

/// How an LZ4 frame begins: version 1, independent blocks (the Java client knows no others) of at most 64 KiB, no checksums
/// (the batch has its own), and the checksum of these two bytes.
const LZ4: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_BLOCK: usize = 64 * 1024;
/// Set in a block's length if it is not compressed.
const LZ4_STORED: u32 = 1 << 31;
/// What a compressor keeps for the next batch; a larger output was a rare one.
const MOST_KEPT: usize = 1024 * 1024;

/// Compresses batch after batch. What the codecs need is kept from one to the next: fresh memory for each costs more than the work.
pub struct Compressor {
    /// Only its beginning is of the last batch; what lies behind saves zeroing.
    out: Vec<u8>,
    lz4: lz4_flex::block::CompressTable,
    snappy: snap::raw::Encoder,
    /// With its level.
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self {
            out: Vec::new(),
            lz4: lz4_flex::block::CompressTable::default(),
            snappy: snap::raw::Encoder::new(),
            zstd: None,
        }
    }
}

impl Compressor {
    /// The records of a batch, compressed; `None` without compression, or if the codec fails (then they are sent as they are).
    pub fn compress(&mut self, compression: Compression, records: &[u8]) -> Option<&[u8]> {
        if self.out.len() > MOST_KEPT {
            self.out = Vec::new();
        }
        let length = match compression {
            Compression::None => None,
            Compression::Gzip { level } => self.gzip(records, level),
            Compression::Snappy => self.snappy(records),
            Compression::Lz4 => self.lz4(records),
            Compression::Zstd { level } => self.zstd(records, level),
        }?;
        self.out.get(..length)
    }

    fn gzip(&mut self, records: &[u8], level: u32) -> Option<usize> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level.min(9)));
        encoder.write_all(records).ok()?;
        self.out = encoder.finish().ok()?;
        Some(self.out.len())
    }

    fn snappy(&mut self, records: &[u8]) -> Option<usize> {
        self.make_room(XERIAL.len() + records.len().div_ceil(XERIAL_BLOCK) * (4 + snap::raw::max_compress_len(XERIAL_BLOCK)));
        self.out[..XERIAL.len()].copy_from_slice(&XERIAL);
        let mut at = XERIAL.len();
        for block in records.chunks(XERIAL_BLOCK) {
            let written = self.snappy.compress(block, &mut self.out[at + 4..]).ok()?;
            self.out[at..at + 4].copy_from_slice(&(written as u32).to_be_bytes());
            at += 4 + written;
        }
        Some(at)
    }

    fn lz4(&mut self, records: &[u8]) -> Option<usize> {
        let most = lz4_flex::block::get_maximum_output_size(LZ4_BLOCK);
        self.make_room(LZ4.len() + records.len().div_ceil(LZ4_BLOCK) * (4 + most) + 4);
        self.out[..LZ4.len()].copy_from_slice(&LZ4);
        let mut at = LZ4.len();
        for block in records.chunks(LZ4_BLOCK) {
            let body = &mut self.out[at + 4..];
            let mut written = lz4_flex::block::compress_into_with_table(block, body, &mut self.lz4).ok()?;
            let mut told = written as u32;
            if written >= block.len() {
                body[..block.len()].copy_from_slice(block);
                (written, told) = (block.len(), block.len() as u32 | LZ4_STORED);
            }
            self.out[at..at + 4].copy_from_slice(&told.to_le_bytes());
            at += 4 + written;
        }
        self.out[at..at + 4].fill(0);
        Some(at + 4)
    }

    fn zstd(&mut self, records: &[u8], level: i32) -> Option<usize> {
        if self.zstd.as_ref().is_none_or(|(has, _)| *has != level) {
            self.zstd = Some((level, zstd::bulk::Compressor::new(level).ok()?));
        }
        self.make_room(zstd::zstd_safe::compress_bound(records.len()));
        let (_, compressor) = self.zstd.as_mut()?;
        compressor.compress_to_buffer(records, self.out.as_mut_slice()).ok()
    }

    fn make_room(&mut self, bytes: usize) {
        if self.out.len() < bytes {
            self.out.resize(bytes, 0);
        }
    }
}

/// Decompresses the records of a batch.
///
/// # Errors
/// [`CompressionError`]; a batch never becomes more than `most` bytes, and what is given holds no more memory than its length.
pub fn decompress(attributes: i16, records: &[u8], most: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = match attributes & 7 {
        1 => bounded(flate2::read::MultiGzDecoder::new(records), most),
        2 => unsnappy(records, most),
        3 => bounded(lz4_flex::frame::FrameDecoder::new(records), most),
        4 => unzstd(records, most),
        _ => Err(CompressionError::UnknownCodec),
    }?;
    out.shrink_to_fit();
    Ok(out)
}

/// What zstd says when more comes out than there is room for: `ZSTD_error_dstSize_tooSmall`, which stays as it is (zstd_errors.h).
const ZSTD_TOO_SMALL: usize = 70_usize.wrapping_neg();

/// In one go, not as a stream: a stream needs memory for the window that the frame asks for, 128 MiB at level 22 and up to 2 GiB, whatever
/// it holds; in one go the output is the window. Blocks bound how much that may be (128 KiB each), where the frame does not say it.
fn unzstd(records: &[u8], most: usize) -> Result<Vec<u8>, CompressionError> {
    let bound = zstd::bulk::Decompressor::upper_bound(records).ok_or(CompressionError::Damaged)?;
    let mut out = Vec::new();
    out.try_reserve_exact(bound.min(most)).map_err(|_| CompressionError::TooLarge)?;
    match zstd::zstd_safe::decompress(&mut out, records) {
        Ok(_) => Ok(out),
        Err(ZSTD_TOO_SMALL) => Err(CompressionError::TooLarge),
        Err(_) => Err(CompressionError::Damaged),
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
