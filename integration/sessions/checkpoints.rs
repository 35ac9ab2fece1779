//! Checkpoints: sessions at the tail write nothing, and stand where the last checkpoint of their instance was when that is killed.

use std::time::Duration;

use super::{Greeting, connect, instance, message, quiet, runtime};
use crate::load::client::Client;
use crate::shared_kafka;
use crate::stage::{Kafka, eventually};

/// Answers what is open; no message comes.
async fn settle(client: &mut Client) {
    while let Ok(event) = client.next_within(Duration::from_millis(300)).await {
        assert!(!matches!(event, crate::load::client::Event::Publish { .. }), "{event:?}");
        client.answer(&event).unwrap();
        client.flush().await.unwrap();
    }
}

/// Keys and values of the stored sessions, of keys that begin so.
fn stored(kafka: &Kafka, prefix: &str) -> Vec<String> {
    let all = kafka.consume("checkpointed-sessions", "%k %s");
    all.into_iter().filter(|line| line.starts_with(prefix)).collect()
}

#[test]
fn who_comes_back_from_a_killed_instance_reads_on_where_its_last_checkpoint_was() {
    const BUSY: usize = 300;
    let kafka = shared_kafka();
    kafka.topic("checkpointed", 1);
    let (mut a, b) = (instance(&kafka, "checkpointed", ""), instance(&kafka, "checkpointed", ""));
    let (idle, busy) = (Greeting::staying("idle"), Greeting::staying("busy"));
    let lines = |from: usize, to: usize| (from..to).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
    runtime().block_on(async {
        let (mut rests, _) = connect(a.mqtt, idle).await;
        rests.subscribe("checkpointed/idle", 1).await.unwrap();
        let (mut takes, _) = connect(a.mqtt, busy).await;
        takes.subscribe("checkpointed/busy", 2).await.unwrap();
        eventually("it is at the tail", || {
            stored(&kafka, "steps:idle@")
                .iter()
                .any(|line| line.ends_with("\"run\":1}"))
                .then_some(())
        });
        let own = stored(&kafka, "steps:idle@").len();
        kafka.produce("checkpointed", "busy", &["mqtt.qos=2"], &lines(0, BUSY));
        for number in 0..BUSY {
            assert_eq!(message(&mut takes).await, number.to_string());
        }
        settle(&mut takes).await;
        eventually("a checkpoint says so", || {
            let end = format!("/0@{BUSY}\"]}}");
            stored(&kafka, "checkpoint:").iter().any(|line| line.ends_with(&end)).then_some(())
        });
        assert_eq!(stored(&kafka, "steps:idle@").len(), own, "nothing was written of who got nothing");
        a.kill();
        kafka.produce("checkpointed", "idle", &["mqtt.qos=1"], "for it");
        kafka.produce("checkpointed", "busy", &["mqtt.qos=2"], &lines(BUSY, BUSY + 20));
        let (mut rests, present) = connect(b.mqtt, idle).await;
        assert!(present);
        let states: Vec<_> = stored(&kafka, "state:idle@")
            .into_iter()
            .filter(|state| state.contains("connected"))
            .collect();
        let place = format!("/0@{BUSY}\"");
        assert!(states.last().is_some_and(|state| state.contains(&place)), "{states:?}");
        assert_eq!(message(&mut rests).await, "for it");
        quiet(&mut rests).await;
        let (mut takes, present) = connect(b.mqtt, busy).await;
        assert!(present);
        for number in BUSY..BUSY + 20 {
            assert_eq!(message(&mut takes).await, number.to_string(), "once, and in order");
        }
        settle(&mut takes).await;
    });
}
