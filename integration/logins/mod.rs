//! Each method of `authentication` by itself, with credentials that are right, wrong, missing, expired, revoked and malformed, by each real
//! client in each version of MQTT that has such credentials. What there is of them is a table, which the test prints.

mod again;
mod by_server;
mod certificates;
pub mod clients;
mod required;
mod rights;
mod tokens;

use crate::access::{server, token_with};
use crate::security::Authority;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, certificates, eventually};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use clients::{Attempt, Client, VERSIONS, mosquitto, outcomes};
use mqtt_kafka_proxy::auth::{passwords, scram};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

/// The Kafka topic, and the MQTT topic that each publishes to.
const TOPIC: &str = "logins-each";

/// What is shown.
pub enum Login {
    Nothing,
    /// A user name without a password.
    User(&'static str),
    Password(&'static str, String),
    /// Paths of certificate and key.
    Certificate([String; 2]),
    /// SCRAM-SHA-256 that begins with this; "proven": as it should.
    Scram {
        user: &'static str,
        password: &'static str,
        first: &'static str,
    },
}

/// What becomes of it.
enum Wanted {
    /// It is let in as this identity.
    In(&'static str),
    /// By this CONNACK code of version 5.
    Refused(u8),
    /// In the TLS handshake.
    Closed,
}
use Wanted::{Closed, In, Refused};

/// A row of the table.
pub struct Case {
    method: &'static str,
    state: &'static str,
    login: Login,
    wanted: Wanted,
}

const BAD: Wanted = Refused(0x86);
const NOT_AUTHORIZED: Wanted = Refused(0x87);

/// All that the proxies know logins by, and the proxies: one for each method.
struct Stage {
    folder: tempfile::TempDir,
    fleet: Authority,
    strangers: Authority,
    keys: [Ed25519KeyPair; 2],
    /// The server lets in who was withdrawn later.
    lets_in: Arc<AtomicBool>,
    proxies: BTreeMap<&'static str, Proxy>,
}

impl Stage {
    fn start(kafka: &Kafka) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [fleet, strangers] = ["fleet", "strangers"].map(|name| Authority::new(folder.path(), name));
        for name in ["vin42", "withdrawn", ""] {
            fleet.issue(name, &[]);
        }
        fleet.issue_until("old", &[], 2021);
        strangers.issue("vin42", &[]);
        let mut stage = Self {
            folder,
            fleet,
            strangers,
            keys: [(); 2].map(|()| Ed25519KeyPair::generate().unwrap()),
            lets_in: Arc::new(AtomicBool::new(true)),
            proxies: BTreeMap::new(),
        };
        stage.fleet.revoke(&[]);
        stage.write(true);
        let lets_in = stage.lets_in.clone();
        let url = server(move |_, asked| decision(asked, lets_in.load(Relaxed)));
        let path = stage.folder.path().display();
        let methods = [
            ("certificate", String::new()),
            ("password_file", format!(", file: \"{path}/users.txt\"")),
            ("jwt", format!(", jwks: \"{path}/keys.json\"")),
            ("http", format!(", url: \"{url}\", cache: 0s")),
            ("scram", format!(", file: \"{path}/scram.txt\"")),
            ("anonymous", String::new()),
        ];
        let own = [stage.fleet.file("ca.pem"), stage.fleet.file("ca.crl")];
        let proxy = |(method, more): (&'static str, String)| (method, proxy(kafka, TOPIC, method, &more, &own));
        stage.proxies = methods.map(proxy).into();
        stage
    }

    /// The files, with those who are withdrawn later or without.
    fn write(&self, with_all: bool) {
        let all = ["vin42", "withdrawn"];
        let known = if with_all { &all[..] } else { &all[..1] };
        let path = self.folder.path();
        replace(&path.join("users.txt"), known, |user| passwords::entry(user, b"s3cret").unwrap());
        let verifier = |user: &str| scram::entry(user, "s3cret", &[7; scram::SALT]).unwrap();
        replace(&path.join("scram.txt"), known, verifier);
        let keys = self.keys.iter().take(known.len()).enumerate().map(|(at, key)| {
            let x = BASE64.encode(key.public_key());
            format!(r#"{{"kid": "{at}", "kty": "OKP", "crv": "Ed25519", "x": "{x}"}}"#)
        });
        let keys = keys.collect::<Vec<_>>().join(", ");
        fs::write(path.join("keys.json"), format!(r#"{{"keys": [{keys}]}}"#)).unwrap();
    }

    fn withdraw(&self) {
        self.write(false);
        self.fleet.revoke(&["withdrawn"]);
        self.lets_in.store(false, Relaxed);
    }

    /// Who is withdrawn later.
    fn withdrawn(&self) -> Vec<(&'static str, Login)> {
        let secret = || "s3cret".to_owned();
        let hour = now() + 3600;
        vec![
            ("certificate", certificate(&self.fleet, "withdrawn")),
            ("password_file", Login::Password("withdrawn", secret())),
            ("jwt", Login::Password("any", signed(&self.keys[1], 1, "withdrawn", hour))),
            ("http", Login::Password("withdrawn", "withdrawn".to_owned())),
            ("scram", proven("withdrawn", "s3cret")),
        ]
    }

    /// The table, but for who is withdrawn.
    fn cases(&self) -> Vec<Case> {
        let case = |method, state, login, wanted| Case {
            method,
            state,
            login,
            wanted,
        };
        let password = |user, password: &str| Login::Password(user, password.to_owned());
        let (hour, past) = (now() + 3600, now() - 60);
        let token = |subject, expires| Login::Password("any", signed(&self.keys[0], 0, subject, expires));
        let forged = signed(&Ed25519KeyPair::generate().unwrap(), 0, "tok7", hour);
        vec![
            case("certificate", "right", certificate(&self.fleet, "vin42"), In("vin42")),
            case("certificate", "wrong", certificate(&self.strangers, "vin42"), Closed),
            case("certificate", "missing", Login::Nothing, NOT_AUTHORIZED),
            case("certificate", "missing, a password", password("vin42", "s3cret"), BAD),
            case("certificate", "expired", certificate(&self.fleet, "old"), Closed),
            case("certificate", "malformed: no name", certificate(&self.fleet, ""), NOT_AUTHORIZED),
            case("password_file", "right", password("vin42", "s3cret"), In("vin42")),
            case("password_file", "wrong", password("vin42", "wrong"), BAD),
            case("password_file", "wrong user", password("vin43", "s3cret"), BAD),
            case("password_file", "missing", Login::Nothing, NOT_AUTHORIZED),
            case("password_file", "missing password", Login::User("vin42"), BAD),
            case("password_file", "malformed: a line", password("vin42:", "s3cret"), BAD),
            case("jwt", "right", token("tok7", hour), In("tok7")),
            case("jwt", "wrong: forged", password("any", &forged), BAD),
            case("jwt", "missing", Login::Nothing, NOT_AUTHORIZED),
            case("jwt", "missing token", Login::User("any"), BAD),
            case("jwt", "expired", token("tok7", past), BAD),
            case("jwt", "malformed", password("any", "eyJ.eyJ.x"), BAD),
            case("http", "right", password("any", "0pen-up"), In("web7")),
            case("http", "wrong", password("any", "wrong"), BAD),
            case("http", "missing", Login::Nothing, NOT_AUTHORIZED),
            case("http", "missing password", Login::User("any"), BAD),
            case("http", "expired", password("any", "expired"), BAD),
            case(
                "http",
                "malformed: no JSON if it were not escaped",
                password("a\"}{\\", "\", \"password\": \"0pen-up"),
                BAD,
            ),
            case("http", "malformed answer", password("any", "garbled"), Refused(0x88)),
            case("scram", "right", proven("vin42", "s3cret"), In("vin42")),
            case("scram", "wrong", proven("vin42", "wrong"), BAD),
            case("scram", "wrong user", proven("vin43", "s3cret"), BAD),
            case("scram", "missing", Login::Nothing, NOT_AUTHORIZED),
            case("scram", "missing, a password", password("vin42", "s3cret"), BAD),
            case("scram", "malformed", scram("vin42", "s3cret", "n,,r=x,n=vin42"), BAD),
            case("anonymous", "right: none", Login::Nothing, In("nobody")),
            case("anonymous", "wrong: some", password("vin42", "s3cret"), BAD),
        ]
    }

    /// The table of these rows, and what must be in Kafka then.
    fn run(&self, cases: &[Case]) -> (String, Vec<String>) {
        run(cases, TOPIC, |case| &self.proxies[case.method])
    }
}

/// What becomes of each by each client that has such a login: the rows of the table, and what must be in Kafka then.
fn run<'a>(cases: &'a [Case], topic: &'a str, proxy_of: impl Fn(&Case) -> &'a Proxy) -> (String, Vec<String>) {
    run_by(&Client::ALL, cases, topic, proxy_of)
}

/// The same by these clients.
fn run_by<'a>(clients: &[Client], cases: &'a [Case], topic: &'a str, proxy_of: impl Fn(&Case) -> &'a Proxy) -> (String, Vec<String>) {
    let mut cells = vec![BTreeMap::new(); cases.len()];
    let mut stored = vec![];
    for &client in clients {
        let all = cases
            .iter()
            .enumerate()
            .flat_map(|(at, case)| VERSIONS.map(|version| (at, case, version)));
        let of_it = all.filter(|(_, case, version)| client.knows(&case.login, *version));
        let (rows, attempts): (Vec<_>, Vec<_>) = of_it
            .map(|(row, case, version)| {
                let proxy = proxy_of(case);
                (
                    row,
                    Attempt {
                        client,
                        version,
                        case,
                        proxy,
                        topic,
                    },
                )
            })
            .unzip();
        if attempts.is_empty() {
            continue;
        }
        let told = outcomes(client, &attempts);
        assert_eq!(told.len(), attempts.len(), "{client:?}: {told:#?}");
        for ((row, attempt), told) in rows.into_iter().zip(&attempts).zip(told) {
            assert_eq!(told, wanted(attempt), "{}", attempt.value());
            if let In(identity) = attempt.case.wanted {
                stored.push(format!("{identity}|{}", attempt.value()));
            }
            cells[row].insert(format!("{client:?} {}", attempt.version), told);
        }
    }
    let row = |(case, cells): (&Case, &BTreeMap<_, _>)| format!("{}, {}: {cells:?}\n", case.method, case.state);
    (cases.iter().zip(&cells).map(row).collect(), stored)
}

/// All that is published to the topic goes to Kafka under the identity, which is known by this method only.
fn rules(topic: &str, method: &str, more: &str) -> String {
    let key = if method == "anonymous" { "nobody" } else { "{identity}" };
    format!(
        "  - {{name: all, mqtt: {topic}, kafka: {{topic: {topic}, key: \"{key}\"}}}}\n\
         authentication: [{{method: {method}{more}}}]"
    )
}

/// A proxy that knows logins by this method only; its TLS listener asks for certificates of this authority that are not on this list.
fn proxy(kafka: &Kafka, topic: &str, method: &str, more: &str, own: &[String; 2]) -> Proxy {
    let rules = rules(topic, method, more);
    let [ca, crl] = own;
    let former = format!("client_ca: \"{}\"", certificates().join("ca.pem").display());
    Proxy::start_edited(&kafka.bootstrap, &rules, |text| {
        text.replace(&former, &format!("client_ca: \"{ca}\", client_crl: \"{crl}\""))
    })
}

/// A file of lines.
fn replace(path: &Path, users: &[&str], line: impl Fn(&str) -> String) {
    let lines = users
        .iter()
        .fold(String::new(), |text, user| passwords::with_line(&text, user, &line(user)));
    fs::write(path, lines).unwrap();
}

/// What the server says of a login, by its password. It has no good answer where what it was asked is no JSON.
fn decision(asked: &Value, lets_in: bool) -> String {
    let said = match asked["password"].as_str().unwrap_or_default() {
        _ if asked.is_null() => "",
        "0pen-up" => r#"{"result": "allow", "identity": "web7"}"#,
        "expired" => r#"{"result": "allow", "identity": "web7", "expires_at": 1000000000}"#,
        "garbled" => r#"{"result": "allow", "identity""#,
        "withdrawn" if lets_in => r#"{"result": "allow"}"#,
        _ => r#"{"result": "deny"}"#,
    };
    said.to_owned()
}

fn certificate(authority: &Authority, name: &str) -> Login {
    Login::Certificate(["pem", "key"].map(|kind| authority.file(&format!("{name}.{kind}"))))
}

/// A token under the key of this number.
fn signed(key: &Ed25519KeyPair, number: usize, subject: &str, expires: u64) -> String {
    token_with(key, &format!(r#"{{"alg":"EdDSA","kid":"{number}"}}"#), subject, expires)
}

fn scram(user: &'static str, password: &'static str, first: &'static str) -> Login {
    Login::Scram { user, password, first }
}

fn proven(user: &'static str, password: &'static str) -> Login {
    scram(user, password, "proven")
}

fn wanted(attempt: &Attempt<'_>) -> String {
    match attempt.case.wanted {
        In(_) => "in".to_owned(),
        Closed => "closed".to_owned(),
        Refused(code) => format!("refused {}", attempt.client.code(attempt.version, code)),
    }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn each_method_takes_what_is_right_and_nothing_else_from_each_client() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 1);
    let stage = Stage::start(&kafka);
    let mut cases = stage.cases();
    let withdrawn = |wanted: fn(&str) -> Wanted, state| {
        let cases = stage.withdrawn().into_iter().map(move |(method, login)| Case {
            method,
            state,
            login,
            wanted: wanted(method),
        });
        cases.collect::<Vec<_>>()
    };
    cases.extend(withdrawn(|_| In("withdrawn"), "right yet"));
    let (mut table, mut stored) = stage.run(&cases);
    stage.withdraw();
    let revoked = withdrawn(|method| if method == "certificate" { Closed } else { BAD }, "revoked");
    for case in revoked.iter().filter(|case| Client::Mosquitto.knows(&case.login, 5)) {
        let attempt = Attempt {
            client: Client::Mosquitto,
            version: 5,
            case,
            proxy: &stage.proxies[case.method],
            topic: TOPIC,
        };
        // Files are looked at once a second. Until then it is let in, which leaves records.
        eventually("who is withdrawn is refused", || (mosquitto(&attempt) != "in").then_some(()));
    }
    let (more, _) = stage.run(&revoked);
    table += &more;
    println!("{table}");
    let is_late = |line: &String| line.contains("revoked");
    let mut found: Vec<_> = kafka.consume(TOPIC, "%k|%s").into_iter().filter(|line| !is_late(line)).collect();
    found.sort_unstable();
    stored.sort_unstable();
    assert_eq!(found, stored, "who was let in, as whom, and nobody else");
    let by_browsers = |proxy: &Proxy| proxy.metric(&["connections_opened_total", "listener=\"wss\""]);
    assert!(stage.proxies.values().map(by_browsers).sum::<f64>() >= 16.0);
    for (method, proxy) in &stage.proxies {
        let log = proxy.log();
        assert!(log.contains("login_refused"), "{method}: {log}");
        for secret in ["s3cret", "0pen-up", "eyJ"] {
            assert!(!log.contains(secret), "{method}: a secret in the log");
        }
    }
}
