//! TLS with those that do not speak it, or say nothing: each has its line, and its bound.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use mqtt_kafka_proxy::upstream::{Cluster, SecuritySettings, Settings, State, TlsSettings};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const BOUND: Duration = Duration::from_millis(700);

/// Why the client is not connected to a port that answers the first bytes with these, and then closes or keeps silent.
async fn why(answer: &'static [u8], closes: bool, tls: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 4096];
            let _ = stream.read(&mut first).await;
            let _ = stream.write_all(answer).await;
            if !closes {
                open.push(stream);
            }
        }
    });
    // An authority that signs nothing here: it is never asked.
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    std::fs::write(&ca, authority.pem()).unwrap();
    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec![address.clone()],
        connect_timeout: BOUND,
        security: SecuritySettings {
            tls: tls.then_some(TlsSettings {
                ca: Some(ca),
                identity: None,
            }),
            sasl: None,
        },
        ..Settings::default()
    });
    let mut states = cluster.state();
    let told = |state: &State| *state != State::not_yet();
    let state = tokio::time::timeout(Duration::from_secs(20), states.wait_for(told))
        .await
        .unwrap()
        .unwrap()
        .clone();
    let State::Connecting { why } = state else { panic!("{state:?}") };
    assert!(why.starts_with(&format!("{address}: ")), "{why}");
    why
}

#[tokio::test]
async fn a_port_that_says_nothing_costs_the_time_to_connect() {
    for tls in [false, true] {
        let begin = Instant::now();
        let why = why(b"", false, tls).await;
        assert!(why.contains("not ready within the time to connect"), "{why}");
        let took = begin.elapsed();
        assert!(took >= BOUND && took < BOUND * 5, "{took:?}");
    }
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_told() {
    let plain = "`kafka.security.protocol` to plaintext or sasl_plaintext";
    for (answer, closes) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false),
        (b"", true),
        (b"\0\0\0\x04", true),
    ] {
        let why = why(answer, closes, true).await;
        assert!(why.contains("does not speak TLS") && why.contains(plain), "{answer:?}: {why}");
    }
    // An alert of TLS, and an end without a word, to who speaks in the clear.
    for (answer, words) in [
        (&b"\x15\x03\x03\0\x02\x02\x50"[..], "this port speaks TLS"),
        (b"", "before its first answer; if this port speaks TLS"),
    ] {
        let why = why(answer, true, false).await;
        assert!(why.contains(words) && why.contains("to ssl or sasl_ssl"), "{answer:?}: {why}");
    }
}

/// The name that a listener finds in the first bytes of a client that is told this address; `None`: a name was not sent.
async fn named(host: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&ca, rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem()).unwrap();
    let _cluster = Cluster::start(Settings {
        bootstrap_servers: vec![format!("{host}:{}", listener.local_addr().unwrap().port())],
        security: SecuritySettings {
            tls: Some(TlsSettings {
                ca: Some(ca),
                identity: None,
            }),
            sasl: None,
        },
        ..Settings::default()
    });
    let hello = async {
        let (stream, _) = listener.accept().await.unwrap();
        let accepted = tokio_rustls::LazyConfigAcceptor::new(Acceptor::default(), stream).await.unwrap();
        accepted.client_hello().server_name().map(str::to_owned)
    };
    tokio::time::timeout(Duration::from_secs(20), hello).await.expect("a ClientHello")
}

/// Balancers in front of several brokers go by it (SNI, RFC 6066 §3, which knows no names for addresses).
#[tokio::test]
async fn the_client_says_to_which_host_it_speaks() {
    assert_eq!(named("localhost").await.as_deref(), Some("localhost"));
    assert_eq!(named("127.0.0.1").await, None);
}
