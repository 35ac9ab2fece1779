//! How sessions end: their time is over, or their instance dies.

use std::collections::BTreeMap;

use super::{Greeting, connect, instance, message, publish, quiet, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually};

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

/// DISCONNECT may name another expiry than CONNECT did (§3.14.2.2.2): that is stored, and counts.
#[test]
fn a_goodbye_may_make_the_session_last_longer_or_shorter() {
    let kafka = shared_kafka();
    kafka.topic("goodbyes", 1);
    let proxy = instance(&kafka, "goodbyes", "");
    runtime().block_on(async {
        for (client, expiry) in [("longer", 900u32), ("shorter", 1)] {
            let (mut client, _) = connect(proxy.mqtt, Greeting::staying(client)).await;
            client.output.extend_from_slice(&[0xe0, 7, 0, 5, 0x11]);
            client.output.extend_from_slice(&expiry.to_be_bytes());
            client.flush().await.unwrap();
        }
    });
    let is_stored = |client: &str, what: &[&str]| {
        let key = format!("state:{client}@");
        let states = kafka.consume("goodbyes-sessions", "%k %s");
        let mut of_client = states.iter().filter(|line| line.starts_with(&key));
        of_client.any(|line| what.iter().all(|part| line.contains(part))).then_some(())
    };
    eventually("the longer one is stored", || {
        is_stored("longer", &["\"connected\":false", "\"expiry\":900"])
    });
    eventually("the shorter one is ended", || is_stored("shorter", &["\"ended\""]));
    runtime().block_on(async {
        for (client, goes_on) in [("longer", true), ("shorter", false)] {
            let (_client, present) = connect(proxy.mqtt, Greeting::staying(client)).await;
            assert_eq!(present, goes_on, "{client}");
        }
    });
}

/// DISCONNECT with 0x04: the will is wanted, and the session shall end with it (§3.14.2.1, §3.14.2.2.2).
#[test]
fn a_goodbye_that_asks_for_the_will_may_end_the_session_as_well() {
    let kafka = shared_kafka();
    kafka.topic("farewell", 1);
    let proxy = instance(&kafka, "farewell", "");
    let greeting = Greeting {
        will: Some(("farewell/phone", "gone", 60)),
        ..Greeting::staying("phone")
    };
    runtime().block_on(async {
        let (mut phone, _) = connect(proxy.mqtt, greeting).await;
        phone.output.extend_from_slice(&[0xe0, 7, 0x04, 5, 0x11, 0, 0, 0, 0]);
        phone.flush().await.unwrap();
    });
    // With the session's end the will is due, whatever its delay.
    eventually("the will is sent", || (kafka.consume("farewell", "%s") == ["gone"]).then_some(()));
    runtime().block_on(async {
        let (_phone, present) = connect(proxy.mqtt, greeting).await;
        assert!(!present);
    });
}

#[test]
fn wills_of_an_instance_that_is_killed_are_sent_once() {
    const CLIENTS: usize = 120;
    /// Below it those of even numbers come back in time: a hundred do not.
    const DELAYED: usize = 40;
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
                will: Some(("wills/x", &text, if number < DELAYED { 60 } else { 0 })),
                ..Greeting::default()
            };
            clients.push(connect(a.mqtt, greeting).await.0);
        }
        assert_eq!(wills_kept(&kafka, "wills").len(), CLIENTS, "each is stored before CONNACK");
        a.kill();
        let back = (0..DELAYED).step_by(2);
        for number in back.clone() {
            let name = format!("w{number}");
            let greeting = Greeting::staying(&name);
            let (client, present) = connect(b.mqtt, greeting).await;
            assert!(present, "{name}");
            clients.push(client);
        }
        // Those of odd numbers have a delay, but their sessions end with their connections, and the wills are due with them.
        let absent = |number: &usize| !back.clone().any(|returned| returned == *number);
        let mut due: Vec<String> = (0..CLIENTS).filter(absent).map(|number| format!("will {number}")).collect();
        due.sort();
        assert_eq!(due.len(), 100);
        eventually("all wills are sent", || {
            (kafka.consume("wills", "%s").len() >= due.len()).then_some(())
        });
        // From then on no custodian finds one that it could send once more.
        eventually("no session holds a will any more", || {
            let kept = wills_kept(&kafka, "wills");
            kept.is_empty().then_some(())
        });
        let mut sent = kafka.consume("wills", "%s");
        sent.sort();
        assert_eq!(sent, due);
    });
}

