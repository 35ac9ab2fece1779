//! CRC-32C: the vectors of the standards, and the plain definition beside the fast one.

mod kafka_batches;

use mqtt_kafka_proxy::kafka::batch;
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Of all lengths and alignments that the vectorised loops treat differently.
    #[test]
    fn the_crc_is_that_of_the_definition(bytes in vec(any::<u8>(), 0..1_200), from in 0usize..64) {
        let bytes = &bytes[from.min(bytes.len())..];
        prop_assert_eq!(batch::crc32c(bytes), kafka_batches::crc32c(bytes));
    }
}

/// RFC 3720 (iSCSI), appendix B.4, and the check value of the Rocksoft catalogue.
#[test]
fn known_checksums() {
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    let read_pdu =
        kafka_batches::hex("01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000");
    for (bytes, crc) in [
        (&b""[..], 0),
        (b"123456789", 0xE306_9283),
        (&[0; 32], 0x8A91_36AA),
        (&[0xFF; 32], 0x62A8_AB43),
        (&ascending, 0x46DD_794E),
        (&descending, 0x113F_DB5C),
        (&read_pdu, 0xD996_3A56),
    ] {
        assert_eq!(batch::crc32c(bytes), crc, "{bytes:02x?}");
        assert_eq!(kafka_batches::crc32c(bytes), crc, "the test's own, {bytes:02x?}");
    }
}
