//! When there is room for what waits.

use std::{pin::pin, task::Poll};

use super::*;

const MIB: usize = 1024 * 1024;

fn job(payload: usize) -> Job {
    Job {
        topic: "t".into(),
        mapped: Arc::new(Topic {
            name: "t".into(),
            id: Default::default(),
            partitions: Vec::new(),
            appeared: false,
        }),
        timestamp: 0,
        payload: vec![0; payload].into(),
        headers: Box::default(),
        waiter: None,
        letter: None,
        stored: None,
        as_of: None,
    }
}

/// It was told of room that it did not get, and asked again at once, until the others had gone.
#[test]
fn who_finds_no_room_is_told_when_there_is_enough_for_it() {
    let writer = Writer::default();
    let [first, second] = [4 * MIB, 2 * MIB].map(|size| writer.begin(job(size)).unwrap());
    let weight = writer.begin(job(13 * MIB)).unwrap_err().weight();
    let mut room = pin!(writer.room(weight));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(room.as_mut().poll(&mut context), Poll::Pending);
    writer.finish(second, Outcome::Unknown);
    assert_eq!(room.as_mut().poll(&mut context), Poll::Pending, "13 beside 4 are too much");
    writer.finish(first, Outcome::Unknown);
    assert_eq!(room.as_mut().poll(&mut context), Poll::Ready(()));
    writer.begin(job(13 * MIB)).unwrap();
}

#[test]
fn a_message_that_is_larger_than_all_room_is_taken_alone() {
    let writer = Writer::default();
    let large = writer.begin(job(MOST_WAITING)).unwrap();
    let weight = writer.begin(job(0)).unwrap_err().weight();
    writer.finish(large, Outcome::Unknown);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(pin!(writer.room(weight)).poll(&mut context), Poll::Ready(()));
}
