//! A session goes on, on any instance.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Greeting, connect, instance, message, publish, quiet, rule, runtime};
use crate::deliver::Subscriber;
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, eventually};
use crate::wire::delete_topic;

#[test]
fn a_session_goes_on_elsewhere_with_all_that_came_meanwhile() {
    let kafka = shared_kafka();
    kafka.topic("resumes", 3);
    let (a, b) = (instance(&kafka, "resumes", ""), instance(&kafka, "resumes", ""));
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let mut publisher = Client::connect(b.mqtt, Version::V5, "car").await.unwrap();
        let (mut phone, present) = connect(a.mqtt, greeting).await;
        assert!(!present);
        publish(&mut publisher, "resumes/1", "before").await;
        assert_eq!(phone.subscribe("resumes/+", 1).await.unwrap(), 1);
        publish(&mut publisher, "resumes/1", "first").await;
        assert_eq!(message(&mut phone).await, "first");
        phone.goodbye().await.unwrap();
        for (home, away) in [(&b, "b"), (&a, "a"), (&a, "a again")] {
            for number in 0..40 {
                publish(&mut publisher, &format!("resumes/{}", number % 2), &format!("{away} {number}")).await;
            }
            let (mut phone, present) = connect(home.mqtt, greeting).await;
            assert!(present, "{away}");
            let mut got = Vec::new();
            for _ in 0..40 {
                got.push(message(&mut phone).await);
            }
            for device in 0..2 {
                let one: Vec<_> = got
                    .iter()
                    .filter(|text| text.rsplit(' ').next().unwrap().parse::<u32>().unwrap() % 2 == device)
                    .collect();
                let all: Vec<_> = (0..40).filter(|n| n % 2 == device).map(|n| format!("{away} {n}")).collect();
                assert_eq!(one, all.iter().collect::<Vec<_>>(), "of one key all, in order");
            }
            quiet(&mut phone).await;
            publish(&mut publisher, "resumes/9", "at the tail").await;
            assert_eq!(message(&mut phone).await, "at the tail");
            phone.goodbye().await.unwrap();
        }
        let (mut phone, present) = connect(a.mqtt, Greeting { clean: true, ..greeting }).await;
        assert!(!present, "a clean start discards the session");
        publish(&mut publisher, "resumes/1", "for nobody").await;
        quiet(&mut phone).await;
        phone.goodbye().await.unwrap();
        let (mut phone, present) = connect(b.mqtt, greeting).await;
        assert!(present, "of the clean start");
        quiet(&mut phone).await;
    });
}

/// `offline_retention`: what is older when the client is back is not for it any more.
#[test]
fn who_returns_late_gets_what_is_not_too_old() {
    const RETENTION: Duration = Duration::from_secs(5);
    let kafka = shared_kafka();
    kafka.topic("retention", 2);
    let rule = "  - {name: retention, mqtt: \"retention/{device}\", kafka: {topic: retention, key: \"{device}\", offline_retention: 5s}}";
    let proxy = Proxy::start(
        &kafka.bootstrap,
        &format!("{rule}\nsessions: {{expiry: {{}}}}"),
        ", topics: {sessions: retention-sessions, retained: retention-retained, partitions: 4, replication: 1}",
    );
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
        let (mut phone, _) = connect(proxy.mqtt, greeting).await;
        phone.subscribe("retention/+", 1).await.unwrap();
        phone.goodbye().await.unwrap();
        for device in 0..4 {
            publish(&mut publisher, &format!("retention/{device}"), "old").await;
        }
        // Time itself is what is waited for.
        tokio::time::sleep(RETENTION + Duration::from_millis(200)).await;
        for device in 0..4 {
            publish(&mut publisher, &format!("retention/{device}"), "young").await;
        }
        let (mut phone, present) = connect(proxy.mqtt, greeting).await;
        assert!(present);
        for _ in 0..4 {
            assert_eq!(message(&mut phone).await, "young");
        }
        quiet(&mut phone).await;
    });
}

