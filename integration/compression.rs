//! Every codec, both ways: what the proxy compresses is read by librdkafka (kcat) and by the Java client, and what these compress is
//! read by the proxy and delivered.

use crate::load::client::Version;
use crate::load::ledger::{self, Ledger, Stamp};
use crate::load::publish::{Progress, run};
use crate::load::subscribe::{Audience, seat};
use crate::publish::{crowd, rule};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, root};
use mqtt_kafka_proxy::upstream::{Cluster, Settings, Start, TopicState};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Names as all clients and `proxy.yaml` know them, and what the attributes of a batch say.
const CODECS: [(&str, i16); 5] = [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];
const MESSAGES: u64 = 2000;
const CLIENTS: u32 = 5;
/// Numbers of the other producers in their stamps.
const KCAT: u32 = 0;
const JAVA: u32 = 1;

/// The Java client, through `integration/kafka/Client.java`.
fn java(arguments: &[&str]) -> Command {
    let mut command = Command::new(root().join("integration/kafka/kafka"));
    command
        .arg("java")
        .arg(root().join("integration/kafka/Client.java"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped());
    command
}

/// Runs a program that reads `input` to its end and ends with 0; its output as text.
pub fn fed(command: &mut Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Lines with the stamps of one producer's messages.
fn stamped(client: u32) -> String {
    let line = |sequence| {
        let mut payload = [b'x'; 100];
        let stamp = Stamp {
            client,
            sequence,
            micros: 0,
        };
        stamp.write(&mut payload);
        String::from_utf8(payload.to_vec()).unwrap() + "\n"
    };
    (0..MESSAGES).map(line).collect()
}

/// The codecs that the batches of a topic are stored with.
async fn stored_codecs(kafka: &Kafka, topic: &str, records: u64) -> BTreeSet<i16> {
    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec![kafka.bootstrap.clone()],
        ..Settings::default()
    });
    let TopicState::Ready(topic) = cluster.topic_known(topic).await else {
        panic!("{topic} is there")
    };
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    let (mut codecs, mut next) = (BTreeSet::new(), 0);
    while next < records as i64 {
        let chunk = tokio::time::timeout(DEADLINE, reader.next()).await.unwrap().unwrap();
        next = chunk.next_offset;
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let length = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
            codecs.insert(i16::from_be_bytes(rest[21..23].try_into().unwrap()) & 7);
            rest = &rest[length..];
        }
    }
    codecs
}

/// A batch that a codec would make larger is stored as it is, so beside the codec there may be none.
fn assert_codec(stored: &BTreeSet<i16>, codec: i16, whose: &str) {
    assert!(stored.contains(&codec), "{whose}: stored with {stored:?}");
    assert!(
        stored.iter().all(|one| *one == codec || *one == 0),
        "{whose}: stored with {stored:?}"
    );
}

/// What the proxy compresses with each codec is stored so, and read by kcat. Gives the topics.
pub fn ours_is_read_by_kcat(kafka: &Kafka, runtime: &Runtime) -> [String; 5] {
    let topic = |codec: &str| format!("ours-{codec}");
    let rules = CODECS.map(|(codec, _)| rule(&topic(codec)).replace("headers:", &format!("compression: {codec}, headers:")));
    CODECS.iter().for_each(|(codec, _)| kafka.topic(&topic(codec), 1));
    let proxy = Proxy::start(&kafka.bootstrap, &rules.join("\n"), "");
    for (codec, number) in CODECS {
        let topic = topic(codec);
        let counted = || ["kafka_produced_bytes", "kafka_produced_uncompressed_bytes"].map(|name| proxy.metric(&[name]));
        let before = counted();
        let report = runtime
            .block_on(run(&crowd(proxy.mqtt, &topic, CLIENTS, MESSAGES), &Arc::new(Progress::default())))
            .unwrap();
        assert_eq!(report.acknowledged, u64::from(CLIENTS) * MESSAGES, "{codec}");
        let [sent, plain] = [0, 1].map(|at| counted()[at] - before[at]);
        // 61 bytes of header in front of some 160 bytes for each record at least.
        assert!(plain > (u64::from(CLIENTS) * MESSAGES * 120) as f64, "{codec}: {plain} bytes");
        assert_eq!(sent < plain * 0.7, codec != "none", "{codec}: {plain} bytes became {sent}");
        assert!(codec != "none" || sent == plain, "{plain} bytes became {sent}");
        ledger::read_topic(&kafka.bootstrap, &topic)
            .unwrap()
            .exact(CLIENTS, MESSAGES)
            .unwrap();
        let stored = runtime.block_on(stored_codecs(kafka, &topic, u64::from(CLIENTS) * MESSAGES));
        assert_codec(&stored, number, &topic);
    }
    CODECS.map(|(codec, _)| topic(codec))
}

