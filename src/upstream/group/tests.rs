//! The strategy and the embedded bytes, over generated groups.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription},
    protocol::Decodable,
};
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::{
    Commit, CommitError, Committer,
    assign::{Candidate, assign},
    embedded::{self, Assignment},
    event::{Tenure, TopicPartition},
    task::Command,
};

fn topic(number: usize) -> Arc<str> {
    Arc::from(format!("topic-{number}"))
}

/// Members with any subscriptions, and claims of any kind: to what is not there, of others, of any generation.
fn groups() -> impl Strategy<Value = (Vec<Candidate>, BTreeMap<Arc<str>, i32>)> {
    let one = (
        prop::collection::btree_set(0usize..4, 0..4),
        prop::collection::vec((0usize..5, -1i32..9), 0..12),
        -1i32..4,
    );
    let counts = prop::collection::btree_map((0usize..4).prop_map(topic), 0i32..9, 0..4);
    (prop::collection::vec(one, 1..7), counts).prop_map(|(members, counts)| {
        let candidates = members.into_iter().enumerate().map(|(at, (topics, owned, generation))| Candidate {
            member: format!("m{at}"),
            topics: topics.into_iter().map(topic).collect(),
            owned: owned
                .into_iter()
                .map(|(t, partition)| TopicPartition {
                    topic: topic(t),
                    partition,
                })
                .collect(),
            generation,
        });
        (candidates.collect(), counts)
    })
}

/// Rounds of the protocol: everybody gives up what it was not given again, until nothing changes any more.
fn rounds(candidates: &mut [Candidate], counts: &BTreeMap<Arc<str>, i32>) -> Vec<BTreeSet<TopicPartition>> {
    for round in 10..16 {
        let given = assign(candidates, counts);
        let settled = candidates
            .iter()
            .zip(&given)
            .all(|(candidate, given)| candidate.owned.iter().cloned().collect::<BTreeSet<_>>() == *given);
        if settled {
            return given;
        }
        for (candidate, given) in candidates.iter_mut().zip(given) {
            candidate.owned = given.into_iter().collect();
            candidate.generation = round;
        }
    }
    panic!("six rounds are not enough: {candidates:?}")
}

fn wants(candidates: &[Candidate], topic: &str) -> usize {
    candidates.iter().filter(|c| c.topics.contains(topic)).count()
}