#[test]
fn what_is_not_acknowledged_comes_again_after_a_takeover() {
    let kafka = shared_kafka();
    kafka.topic("takeover", 1);
    let (a, b) = (instance(&kafka, "takeover", ""), instance(&kafka, "takeover", ""));
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let mut publisher = Client::connect(b.mqtt, Version::V5, "car").await.unwrap();
        let (mut former, _) = connect(a.mqtt, greeting).await;
        former.subscribe("takeover/+", 1).await.unwrap();
        publish(&mut publisher, "takeover/1", "one").await;
        publish(&mut publisher, "takeover/1", "two").await;
        assert_eq!(message(&mut former).await, "one");
        let two = former.next_within(DEADLINE).await.unwrap();
        assert!(matches!(two, Event::Publish { ref payload, .. } if payload == "two"), "{two:?}");
        let (mut phone, present) = connect(b.mqtt, greeting).await;
        assert!(present);
        assert_eq!(former.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8e));
        // Where the former one was, and it alone knows of it.
        let told = |line: &str| {
            ["event=\"takeover\" client=\"phone\"", "reason=\"client_id_taken\""]
                .iter()
                .all(|part| line.contains(part))
        };
        assert_eq!([&a, &b].map(|proxy| proxy.log().lines().filter(|line| told(line)).count()), [1, 0]);
        // A report may not have told that the first was acknowledged.
        let mut again = message(&mut phone).await;
        if again == "one" {
            again = message(&mut phone).await;
        }
        assert_eq!(again, "two");
        quiet(&mut phone).await;
        // At a disconnect positions are written at once.
        phone.goodbye().await.unwrap();
        let (mut phone, _) = connect(b.mqtt, greeting).await;

        let mut took = Vec::new();
        for round in 0..40 {
            let home = if round % 2 == 0 { &a } else { &b };
            let started = Instant::now();
            let (next, present) = connect(home.mqtt, greeting).await;
            took.push(started.elapsed());
            assert!(present, "{round}");
            assert_eq!(phone.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8e));
            phone = next;
        }
        took.sort();
        println!("takeover: p50 {:?}, longest {:?}", took[took.len() / 2], took[took.len() - 1]);
    });
}

#[test]
fn a_session_that_gets_little_does_not_stay_behind_in_the_log() {
    let kafka = shared_kafka();
    kafka.topic("forward", 1);
    let proxy = instance(&kafka, "forward", "");
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
        let (mut phone, _) = connect(proxy.mqtt, greeting).await;
        phone.subscribe("forward/1", 1).await.unwrap();
        publish(&mut publisher, "forward/1", "mine").await;
        assert_eq!(message(&mut phone).await, "mine");
        for number in 0..50 {
            publish(&mut publisher, "forward/2", &format!("another's {number}")).await;
        }
        // The feed comes by all of it at its own pace.
        let begun = Instant::now();
        loop {
            phone.goodbye().await.unwrap();
            let positions = || {
                kafka
                    .consume("forward-sessions", "%k %s")
                    .into_iter()
                    .rfind(|line| line.starts_with("state:phone@"))
            };
            let written = eventually("the end of the connection is written", || {
                positions().filter(|line| line.contains("\"connected\":false"))
            });
            if written.contains("@51\"]") {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{written}");
            phone = connect(proxy.mqtt, greeting).await.0;
        }
        publish(&mut publisher, "forward/1", "mine too").await;
        let (mut phone, present) = connect(proxy.mqtt, greeting).await;
        assert!(present);
        assert_eq!(message(&mut phone).await, "mine too");
    });
}

#[test]
fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
    let kafka = shared_kafka();
    kafka.topic("anew", 1);
    let proxy = instance(&kafka, "anew", "");
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let (mut phone, _) = connect(proxy.mqtt, greeting).await;
        phone.subscribe("anew/+", 1).await.unwrap();
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
        for number in 0..10 {
            publish(&mut publisher, "anew/1", &number.to_string()).await;
            assert_eq!(message(&mut phone).await, number.to_string());
        }
        phone.goodbye().await.unwrap();
    });
    delete_topic(&kafka.bootstrap, "anew");
    kafka.topic("anew", 1);
    kafka.produce("anew", "1", &[], "the first of the new one");
    let proxy = instance(&kafka, "anew", "");
    runtime().block_on(async {
        let (mut phone, present) = connect(proxy.mqtt, greeting).await;
        assert!(present);
        assert_eq!(message(&mut phone).await, "the first of the new one");
    });
}

