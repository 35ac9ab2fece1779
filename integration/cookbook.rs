//! The files of docs/cookbook with a real Kafka: each runs, its examples' messages are published and lie there as the records that they become,
//! and its examples' records are delivered as the messages that they become.
//!
//! Changed is only where Kafka is, with state topics of one replica, where the proxy listens, and where certificates lie. What a client shows no
//! example says: those of the tenants have a certificate of one of them, made here, so no example is left out. Left out is what none says: the
//! time and the partition of a record, and the headers that the proxy adds. An example that says more than is tried here fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Map, Value};

use crate::compression::fed;
use crate::deliver::Subscriber;
use crate::security::Authority;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually, free_addresses, output, root};

/// Whose certificate the clients have where they need one, and the client ids that it is good for.
const TENANT: &str = "acme";
const DEVICE_OF_TENANT: &str = "acme~d1";

fn json(yaml: &Yaml<'_>) -> Value {
    if let Some(table) = yaml.as_mapping() {
        let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| (key.as_str().unwrap().to_owned(), json(value));
        return Value::Object(table.iter().map(entry).collect::<Map<_, _>>());
    }
    if let Some(list) = yaml.as_sequence() {
        return Value::Array(list.iter().map(json).collect());
    }
    let scalar = yaml.as_bool().map(Value::from).or(yaml.as_integer().map(Value::from));
    scalar.or(yaml.as_str().map(Value::from)).unwrap_or(Value::Null)
}

/// All of them by their names: the text, and what it says.
fn files() -> BTreeMap<String, (String, Value)> {
    let folder = fs::read_dir(root().join("docs/cookbook")).unwrap();
    let read = folder.map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let document = json(&Yaml::load_from_str(&text).unwrap()[0]);
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), (text, document))
    });
    read.collect()
}

/// Each with its rule.
fn examples(document: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let rules = document["rules"].as_array().unwrap().iter();
    rules.flat_map(|rule| {
        let examples = rule["examples"].as_array().into_iter().flatten();
        examples.map(move |example| (rule, example))
    })
}

/// Where the record of an example lies, whether it is given or becomes.
fn kafka_topic<'e>(rule: &'e Value, example: &'e Value) -> &'e str {
    let is_given = example["record"].is_object();
    let record = &example[if is_given { "record" } else { "becomes" }];
    record["topic"].as_str().or(rule["kafka"]["topic"].as_str()).unwrap()
}

/// The filter of all topics of a rule.
fn filter(mqtt: &str) -> String {
    let levels = mqtt.split('/').map(|level| match level {
        rest if rest.ends_with("#}") => "#",
        hole if hole.contains('{') => "+",
        literal => literal,
    });
    levels.collect::<Vec<_>>().join("/")
}

/// A text, or what else stands there, as text.
fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whatever else an example would say, this test would not heed.
fn says_only(table: &Value, known: &[&str], what: &str) {
    let table = table.as_object().unwrap_or_else(|| panic!("{what}: `{table}`"));
    for key in table.keys() {
        assert!(known.contains(&key.as_str()), "{what}: `{key}`");
    }
}

/// A record as it lies in Kafka.
struct Record {
    key: String,
    headers: String,
    value: Option<Vec<u8>>,
}

impl Record {
    /// As kcat prints it: key, length, headers and value.
    fn read(line: &[u8]) -> Self {
        let mut parts = line.splitn(4, |byte| *byte == b'|');
        let [key, length, headers, value] = [(); 4].map(|()| parts.next().unwrap());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            key: text(key),
            headers: text(headers),
            // A null value has the length -1.
            value: (length != b"-1").then(|| value.to_vec()),
        }
    }

    /// Compares all that an example says of it.
    fn is(&self, becomes: &Value, what: &str) {
        says_only(becomes, &["topic", "key", "value", "value_base64", "tombstone", "headers"], what);
        if let Some(key) = becomes.get("key") {
            assert_eq!(self.key, words(key), "{what}");
        }
        let encoded = becomes["value_base64"].as_str().map(|value| BASE64.decode(value).unwrap());
        let value = becomes.get("value").map(|value| words(value).into_bytes());
        if let Some(value) = value.or(encoded) {
            assert_eq!(self.value.as_ref(), Some(&value), "{what}");
        }
        if let Some(tombstone) = becomes["tombstone"].as_bool() {
            assert_eq!(self.value.is_none(), tombstone, "{what}");
        }
        for (name, value) in becomes["headers"].as_object().into_iter().flatten() {
            let header = format!("{name}={}", words(value));
            assert!(self.headers.split(',').any(|own| own == header), "{what}: {}", self.headers);
        }
    }
}

