//! Users with passwords.

use super::listeners::{PASSWORD, USER, scratch};
use super::{round_trip, secure_kafka, told};
use std::fs;
use std::path::Path;

/// `sasl: {…}` with the password in a file.
fn sasl(mechanism: &str, user: &str, password: &Path) -> String {
    let password = password.display();
    format!("sasl: {{mechanism: {mechanism}, username: \"{user}\", password: \"file:{password}\"}}")
}

fn user_of(mechanism: &str) -> &'static str {
    if mechanism == "PLAIN" { "proxy" } else { USER }
}

#[test]
fn each_mechanism_with_the_right_password() {
    let secure = secure_kafka();
    let ca = secure.ours.file("ca.pem");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let user = user_of(mechanism);
        let sasl = format!("sasl: {{mechanism: {mechanism}, username: \"{user}\", password: \"${{KAFKA_PASSWORD}}\"}}");
        let environment = [("KAFKA_PASSWORD", PASSWORD)];
        let plain = format!("{{protocol: sasl_plaintext, {sasl}}}");
        round_trip(&secure.kafka, secure.sasl, &plain, &environment);
        let tls = format!("{{protocol: sasl_ssl, {sasl}, tls: {{ca: \"{ca}\"}}}}");
        round_trip(&secure.kafka, secure.sasl_tls, &tls, &environment);
    }
}

#[test]
fn a_wrong_password_and_a_wrong_user_are_told() {
    let (secure, folder) = (secure_kafka(), scratch());
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    fs::write(&right, PASSWORD).unwrap();
    fs::write(&wrong, "no-hunter").unwrap();
    let ca = secure.ours.file("ca.pem");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let begin = format!("SASL {mechanism}: ");
        let words = [
            begin.as_str(),
            "Authentication failed",
            "check `username`",
            "`password` of `kafka.security.sasl`",
        ];
        let password = sasl(mechanism, user_of(mechanism), &wrong);
        told(secure.sasl, &format!("{{protocol: sasl_plaintext, {password}}}"), &words);
        let user = sasl(mechanism, "nobody", &right);
        told(
            secure.sasl_tls,
            &format!("{{protocol: sasl_ssl, {user}, tls: {{ca: \"{ca}\"}}}}"),
            &words,
        );
    }
}

#[test]
fn a_port_that_takes_no_such_mechanism_or_no_sasl_is_told() {
    let (secure, folder) = (secure_kafka(), scratch());
    let right = folder.path().join("right");
    fs::write(&right, PASSWORD).unwrap();
    let scram = format!("{{protocol: sasl_plaintext, {}}}", sasl("SCRAM-SHA-256", USER, &right));
    told(
        secure.plain,
        &scram,
        &["SASL SCRAM-SHA-256: the broker does not offer it on this port, only PLAIN"],
    );
    let ca = secure.ours.file("ca.pem");
    let tls = format!("{{protocol: sasl_ssl, {}, tls: {{ca: \"{ca}\"}}}}", sasl("PLAIN", "proxy", &right));
    told(
        secure.tls,
        &tls,
        &["SASL PLAIN: this port takes no SASL: set `kafka.security.protocol` to plaintext or ssl"],
    );
}

/// The operator mends the file, and need not restart.
#[test]
fn a_password_that_is_replaced_is_used_for_the_next_connection() {
    let (secure, folder) = (secure_kafka(), scratch());
    let password = folder.path().join("password");
    fs::write(&password, "old").unwrap();
    let security = format!(", security: {{protocol: sasl_plaintext, {}}}", sasl("PLAIN", "proxy", &password));
    let proxy = crate::stage::Proxy::launch(&format!("127.0.0.1:{}", secure.plain), &crate::publish::rule("nothing"), &security);
    crate::stage::eventually("it is refused", || {
        let (status, why) = proxy.get("/readyz").ok()?;
        (status == 503 && why.contains("Authentication failed")).then_some(())
    });
    fs::write(&password, PASSWORD).unwrap();
    crate::stage::eventually("it is taken", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
}

/// Many are refused, few ask: what keeps accounts from being locked.
#[test]
fn a_password_that_is_refused_is_not_tried_at_once_again() {
    let (secure, folder) = (secure_kafka(), scratch());
    let password = folder.path().join("password");
    fs::write(&password, "wrong").unwrap();
    let security = format!(", security: {{protocol: sasl_plaintext, {}}}", sasl("PLAIN", "proxy", &password));
    // Before the first try, whenever that is.
    let begin = std::time::Instant::now();
    let proxy = crate::stage::Proxy::launch(&format!("127.0.0.1:{}", secure.plain), &crate::publish::rule("nothing"), &security);
    let tries = || proxy.metric(&["kafka_requests", "sasl_authenticate"]);
    crate::stage::eventually("a third try", || {
        (proxy.get("/metrics").ok()?.1.contains("sasl_authenticate") && tries() >= 3.0).then_some(())
    });
    // 0.4 s after the first at least, then 0.8 s.
    assert!(begin.elapsed() > std::time::Duration::from_millis(1_200), "{:?}", begin.elapsed());
}
