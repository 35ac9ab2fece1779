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

const LARGE: Limits = Limits {
    batch_size: 256 * 1024,
    ..LIMITS
};

/// Appends records of 1,000 bytes until a batch is closed; how many.
fn fill_one(queue: &mut PartitionQueue<Vec<u32>>, now: Instant) -> usize {
    let value = [0u8; 1_000];
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(&value[..]),
        headers: std::iter::empty(),
    };
    let mut filled = || {
        let appended = queue.append(&fields, now, &LARGE, Compression::None, |_| true, Vec::new);
        let appended = appended.unwrap_or_else(|r| panic!("{r:?}"));
        appended.waiters.push(0);
        appended.filled
    };
    (0..).position(|_| filled()).expect("a batch fills up")
}

/// Sends the next batch, which is answered.
fn answer_one(queue: &mut PartitionQueue<Vec<u32>>, answer: Answer) {
    let identity = Identity { producer_id: 1, epoch: 0 };
    let next = queue.next(Some(identity), &mut Vec::new());
    let Next::First {
        ordinal,
        builder,
        producer,
        ..
    } = next
    else {
        panic!("{next:?}")
    };
    queue.sealed(ordinal, builder.seal(&producer, Compression::None).bytes);
    queue.answered(ordinal, answer, &mut Vec::new());
}

#[test]
fn batches_are_made_smaller_for_some_minutes_after_one_was_too_large() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let begin = Instant::now();
    let before = fill_one(&mut queue, begin);
    answer_one(&mut queue, Answer::TooLarge(ErrorCode::from(10)));
    // Both halves; what is open was opened before the refusal.
    (0..2).for_each(|_| answer_one(&mut queue, Answer::Stored(0)));
    fill_one(&mut queue, begin);
    let minute = Duration::from_secs(60);
    for (minutes, part) in [(1, 4..6), (4, 4..6), (6, 9..12)] {
        let now = begin + LIMITS.delivery_timeout + minutes * minute;
        fill_one(&mut queue, now);
        let after = fill_one(&mut queue, now);
        let expected = before * part.start / 10..before * part.end / 10;
        assert!(expected.contains(&after), "{before} before, {after} after {minutes} minutes");
    }
}