/// The keys of the states that hold a will, or one on its way.
pub fn wills_kept(kafka: &Kafka, name: &str) -> Vec<String> {
    let mut kept = BTreeMap::new();
    for line in kafka.consume(&format!("{name}-sessions"), "%k %s") {
        let (key, value) = line.split_once(' ').unwrap();
        // The last of a key counts; a tombstone has no value.
        kept.insert(key.to_owned(), value.contains("\"will\":") || value.contains("\"sending\":"));
    }
    kept.retain(|key, holds| key.starts_with("state:") && *holds);
    kept.into_keys().collect()
}

#[test]
fn an_instance_that_stops_loses_nothing_and_defers_wills() {
    let kafka = shared_kafka();
    kafka.topic("stops", 1);
    let (mut a, b) = (instance(&kafka, "stops", ""), instance(&kafka, "stops", ""));
    let greeting = |client, will| Greeting {
        will,
        ..Greeting::staying(client)
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
    let greeting = Greeting::staying("phone");
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
fn throw_away_clients_may_cost_kafka_nothing() {
    let kafka = shared_kafka();
    kafka.topic("local", 1);
    let local = ", takeover: local";
    let (a, b) = (instance(&kafka, "local", local), instance(&kafka, "local", local));
    let greeting = |client, clean, expiry| Greeting {
        client,
        clean,
        expiry,
        will: None,
        ..Greeting::default()
    };
    runtime().block_on(async {
        let (mut stored, _) = connect(a.mqtt, greeting("stored", false, 600)).await;
        stored.subscribe("local/+", 1).await.unwrap();
        stored.goodbye().await.unwrap();
        let mut clients = Vec::new();
        for proxy in [&a, &b, &a, &b] {
            clients.push(connect(proxy.mqtt, greeting("fleeting", true, 0)).await.0);
        }
        // One of each instance was taken over within it.
        for client in &mut clients[..2] {
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8e));
        }
        for client in &mut clients[2..] {
            quiet(client).await;
        }
        // A clean start discards what is stored all the same.
        let (client, present) = connect(b.mqtt, greeting("stored", true, 0)).await;
        assert!(!present);
        client.goodbye().await.unwrap();
        let (_, present) = connect(a.mqtt, greeting("stored", false, 600)).await;
        assert!(!present, "it was discarded");
    });
    let keys = kafka.consume("local-sessions", "%k");
    assert!(keys.iter().any(|key| key == "claim:stored"), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("fleeting")), "{keys:?}");
}

#[test]
fn without_kafka_only_what_needs_nothing_of_it_is_let_in() {
    let rules = "  - {name: away, mqtt: \"away/+\", kafka: {topic: away}}\nsessions: {expiry: {}}\nlimits: {connect_timeout: 1s}";
    let proxy = Proxy::launch("127.0.0.1:1", rules, "");
    runtime().block_on(async {
        let clean = Greeting {
            client: "phone",
            clean: true,
            ..Greeting::default()
        };
        let (_phone, present) = connect(proxy.mqtt, clean).await;
        assert!(!present);
        for needs in [Greeting { clean: false, ..clean }, Greeting { expiry: 1, ..clean }] {
            let mut client = Client::open(proxy.mqtt, Version::V5).await.unwrap();
            client.output.extend_from_slice(&needs.encode());
            client.flush().await.unwrap();
            let answer = client.next_within(DEADLINE).await.unwrap();
            let Event::ConnAck {
                accepted: false, detail, ..
            } = answer
            else {
                panic!("{needs:?} was answered {answer:?}")
            };
            assert!(detail.contains("ServerUnavailable"), "{detail}");
        }
    });
}
