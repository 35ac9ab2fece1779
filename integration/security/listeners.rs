//! The Kafka of these tests, with its listeners.

use super::authority::Authority;
use crate::stage::{Kafka, free_base};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::OnceLock;

/// Of every user.
pub const PASSWORD: &str = "hunter2-für-alle";
pub const USER: &str = "proxy=1";

/// Kafka, and what one needs to get in.
pub struct Secure {
    pub kafka: Kafka,
    /// Signs the brokers' certificates and a client's.
    pub ours: Authority,
    /// Signs nothing that Kafka trusts.
    pub others: Authority,
    /// TLS.
    pub tls: u16,
    /// TLS that asks for a client certificate.
    pub mtls: u16,
    /// TLS with a certificate that has expired.
    pub expired: u16,
    /// TLS with the certificate of another host.
    pub elsewhere: u16,
    /// SASL of all mechanisms, in the clear and by TLS.
    pub sasl: u16,
    pub sasl_tls: u16,
    /// SASL of PLAIN alone, in the clear.
    pub plain: u16,
    /// SASL of all mechanisms, by TLS, with sessions of four seconds.
    pub brief: u16,
}

/// Shared by all tests of the run; it ends with the process.
pub fn secure_kafka() -> &'static Secure {
    static SECURE: OnceLock<Secure> = OnceLock::new();
    SECURE.get_or_init(start)
}

fn start() -> Secure {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("authorities-{}", std::process::id()));
    let (ours, others) = (Authority::new(&folder, "ours"), Authority::new(&folder, "others"));
    ours.issue("broker", &["localhost", "127.0.0.1"]);
    ours.issue_until("expired", &["localhost", "127.0.0.1"], 2024);
    ours.issue("elsewhere", &["kafka.example"]);
    ours.issue("client", &[]);
    others.issue("client", &[]);
    let base = free_base(1);
    let names = ["TLS", "MTLS", "EXPIRED", "ELSEWHERE", "SASL", "SASLTLS", "PLAIN", "BRIEF"];
    // All at once: one after the other may be the same.
    let sockets = names.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = sockets.map(|socket| socket.local_addr().unwrap().port());
    let protocols = [
        "SSL",
        "SSL",
        "SSL",
        "SSL",
        "SASL_PLAINTEXT",
        "SASL_SSL",
        "SASL_PLAINTEXT",
        "SASL_SSL",
    ];
    let places: String = names
        .iter()
        .zip(ports)
        .map(|(name, port)| format!(",{name}://127.0.0.1:{port}"))
        .collect();
    let map: String = names
        .iter()
        .zip(protocols)
        .map(|(name, protocol)| format!(",{name}:{protocol}"))
        .collect();
    let mut settings = vec![
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{base},CONTROLLER://127.0.0.1:{}{places}",
            base + 10
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{base}{places}"),
        format!("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{map}"),
        "ssl.keystore.type=PEM".to_owned(),
        "ssl.truststore.type=PEM".to_owned(),
        format!("ssl.truststore.location={}", ours.file("ca.pem")),
        "listener.name.mtls.ssl.client.auth=required".to_owned(),
    ];
    for (listener, store) in [
        ("tls", "broker"),
        ("mtls", "broker"),
        ("expired", "expired"),
        ("elsewhere", "elsewhere"),
        ("sasltls", "broker"),
        ("brief", "broker"),
    ] {
        settings.push(format!(
            "listener.name.{listener}.ssl.keystore.location={}",
            ours.file(&format!("{store}.store"))
        ));
    }
    for listener in ["sasl", "sasltls", "brief"] {
        settings.extend(mechanisms(listener, &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]));
    }
    settings.extend(mechanisms("plain", &["PLAIN"]));
    for mechanism in ["plain", "scram-sha-512", "oauthbearer"] {
        settings.push(format!("listener.name.brief.{mechanism}.connections.max.reauth.ms=4000"));
    }
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let users = ["SCRAM-SHA-256", "SCRAM-SHA-512"].map(|mechanism| format!("{mechanism}=[name=\"{USER}\",password=\"{PASSWORD}\"]"));
    let kafka = Kafka::start_for(base, 1, &settings, &users.each_ref().map(String::as_str)).for_all();
    let [tls, mtls, expired, elsewhere, sasl, sasl_tls, plain, brief] = ports;
    Secure {
        kafka,
        ours,
        others,
        tls,
        mtls,
        expired,
        elsewhere,
        sasl,
        sasl_tls,
        plain,
        brief,
    }
}

pub fn mechanisms(listener: &str, enabled: &[&str]) -> Vec<String> {
    let set = |name: &str, value: String| format!("listener.name.{listener}.{name}={value}");
    let login = |mechanism: &&str| {
        let module = match *mechanism {
            "PLAIN" => format!("plain.PlainLoginModule required user_proxy=\"{}\"", escaped(PASSWORD)),
            // Tokens without a signature, which no real cluster takes.
            "OAUTHBEARER" => "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\"".to_owned(),
            _ => "scram.ScramLoginModule required".to_owned(),
        };
        let name = format!("{}.sasl.jaas.config", mechanism.to_lowercase());
        set(&name, format!("org.apache.kafka.common.security.{module};"))
    };
    let all = set("sasl.enabled.mechanisms", enabled.join(","));
    std::iter::once(all).chain(enabled.iter().map(login)).collect()
}

/// As a file of Java properties wants it.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                format!("\\u{:04x}", u32::from(c))
            }
        })
        .collect()
}

/// A folder for files that a test replaces.
pub fn scratch() -> tempfile::TempDir {
    let parent = env!("CARGO_TARGET_TMPDIR");
    fs::create_dir_all(parent).unwrap();
    tempfile::tempdir_in(parent).unwrap()
}
