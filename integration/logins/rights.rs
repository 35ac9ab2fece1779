//! What those may do who are let in, as mosquitto and paho meet it in both versions: rights by identity, client id and claim, up to a QoS, without
//! RETAIN; and client ids that belong to an identity. What was allowed is in Kafka, and nothing else is.

use super::clients::{Client, VERSIONS, told_by_mosquitto, told_by_paho};
use super::now;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mqtt_kafka_proxy::auth::passwords;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The first that speaks of a request decides: the last one takes nothing away from those before it.
const RIGHTS: &str = r#"authorization:
- {deny: [publish, subscribe], topics: ["rights/own/+/secret"]}
- {allow: [publish, subscribe], topics: ["rights/own/{identity}/#"]}
- {allow: [publish, subscribe], topics: ["rights/device/{client}/#"]}
- {allow: [publish, subscribe], topics: ["rights/fleet/{claim.fleet}/#"]}
- {allow: [publish, subscribe], topics: ["rights/brief"], qos: 0}
- {allow: [publish], topics: ["rights/fleeting"], retain: false}
- {deny: [publish, subscribe], topics: ["rights/#"]}"#;

/// The clients, each in each version.
fn clients() -> impl Iterator<Item = (Client, u8)> {
    let both = [Client::Mosquitto, Client::Paho].into_iter();
    both.flat_map(|client| VERSIONS.map(|version| (client, version)))
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Publish,
    /// The same with the RETAIN flag.
    Retain,
    Subscribe,
}
use Deed::{Publish, Retain, Subscribe};

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    client_id: &'a str,
    user: &'a str,
    password: &'a str,
}

/// By password. Those with a token are `device-8`.
const VIN: Who<'static> = Who {
    client_id: "device-7",
    user: "vin42",
    password: "s3cret",
};

/// Something asked for.
#[derive(Debug)]
struct Case<'a> {
    who: Who<'a>,
    deed: Deed,
    /// Or a filter.
    topic: &'a str,
    qos: u8,
    may: bool,
}

impl Case<'_> {
    fn mosquitto(&self, proxy: &Proxy, version: u8, value: &str) -> String {
        let (port, qos) = (proxy.mqtt.port().to_string(), self.qos.to_string());
        let version = if version == 5 { "mqttv5" } else { "mqttv311" };
        let mut command = match self.deed {
            Publish | Retain => Command::new("mosquitto_pub"),
            Subscribe => Command::new("mosquitto_sub"),
        };
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-i", self.who.client_id]);
        command.args(["-u", self.who.user, "-P", self.who.password, "-q", &qos, "-t", self.topic]);
        match self.deed {
            Publish => command.args(["-m", value]),
            Retain => command.args(["-m", value, "-r"]),
            // It leaves once it has told what SUBACK says.
            Subscribe => command.args(["-d", "-E"]),
        };
        told_by_mosquitto(&mut command)
    }

    /// As `integration/paho_login.py` takes it.
    fn for_paho(&self, proxy: &Proxy, version: u8, value: &str) -> Value {
        json!({
            "port": proxy.mqtt.port(), "version": version, "value": value,
            "client_id": self.who.client_id, "user": self.who.user, "password": self.who.password,
            "topic": self.topic, "qos": self.qos, "retain": self.deed == Retain, "subscribes": self.deed == Subscribe,
        })
    }

    /// What the client says, where 3.x clients are treated so: version 3.1.1 knows no answer to a PUBLISH but a good one.
    fn wanted(&self, version: u8, unauthorized: &str) -> String {
        let told = match (self.deed, version) {
            (Subscribe, _) if self.may => return format!("granted {}", self.qos),
            (Subscribe, 5) => "suback 135",
            (Subscribe, _) => "suback 128",
            _ if self.may => "in",
            (_, 5) => "puback 135",
            _ if unauthorized == "drop" => "in",
            _ => "closed",
        };
        told.to_owned()
    }
}

