//! Partitions of keys as Kafka's Java client chooses them, so that stream joins line up.

/// MurmurHash2, 32 bits, with the seed of Kafka's `Utils.murmur2`.
pub fn murmur2(bytes: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let len = u32::try_from(bytes.len()).expect("a key fits a record, so an i32");
    let mut hash: u32 = 0x9747_b28c ^ len;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of a key among `count` (> 0): `toPositive(murmur2(key)) % count`.
pub fn partition_for_key(key: &[u8], count: u32) -> u32 {
    (murmur2(key).cast_unsigned() & 0x7fff_ffff) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    /// The vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_the_java_client() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }
}
