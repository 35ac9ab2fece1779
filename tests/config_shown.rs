//! No secret leaves the configuration: not by `/config`, `Debug`, the log of a start, or the words of a fault.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use mqtt_kafka_proxy::auth::{passwords, scram};
use mqtt_kafka_proxy::config::{self, Config, Problem};
use program::{Program, address, get};
use rcgen::{CertificateParams, KeyPair};

/// In each text that is a secret.
const CANARY: &str = "canary";
const PATIENCE: Duration = Duration::from_secs(30);

/// The ways in which the proxy shows Kafka who it is.
const SASL: [&str; 5] = [
    "mechanism: PLAIN, username: me, password: \"${PASSWORD}\"",
    "mechanism: SCRAM-SHA-512, username: me, password: \"file:secret\"",
    "mechanism: OAUTHBEARER, token: \"${GONE:-canary.in.default}\"",
    "mechanism: OAUTHBEARER, token: \"file:secret\"",
    "mechanism: OAUTHBEARER, token_endpoint: \"http://127.0.0.1:1/t?key=canary\", client_id: me, client_secret: \"${PASSWORD}\"",
];

/// The ways in which it does at a registry.
const REGISTRY: [&str; 3] = [
    "username: me, password: \"${PASSWORD}\"",
    "username: me, password: \"file:secret\"",
    "token: \"${PASSWORD}\"",
];

fn environment(name: &str) -> Option<String> {
    (name == "PASSWORD").then(|| "canary.in.environment".to_owned())
}

