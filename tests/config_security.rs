//! `kafka.security`: what is written is what is meant, each fault has its place, and no secret is in any.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod config_file;

use std::fs;
use std::path::Path;

use config_file::{GOOD, assert_fault, only};
use mqtt_kafka_proxy::config::{self, Config, Problem};
use mqtt_kafka_proxy::kafka::sasl::Hash;
use mqtt_kafka_proxy::upstream::{SaslSettings, Secret, TlsSettings, TokenSource};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

const SECRET: &str = "hunter2hunter2";

fn environment(name: &str) -> Option<String> {
    match name {
        "PASSWORD" => Some(SECRET.to_owned()),
        "SLY" => Some("file:/etc/passwd".to_owned()),
        "EMPTY" => Some(String::new()),
        "NUL" => Some("a\0b".to_owned()),
        "NAME" => Some("käfer".to_owned()),
        _ => None,
    }
}

/// The table stands in line 4, from column 13 on.
fn parse(folder: &Path, security: &str) -> Result<Config, Vec<Problem>> {
    let text = GOOD.replace("kafka:\n", &format!("kafka:\n  security: {security}\n"));
    config::parse(&text, folder, &environment)
}

/// A folder with an authority, two pairs of certificate and key, and a password.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["a", "b"] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        write(&format!("{name}.pem"), &certificate.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    write("password", &format!("{SECRET}\n"));
    write("empty", "");
    write("notes", "no PEM in here\n");
    folder
}

#[track_caller]
fn security(folder: &TempDir, text: &str) -> (Option<TlsSettings>, Option<SaslSettings>) {
    let config = parse(folder.path(), text).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"));
    (config.kafka.security.tls, config.kafka.security.sasl)
}

#[test]
fn all_that_is_written_is_meant() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(security(&folder, "{}"), (None, None));
    assert_eq!(security(&folder, "{protocol: plaintext}"), (None, None));
    assert_eq!(security(&folder, "{protocol: ssl}"), (Some(TlsSettings::default()), None));
    let tls = TlsSettings {
        ca: Some(at("b.pem")),
        identity: Some((at("a.pem"), at("a.key"))),
    };
    let text = "{protocol: ssl, tls: {ca: b.pem, certificate: a.pem, key: a.key}}";
    assert_eq!(security(&folder, text), (Some(tls), None));
    let (username, file) = ("proxy".to_owned(), Secret::File(at("password")));
    let scram = SaslSettings::Scram {
        hash: Hash::Sha512,
        username: username.clone(),
        password: Secret::Text(SECRET.to_owned().into()),
    };
    let text = "{protocol: sasl_plaintext, sasl: {mechanism: SCRAM-SHA-512, username: proxy, password: \"${PASSWORD}\"}}";
    assert_eq!(security(&folder, text), (None, Some(scram)));
    let plain = SaslSettings::Plain { username, password: file };
    let text = "{protocol: sasl_ssl, sasl: {mechanism: PLAIN, username: proxy, password: \"file:password\"}}";
    assert_eq!(security(&folder, text), (Some(TlsSettings::default()), Some(plain)));
}

#[test]
fn a_path_that_only_a_variable_holds_is_a_password() {
    let text = "{protocol: sasl_ssl, sasl: {mechanism: PLAIN, username: proxy, password: \"${SLY}\"}}";
    let (_, sasl) = security(&folder(), text);
    let password = Secret::Text("file:/etc/passwd".to_owned().into());
    assert_eq!(
        sasl,
        Some(SaslSettings::Plain {
            username: "proxy".to_owned(),
            password
        })
    );
}

