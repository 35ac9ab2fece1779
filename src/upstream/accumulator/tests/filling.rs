//! What goes into a batch, what it may take of the memory, and what never leaves.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn another_compression_makes_another_batch() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::Leader);
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(b"v".as_slice()),
        headers: std::iter::empty(),
    };
    let kinds = [Compression::Lz4, Compression::Lz4, Compression::None, Compression::Lz4];
    for (id, compression) in (0..).zip(kinds) {
        let limits = Limits {
            batch_size: 1_000,
            ..LIMITS
        };
        let appended = queue.append(&fields, Instant::now(), &limits, compression, |_| true, Vec::new);
        appended.unwrap_or_else(|r| panic!("{r:?}")).waiters.push(id);
    }
    let mut sent = Vec::new();
    while let Next::First {
        ordinal,
        builder,
        compression,
        ..
    } = queue.next(None, &mut Vec::new())
    {
        sent.push((compression, builder.count()));
        queue.sealed(ordinal, builder.seal(&Producer::NONE, Compression::None).bytes);
        queue.answered(ordinal, Answer::Stored(0), &mut Vec::new());
    }
    assert_eq!(sent, [(Compression::Lz4, 2), (Compression::None, 1), (Compression::Lz4, 1)]);
}

#[test]
fn what_was_never_sent_expires_as_surely_not_stored() {
    let mut world = World::new();
    fill(&mut world, 3);
    world.wait(Duration::from_secs(11));
    world.collect();
    assert!(world.queue.is_empty());
    assert_eq!(world.verdicts[&2], Verdict::Expired { sent: false });
    world.check();
}

#[test]
fn a_record_that_gets_no_memory_leaves_no_trace() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(b"v".as_slice()),
        headers: std::iter::empty(),
    };
    let refused = queue
        .append(&fields, Instant::now(), &LIMITS, Compression::None, |_| false, Vec::new)
        .err();
    assert_eq!(refused, Some(Refusal::MemoryFull { needed: FIRST_CHARGE }));
    assert!(queue.is_empty());
}

/// Otherwise a connection is told again and again that there is room, and finds none.
#[test]
fn a_batch_grows_into_what_is_left_of_the_budget() {
    let budget = std::cell::Cell::new(FIRST_CHARGE + 700);
    let charge = |bytes: usize| {
        let left = budget.get().checked_sub(bytes);
        budget.set(left.unwrap_or(budget.get()));
        left.is_some()
    };
    let limits = Limits {
        batch_size: 64 * 1024,
        ..LIMITS
    };
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(&[0u8; 600][..]),
        headers: std::iter::empty(),
    };
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let mut append = || {
        let appended = queue.append(&fields, Instant::now(), &limits, Compression::None, charge, Vec::new);
        appended.map(|appended| appended.index).err()
    };
    assert_eq!(
        [append(), append(), append(), append()],
        [None; 4],
        "four records of some 600 bytes"
    );
    let Some(Refusal::MemoryFull { needed }) = append() else {
        panic!("there was memory for a fifth")
    };
    assert!(needed < 700, "what one record needs, not twice the batch: {needed}");
}

/// Of records without a value what waits for them is as large as they are.
#[test]
fn what_waits_for_the_records_of_a_batch_is_charged_with_it() {
    let charged = std::cell::Cell::new(0);
    let charge = |bytes: usize| {
        charged.set(charged.get() + bytes);
        true
    };
    let limits = Limits {
        batch_size: 256 * 1024,
        ..LIMITS
    };
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: None,
        headers: std::iter::empty(),
    };
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let (mut waiters, mut records) = (0, 0);
    for id in 0..10_000 {
        let appended = queue.append(&fields, Instant::now(), &limits, Compression::None, charge, Vec::new);
        let appended = appended.unwrap_or_else(|r| panic!("{r:?}"));
        // What comes with the last one is charged with the next.
        waiters = appended.waiters.held();
        records = appended.index as usize + 1;
        appended.waiters.push(id);
    }
    assert_eq!(records, 10_000, "waiters take nothing of a batch's size");
    // The least record has seven bytes.
    let held = records * 7 + waiters;
    assert!((held..3 * held).contains(&charged.get()), "{} charged for {held}", charged.get());
    let mut settled = Vec::new();
    queue.abandon(Verdict::Unknown, &mut settled);
    assert_eq!(settled.iter().map(|batch| batch.charged).sum::<usize>(), charged.get());
}
