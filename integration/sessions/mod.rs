//! Sessions that live in Kafka: two instances of the proxy, which share nothing but the cluster.

mod buried;
mod checkpoints;
mod damaged;
mod endings;
mod flow;
mod hopping;
mod killed;
mod leaving;
mod once;
mod operators;
mod paused;
mod repeated;
mod resume;
pub mod sharing;
mod single;
mod steps;
mod tables;
mod transforms;
mod wills;

use std::net::SocketAddr;
use std::time::Duration;

use crate::load::client::{Client, Event, Version};
use crate::stage::{DEADLINE, Kafka, Proxy};
use tokio::runtime::Runtime;

/// A CONNECT of version 5.
#[derive(Clone, Copy, Debug, Default)]
struct Greeting<'a> {
    client: &'a str,
    clean: bool,
    /// Session expiry interval, seconds.
    expiry: u32,
    /// Topic, payload, delay.
    will: Option<(&'a str, &'a str, u32)>,
    /// Whether that is retained.
    retain: bool,
    /// Receive maximum.
    window: Option<u16>,
}

impl<'a> Greeting<'a> {
    /// Of a client whose session outlives its connections by ten minutes.
    fn staying(client: &'a str) -> Self {
        Self {
            client,
            expiry: 600,
            ..Self::default()
        }
    }

    fn encode(&self) -> Vec<u8> {
        let text = |text: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        let mut body = Vec::new();
        text("MQTT", &mut body);
        // Wills have QoS 1.
        let flags = u8::from(self.clean) << 1 | if self.will.is_some() { 0x0c } else { 0 } | u8::from(self.retain) << 5;
        let window = self.window.map(u16::to_be_bytes);
        body.extend_from_slice(&[5, flags, 0, 0, if window.is_some() { 8 } else { 5 }, 0x11]);
        body.extend_from_slice(&self.expiry.to_be_bytes());
        if let Some([high, low]) = window {
            body.extend_from_slice(&[0x21, high, low]);
        }
        text(self.client, &mut body);
        if let Some((topic, payload, delay)) = self.will {
            body.extend_from_slice(&[5, 0x18]);
            body.extend_from_slice(&delay.to_be_bytes());
            text(topic, &mut body);
            text(payload, &mut body);
        }
        assert!(body.len() < 128, "one byte says the length");
        [&[0x10, body.len() as u8][..], &body].concat()
    }
}

/// Connects; whether a session was present.
async fn connect(at: SocketAddr, greeting: Greeting<'_>) -> (Client, bool) {
    let mut client = Client::open(at, Version::V5).await.unwrap();
    client.output.extend_from_slice(&greeting.encode());
    client.flush().await.unwrap();
    match client.next_within(DEADLINE).await.unwrap() {
        Event::ConnAck {
            present, accepted: true, ..
        } => (client, present),
        other => panic!("{greeting:?} was answered {other:?}"),
    }
}

/// Publishes at QoS 1 and waits for the answer.
pub async fn publish(client: &mut Client, topic: &str, payload: &str) {
    client.publish(topic, 1, 1, payload.as_bytes()).unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(1, 0));
}

/// The payload of the next message, which is acknowledged.
pub async fn message(client: &mut Client) -> String {
    loop {
        let event = client.next_within(DEADLINE).await.unwrap();
        client.answer(&event).unwrap();
        client.flush().await.unwrap();
        if let Event::Publish { payload, .. } = event {
            return String::from_utf8(payload.to_vec()).unwrap();
        }
    }
}

/// Nothing more comes for a moment.
async fn quiet(client: &mut Client) {
    let more = client.next_within(Duration::from_millis(300)).await;
    assert!(more.is_err(), "{more:?}");
}

/// An instance whose sessions lie in a topic of the test's own.
fn instance(kafka: &Kafka, name: &str, sessions: &str) -> Proxy {
    instance_in(&[], kafka, name, sessions)
}

/// The same with variables in its environment.
fn instance_in(environment: &[(&str, &str)], kafka: &Kafka, name: &str, sessions: &str) -> Proxy {
    instance_of(environment, kafka, name, &rule(name, ""), sessions)
}

/// A rule from `name/+` to a Kafka topic of that name; `more` of its keys.
fn rule(name: &str, more: &str) -> String {
    format!("  - {{name: {name}{more}, mqtt: \"{name}/{{device}}\", kafka: {{topic: {name}, key: \"{{device}}\"}}}}")
}

/// The same with rules of its own.
fn instance_of(environment: &[(&str, &str)], kafka: &Kafka, name: &str, rules: &str, sessions: &str) -> Proxy {
    let topics = format!(", topics: {{sessions: {name}-sessions, retained: {name}-retained, partitions: 4, replication: 1}}");
    Proxy::start_in(
        environment,
        &kafka.bootstrap,
        &format!("{rules}\nsessions: {{expiry: {{}}, instance_timeout: 2s{sessions}}}"),
        &topics,
    )
}

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}
