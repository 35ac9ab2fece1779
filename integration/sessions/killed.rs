//! Instances behind a balancer are killed at moments that nobody chose, and come back; publishers and subscribers go on, of either quality
//! of service.
//!
//! SEED chooses the moments; `make chaos` takes another one each time and runs the long form.

use std::time::Duration;

use super::flow::{Flow, Habits};
use super::once::chance;
use super::{instance, runtime};
use crate::balancer::Balancer;
use crate::chaos::is_long;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy};

/// The longest that an instance may live after the former was started again: long enough for sessions to be claimed, now and then.
const LULL: u64 = 2_000;
/// A client leaves its connection by itself after so many packets: who was killed last would have nobody else.
const RESTLESS: u64 = 150;

/// Kills so many, one at a time, whoever sits there.
fn kill_at_random(proxies: &mut [Proxy], kills: usize, dice: &mut u64) {
    for _ in 0..kills {
        // The wait is what is tested: the moment.
        std::thread::sleep(Duration::from_millis(chance(dice, LULL)));
        let victim = chance(dice, proxies.len() as u64) as usize;
        proxies[victim].kill();
        proxies[victim].start_again();
        // Some are killed, or have to do without another, before they are ready.
        if chance(dice, 8) != 0 {
            proxies[victim].becomes_ready();
        }
    }
}

/// A group of instances, whose clients have a topic of their own: how often a publisher lost its connection while messages were open.
async fn siege(kafka: &Kafka, name: &str, instances: usize, kills: usize, seed: u64) -> usize {
    kafka.topic(name, 1);
    let mut proxies: Vec<_> = (0..instances).map(|_| instance(kafka, name, "")).collect();
    let balancer = Balancer::start(&proxies.iter().collect::<Vec<_>>());
    let flow = Flow {
        kafka,
        name,
        at: balancer.mqtt,
        publishers: 1,
        seed,
        habits: Habits {
            restless: RESTLESS,
            overlaps: false,
        },
    };
    let mut dice = seed;
    let killing = tokio::task::spawn_blocking(move || {
        kill_at_random(&mut proxies, kills, &mut dice);
        proxies
    });
    let mut proxies = Vec::new();
    let pumps = flow.during(async { proxies = killing.await.unwrap() }).await;
    let (sent, struck) = pumps.iter().fold((0, 0), |sum, pump| (sum.0 + pump.sent, sum.1 + pump.struck));
    println!(
        "{name}: {kills} kills of {instances} instances, {sent} messages, {struck} times some were open at a publisher whose connection broke"
    );
    struck
}

#[test]
fn instances_are_killed_at_any_moment_and_nothing_is_lost_out_of_order_or_at_qos_2_doubled() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let (groups, kills) = if is_long() {
        (&[("killed1", 2), ("killed2", 3), ("killed3", 2), ("killed4", 3)][..], 250)
    } else {
        (&[("killed1", 2), ("killed2", 3)][..], 5)
    };
    let kafka = shared_kafka();
    let struck: usize = std::thread::scope(|scope| {
        let groups: Vec<_> = (0..)
            .zip(groups)
            .map(|(number, (name, instances))| {
                let kafka = &kafka;
                scope.spawn(move || runtime().block_on(siege(kafka, name, *instances, kills, seed + 100 * number)))
            })
            .collect();
        groups.into_iter().map(|group| group.join().unwrap()).sum()
    });
    // Else it would have tested nothing.
    assert!(
        struck >= kills * groups.len() / 10,
        "{struck} publishers had messages open when an instance was killed"
    );
}
