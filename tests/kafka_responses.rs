//! Answers of brokers: each layout is that of kafka-protocol in every version, and no count, size or tag costs memory that the bytes
//! do not justify.
#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

#[path = "../fuzz/bodies/kafka_response.rs"]
mod body;
mod kafka_answers;

use body::within_bounds;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_answers::{APIS, full, versions_of, with_tag_of_size};
use kafka_protocol::{messages::ApiKey, protocol::VersionRange};
use mqtt_kafka_proxy::upstream::decode_answer;

fn every_version(mut each: impl FnMut(ApiKey, i16)) {
    for api in APIS {
        let VersionRange { min, max } = versions_of(api);
        (min..=max).for_each(|version| each(api, version));
    }
}

#[test]
fn every_answer_in_every_version_is_taken_whole() {
    every_version(|api, version| {
        let frame = full(api, version);
        let taken = decode_answer(api as i16, version, frame);
        assert!(taken.is_ok(), "{api:?} {version}: {taken:?}");
    });
}

#[test]
fn the_fuzzer_knows_the_same_apis_and_their_newest_versions() {
    for (at, (key, newest)) in body::APIS.into_iter().enumerate() {
        assert_eq!((key, newest), (APIS[at] as i16, versions_of(APIS[at]).max));
        let input = [&[at as u8, newest as u8], &full(APIS[at], newest)[4..]].concat();
        assert!(body::check(&input), "{:?}", APIS[at]);
        assert_eq!(
            decode_answer(key, newest + 1, full(APIS[at], newest)),
            Err("an answer of unknown layout")
        );
    }
    assert!(decode_answer(ApiKey::DeleteTopics as i16, 5, Bytes::new()).is_err());
}

#[test]
fn an_answer_that_is_cut_or_has_bytes_left_over_is_refused_at_any_length() {
    every_version(|api, version| {
        let frame = full(api, version);
        for length in 0..frame.len() {
            assert!(
                !within_bounds(api as i16, version, frame.slice(..length)),
                "{api:?} {version}: {length}"
            );
        }
        let mut longer = BytesMut::from(&frame[..]);
        longer.put_u8(0);
        assert!(!within_bounds(api as i16, version, longer.freeze()), "{api:?} {version}");
    });
}

/// Wherever a count or size may stand, the largest that there is.
#[test]
fn no_count_anywhere_reserves_memory_for_more_than_is_there() {
    every_version(|api, version| {
        let frame = full(api, version);
        for at in 4..frame.len() {
            for huge in [
                &[0x7f, 0xff, 0xff, 0xff][..],
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
                &[0x80, 0x80, 0x80, 0x40],
            ] {
                let mut bytes = frame.to_vec();
                let end = bytes.len().min(at + huge.len());
                bytes[at..end].copy_from_slice(&huge[..end - at]);
                within_bounds(api as i16, version, bytes.into());
            }
        }
    });
}

/// The decoder reads a known tagged field by its layout, whatever its size says: where the two differ, it would see other counts than
/// those that were checked.
#[test]
fn a_tagged_field_whose_size_is_not_its_own_is_refused() {
    // Produce, node endpoints: none; the bytes behind them are four billion, if the size is believed.
    let hidden = [1, 0xff, 0xff, 0xff, 0xff, 0x0f];
    for size in 2..=6 {
        let frame = with_tag_of_size(ApiKey::Produce, 11, 0, &hidden[..usize::from(size)], size);
        assert!(!within_bounds(ApiKey::Produce as i16, 11, frame), "{size}");
    }
    let honest = with_tag_of_size(ApiKey::Produce, 11, 0, &hidden[..1], 1);
    assert!(within_bounds(ApiKey::Produce as i16, 11, honest));
    // ApiVersions, the epoch of the features: eight bytes.
    for (size, good) in [(7, false), (8, true), (9, false)] {
        let frame = with_tag_of_size(ApiKey::ApiVersions, 4, 1, &[0; 9][..usize::from(size)], size);
        assert_eq!(within_bounds(ApiKey::ApiVersions as i16, 4, frame), good, "{size}");
    }
}

/// The smallest element, as often as fits into the largest frame of an ordinary lane.
#[test]
fn a_frame_full_of_the_smallest_elements_is_refused_before_it_becomes_many_times_its_size() {
    let mut frame = BytesMut::new();
    // Correlation id, no tags, throttle time, and the count of topics: each an empty name, no partitions, no tags.
    let count = 5 * 1024 * 1024u32;
    frame.put_slice(&[0, 0, 0, 7, 0, 0, 0, 0, 0]);
    let mut rest = count + 1;
    while rest >= 0x80 {
        frame.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    frame.put_u8(rest as u8);
    frame.resize(frame.len() + 3 * count as usize, 1);
    // The last byte of each element and of the frame: no tags.
    let first = frame.len() - 3 * count as usize;
    (first + 2..frame.len()).step_by(3).for_each(|at| frame[at] = 0);
    frame.put_u8(0);
    let mut refused = None;
    let took = allocation_counter::measure(|| refused = decode_answer(ApiKey::ListOffsets as i16, 7, frame.freeze()).err());
    assert_eq!(refused, Some("an answer that would take more memory than any may"));
    assert!(took.bytes_total < 1024, "refused before anything was built: {took:?}");
}
