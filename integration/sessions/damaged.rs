//! Records of the sessions' topic that cannot be read: of a later build, torn, or none of the proxy's at all.

use super::{Greeting, connect, instance, message, publish, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, output};

/// Its CONNECT is answered with 0x88 as soon as the record is read by the tail, which is after kcat was told that it is there.
fn refused(proxy: &Proxy, client: &str) {
    eventually("it is refused", || {
        let answer = runtime().block_on(async {
            let mut connection = Client::open(proxy.mqtt, Version::V5).await.unwrap();
            connection.output.extend_from_slice(&Greeting::staying(client).encode());
            connection.flush().await.unwrap();
            connection.next_within(DEADLINE).await.unwrap()
        });
        matches!(answer, Event::ConnAck { accepted: false, detail, .. } if detail.contains("ServerUnavailable")).then_some(())
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
        refused(&proxy, broken);
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

/// Writes a record of a client's session under its last claim, beside its state.
fn beside(kafka: &Kafka, name: &str, (kind, client): (&str, &str), Damage(text, headers): Damage) {
    let records = kafka.consume(&format!("{name}-sessions"), "%p %k");
    let state = format!(" state:{client}@");
    let last = records.iter().rfind(|line| line.contains(&state)).unwrap();
    let (partition, claim) = (last.split(' ').next().unwrap(), last.rsplit('@').next().unwrap());
    let key = match kind {
        "claim" => format!("claim:{client}"),
        kind => format!("{kind}:{client}@{claim}"),
    };
    put(kafka, name, partition, &key, (text, headers));
}

fn put(kafka: &Kafka, name: &str, partition: &str, key: &str, (text, headers): (&str, &str)) {
    let line = format!(
        "printf '%s' '{text}' | kcat -P -b {} -t {name}-sessions -p {partition} -k \"$(printf '{key}')\" {headers}",
        kafka.bootstrap
    );
    output("bash", &["-c", &line]);
}

/// Its headers say less than they must, and the end of its text is missing.
const CUT: Damage = Damage(r#"{"v":1,"n":99,"owner":"pro"#, "-H v=1 -H n=99");

/// Steps cost their client a refusal, as a state does: where it stands is not known. A claim or a bid takes the session, whoever's it is, and its client is back at once.
#[test]
fn steps_claims_and_bids_that_cannot_be_read_and_keys_that_are_none_hurt_nobody_else() {
    let kafka = shared_kafka();
    kafka.topic("beside", 1);
    let proxy = instance(&kafka, "beside", "");
    let own_runtime = runtime();
    let broken = |kind: &'static str| [(kind, format!("{kind}-later"), LATER), (kind, format!("{kind}-cut"), CUT)];
    let (mut whole, mut taken) = own_runtime.block_on(async {
        let (mut whole, _) = connect(proxy.mqtt, Greeting::staying("whole")).await;
        whole.subscribe("beside/+", 1).await.unwrap();
        for (_, client, _) in broken("steps") {
            let (mut client, _) = connect(proxy.mqtt, Greeting::staying(&client)).await;
            client.subscribe("beside/+", 1).await.unwrap();
            client.goodbye().await.unwrap();
        }
        let mut taken = Vec::new();
        for (kind, name, damage) in [broken("claim"), broken("bid")].into_iter().flatten() {
            let (mut client, _) = connect(proxy.mqtt, Greeting::staying(&name)).await;
            client.subscribe("beside/+", 1).await.unwrap();
            taken.push((kind, name, damage, client));
        }
        (whole, taken)
    });
    for (kind, client, damage) in broken("steps") {
        beside(&kafka, "beside", (kind, &client), damage);
        refused(&proxy, &client);
        let told = |line: &str| line.contains("a stored session is refused") && line.contains(&client);
        assert!(proxy.log().lines().any(told), "{}", proxy.log());
    }
    for (kind, name, damage, client) in &mut taken {
        beside(&kafka, "beside", (kind, name), *damage);
        own_runtime.block_on(async {
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8e), "{name}");
            let (returned, present) = connect(proxy.mqtt, Greeting::staying(name)).await;
            assert!(present, "{name}");
            *client = returned;
        });
    }
    let own = proxy.log();
    assert!(!own.contains("panicked"), "{own}");
    for partition in ["0", "1", "2", "3"] {
        // The last two are no text, and longer than any client identifier may be.
        let long = format!("claim:{}", "x".repeat(66_000));
        for key in [
            "checkpoint:nobody",
            "claim:",
            "state:whole",
            "state:whole@x",
            "steps:whole@-7",
            "nonsense",
            "\\377",
            &long,
        ] {
            put(&kafka, "beside", partition, key, (CUT.0, CUT.1));
        }
    }
    own_runtime.block_on(async {
        // A session of each partition is stored and found again behind all that.
        for number in 0..8 {
            let later = format!("later-{number}");
            let (client, present) = connect(proxy.mqtt, Greeting::staying(&later)).await;
            assert!(!present);
            client.goodbye().await.unwrap();
            assert!(connect(proxy.mqtt, Greeting::staying(&later)).await.1);
        }
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
        publish(&mut publisher, "beside/1", "fine").await;
        assert_eq!(message(&mut whole).await, "fine");
        for (_, name, _, client) in &mut taken {
            assert_eq!(message(client).await, "fine", "{name}");
        }
    });
}
