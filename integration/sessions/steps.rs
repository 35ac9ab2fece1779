//! An instance dies at each step of the QoS 2 exchange, in both directions; the other one goes on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use super::once::{Device, Fleet, no_more, publish_once, take, texts};
use super::{instance_of, rule, runtime};
use crate::shared_kafka;
use crate::stage::{Kafka, output, root};

/// Where, and at which time it is met. Records are met at every step: each `append` is another one.
const STEPS: &[(&str, u32)] = &[
    ("publish_taken", 3),
    ("produce", 3),
    ("produce", 4),
    ("produced", 3),
    ("produced", 4),
    ("pubrec", 3),
    ("pubrel_taken", 3),
    ("pubcomp", 3),
    ("send_taken", 3),
    ("publish", 3),
    ("pubrec_taken", 3),
    ("pubrel", 3),
    ("settled", 2),
    ("append", 8),
    ("append", 9),
    ("append", 10),
    ("append", 11),
    ("appended", 8),
    ("appended", 9),
    ("appended", 10),
    ("appended", 11),
];
/// Where the instance of a retained message dies: between its two records.
const MAPPED: (&str, u32) = ("mapped", 3);
/// Instances that run at a time, in pairs.
const PAIRS: usize = 4;
const COUNT: usize = 8;

/// A copy of each message goes into the same partition.
fn rules(name: &str) -> String {
    format!("{}\n{}", rule(name, ""), rule(name, "copy, also: true"))
}

/// A publisher and a subscriber begin at the instance that will die.
fn dies_at(kafka: &Kafka, number: usize, step: &str, times: u32) {
    let name = format!("oncestep{number}");
    kafka.topic(&name, 1);
    let dies = [("MQTT_KAFKA_PROXY_DIES_AT", format!("{step}:{times}"))];
    let dies = dies.each_ref().map(|(name, value)| (*name, &**value));
    let fleet = [&dies[..], &[]].map(|environment| instance_of(environment, kafka, &name, &rules(&name), ""));
    let fleet = Fleet::of(fleet.into());
    runtime().block_on(async {
        let mut valve = Device::new(&fleet, "valve");
        let (client, _) = valve.connected().await;
        assert_eq!(client.subscribe(&format!("{name}/+"), 2).await.unwrap(), 2);
        let publishing = async {
            let mut pump = Device::new(&fleet, "pump");
            for text in texts(COUNT) {
                publish_once(&mut pump, &format!("{name}/1"), 7, &text, &mut |_, _| false).await;
            }
        };
        let mut never = |_: usize, _| false;
        let ((), got) = tokio::join!(publishing, take(&mut valve, COUNT, &mut never));
        assert_eq!(got, texts(COUNT), "{step}:{times}");
        let (client, _) = valve.connected().await;
        no_more(client).await;
    });
    assert!(fleet.is_dead(0), "{step}:{times} was not met");
    let both: Vec<_> = texts(COUNT).into_iter().flat_map(|text| [text.clone(), text]).collect();
    assert_eq!(kafka.consume(&name, "%s"), both, "{step}:{times}");
}

#[test]
fn an_instance_dies_at_each_step_and_each_message_is_there_once() {
    let kafka = shared_kafka();
    let left = Mutex::new(STEPS.iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..PAIRS {
            scope.spawn(|| {
                loop {
                    let Some((number, (step, times))) = left.lock().unwrap().next() else {
                        return;
                    };
                    dies_at(&kafka, number, step, *times);
                }
            });
        }
    });
}

/// A message that is retained makes two records; its instance dies between the two of the last.
#[test]
fn a_message_is_there_once_and_retained_wherever_its_instance_dies() {
    let kafka = shared_kafka();
    kafka.topic("onceretained", 1);
    let (step, times) = MAPPED;
    let fleet = Fleet::whose_first(&[("MQTT_KAFKA_PROXY_DIES_AT", &format!("{step}:{times}"))], &kafka, "onceretained");
    let stays = runtime().block_on(async {
        let mut pump = Device::new(&fleet, "pump");
        pump.retains = true;
        for text in texts(3) {
            publish_once(&mut pump, "onceretained/1", 7, &text, &mut |_, _| false).await;
        }
        assert!(fleet.is_dead(0), "{step}:{times} was not met");
        fleet.address(1).port().to_string()
    });
    assert_eq!(kafka.consume("onceretained", "%s"), texts(3));
    let subscribe = [
        "-h",
        "127.0.0.1",
        "-p",
        &stays,
        "-t",
        "onceretained/#",
        "-C",
        "1",
        "-W",
        "30",
        "-F",
        "%r %p",
    ];
    assert_eq!(output("mosquitto_sub", &subscribe).trim(), format!("1 {}", texts(3)[2]));
}

/// The names of the steps at which the product can die, as its sources call them.
fn failure_points(folder: &Path, found: &mut BTreeSet<String>) {
    const CALL: &str = "failure::step(";
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            failure_points(&entry, found);
            continue;
        }
        let text = std::fs::read_to_string(&entry).unwrap();
        for rest in text.split(CALL).skip(1) {
            let name = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let (name, _) = name.unwrap_or_else(|| {
                panic!(
                    "{}: the step is no literal, so that nobody can tell whether it is tested",
                    entry.display()
                )
            });
            found.insert(name.to_owned());
        }
        assert!(
            !text.contains("failure::{") && !text.contains("use super::failure::step"),
            "{}: {CALL} is what is looked for",
            entry.display()
        );
    }
}

#[test]
fn the_product_dies_in_these_tests_at_each_step_that_it_has() {
    let mut known = BTreeSet::new();
    failure_points(&root().join("src"), &mut known);
    let tested: BTreeSet<_> = STEPS.iter().chain([&MAPPED]).map(|(step, _)| (*step).to_owned()).collect();
    assert_eq!(known, tested);
}
