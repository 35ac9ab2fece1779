//! Offsets: where a member begins, and what it commits.

use std::time::Duration;

use super::script::{HEARTBEAT, Script, beat, commit, fetch, find, gives, join, joined, part, refusal, sync};
use crate::{
    kafka::error::ErrorCode,
    upstream::group::{
        event::{Commit, CommitError},
        membership::Event,
        requests::{Answer, Request},
    },
};

#[test]
fn offsets_that_are_not_stable_are_waited_for_and_those_of_others_come() {
    let mut script = Script::new();
    script.join(1, &[0, 1]);
    let told = vec![(part(0), Err(ErrorCode::from(88))), (part(1), Ok(None))];
    script.answer(fetch, Answer::Fetched(told));
    let events = script.events();
    assert!(matches!(&events[1], Event::Assigned(of) if of.len() == 1 && of[0].tenure.of == part(1) && of[0].committed.is_none()));
    assert!(!script.is_open(fetch));
    script.wait(Duration::from_millis(300));
    script.fetched(&[0]);
}

/// Partition 1 goes and comes back while its offsets are on their way: what they say was true before another had it.
#[test]
fn offsets_that_were_asked_for_an_earlier_tenure_are_not_taken_for_the_new_one() {
    let mut script = Script::new();
    script.join(1, &[0, 1]);
    script.events();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.join(2, &[0]);
    script.events();
    script.join(3, &[0, 1]);
    script.events();
    let tenures = script.fetched(&[0, 1]);
    assert_eq!(tenures.iter().map(|t| t.of.partition).collect::<Vec<_>>(), [0]);
    // It is asked for at once.
    let tenures = script.fetched(&[1]);
    assert_eq!(tenures.iter().map(|t| t.of.partition).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_commit_that_meets_a_new_generation_goes_again_in_it() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    assert!(script.is_open(join));
    // The group goes on, the answer to the JoinGroup is on its way.
    script.commit(1, &tenures[0], 11);
    script.committed(22);
    assert!(script.events().is_empty(), "nothing is lost");
    script.answer(join, joined(2));
    script.wait(Duration::from_secs(1));
    assert!(!script.is_open(commit), "the coordinator takes none between join and sync");
    script.answer(sync, gives(&[0, 1]));
    let sent = script.open.iter().find_map(|(_, r)| match r {
        Request::Commit { generation, .. } => Some(*generation),
        _ => None,
    });
    assert_eq!(sent, Some(2));
    assert_eq!(script.committed(0), [(0, 11)]);
    assert_eq!(script.outcome(1), Some(Ok(())));
}

/// The group waits for a member that is dead for as long as its session lasts: what this one has all the while is committed all the while.
#[test]
fn commits_go_out_while_a_generation_that_was_over_before_its_assignment_has_no_heir() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.answer(join, joined(2));
    script.commit(1, &tenures[0], 11);
    assert!(!script.is_open(commit), "the coordinator takes none between join and sync");
    script.answer(sync, refusal(27));
    assert!(script.is_open(join), "the others are waited for");
    let sent = script.open.iter().find_map(|(_, r)| match r {
        Request::Commit { generation, .. } => Some(*generation),
        _ => None,
    });
    assert_eq!(sent, Some(2), "it is the coordinator's until the next begins");
    assert_eq!(script.committed(0), [(0, 11)]);
    assert_eq!(script.outcome(1), Some(Ok(())));
}

/// The coordinator died with its memory of a generation whose assignment nobody has: its heir has the one before, and the member still.
#[test]
fn a_generation_that_the_coordinators_heir_does_not_know_costs_nothing() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.answer(join, joined(2));
    assert!(script.member.is_halted());
    script.commit(1, &tenures[0], 11);
    script.answer(sync, refusal(16));
    script.wait(Duration::from_millis(300));
    script.answer(find, Answer::Found);
    script.answer(join, refusal(14));
    script.committed(22);
    // The dead one has a new session there. This one is a member all the while, as it hears.
    for _ in 0..5 {
        script.wait(HEARTBEAT);
        if script.is_open(join) && script.is_open(beat) {
            script.answer(beat, refusal(22));
        }
        if script.is_open(commit) {
            script.committed(22);
        }
        assert!(script.events().is_empty(), "nothing is lost");
    }
    assert!(script.member.is_halted());
    script.join(2, &[0, 1]);
    assert!(!script.member.is_halted());
    // The pause after refusals.
    script.wait(Duration::from_millis(2_500));
    assert_eq!(script.committed(0), [(0, 11)]);
    assert_eq!(script.outcome(1), Some(Ok(())));
}

#[test]
fn commits_go_one_after_the_other_the_last_of_those_that_wait_and_never_back() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.commit(2, &tenures[0], 12);
    script.commit(3, &tenures[0], 13);
    script.commit(4, &tenures[0], 12);
    assert_eq!(script.outcome(4), Some(Err(CommitError::Backwards)));
    assert_eq!(script.committed(0), [(0, 11)]);
    assert_eq!((script.outcome(1), script.outcome(2)), (Some(Ok(())), None));
    // The first attempt fails: the later of both goes.
    script.committed(14);
    script.commit(5, &tenures[0], 14);
    script.wait(Duration::from_millis(300));
    assert_eq!(script.committed(0), [(0, 14)]);
    for call in [2, 3, 5] {
        assert_eq!(script.outcome(call), Some(Ok(())));
    }
}

#[test]
fn commits_go_back_once_when_the_log_was_cut_off() {
    let (mut script, tenures) = Script::stable();
    let mut tenure = tenures[0].clone();
    script.commit(1, &tenure, 20);
    script.committed(0);
    let before = tenure.clone();
    tenure.log_cut_off();
    script.commit(2, &tenure, 11);
    assert_eq!(script.committed(0), [(0, 11)]);
    script.commit(3, &before, 21);
    script.commit(4, &tenure, 10);
    for call in [3, 4] {
        assert_eq!(script.outcome(call), Some(Err(CommitError::Backwards)));
    }
}

#[test]
fn a_commit_that_is_refused_for_good_harms_no_other() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.committed(0);
    script.commit(2, &tenures[0], 12);
    script.commit(3, &tenures[1], 12);
    script.committed(12);
    let too_large = CommitError::Refused(ErrorCode::from(12));
    assert_eq!(script.outcome(2), Some(Err(too_large)));
    script.committed(0);
    assert_eq!(script.outcome(3), Some(Ok(())));
    let metadata = "x".repeat(4097);
    let (tenure, offset) = (tenures[0].clone(), 20);
    script.member.commit(4, Commit { tenure, offset, metadata }, script.now);
    script.look();
    assert_eq!(script.outcome(4), Some(Err(CommitError::MetadataTooLong)));
}

#[test]
fn a_commit_without_an_answer_is_given_up_after_its_timeout() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    for _ in 0..40 {
        if script.is_open(commit) {
            script.committed(14);
        }
        script.wait(Duration::from_secs(1));
        if script.is_open(beat) {
            script.answer(beat, Answer::Done);
        }
    }
    assert_eq!(script.outcome(1), Some(Err(CommitError::TimedOut)));
}

#[test]
fn a_commit_of_a_former_tenure_is_refused() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(25));
    script.events();
    script.wait(Duration::from_millis(200));
    script.join(9, &[0]);
    let fresh = script.fetched(&[0]);
    script.commit(1, &tenures[0], 50);
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
    script.commit(2, &fresh[0], 40);
    script.committed(0);
    assert_eq!(script.outcome(2), Some(Ok(())));
}
