//! Random schedules.

use proptest::prelude::*;

use super::world::{Fault, Step, World};

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        6 => Just(Step::Send),
        8 => Just(Step::Serve(Fault::None)),
        1 => Just(Step::Serve(Fault::NotLeader)),
        1 => Just(Step::Serve(Fault::Demoted)),
        1 => Just(Step::Serve(Fault::Short)),
        1 => Just(Step::Serve(Fault::TimedOut)),
        1 => Just(Step::Serve(Fault::TooLarge)),
        1 => Just(Step::Serve(Fault::Unfit)),
        1 => Just(Step::Serve(Fault::Refused)),
        8 => Just(Step::Read),
        1 => Just(Step::Break),
        1 => (0usize..8).prop_map(Step::Late),
        1 => (0usize..8).prop_map(Step::Lose),
        1 => Just(Step::Wait),
    ]
}

/// More by PROPTEST_CASES; a failing schedule is printed, not kept in a file.
fn config() -> ProptestConfig {
    let plain = ProptestConfig::default();
    ProptestConfig {
        cases: plain.cases.max(500),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..plain
    }
}

/// Runs the schedule to its end, and looks at what the log has and what was told.
fn check(mut world: World, steps: Vec<Step>) {
    steps.into_iter().for_each(|step| world.run(step));
    world.finish();
    world.check();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_acked_is_missing_and_nothing_is_doubled_or_out_of_order(steps in prop::collection::vec(step(), 1..200)) {
        check(World::new(), steps);
    }

    #[test]
    fn the_same_with_identities_that_die(steps in prop::collection::vec(prop_oneof![30 => step(), 1 => Just(Step::Serve(Fault::Fenced))], 1..200)) {
        check(World::new(), steps);
    }

    #[test]
    fn the_same_with_a_broker_that_forgets_who_was_quiet(steps in prop::collection::vec(prop_oneof![30 => step(), 4 => Just(Step::Forget)], 1..200)) {
        check(World::new(), steps);
    }

    #[test]
    fn the_same_with_topics_that_are_made_anew(steps in prop::collection::vec(prop_oneof![30 => step(), 1 => Just(Step::Serve(Fault::Fenced)), 3 => Just(Step::Anew)], 1..200)) {
        check(World::new(), steps);
    }

    #[test]
    fn the_same_with_batches_that_are_split(steps in prop::collection::vec(prop_oneof![30 => step(), 3 => Just(Step::Serve(Fault::TooLarge))], 1..200)) {
        check(World::of_large_batches(), steps);
    }

    #[test]
    fn without_idempotence_nothing_acked_is_missing_or_out_of_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::of_the_leader_alone();
        for step in steps {
            world.run(step);
            prop_assert!(world.wire.len() <= 1, "more than one in flight");
        }
        world.finish();
        world.check_order();
    }
}
