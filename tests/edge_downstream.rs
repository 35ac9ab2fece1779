//! Listeners over real sockets: TLS and its refusals, limits, deadlines, what an accept loop survives.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod edge_stage;

use std::future::pending;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use edge_stage::{Authority, Files, PATIENCE, echo, greeting, refused, shows, start, tcp, tls};
use mqtt_kafka_proxy::downstream::{
    Address, ClientAuth, Fill, Gate, Limits, Link, Listener, ListenerLimits, ListenerSettings, Protocol, ProxySettings, TlsSettings,
};
use mqtt_kafka_proxy::metrics::Metrics;
use mqtt_kafka_proxy::mqtt::outbox::Outbox;
use rcgen::KeyPair;
use rustls::version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn both_tls_versions_carry_large_and_small_and_say_who_is_there() {
    let files = Files::new();
    let (address, metrics, gate) = start(&tls(files.settings(ClientAuth::Required)), Limits::default());
    for versions in [[&version::TLS12], [&version::TLS13]] {
        let identity = Some(files.authority.sign("vin42", false));
        let mut stream = files.connect(address, &versions, identity, &[b"mqtt"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
        assert_eq!(greeting(&mut stream).await.unwrap(), "vin42");
        let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let (mut read, mut write) = tokio::io::split(stream);
        let mut got = vec![0; sent.len()];
        let (written, received) = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
        written.unwrap();
        received.unwrap();
        assert!(got == sent);
        write.shutdown().await.unwrap();
        // A clean end: read_to_end would fail without close_notify.
        assert_eq!(read.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 0").await;
    assert_eq!(gate.open(), 0);
}

#[tokio::test]
async fn a_certificate_is_asked_for_as_configured() {
    let files = Files::new();
    let stranger = Authority::new("stranger");
    let v = [&version::TLS13];
    let (address, ..) = start(&tls(files.settings(ClientAuth::Optional)), Limits::default());
    assert_eq!(
        greeting(&mut files.connect(address, &v, None, &[]).await.unwrap()).await.unwrap(),
        "-"
    );
    let shown = Some(files.authority.sign("vin7", false));
    assert_eq!(
        greeting(&mut files.connect(address, &v, shown, &[]).await.unwrap()).await.unwrap(),
        "vin7"
    );

    let (address, metrics, _) = start(&tls(files.settings(ClientAuth::Required)), Limits::default());
    let bad = [None, Some(stranger.sign("vin7", false)), Some(files.authority.sign("vin7", true))];
    for (count, identity) in (1..).zip(bad) {
        // In TLS 1.3 the client learns of the refusal with its first read.
        let answer = match files.connect(address, &v, identity, &[]).await {
            Ok(mut stream) => greeting(&mut stream).await,
            Err(e) => Err(e),
        };
        assert!(answer.is_err(), "{answer:?}");
        shows(&metrics, &refused("handshake", count)).await;
    }
}

#[tokio::test]
async fn a_half_open_handshake_dies_at_the_deadline() {
    let files = Files::new();
    let limits = Limits {
        connect_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (address, metrics, gate) = start(&tls(files.settings(ClientAuth::None)), limits);
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 1]))
        .await
        .expect("closed at the deadline");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    shows(&metrics, &refused("deadline", 1)).await;
    assert_eq!(gate.open(), 0);
}

#[tokio::test]
async fn limits_refuse_and_count_and_let_in_again() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let (address, metrics, _) = start(&tcp(), limits);
    let mut first = TcpStream::connect(address).await.unwrap();
    assert_eq!(greeting(&mut first).await.unwrap(), "-");
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap_err();
    shows(&metrics, &refused("connection_limit", 1)).await;
    drop(first);
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 0").await;
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();

    let limits = Limits {
        connect_rate: NonZeroU32::new(1),
        ..Limits::default()
    };
    let (address, metrics, _) = start(&tcp(), limits);
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap_err();
    shows(&metrics, &refused("connect_rate", 1)).await;
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_is_counted() {
    let (address, metrics, gate) = start(&tcp(), Limits::default());
    let mut other = TcpStream::connect(address).await.unwrap();
    greeting(&mut other).await.unwrap();
    let mut victim = TcpStream::connect(address).await.unwrap();
    greeting(&mut victim).await.unwrap();
    victim.write_all(b"panic").await.unwrap();
    shows(&metrics, "mqtt_kafka_proxy_connection_panics_total 1").await;
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 1").await;
    assert_eq!(gate.open(), 1);
    other.write_all(b"?").await.unwrap();
    assert_eq!(other.read_u8().await.unwrap(), b'?');
}

#[tokio::test]
async fn each_fault_is_one_line_with_path_and_remedy() {
    let files = Files::new();
    let good = files.settings(ClientAuth::Required);
    let other_key = files.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let (missing, empty) = (files.folder.path().join("missing.pem"), files.write("empty.pem", ""));
    let cases = [
        (
            TlsSettings {
                certificate: missing.clone(),
                ..good.clone()
            },
            "missing.pem cannot be read",
        ),
        (
            TlsSettings {
                certificate: empty.clone(),
                ..good.clone()
            },
            "empty.pem holds no certificate",
        ),
        (
            TlsSettings {
                key: missing,
                ..good.clone()
            },
            "missing.pem cannot be read",
        ),
        (
            TlsSettings {
                key: empty.clone(),
                ..good.clone()
            },
            "empty.pem holds no private key",
        ),
        (
            TlsSettings {
                key: other_key,
                ..good.clone()
            },
            "other.key does not belong to certificate",
        ),
        (
            TlsSettings {
                client_ca: Some(empty),
                ..good.clone()
            },
            "empty.pem holds no certificate",
        ),
        (
            TlsSettings {
                client_ca: None,
                ..good.clone()
            },
            "there is no client_ca",
        ),
    ];
    for (settings, expected) in cases {
        let line = Listener::check(&tls(settings)).unwrap_err().to_string();
        assert!(
            line.starts_with("listener \"edge\": ") && line.contains(expected) && line.contains("; "),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
    }
    Listener::check(&tls(good)).unwrap();

    let (address, metrics, gate) = start(&tcp(), Limits::default());
    let taken = Listener::bind(
        &ListenerSettings {
            address: address.into(),
            ..tcp()
        },
        &gate,
        &metrics,
    )
    .unwrap_err()
    .to_string();
    assert_eq!(
        taken,
        format!("listener \"edge\": address {address} is in use; stop the other process or give another port")
    );
}

#[tokio::test]
async fn a_unix_socket_is_served_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let settings = ListenerSettings {
        address: Address::Unix(path.clone()),
        ..tcp()
    };
    let (metrics, gate) = (Arc::new(Metrics::new()), Gate::new(Limits::default()));
    let listener = Listener::bind(&settings, &gate, &metrics).unwrap();
    assert_eq!(listener.address().to_string(), format!("unix:{}", path.display()));
    let again = Listener::bind(&settings, &gate, &metrics).unwrap_err().to_string();
    let lock = format!("another proxy runs there: it holds the lock {}.lock; stop it", path.display());
    assert!(again.contains(&lock), "{again}");
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(listener.run(echo, async move { drop(ended.await) }));
    let mut device = tokio::net::UnixStream::connect(&path).await.unwrap();
    assert_eq!(greeting(&mut device).await.unwrap(), "-");
    let sent = vec![7; 500_000];
    let (mut read, mut write) = device.split();
    let mut got = vec![0; sent.len()];
    let (written, received) = tokio::join!(write.write_all(&sent), read.read_exact(&mut got));
    written.unwrap();
    received.unwrap();
    assert!(got == sent);
    drop(device);
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 0").await;
    drop(end);
    running.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn one_socket_serves_both_families() {
    let settings = ListenerSettings {
        address: Address::Ip("[::]:0".parse().unwrap()),
        ..tcp()
    };
    let (address, ..) = start(&settings, Limits::default());
    for ip in ["127.0.0.1", "::1"] {
        let mut device = TcpStream::connect((ip, address.port())).await.unwrap();
        assert_eq!(greeting(&mut device).await.unwrap(), "-", "{ip}");
    }
}

/// First where the connection comes from, and what its certificate says.
async fn origin(mut link: Link) {
    let mut outbox = Outbox::default();
    let name = link.identity().and_then(|i| i.common_name.as_deref()).unwrap_or("-");
    let line = format!("{} {name}\n", link.peer());
    outbox.buffer().extend_from_slice(line.as_bytes());
    link.flush(&mut outbox).await.unwrap();
    while let Ok(Fill::Bytes) = link.fill().await {
        link.consume(link.input().len());
    }
    link.close().await;
}

fn behind(protocol: Protocol, from: &[&str], limits: Limits) -> (SocketAddr, Arc<Metrics>) {
    let settings = ListenerSettings {
        protocol,
        proxy: Some(ProxySettings {
            from: from.iter().map(|net| net.parse().unwrap()).collect(),
            identity: true,
        }),
        ..tcp()
    };
    let metrics = Arc::new(Metrics::new());
    let listener = Listener::bind(&settings, &Gate::new(limits), &metrics).unwrap();
    let address = listener.local_address().unwrap();
    tokio::spawn(listener.run(origin, pending()));
    (address, metrics)
}

const HEADER_V1: &[u8] = b"PROXY TCP4 10.0.0.7 127.0.0.1 4096 1883\r\n";
/// 10.0.0.8:4096, whose certificate the balancer has verified: CN=vin8.
const HEADER_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1b\x0a\0\0\x08\x7f\0\0\x01\x10\0\x07\x5b\x20\0\x0c\x07\0\0\0\0\x22\0\x04vin8";

#[tokio::test]
async fn a_balancer_says_who_its_client_is() {
    let (address, metrics) = behind(Protocol::Mqtt, &["10.0.0.0/8", "127.0.0.0/8"], Limits::default());
    for (header, expected) in [(HEADER_V1, "10.0.0.7:4096 -"), (HEADER_V2, "10.0.0.8:4096 vin8")] {
        // As one piece, and byte by byte.
        for pieces in [header.len(), 1] {
            let mut device = TcpStream::connect(address).await.unwrap();
            device.set_nodelay(true).unwrap();
            for piece in header.chunks(pieces) {
                device.write_all(piece).await.unwrap();
            }
            assert_eq!(greeting(&mut device).await.unwrap(), expected);
        }
    }
    // A health check is the balancer itself.
    let mut check = TcpStream::connect(address).await.unwrap();
    check.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await.unwrap();
    assert_eq!(greeting(&mut check).await.unwrap(), format!("{} -", check.local_addr().unwrap()));
    let mut none = TcpStream::connect(address).await.unwrap();
    none.write_all(b"\x10\x0d\0\x04MQTT").await.unwrap();
    assert!(greeting(&mut none).await.is_err());
    shows(&metrics, &refused("proxy_header", 1)).await;
}

/// It has no address that could be in `proxy_from`: who may connect there is who the folder's rights let.
#[tokio::test]
async fn a_balancer_on_a_unix_socket_is_believed_and_must_say_who_its_client_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let settings = ListenerSettings {
        address: Address::Unix(path.clone()),
        proxy: Some(ProxySettings {
            from: vec!["10.0.0.0/8".parse().unwrap()],
            identity: true,
        }),
        ..tcp()
    };
    let metrics = Arc::new(Metrics::new());
    let listener = Listener::bind(&settings, &Gate::new(Limits::default()), &metrics).unwrap();
    tokio::spawn(listener.run(origin, pending()));
    for (header, expected) in [(HEADER_V1, "10.0.0.7:4096 -"), (HEADER_V2, "10.0.0.8:4096 vin8")] {
        let mut device = tokio::net::UnixStream::connect(&path).await.unwrap();
        device.write_all(header).await.unwrap();
        assert_eq!(greeting(&mut device).await.unwrap(), expected);
    }
    let mut without = tokio::net::UnixStream::connect(&path).await.unwrap();
    without.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0").await.unwrap();
    assert!(greeting(&mut without).await.is_err());
    shows(&metrics, &refused("proxy_header", 1)).await;
}

#[tokio::test]
async fn tls_begins_behind_the_header() {
    let files = Files::new();
    let (address, _) = behind(
        Protocol::Mqtts(files.settings(ClientAuth::None)),
        &["127.0.0.1/32"],
        Limits::default(),
    );
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(HEADER_V1).await.unwrap();
    let mut device = files.connect_over(tcp, &[&version::TLS13], None, &[]).await.unwrap();
    assert_eq!(greeting(&mut device).await.unwrap(), "10.0.0.7:4096 -");
}

/// The balancer shows a certificate of its own. It speaks for no device, also where the header names none.
#[tokio::test]
async fn a_balancers_own_certificate_is_no_devices() {
    let files = Files::new();
    let (address, _) = behind(
        Protocol::Mqtts(files.settings(ClientAuth::Required)),
        &["127.0.0.1/32"],
        Limits::default(),
    );
    let health_check = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, expected) in [(HEADER_V1, "-"), (HEADER_V2, "vin8"), (health_check, "-")] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(header).await.unwrap();
        let own = Some(files.authority.sign("balancer", false));
        let mut device = files.connect_over(tcp, &[&version::TLS13], own, &[]).await.unwrap();
        let told = greeting(&mut device).await.unwrap();
        assert_eq!(told.split_once(' ').unwrap().1, expected);
    }
}

