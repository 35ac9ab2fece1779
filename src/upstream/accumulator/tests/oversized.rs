//! Batches that the broker finds too large, or finds a record in that it does not take.

use super::*;

/// Serves what is in flight until nothing is left; a batch that holds `oversized` is refused for that.
fn serve_all_but(world: &mut World, oversized: u32, fault: Fault) {
    for _ in 0..200 {
        world.send();
        let holds = world
            .wire
            .iter()
            .find(|a| a.answer.is_none())
            .is_some_and(|a| a.ids.contains(&oversized));
        world.serve(if holds { fault } else { Fault::None });
        world.read();
        world.collect();
    }
}

#[test]
fn only_the_record_that_is_too_large_or_unfit_is_refused() {
    for (oversized, (fault, code)) in (0..20).flat_map(|id| [(id, (Fault::TooLarge, 10)), (id, (Fault::Unfit, 32))]) {
        let mut world = World::of_large_batches();
        fill(&mut world, 20);
        serve_all_but(&mut world, oversized, fault);
        world.finish();
        world.check();
        let others: Vec<u32> = (0..20).filter(|id| *id != oversized).collect();
        assert_eq!(world.broker.log, others);
        assert_eq!(world.verdicts[&oversized], Verdict::Refused(ErrorCode::from(code)));
        assert!(world.queue.take_tally().split >= 1);
    }
}

/// The parts take the sequences of the whole, so those behind it need no new epoch.
#[test]
fn a_split_without_a_refusal_keeps_epoch_and_sequences() {
    let mut world = World::of_large_batches();
    fill(&mut world, 40);
    assert!(world.send());
    world.serve(Fault::None);
    world.read();
    (0..3).for_each(|_| assert!(world.send()));
    world.serve(Fault::TooLarge);
    world.serve(Fault::None);
    world.serve(Fault::None);
    (0..3).for_each(|_| world.read());
    world.finish();
    world.check();
    assert_eq!(world.broker.log.len(), 40);
    assert_eq!(world.broker.producers[&1].epoch, 0);
    assert_eq!(world.queue.take_tally(), Tally { restamped: 0, split: 1 });
}

#[test]
fn batches_are_made_smaller_after_one_was_too_large() {
    let limits = Limits {
        batch_size: 256 * 1024,
        ..LIMITS
    };
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let value = [0u8; 1_000];
    let fill = |queue: &mut PartitionQueue<Vec<u32>>| {
        let fields = RecordFields {
            timestamp: 0,
            key: None,
            value: Some(&value[..]),
            headers: std::iter::empty(),
        };
        let full = |queue: &mut PartitionQueue<Vec<u32>>| {
            let appended = queue.append(&fields, Instant::now(), &limits, Compression::None, |_| true, Vec::new);
            let appended = appended.unwrap_or_else(|r| panic!("{r:?}"));
            appended.waiters.push(0);
            appended.filled
        };
        (0..).position(|_| full(queue)).expect("a batch fills up")
    };
    let before = fill(&mut queue);
    let identity = Identity { producer_id: 1, epoch: 0 };
    let Next::First {
        ordinal,
        builder,
        producer,
        ..
    } = queue.next(Some(identity), &mut Vec::new())
    else {
        panic!("nothing to send")
    };
    queue.sealed(ordinal, builder.seal(&producer, Compression::None).bytes);
    queue.answered(ordinal, Answer::TooLarge(ErrorCode::from(10)), &mut Vec::new());
    assert!(matches!(queue.next(Some(identity), &mut Vec::new()), Next::First { .. }));
    fill(&mut queue);
    let after = fill(&mut queue);
    assert!(
        (before * 4 / 10..before * 6 / 10).contains(&after),
        "{before} before, {after} after"
    );
}
