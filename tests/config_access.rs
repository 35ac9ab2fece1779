//! `authentication`, `authorization`, `unauthorized`: what is written, and each fault with its place and no secret.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod config_file;

use std::path::Path;

use config_file::{GOOD, assert_fault, only, with};
use mqtt_kafka_proxy::auth::{Action, CertificateName, Method, Principal, Subject, passwords};
use mqtt_kafka_proxy::config::{self, Config, Problem};
use mqtt_kafka_proxy::mqtt::QoS;
use mqtt_kafka_proxy::relay::Unauthorized;

/// A key set that can be used.
const KEYS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn parse(folder: &Path, more: &str) -> Result<Config, Vec<Problem>> {
    config::parse(&with(more), folder, &|name| (name == "SECRET").then(|| "hunter2".to_owned()))
}

#[test]
fn methods_and_rights_are_meant_as_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users.txt"), passwords::entry("a", b"b").unwrap()).unwrap();
    std::fs::write(folder.path().join("keys.json"), KEYS).unwrap();
    let config = parse(
        folder.path(),
        "authentication:\n\
         - {method: certificate, identity: dns, client_id: identity}\n\
         - {method: jwt, jwks: keys.json, claim: device, issuer: i, audience: a, leeway: 1m, client_id: identity_prefix}\n\
         - {method: password_file, file: users.txt, client_id: any}\n\
         - {method: anonymous}\n\
         authorization:\n\
         - {deny: [publish], who: {client: \"bad-*\"}, topics: [\"#\"]}\n\
         - {allow: [publish, subscribe], who: {identity: \"*\", claims: {fleet: \"n*\"}}, topics: [\"v/{identity}/#\", \"f/{claim.fleet}\"], qos: 1, retain: false}\n\
         unauthorized: drop",
    )
    .unwrap();
    assert_eq!(config.access.chain.as_ref().unwrap().methods().count(), 4);
    assert_eq!(config.access.unauthorized, Unauthorized::Drop);
    let rights = config.access.rights.unwrap();
    assert_eq!(rights.claims(), ["fleet"]);
    let principal = Principal {
        name: "vin".into(),
        claims: Box::new([("fleet".into(), "north".into())]),
    };
    let may = |client, action, topic, qos| {
        let principal = Some(&principal);
        rights.permit(&Subject { principal, client }, action, topic, qos)
    };
    let (plain, retained) = (Action::Publish { retain: false }, Action::Publish { retain: true });
    assert!(may("c", plain, "v/vin/x", QoS::AtLeastOnce) && may("c", Action::Subscribe, "f/north", QoS::AtMostOnce));
    assert!(!may("bad-1", plain, "v/vin/x", QoS::AtLeastOnce), "denied");
    assert!(may("bad-1", Action::Subscribe, "v/vin/x", QoS::AtLeastOnce), "only publishing is");
    assert!(!may("c", plain, "v/vin/x", QoS::ExactlyOnce) && !may("c", retained, "v/vin/x", QoS::AtMostOnce));
}

#[test]
fn each_name_of_a_certificate_may_be_the_identity() {
    for (written, meant) in [
        ("", CertificateName::CommonName),
        (", identity: common_name", CertificateName::CommonName),
        (", identity: subject", CertificateName::Subject),
        (", identity: dns", CertificateName::Dns),
        (", identity: uri", CertificateName::Uri),
        (", identity: email", CertificateName::Email),
        (", identity: ip", CertificateName::Ip),
    ] {
        let config = parse(Path::new("."), &format!("authentication: [{{method: certificate{written}}}]")).unwrap();
        let chain = config.access.chain.unwrap();
        let [Method::Certificate(name)] = chain.methods().collect::<Vec<_>>()[..] else {
            panic!("{chain:?}")
        };
        assert_eq!(*name, meant, "{written}");
    }
}

/// `GOOD` with listeners `a`, `b` and so on that have this, and this as line 9 or so.
fn of_listeners(listeners: &[&str], more: &str) -> String {
    let tcp = GOOD.lines().nth(1).unwrap();
    let listener = |(name, more): (char, &&str)| {
        let port = u32::from(name);
        format!("  - {{name: {name}, address: \"127.0.0.1:{port}\", protocol: mqtt{more}}}")
    };
    let listeners: Vec<String> = ('a'..).zip(listeners).map(listener).collect();
    format!("{}{more}\n", GOOD.replace(tcp, &listeners.join("\n")))
}

const NONE: &str = ", authentication: none";
const LIST: &str = ", authentication: [{method: anonymous}]";