#[tokio::test]
async fn nobody_else_may_say_who_he_is() {
    let (address, metrics) = behind(Protocol::Mqtt, &["10.0.0.0/8"], Limits::default());
    let mut stranger = TcpStream::connect(address).await.unwrap();
    // It may be closed before this is written.
    let _ = stranger.write_all(HEADER_V1).await;
    assert!(greeting(&mut stranger).await.is_err());
    shows(&metrics, &refused("proxy_header", 1)).await;
}

#[tokio::test]
async fn a_header_that_does_not_come_dies_at_the_deadline() {
    let limits = Limits {
        connect_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (address, metrics) = behind(Protocol::Mqtt, &["127.0.0.1/32"], limits);
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&HEADER_V1[..20]).await.unwrap();
    assert!(greeting(&mut silent).await.is_err());
    shows(&metrics, &refused("deadline", 1)).await;
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 0").await;
}

#[tokio::test]
async fn one_address_takes_no_more_than_its_part() {
    let limits = Limits {
        connections_per_address: Some(1),
        ..Limits::default()
    };
    let (address, metrics, _) = start(&tcp(), limits);
    let mut first = TcpStream::connect(address).await.unwrap();
    greeting(&mut first).await.unwrap();
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap_err();
    shows(&metrics, &refused("address_limit", 1)).await;
    drop(first);
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 0").await;
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();

    // Behind a balancer the clients' addresses count, not its own.
    // Who has more than its part spends none of the rate that is left for others.
    let limits = Limits {
        connect_rate: NonZeroU32::new(2),
        ..limits
    };
    let (address, metrics) = behind(Protocol::Mqtt, &["127.0.0.1/32"], limits);
    let mut open = vec![];
    let crowd = [
        (HEADER_V1, true),
        (HEADER_V1, false),
        (HEADER_V1, false),
        (HEADER_V1, false),
        (HEADER_V2, true),
    ];
    for (header, welcome) in crowd {
        let mut device = TcpStream::connect(address).await.unwrap();
        device.write_all(header).await.unwrap();
        assert_eq!(greeting(&mut device).await.is_ok(), welcome);
        open.push(device);
    }
    shows(&metrics, &refused("address_limit", 3)).await;
}

