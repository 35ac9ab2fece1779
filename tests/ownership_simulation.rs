//! The ownership protocol over random schedules: the *real* code of `src/ownership` in two to four instances, clients that wander between
//! them, subscribe and unsubscribe, operators who end sessions, one log and one Kafka with its rules for idempotent producers; crashes, pauses, lost
//! and late requests, compaction.
//!
//! `SEED=42 cargo test --test ownership_simulation one_seed -- --nocapture` tells the history of one schedule. `SCHEDULES=1000000` (set by
//! `make chaos`, which begins at a FIRST_SEED by chance) says how many are run. The source is compiled into this test, so that guards can be left out: each must then be missed.

#[path = "../src/ownership/mod.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod ownership;

#[path = "ownership_simulation/client.rs"]
mod client;
#[path = "ownership_simulation/instance.rs"]
mod instance;
#[path = "ownership_simulation/kafka.rs"]
mod kafka;
#[path = "ownership_simulation/random.rs"]
mod random;
#[path = "ownership_simulation/wills.rs"]
mod wills;
#[path = "ownership_simulation/world.rs"]
mod world;

// What the room knows as `crate::mqtt`.
use mqtt_kafka_proxy::mqtt;

use std::ops::Range;

use ownership::{Guard, LEFT_OUT};
use world::World;

/// Runs one schedule; what went wrong, if anything.
fn run(seed: u64, tell: bool) -> Result<(), String> {
    let mut world = World::new(seed, tell);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|panic| Err(panic.downcast_ref().map_or("a panic", String::as_str).to_owned()));
    if tell {
        println!("{}", world.history.join("\n"));
    }
    result
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// All guards kept: no schedule goes wrong.
#[test]
fn no_schedule_goes_wrong() {
    let schedules = number("SCHEDULES").unwrap_or(400);
    let first = number("FIRST_SEED").unwrap_or(0);
    println!("FIRST_SEED={first}");
    let threads = if schedules > 10_000 { 2 } else { 1 };
    let failed = std::thread::scope(|scope| {
        let first_wrong = |thread| {
            move || {
                (first..first + schedules)
                    .filter(|seed| seed % threads == thread)
                    .find(|seed| run(*seed, false).is_err())
            }
        };
        let runs: Vec<_> = (0..threads).map(|thread| scope.spawn(first_wrong(thread))).collect();
        runs.into_iter().filter_map(|run| run.join().expect("a run comes back")).min()
    });
    if let Some(seed) = failed {
        let wrong = run(seed, true);
        panic!("SEED={seed}: {wrong:?}");
    }
    println!("{schedules} schedules, none went wrong");
}

/// Tells the schedule of SEED (0 without).
#[test]
fn one_seed() {
    let seed = number("SEED").unwrap_or(0);
    assert_eq!(run(seed, number("SEED").is_some()), Ok(()));
}

/// Guards that are left out, and within which schedules that is noticed: those that are before the first are left out to save time.
fn missed_within(guard: Guard, schedules: Range<u64>) {
    LEFT_OUT.set(Some(guard));
    let found = schedules.clone().find_map(|seed| run(seed, false).err().map(|wrong| (seed, wrong)));
    LEFT_OUT.set(None);
    match found {
        Some((seed, wrong)) => println!("without {guard:?}: schedule {seed}: {wrong}"),
        None => panic!("{guard:?} was left out, and none of the schedules {schedules:?} noticed it"),
    }
}

/// One test for each guard that random schedules find missing: the simulation can fail. The rest (the minute, bids, the floor, the span, what
/// a checkpoint rests on, its run, the claims before it, those who hold it) take coincidences that are too rare for it; `tests/ownership_partition.rs` plays those, and goes wrong without them.
macro_rules! missed {
    ($($name:ident: $guard:ident within $schedules:expr;)*) => {$(
        #[test]
        fn $name() {
            missed_within(Guard::$guard, $schedules);
        }
    )*};
}

missed! {
    without_read_back_before_connack: ConnAckAfterOwnState within 0..100;
    without_read_back_before_producing: ProduceAfterReadBack within 0..100;
    without_read_back_before_pubcomp: PubCompAfterReadBack within 0..200;
    without_read_back_before_suback: SubAckAfterReadBack within 0..100;
    without_read_back_before_unsuback: UnsubAckAfterReadBack within 0..200;
    without_read_back_before_publish: PublishAfterReadBack within 0..200;
    without_read_back_before_pubrel: PubRelAfterReadBack within 0..200;
    without_own_keys: OwnKeys within 0..50;
    without_fresh_ids: FreshIds within 0..50;
    without_one_at_a_time: OneAtATime within 0..50;
    without_read_back_before_wills: WillAfterReadBack within 0..100;
    without_a_pair_for_wills: WillByPair within 0..50;
    without_stopping_at_a_foreign_claim: StopAtForeignClaim within 0..50;
    without_the_next_epoch_after_a_gap: EpochAfterGap within 270..2000;
    without_leaving_what_cannot_be_read: LeaveUnreadable within 110..2000;
    without_wills_that_outlive_a_shutdown: WillsOutliveShutdown within 160..400;
    without_a_checkpoint_that_waits: CheckpointWaits within 0..2000;
    without_a_mark_at_the_tail: OnlyAtTheTail within 0..2000;
}
