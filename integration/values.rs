//! Values with schemas between real devices, a real Kafka and a real registry.

mod confluent;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};

use crate::deliver::Subscriber;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually, free_address, output, root};
use confluent::confluent;

/// The registry of this run. It goes when the process does, which closes the script's input.
struct Registry {
    script: Child,
    address: SocketAddr,
}

/// Begins when the first test asks for it: it takes some ten seconds, in which other tests go on.
fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let address = free_address();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", std::process::id()));
        let mut script = Command::new(root().join("integration/registry/registry"))
            .args(["hold", &address.port().to_string()])
            .arg(&log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log.with_extension("script")).unwrap())
            .spawn()
            .expect("the registry's script can be run");
        let mut said = String::new();
        let _ = BufReader::new(script.stdout.take().unwrap()).read_line(&mut said);
        assert!(said.contains("http"), "the registry did not start: {}", log.display());
        Registry { script, address }
    })
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/apis/ccompat/v7")
}

impl Registry {
    fn url(&self) -> String {
        assert!(self.script.stdin.is_some(), "it is held");
        url(self.address)
    }

    /// Registers a version of a subject; the schema's id.
    fn register(&self, subject: &str, version: &Value) -> u64 {
        let body = version.to_string();
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "POST /apis/ccompat/v7/subjects/{subject}/versions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let id = answer.split_once("\"id\":").and_then(|(_, rest)| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        id.unwrap_or_else(|| panic!("{answer}"))
    }
}

const V1: &str = r#"{"type": "record", "name": "Reading", "fields": [{"name": "site", "type": "string"}]}"#;
const V2: &str = r#"{"type": "record", "name": "Reading", "fields": [{"name": "site", "type": "string"},
    {"name": "celsius", "type": "double", "default": 0}, {"name": "level", "type": ["null", "int"], "default": null}]}"#;

/// Publishes by mosquitto at QoS 1; returns once that is answered.
fn publish(proxy: &Proxy, topic: &str, payload: &str) {
    let port = proxy.mqtt.port().to_string();
    let arguments = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-V",
        "mqttv5",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ];
    output("mosquitto_pub", &arguments);
}