#[tokio::test]
async fn a_listener_has_limits_of_its_own() {
    let with = |limits| ListenerSettings { limits, ..tcp() };
    let one = ListenerLimits {
        connections: Some(1),
        ..ListenerLimits::default()
    };
    let (address, metrics, gate) = start(&with(one), Limits::default());
    let mut first = TcpStream::connect(address).await.unwrap();
    greeting(&mut first).await.unwrap();
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap_err();
    shows(&metrics, &refused("listener_limit", 1)).await;
    assert_eq!(gate.open(), 1, "who was refused has left");
    drop(first);
    shows(&metrics, "mqtt_kafka_proxy_connections{listener=\"edge\"} 0").await;
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();

    let slow = ListenerLimits {
        connect_rate: NonZeroU32::new(1),
        ..ListenerLimits::default()
    };
    let (address, metrics, _) = start(&with(slow), Limits::default());
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap();
    greeting(&mut TcpStream::connect(address).await.unwrap()).await.unwrap_err();
    shows(&metrics, &refused("listener_rate", 1)).await;
}

/// Runs itself again in a process of 64 descriptors, because the limit is the whole process's.
#[test]
fn the_accept_loop_survives_running_out_of_descriptors() {
    if std::env::var_os("EDGE_FEW_DESCRIPTORS").is_some() {
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(out_of_descriptors());
    }
    let name = "the_accept_loop_survives_running_out_of_descriptors";
    let script = format!("ulimit -n 64; exec \"$0\" --exact {name} --nocapture");
    let mut child = std::process::Command::new("sh");
    child
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .env("EDGE_FEW_DESCRIPTORS", "1");
    let ended = child.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

async fn out_of_descriptors() {
    let (address, metrics, _) = start(&tcp(), Limits::default());
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    // The one descriptor that is free now is the client's; none is left for accept.
    hoard.pop();
    let mut client = TcpStream::connect(address).await.unwrap();
    let failing = async {
        while metrics.accept_errors.get() < 2 {
            // The interval of this bounded poll: counters ring no bell.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, failing)
        .await
        .expect("accept fails and is tried again");
    hoard.clear();
    assert_eq!(greeting(&mut client).await.unwrap(), "-");
}