#[test]
fn each_fault_has_its_place_and_its_remedy() {
    let folder = folder();
    let good = "mechanism: PLAIN, username: u, password: \"${PASSWORD}\"";
    for (text, column, words) in [
        ("{protocol: SSL}".to_owned(), 24, "did you mean `ssl`?"),
        (
            "{protocol: kerberos}".to_owned(),
            24,
            "write `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`",
        ),
        (
            "{tls: {}}".to_owned(),
            19,
            "does not use it; write `protocol:` `ssl` or `sasl_ssl`, or remove `tls`",
        ),
        ("{protocol: plaintext, tls: {ca: a.pem}}".to_owned(), 40, "does not use it"),
        (
            format!("{{protocol: ssl, sasl: {{{good}}}}}"),
            35,
            "does not use it; write `protocol:` `sasl_ssl` or",
        ),
        (
            "{protocol: sasl_ssl}".to_owned(),
            13,
            "asks for SASL, but there is no `sasl`; add `sasl: {mechanism: ",
        ),
        (
            "{protocol: sasl_ssl, sasl: {username: u, password: \"${PASSWORD}\"}}".to_owned(),
            40,
            "has no `mechanism`",
        ),
        (
            "{protocol: sasl_ssl, sasl: {mechanism: PLAIN, password: \"${PASSWORD}\"}}".to_owned(),
            40,
            "has no `username`",
        ),
        (
            "{protocol: sasl_ssl, sasl: {mechanism: SCRAM-SHA-256, username: u}}".to_owned(),
            40,
            "has no `password`; add `password: \"${KAFKA_PASSWORD}\"`",
        ),
        (
            format!("{{protocol: sasl_ssl, sasl: {{{}}}}}", good.replace("PLAIN", "SCRAM-SHA-1")),
            52,
            "is not a choice",
        ),
        (
            format!("{{protocol: sasl_ssl, sasl: {{{}}}}}", good.replace("PLAIN", "GSSAPI")),
            52,
            "`GSSAPI` is not supported yet; write `PLAIN`",
        ),
        (
            format!("{{protocol: sasl_ssl, sasl: {{{}, realm: x}}}}", good),
            97,
            "unknown key `realm`",
        ),
        (
            "{protocol: sasl_ssl, sasl: {mechanism: SCRAM-SHA-256, username: käfer, password: \"${PASSWORD}\"}}".to_owned(),
            77,
            "not ASCII",
        ),
        ("{protocol: ssl, tls: {ca: gone.pem}}".to_owned(), 39, "gone.pem cannot be read"),
        ("{protocol: ssl, tls: {ca: notes}}".to_owned(), 39, "notes holds no certificate"),
        (
            "{protocol: ssl, tls: {certificate: a.pem}}".to_owned(),
            48,
            "`kafka.security.tls.certificate` without `key`; add `key`",
        ),
        (
            "{protocol: ssl, tls: {key: a.key}}".to_owned(),
            40,
            "`kafka.security.tls.key` without `certificate`; add `certificate`",
        ),
        (
            "{protocol: ssl, tls: {certificate: a.pem, key: b.key}}".to_owned(),
            60,
            "b.key does not belong to certificate",
        ),
        (
            "{protocol: ssl, tls: {certificate: a.pem, key: a.pem}}".to_owned(),
            60,
            "holds no private key",
        ),
        (
            "{protocol: ssl, tls: {verify: false}}".to_owned(),
            35,
            "unknown key `verify` in `kafka.security.tls`; the keys here are ca, certificate, key",
        ),
    ] {
        let found = parse(folder.path(), &text).unwrap_err();
        assert_fault(&found, &text, (4, column), words);
    }
}

