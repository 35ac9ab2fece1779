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
    use super::{murmur2, partition_for_key};

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

    /// MurmurHash2 in another formulation: in wide integers reduced at the end of each step, bytes taken one by one.
    fn slowly(bytes: &[u8]) -> i32 {
        let (modulus, m) = (1_u64 << 32, 1_540_483_477_u64);
        let mut hash = 2_538_058_380 ^ bytes.len() as u64;
        let whole = bytes.len() / 4 * 4;
        for at in (0..whole).step_by(4) {
            let word = (0..4).map(|i| u64::from(bytes[at + i]) * 256_u64.pow(i as u32)).sum::<u64>();
            let mixed = word * m % modulus;
            let mixed = (mixed ^ (mixed / 16_777_216)) * m % modulus;
            hash = (hash * m % modulus) ^ mixed;
        }
        for (i, byte) in bytes[whole..].iter().enumerate().rev() {
            hash ^= u64::from(*byte) * 256_u64.pow(i as u32);
            if i == 0 {
                hash = hash * m % modulus;
            }
        }
        hash = (hash ^ (hash / 8_192)) * m % modulus;
        hash ^= hash / 32_768;
        hash as u32 as i32
    }

    #[test]
    fn every_length_of_tail_is_hashed() {
        // Values beyond 0x7f tell a signed byte from an unsigned one.
        let bytes = [0xff, 0x00, 0x80, 0x7f, 0x01, 0xfe, 0x40, 0xc3];
        for len in 0..=bytes.len() {
            assert_eq!(murmur2(&bytes[..len]), slowly(&bytes[..len]), "{len} bytes");
        }
        let ascending: Vec<u8> = (0..=255).collect();
        assert_eq!(murmur2(&ascending), slowly(&ascending));
    }

    #[test]
    fn a_negative_hash_loses_only_its_sign() {
        // -790332482 & 0x7fffffff, as `Utils.toPositive`.
        assert_eq!(partition_for_key(b"foobar", 1_000_000), 151_166);
        assert_eq!(partition_for_key(b"abc", 1_000_000), 470_107);
        assert_eq!(partition_for_key(b"abc", 1), 0);
        assert_eq!(partition_for_key(b"abc", 0), 0);
    }
}
