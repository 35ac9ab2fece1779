//! What an operator is told of stored sessions, without a word from an instance.

use std::process::{Command, Output};

use super::{Greeting, connect, instance, runtime};
use crate::load::client::Event;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, eventually};

fn sessions(proxy: &Proxy, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
        .arg("sessions")
        .args(arguments)
        .arg("-c")
        .arg(proxy.configuration())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn sessions_are_listed_and_shown_from_the_topic_itself() {
    let kafka = shared_kafka();
    kafka.topic("listed", 1);
    let proxy = instance(&kafka, "listed", "");
    let here = Greeting::staying("here");
    let away = Greeting {
        client: "gone for a while",
        ..here
    };
    runtime().block_on(async {
        let (mut client, _) = connect(proxy.mqtt, here).await;
        assert_eq!(client.subscribe("listed/+", 1).await.unwrap(), 1);
        connect(proxy.mqtt, away).await.0.goodbye().await.unwrap();
        // The end of a connection is written when the instance has noticed it.
        let lines = eventually("both are listed as they are", || {
            let text = text(&sessions(&proxy, &["list"]));
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            (lines.len() == 3 && lines[1].starts_with("away ")).then_some(lines)
        });
        assert!(lines[0].starts_with("STANDING"), "{lines:?}");
        assert!(
            lines[1].ends_with(r#""gone for a while""#) && (lines[1].contains(" in 9m") || lines[1].contains(" in 10m ")),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("connected ") && lines[2].ends_with(" here"), "{lines:?}");
        eventually("the metrics count both", || {
            let index = proxy.metric(&["stored_sessions_index_bytes"]);
            (proxy.metric(&["proxy_stored_sessions "]) == 2.0 && index > 0.0).then_some(())
        });
        let shown = text(&sessions(&proxy, &["show", "here", "--json"]));
        for part in [
            r#"{"client":"here","standing":"connected","#,
            r#""state":{"v":1,"#,
            r#""filter":"listed/+","qos":1"#,
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let shown = text(&sessions(&proxy, &["show", "gone for a while"]));
        assert!(shown.contains("standing   away\n"), "{shown}");
        client.goodbye().await.unwrap();
    });
    let nobody = sessions(&proxy, &["show", "nobody"]);
    assert_eq!(nobody.status.code(), Some(66));
    assert!(nobody.stdout.is_empty() && !nobody.stderr.is_empty(), "{nobody:?}");
}

#[test]
fn a_session_ends_at_an_operators_word_wherever_its_client_is() {
    let kafka = shared_kafka();
    kafka.topic("ended", 1);
    let proxy = instance(&kafka, "ended", "");
    let [here, away] = ["here", "away"].map(Greeting::staying);
    let passing = Greeting {
        client: "passing",
        clean: true,
        ..Greeting::default()
    };
    runtime().block_on(async {
        let (mut client, _) = connect(proxy.mqtt, here).await;
        // Nothing of it is stored; its claim is written a moment after its CONNACK.
        let (mut passer, _) = connect(proxy.mqtt, passing).await;
        connect(proxy.mqtt, away).await.0.goodbye().await.unwrap();
        eventually("it is claimed", || {
            let keys = kafka.consume("ended-sessions", "%k");
            keys.iter().any(|key| key == "claim:passing").then_some(())
        });
        for name in ["here", "away", "passing"] {
            text(&sessions(&proxy, &["end", name]));
            for word in ["show", "end"] {
                assert_eq!(sessions(&proxy, &[word, name]).status.code(), Some(66), "{word} {name}");
            }
        }
        // Administrative action
        for client in [&mut client, &mut passer] {
            assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x98));
        }
        for name in ["here", "passing"] {
            let said = format!("client=\"{name}\"");
            let log = proxy.log();
            assert!(
                log.lines()
                    .any(|line| line.contains("an operator ends a session") && line.contains(&said)),
                "{log}"
            );
        }
        for greeting in [here, away] {
            let (client, present) = connect(proxy.mqtt, greeting).await;
            assert!(!present, "{greeting:?}");
            client.goodbye().await.unwrap();
        }
    });
    let nobody = sessions(&proxy, &["end", "nobody"]);
    assert_eq!(nobody.status.code(), Some(66));
    assert!(nobody.stdout.is_empty() && !nobody.stderr.is_empty(), "{nobody:?}");
    let keys = kafka.consume("ended-sessions", "%k");
    assert!(!keys.iter().any(|key| key.contains("nobody")), "{keys:?}");
}
