//! Any bytes, read as an answer of a broker: nothing panics, and no answer takes more memory than its size allows.
//!
//! The first byte chooses the API, the second its version; the rest is the frame behind its correlation id.

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_kafka_proxy::upstream::decode_answer;

/// The APIs by their keys, each with its newest version.
pub const APIS: [(i16, i16); 23] = [
    (0, 13),
    (1, 18),
    (2, 10),
    (3, 13),
    (8, 10),
    (9, 10),
    (10, 6),
    (11, 9),
    (12, 4),
    (13, 5),
    (14, 5),
    (17, 1),
    (18, 4),
    (22, 6),
    (23, 4),
    (32, 4),
    (36, 2),
    (19, 7),
    (44, 1),
    (76, 1),
    (78, 2),
    (90, 0),
    (91, 0),
];
/// Bytes of memory that a byte on the wire may become at most: an element of three bytes with an unknown tagged field of three.
const MOST_GROWTH: u64 = 128;
/// What an error costs, however small the answer was.
const ERROR: u64 = 8 * 1024;

/// Decodes `bytes` as their first two say. True if they were an answer.
pub fn check(bytes: &[u8]) -> bool {
    let [api, version, rest @ ..] = bytes else { return false };
    let (api, newest) = APIS[usize::from(*api) % APIS.len()];
    let mut frame = BytesMut::from(&[0, 0, 0, 7][..]);
    frame.put_slice(rest);
    within_bounds(api, i16::from(*version) % (newest + 1), frame.freeze())
}

/// Decodes a frame and looks at the memory that it took meanwhile. True if it was an answer.
pub fn within_bounds(api: i16, version: i16, frame: Bytes) -> bool {
    let length = frame.len() as u64;
    let mut result = Ok(0);
    let took = allocation_counter::measure(|| result = decode_answer(api, version, frame)).bytes_max;
    assert!(
        took <= length * MOST_GROWTH + ERROR,
        "API {api} version {version}: {length} bytes became {took}: {result:?}"
    );
    if let Ok(bound) = result {
        assert!(
            took <= bound as u64 + 1024,
            "API {api} version {version}: said {bound}, took {took}"
        );
    }
    result.is_ok()
}
