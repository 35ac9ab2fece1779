//! OAUTHBEARER: tokens of a file and of an authorization server.

use super::issuer::{CLIENT, Issuer, SECRET, token};
use super::listeners::scratch;
use super::{round_trip, secure_kafka, told};
use crate::publish::rule;
use crate::stage::{Proxy, eventually};
use std::fs;
use std::sync::atomic::Ordering::Relaxed;

fn of_file(path: &std::path::Path) -> String {
    format!("sasl: {{mechanism: OAUTHBEARER, token: \"file:{}\"}}", path.display())
}

/// The client's secret is in the environment.
fn of_issuer(url: &str, more: &str) -> String {
    format!(
        "sasl: {{mechanism: OAUTHBEARER, token_endpoint: \"{url}\", client_id: {CLIENT}, client_secret: \"${{CLIENT_SECRET:-wrong}}\"{more}}}"
    )
}

#[test]
fn a_token_in_a_file() {
    let (secure, folder) = (secure_kafka(), scratch());
    let path = folder.path().join("token");
    fs::write(&path, format!("{}\n", token(3600))).unwrap();
    let ca = secure.ours.file("ca.pem");
    let sasl = of_file(&path);
    round_trip(&secure.kafka, secure.sasl, &format!("{{protocol: sasl_plaintext, {sasl}}}"), &[]);
    round_trip(
        &secure.kafka,
        secure.sasl_tls,
        &format!("{{protocol: sasl_ssl, {sasl}, tls: {{ca: \"{ca}\"}}}}"),
        &[],
    );
}

#[test]
fn a_token_of_an_authorization_server() {
    let secure = secure_kafka();
    let environment = [("CLIENT_SECRET", SECRET)];
    let issuer = Issuer::start(None, 3600);
    let sasl = of_issuer(&format!("http://127.0.0.1:{}/token", issuer.port), ", scope: kafka");
    round_trip(
        &secure.kafka,
        secure.sasl,
        &format!("{{protocol: sasl_plaintext, {sasl}}}"),
        &environment,
    );
    assert_eq!(issuer.given.load(Relaxed), 1, "one token is enough for all connections");
    let ca = secure.ours.file("ca.pem");
    let issuer = Issuer::start(Some((&secure.ours.file("broker.pem"), &secure.ours.file("broker.key"))), 3600);
    let sasl = of_issuer(
        &format!("https://localhost:{}/token", issuer.port),
        &format!(", token_endpoint_ca: \"{ca}\""),
    );
    round_trip(
        &secure.kafka,
        secure.sasl_tls,
        &format!("{{protocol: sasl_ssl, {sasl}, tls: {{ca: \"{ca}\"}}}}"),
        &environment,
    );
}

#[test]
fn a_token_that_is_not_taken_and_a_server_that_gives_none_are_told() {
    let (secure, folder) = (secure_kafka(), scratch());
    let path = folder.path().join("token");
    fs::write(&path, token(-60)).unwrap();
    let plain = |sasl: &str| format!("{{protocol: sasl_plaintext, {sasl}}}");
    told(
        secure.sasl,
        &plain(&of_file(&path)),
        &[
            "SASL OAUTHBEARER: ",
            "invalid_token",
            "renew `token` of `kafka.security.sasl` if it has expired",
        ],
    );
    let issuer = Issuer::start(None, 3600);
    let url = format!("http://127.0.0.1:{}/token", issuer.port);
    told(
        secure.sasl,
        &plain(&of_issuer(&url, "")),
        &[
            "SASL OAUTHBEARER: no token: ",
            &url,
            "answers 401 invalid_client",
            "check `client_id`, `client_secret`",
        ],
    );
    let away = format!("http://{}/token", crate::stage::free_address());
    told(
        secure.sasl,
        &plain(&of_issuer(&away, "")),
        &["SASL OAUTHBEARER: no token: ", &away, "onnection refused"],
    );
    let issuer = Issuer::start(Some((&secure.ours.file("broker.pem"), &secure.ours.file("broker.key"))), 3600);
    let url = format!("https://localhost:{}/token", issuer.port);
    told(
        secure.sasl,
        &plain(&of_issuer(&url, "")),
        &[
            "no token: ",
            &url,
            "signed by no authority that the system trusts",
            "`kafka.security.sasl.token_endpoint_ca`",
        ],
    );
}

#[test]
fn a_token_that_is_renewed_in_its_file_is_used_for_the_next_connection() {
    let (secure, folder) = (secure_kafka(), scratch());
    let path = folder.path().join("token");
    fs::write(&path, token(-60)).unwrap();
    let security = format!(", security: {{protocol: sasl_plaintext, {}}}", of_file(&path));
    let proxy = Proxy::launch(&format!("127.0.0.1:{}", secure.sasl), &rule("nothing"), &security);
    eventually("it is refused", || {
        proxy.get("/readyz").ok()?.1.contains("invalid_token").then_some(())
    });
    fs::write(&path, token(3600)).unwrap();
    eventually("it is taken", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
}
