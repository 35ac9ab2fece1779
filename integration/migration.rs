//! A Confluent MQTT Proxy is replaced: its properties are imported, and the records of the same messages are those that it wrote.
//!
//! What it wrote says its documentation: the Kafka topic of the first expression of `topic.regex.list` that matches the whole MQTT topic, that
//! topic as the key, the payload as the value.

mod emqx;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::shared_kafka;
use crate::stage::{Proxy, eventually, free_addresses, output};

/// As `kafka-mqtt.properties` is written there; Kafka and the listener are this run's.
const PROPERTIES: &str = r"# Where MQTT clients connect
listeners=tcp://LISTENER
# Kafka
bootstrap.servers=PLAINTEXT://KAFKA
topic.regex.list=mig-temperature:.*temperature, mig-brightness:.*/(light|brightness), mig-lanes:lanes/\\d{1,2}/(?:in|out)/.*, mig-plain:plain/a.b
stream.threads.num=2
network.threads.num=2
producer.acks=all
producer.linger.ms=5
producer.compression.type=lz4
producer.enable.idempotence=true
confluent.topic.bootstrap.servers=PLAINTEXT://KAFKA
confluent.topic.replication.factor=1
";

/// MQTT topics, and where that proxy stored them. What no expression matched it stored nowhere.
const TOPICS: [(&str, Option<&str>); 15] = [
    ("car/engine/temperature", Some("mig-temperature")),
    ("temperature", Some("mig-temperature")),
    // The first that matches, though another does, too.
    ("house/light/temperature", Some("mig-temperature")),
    ("house/light", Some("mig-brightness")),
    ("/brightness", Some("mig-brightness")),
    ("house/ünten/light", Some("mig-brightness")),
    ("lanes/7/in/x", Some("mig-lanes")),
    ("lanes/42/out/a/b", Some("mig-lanes")),
    ("lanes/٤٢/out/x", None),
    ("lanes/123/in/x", None),
    ("plain/a.b", Some("mig-plain")),
    ("plain/a-b", Some("mig-plain")),
    // An expression matches the whole topic or not at all.
    ("plain/a.b/c", None),
    ("temperature/7", None),
    ("light", None),
];

/// The proxy that the import of another gateway's file configures. In its text stand `LISTENER` and `KAFKA` for where both are.
fn started(gateway: &str, name: &str, text: &str, bootstrap: &str) -> Proxy {
    let folder = tempfile::tempdir().expect("a folder for files").keep();
    let [mqtt, admin] = free_addresses();
    let text = text.replace("LISTENER", &mqtt.to_string()).replace("KAFKA", bootstrap);
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    let program = env!("CARGO_BIN_EXE_mqtt-kafka-proxy");
    let yaml = output(program, &["import", gateway, file.to_str().unwrap()]);
    assert!(!yaml.contains("To be decided"), "{yaml}");
    let settings = folder.join("proxy.yaml");
    // What nobody needs who only migrates, and this test does.
    fs::write(&settings, format!("{yaml}\nadmin: {{address: \"{admin}\"}}\n")).unwrap();
    Proxy::start_from(&settings, mqtt, admin)
}

/// `import confluent` of these properties: the proxy that it configures.
fn imported(bootstrap: &str) -> Proxy {
    started("confluent", "kafka-mqtt.properties", PROPERTIES, bootstrap)
}

fn publish(proxy: &Proxy, qos: usize, topic: &str, payload: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), payload).unwrap();
    let (port, qos) = (proxy.mqtt.port().to_string(), qos.to_string());
    let to = ["-h", "127.0.0.1", "-p", &port, "-V", "mqttv311", "-q", &qos, "-t", topic];
    output("mosquitto_pub", &[&to[..], &["-f", file.path().to_str().unwrap()]].concat());
}

#[test]
fn records_of_an_imported_confluent_proxy_are_those_that_it_wrote() {
    let kafka = shared_kafka();
    let stored: Vec<&str> = ["mig-temperature", "mig-brightness", "mig-lanes", "mig-plain"].into();
    stored.iter().for_each(|topic| kafka.topic(topic, 3));
    let proxy = imported(&kafka.bootstrap);
    let mut wanted: BTreeMap<&str, Vec<String>> = stored.iter().map(|topic| (*topic, vec![])).collect();
    for (at, (topic, kafka_topic)) in TOPICS.iter().enumerate() {
        // Of each quality of service, and not only text: a payload is stored as it is.
        let payload = [
            format!("{{\"at\": {at}}}").into_bytes(),
            vec![b'<', 0, 0x7f, b'>', b' ', b'A' + at as u8],
        ]
        .concat();
        publish(&proxy, at % 3, topic, &payload);
        let record = format!("{topic}|{}", String::from_utf8(payload).unwrap());
        wanted.entry(kafka_topic.unwrap_or("nowhere")).or_default().push(record);
    }
    let nowhere = wanted.remove("nowhere").unwrap();
    for (kafka_topic, mut records) in wanted {
        // Nobody answers QoS 0, so its record may come a moment later.
        let mut read = eventually(kafka_topic, || {
            let read = kafka.consume(kafka_topic, "%k|%s");
            (read.len() >= records.len()).then_some(read)
        });
        read.sort();
        records.sort();
        assert_eq!(read, records, "{kafka_topic}");
    }
    let dropped = || proxy.metric(&["refusals_total", "unmapped"]) as usize == nowhere.len();
    eventually("what no expression matches is acknowledged and counted", || dropped().then_some(()));
    // The partition of a key is that of any other producer of it.
    let theirs = ["temperature", "car/engine/temperature", "house/light/temperature"];
    let partitions = |records: Vec<String>| records.into_iter().collect::<std::collections::BTreeSet<_>>();
    let ours = partitions(kafka.consume("mig-temperature", "%k %p"));
    for key in theirs {
        let status = Command::new("sh")
            .args([
                "-c",
                "echo x | kcat -P -X partitioner=murmur2 -b \"$AT\" -t mig-temperature -k \"$KEY\"",
            ])
            .envs([("AT", kafka.bootstrap.as_str()), ("KEY", key)])
            .status();
        assert!(status.unwrap().success());
    }
    assert_eq!(partitions(kafka.consume("mig-temperature", "%k %p")), ours);
}

/// It took every SUBSCRIBE, and delivered nothing.
#[test]
fn a_client_that_subscribes_goes_on() {
    let kafka = shared_kafka();
    let proxy = imported(&kafka.bootstrap);
    let port = proxy.mqtt.port().to_string();
    let said = Command::new("mosquitto_sub")
        .args([
            "-d",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "mqttv311",
            "-q",
            "1",
            "-t",
            "any/#",
            "-E",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("Subscribed (mid: 1): 1"), "{said}");
}