fn text(sasl: &str, token: &str, registry: &str) -> String {
    format!(
        "# canary in a comment
listeners:
  - name: tls
    address: \"127.0.0.1:0\"
    protocol: mqtts
    tls: {{certificate: a.pem, key: a.key, ticket_keys: \"file:tickets\"}}
admin: {{address: \"127.0.0.1:0\"}}
kafka:
  bootstrap_servers: [\"127.0.0.1:1\"]
  security: {{protocol: sasl_plaintext, sasl: {{{sasl}}}}}
authentication:
  - {{method: http, url: \"http://127.0.0.1:1/login?key=canary\", token: \"{token}\"}}
  - {{method: jwt, jwks: \"http://127.0.0.1:1/keys?key=canary\"}}
  - {{method: password_file, file: users}}
  - {{method: scram, file: scram}}
rules:
  - name: all
    mqtt: \"{{topic#}}\"
    kafka: {{topic: mqtt, key: \"{{topic}}\"}}
    value: {{format: avro, registry: \"http://127.0.0.1:1\", {registry}}}
"
    )
}

/// The files of [`text`]; and what of them is secret and holds no [`CANARY`].
fn files(folder: &Path) -> Vec<String> {
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let tickets = BASE64.encode([0x5a; 32]);
    let user = passwords::entry("vin42", b"canary").unwrap();
    let scram = scram::entry("vin42", "canary", &[7; scram::SALT]).unwrap();
    write("a.pem", &certificate.pem());
    write("a.key", &key.serialize_pem());
    write("secret", "canary.in.file\n");
    write("tickets", &tickets);
    write("users", &user);
    write("scram", &scram);
    let last = |line: &str, at: char| line.trim().rsplit(at).next().unwrap().to_owned();
    let lines = key
        .serialize_pem()
        .lines()
        .filter(|l| !l.starts_with('-'))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    [lines, vec![tickets, last(&user, '$'), last(&scram, ':')]].concat()
}

fn parse(folder: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    config::parse(text, folder, &environment)
}

#[track_caller]
fn assert_silent(shown: &str, secrets: &[String]) {
    for secret in secrets.iter().map(String::as_str).chain([CANARY, "ZZZZZZZZZZ", "90, 90, 90, 90"]) {
        assert!(secret.len() >= 6, "{secret} would be found by chance, or not at all");
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn neither_debug_nor_the_shown_file_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = files(folder.path());
    for sasl in SASL {
        for registry in REGISTRY {
            for token in ["${PASSWORD}", "file:secret", "${GONE:-canary}"] {
                let text = text(sasl, token, registry);
                for keys in ["file:tickets", "${PASSWORD}", "${GONE:-canary}"] {
                    let text = text.replace("file:tickets", keys);
                    let config = parse(folder.path(), &text).unwrap_or_else(|faults| panic!("{text}{faults:#?}"));
                    assert_silent(&config.shown, &secrets);
                    assert_silent(&format!("{config:?}"), &secrets);
                }
            }
        }
    }
}

#[test]
fn what_is_shown_says_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let text = text(SASL[0], "file:secret", REGISTRY[0]);
    let config = parse(folder.path(), &text).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&config.shown).unwrap();
    assert_eq!(shown["kafka"]["security"]["sasl"]["username"], "me");
    assert_eq!(shown["kafka"]["security"]["sasl"]["password"], "${PASSWORD}");
    assert_eq!(shown["authentication"][0]["token"], "file:secret");
    assert_eq!(shown["authentication"][0]["url"], "http://127.0.0.1:1/login?…");
    assert_eq!(shown["listeners"][0]["tls"]["key"], "a.key");
    assert_eq!(shown["listeners"][0]["tls"]["ticket_keys"], "file:tickets");
    // JSON is YAML: what is shown is the configuration again, as far as it holds no secret itself.
    let again = parse(folder.path(), &config.shown).unwrap();
    assert_eq!(again.shown, config.shown);
    assert_eq!(format!("{:?}", again.listeners), format!("{:?}", config.listeners));
    let filled = parse(folder.path(), &text.replace("file:tickets", "${PASSWORD}")).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&filled.shown).unwrap();
    assert_eq!(shown["listeners"][0]["tls"]["ticket_keys"], "${PASSWORD}");
    let silent = text.replace("admin: {address: \"127.0.0.1:0\"}\n", "");
    assert_eq!(parse(folder.path(), &silent).unwrap().shown, "", "nobody asks for it");
}

#[test]
fn no_fault_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = files(folder.path());
    let good = text(SASL[0], "${PASSWORD}", REGISTRY[0]);
    let endpoint = text(SASL[4], "${PASSWORD}", REGISTRY[0]);
    for (text, from, to) in [
        (&good, "password: \"${PASSWORD}\"", "password: canary"),
        (&good, "token: \"${PASSWORD}\"", "token: canary"),
        (&good, "token: \"${PASSWORD}\"", "token: \"${GONE:-canary canary}\""),
        (&good, "http://127.0.0.1:1/login?key=canary", "http://me:canary@127.0.0.1:1/login"),
        (&good, "http://127.0.0.1:1/login?key=canary", "ftp://127.0.0.1:1/login?key=canary"),
        (&good, "http://127.0.0.1:1/keys?key=canary", "http://me:canary@127.0.0.1:1/keys"),
        (
            &good,
            "registry: \"http://127.0.0.1:1\"",
            "registry: \"http://me:can/ary@127.0.0.1:1/?canary\"",
        ),
        (
            &good,
            "registry: \"http://127.0.0.1:1\"",
            "registry: \"http://127.0.0.1:1/?canary\"",
        ),
        (&endpoint, "client_secret: \"${PASSWORD}\"", "client_secret: canary"),
        (&endpoint, "http://127.0.0.1:1/t?key=canary", "http://canary@127.0.0.1:1/t"),
        (&good, "ticket_keys: \"file:tickets\"", "ticket_keys: canary"),
        (&good, "ticket_keys: \"file:tickets\"", "ticket_keys: \"${MISSING}canary\""),
        (&good, "file: users", "file: a.key"),
        (&good, "file: scram", "file: tickets"),
        (&good, "file: users", "file: \"${PASSWORD}\""),
    ] {
        assert!(text.contains(from), "{from}");
        let faults = parse(folder.path(), &text.replace(from, to)).unwrap_err();
        let told: String = faults.iter().map(|fault| format!("{fault} {fault:?}\n")).collect();
        assert_silent(&told, &secrets);
    }
}

#[test]
fn a_start_logs_no_secret_and_config_tells_none() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = files(folder.path());
    fs::write(folder.path().join("proxy.yaml"), text(SASL[0], "file:secret", REGISTRY[2])).unwrap();
    let mut program = Program::spawn(
        Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
            .args(["run", "--log-format", "json"])
            .current_dir(folder.path())
            .envs([("RUST_LOG", "debug"), ("PASSWORD", "canary.in.environment")]),
    );
    let mut seen = String::new();
    let mut line_with = |program: &Program, words: &str| loop {
        let line = program
            .log
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("no {words} in {seen}"));
        seen.extend([&line, "\n"]);
        if line.contains(words) {
            return line;
        }
    };
    let listener = address(&line_with(&program, "\"message\":\"listening\"")).unwrap();
    let admin = address(&line_with(&program, "\"message\":\"admin\"")).unwrap();
    // Why a connection has ended is told at this level.
    TcpStream::connect(listener).unwrap().write_all(b"this is no TLS\r\n").unwrap();
    line_with(&program, "\"DEBUG\"");
    let shown = get(admin, "/config", PATIENCE);
    assert!(
        shown.starts_with("HTTP/1.1 200 ") && shown.contains("\"password\": \"${PASSWORD}\""),
        "{shown}"
    );
    assert_silent(&shown, &secrets);
    // By then the keys were asked for, with the address that has a secret in it.
    let failed = "mqtt_kafka_proxy_key_set_fetch_failures_total ";
    let end = Instant::now() + PATIENCE;
    while !get(admin, "/metrics", PATIENCE)
        .lines()
        .any(|l| l.starts_with(failed) && !l.ends_with(" 0"))
    {
        assert!(Instant::now() < end, "the keys were not asked for");
        std::thread::yield_now();
    }
    program.process.kill().unwrap();
    seen.extend(program.log.iter().map(|line| line + "\n"));
    assert_silent(&seen, &secrets);
}