/// One that is there when they subscribe makes room for one that is not, and for one that was deleted.
#[test]
fn a_topic_that_appears_is_read_from_its_beginning_by_those_who_have_waited_for_it() {
    let kafka = shared_kafka();
    kafka.topic("appears-first", 1);
    kafka.topic("appears-again", 1);
    let rules = ["first", "again", "later"].map(|name| {
        format!("  - {{name: {name}, mqtt: \"appears/{name}/{{device}}\", kafka: {{topic: appears-{name}, key: \"{{device}}\"}}}}")
    });
    let proxy = || {
        Proxy::start(
            &kafka.bootstrap,
            &format!("{}\nsessions: {{expiry: {{}}, instance_timeout: 2s}}", rules.join("\n")),
            ", topics: {sessions: appears-sessions, retained: appears-retained, partitions: 4, replication: 1}",
        )
    };
    let (one, other) = (proxy(), proxy());
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let (mut phone, _) = connect(one.mqtt, greeting).await;
        phone.subscribe("appears/#", 1).await.unwrap();
        kafka.produce("appears-again", "1", &[], "before");
        assert_eq!(message(&mut phone).await, "before");
        phone.goodbye().await.unwrap();
        delete_topic(&kafka.bootstrap, "appears-again");
        let mut plain = Client::connect(one.mqtt, Version::V5, "plain").await.unwrap();
        plain.subscribe("appears/#", 1).await.unwrap();
        let (mut phone, present) = connect(other.mqtt, greeting).await;
        assert!(present);
        for topic in ["later", "again"] {
            let topic = format!("appears-{topic}");
            kafka.topic(&topic, 2);
            for value in ["the first", "the second"] {
                kafka.produce(&topic, "1", &[], value);
                for device in [&mut phone, &mut plain] {
                    assert_eq!(message(device).await, value, "{topic}");
                }
            }
        }
        // Another instance goes on where this one was.
        phone.goodbye().await.unwrap();
        kafka.produce("appears-again", "1", &[], "meanwhile");
        let (mut phone, _) = connect(one.mqtt, greeting).await;
        assert_eq!(message(&mut phone).await, "meanwhile");
        quiet(&mut phone).await;
    });
}

/// A subscriber with a session, for as long as its arguments say.
fn mosquitto(proxy: &Proxy, arguments: &[&str]) -> Command {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &proxy.mqtt.port().to_string()]);
    command.args(["-V", "mqttv5", "-c", "-x", "600", "-i", "away", "-q", "1", "-t", "remaining/+"]);
    command.args(arguments);
    command
}

/// Version 3.1.1 has no session expiry: with clean session 0 it is what the configuration says.
#[test]
fn a_client_of_version_3_1_1_without_clean_session_goes_on_elsewhere() {
    let kafka = shared_kafka();
    kafka.topic("persists", 1);
    let settings = format!("{}\nsessions: {{expiry: {{default: 1234s}}}}", rule("persists", ""));
    let topics = ", topics: {sessions: persists-sessions, retained: persists-retained, partitions: 1, replication: 1}";
    let start = || Proxy::start(&kafka.bootstrap, &settings, topics);
    let (a, b) = (start(), start());
    let old = |proxy: &Proxy, more: &[&str]| {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &proxy.mqtt.port().to_string()]);
        command.args(["-V", "mqttv311", "-c", "-i", "old", "-q", "1", "-t", "persists/+"]);
        command.args(more);
        command
    };
    assert!(old(&a, &["-E"]).status().unwrap().success());
    for number in 0..3 {
        kafka.produce("persists", "7", &[], &number.to_string());
    }
    let back = Subscriber::start(&mut old(&b, &["-d", "-F", "message %t|%p"]), "received CONNACK");
    for number in 0..3 {
        assert_eq!(back.message(), format!("message persists/7|{number}"));
    }
    let records = kafka.consume("persists-sessions", "%k|%S|%h %s");
    let is_state = |line: &&String| line.starts_with("state:old@") && !line.contains("|-1|");
    let states: Vec<_> = records.iter().filter(is_state).collect();
    let as_configured = |line: &&String| line.contains("expiry=1234") && line.contains("\"expiry\":1234");
    assert!(!states.is_empty() && states.iter().all(as_configured), "{records:#?}");
}

#[test]
fn what_is_over_by_the_return_is_left_out_and_the_rest_says_how_long_it_is_good_for() {
    let kafka = shared_kafka();
    kafka.topic("remaining", 1);
    let proxy = instance(&kafka, "remaining", "");
    assert!(mosquitto(&proxy, &["-E"]).status().unwrap().success());
    for (expiry, value) in [("1", "short"), ("600", "long"), ("1", "short, too")] {
        kafka.produce("remaining", "7", &[&format!("mqtt.expiry={expiry}")], value);
    }
    kafka.produce("remaining", "7", &[], "for ever");
    // The time that the last of the short ones has.
    std::thread::sleep(Duration::from_millis(1100));
    let back = Subscriber::start(&mut mosquitto(&proxy, &["-d", "-F", "message %E|%p"]), "received CONNACK");
    let long = back.message();
    let left: u64 = long
        .strip_prefix("message ")
        .and_then(|rest| rest.strip_suffix("|long"))
        .unwrap()
        .parse()
        .unwrap();
    assert!((540..=599).contains(&left), "{long}");
    assert_eq!(back.message(), "message |for ever");
}
