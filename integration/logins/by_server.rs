//! Logins that a server has a part in, by each real client: tokens whose keys it has, and certificates of which it says who that is.

use super::Wanted::{self, Closed, In, Refused};
use super::clients::{Client, VERSIONS, mosquitto};
use super::{Attempt, BAD, Case, Login, NOT_AUTHORIZED, certificate, now, proxy, run, signed};
use crate::access::server;
use crate::security::Authority;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, eventually};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The set of so many of the keys.
fn set(keys: &[Ed25519KeyPair]) -> String {
    let keys = keys.iter().enumerate().map(|(number, key)| {
        let x = BASE64.encode(key.public_key());
        json!({"kid": number.to_string(), "kty": "OKP", "crv": "Ed25519", "x": x})
    });
    json!({"keys": keys.collect::<Vec<_>>()}).to_string()
}

fn case(method: &'static str, state: &'static str, login: Login, wanted: Wanted) -> Case {
    Case {
        method,
        state,
        login,
        wanted,
    }
}

/// Who was let in is refused: one client tries until that is so, then all do. Tries that come too early leave records with "revoked" in them.
fn is_refused_soon(revoked: &Case, topic: &str, proxy: &Proxy) {
    let attempt = Attempt {
        client: Client::Mosquitto,
        version: 5,
        case: revoked,
        proxy,
        topic,
    };
    eventually("who is withdrawn is refused", || (mosquitto(&attempt) != "in").then_some(()));
    let (table, _) = run(std::slice::from_ref(revoked), topic, |_| proxy);
    println!("{table}");
}

/// All records but those of tries that came too early.
fn found(kafka: &Kafka, topic: &str) -> Vec<String> {
    let mut found = kafka.consume(topic, "%k|%s");
    found.retain(|line| !line.contains("revoked"));
    found.sort_unstable();
    found
}

/// Tokens, under keys by URL: the table, but for who is withdrawn.
fn by_token(keys: &[Ed25519KeyPair; 2]) -> Vec<Case> {
    let (hour, past) = (now() + 3600, now() - 60);
    let stranger = Ed25519KeyPair::generate().unwrap();
    let token = |key, number, expires| Login::Password("any", signed(key, number, "tok7", expires));
    let password = |password: &str| Login::Password("any", password.to_owned());
    let (jwt, garbled) = ("jwt by URL", "jwt by URL, malformed set");
    vec![
        case(jwt, "right", token(&keys[0], 0, hour), In("tok7")),
        case(
            jwt,
            "right yet",
            Login::Password("any", signed(&keys[1], 1, "tok8", hour)),
            In("tok8"),
        ),
        case(jwt, "wrong: forged", token(&stranger, 0, hour), BAD),
        case(jwt, "wrong: an unknown key", token(&stranger, 7, hour), BAD),
        case(jwt, "wrong: another key of the set", token(&keys[0], 1, hour), BAD),
        case(jwt, "missing", Login::Nothing, NOT_AUTHORIZED),
        case(jwt, "missing token", Login::User("any"), BAD),
        case(jwt, "missing token, a password", password("s3cret"), BAD),
        case(jwt, "expired", token(&keys[0], 0, past), BAD),
        case(jwt, "malformed", password("eyJ.eyJ.x"), BAD),
        case(garbled, "right, and nobody can tell", token(&keys[0], 0, hour), Refused(0x88)),
        case(garbled, "missing", Login::Nothing, NOT_AUTHORIZED),
    ]
}

#[test]
fn tokens_are_taken_by_the_keys_that_a_server_has_and_no_longer_than_it_has_them() {
    let topic = "logins-by-url";
    let kafka = shared_kafka();
    kafka.topic(topic, 1);
    let keys = [(); 2].map(|()| Ed25519KeyPair::generate().unwrap());
    let has_all = Arc::new(AtomicBool::new(true));
    let (all, fewer, asked) = (set(&keys), set(&keys[..1]), has_all.clone());
    let url = server(move |path, _| match path {
        "/keys" if asked.load(Relaxed) => all.clone(),
        "/keys" => fewer.clone(),
        _ => "{\"keys\": [".to_owned(),
    });
    let rules = |path: &str| super::rules(topic, "jwt", &format!(", jwks: \"{url}/{path}\""));
    let [good, garbled] = ["keys", "garbled"].map(|path| Proxy::start(&kafka.bootstrap, &rules(path), ""));
    let cases = by_token(&keys);
    let (table, mut stored) = run(&cases, topic, |case| if case.method == "jwt by URL" { &good } else { &garbled });
    println!("{table}");
    let logins = Client::ALL.len() * VERSIONS.len();
    for (why, cases) in [
        ("token_signature", 2),
        ("token_unknown_key", 1),
        ("token_expired", 1),
        ("malformed_token", 1),
        ("unknown_credentials", 2),
        ("no_credentials", 1),
    ] {
        assert_eq!(good.metric(&["refusals_total", why]), (cases * logins) as f64, "{why}");
    }
    assert_eq!(garbled.metric(&["refusals_total", "key_set_unavailable"]), logins as f64);
    assert!(garbled.metric(&["key_set_fetch_failures_total"]) > 0.0);
    has_all.store(false, Relaxed);
    good.reads_anew();
    let withdrawn = Login::Password("any", signed(&keys[1], 1, "tok8", now() + 3600));
    is_refused_soon(&case("jwt by URL", "revoked", withdrawn, BAD), topic, &good);
    stored.sort_unstable();
    assert_eq!(found(&kafka, topic), stored, "who was let in, as whom, and nobody else");
    for proxy in [&good, &garbled] {
        assert!(!proxy.log().contains("eyJ"), "a secret in the log");
    }
}

