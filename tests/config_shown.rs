//! No secret leaves the configuration: not by `/config`, `Debug`, the log of a start, or the words of a fault, be it one of a file.

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
/// How the rule of [`text`] begins.
const ALL: &str = "  - name: all";
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
    let rule = "  - {name: \"${PASSWORD}\", mqtt: a, kafka: {topic: b}";
    let example = "examples: [{topic: b, becomes: {key: x}}]";
    let table = "  - {name: one, mqtt: a, kafka: {topic: b}, lookup: {s: {topic: \"${PASSWORD}\"}}}";
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
        // Names and topics that stand there twice, and the rule of an example.
        (&good, ALL, &format!("{rule}}}\n  - name: \"${{PASSWORD}}\"")),
        (&good, ALL, &format!("{rule}, {example}}}\n{ALL}")),
        (
            &good,
            ALL,
            &format!("{table}\n{ALL}\n    lookup: {{s: {{topic: \"${{PASSWORD}}\", key: k}}}}"),
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let faults = parse(folder.path(), &text.replace(from, to)).unwrap_err();
        let told: String = faults.iter().map(|fault| format!("{fault} {fault:?}\n")).collect();
        assert_silent(&told, &secrets);
    }
    let text = text("mechanism: \"${PASSWORD}\"", "${PASSWORD}", REGISTRY[0]);
    let faults = config::parse(&text, folder.path(), &|_| Some("GSSAPI".to_owned())).unwrap_err();
    assert!(faults[0].message.contains("`${PASSWORD}` is not supported yet"), "{faults:#?}");
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

/// What variables hold where somebody took the text of a key for its path: several lines, a path by its looks, more than a name may have.
fn slips() -> [String; 4] {
    let pem = "-----BEGIN PRIVATE KEY-----\nMIGcanary/sFHA\nQ0canary\n-----END PRIVATE KEY-----\n";
    [
        pem.to_owned(),
        "/canary+canary==".to_owned(),
        "file:canary".to_owned(),
        "canary".repeat(100),
    ]
}

/// `check` and `run` with variables; gives what each has written, and both end with 64.
fn refused(folder: &Path, text: &str, variables: &[(&str, &str)]) -> String {
    fs::write(folder.join("proxy.yaml"), text).unwrap();
    let told = ["check", "run"].map(|command| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
        let program = program.arg(command).current_dir(folder).env("RUST_LOG", "debug");
        let output = program.envs(variables.iter().copied()).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(64), "{command}: {told}\n{text}");
        told
    });
    told.concat()
}

/// With these settings of a listener's `tls`, of `kafka.security`, and of a method that tells who a client is.
fn with_files(tls: &str, security: &str, method: &str) -> String {
    format!(
        "listeners: [{{name: one, address: \"127.0.0.1:0\", protocol: mqtts, tls: {{{tls}}}}}]\n\
         kafka: {{bootstrap_servers: [\"127.0.0.1:1\"], security: {{{security}}}}}\n\
         authentication: [{{{method}}}]\n\
         rules: [{{name: all, mqtt: a, kafka: {{topic: mqtt}}}}]\n"
    )
}

const PLAIN: [&str; 3] = [
    "certificate: a.pem, key: a.key",
    "protocol: plaintext",
    "method: password_file, file: users",
];