/// All records of a topic of one partition; their values are any bytes but line ends.
fn records(kafka: &Kafka, topic: &str) -> Vec<Record> {
    let kcat = Command::new("kcat")
        .args(["-C", "-q", "-e", "-b", &kafka.bootstrap, "-t", topic])
        .args(["-o", "beginning", "-f", "%k|%S|%h|%s\n"])
        .output()
        .expect("kcat can be run");
    assert!(kcat.status.success(), "kcat reads {topic}");
    let lines = kcat.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(Record::read).collect()
}

/// Writes a record as an example has it, with and without a key.
fn produce(kafka: &Kafka, topic: &str, record: &Value, what: &str) {
    says_only(record, &["topic", "key", "headers", "value", "tombstone"], what);
    let mut kcat = Command::new("kcat");
    // `-Z`: an empty value is none.
    kcat.args(["-P", "-Z", "-b", &kafka.bootstrap, "-t", topic]);
    // Of a line without a key an empty value would be passed over.
    let key = record.get("key").map(|key| words(key) + "|").unwrap_or_default();
    if !key.is_empty() {
        kcat.arg("-K|");
    }
    for (name, value) in record["headers"].as_object().into_iter().flatten() {
        kcat.args(["-H", &format!("{name}={}", words(value))]);
    }
    assert_eq!(record["tombstone"] == true, !record["value"].is_string(), "{what}");
    fed(&mut kcat, &format!("{key}{}\n", record["value"].as_str().unwrap_or_default()));
}

/// A file that runs.
struct Recipe<'k> {
    kafka: &'k Kafka,
    proxy: Proxy,
    /// How clients connect, and what they show.
    login: Vec<String>,
}

impl<'k> Recipe<'k> {
    fn start(kafka: &'k Kafka, name: &str, text: &str, authority: &Authority) -> Self {
        let [mqtt, admin] = free_addresses();
        let address = mqtt.to_string();
        let state = format!("{{sessions: {name}-sessions, retained: {name}-retained, partitions: 1, replication: 1}}");
        let servers = format!("bootstrap_servers: [\"{}\"], topics: {state}", kafka.bootstrap);
        let text = text
            .replace("bootstrap_servers: [\"${KAFKA:-localhost:9092}\"]", &servers)
            .replace("0.0.0.0:1883", &address)
            .replace("0.0.0.0:8883", &address)
            .replace("../../certs/", &authority.file(""));
        assert!(text.contains(&servers) && text.contains(&address), "{text}");
        let settings = tempfile::tempdir().expect("a folder for files").keep().join("proxy.yaml");
        fs::write(&settings, format!("{text}admin: {{address: \"{admin}\"}}\n")).unwrap();
        let port = mqtt.port().to_string();
        let mut login = ["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5"].map(str::to_owned).to_vec();
        if text.contains("protocol: mqtts") {
            for (option, file) in [("--cafile", "ca.pem"), ("--cert", "acme.pem"), ("--key", "acme.key")] {
                login.extend([option.to_owned(), authority.file(file)]);
            }
        }
        Self {
            kafka,
            proxy: Proxy::start_from(&settings, mqtt, admin),
            login,
        }
    }