/// What the server says of a certificate, or of a client without one.
fn decision(asked: &Value, lets_in: bool) -> String {
    let said = match asked["certificate"]["common_name"].as_str() {
        Some("vin42") => r#"{"result": "allow", "identity": "web42"}"#,
        Some("withdrawn") if lets_in => r#"{"result": "allow", "identity": "web43"}"#,
        // It has no user name that could be the identity.
        Some("unnamed") => r#"{"result": "allow"}"#,
        Some("brief") => r#"{"result": "allow", "identity": "web44", "expires_at": 1000000000}"#,
        Some("garbled") => r#"{"result": "allow", "identity""#,
        _ => r#"{"result": "deny"}"#,
    };
    said.to_owned()
}

/// Certificates of the fleet, and others.
fn by_certificate(fleet: &Authority, strangers: &Authority) -> Vec<Case> {
    let case = |state, login, wanted| case("http, a certificate", state, login, wanted);
    let of_fleet = |name| certificate(fleet, name);
    vec![
        case("right", of_fleet("vin42"), In("web42")),
        case("right yet", of_fleet("withdrawn"), In("web43")),
        case("wrong", of_fleet("other"), BAD),
        case("wrong: a stranger", certificate(strangers, "vin42"), Closed),
        case("missing", Login::Nothing, NOT_AUTHORIZED),
        case("missing, a password", Login::Password("vin42", "s3cret".to_owned()), BAD),
        case("expired", of_fleet("old"), Closed),
        case("expired by what the server says", of_fleet("brief"), BAD),
        case("revoked by a list", of_fleet("listed"), Closed),
        case("malformed: no name", of_fleet(""), BAD),
        case("malformed: nobody", of_fleet("unnamed"), BAD),
        case("malformed answer", of_fleet("garbled"), Refused(0x88)),
    ]
}

#[test]
fn a_server_says_who_a_good_certificate_is_and_is_not_asked_of_others() {
    let topic = "logins-by-decision";
    let kafka = shared_kafka();
    kafka.topic(topic, 1);
    let folder = tempfile::tempdir().unwrap();
    let [fleet, strangers] = ["fleet", "strangers"].map(|name| Authority::new(folder.path(), name));
    for name in ["vin42", "withdrawn", "other", "brief", "listed", "unnamed", "garbled", ""] {
        fleet.issue(name, &[]);
    }
    fleet.issue_until("old", &[], 2021);
    strangers.issue("vin42", &[]);
    fleet.revoke(&["listed"]);
    let lets_in = Arc::new(AtomicBool::new(true));
    let knows = lets_in.clone();
    let url = server(move |_, asked| decision(asked, knows.load(Relaxed)));
    let own = ["ca.pem", "ca.crl"].map(|name| fleet.file(name));
    let proxy = proxy(&kafka, topic, "http", &format!(", url: \"{url}\", cache: 0s"), &own);
    let cases = by_certificate(&fleet, &strangers);
    let (table, mut stored) = run(&cases, topic, |_| &proxy);
    println!("{table}");
    // Seven certificates pass the handshake. Browsers have none; a password comes by all clients.
    let (with, all) = ((Client::ALL.len() - 1) * VERSIONS.len(), Client::ALL.len() * VERSIONS.len());
    assert_eq!(
        proxy.metric(&["login_requests_total"]),
        (7 * with + all) as f64,
        "it is asked of no others"
    );
    assert_eq!(proxy.metric(&["login_request_failures_total"]), with as f64);
    for (why, count) in [
        ("denied_by_server", 2 * with + all),
        ("credentials_expired", with),
        ("identity_not_legal", with),
        ("login_server_unavailable", with),
        ("no_credentials", all),
    ] {
        assert_eq!(proxy.metric(&["refusals_total", why]), count as f64, "{why}");
    }
    // By whom TLS has verified, as no user name was shown; a password, by its user name.
    for (named, why) in [
        ("other", "denied_by_server"),
        ("brief", "credentials_expired"),
        ("unnamed", "identity_not_legal"),
        ("garbled", "login_server_unavailable"),
        ("vin42", "denied_by_server"),
    ] {
        let (whom, why) = (format!("identity=\"{named}\" address=\"127.0.0.1:"), format!("reason=\"{why}\""));
        let log = proxy.log();
        let is_told = |line: &str| ["event=\"login_refused\"", &whom, &why].iter().all(|part| line.contains(part));
        assert!(log.lines().any(is_told), "{named}: {log}");
    }
    lets_in.store(false, Relaxed);
    let withdrawn = case("http, a certificate", "revoked", certificate(&fleet, "withdrawn"), BAD);
    is_refused_soon(&withdrawn, topic, &proxy);
    stored.sort_unstable();
    assert_eq!(found(&kafka, topic), stored, "who was let in, as whom, and nobody else");
}
