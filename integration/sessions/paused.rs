//! An instance sleeps while its clients go elsewhere, and wakes up with their packets in its sockets.

use std::time::Duration;

use super::once::{publish_packet, short_packet, texts};
use super::{Greeting, connect, instance, runtime};
use crate::load::client::{Client, Event};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy};

/// A process that does not run while this lives.
struct Paused(u32);

impl Paused {
    fn new(proxy: &Proxy) -> Self {
        signal("-STOP", proxy.id());
        Self(proxy.id())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(signal: &str, process: u32) {
    let command = format!("kill {signal} {process}");
    let status = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
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

async fn say(client: &mut Client, packet: &[u8], answer: Event) {
    client.output.extend_from_slice(packet);
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), answer);
}

/// Both instances have the PUBLISH: the sleeper first, in its socket. It wakes up before or after others have taken it for dead.
#[test]
fn a_late_owner_answers_nobody_and_each_message_is_in_kafka_once() {
    let kafka = shared_kafka();
    kafka.topic("paused", 1);
    let proxies = [instance(&kafka, "paused", ""), instance(&kafka, "paused", "")];
    let greeting = Greeting {
        client: "pump",
        expiry: 600,
        ..Greeting::default()
    };
    let long = if crate::chaos::is_long() { 30 } else { 4 };
    let all = texts(6);
    runtime().block_on(async {
        let (mut client, _) = connect(proxies[0].mqtt, greeting).await;
        for (round, text) in all.iter().enumerate() {
            let (late, next) = (&proxies[round % 2], &proxies[(round + 1) % 2]);
            let paused = Paused::new(late);
            client.output.extend_from_slice(&publish_packet("paused/1", 7, text, false));
            client.flush().await.unwrap();
            let (mut elsewhere, present) = connect(next.mqtt, greeting).await;
            assert!(present, "round {round}");
            say(&mut elsewhere, &publish_packet("paused/1", 7, text, true), Event::PubRec(7, 0)).await;
            if round % 3 == 2 {
                // The pause is the weather: beyond `instance_timeout`, so that the others have given it up.
                tokio::time::sleep(Duration::from_secs(long)).await;
            }
            if round % 2 == 0 {
                say(&mut elsewhere, &short_packet(0x62, 7), Event::PubComp(7)).await;
                drop(paused);
            } else {
                drop(paused);
                say(&mut elsewhere, &short_packet(0x62, 7), Event::PubComp(7)).await;
            }
            let words = last_words(std::mem::replace(&mut client, elsewhere)).await;
            assert!(
                words.iter().all(|event| matches!(event, Event::Disconnect(_))),
                "round {round}: {words:?}"
            );
        }
    });
    assert_eq!(kafka.consume("paused", "%s"), all);
}
