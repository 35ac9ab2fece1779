//! Single schedules: what is sent again, and under which stamp.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn without_faults_all_is_stored_under_one_epoch() {
    let mut world = World::new();
    fill(&mut world, 40);
    world.finish();
    world.check();
    assert_eq!(world.broker.log.len(), 40);
    assert_eq!(world.broker.producers[&1].epoch, 0);
}

#[test]
fn a_batch_that_was_stored_before_the_connection_broke_is_acknowledged_once() {
    let mut world = World::new();
    fill(&mut world, 1);
    assert!(world.send());
    world.serve(Fault::None);
    world.break_off();
    world.finish();
    world.check();
    assert_eq!(world.broker.log, [0]);
    assert_eq!(world.verdicts[&0], Verdict::Stored(0));
}

#[test]
fn a_refused_batch_alone_leaves_no_gap() {
    let mut world = World::new();
    fill(&mut world, 1);
    assert!(world.send());
    world.serve(Fault::Refused);
    world.read();
    world.collect();
    fill(&mut world, 1);
    world.finish();
    world.check();
    assert_eq!(world.broker.producers[&1].epoch, 0);
    assert_eq!(world.broker.log, [1]);
}

#[test]
fn those_behind_a_refused_batch_are_stored_in_order_under_a_new_epoch() {
    let mut world = World::new();
    fill(&mut world, 12);
    // The first is stored, so that the broker knows the producer and sees the gap.
    assert!(world.send());
    assert!(!world.send(), "a second batch must not leave before the id is known to the broker");
    world.serve(Fault::None);
    world.read();
    for _ in 0..3 {
        assert!(world.send());
    }
    world.serve(Fault::Refused);
    world.serve(Fault::None);
    world.serve(Fault::None);
    (0..3).for_each(|_| world.read());
    world.collect();
    let refused: Vec<u32> = world
        .verdicts
        .iter()
        .filter(|(_, v)| matches!(v, Verdict::Refused(_)))
        .map(|(id, _)| *id)
        .collect();
    assert!(!refused.is_empty());
    world.finish();
    world.check();
    assert_eq!(world.broker.log.len(), 12 - refused.len());
    assert_eq!(world.broker.producers[&1].epoch, 1);
}

/// The schedule that forbids stamping anew what is in doubt: a stopped broker still holds both requests of the old connection.
/// The first expires, the second is answered 45 on a new connection, and then the old ones are served after all.
#[test]
fn a_batch_in_doubt_behind_a_gap_is_unknown_and_never_doubled() {
    let mut world = World::new();
    fill(&mut world, 1);
    assert!(world.send());
    world.serve(Fault::None);
    world.read();
    world.append();
    assert!(world.send());
    world.wait(Duration::from_secs(5));
    world.append();
    assert!(world.send());
    world.break_off();
    world.wait(Duration::from_secs(6));
    world.collect();
    assert_eq!(world.verdicts[&1], Verdict::Expired { sent: true });
    assert!(world.send());
    world.serve(Fault::None);
    world.read();
    for late in std::mem::take(&mut world.late) {
        world.broker.append(late.stamp, &late.ids);
    }
    world.append();
    world.finish();
    world.check();
    assert_eq!(world.verdicts[&2], Verdict::Unknown);
    assert_eq!(world.broker.log, [0, 1, 2, 3]);
}

/// The span counts settled batches too: here B is settled and A is not, so the broker must still remember A when it has taken three more.
#[test]
fn the_oldest_unsettled_batch_is_never_more_than_five_behind() {
    let mut world = World::new();
    let send_one = |world: &mut World| {
        world.append();
        world.send()
    };
    assert!(send_one(&mut world));
    world.serve(Fault::None);
    world.read();
    assert!(send_one(&mut world) && send_one(&mut world), "A and B");
    world.serve(Fault::TimedOut);
    world.serve(Fault::None);
    world.read();
    world.read();
    assert!(world.send(), "A again");
    let sent = (0..6).filter(|_| send_one(&mut world)).count();
    assert_eq!(sent, 3, "A, B and three more are five");
    (0..4).for_each(|_| world.serve(Fault::None));
    world.break_off();
    world.finish();
    world.check();
    assert!(
        world.verdicts.values().all(|v| matches!(v, Verdict::Stored(_))),
        "{:?}",
        world.verdicts
    );
}

