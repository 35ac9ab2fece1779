//! An instance sleeps while its clients go elsewhere, and wakes up with their packets in its sockets.

use std::sync::Mutex;
use std::time::Duration;

use super::once::{Device, Fleet, publish_once, publish_packet, texts};
use super::{instance, runtime};
use crate::load::client::{Client, Event};
use crate::shared_kafka;
use crate::stage::DEADLINE;

/// A process that does not run while this lives.
struct Paused(u32);

impl Paused {
    fn new(process: u32) -> Self {
        signal("-STOP", process);
        Self(process)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(signal: &str, process: u32) {
    let command = format!("kill {signal} {process}");
    let status = std::process::Command::new("bash").args(["-c", &command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// What the connection gets until it ends.
async fn last_words(mut client: Client) -> Vec<Event> {
    let mut words = Vec::new();
    while let Ok(event) = client.next_within(DEADLINE).await {
        words.push(event);
    }
    words
}

/// Both instances have the PUBLISH: the sleeper first, in its socket. It wakes up before or after others have taken it for dead.
#[test]
fn a_late_owner_answers_nobody_and_each_message_is_in_kafka_once() {
    let kafka = shared_kafka();
    kafka.topic("paused", 1);
    let proxies = vec![instance(&kafka, "paused", ""), instance(&kafka, "paused", "")];
    let places = [proxies[0].mqtt, proxies[1].mqtt];
    let ids = [proxies[0].id(), proxies[1].id()];
    let mut fleet = Fleet::of(proxies);
    let long = if crate::chaos::is_long() { 30 } else { 4 };
    let all = texts(6);
    runtime().block_on(async {
        for (round, text) in all.iter().enumerate() {
            fleet.front = Some(places[round % 2]);
            let mut client = Device::new(&fleet, "pump").leave().await;
            let paused = Mutex::new(Some(Paused::new(ids[round % 2])));
            client.output.extend_from_slice(&publish_packet("paused/1", 7, text, false));
            client.flush().await.unwrap();
            fleet.front = Some(places[(round + 1) % 2]);
            if round % 3 == 2 {
                // The pause is the weather: beyond `instance_timeout`, so that the others have given it up.
                tokio::time::sleep(Duration::from_secs(long)).await;
            }
            // In every other round the sleeper wakes up between PUBREC and PUBREL.
            let mut between = |step: usize, _| {
                if round % 2 == 1 && step == 2 {
                    paused.lock().unwrap().take();
                }
                false
            };
            // It may be disconnected more than once: a group with a sleeping member takes its time to change.
            publish_once(&mut Device::new(&fleet, "pump"), "paused/1", 7, text, &mut between).await;
            drop(paused);
            let words = last_words(client).await;
            let silent = words.iter().all(|event| matches!(event, Event::Disconnect(_)));
            assert!(silent, "round {round}: {words:?}");
        }
    });
    assert_eq!(kafka.consume("paused", "%s"), all);
}