/// What becomes of each, in their order.
fn told(cases: &[Case<'_>], proxy: &Proxy, client: Client, version: u8, value: &str) -> Vec<String> {
    let told: Vec<String> = if client == Client::Paho {
        let all = cases.iter().map(|case| case.for_paho(proxy, version, value));
        told_by_paho(&all.collect::<Vec<_>>())
    } else {
        cases.iter().map(|case| case.mosquitto(proxy, version, value)).collect()
    };
    assert_eq!(told.len(), cases.len(), "{client:?}: {told:#?}");
    told
}

/// Whose topic it is. What is refused to one is another's right.
fn by_names<'a>(of_north: &'a str, of_no_fleet: &'a str) -> Vec<Case<'a>> {
    let [north, stray] = [of_north, of_no_fleet].map(|password| Who {
        client_id: "device-8",
        user: "any",
        password,
    });
    let cases = [
        (VIN, Publish, "rights/own/vin42/rpm", true),
        (VIN, Publish, "rights/own/tok7/rpm", false),
        (VIN, Subscribe, "rights/own/vin42/rpm", true),
        (VIN, Subscribe, "rights/own/tok7/rpm", false),
        (VIN, Subscribe, "rights/own/+/rpm", false),
        (north, Publish, "rights/own/tok7/rpm", true),
        (north, Publish, "rights/own/vin42/rpm", false),
        (VIN, Publish, "rights/device/device-7/rpm", true),
        (VIN, Publish, "rights/device/device-8/rpm", false),
        (VIN, Subscribe, "rights/device/device-7/#", true),
        (VIN, Subscribe, "rights/device/#", false),
        (north, Publish, "rights/device/device-8/rpm", true),
        (north, Publish, "rights/fleet/north/rpm", true),
        (north, Publish, "rights/fleet/south/rpm", false),
        (north, Subscribe, "rights/fleet/north/#", true),
        (north, Subscribe, "rights/fleet/#", false),
        (stray, Publish, "rights/fleet/north/rpm", false),
        (VIN, Publish, "rights/fleet/north/rpm", false),
    ];
    cases
        .into_iter()
        .map(|(who, deed, topic, may)| case(who, deed, topic, 1, may))
        .collect()
}

/// Beside the topics.
fn by_deeds() -> Vec<Case<'static>> {
    let cases = [
        (Publish, "rights/own/vin42/secret", 1, false),
        (Subscribe, "rights/own/vin42/secret", 1, false),
        // It would get what is denied.
        (Subscribe, "rights/own/vin42/#", 1, false),
        (Publish, "rights/brief", 0, true),
        (Publish, "rights/brief", 1, false),
        (Subscribe, "rights/brief", 0, true),
        (Subscribe, "rights/brief", 1, false),
        (Publish, "rights/fleeting", 1, true),
        (Subscribe, "rights/fleeting", 1, false),
        (Retain, "rights/fleeting", 1, false),
        (Retain, "rights/own/vin42/kept", 1, true),
    ];
    cases
        .into_iter()
        .map(|(deed, topic, qos, may)| case(VIN, deed, topic, qos, may))
        .collect()
}

fn case<'a>(who: Who<'a>, deed: Deed, topic: &'a str, qos: u8, may: bool) -> Case<'a> {
    Case {
        who,
        deed,
        topic,
        qos,
        may,
    }
}

/// A token that says so.
fn token(key: &Ed25519KeyPair, claims: &Value) -> String {
    let part = |text: &str| BASE64.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"EdDSA"}"#), part(&claims.to_string()));
    let signature = BASE64.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// What the proxies know logins by.
fn write(folder: &Path, key: &Ed25519KeyPair) {
    fs::write(folder.join("users.txt"), passwords::entry("vin42", b"s3cret").unwrap()).unwrap();
    let x = BASE64.encode(key.public_key());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]});
    fs::write(folder.join("keys.json"), keys.to_string()).unwrap();
}

/// With these rights. What it retains is in a topic of its own, to be counted.
fn proxy(kafka: &Kafka, folder: &Path, unauthorized: &str) -> Proxy {
    let folder = folder.display();
    let rules = format!(
        "  - {{name: rights, mqtt: \"rights/#\", kafka: {{topic: rights}}}}\n\
         authentication:\n\
         - {{method: jwt, jwks: \"{folder}/keys.json\"}}\n\
         - {{method: password_file, file: \"{folder}/users.txt\"}}\n\
         unauthorized: {unauthorized}\n\
         {RIGHTS}"
    );
    let topics = format!("sessions: rights-{unauthorized}-sessions, retained: rights-{unauthorized}-retained");
    let topics = format!(", topics: {{{topics}, partitions: 1, replication: 1}}");
    Proxy::start(&kafka.bootstrap, &rules, &topics)
}

