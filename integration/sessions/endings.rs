//! How sessions end: their time is over, their instance dies, their record cannot be read.

use std::collections::BTreeMap;

use super::{Greeting, connect, instance, message, publish, quiet, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, output};

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
fn a_session_that_cannot_be_read_is_refused_and_hurts_nobody() {
    let kafka = shared_kafka();
    kafka.topic("damaged", 1);
    let proxy = instance(&kafka, "damaged", "");
    let greeting = Greeting::staying;
    runtime().block_on(async {
        for client in ["later", "torn", "whole"] {
            let (mut client, _) = connect(proxy.mqtt, greeting(client)).await;
            client.subscribe("damaged/+", 1).await.unwrap();
            client.goodbye().await.unwrap();
        }
    });
    for (broken, damage) in [("later", LATER), ("torn", TORN)] {
        damage.write(&kafka, "damaged", broken);
        runtime().block_on(async {
            eventually("it is refused", || {
                let refused = runtime_inside(async {
                    let mut client = Client::open(proxy.mqtt, Version::V5).await.unwrap();
                    client.output.extend_from_slice(&greeting(broken).encode());
                    client.flush().await.unwrap();
                    matches!(client.next_within(DEADLINE).await.unwrap(), Event::ConnAck { accepted: false, ref detail, .. } if detail.contains("ServerUnavailable"))
                });
                refused.then_some(())
            });
        });
    }
    assert!(proxy.log().contains("a stored session is refused"), "{}", proxy.log());
    for (broken, why) in [("later", "version 77 is not known"), ("torn", "damaged: a state")] {
        let told = |line: &str| line.contains("it stays as it is") && line.contains(broken) && line.contains(why);
        assert!(proxy.log().lines().any(told), "{}", proxy.log());
    }
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

/// A state that cannot be read: its text, and its headers.
#[derive(Clone, Copy)]
struct Damage(&'static str, &'static str);

/// Of a later build.
const LATER: Damage = Damage(r#"{"v":77,"n":99,"owner":"of later days"}"#, "-H v=77");
/// Its headers are as they were, and the end of its text is missing.
const TORN: Damage = Damage(
    r#"{"v":1,"n":99,"owner":"proxy","since":17641"#,
    "-H v=1 -H n=99 -H owner=proxy -H since=1764102345678 -H expiry=4294967295",
);

impl Damage {
    /// Writes it over the state of a client.
    fn write(self, kafka: &Kafka, name: &str, client: &str) {
        let Self(text, headers) = self;
        let records = kafka.consume(&format!("{name}-sessions"), "%p %k");
        let state = format!(" state:{client}@");
        let last = records.iter().rfind(|line| line.contains(&state)).unwrap();
        let (partition, key) = last.split_once(' ').unwrap();
        let line = format!(
            "printf '%s' '{text}' | kcat -P -b {} -t {name}-sessions -p {partition} -k {key} {headers}",
            kafka.bootstrap
        );
        output("bash", &["-c", &line]);
    }
}

#[test]
fn a_session_that_cannot_be_read_is_replaced_if_the_operator_wants_that() {
    let kafka = shared_kafka();
    kafka.topic("fresh", 1);
    let proxy = instance(&kafka, "fresh", ", damaged: fresh");
    for (broken, damage, why) in [("later", LATER, "version 77 is not known"), ("torn", TORN, "damaged: a state")] {
        let greeting = Greeting::staying(broken);
        runtime().block_on(async {
            let (mut client, _) = connect(proxy.mqtt, greeting).await;
            client.subscribe("fresh/+", 1).await.unwrap();
            client.goodbye().await.unwrap();
        });
        eventually("the end of the connection is written", || {
            let states = kafka.consume("fresh-sessions", "%k %s");
            let gone = |line: &String| line.contains(broken) && line.contains("\"connected\":false");
            states.iter().any(gone).then_some(())
        });
        damage.write(&kafka, "fresh", broken);
        runtime().block_on(async {
            let mut attempts = 0;
            // The record is read by the tail after kcat has been told that it is there.
            while connect(proxy.mqtt, greeting).await.1 {
                attempts += 1;
                assert!(attempts < 50, "the damaged record was never read");
                damage.write(&kafka, "fresh", broken);
            }
            let (mut client, present) = connect(proxy.mqtt, greeting).await;
            assert!(present, "of the fresh one");
            client.subscribe("fresh/+", 1).await.unwrap();
            let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
            publish(&mut publisher, "fresh/1", "fine").await;
            assert_eq!(message(&mut client).await, "fine");
        });
        let told = |line: &str| line.contains("a fresh one takes its place") && line.contains(broken) && line.contains(why);
        assert!(proxy.log().lines().any(told), "{}", proxy.log());
    }
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