#[test]
fn a_retry_waits_until_nothing_is_outstanding() {
    let mut world = World::new();
    world.append();
    world.send();
    world.serve(Fault::None);
    world.read();
    for _ in 0..3 {
        world.append();
        assert!(world.send());
    }
    world.serve(Fault::NotLeader);
    world.read();
    world.append();
    assert!(!world.send(), "two attempts have no answer yet");
    assert!(!world.queue.is_ready());
    world.break_off();
    let ordinals: Vec<u64> = (0..3)
        .map(|_| {
            assert!(world.send());
            world.wire.back().unwrap().ordinal
        })
        .collect();
    assert_eq!(ordinals, [1, 2, 3], "in their order, before anything new");
    world.finish();
    world.check();
}

#[test]
fn sequences_and_epochs_run_out_without_harm() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    queue.next_sequence = i32::MAX;
    queue.proven = true;
    queue.identity = Some(Identity {
        producer_id: 7,
        epoch: i16::MAX,
    });
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(&[0u8; 60][..]),
        headers: std::iter::empty(),
    };
    let mut stamps = Vec::new();
    for _ in 0..2 {
        queue
            .append(&fields, Instant::now(), &LIMITS, Compression::None, |_| true, Vec::new)
            .unwrap_or_else(|r| panic!("{r:?}"));
        let Next::First {
            ordinal,
            producer,
            builder,
            ..
        } = queue.next(None, &mut Vec::new())
        else {
            panic!("nothing to send")
        };
        queue.sealed(ordinal, builder.seal(&producer, Compression::None).bytes);
        stamps.push((ordinal, producer.base_sequence));
    }
    assert_eq!(stamps.iter().map(|s| s.1).collect::<Vec<_>>(), [i32::MAX, 0]);
    // The first is dropped for good and the second stands behind the gap: there is no further epoch, so another id is asked for.
    queue.answered(stamps[0].0, Answer::Refused(ErrorCode::from(10)), &mut Vec::new());
    queue.answered(stamps[1].0, Answer::OutOfOrder, &mut Vec::new());
    assert!(matches!(
        queue.next(Some(Identity { producer_id: 7, epoch: 0 }), &mut Vec::new()),
        Next::Identity { dead: Some(7) }
    ));
    let Next::Again { bytes, .. } = queue.next(Some(Identity { producer_id: 8, epoch: 0 }), &mut Vec::new()) else {
        panic!("nothing to send")
    };
    assert_eq!(
        stamp_in(&bytes),
        Producer {
            producer_id: 8,
            producer_epoch: 0,
            base_sequence: 0
        }
    );
}

/// A leader appends, is demoted while it waits for its replicas, and answers 6. Its heir has the batch and refuses it at the next attempt
/// (a right was taken away): it is stored, so it may not be told refused, and its sequence may not be used again.
#[test]
fn a_leader_that_was_demoted_may_have_appended() {
    let mut world = World::new();
    world.append();
    world.send();
    world.serve(Fault::Demoted);
    world.read();
    world.send();
    world.serve(Fault::Refused);
    world.read();
    world.collect();
    assert_eq!(world.verdicts[&0], Verdict::Unknown);
    world.append();
    world.finish();
    world.check();
    assert_eq!(world.broker.log, [0, 1]);
}

#[test]
fn what_a_demoted_leader_may_have_appended_does_not_expire_as_never_sent() {
    let mut world = World::new();
    world.append();
    world.send();
    world.serve(Fault::Demoted);
    world.read();
    world.wait(LIMITS.delivery_timeout);
    world.collect();
    assert_eq!(world.verdicts[&0], Verdict::Expired { sent: true });
    world.finish();
    world.check();
}