    /// Publishes the message of an example by mosquitto.
    fn publish(&self, example: &Value) {
        let encoded = example["payload_base64"].as_str().map(|payload| BASE64.decode(payload).unwrap());
        let payload = encoded.unwrap_or_else(|| example["payload"].as_str().unwrap().as_bytes().to_vec());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &payload).unwrap();
        let client = example["client"].as_str().unwrap_or(DEVICE_OF_TENANT);
        let to = ["-i", client, "-q", "1", "-t", example["topic"].as_str().unwrap()];
        // mosquitto takes no empty file.
        let path = ["-f", file.path().to_str().unwrap()];
        let what: &[&str] = if payload.is_empty() { &["-n"] } else { &path };
        let login: Vec<&str> = self.login.iter().map(String::as_str).collect();
        output("mosquitto_pub", &[&login[..], &to[..], what].concat());
    }

    /// The example's message becomes its record, and no other of this topic.
    fn stores(&self, rule: &Value, example: &Value, what: &str) {
        says_only(example, &["topic", "payload", "payload_base64", "client", "becomes"], what);
        let topic = kafka_topic(rule, example);
        let before = records(self.kafka, topic).len();
        self.publish(example);
        let new = eventually(what, || {
            let new = records(self.kafka, topic).split_off(before);
            (!new.is_empty()).then_some(new)
        });
        assert_eq!(new.len(), 1, "{what}");
        new[0].is(&example["becomes"], what);
    }

    /// The example's record becomes its message, or is passed over.
    fn delivers(&self, rule: &Value, example: &Value, what: &str) {
        says_only(example, &["record", "becomes"], what);
        let becomes = &example["becomes"];
        let topic = match becomes["topic"].as_str() {
            Some(topic) => topic.to_owned(),
            None => filter(rule["mqtt"].as_str().unwrap()),
        };
        let subscriber = self.subscriber(&topic);
        let before = self.passed_over(rule);
        produce(self.kafka, kafka_topic(rule, example), &example["record"], what);
        if becomes == "nothing" {
            return eventually(what, || (self.passed_over(rule) > before).then_some(()));
        }
        says_only(becomes, &["topic", "payload", "qos"], what);
        let message = subscriber.message();
        let mut said = message.strip_prefix("message ").unwrap().splitn(3, '|');
        for field in ["topic", "qos", "payload"] {
            let said = said.next().unwrap();
            if let Some(wanted) = becomes.get(field) {
                assert_eq!(said, words(wanted), "{what}: {field}");
            }
        }
    }

    fn subscriber(&self, filter: &str) -> Subscriber {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-d"]).args(&self.login);
        command.args(["-i", "acme~reader", "-q", "2", "-t", filter, "-F", "message %t|%q|%p"]);
        Subscriber::start(&mut command, "Subscribed")
    }

    /// How many records there were that the rule makes no message of.
    fn passed_over(&self, rule: &Value) -> f64 {
        let (_, metrics) = self.proxy.get("/metrics").expect("the admin listener answers");
        let rule = format!("rule={}", rule["name"]);
        let lines = metrics.lines().filter(|line| line.contains("records_skipped_total{"));
        let counts = lines.filter(|line| line.contains(&rule)).map(|line| line.rsplit(' ').next());
        counts.map(|count| count.unwrap().parse::<f64>().unwrap()).sum()
    }
}

#[test]
fn examples_of_the_cookbook_come_true() {
    let kafka = shared_kafka();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "cookbook");
    authority.issue("server", &["localhost", "127.0.0.1"]);
    authority.issue(TENANT, &[]);
    let files = files();
    // Two files have one of them in common.
    let all = files.values().flat_map(|(_, document)| examples(document));
    let topics: BTreeSet<&str> = all.map(|(rule, example)| kafka_topic(rule, example)).collect();
    topics.into_iter().for_each(|topic| kafka.topic(topic, 1));
    for (name, (text, document)) in &files {
        let recipe = Recipe::start(&kafka, &format!("cookbook-{name}"), text, &authority);
        assert!(examples(document).count() > 0, "{name}");
        for (rule, example) in examples(document) {
            let what = format!("{name}: {example}");
            // What is seen if it fails.
            println!("{what}");
            if example["record"].is_object() {
                recipe.delivers(rule, example, &what);
            } else {
                recipe.stores(rule, example, &what);
            }
        }
    }
}
