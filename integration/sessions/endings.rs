//! How sessions end: their time is over, their instance dies, their record cannot be read.

use std::time::Duration;

use super::{Greeting, connect, instance, message, publish, quiet, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, eventually, output};

#[test]
fn a_session_whose_time_is_over_is_gone() {
    let kafka = shared_kafka();
    kafka.topic("expires", 1);
    let proxy = instance(&kafka, "expires", "");
    let greeting = Greeting {
        client: "phone",
        expiry: 1,
        ..Greeting::default()
    };
    runtime().block_on(async {
        let (mut phone, _) = connect(proxy.mqtt, greeting).await;
        phone.subscribe("expires/+", 1).await.unwrap();
        phone.goodbye().await.unwrap();
    });
    // The custodian ends it: nobody has come back.
    eventually("the end is written", || {
        let states = kafka.consume("expires-sessions", "%k %s");
        states
            .iter()
            .any(|line| line.starts_with("state:phone@") && line.contains("\"ended\""))
            .then_some(())
    });
    runtime().block_on(async {
        let (_, present) = connect(proxy.mqtt, Greeting { expiry: 600, ..greeting }).await;
        assert!(!present);
    });
}

#[test]
fn wills_of_an_instance_that_is_killed_are_sent_once() {
    const CLIENTS: usize = 20;
    let kafka = shared_kafka();
    kafka.topic("wills", 2);
    let (mut a, b) = (instance(&kafka, "wills", ""), instance(&kafka, "wills", ""));
    runtime().block_on(async {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let (name, text) = (format!("w{number}"), format!("will {number}"));
            let greeting = Greeting {
                client: &name,
                expiry: if number % 2 == 0 { 600 } else { 0 },
                clean: number % 2 == 1,
                // Of those that come back in time the will is cancelled.
                will: Some(("wills/x", &text, if number < 4 { 60 } else { 0 })),
            };
            clients.push(connect(a.mqtt, greeting).await.0);
        }
        a.kill();
        for number in [0, 2] {
            let name = format!("w{number}");
            let greeting = Greeting {
                client: &name,
                expiry: 600,
                ..Greeting::default()
            };
            let (client, present) = connect(b.mqtt, greeting).await;
            assert!(present, "{name}");
            clients.push(client);
        }
        // One and three have a delay, but their sessions end with their connections, and the wills with them.
        let mut due: Vec<String> = (0..CLIENTS).filter(|n| ![0, 2].contains(n)).map(|n| format!("will {n}")).collect();
        due.sort();
        eventually("all wills are sent", || {
            (kafka.consume("wills", "%s").len() >= due.len()).then_some(())
        });
        // Long enough for a second custodian to send them once more.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut sent = kafka.consume("wills", "%s");
        sent.sort();
        assert_eq!(sent, due);
    });
}

#[test]
fn an_instance_that_stops_loses_nothing_and_defers_wills() {
    let kafka = shared_kafka();
    kafka.topic("stops", 1);
    let (mut a, b) = (instance(&kafka, "stops", ""), instance(&kafka, "stops", ""));
    let greeting = |client, will| Greeting {
        client,
        expiry: 600,
        will,
        ..Greeting::default()
    };
    runtime().block_on(async {
        let (mut phone, _) = connect(a.mqtt, greeting("phone", Some(("stops/wills", "phone is gone", 60)))).await;
        phone.subscribe("stops/news", 1).await.unwrap();
        let (_watch, _) = connect(a.mqtt, greeting("watch", Some(("stops/wills", "watch is gone", 1)))).await;
        let mut publisher = Client::connect(b.mqtt, Version::V5, "car").await.unwrap();
        publish(&mut publisher, "stops/news", "one").await;
        assert_eq!(message(&mut phone).await, "one");
        assert!(a.terminate().success());
        publish(&mut publisher, "stops/news", "two").await;
        // All that was settled was written, so nothing comes twice; and who is back in time has no will.
        let (mut phone, present) = connect(b.mqtt, greeting("phone", None)).await;
        assert!(present);
        assert_eq!(message(&mut phone).await, "two");
        quiet(&mut phone).await;
    });
    let wills = || {
        let all = kafka.consume("stops", "%s");
        all.into_iter().filter(|text| text.ends_with("gone")).collect::<Vec<_>>()
    };
    eventually("the other's will is sent", || (!wills().is_empty()).then_some(()));
    assert_eq!(wills(), ["watch is gone"]);
}