proptest! {
    #[test]
    fn a_partition_goes_to_one_who_wants_it_and_never_while_another_says_it_has_it((candidates, counts) in groups()) {
        let given = assign(&candidates, &counts);
        prop_assert_eq!(given.len(), candidates.len());
        let mut taken = BTreeSet::new();
        for (at, one) in given.iter().enumerate().flat_map(|(at, given)| given.iter().map(move |one| (at, one))) {
            prop_assert!(taken.insert(one), "{:?} is given twice", one);
            prop_assert!(candidates[at].topics.contains(&one.topic));
            prop_assert!((0..counts[&one.topic]).contains(&one.partition));
            // Others who claim it do so of an older generation than the one who keeps it.
            let others = candidates.iter().enumerate().filter(|(other, c)| *other != at && c.owned.contains(one));
            for (_, other) in others {
                prop_assert!(candidates[at].owned.contains(one) && candidates[at].generation > other.generation);
            }
        }
    }

    #[test]
    fn in_the_end_everything_is_shared_out_evenly_and_stays((mut candidates, counts) in groups()) {
        let given = rounds(&mut candidates, &counts);
        for (name, count) in &counts {
            let shared: usize = given.iter().flatten().filter(|one| one.topic == *name).count();
            let wanted = wants(&candidates, name) > 0;
            prop_assert_eq!(shared, if wanted { usize::try_from(*count).unwrap() } else { 0 });
        }
        // Nobody has two more than another who could take one of them.
        for (at, one) in given.iter().enumerate().flat_map(|(at, given)| given.iter().map(move |one| (at, one))) {
            for (other, candidate) in candidates.iter().enumerate() {
                if candidate.topics.contains(&one.topic) {
                    prop_assert!(given[at].len() <= given[other].len() + 1, "{given:?}");
                }
            }
        }
    }

    #[test]
    fn one_who_comes_moves_no_more_than_its_share(members in 1usize..6, partitions in 1i32..40) {
        let counts = BTreeMap::from([(topic(0), partitions)]);
        let fresh = |at: usize| Candidate {
            member: format!("m{at}"),
            topics: BTreeSet::from([topic(0)]),
            owned: Vec::new(),
            generation: -1,
        };
        let mut candidates: Vec<_> = (0..members).map(fresh).collect();
        let before = rounds(&mut candidates, &counts);
        candidates.push(fresh(members));
        let after = rounds(&mut candidates, &counts);
        let moved: usize = before.iter().zip(&after).map(|(before, after)| before.difference(after).count()).sum();
        prop_assert_eq!(moved, after[members].len(), "only what the new one gets has moved");
        let share = usize::try_from(partitions).unwrap() / (members + 1);
        prop_assert!((share..=share + 1).contains(&after[members].len()));
        // And back: what it had goes to the others, the rest stays.
        candidates.pop();
        let again = rounds(&mut candidates, &counts);
        for (after, again) in after.iter().zip(&again) {
            prop_assert!(after.is_subset(again));
        }
    }

    #[test]
    fn subscriptions_are_kafkas_own_and_come_back((candidates, _) in groups(), user_data in prop::collection::vec(any::<u8>(), 0..20)) {
        let candidate = &candidates[0];
        let topics: Vec<_> = candidate.topics.iter().cloned().collect();
        let user_data = Bytes::from(user_data);
        let bytes = embedded::subscription(&topics, &user_data, &candidate.owned, candidate.generation);
        let theirs = ConsumerProtocolSubscription::decode(&mut bytes.slice(2..), i16::from_be_bytes([bytes[0], bytes[1]])).unwrap();
        prop_assert_eq!(theirs.topics.iter().map(|t| Arc::from(&**t)).collect::<Vec<Arc<str>>>(), topics);
        prop_assert_eq!(theirs.generation_id, candidate.generation);
        let (mut back, data) = embedded::read_subscription("m0", bytes).unwrap();
        let sorted = |owned: &[TopicPartition]| {
            let mut owned = owned.to_vec();
            owned.sort();
            owned
        };
        back.owned = sorted(&back.owned);
        let expected = Candidate { owned: sorted(&candidate.owned), ..candidate.clone() };
        prop_assert_eq!((back, data), (expected, user_data));
    }

    #[test]
    fn assignments_are_kafkas_own_and_come_back((candidates, counts) in groups()) {
        let partitions = assign(&candidates, &counts).swap_remove(0);
        let members = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 64])];
        let assignment = Assignment { partitions, size: 5, members, partial: true, fingerprint: embedded::fingerprint(&counts) };
        let bytes = embedded::assignment(&assignment);
        let theirs = ConsumerProtocolAssignment::decode(&mut bytes.slice(2..), i16::from_be_bytes([bytes[0], bytes[1]])).unwrap();
        let named: usize = theirs.assigned_partitions.iter().map(|t| t.partitions.len()).sum();
        prop_assert_eq!(named, assignment.partitions.len());
        prop_assert_eq!(embedded::read_assignment(bytes), Some(assignment));
    }

    /// Another member may write anything.
    #[test]
    fn no_bytes_are_beyond_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..60), version in 0u8..4) {
        let _ = embedded::read_subscription("m", Bytes::from(bytes.clone()));
        let _ = embedded::read_assignment(Bytes::from(bytes.clone()));
        bytes.splice(0..0, [0, version]);
        let _ = embedded::read_subscription("m", Bytes::from(bytes.clone()));
        let _ = embedded::read_assignment(Bytes::from(bytes));
    }

    #[test]
    fn a_cut_or_damaged_subscription_is_never_more_than_it_says((candidates, _) in groups(), cut in 0usize..200, flip in 0usize..200) {
        let topics: Vec<_> = candidates[0].topics.iter().cloned().collect();
        let bytes = embedded::subscription(&topics, &Bytes::new(), &candidates[0].owned, 1);
        let cut = cut % bytes.len();
        prop_assert_eq!(embedded::read_subscription("m", bytes.slice(..cut)), None);
        let mut damaged = bytes.to_vec();
        let at = flip % damaged.len();
        damaged[at] ^= 0xff;
        let _ = embedded::read_subscription("m", Bytes::from(damaged));
    }
}

