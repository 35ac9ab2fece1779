//! What a generation brings and takes, and when the next one is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::script::{HEARTBEAT, REBALANCE, Script, beat, find, gives, join, joined, lost, part, refusal, sync};
use crate::upstream::group::{
    embedded::Assignment,
    event::CommitError,
    membership::Event,
    requests::{Answer, Joined, Request, Topics},
};

#[test]
fn a_generation_is_told_before_what_it_brings_and_offsets_come_with_it() {
    let mut script = Script::new();
    script.answer(find, Answer::Found);
    let named = Answer::NamedBy { member: "m".to_owned() };
    script.answer(join, named);
    let request = script.answer(join, joined(7));
    let asked_as = Request::Join {
        member: "m".to_owned(),
        topics: vec![std::sync::Arc::from("t")],
        owned: Vec::new(),
        generation: -1,
    };
    assert_eq!(request, asked_as, "KIP-394: again, with the id that the coordinator gave");
    script.answer(sync, gives(&[3]));
    script.fetched(&[3]);
    let events = script.events();
    let [
        Event::Generation {
            number: 7,
            size: 2,
            members,
        },
        Event::Assigned(assigned),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(members, &[Bytes::from_static(b"me"), Bytes::from_static(b"you")]);
    assert_eq!(assigned[0].committed.as_ref().unwrap().metadata, "of 3");
}

#[test]
fn only_what_moves_is_revoked_and_the_next_generation_waits_for_the_answer_and_its_commits() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.join(2, &[0]);
    let events = script.events();
    let [Event::Generation { .. }, Event::Revoked { partitions, number }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(partitions, &[part(1)]);
    // Both may still be committed.
    script.commit(1, &tenures[0], 20);
    script.commit(2, &tenures[1], 20);
    script.member.released(*number, script.now);
    script.look();
    assert!(!script.is_open(join), "a commit of what was given up is still on its way");
    script.commit(3, &tenures[1], 21);
    assert_eq!(script.outcome(3), Some(Err(CommitError::NotOwned)), "it was given up");
    script.committed(0);
    script.committed(0);
    assert_eq!((script.outcome(1), script.outcome(2)), (Some(Ok(())), Some(Ok(()))));
    let request = script.answer(join, joined(3));
    assert!(matches!(request, Request::Join { owned, generation: 2, .. } if owned == [part(0)]));
}

#[test]
fn who_does_not_give_up_in_time_loses_it_and_the_group_goes_on() {
    let (mut script, tenures) = Script::stable();
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    script.join(2, &[0]);
    assert_eq!(script.events().len(), 2);
    let end = script.now + REBALANCE;
    let mut events = Vec::new();
    while !script.is_open(join) {
        assert!(script.now < end, "it waits for ever");
        script.wait(Duration::from_secs(1));
        if script.is_open(beat) {
            script.answer(beat, Answer::Done);
        }
        events.extend(script.events());
    }
    assert_eq!(lost(&events), BTreeSet::from([1]));
    script.commit(1, &tenures[1], 20);
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
}

#[test]
fn no_generation_is_asked_for_before_the_last_was_heard_of() {
    let mut script = Script::new();
    script.join(1, &[0]);
    script.fetched(&[0]);
    script.wait(HEARTBEAT);
    script.answer(beat, refusal(27));
    assert!(!script.is_open(join), "its user is behind");
    assert_eq!(script.events().len(), 2);
    assert!(script.is_open(join));
}

#[test]
fn the_one_that_leads_asks_for_another_generation_when_a_topic_grows() {
    let mut script = Script::new();
    script.answer(find, Answer::Found);
    let leads = Answer::Joined(Joined {
        generation: 1,
        member: "m".to_owned(),
        leads: true,
        members: vec![(
            crate::upstream::group::assign::Candidate {
                member: "m".to_owned(),
                topics: BTreeSet::from([Arc::from("t")]),
                owned: Vec::new(),
                generation: -1,
            },
            Bytes::from_static(b"me"),
        )],
        ..Joined::default()
    });
    script.answer(join, leads);
    let known = |count| Topics::from([(Arc::from("t"), ([9; 16], count))]);
    script.answer(|r| matches!(r, Request::Count { .. }), Answer::Counted(known(2)));
    let Some((_, Request::Sync { assignments, .. })) = script.open.first().cloned() else {
        panic!("{:?}", script.open)
    };
    assert_eq!(assignments[0].1.partitions, BTreeSet::from([part(0), part(1)]));
    assert_eq!(assignments[0].1.members, [Bytes::from_static(b"me")]);
    script.answer(sync, Answer::Synced(assignments[0].1.clone()));
    script.fetched(&[0, 1]);
    script.events();
    script.member.topics(known(2), script.now);
    script.look();
    assert!(!script.is_open(join), "nothing has changed");
    script.member.topics(known(3), script.now);
    script.look();
    assert!(script.is_open(join));
}

#[test]
fn a_topic_that_is_made_anew_is_lost_and_shared_out_again() {
    let (mut script, tenures) = Script::stable();
    let known = |id| Topics::from([(Arc::from("t"), ([id; 16], 2))]);
    script.member.topics(known(1), script.now);
    script.commit(1, &tenures[0], 500);
    script.member.topics(known(2), script.now);
    script.look();
    let events = script.events();
    assert_eq!(lost(&events), BTreeSet::from([0, 1]));
    assert!(matches!(&events[..], [Event::Lost { membership: false, .. }]));
    assert_eq!(script.outcome(1), Some(Err(CommitError::NotOwned)));
    let request = script.answer(join, joined(2));
    assert!(matches!(request, Request::Join { owned, .. } if owned.is_empty()));
}

/// The former self of a static member was to give something up and died over it; what it had is its own again, the rest nobody's.
#[test]
fn a_static_member_that_returns_to_a_generation_that_is_not_whole_asks_for_the_next() {
    for partial in [false, true] {
        let mut script = Script::begin(true);
        script.answer(find, Answer::Found);
        script.answer(join, joined(4));
        let given = Assignment {
            partitions: BTreeSet::from([part(0)]),
            partial,
            ..Assignment::default()
        };
        script.answer(sync, Answer::Synced(given.clone()));
        script.fetched(&[0]);
        script.events();
        assert_eq!(script.is_open(join), partial);
        if partial {
            script.answer(join, joined(5));
            script.answer(sync, Answer::Synced(given));
            script.events();
            assert!(
                !script.is_open(join),
                "once: now it is one of those who know what they have to give up"
            );
        }
    }
}
