//! Who gets what, and what is committed of it.

use super::{parts::MOST_OPEN, *};
use crate::progress::{Position, Progress};

/// A partition with messages at these offsets, and everything up to `end` read.
fn part(state: &mut State<i64>, offsets: std::ops::Range<i64>) -> PartId {
    let part = state.begin(Progress::at(offsets.start));
    for offset in offsets {
        state.push(part, offset, offset);
    }
    part
}

fn all(state: &mut State<i64>) -> Vec<(MemberId, HandoutId, i64)> {
    std::iter::from_fn(|| state.hand_out()).collect()
}

fn offsets_of(handed: &[(MemberId, HandoutId, i64)], member: MemberId) -> Vec<i64> {
    handed.iter().filter(|(to, ..)| *to == member).map(|(.., offset)| *offset).collect()
}

fn committed(state: &mut State<i64>) -> Option<i64> {
    state.moved().pop().map(|(_, position)| position.offset)
}

#[test]
fn who_has_the_most_room_gets_the_next() {
    let mut state = State::default();
    let (small, large) = (state.join(2), state.join(5));
    part(&mut state, 0..20);
    let handed = all(&mut state);
    assert_eq!(handed.len(), 7, "no more than all may hold");
    assert_eq!(offsets_of(&handed, large)[..3], [0, 1, 2], "until both have the same room");
    assert_eq!(offsets_of(&handed, small).len(), 2);
    let first = handed.iter().find(|(to, ..)| *to == small).unwrap();
    state.sent(first.1, QoS::AtLeastOnce);
    assert_eq!(state.hand_out(), None);
    state.done(first.1);
    assert_eq!(state.hand_out().map(|(to, ..)| to), Some(small));
}

