//! Two custodians at one log whose publishers are late and repeat themselves, until nothing is owed any more: then compaction may come.

mod world;

use std::collections::BTreeSet;

use super::*;
use world::*;

#[derive(Clone, Debug)]
enum Act {
    /// What is retained, and how long its record takes.
    Retain(u8, i32, u32),
    /// A message that was published before is retained once more, by who is not told of the first time.
    Repeat(prop::sample::Index, u32),
    /// A custodian reads, looks, and what it writes takes so long.
    Look(usize, u32),
    Wait,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0..3u8, 0..2i32, 0..LATE).prop_map(|(kind, partition, late)| Act::Retain(kind, partition, late)),
        1 => (any::<prop::sample::Index>(), 0..=YOUTH).prop_map(|(which, late)| Act::Repeat(which, late)),
        3 => (0..2usize, 0..3u32).prop_map(|(which, late)| Act::Look(which, late)),
        3 => Just(Act::Wait),
    ];
    prop::collection::vec(act, 0..60)
}

/// The message that was retained last: each by its first record, as they came into the log; in one partition the highest.
fn last(first: &[Published]) -> Option<Of> {
    let newer = |before: &Published, next: &Published| before.of.0 != next.of.0 || before.of.1 < next.of.1;
    let mut last: Option<&Published> = None;
    for next in first {
        if last.is_none_or(|before| newer(before, next)) {
            last = Some(next);
        }
    }
    last.filter(|last| last.kind == 1).map(|last| last.of)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    /// In the end the last record of the key, which is what compaction leaves, is that of the message retained last, or a tombstone if that is gone.
    /// Who has read all says the same as who reads only what is left.
    #[test]
    fn what_compaction_leaves_is_what_was_retained_last(acts in acts()) {
        let mut world = World::new();
        // The records of what is retained, by when they come into the log.
        let mut first = Vec::new();
        for act in &acts {
            match *act {
                Act::Retain(kind, partition, late) => {
                    world.retain(kind, partition, late);
                    // They come before those that left later and come at the same time.
                    first.push((world.second + late.max(1), *world.published.last().unwrap()));
                }
                Act::Repeat(which, late) if !world.published.is_empty() => world.repeat(*which.get(&world.published), late),
                Act::Repeat(..) => {}
                Act::Look(which, late) => drop(world.look(which, late)),
                Act::Wait => world.wait(),
            }
        }
        world.settle();
        first.sort_by_key(|(due, _)| *due);
        let last = last(&first.into_iter().map(|(_, published)| published).collect::<Vec<_>>());
        for (store, _) in &world.custodians {
            prop_assert_eq!(world.in_force(store), last, "{:?}", world.log);
        }
        let left: Vec<Written> = world.log.last().into_iter().copied().collect();
        match left.first().map(|written| written.logged) {
            Some(Logged::Lasting(of)) => prop_assert_eq!(Some(of), last, "{:?}", world.log),
            None | Some(Logged::Tombstone(_)) => prop_assert_eq!(last, None, "{:?}", world.log),
            Some(_) => prop_assert!(false, "it would stay for ever: {:?}", world.log),
        }
        let mut fresh = Store::new(usize::MAX);
        read(&mut fresh, &mut 0, &left, (world.began, world.second));
        prop_assert_eq!(world.in_force(&fresh), last);
    }
}

fn logged(world: &World) -> Vec<Logged> {
    world.log.iter().map(|written| written.logged).collect()
}

#[test]
fn what_is_retained_while_a_tombstone_is_written_survives_it() {
    let mut world = World::new();
    world.retain(0, 0, 0);
    world.wait();
    assert_eq!(world.look(0, 0), 0, "an older one may still come");
    (0..=LATE).for_each(|_| world.wait());
    // The tombstone is on its way; a new message comes before it.
    assert_eq!(world.look(0, 2), 1);
    world.retain(1, 0, 1);
    world.settle();
    use Logged::{Cleared, Lasting, Tombstone};
    // Both look after the partition.
    let all = [
        Cleared((0, 0)),
        Lasting((0, 1)),
        Tombstone((0, 0)),
        Lasting((0, 1)),
        Lasting((0, 1)),
    ];
    assert_eq!(logged(&world), all);
    assert_eq!(world.in_force(&world.custodians[1].0), Some((0, 1)));
}

#[test]
fn what_is_written_once_more_takes_no_place_of_what_has_come_meanwhile() {
    let mut world = World::new();
    world.retain(1, 0, 2);
    world.retain(1, 0, 0);
    (0..2).for_each(|_| world.wait());
    // The second is in force, the first behind it. While it is written once more, one of another partition is retained.
    assert_eq!(world.look(0, 2), 1);
    world.retain(1, 1, 1);
    world.settle();
    assert_eq!(world.in_force(&world.custodians[1].0), Some((1, 0)));
    assert_eq!(logged(&world).last(), Some(&Logged::Lasting((1, 0))));
}

#[test]
fn what_was_cleared_is_not_retained_anew_when_its_client_repeats_it() {
    let mut world = World::new();
    world.retain(1, 0, 0);
    let repeated = world.published[0];
    world.retain(0, 0, 0);
    world.settle();
    assert_eq!(logged(&world).last(), Some(&Logged::Tombstone((0, 1))));
    world.repeat(repeated, 0);
    world.settle();
    assert_eq!(world.in_force(&world.client.0), None);
    assert_eq!(logged(&world).last(), Some(&Logged::Tombstone((0, 1))));
}

#[test]
fn what_its_owner_left_unretained_is_retained_when_it_is_repeated() {
    for (before, partition, waits) in [
        (None, 0, 0),
        (Some((1, 0)), 0, 0),
        (Some((1, 0)), 0, 20),
        (Some((1, 1)), 0, 0),
        (Some((0, 1)), 0, 20),
    ] {
        let mut world = World::new();
        if let Some((kind, partition)) = before {
            world.retain(kind, partition, 0);
            (0..2).for_each(|_| world.wait());
        }
        let left = world.publish(1, partition);
        (0..waits.min(LATE - 1)).for_each(|_| world.wait());
        world.repeat(left, 0);
        world.settle();
        assert_eq!(world.in_force(&world.client_now()), Some(left.of), "{before:?}, {waits} s later");
        // Not beside what was retained behind it, in whichever partition.
        let mut world = World::new();
        let left = world.publish(1, partition);
        world.retain(1, 1, 0);
        world.wait();
        world.repeat(left, 0);
        world.settle();
        assert_eq!(world.in_force(&world.client_now()), Some((1, 0)));
    }
}

#[test]
fn only_what_is_looked_after_is_looked_at_and_in_steps() {
    let mut store = Store::new(usize::MAX);
    for (at, topic) in TOPICS.into_iter().enumerate() {
        let mut record = incoming(topic, at as i64, mapped(0, at as i64), None);
        record.place.partition = at as i32 % 2;
        store.apply(record);
    }
    let mine = BTreeSet::from([1]);
    let look = Look {
        mine: &mine,
        now: Instant::now(),
        second: 2,
        delay: 1,
    };
    let (mut found, mut behind) = (Vec::new(), None);
    loop {
        let (duties, next) = store.duties(behind.as_deref(), 1, &look);
        found.extend(duties.into_iter().map(|duty| duty.topic));
        behind = next;
        if behind.is_none() {
            break;
        }
    }
    assert_eq!(found, ["a/b".into(), "b".into()]);
    let sooner = Look { second: 1, ..look };
    assert_eq!(store.duties(None, 9, &sooner).0, []);
}