/// All records, as soon as there are as many as must be. Those of QoS 0 are answered by nobody and may come a moment later.
fn found(kafka: &Kafka, topic: &str, stored: &[String]) -> Vec<String> {
    let mut found = eventually("all that was allowed", || {
        let found = kafka.consume(topic, "%k|%s");
        (found.len() >= stored.len()).then_some(found)
    });
    found.sort_unstable();
    found
}

#[test]
fn what_rights_allow_is_done_and_what_they_refuse_is_told_as_each_version_can() {
    let kafka = shared_kafka();
    kafka.topic("rights", 1);
    let (folder, key) = (tempfile::tempdir().unwrap(), Ed25519KeyPair::generate().unwrap());
    write(folder.path(), &key);
    let expires = now() + 3600;
    let north = token(&key, &json!({"sub": "tok7", "exp": expires, "fleet": "north"}));
    let stray = token(&key, &json!({"sub": "tok7", "exp": expires}));
    let mut cases = by_names(&north, &stray);
    cases.extend(by_deeds());
    let refused = cases.iter().filter(|case| !case.may).count();
    let mut stored = vec![];
    for unauthorized in ["close", "drop"] {
        let proxy = proxy(&kafka, folder.path(), unauthorized);
        for (client, version) in clients() {
            let value = format!("{unauthorized} {client:?} {version}");
            for (case, told) in cases.iter().zip(told(&cases, &proxy, client, version, &value)) {
                assert_eq!(told, case.wanted(version, unauthorized), "{value}: {case:?}");
            }
            let written = cases.iter().filter(|case| case.may && case.deed != Subscribe);
            stored.extend(written.map(|case| format!("{}|{value}", case.topic)));
        }
        let counted = proxy.metric(&["refusals_total", "not_authorized"]);
        assert_eq!(counted, (refused * clients().count()) as f64, "{unauthorized}: each once");
        let retained = || Some(proxy.metric(&["retained_messages"])).filter(|retained| *retained > 0.0);
        assert_eq!(
            eventually("what is retained", retained),
            1.0,
            "{unauthorized}: that, and nothing else"
        );
    }
    stored.sort_unstable();
    assert_eq!(found(&kafka, "rights", &stored), stored, "that, and nothing else");
}

#[test]
fn a_client_id_is_the_identity_or_begins_with_it_if_the_method_says_so() {
    let kafka = shared_kafka();
    kafka.topic("bound", 1);
    let (folder, key) = (tempfile::tempdir().unwrap(), Ed25519KeyPair::generate().unwrap());
    write(folder.path(), &key);
    let mut stored = vec![];
    for (binding, own, others) in [
        ("identity", &["vin42"][..], &["vin42~a", "vin43", "vin4"]),
        ("identity_prefix", &["vin42", "vin42~a"], &["vin42a", "vin43~vin42", "vin4"]),
    ] {
        let rules = format!(
            "  - {{name: bound, mqtt: bound, kafka: {{topic: bound, key: \"{{client}}\"}}}}\n\
             authentication: [{{method: password_file, file: \"{}/users.txt\", client_id: {binding}}}]",
            folder.path().display()
        );
        let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
        let of_id = |&id: &&'static str| case(Who { client_id: id, ..VIN }, Publish, "bound", 1, own.contains(&id));
        let cases: Vec<_> = own.iter().chain(others).map(of_id).collect();
        for (client, version) in clients() {
            let value = format!("{binding} {client:?} {version}");
            let refused = format!("refused {}", client.code(version, 0x87));
            for (case, told) in cases.iter().zip(told(&cases, &proxy, client, version, &value)) {
                assert_eq!(told, if case.may { "in" } else { refused.as_str() }, "{value}: {case:?}");
            }
            stored.extend(own.iter().map(|client_id| format!("{client_id}|{value}")));
        }
        let counted = proxy.metric(&["refusals_total", "client_id_not_of_identity"]);
        assert_eq!(counted, (others.len() * clients().count()) as f64, "{binding}: each once");
    }
    stored.sort_unstable();
    assert_eq!(found(&kafka, "bound", &stored), stored, "that, and nothing else");
}
