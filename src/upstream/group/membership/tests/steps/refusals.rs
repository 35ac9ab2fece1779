//! Each of the coordinator's refusals by its class.

use std::collections::BTreeSet;
use std::time::Duration;

use super::script::{HEARTBEAT, Script, beat, commit, find, gives, join, joined, lost, refusal, sync};
use crate::upstream::group::{
    event::CommitError,
    membership::{Event, Phase},
    requests::{Answer, Request},
};

#[test]
fn unknown_member_and_illegal_generation_lose_all_and_join_again() {
    for (code, member) in [(25, ""), (22, "m")] {
        let (mut script, _) = Script::stable();
        script.wait(HEARTBEAT);
        script.answer(beat, refusal(code));
        assert_eq!(lost(&script.events()), BTreeSet::from([0, 1]), "{code}");
        script.wait(Duration::from_millis(200));
        script.answer(find, Answer::Found);
        let request = script.answer(join, joined(5));
        let asked_as = Request::Join {
            member: member.to_owned(),
            topics: vec![std::sync::Arc::from("t")],
            owned: Vec::new(),
            generation: -2,
        };
        assert_eq!(
            request, asked_as,
            "{code}: it says something else than before, so that no commit from before counts"
        );
        script.answer(sync, gives(&[0]));
        let again = script.fetched(&[0]);
        script.commit(1, &again[0], 30);
        assert_eq!(script.committed(0), [(0, 30)]);
    }
}

#[test]
fn fenced_is_the_end() {
    type Ask = fn(&Request) -> bool;
    let whiches: [Ask; 2] = [beat, commit];
    for which in whiches {
        let (mut script, tenures) = Script::stable();
        script.commit(1, &tenures[0], 11);
        script.wait(HEARTBEAT);
        if which(&script.open[0].1) {
            script.committed(82);
        } else {
            script.answer(which, refusal(82));
        }
        let events = script.events();
        assert_eq!(lost(&events), BTreeSet::from([0, 1]));
        assert_eq!(events.last(), Some(&Event::Fenced));
        assert!(script.member.is_over());
        assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
        assert_eq!(script.member.deadline(), None);
    }
}

#[test]
fn the_coordinator_moves_and_nothing_is_lost() {
    for code in [15, 16] {
        let (mut script, tenures) = Script::stable();
        script.commit(1, &tenures[0], 11);
        script.wait(HEARTBEAT);
        script.answer(beat, refusal(code));
        assert_eq!(script.hang_ups, 1, "{code}");
        script.wait(Duration::from_millis(200));
        script.answer(find, Answer::Found);
        // The same generation goes on; what had no answer goes again.
        assert_eq!(script.member.phase, Phase::Stable, "{code}");
        assert_eq!(script.committed(0), [(0, 11)]);
        assert_eq!(script.outcome(1), Some(Ok(())));
        assert!(script.events().is_empty());
    }
}

#[test]
fn each_refusal_that_passes_is_asked_again_after_a_pause() {
    type Ask = fn(&Request) -> bool;
    let cases: [(Ask, i16); 5] = [(find, 15), (find, 14), (join, 14), (join, 27), (sync, -1)];
    for (which, code) in cases {
        let mut script = Script::new();
        if !script.is_open(which) {
            script.answer(find, Answer::Found);
        }
        if !script.is_open(which) {
            script.answer(join, joined(1));
        }
        script.answer(which, refusal(code));
        assert!(!script.is_open(which), "{code}: at once");
        script.wait(Duration::from_secs(1));
        assert!(script.open.len() == 1, "{code}: {:?}", script.open);
        assert!(script.events().is_empty(), "{code}: nobody needs to know");
    }
}

#[test]
fn what_only_an_operator_can_cure_is_told_once_and_tried_slowly() {
    for code in [23, 24, 26, 30, 81] {
        let mut script = Script::new();
        script.answer(find, Answer::Found);
        script.answer(join, refusal(code));
        let events = script.events();
        assert!(
            matches!(&events[..], [Event::Refused { error, .. }] if error.code() == code),
            "{events:?}"
        );
        script.wait(Duration::from_secs(5));
        assert!(script.open.is_empty(), "{code}: too soon");
        script.wait(Duration::from_secs(6));
        script.answer(join, refusal(code));
        assert!(script.events().is_empty(), "{code}: told twice");
        script.wait(Duration::from_secs(11));
        script.join(1, &[0]);
        script.fetched(&[0]);
        assert_eq!(script.events().len(), 2, "{code}: cured");
    }
}

#[test]
fn answers_to_what_was_given_up_are_not_listened_to() {
    let (mut script, _) = Script::stable();
    script.wait(HEARTBEAT);
    let (stale, _) = script.open[0].clone();
    script.answer(beat, refusal(16));
    let other = "m".to_owned();
    script.member.answer(stale, Answer::NamedBy { member: other }, script.now);
    script.member.answer(9_999, joined(77), script.now);
    assert_eq!(script.member.generation, 1);
    assert_eq!(script.member.phase, Phase::Finding);
}