#[test]
fn what_the_proxy_compresses_is_read_by_kcat_and_by_the_java_client() {
    let kafka = shared_kafka();
    let topics = ours_is_read_by_kcat(&kafka, &Runtime::new().unwrap());
    let count = (u64::from(CLIENTS) * MESSAGES).to_string();
    let mut arguments = vec!["consume", &kafka.bootstrap, &count];
    arguments.extend(topics.iter().map(String::as_str));
    let read = fed(&mut java(&arguments), "");
    for topic in &topics {
        let mut ledger = Ledger::default();
        for line in read.lines().filter_map(|line| line.strip_prefix(topic.as_str())) {
            let mut words = line.split_whitespace();
            let partition = words.next().unwrap().parse().unwrap();
            ledger.observe_in(Some(partition), words.next().unwrap().as_bytes());
        }
        ledger
            .exact(CLIENTS, MESSAGES)
            .unwrap_or_else(|why| panic!("Java reads {topic}: {why}"));
    }
}

#[test]
fn what_kcat_and_the_java_client_compress_is_delivered() {
    let kafka = shared_kafka();
    theirs_is_delivered(&kafka, &Runtime::new().unwrap(), true);
}

/// What kcat compresses with each codec reaches a subscriber, and what the Java client does if `with_java`.
pub fn theirs_is_delivered(kafka: &Kafka, runtime: &Runtime, with_java: bool) {
    let topic = |codec: &str| format!("theirs-{codec}");
    let rule = |(codec, _)| {
        let topic = topic(codec);
        format!("  - {{name: {topic}, direction: subscribe, mqtt: \"{topic}/{{key}}\", kafka: {{topic: {topic}}}, qos: 1}}")
    };
    CODECS.iter().for_each(|(codec, _)| kafka.topic(&topic(codec), 1));
    let proxy = Proxy::start(&kafka.bootstrap, &CODECS.map(rule).join("\n"), "");
    let audience = |codec: &str| Audience {
        address: proxy.mqtt,
        version: Version::V5,
        clients: 1,
        filter: format!("{}/+", topic(codec)),
        qos: 1,
        receive_maximum: None,
        name: topic(codec),
        patience: DEADLINE,
    };
    let seated = CODECS.map(|(codec, _)| runtime.block_on(seat(&audience(codec))).unwrap());
    for (codec, _) in CODECS {
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &kafka.bootstrap, "-t", &topic(codec), "-k", "kcat", "-z", codec]);
        // So that what is read at once makes one batch, as in the Java client.
        kcat.args(["-X", "linger.ms=100"]);
        fed(&mut kcat, &stamped(KCAT));
    }
    if with_java {
        let targets = CODECS.map(|(codec, _)| format!("{}={codec}", topic(codec)));
        let mut arguments = vec!["produce", &kafka.bootstrap, "java"];
        arguments.extend(targets.iter().map(String::as_str));
        fed(&mut java(&arguments), &stamped(JAVA));
    }
    let producers = if with_java { JAVA } else { KCAT } + 1;
    let total = u64::from(producers) * MESSAGES;
    for ((codec, number), seated) in CODECS.into_iter().zip(seated) {
        let received = runtime.block_on(seated.receive(total)).unwrap();
        let whole = received[0].ledger.exact(producers, MESSAGES);
        whole.unwrap_or_else(|why| panic!("{codec}: {why}"));
        let stored = runtime.block_on(stored_codecs(kafka, &topic(codec), total));
        assert_codec(&stored, number, &topic(codec));
    }
}
