//! A membership that ends: by silence, or by a goodbye.

use std::time::Duration;

use super::script::{HEARTBEAT, REBALANCE, SESSION, Script, beat, commit, find, goodbye, join, joined, lost, refusal};
use crate::upstream::group::{
    event::CommitError,
    membership::Event,
    requests::{Answer, Request},
};

#[test]
fn without_a_sign_of_life_all_is_lost_before_the_coordinator_gives_it_away() {
    let (mut script, tenures) = Script::stable();
    let last_heard = script.now;
    script.commit(1, &tenures[0], 11);
    while lost(&script.events()).is_empty() {
        script.wait(Duration::from_millis(100));
        assert!(script.now <= last_heard + SESSION + Duration::from_millis(100));
    }
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
    assert!(!script.is_open(commit), "nothing is committed after the loss");
    script.commit(2, &tenures[0], 12);
    assert_eq!(script.outcome(2), Some(Err(CommitError::NotOwned)));
}

#[test]
fn heartbeats_alone_do_not_keep_what_a_generation_that_is_never_reached_has_given() {
    let (mut script, _) = Script::stable();
    let last_settled = script.now;
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    // The JoinGroup does not arrive, or its answer does not: after the rebalance timeout the coordinator goes on without us.
    while lost(&script.events()).is_empty() {
        assert!(
            script.now <= last_settled + REBALANCE + HEARTBEAT,
            "{:?}",
            script.now - last_settled
        );
        script.wait(Duration::from_millis(500));
        if script.is_open(beat) {
            script.answer(beat, refusal(27));
        }
    }
}

#[test]
fn who_has_nothing_hears_too_that_it_is_out() {
    let mut script = Script::new();
    script.join(1, &[]);
    assert_eq!(script.events().len(), 1);
    script.wait(SESSION);
    let events = script.events();
    assert!(
        matches!(&events[..], [Event::Lost { partitions, membership: true, .. }] if partitions.is_empty()),
        "{events:?}"
    );
    script.wait(Duration::from_secs(60));
    assert!(script.events().is_empty(), "once");
}

#[test]
fn a_goodbye_comes_after_the_last_commit_also_while_a_generation_is_asked_for() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    assert!(script.is_open(join));
    script.commit(1, &tenures[0], 11);
    script.member.leave(script.now);
    script.look();
    assert!(!script.is_open(goodbye));
    script.committed(0);
    script.commit(2, &tenures[0], 12);
    assert_eq!(script.outcome(2), Some(Err(CommitError::Closed)));
    script.answer(goodbye, Answer::Done);
    assert!(script.member.is_over());
    assert_eq!(script.outcome(1), Some(Ok(())));
}

/// The coordinator has given it a name by then, and all others would wait for it until its session is over (KIP-394).
#[test]
fn who_leaves_before_it_has_its_name_says_goodbye_under_that() {
    for answer in [Answer::NamedBy { member: "m".to_owned() }, joined(1)] {
        let mut script = Script::new();
        script.answer(find, Answer::Found);
        script.member.leave(script.now);
        script.look();
        assert!(
            !script.is_open(goodbye) && !script.member.is_over(),
            "nobody to say goodbye to, or under which name"
        );
        script.answer(join, answer);
        let said = script.answer(goodbye, Answer::Done);
        assert!(matches!(&said, Request::Leave { member } if member == "m"), "{said:?}");
        assert!(script.member.is_over());
    }
    for answer in [refusal(24), refusal(15), Answer::Failed { why: String::new() }] {
        let mut script = Script::new();
        script.answer(find, Answer::Found);
        script.member.leave(script.now);
        script.look();
        script.answer(join, answer);
        assert!(script.member.is_over(), "without a name there is nothing to give back");
    }
    let mut script = Script::new();
    script.answer(find, Answer::Found);
    script.member.leave(script.now);
    script.wait(Duration::from_secs(5));
    assert!(script.member.is_over(), "nor is it waited for without end");
    let mut script = Script::new();
    script.member.leave(script.now);
    assert!(script.member.is_over(), "nobody has given it a name");
}

/// The topic of one partition is deleted: Kafka refuses its commit again and again, and the others are to have the rest soon.
#[test]
fn a_commit_that_cannot_succeed_does_not_cost_the_goodbye() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.committed(3);
    script.member.leave(script.now);
    script.look();
    let start = script.now;
    while !script.is_open(goodbye) {
        script.wait(Duration::from_millis(100));
        if script.is_open(commit) {
            assert!(!script.is_open(goodbye), "commits have their time");
            script.committed(3);
        }
        assert!(script.now <= start + Duration::from_millis(1_500), "they have a second");
    }
    assert!(script.now >= start + Duration::from_millis(900));
    script.answer(goodbye, Answer::Done);
    assert!(script.member.is_over());
    assert_eq!(script.outcome(1), Some(Err(CommitError::Closed)));
}

/// A commit that is still out when the goodbye goes is answered by one who coordinates the group no more, or who has put the member out.
#[test]
fn a_goodbye_that_was_hung_up_on_is_said_again_if_there_is_anything_to_give_back() {
    for (code, again) in [(16, true), (15, true), (25, false)] {
        let (mut script, tenures) = Script::stable();
        script.commit(1, &tenures[0], 11);
        script.member.leave(script.now);
        script.look();
        script.wait(Duration::from_millis(1_500));
        assert!(script.is_open(goodbye) && script.is_open(commit));
        script.committed(code);
        assert!(!script.is_open(goodbye), "{code}: it was hung up on");
        assert_eq!(script.member.is_over(), !again, "{code}");
        if again {
            script.answer(find, Answer::Found);
            script.answer(goodbye, Answer::Done);
            assert!(script.member.is_over(), "{code}");
        }
    }
}

#[test]
fn a_goodbye_that_nobody_hears_ends_in_time() {
    let (mut script, tenures) = Script::stable();
    script.commit(1, &tenures[0], 11);
    script.member.leave(script.now);
    script.wait(Duration::from_secs(6));
    assert!(script.member.is_over());
    assert_eq!(script.outcome(1), Some(Err(CommitError::Closed)));
}