/// A proxy whose rule `name` writes values of this format to the topic `name`.
fn proxy(kafka: &Kafka, name: &str, format: &str, registry: &str, more: &str) -> Proxy {
    let rules = format!(
        "  - {{name: {name}, mqtt: \"{name}/{{key}}\", kafka: {{topic: {name}, key: \"{{key}}\"}}, \
         value: {{format: {format}, registry: \"{registry}\"{more}}}}}"
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let words = "the newest schema is known";
    eventually(words, || proxy.log().contains(words).then_some(()));
    proxy
}

#[test]
fn schemas_that_refer_to_others_are_found() {
    let (kafka, registry) = (shared_kafka(), registry());
    kafka.topic("proto", 1);
    kafka.topic("valid", 1);
    let unit = "syntax = \"proto3\"; package plant; enum Unit { NONE = 0; CELSIUS = 1; }";
    registry.register("unit", &json!({"schemaType": "PROTOBUF", "schema": unit}));
    let reading = "syntax = \"proto3\"; package plant; import \"unit.proto\"; message Other { int32 a = 1; }
        message Reading { string site = 1; Unit unit = 2; int64 total = 3; }";
    let references = json!([{"name": "unit.proto", "subject": "unit", "version": 1}]);
    registry.register(
        "proto-value",
        &json!({"schemaType": "PROTOBUF", "schema": reading, "references": references}),
    );
    let one = proxy(&kafka, "proto", "protobuf", &registry.url(), ", message: plant.Reading");
    let subscriber = Subscriber::mosquitto(&one, "mqttv311", "proto/#");
    publish(&one, "proto/x", r#"{"site": "bonn", "unit": "CELSIUS", "total": 5}"#);
    assert_eq!(
        subscriber.message(),
        r#"message proto/x|1|{"site":"bonn","total":"5","unit":"CELSIUS"}"#
    );
    publish(&one, "proto/x", r#"{"site": "bonn", "unit": "KELVIN"}"#);
    assert_eq!(one.metric(&["refusals_total", "schema_mismatch"]), 1.0);
    let site = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "string", "pattern": "^[a-z]+$"});
    registry.register("site", &json!({"schemaType": "JSON", "schema": site.to_string()}));
    // Names are resolved against where the schema says that it is.
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://example.com/valid.json", "type": "object",
        "required": ["site"], "properties": {"site": {"$ref": "site.json"}}});
    let references = json!([{"name": "site.json", "subject": "site", "version": 1}]);
    registry.register(
        "valid-value",
        &json!({"schemaType": "JSON", "schema": schema.to_string(), "references": references}),
    );
    let two = proxy(&kafka, "valid", "json_schema", &registry.url(), "");
    let subscriber = Subscriber::mosquitto(&two, "mqttv311", "valid/#");
    publish(&two, "valid/x", r#"{"site": "Bonn"}"#);
    // As it came, with all digits.
    publish(&two, "valid/x", r#"{"site": "bonn", "total": 12345678901234567.89}"#);
    assert_eq!(
        subscriber.message(),
        r#"message valid/x|1|{"site": "bonn", "total": 12345678901234567.89}"#
    );
    assert_eq!(two.metric(&["refusals_total", "schema_mismatch"]), 1.0);
}

#[test]
fn types_that_clients_bring_along_need_no_reference() {
    let (kafka, registry) = (shared_kafka(), registry());
    kafka.topic("dated", 1);
    let schema = "syntax = \"proto3\"; import \"google/type/date.proto\"; message Reading { google.type.Date day = 1; }";
    registry.register("dated-value", &json!({"schemaType": "PROTOBUF", "schema": schema}));
    let proxy = proxy(&kafka, "dated", "protobuf", &registry.url(), "");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv311", "dated/#");
    publish(&proxy, "dated/x", r#"{"day": {"year": 1969, "month": 7, "day": 20}}"#);
    assert_eq!(
        subscriber.message(),
        r#"message dated/x|1|{"day":{"day":20,"month":7,"year":1969}}"#
    );
}

/// Passes connections on to the registry, from now on; none while it is cut.
fn forward(from: SocketAddr, to: SocketAddr) -> Arc<Line> {
    let listener = TcpListener::bind(from).unwrap();
    let line = Arc::<Line>::default();
    let carried = line.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if carried.is_cut.load(SeqCst) {
                continue;
            }
            let Ok(registry) = TcpStream::connect(to) else { continue };
            carried.streams.lock().unwrap().push(stream.try_clone().unwrap());
            for (mut one, mut other) in
                [(&stream, &registry), (&registry, &stream)].map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
            {
                std::thread::spawn(move || std::io::copy(&mut one, &mut other));
            }
        }
    });
    line
}

