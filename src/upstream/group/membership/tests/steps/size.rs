//! How large a group is that Kafka keeps in one message.

use std::sync::Arc;

use bytes::Bytes;

use super::script::{Script, find, join};
use crate::upstream::group::{
    embedded::{self, Assignment},
    requests::{Answer, Joined, Request, Topics},
};

/// Kafka keeps a group, with what its members subscribe to and what each is assigned, in one message: 1,048,588 bytes unless its operator
/// changed that (`max.message.bytes` of `__consumer_offsets`).
#[test]
fn the_group_of_instances_fits_one_message_of_kafka_up_to_what_the_docs_say() {
    const USUAL_MESSAGE: usize = 1_048_588;
    /// Beside what is ours: a member id of 53 bytes, client id, host, protocol and the lengths of all.
    const OF_THE_BROKER: usize = 200;
    // Sixteen partitions for each of the two topics are the default; with 512 in all each member has some, so it is told of all.
    for (size, partitions) in [(1_200, 16), (200, 256)] {
        let names: [Arc<str>; 2] = [Arc::from("mqtt-sessions"), Arc::from("mqtt-retained")];
        let topics: Topics = names.iter().map(|name| (Arc::clone(name), ([1; 16], partitions))).collect();
        let mut owned = vec![Vec::new(); size];
        let mut bytes = 0;
        // In the first generation each gets its part, in the second each says that it has it: as long as a group lives.
        for _ in 0..2 {
            let subscriptions: Vec<_> = (0..size)
                .map(|at| embedded::subscription(&names, &Bytes::copy_from_slice(&(at as u128).to_be_bytes()), &owned[at], 1))
                .collect();
            let assignments = shares_out(&subscriptions, &topics);
            assert_eq!(assignments.len(), size);
            owned = assignments.iter().map(|a| a.partitions.iter().cloned().collect()).collect();
            for assignment in &assignments {
                assert_eq!(assignment.size as usize, size);
                let told = if assignment.partitions.is_empty() { 0 } else { size };
                assert_eq!(assignment.members.len(), told, "who looks after a partition knows all others");
            }
            let ours = assignments.iter().map(|one| embedded::assignment(one).len()).sum::<usize>();
            bytes = ours + subscriptions.iter().map(Bytes::len).sum::<usize>() + size * OF_THE_BROKER;
        }
        assert!(bytes < USUAL_MESSAGE, "{size} instances, {partitions} partitions: {bytes} bytes");
    }
}

/// What one that leads gives to members who say this.
fn shares_out(subscriptions: &[Bytes], topics: &Topics) -> Vec<Assignment> {
    let mut script = Script::new();
    script.answer(find, Answer::Found);
    let member = |(at, bytes): (usize, &Bytes)| embedded::read_subscription(&format!("m{at}"), bytes.clone()).unwrap();
    let leads = Answer::Joined(Joined {
        generation: 1,
        member: "m0".to_owned(),
        leads: true,
        members: subscriptions.iter().enumerate().map(member).collect(),
        ..Joined::default()
    });
    script.answer(join, leads);
    script.answer(|r| matches!(r, Request::Count { .. }), Answer::Counted(topics.clone()));
    let Some((_, Request::Sync { assignments, .. })) = script.open.pop() else {
        panic!("{:?}", script.open)
    };
    assignments.into_iter().map(|(_, assignment)| assignment).collect()
}