#[test]
fn a_password_comes_from_the_environment_or_a_file_and_is_never_shown() {
    let folder = folder();
    for (written, words) in [
        (
            SECRET,
            "`kafka.security.sasl.password` stands in the file itself; write \"${NAME}\"",
        ),
        ("$${PASSWORD}x", "stands in the file itself"),
        ("${GONE}", "the environment has no `GONE`"),
        (&format!("a${{{SECRET}!}}"), "what stands in a `${…}` is not the name of a variable"),
        ("${EMPTY}", "is empty or holds NUL"),
        ("${NUL}", "is empty or holds NUL"),
        ("file:gone", "gone cannot be read"),
        ("file:empty", "empty is empty"),
        ("file:${PASSWORD}", "cannot be read"),
        ("file:", "cannot be read"),
    ] {
        let text = format!("{{protocol: sasl_ssl, sasl: {{mechanism: PLAIN, username: u, password: \"{written}\"}}}}");
        let found = parse(folder.path(), &text).unwrap_err();
        let one = only(&found, &text);
        assert!(one.to_string().contains(words), "{one}\nhas no: {words}");
        assert!(!one.to_string().contains(SECRET), "{one}");
    }
    let good = "{protocol: sasl_ssl, sasl: {mechanism: PLAIN, username: u, password: \"${PASSWORD}\"}}";
    let shown = format!("{:?}", parse(folder.path(), good).unwrap());
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn tokens_come_from_one_place() {
    let folder = folder();
    fs::write(folder.path().join("token"), "a.b.c\n").unwrap();
    let oauth = |keys: &str| format!("{{protocol: sasl_ssl, sasl: {{mechanism: OAUTHBEARER{keys}}}}}");
    let (_, sasl) = security(&folder, &oauth(", token: \"file:token\""));
    let held = TokenSource::Held(Secret::File(folder.path().join("token")));
    assert_eq!(sasl, Some(SaslSettings::OauthBearer(held)));
    let endpoint = ", token_endpoint: \"http://a/b\", client_id: c, client_secret: \"${PASSWORD}\"";
    let (_, sasl) = security(&folder, &oauth(endpoint));
    assert!(matches!(sasl, Some(SaslSettings::OauthBearer(TokenSource::Endpoint(_)))));
    for (keys, words) in [
        (String::new(), "has neither `token` nor `token_endpoint`"),
        (
            ", token: \"file:notes\"".to_owned(),
            "`kafka.security.sasl.token` is no bearer token",
        ),
        (
            ", token: \"file:token\", scope: x".to_owned(),
            "`kafka.security.sasl.scope` beside `token`, which does not use it",
        ),
        (format!("{endpoint}, username: x"), "username` beside `mechanism: OAUTHBEARER`"),
        (
            ", token_endpoint: \"http://a/b\", client_id: c".to_owned(),
            "has no `client_secret`",
        ),
        (
            endpoint.replace("http://a/b", &format!("http:/u:{SECRET}@a/b")),
            "token_endpoint`: `…@a/b` is no URL",
        ),
        (
            endpoint.replace("http://a/b", &format!("u:{SECRET}@a")),
            "token_endpoint`: `…@a` does not begin with http",
        ),
        (endpoint.replace("http://a/b", "a/b"), "is no URL; write for example \"https://"),
        (endpoint.replace("${PASSWORD}", "open"), "client_secret` stands in the file itself"),
        (format!("{endpoint}, token_endpoint_ca: notes"), "holds no certificate"),
    ] {
        let found = parse(folder.path(), &oauth(&keys)).unwrap_err();
        let one = only(&found, &keys);
        assert!(one.line == 4 && one.to_string().contains(words), "{one}\nhas no: {words}");
        assert!(!one.to_string().contains(SECRET), "{one}");
    }
    let user = "{protocol: sasl_ssl, sasl: {mechanism: PLAIN, username: u, password: \"${PASSWORD}\", client_id: x}}";
    let found = parse(folder.path(), user).unwrap_err();
    assert!(found[0].message.contains("client_id` beside `mechanism: PLAIN`"), "{found:#?}");
}

#[test]
fn all_faults_are_told_at_once() {
    let text = "{protocol: sasl_ssl, tls: {ca: gone.pem, key: a.key}, sasl: {mechanism: PLAIN, password: oops}}";
    let found = parse(folder().path(), text).unwrap_err();
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn names_of_users_are_those_that_the_mechanism_takes() {
    let folder = folder();
    let plain = "{protocol: sasl_ssl, sasl: {mechanism: PLAIN, username: \"${NAME}\", password: \"${PASSWORD}\"}}";
    assert!(parse(folder.path(), plain).is_ok());
    let scram = plain.replace("PLAIN", "SCRAM-SHA-512");
    let found = parse(folder.path(), &scram).unwrap_err();
    assert!(
        found[0].message.contains("not ASCII") && !found[0].message.contains("käfer"),
        "{found:#?}"
    );
}

/// What `proxy.yaml` shows in comments is as good as what it holds.
#[test]
fn the_example_in_the_projects_own_file_is_good() {
    let folder = folder();
    fs::create_dir(folder.path().join("certs")).unwrap();
    for (from, to) in [("b.pem", "kafka-ca.pem"), ("a.pem", "proxy.pem"), ("a.key", "proxy.key")] {
        fs::copy(folder.path().join(from), folder.path().join("certs").join(to)).unwrap();
    }
    let text = include_str!("../proxy.yaml");
    let (before, rest) = text.split_once("  security: {protocol: plaintext}").unwrap();
    let comments = rest.lines().skip(1).take_while(|line| line.starts_with("# "));
    let (shown, other): (Vec<&str>, Vec<&str>) = {
        let lines: Vec<&str> = comments.filter(|line| line.starts_with("#  ") || line.starts_with("# s")).collect();
        // The second way in takes the place of the first.
        let other = lines.iter().rposition(|line| line.starts_with("#   sasl:")).unwrap();
        (lines[..other].to_vec(), lines[other..].to_vec())
    };
    let rest: String = rest
        .lines()
        .skip_while(|line| !line.starts_with("  producer"))
        .map(|line| format!("{line}\n"))
        .collect();
    let variable = |name: &str| name.starts_with("KAFKA_").then(|| SECRET.to_owned());
    let load = |security: &str| {
        let text = format!("{before}{security}{rest}");
        config::parse(&text, folder.path(), &variable).unwrap_or_else(|problems| panic!("{security}{problems:#?}"))
    };
    let indented = |lines: &[&str], by: &str| lines.iter().map(|line| format!("{by}{}\n", &line[2..])).collect::<String>();
    let security = load(&indented(&shown, "  ")).kafka.security;
    assert!(security.tls.unwrap().identity.is_some());
    assert_eq!(security.sasl.unwrap().mechanism().name(), "SCRAM-SHA-512");
    let security = load(&format!("  security:\n    protocol: sasl_ssl\n{}", indented(&other, "  ")))
        .kafka
        .security;
    let Some(SaslSettings::OauthBearer(TokenSource::Endpoint(endpoint))) = security.sasl else {
        panic!("a token endpoint")
    };
    assert_eq!(endpoint.url.to_string(), "https://login.example/oauth2/token");
    assert_eq!(
        (endpoint.scope.as_deref(), endpoint.client_id.as_str()),
        (Some("kafka"), "mqtt-kafka-proxy")
    );
    assert!(endpoint.ca.is_some());
}

#[test]
fn a_folder_is_no_file() {
    let folder = folder();
    let found = parse(folder.path(), "{protocol: ssl, tls: {ca: \".\"}}").unwrap_err();
    assert!(found[0].message.contains("cannot be read"), "{found:#?}");
}