#[test]
fn what_was_for_a_client_of_a_killed_instance_reaches_it_elsewhere() {
    let kafka = shared_kafka();
    kafka.topic("killed", 2);
    let (mut a, b) = (instance(&kafka, "killed", ""), instance(&kafka, "killed", ""));
    let greeting = Greeting {
        client: "phone",
        expiry: 600,
        ..Greeting::default()
    };
    runtime().block_on(async {
        let (mut phone, _) = connect(a.mqtt, greeting).await;
        phone.subscribe("killed/#", 2).await.unwrap();
        let mut publisher = Client::connect(b.mqtt, Version::V5, "car").await.unwrap();
        for number in 0..20 {
            publish(&mut publisher, "killed/1", &number.to_string()).await;
        }
        // It has got some of it.
        for number in 0..5 {
            assert_eq!(message(&mut phone).await, number.to_string());
        }
        a.kill();
        let (mut phone, present) = connect(b.mqtt, greeting).await;
        assert!(present);
        let mut next = message(&mut phone).await.parse::<u32>().unwrap();
        assert!(next <= 5, "nothing is left out: {next}");
        while next < 19 {
            let number = message(&mut phone).await.parse().unwrap();
            assert_eq!(number, next + 1, "in order");
            next = number;
        }
        quiet(&mut phone).await;
    });
}

#[test]
fn a_session_that_cannot_be_read_is_refused_and_hurts_nobody() {
    let kafka = shared_kafka();
    kafka.topic("damaged", 1);
    let proxy = instance(&kafka, "damaged", "");
    let greeting = |client| Greeting {
        client,
        expiry: 600,
        ..Greeting::default()
    };
    runtime().block_on(async {
        for client in ["broken", "whole"] {
            let (mut client, _) = connect(proxy.mqtt, greeting(client)).await;
            client.subscribe("damaged/+", 1).await.unwrap();
            client.goodbye().await.unwrap();
        }
    });
    let key = kafka
        .consume("damaged-sessions", "%k")
        .into_iter()
        .rfind(|key| key.starts_with("state:broken@"))
        .unwrap();
    let claim: i64 = key.rsplit('@').next().unwrap().parse().unwrap();
    let partition: String = kafka
        .consume("damaged-sessions", "%k %p")
        .iter()
        .find_map(|line| line.strip_prefix("claim:broken ").map(str::to_owned))
        .unwrap();
    let text = format!("{{\"v\":77,\"n\":99,\"owner\":\"later than {claim}\"}}");
    let line = format!(
        "printf '%s' '{text}' | kcat -P -b {} -t damaged-sessions -p {partition} -k {key} -H v=77",
        kafka.bootstrap
    );
    output("bash", &["-c", &line]);
    runtime().block_on(async {
        eventually("it is refused", || {
            let refused = runtime_inside(async {
                let mut client = Client::open(proxy.mqtt, Version::V5).await.unwrap();
                client.output.extend_from_slice(&greeting("broken").encode());
                client.flush().await.unwrap();
                matches!(client.next_within(DEADLINE).await.unwrap(), Event::ConnAck { accepted: false, ref detail, .. } if detail.contains("ServerUnavailable"))
            });
            refused.then_some(())
        });
    });
    assert!(proxy.log().contains("a stored session is refused"), "{}", proxy.log());
    runtime().block_on(async {
        let (mut whole, present) = connect(proxy.mqtt, greeting("whole")).await;
        assert!(present);
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
        publish(&mut publisher, "damaged/1", "fine").await;
        assert_eq!(message(&mut whole).await, "fine");
    });
}

/// On a thread of its own, since `eventually` waits on this one.
fn runtime_inside<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(work)).join().unwrap())
}