#[test]
fn counts_that_promise_more_than_there_is_are_refused() {
    for count in [i32::MAX, 1_000_000, 100_001] {
        let mut bytes = BytesMut::new();
        bytes.put_i16(1);
        bytes.put_i32(count);
        bytes.put_bytes(0, 100_000);
        assert_eq!(embedded::read_subscription("m", bytes.clone().freeze()), None, "{count}");
        assert_eq!(embedded::read_assignment(bytes.freeze()), None, "{count}");
    }
}

#[test]
fn what_two_claim_of_one_generation_goes_to_nobody_until_they_have_given_it_up() {
    let one = TopicPartition {
        topic: topic(0),
        partition: 0,
    };
    let claims = |member: &str, generation| Candidate {
        member: member.to_owned(),
        topics: BTreeSet::from([topic(0)]),
        owned: vec![one.clone()],
        generation,
    };
    let counts = BTreeMap::from([(topic(0), 1)]);
    let given = assign(&[claims("a", 3), claims("b", 3)], &counts);
    assert!(given.iter().all(BTreeSet::is_empty), "{given:?}");
    let given = assign(&[claims("a", 3), claims("b", 4)], &counts);
    assert_eq!(given, [BTreeSet::new(), BTreeSet::from([one])], "who got it last keeps it");
}

/// Nobody has looked at what stands for their outcome by then, as the runtime may not have at a task that was spawned before the goodbye.
#[tokio::test]
async fn commits_that_are_begun_stand_before_the_goodbye_that_comes_next() {
    let (commands, mut calls) = mpsc::channel(1);
    let committer = Committer(commands.clone());
    let of = TopicPartition {
        topic: topic(0),
        partition: 0,
    };
    let commit = |offset| Commit {
        tenure: Tenure {
            of: of.clone(),
            number: 1,
            cuts: 0,
        },
        offset,
        metadata: String::new(),
    };
    let first = committer.begin_to_commit(vec![commit(1)]);
    // There is no room for this one, which stands in line.
    let second = committer.begin_to_commit(vec![commit(2)]);
    let (reply, _gone) = oneshot::channel();
    let goodbye = tokio::spawn(async move { commands.send(Command::Leave(reply)).await.is_ok() });
    let second = tokio::spawn(second);
    for offset in [1, 2] {
        let Some(Command::Commit(one)) = calls.recv().await else {
            panic!("the goodbye came first")
        };
        let [(commit, reply)] = <[_; 1]>::try_from(one).unwrap();
        assert_eq!(commit.offset, offset);
        reply.send(Ok(())).unwrap();
    }
    assert!(matches!(calls.recv().await, Some(Command::Leave(_))));
    assert!(goodbye.await.unwrap());
    assert_eq!((first.await, second.await.unwrap()), (vec![Ok(())], vec![Ok(())]));
    drop((committer, calls));
    let (commands, calls) = mpsc::channel(1);
    drop(calls);
    let over = Committer(commands).begin_to_commit(vec![commit(3)]);
    assert_eq!(over.await, [Err(CommitError::Closed)], "the membership is over");
}