#[test]
fn listeners_may_have_their_own() {
    let text = of_listeners(&[LIST, ""], "authentication: none");
    let config = config::parse(&text, Path::new("."), &|_| None).unwrap();
    assert_eq!(config.access.listeners.keys().collect::<Vec<_>>(), ["a"]);
    assert!(config.access.chain.is_none());
}

/// Whether methods are asked: of `a`, of `b`, and of any.
#[test]
fn who_is_let_in_is_what_the_listener_says_or_else_the_file() {
    let of_all = "authentication: [{method: certificate}]";
    for (listeners, more, asked) in [
        (["", ""], "authentication: none", [false, false, false]),
        (["", ""], "authentication: \"none\"", [false, false, false]),
        (["", ""], of_all, [true, true, true]),
        ([NONE, ""], of_all, [false, true, true]),
        ([NONE, NONE], of_all, [false, false, false]),
        ([LIST, ""], "authentication: none", [true, false, true]),
        ([LIST, NONE], "", [true, false, true]),
        ([LIST, LIST], "", [true, true, true]),
        ([NONE, NONE], "", [false, false, false]),
    ] {
        let text = of_listeners(&listeners, more);
        let config = config::parse(&text, Path::new("."), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"));
        let of = |name| config.access.chain(name).is_some();
        assert_eq!([of("a"), of("b"), config.access.asks_who()], asked, "{text}");
    }
}

/// Nobody is let in by an omission.
#[test]
fn who_is_let_in_must_be_written() {
    const OF_FILE: &str = "the file has no `authentication`";
    const OF_LISTENER: &str = "`listeners[]` has no `authentication`, and the file has none for all";
    let own = "listeners[].authentication";
    for (text, expected) in [
        (of_listeners(&["", ""], ""), vec![(1, 1, OF_FILE)]),
        (of_listeners(&[LIST, ""], ""), vec![(3, 5, OF_LISTENER)]),
        (of_listeners(&["", NONE, ""], ""), vec![(2, 5, OF_LISTENER), (4, 5, OF_LISTENER)]),
        // What follows from it is no fault of its own.
        (
            of_listeners(&["", ""], "limits: {connections_per_identity: 3}"),
            vec![(1, 1, OF_FILE)],
        ),
        (
            of_listeners(&["", ""], "authentication:"),
            vec![(10, 1, "`authentication` has no value")],
        ),
        (
            of_listeners(&["", ""], "authentification: none"),
            vec![(10, 1, "did you mean `authentication`?")],
        ),
        (
            of_listeners(&[LIST, ", authenticaton: none"], ""),
            vec![(3, 56, "did you mean `authentication`?")],
        ),
        (of_listeners(&[LIST, ", authentication: "], ""), vec![(3, 56, own)]),
        (
            of_listeners(&["", ""], "authentication: anonymous"),
            vec![(
                10,
                17,
                "`authentication`: `anonymous` is no list of methods; write methods as `- {method: …}`, or `none`",
            )],
        ),
        (
            of_listeners(&["", ""], "authentication: {method: anonymous}"),
            vec![(10, 17, "is not a list")],
        ),
        (of_listeners(&[LIST, ", authentication: []"], ""), vec![(3, 72, "is empty")]),
        (of_listeners(&[LIST, ", authentication: no"], ""), vec![(3, 72, own)]),
        (
            of_listeners(&["", ""], "authentication: \"${SECRET}\""),
            vec![(10, 17, "`${SECRET}` is no list of methods")],
        ),
        // Where listeners cannot be read, or are missing, too.
        (GOOD.replace("  - {name: tcp", "  {name: tcp"), vec![(2, 3, "is not a list")]),
    ] {
        let told = config::parse(&text, Path::new("."), &|_| Some("hunter2".to_owned()))
            .err()
            .unwrap_or_default();
        let places: Vec<_> = told.iter().map(|fault| (fault.line, fault.column)).collect();
        assert_eq!(
            places,
            expected.iter().map(|(line, column, _)| (*line, *column)).collect::<Vec<_>>(),
            "{told:#?}\n{text}"
        );
        for (fault, (.., words)) in told.iter().map(ToString::to_string).zip(expected) {
            assert!(fault.contains(words) && !fault.contains("hunter2"), "{fault}\nhas no: {words}");
            let omitted = words == OF_FILE || words == OF_LISTENER;
            assert_eq!(
                fault.contains("or `authentication: none`, which lets everybody in"),
                omitted,
                "{fault}"
            );
            assert_eq!(fault.ends_with("a listener may have its own"), words == OF_FILE, "{fault}");
        }
    }
    let told = config::parse(
        "kafka: {bootstrap_servers: [\"k:1\"]}\nrules: [{name: a, mqtt: a, kafka: {topic: t}}]\n",
        Path::new("."),
        &|_| None,
    );
    let told: Vec<String> = told.unwrap_err().iter().map(|fault| fault.message.clone()).collect();
    assert_eq!(told, ["the file has no `authentication`", "the file has no `listeners`"]);
}

/// Lists of several listeners that name the same set share it.
#[test]
fn key_sets_of_servers_are_meant_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let ca = rcgen::generate_simple_self_signed(["login.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca.cert.pem()).unwrap();
    let config = parse(
        folder.path(),
        "authentication:\n\
         - {method: jwt, jwks: \"https://login.example/keys?x=y\", ca: ca.pem, refresh: 5m}\n\
         - {method: jwt, jwks: \"https://login.example/keys?x=y\", claim: device, ca: ca.pem, refresh: 5m}\n\
         - {method: jwt, jwks: \"http://other.example:8080/\"}",
    )
    .unwrap();
    let [first, second] = &config.access.key_sets[..] else {
        panic!("{:?}", config.access.key_sets)
    };
    assert_eq!(first.http.url.to_string(), "https://login.example/keys");
    assert_eq!(
        (&first.http.ca, first.refresh.as_secs()),
        (&Some(folder.path().join("ca.pem")), 300)
    );
    assert_eq!((&second.http.ca, second.refresh.as_secs()), (&None, 3600));
    let chain = config.access.chain.unwrap();
    let sets: Vec<_> = chain.fetched().map(std::sync::Arc::as_ptr).collect();
    let (first, second) = (std::sync::Arc::as_ptr(&first.keys), std::sync::Arc::as_ptr(&second.keys));
    assert_eq!(sets, [first, first, second]);
}

#[test]
fn servers_of_logins_are_meant_as_written() {
    let config = parse(
        Path::new("."),
        "authentication:\n\
         - {method: http, url: \"https://auth.example/mqtt\", token: \"${SECRET}\", timeout: 2s, concurrency: 8, cache: 0s, client_id: identity}\n\
         - {method: http, url: \"http://127.0.0.1:8080\", client_id: any}\n\
         - {method: http, url: \"http://127.0.0.1:8080\", client_id: any}\n\
         authorization: [{allow: [publish], topics: [\"f/{claim.fleet}\"]}]",
    )
    .unwrap();
    let [first, second] = &config.access.login_servers[..] else {
        panic!("{:?}", config.access.login_servers)
    };
    assert!(!format!("{first:?}").contains("hunter2"));
    assert_eq!(**first.token.as_ref().unwrap().read().unwrap(), *"hunter2");
    assert_eq!((first.timeout.as_secs(), first.concurrency, first.cache.as_secs()), (2, 8, 0));
    assert_eq!(first.kept, ["fleet"]);
    assert_eq!((second.timeout.as_secs(), second.concurrency, second.cache.as_secs()), (5, 64, 30));
    let chain = config.access.chain.unwrap();
    let numbers: Vec<_> = chain
        .methods()
        .map(|m| if let Method::Http(n) = m { *n } else { usize::MAX })
        .collect();
    assert_eq!(numbers, [0, 1, 1]);
}

#[test]
fn faults_have_their_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain.txt"), "vin42:hunter2").unwrap();
    std::fs::write(folder.path().join("oct.json"), r#"{"keys": [{"kty": "oct", "k": "aHVudGVyMg"}]}"#).unwrap();
    std::fs::write(folder.path().join("keys.json"), KEYS).unwrap();
    for (line, column, words) in [
        ("authentication: []", 17, "is empty"),
        ("authentication: [{identity: dns}]", 18, "no `method`"),
        (
            "authentication: [none]",
            18,
            "`none` is no method; write `authentication: none` in the place of the list",
        ),
        (
            "authentication: [{method: anonymous}, {method: none}]",
            39,
            "`none` is no method; write `authentication: none` in the place of the list",
        ),
        ("authentication: [{method: pasword_file}]", 27, "did you mean `password_file`?"),
        ("authentication: [{method: scram}]", 18, "no `file`"),
        ("authentication: [{method: scram, file: plain.txt}]", 40, "line 1: no verifier"),
        (
            "authentication: [{method: http}]",
            18,
            "no `url`; add `url: https://auth.example/mqtt`",
        ),
        (
            "authentication: [{method: http, url: \"auth.example\"}]",
            38,
            "does not begin with http",
        ),
        (
            "authentication: [{method: http, url: \"https://a:99999/\"}]",
            38,
            "`authentication[].url`: `https://a:99999/` has no port from 1 to 65535",
        ),
        (
            "authentication: [{method: http, url: \"https://a/\", token: hunter2}]",
            59,
            "stands in the file itself",
        ),
        ("authentication: [{method: http, url: \"https://a/\", timeout: 2m}]", 61, "timeout"),
        (
            "authentication: [{method: http, url: \"https://a/\", concurrency: 0}]",
            65,
            "concurrency",
        ),
        ("authentication: [{method: http, url: \"https://a/\", cache: 2h}]", 59, "cache"),
        ("authentication: [{method: anonymous, file: x}]", 38, "unknown key"),
        ("authentication: [{method: certificate, identity: cn}]", 50, "not a choice"),
        (
            "authentication: [{method: certificate, client_id: identity}, {method: certificate, identity: dns}, {method: anonymous}]",
            62,
            "says nothing of client ids, and another binds them",
        ),
        ("authentication: [{method: password_file}]", 18, "no `file`"),
        ("authentication: [{method: password_file, file: gone.txt}]", 48, "cannot be read"),
        (
            "authentication: [{method: password_file, file: gone.txt}]",
            48,
            "; make it with `mqtt-kafka-proxy password users.txt NAME <FILE`, and let this user read it; a relative path begins in the folder",
        ),
        (
            "authentication: [{method: scram, file: gone.txt}]",
            40,
            "; make it with `mqtt-kafka-proxy password --scram scram.txt NAME <FILE`, and let",
        ),
        (
            "authentication: [{method: jwt, jwks: gone.json}]",
            38,
            "; give the JWK set of who issues the tokens, and let",
        ),
        (
            "authentication: [{method: jwt, jwks: plain.txt}]",
            38,
            "; mend the file, or name another",
        ),
        (
            "authentication: [{method: password_file, file: plain.txt}]",
            48,
            "line 1: no argon2id hash",
        ),
        (
            "authentication: [{method: password_file, file: \"${SECRET}\"}]",
            48,
            "cannot be read",
        ),
        ("authentication: [{method: jwt, jwks: oct.json}]", 38, "shared secret"),
        ("authentication: [{method: jwt, jwks: keys.json, leeway: 2h}]", 57, "leeway"),
        (
            "authentication: [{method: jwt, jwks: keys.json, refresh: 5m}]",
            58,
            "`jwks` that is a file",
        ),
        (
            "authentication: [{method: jwt, jwks: keys.json, ca: plain.txt}]",
            53,
            "`jwks` that is a file",
        ),
        (
            "authentication: [{method: jwt, jwks: \"https://u:p@a/\"}]",
            38,
            "a user or a password",
        ),
        ("authentication: [{method: jwt, jwks: \"https://a/\", refresh: 5s}]", 61, "refresh"),
        (
            "authentication: [{method: jwt, jwks: \"https://a/\", ca: gone.pem}]",
            56,
            "cannot be read",
        ),
        (
            "authentication: [{method: jwt, jwks: \"https://a/\", ca: plain.txt}]",
            56,
            "holds no certificate",
        ),
        ("limits: {connections_per_identity: 3}", 9, "with `authentication: none`"),
        ("limits: {connections_per_identity: 0}", 36, "connections_per_identity"),
        ("authorization: []", 16, "is empty"),
        ("authorization: [{topics: [a]}]", 17, "one of `allow` and `deny`"),
        (
            "authorization: [{allow: [publish], deny: [publish], topics: [a]}]",
            17,
            "one of `allow` and `deny`",
        ),
        ("authorization: [{allow: [publsh], topics: [a]}]", 26, "did you mean `publish`?"),
        ("authorization: [{allow: [publish]}]", 17, "no `topics`"),
        ("authorization: [{allow: [publish], topics: [\"a/#/b\"]}]", 45, "is no pattern"),
        (
            "authorization: [{allow: [publish], topics: [\"{vin}\"]}]",
            45,
            "{identity}, {client} or {claim.NAME}",
        ),
        ("authorization: [{deny: [publish], topics: [a], qos: 1}]", 53, "beside `deny`"),
        ("authorization: [{allow: [publish], topics: [a], qos: 3}]", 54, "not a choice"),
        ("unauthorized: reject", 15, "not a choice"),
    ] {
        let found = parse(folder.path(), line).unwrap_err();
        assert_fault(&found, line, (9, column), words);
        let told = only(&found, line).to_string();
        assert!(!told.contains("hunter2") && !told.contains("aHVudGVyMg"), "{told}");
    }
}