#[derive(Default)]
struct Line {
    is_cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Line {
    fn cut(&self) {
        self.is_cut.store(true, SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            // It may be over already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.is_cut.store(false, SeqCst);
    }
}

#[test]
fn a_registry_that_comes_late_is_noticed() {
    let (kafka, registry) = (shared_kafka(), registry());
    kafka.topic("late", 1);
    registry.register("late-value", &json!({"schema": V2}));
    let from = free_address();
    let rules = format!(
        "  - {{name: late, mqtt: \"late/{{key}}\", kafka: {{topic: late, key: \"{{key}}\"}}, value: {{format: avro, registry: \"{}\"}}}}",
        url(from)
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let told = |words: &'static str| eventually(words, || proxy.log().contains(words).then_some(()));
    told("messages of its rules are refused");
    publish(&proxy, "late/x", r#"{"site": "bonn"}"#);
    assert_eq!(proxy.metric(&["refusals_total", "no_schema"]), 1.0);
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "late/#");
    forward(from, registry.address);
    told("the newest schema is known");
    publish(&proxy, "late/x", r#"{"site": "bonn"}"#);
    assert_eq!(
        subscriber.message(),
        r#"message late/x|1|{"celsius":0.0,"level":null,"site":"bonn"}"#
    );
}

#[test]
fn a_registry_that_is_lost_takes_away_nothing_that_is_known_and_on_error_says_what_becomes_of_the_rest() {
    let (kafka, registry) = (shared_kafka(), registry());
    ["lost", "lost-new", "lost-dead"]
        .into_iter()
        .for_each(|topic| kafka.topic(topic, 1));
    registry.register("lost-value", &json!({"schema": V2}));
    let from = free_address();
    let line = forward(from, registry.address);
    let value = format!("value: {{format: avro, registry: \"{}\", refresh: 10s", url(from));
    let rules = format!(
        "  - {{name: lost, mqtt: \"lost/{{key}}\", kafka: {{topic: lost, key: \"{{key}}\"}}, {value}}}}}
  - {{name: told, direction: publish, mqtt: \"lost-told/{{key}}\", kafka: {{topic: lost-new, key: \"{{key}}\"}}, {value}, subject: lost-new}}}}
  - {{name: skipped, direction: publish, mqtt: \"lost-skipped/{{key}}\", on_error: skip, kafka: {{topic: lost-new, key: \"{{key}}\"}}, {value}, subject: lost-new}}}}
  - {{name: buried, direction: publish, mqtt: \"lost-buried/{{key}}\", on_error: {{dead_letter: lost-dead}}, kafka: {{topic: lost-new, key: \"{{key}}\"}}, {value}, subject: lost-new}}}}"
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    eventually("the newest schema is known", || {
        proxy.log().contains("the newest schema is known").then_some(())
    });
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "lost/#");
    let reading = r#"{"site": "bonn"}"#;
    publish(&proxy, "lost/before", reading);
    line.cut();
    // A schema that is made meanwhile is not heard of, and one that is known stays in force.
    registry.register("lost-new", &json!({"schema": V1}));
    publish(&proxy, "lost/after", reading);
    publish(&proxy, "lost/after", r#"{"site": 7}"#);
    assert_eq!(proxy.metric(&["refusals_total", "schema_mismatch"]), 1.0);
    for rule in ["told", "skipped", "buried"] {
        publish(&proxy, &format!("lost-{rule}/x"), reading);
    }
    assert_eq!(proxy.metric(&["refusals_total", "no_schema"]), 1.0);
    assert_eq!(proxy.metric(&["records_skipped_total", "skipped", "no_schema"]), 1.0);
    let dead = kafka.consume("lost-dead", "%s|%h");
    assert_eq!(dead.len(), 1);
    assert!(dead[0].starts_with(reading) && dead[0].ends_with("=no_schema"), "{dead:?}");
    // A record with a schema that this instance has never seen waits for the registry.
    let schema = V2.replace("]}", r#", {"name": "more", "type": "int", "default": 1}]}"#);
    confluent(&["write", "avro", &kafka.bootstrap, &registry.url(), "lost", "late", reading, &schema]);
    for topic in ["lost/before", "lost/after"] {
        let message = format!(r#"message {topic}|1|{{"celsius":0.0,"level":null,"site":"bonn"}}"#);
        assert_eq!(subscriber.message(), message);
    }
    eventually("the registry is asked in vain", || {
        (proxy.metric(&["schema_registry_failures_total"]) > 0.0).then_some(())
    });
    line.mend();
    assert_eq!(
        subscriber.message(),
        r#"message lost/late|2|{"celsius":0.0,"level":null,"more":1,"site":"bonn"}"#
    );
    assert_eq!(kafka.consume("lost-new", "%k"), [""; 0]);
}
