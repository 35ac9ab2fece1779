//! Record batches as Apache Kafka 4.4.0 wrote them into its log segments (which is what a fetch returns), with the Java client 4.4.0,
//! with librdkafka 2.0.2 and by the log cleaner, and what is in them.

#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod kafka_batches;

use bytes::Bytes;
use kafka_batches::{LIMITS, hex};
use mqtt_kafka_proxy::kafka::fetched::{self, Batch};

/// Four records in one batch, `compression.type=none`.
const JAVA_NONE: &str = "
    0000000000000000000000f8000000000262f9a3380000000000030000018bcfe568000000018bcfe569f40000000000000000000000000000000000
    04be010000000a76696e2d31900172706d3d333030303b72706d3d333030303b72706d3d333030303b72706d3d333030303b72706d3d333030303b72
    706d3d333030303b72706d3d333030303b72706d3d333030303b060261023102610232026e01a00100cf0f0201900172706d3d333030303b72706d3d
    333030303b72706d3d333030303b72706d3d333030303b72706d3d333030303b72706d3d333030303b72706d3d333030303b72706d3d333030303b00
    1800e807040a76696e2d3101000c000206000000
";

/// Four records in one batch, `compression.type=gzip`.
const JAVA_GZIP: &str = "
    000000000000000000000082000000000298bfbffa0001000000030000018bcfe568000000018bcfe569f40000000000000001000000000000000000
    041f8b08000000000000ffdbc7c8c0c0c0559699a76b3881b1a820d7d6d8c0c0c09a42061b53229321101b31e5312e606438cfcfc4483dc31924185e
    b0b3409cccc8c0c3c0c406f40100053f0a71c7000000
";

/// Four records in one batch, `compression.type=snappy`.
const JAVA_SNAPPY: &str = "
    000000000000000000000091000000000200946ec90002000000030000018bcfe568000000018bcfe569f40000000000000002000000000000000000
    0482534e415050590000000001000000010000004cc70154be010000000a76696e2d31900172706d3d333030303bfa09004c06026102310261023202
    6e01a00100cf0f020190fe5d00155d50001800e807040a76696e2d3101000c000206000000
";

/// Four records in one batch, `compression.type=lz4`.
const JAVA_LZ4: &str = "
    0000000000000000000000860000000002856a465f0003000000030000018bcfe568000000018bcfe569f40000000000000003000000000000000000
    0404224d1860408246000000ff07be010000000a76696e2d31900172706d3d333030303b09002cff04060261023102610232026e01a00100cf0f0201
    5d003762001800e80704b3009001000c00020600000000000000
";

/// Four records in one batch, `compression.type=zstd`.
const JAVA_ZSTD: &str = "
    0000000000000000000000830000000002574332e80004000000030000018bcfe568000000018bcfe569f40000000000000004000000000000000000
    0428b52ffd00583402008403be010000000a76696e2d31900172706d3d333030303b060261023102610232026e01a00100cf0f0201001800e8070401
    000c0002060000000300361bca03031a90521103010000
";

/// Two records, `-z gzip`.
const LIBRDKAFKA_GZIP: &str = "
    0000000000000000000000720000000002d9b6a9f4000100000001000001a20adfdc66000001a20adfdc66ffffffffffffffffffffffffffff000000
    021f8b0800000000000003dbc7c8c0c0c0559699a76b3881b1a820d7d6d8c0c0c09a42061b53229321101b31e531ee035ac004b6c08836160000ad27
    2682c2000000
";

/// Two records, `-z snappy`. Its snappy has no framing.
const LIBRDKAFKA_SNAPPY: &str = "
    000000000000000000000068000000000261a8245e000200000001000001a20adfdc82000001a20adfdc82ffffffffffffffffffffffffffff000000
    02c20154be010000000a76696e2d31900172706d3d333030303bfa09002c060261023102610232026e010161000205610032fe6100566100
";

/// Two records, `-z lz4`.
const LIBRDKAFKA_LZ4: &str = "
    0000000000000000000000790000000002ec9dc350000300000001000001a20adfdcbc000001a20adfdcbcffffffffffffffffffffffffffff000000
    0204224d1860408239000000ff07be010000000a76696e2d31900172706d3d333030303b09002cc0060261023102610232026e016100110261001f32
    61003e500232026e0100000000
";