#[test]
fn what_a_member_had_goes_to_the_others_at_once_and_in_order() {
    let mut state = State::default();
    let first = state.join(10);
    let id = part(&mut state, 0..30);
    let handed = all(&mut state);
    assert_eq!(handed.len(), 10);
    // Six are sent, four wait; one of the six is acknowledged.
    handed[..6].iter().for_each(|(_, id, _)| state.sent(*id, QoS::AtLeastOnce));
    state.done(handed[2].1);
    let second = state.join(100);
    assert_eq!(offsets_of(&all(&mut state), second), (10..30).collect::<Vec<_>>());
    let again = [0, 1, 3, 4, 5].map(|at: usize| state.give_back(handed[at].1));
    assert_eq!(again, [true; 5], "it may have had them");
    state.retire(first);
    let offsets = offsets_of(&all(&mut state), second);
    assert_eq!(offsets, [0, 1, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        state.moved(),
        [(
            id,
            Position {
                offset: 0,
                settled: vec![std::ops::Range { start: 2, end: 3 }]
            }
        )]
    );
}

#[test]
fn a_message_of_qos_2_on_its_way_is_nobody_elses() {
    let mut state = State::default();
    let member = state.join(1);
    part(&mut state, 0..3);
    let (_, id, _) = state.hand_out().unwrap();
    state.sent(id, QoS::ExactlyOnce);
    assert_eq!(committed(&mut state), Some(1));
    assert_eq!(state.hand_out(), None, "it takes room until its exchange is over");
    state.done(id);
    let (_, id, offset) = state.hand_out().unwrap();
    assert_eq!(offset, 1);
    state.sent(id, QoS::ExactlyOnce);
    assert!(!state.give_back(id));
    state.retire(member);
    let other = state.join(10);
    assert_eq!(offsets_of(&all(&mut state), other), [2]);
}

/// Whether its connection has ended or not, the log decides.
#[test]
fn a_message_that_is_lent_is_settled_when_it_is_kept_and_goes_to_others_when_it_is_taken_back() {
    for left in [false, true] {
        for kept in [false, true] {
            let mut state = State::default();
            let member = state.join(1);
            let part = part(&mut state, 0..1);
            let (_, id, _) = state.hand_out().unwrap();
            state.lend(id);
            assert_eq!((committed(&mut state), state.is_quiet(part)), (Some(0), false));
            let other = state.join(10);
            if left {
                assert!(!state.give_back(id));
                state.retire(member);
                assert_eq!(state.hand_out(), None, "it is nobody's yet");
            }
            if kept {
                assert!(state.lends() && state.lends_of(part) && state.keep(id));
            } else {
                state.take_back(id);
            }
            assert!(!state.lends() && !state.keep(id), "it is decided");
            let again = all(&mut state);
            assert_eq!(offsets_of(&again, other), if kept { vec![] } else { vec![0] });
            assert_eq!(committed(&mut state), kept.then_some(1));
            assert_eq!(state.out.len(), if kept && left { 0 } else { 1 });
            if kept && !left {
                state.done(id);
                assert!(state.out.is_empty());
            }
        }
    }
}

#[test]
fn at_most_once_is_settled_when_it_is_sent() {
    let mut state = State::default();
    state.join(1);
    part(&mut state, 0..2);
    let (_, id, _) = state.hand_out().unwrap();
    state.sent(id, QoS::AtMostOnce);
    assert_eq!(committed(&mut state), Some(1));
    assert!(state.hand_out().is_some());
}

#[test]
fn of_a_partition_that_is_given_up_nothing_is_sent_and_what_was_may_be_acknowledged() {
    let mut state = State::default();
    let member = state.join(2);
    let id = part(&mut state, 0..5);
    let handed = all(&mut state);
    state.sent(handed[0].1, QoS::AtLeastOnce);
    state.close(id);
    assert!(!state.may_send(handed[1].1) && !state.is_quiet(id) && !state.wants(id));
    assert_eq!(state.hand_out(), None);
    state.done(handed[0].1);
    assert!(state.is_quiet(id));
    assert_eq!(committed(&mut state), Some(1));
    state.end(id);
    assert_eq!(state.moved(), []);
    // Words about what is gone do no harm, and the room is free.
    state.done(handed[1].1);
    assert!(!state.give_back(handed[0].1));
    part(&mut state, 0..5);
    assert_eq!(offsets_of(&all(&mut state), member), [0, 1]);
}

#[test]
fn partitions_take_turns() {
    let mut state = State::default();
    state.join(4);
    part(&mut state, 0..10);
    part(&mut state, 100..110);
    let offsets: Vec<_> = all(&mut state).iter().map(|(.., offset)| *offset).collect();
    assert_eq!(offsets, [0, 100, 1, 101]);
}

#[test]
fn no_more_is_open_than_a_commit_can_tell() {
    let mut state = State::default();
    state.join(10_000);
    let id = part(&mut state, 0..0);
    let mut offset = 0;
    while state.wants(id) {
        state.push(id, offset, offset);
        offset += 1;
        all(&mut state);
    }
    assert_eq!(offset, MOST_OPEN as i64);
}

/// A batch holds more than that: what is settled between those that are with members lies below all that is not handed out yet.
#[test]
fn of_a_large_batch_no_more_goes_out_than_a_commit_can_tell() {
    let mut state = State::default();
    let first = state.join(10_000);
    let id = part(&mut state, 0..3 * MOST_OPEN as i64);
    let handed = all(&mut state);
    assert_eq!(handed.len(), MOST_OPEN);
    handed.iter().for_each(|(_, id, _)| state.sent(*id, QoS::AtLeastOnce));
    // Each that is settled makes room for one.
    state.done(handed[1].1);
    state.done(handed[3].1);
    assert_eq!(offsets_of(&all(&mut state), first), [400, 401]);
    assert!(!state.wants(id));
    // What comes back goes out in any case.
    let second = state.join(10_000);
    state.give_back(handed[0].1);
    state.retire(first);
    assert_eq!(offsets_of(&all(&mut state), second), [0, 400, 401]);
    let position = state.position(id).unwrap();
    assert_eq!((position.offset, position.settled.len()), (0, 2));
}

/// Records of a share group, of which the last two are given out for the last time.
fn locked(state: &mut State<i64>, offsets: std::ops::Range<i64>) -> PartId {
    let (part, end) = (state.begin_locked(), offsets.end);
    for offset in offsets {
        state.push_locked(part, offset, offset >= end - 2, offset);
    }
    part
}

/// Brokers count locks; some that do not acknowledge keep nothing from the others.
#[test]
fn of_what_is_locked_as_much_goes_out_as_there_is_room_for() {
    let mut state = State::default();
    let most = 2 * MOST_OPEN as i64;
    let slow = state.join(MOST_OPEN + 100);
    locked(&mut state, 0..most);
    assert_eq!(offsets_of(&all(&mut state), slow).len(), MOST_OPEN + 100);
    let other = state.join(10_000);
    assert_eq!(offsets_of(&all(&mut state), other).len(), MOST_OPEN - 100);
}

#[test]
fn in_a_share_group_each_message_is_told_of_and_what_one_that_is_gone_had_is_released() {
    let mut state = State::default();
    let (gone, stays) = (state.join(4), state.join(1));
    assert_eq!(state.room_left(), 5);
    let part = locked(&mut state, 0..6);
    let handed = all(&mut state);
    assert_eq!((handed.len(), state.room_left()), (5, 0));
    let of_gone: Vec<_> = handed.iter().filter(|(to, ..)| *to == gone).collect();
    of_gone[..3].iter().for_each(|(_, id, _)| state.sent(*id, QoS::AtLeastOnce));
    state.done(of_gone[0].1);
    assert_eq!(state.said(), [(part, vec![(of_gone[0].2, Said::Done)])]);
    assert!(
        state.give_back(of_gone[1].1) && state.give_back(of_gone[2].1),
        "it may have had them"
    );
    state.retire(gone);
    // What was not sent to it waits for one who has no room: that is released, too. But for the last two, which nobody would get any more.
    let (_, mut said) = state.said().pop().unwrap();
    said.sort_unstable_by_key(|(offset, _)| *offset);
    let mut expected: Vec<i64> = of_gone[1..]
        .iter()
        .map(|(.., offset)| *offset)
        .filter(|offset| *offset < 4)
        .collect();
    expected.sort_unstable();
    assert_eq!(
        said,
        expected.into_iter().map(|offset| (offset, Said::Released)).collect::<Vec<_>>()
    );
    assert_eq!(state.last(), 2);
    let kept = handed.iter().find(|(to, ..)| *to == stays).unwrap();
    state.sent(kept.1, QoS::ExactlyOnce);
    assert_eq!(state.said(), [(part, vec![(kept.2, Said::Done)])], "its exchange has begun");
    state.done(kept.1);
    let (to, id, offset) = state.hand_out().unwrap();
    assert!(to == stays && offset >= 4, "{offset}");
    state.sent(id, QoS::AtLeastOnce);
    assert!(state.give_back(id));
    assert_eq!(
        (state.said(), state.hand_out().unwrap().2),
        (vec![], 4),
        "it stays as long as anybody does"
    );
}

#[test]
fn what_is_locked_for_others_by_now_is_not_sent_and_not_told_of() {
    let mut state = State::default();
    state.join(2);
    let part = locked(&mut state, 0..10);
    let handed = all(&mut state);
    state.sent(handed[0].1, QoS::AtLeastOnce);
    (0..3).for_each(|offset| state.expire(part, offset));
    assert!(!state.may_send(handed[1].1));
    state.done(handed[0].1);
    assert_eq!(state.said(), []);
    assert_eq!(state.hand_out().unwrap().2, 3);
    // The same record again, and one that is here already.
    state.push_locked(part, 0, false, 0);
    state.push_locked(part, 5, false, 5);
    assert_eq!(state.room_left(), 0);
    state.end(part);
    assert_eq!((state.hand_out(), state.room_left(), state.is_all_quiet()), (None, 2, true));
}

/// As long as nothing is said of it, its lock is renewed.
#[test]
fn what_a_stored_session_takes_of_a_share_group_stays_locked_until_the_session_has_it_or_will_not() {
    for left in [false, true] {
        for kept in [false, true] {
            let mut state = State::default();
            let member = state.join(1);
            let part = state.begin_locked();
            state.push_locked(part, 7, false, 7);
            let (_, id, _) = state.hand_out().unwrap();
            state.lend(id);
            if left {
                assert!(!state.give_back(id));
                state.retire(member);
            }
            // It comes once more from the group while it is ours: whoever has it goes on.
            state.push_locked(part, 7, false, 7);
            let other = state.join(1);
            assert_eq!((state.said(), state.hand_out(), state.is_all_quiet()), (vec![], None, false));
            if kept {
                state.keep(id);
                assert_eq!(state.said(), [(part, vec![(7, Said::Done)])]);
            } else {
                state.take_back(id);
                assert_eq!(state.hand_out().map(|(to, _, offset)| (to, offset)), Some((other, 7)));
                assert_eq!(state.said(), [], "one of this instance who has room gets it at once");
            }
            // The session completes it, or its connection ends: nothing is said twice.
            state.done(id);
            state.give_back(id);
            assert_eq!((state.said(), state.hand_out()), (vec![], None));
        }
    }
}

/// Its connection ended, and then it turned out that the session does not have it. Those who are left here have no room for it.
#[test]
fn what_a_stored_session_that_is_gone_will_not_have_is_released_unless_one_here_has_room() {
    let mut state = State::default();
    let (gone, busy) = (state.join(1), state.join(1));
    let part = state.begin_locked();
    (0..2).for_each(|offset| state.push_locked(part, offset, false, offset));
    let handed = all(&mut state);
    let of = |member| handed.iter().find(|(to, ..)| *to == member).unwrap();
    state.sent(of(busy).1, QoS::AtLeastOnce);
    state.lend(of(gone).1);
    state.give_back(of(gone).1);
    state.retire(gone);
    assert_eq!(state.said(), []);
    state.take_back(of(gone).1);
    assert_eq!(state.said(), [(part, vec![(of(gone).2, Said::Released)])]);
    state.done(of(busy).1);
    assert_eq!(state.hand_out(), None, "it is another instance's by now");
}

/// What is read back then comes too late for the group, which gives it to another: no word of it counts.
#[test]
fn of_a_lent_message_whose_lock_has_run_out_nothing_is_said() {
    for kept in [false, true] {
        let mut state = State::default();
        state.join(1);
        let part = state.begin_locked();
        state.push_locked(part, 7, false, 7);
        let (_, id, _) = state.hand_out().unwrap();
        state.lend(id);
        state.expire(part, 7);
        if kept {
            state.keep(id);
        } else {
            state.take_back(id);
        }
        assert_eq!((state.said(), state.hand_out(), state.room_left()), (vec![], None, 1));
    }
}