/// A key's text in a variable whose name stands where a path belongs is an easy mistake.
#[test]
fn no_path_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let (asked, oauth) = ("client_auth: required", "protocol: sasl_plaintext, sasl: {mechanism: OAUTHBEARER");
    let [tls, security, method] = PLAIN;
    let of_tls = [
        "certificate: \"§\", key: a.key",
        "certificate: a.pem, key: \"§\"",
        &format!("{tls}, {asked}, client_ca: \"§\""),
        &format!("{tls}, {asked}, client_ca: a.pem, client_crl: \"§\""),
        &format!("{tls}, ticket_keys: \"file:§\""),
        &format!("{tls}, more: [{{certificate: \"§\", key: a.key}}]"),
        &format!("{tls}, more: [{{certificate: a.pem, key: \"§\"}}]"),
    ]
    .map(|tls| with_files(tls, security, method));
    let endpoint = "token_endpoint: \"http://a/\", client_id: me, client_secret: \"${PASSWORD}\"";
    let of_security = [
        "protocol: ssl, tls: {ca: \"§\"}",
        "protocol: ssl, tls: {certificate: \"§\", key: a.key}",
        "protocol: ssl, tls: {certificate: a.pem, key: \"§\"}",
        "protocol: sasl_plaintext, sasl: {mechanism: PLAIN, username: me, password: \"file:§\"}",
        &format!("{oauth}, token: \"file:§\"}}"),
        &format!("{oauth}, {endpoint}, token_endpoint_ca: \"§\"}}"),
    ]
    .map(|security| with_files(tls, security, method));
    let of_methods = [
        "method: password_file, file: \"§\"",
        "method: scram, file: \"§\"",
        "method: jwt, jwks: \"§\"",
        "method: jwt, jwks: \"https://a/\", ca: \"§\"",
        "method: http, url: \"https://a/\", ca: \"§\"",
        "method: http, url: \"https://a/\", token: \"file:§\"",
    ]
    .map(|method| with_files(tls, security, method));
    let lookup = with_files(tls, security, method).replace("mqtt: a", "mqtt: a, lookup: {sites: \"§\"}");
    let socket = with_files(tls, security, method).replace("127.0.0.1:0", "unix:§");
    for text in of_tls.iter().chain(&of_security).chain(&of_methods).chain([&lookup, &socket]) {
        for slip in slips() {
            // A short one would be a socket that can be listened on.
            if text == &socket && slip.len() < 200 {
                continue;
            }
            for (written, shown) in [("${SLIP}", "${SLIP}"), ("gone/${SLIP}.pem", "gone/${SLIP}.pem")] {
                let variables = [("SLIP", &*slip), ("PASSWORD", "hidden")];
                let told = refused(folder.path(), &text.replace('§', written), &variables);
                assert_silent(&told, &["PRIVATE KEY--".to_owned()]);
                assert!(text == &socket || told.matches(shown).count() == 2, "{told}\nhas no {shown}");
            }
        }
    }
}

/// What one variable holds may be the beginning, the end or a piece of what another does, whichever is read first.
#[test]
fn of_values_within_others_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let variables = [("U", "gone"), ("P", "gone-canary"), ("Q", "canary-gone"), ("R", "gone-canary-gone")];
    let [tls, security, method] = PLAIN;
    let sasl = "protocol: sasl_plaintext, sasl: {mechanism: PLAIN, username: \"${§}\", password: \"file:${¶}\"}";
    for (first, _) in variables {
        for (second, value) in variables {
            let told = refused(
                folder.path(),
                &with_files(tls, &sasl.replace('§', first).replace('¶', second), method),
                &variables,
            );
            assert!(!told.contains("canary") && !told.contains(value), "{first} {second}: {told}");
            let both = with_files("certificate: \"${§}\", key: a.key", security, method).replace('§', first);
            let other = "}, {name: two, address: \"127.0.0.1:0\", protocol: mqtts, tls: {certificate: \"${§}\", key: a.key}}]\nkafka";
            let both = both.replace("}]\nkafka", &other.replace('§', second));
            let told = refused(folder.path(), &both, &variables);
            assert!(!told.contains("canary") && !told.contains("gone"), "{first} {second}: {told}");
        }
    }
}

/// What is short is in many words by chance.
#[test]
fn a_short_value_leaves_words_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let text = with_files("certificate: \"${A}\", key: a.key", PLAIN[1], PLAIN[2]);
    let told = refused(folder.path(), &text, &[("A", "e")]);
    let line = "listener \"one\": certificate ${A} cannot be read: No such file or directory (os error 2); \
                give the path of a PEM file that this user may read\n";
    assert_eq!(told, line.repeat(2));
    let text = with_files("certificate: \"${A}${B}\", key: gone.key", PLAIN[1], PLAIN[2]);
    let told = refused(folder.path(), &text, &[("A", "e"), ("B", "f")]);
    assert!(
        told.starts_with("listener \"one\": certificate ${A}${B} cannot be read: "),
        "{told}"
    );
    // What stands in the file is told in full, be it in the place of a variable.
    let text = with_files("certificate: \"${GONE:-certs/gone.pem}\", key: gone.key", PLAIN[1], PLAIN[2]);
    let told = refused(folder.path(), &text, &[]);
    assert!(
        told.starts_with("listener \"one\": certificate certs/gone.pem cannot be read: "),
        "{told}"
    );
}