/// Two records, `-z zstd`. It sent them as two batches.
const LIBRDKAFKA_ZSTD: &str = "
    00000000000000000000006400000000029e6c568b000400000000000001a20adfdcf7000001a20adfdcf7ffffffffffffffffffffffffffff000000
    0128b52ffd00585501002402be010000000a76696e2d31900172706d3d333030303b060261023102610232026e01010048a934010000000000000001
    000000640000000002a0a19590000400000000000001a20adfdcf7000001a20adfdcf7ffffffffffffffffffffffffffff0000000128b52ffd005855
    01002402be010000000a76696e2d32900172706d3d333030303b060261023102610232026e01010048a93401
";

/// Two records of a topic with `message.timestamp.type=LogAppendTime`, produced with the timestamps 5 and 7.
const STAMPED: &str = "
    0000000000000000000000470000000002423619210008000000010000000000000005000001a20ae08f830000000000000005000000000000000000
    0214000000026b066f6e650014000402026b0674776f00
";

/// A transaction that was committed and one that was aborted, with their markers.
const TRANSACTIONS: &str = "
    00000000000000000000003d00000000025fde46260010000000000000018bcfe568000000018bcfe568000000000000000006000000000000000000
    0116000000026b086b65707400000000000000000100000042000000000268945855003000000000000001a20ae092dd000001a20ae092dd00000000
    000000060001ffffffff000000012000000008000000010c0000000000000000000000000000020000004000000000027438e6b60010000000000000
    018bcfe568000000018bcfe568000000000000000006000100000000000000011c000000026b0e64726f707065640000000000000000030000004200
    00000002c37ce0a6003000000000000001a20ae09338000001a20ae0933800000000000000060002ffffffff000000012000000008000000000c0000
    0000000000
";

/// A compacted partition after three passes of the cleaner: a batch with records missing, two without any (a producer's last batch stays
/// for its sequence), and one with a tombstone that waits for its delete horizon.
const COMPACTED: &str = "
    00000000000000060000003b00000000024e1d5cc50000000000020000018bcfe568020000018bcfe568020000000000000007000000000006000000
    0112000004026304763200000000000000000b00000031000000000227c24671000000000000ffffffffffffffff0000018bcfe56bea000000000000
    000700000000000b00000000000000000000000c0000004c0000000002a327eed5004000000001000001a210096a710000018bcfe56fd10000000000
    000008000000000000000000021800c1ea9f82c80500026201001a00bfea9f82c805020264027800000000000000000f000000310000000002dd1778
    df000000000000ffffffffffffffff0000018bcfe573b900000000000000080000000000030000000000000000000000100000004300000000022951
    21ca0000000000010000018bcfe577a00000018bcfe577a1000000000000000900000000000000000002100000000261027100100002020266027800
    00000000000000120000003a000000000273072a310000000000000000018bcfe57b880000018bcfe57b880000000000000009000000000002000000
    0110000000026502790000000000000000130000003a0000000002903926a00000000000000000018bcfe57f700000018bcfe57f7000000000000000
    0900000000000300000001100000000265027a00
";

type Fields = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn batches(vector: &str) -> Vec<Batch> {
    fetched::batches(Bytes::from(hex(vector)), LIMITS).map(Result::unwrap).collect()
}

fn records(batches: &[Batch]) -> Vec<Fields> {
    let bytes = <[u8]>::to_vec;
    batches
        .iter()
        .flat_map(Batch::records)
        .map(|record| {
            let record = record.unwrap();
            let headers = record.headers().map(|(name, value)| (name.to_vec(), value.map(bytes))).collect();
            (
                record.offset,
                record.timestamp,
                record.key.map(bytes),
                record.value.map(bytes),
                headers,
            )
        })
        .collect()
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.into())
}

/// Two headers of one name and one without a value.
fn headers() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    vec![("a".into(), text("1")), ("a".into(), text("2")), ("n".into(), None)]
}

