//! TLS and client certificates.

use super::listeners::scratch;
use super::{round_trip, secure_kafka, told, told_of};

#[test]
fn tls_with_an_authority_of_ones_own() {
    let secure = secure_kafka();
    let ca = secure.ours.file("ca.pem");
    round_trip(&secure.kafka, secure.tls, &format!("{{protocol: ssl, tls: {{ca: \"{ca}\"}}}}"), &[]);
}

#[test]
fn tls_with_the_authorities_that_the_system_trusts() {
    let secure = secure_kafka();
    let system = ("SSL_CERT_FILE", secure.ours.file("ca.pem"));
    round_trip(&secure.kafka, secure.tls, "{protocol: ssl}", &[(system.0, &system.1)]);
}

#[test]
fn a_certificate_that_is_not_good_is_told() {
    let secure = secure_kafka();
    let (ours, others) = (secure.ours.file("ca.pem"), secure.others.file("ca.pem"));
    let by = |ca: &str| format!("{{protocol: ssl, tls: {{ca: \"{ca}\"}}}}");
    told(
        secure.tls,
        &by(&others),
        &[
            "TLS: the certificate of 127.0.0.1 is signed by no authority in",
            &others,
            "`kafka.security.tls.ca`",
        ],
    );
    told(
        secure.tls,
        "{protocol: ssl}",
        &[
            "TLS: the certificate of 127.0.0.1 is signed by no authority that the system trusts",
            "`kafka.security.tls.ca`",
        ],
    );
    told(
        secure.expired,
        &by(&ours),
        &["TLS: the certificate of 127.0.0.1 has expired: renew it"],
    );
    told(
        secure.elsewhere,
        &by(&ours),
        &[
            "TLS: the certificate shown is not valid for 127.0.0.1",
            "only for kafka.example: use",
            "advertised.listeners",
        ],
    );
    told_of(
        &format!("localhost:{}", secure.elsewhere),
        &by(&ours),
        &["is not valid for localhost, only for", "kafka.example"],
    );
}

#[test]
fn a_client_certificate_that_kafka_asks_for() {
    let secure = secure_kafka();
    let (ours, others) = (&secure.ours, &secure.others);
    let with = |certificate: &str, key: &str| {
        let ca = ours.file("ca.pem");
        format!("{{protocol: ssl, tls: {{ca: \"{ca}\", certificate: \"{certificate}\", key: \"{key}\"}}}}")
    };
    round_trip(
        &secure.kafka,
        secure.mtls,
        &with(&ours.file("client.pem"), &ours.file("client.key")),
        &[],
    );
    let wrong = others.file("client.pem");
    told(
        secure.mtls,
        &with(&wrong, &others.file("client.key")),
        &[
            "TLS: 127.0.0.1 does not accept our certificate",
            &wrong,
            "its issuer must be trusted there",
        ],
    );
    let none = format!("{{protocol: ssl, tls: {{ca: \"{}\"}}}}", ours.file("ca.pem"));
    told(
        secure.mtls,
        &none,
        &["TLS: 127.0.0.1 asks for a client certificate: set `kafka.security.tls.certificate` and `key`"],
    );
}

#[test]
fn the_wrong_protocol_for_a_port_is_told() {
    let secure = secure_kafka();
    let plain: u16 = secure.kafka.bootstrap.rsplit_once(':').unwrap().1.parse().unwrap();
    let ca = secure.ours.file("ca.pem");
    told(
        secure.tls,
        "{protocol: plaintext}",
        &["speaks TLS", "set `kafka.security.protocol` to ssl or sasl_ssl"],
    );
    told(
        plain,
        &format!("{{protocol: ssl, tls: {{ca: \"{ca}\"}}}}"),
        &["does not speak TLS", "set `kafka.security.protocol` to plaintext or sasl_plaintext"],
    );
    told(
        secure.sasl,
        "{protocol: plaintext}",
        &["asks for SASL", "sasl_plaintext or sasl_ssl"],
    );
}

/// Kubernetes and cert-manager replace the files; the proxy is not told.
#[test]
fn a_certificate_that_is_replaced_is_used_for_the_next_connection() {
    let (secure, folder) = (secure_kafka(), scratch());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let give = |authority: &super::authority::Authority| {
        for name in ["client.pem", "client.key"] {
            std::fs::copy(authority.file(name), path(name)).unwrap();
        }
    };
    give(&secure.others);
    let ca = secure.ours.file("ca.pem");
    let security = format!(
        ", security: {{protocol: ssl, tls: {{ca: \"{ca}\", certificate: \"{}\", key: \"{}\"}}}}",
        path("client.pem"),
        path("client.key")
    );
    let proxy = crate::stage::Proxy::launch(&format!("127.0.0.1:{}", secure.mtls), &crate::publish::rule("nothing"), &security);
    crate::stage::eventually("it is refused", || {
        let (status, why) = proxy.get("/readyz").ok()?;
        (status == 503 && why.contains("does not accept our certificate")).then_some(())
    });
    give(&secure.ours);
    crate::stage::eventually("it is taken", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
}
