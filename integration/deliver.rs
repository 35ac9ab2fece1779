//! Kafka's records reach devices: those of any Kafka producer, by any client, and one fetch serves all.

use crate::load::publish::{Progress, run};
use crate::load::{client::Version, ledger, subscribe};
use crate::publish::{crowd, rule};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, free_base, root};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// A subscribing program whose lines are read as they come.
pub struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    /// Returns once the program has said that its SUBACK came.
    pub fn start(command: &mut Command, subscribed: &str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("make test installs the clients");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let subscriber = Self { child, lines };
        while !subscriber.line().contains(subscribed) {}
        subscriber
    }

    pub fn mosquitto(proxy: &Proxy, version: &str, filter: &str) -> Self {
        // Its own standard output is buffered by the block when it is a pipe.
        let mut command = Command::new("stdbuf");
        command.args([
            "-oL",
            "mosquitto_sub",
            "-d",
            "-h",
            "127.0.0.1",
            "-p",
            &proxy.mqtt.port().to_string(),
        ]);
        command.args(["-V", version, "-i", version, "-q", "2", "-t", filter, "-F", "message %t|%q|%p"]);
        Self::start(&mut command, "Subscribed")
    }

    pub fn paho(proxy: &Proxy, version: &str, filter: &str) -> Self {
        let mut command = Command::new(root().join(".run/python/bin/python"));
        command.arg(root().join("integration/paho_subscribe.py"));
        command.args(["127.0.0.1", &proxy.mqtt.port().to_string(), version, "2", "1", filter]);
        Self::start(&mut command, "subscribed")
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("the subscriber says more")
    }

    /// The next message, without what the program says beside.
    pub fn message(&self) -> String {
        loop {
            let line = self.line();
            if line.contains('|') {
                return line;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records of `NAME`, as commands to the device that is their key.
pub const COMMANDS: &str = "  - {name: NAME, direction: subscribe, mqtt: \"NAME/{key}/commands\", kafka: {topic: NAME}, qos: 1}";

#[test]
fn a_record_of_kcat_reaches_mosquitto_and_paho_of_either_version() {
    let kafka = shared_kafka();
    kafka.topic("foreign", 3);
    let proxy = Proxy::start(&kafka.bootstrap, &COMMANDS.replace("NAME", "foreign"), "");
    let mosquittos = ["mqttv311", "mqttv5"].map(|version| Subscriber::mosquitto(&proxy, version, "foreign/42/commands"));
    let pahos = ["4", "5"].map(|version| Subscriber::paho(&proxy, version, "foreign/+/commands"));
    kafka.produce("foreign", "42", &["origin=backend"], "unlock");
    for subscriber in &mosquittos {
        assert_eq!(subscriber.message(), "message foreign/42/commands|1|unlock");
    }
    assert_eq!(pahos[0].message(), "foreign/42/commands|1|unlock|");
    assert_eq!(pahos[1].message(), "foreign/42/commands|1|unlock|origin=backend");
}

#[test]
fn a_subscriber_gets_only_what_its_filter_matches() {
    let kafka = shared_kafka();
    kafka.topic("choosy", 3);
    let proxy = Proxy::start(&kafka.bootstrap, &COMMANDS.replace("NAME", "choosy"), "");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "choosy/42/commands");
    for (key, value) in [("41", "not for it"), ("42", "first"), ("43", "nor this"), ("42", "second")] {
        kafka.produce("choosy", key, &[], value);
    }
    assert_eq!(subscriber.message(), "message choosy/42/commands|1|first");
    assert_eq!(subscriber.message(), "message choosy/42/commands|1|second");
}

/// Ten clients publish, twenty subscribers each get all of it, in order.
fn broadcast(proxy: &Proxy, topic: &str, messages: u64) {
    let clients = 10;
    let load = crowd(proxy.mqtt, topic, clients, messages);
    let audience = subscribe::Audience {
        address: proxy.mqtt,
        version: Version::V5,
        clients: 20,
        filter: format!("{topic}/+/telemetry/#"),
        qos: 1,
        receive_maximum: None,
        name: "seat-".to_owned(),
        patience: DEADLINE,
    };
    let received = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let seated = subscribe::seat(&audience).await.unwrap();
        let all = tokio::spawn(seated.receive(u64::from(clients) * messages));
        let report = run(&load, &Arc::new(Progress::default())).await.unwrap();
        assert_eq!(report.acknowledged, u64::from(clients) * messages);
        all.await.unwrap().unwrap()
    });
    assert_eq!(received.len(), 20);
    for one in received {
        one.ledger.exact(clients, messages).unwrap();
    }
}

#[test]
fn twenty_subscribers_get_every_message_in_order_and_cost_one_fetch() {
    let kafka = shared_kafka();
    kafka.topic("audience", 4);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("audience"), "");
    broadcast(&proxy, "audience", 500);
    // What was written was read about once: not twenty times.
    let (written, read) = (proxy.metric(&["kafka_produced_bytes"]), proxy.metric(&["kafka_fetched_bytes"]));
    assert!(read > 0.0 && read < 2.0 * written, "{written} bytes written, {read} read");
}

#[test]
fn partitions_of_three_brokers_are_written_and_read() {
    let kafka = Kafka::start_on(free_base(3), 3);
    kafka.topic("three", 6);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("three"), "");
    broadcast(&proxy, "three", 200);
    ledger::read_topic(&kafka.bootstrap, "three").unwrap().exact(10, 200).unwrap();
}