#[test]
fn what_the_java_client_sent_is_read_from_every_codec() {
    let value = text(&"rpm=3000;".repeat(8));
    let sent: Vec<Fields> = vec![
        (0, 1_700_000_000_000, text("vin-1"), value.clone(), headers()),
        // Earlier than the first.
        (1, 1_699_999_999_000, None, value, vec![]),
        (2, 1_700_000_000_500, text("vin-1"), None, vec![]),
        (3, 1_700_000_000_001, text(""), text(""), vec![]),
    ];
    for vector in [JAVA_NONE, JAVA_GZIP, JAVA_SNAPPY, JAVA_LZ4, JAVA_ZSTD] {
        let batches = batches(vector);
        assert_eq!((batches.len(), batches[0].last_offset, batches[0].count()), (1, 3, 4));
        assert!(batches[0].producer_id >= 0 && !batches[0].is_transactional && !batches[0].is_control);
        assert_eq!(records(&batches), sent);
    }
}

#[test]
fn what_librdkafka_sent_is_read_from_every_codec() {
    for vector in [LIBRDKAFKA_GZIP, LIBRDKAFKA_SNAPPY, LIBRDKAFKA_LZ4, LIBRDKAFKA_ZSTD] {
        let batches = batches(vector);
        let read = records(&batches);
        assert_eq!(read.len(), 2);
        for (at, (offset, timestamp, key, value, their_headers)) in read.into_iter().enumerate() {
            assert_eq!(offset, at as i64);
            // The clock of the machine that made them; the batch's header says the same.
            assert_eq!(timestamp, i64::from_be_bytes(hex(vector)[27..35].try_into().unwrap()));
            assert_eq!(key, text(&format!("vin-{}", at + 1)));
            assert_eq!(value, text(&"rpm=3000;".repeat(8)));
            assert_eq!(their_headers, headers());
        }
        assert_eq!(batches[0].producer_id, -1);
    }
}

#[test]
fn log_append_time_replaces_what_was_produced() {
    let batches = batches(STAMPED);
    let broker_time = batches[0].log_append_time.unwrap();
    assert!(broker_time > 1_700_000_000_000);
    let read: Vec<_> = records(&batches).into_iter().map(|r| (r.0, r.1, r.3)).collect();
    assert_eq!(read, [(0, broker_time, text("one")), (1, broker_time, text("two"))]);
}

#[test]
fn transactions_and_their_markers() {
    let batches = batches(TRANSACTIONS);
    let kinds: Vec<_> = batches
        .iter()
        .map(|b| (b.base_offset, b.is_transactional, b.is_control, b.control_type()))
        .collect();
    let expected = [
        (0, true, false, None),
        (1, true, true, Some(1)),
        (2, true, false, None),
        (3, true, true, Some(0)),
    ];
    assert_eq!(kinds, expected);
    assert!(batches.iter().all(|b| b.producer_id == batches[0].producer_id));
    let values: Vec<_> = batches
        .iter()
        .filter(|b| !b.is_control)
        .flat_map(|b| records(std::slice::from_ref(b)))
        .map(|r| r.3)
        .collect();
    assert_eq!(values, [text("kept"), text("dropped")]);
}

#[test]
fn what_the_cleaner_left() {
    let batches = batches(COMPACTED);
    let shapes: Vec<_> = batches.iter().map(|b| (b.base_offset, b.last_offset, b.count())).collect();
    let expected = [
        (6, 8, 1),
        (11, 11, 0),
        (12, 13, 2),
        (15, 15, 0),
        (16, 17, 2),
        (18, 18, 1),
        (19, 19, 1),
    ];
    assert_eq!(shapes, expected);
    let read: Vec<_> = records(&batches).into_iter().map(|r| (r.0, r.1, r.2, r.3)).collect();
    let expected = [
        (8, 1_700_000_000_002, text("c"), text("v2")),
        // Behind a delete horizon, which has taken the place of the base timestamp.
        (12, 1_700_000_002_000, text("b"), None),
        (13, 1_700_000_002_001, text("d"), text("x")),
        (16, 1_700_000_004_000, text("a"), text("q")),
        (17, 1_700_000_004_001, text("f"), text("x")),
        (18, 1_700_000_005_000, text("e"), text("y")),
        (19, 1_700_000_006_000, text("e"), text("z")),
    ];
    assert_eq!(read, expected);
}

/// The vectors are hit where it matters: each byte that the CRC covers changes what is read into an error.
#[test]
fn no_vector_is_read_after_a_change() {
    for vector in [JAVA_NONE, JAVA_SNAPPY, JAVA_ZSTD, LIBRDKAFKA_LZ4] {
        let good = hex(vector);
        for at in 17..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(kafka_batches::one(bad).is_err(), "byte {at}");
        }
    }
}
