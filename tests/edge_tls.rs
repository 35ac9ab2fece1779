//! TLS of listeners over time: certificates by name, files that change under open connections, revocation, and sessions
//! that are resumed at another instance.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod edge_stage;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use edge_stage::{Files, PATIENCE, greeting, start, tls};
use mqtt_kafka_proxy::downstream::{ClientAuth, Limits, Listener, ListenerSettings, Protocol, TicketKeys, TlsSettings, WebSocketSettings};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::client::{ResolvesClientCert, Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, SignatureScheme, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Identity = (String, String);

/// A device that remembers its sessions.
#[derive(Clone)]
struct Device(Arc<ClientConfig>);

impl Device {
    fn new(files: &Files, version: &'static SupportedProtocolVersion, identity: Option<&Identity>) -> Self {
        Self(Arc::new(files.client(&[version], identity)))
    }

    /// Connects, and reads the name that the listener greets with. TLS 1.3 tells a refusal, and brings a ticket, only then.
    async fn connect(&self, address: SocketAddr, name: &'static str) -> std::io::Result<(TlsStream<TcpStream>, String)> {
        let tcp = TcpStream::connect(address).await?;
        let mut stream = TlsConnector::from(self.0.clone())
            .connect(ServerName::try_from(name).unwrap(), tcp)
            .await?;
        let greeting = greeting(&mut stream).await?;
        Ok((stream, greeting))
    }

    async fn kind(&self, address: SocketAddr) -> HandshakeKind {
        let (stream, _) = self.connect(address, "localhost").await.unwrap();
        stream.get_ref().1.handshake_kind().unwrap()
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Writes the authority's list of what is revoked.
fn revoke(files: &Files, number: u64, serials: &[u64]) -> PathBuf {
    files.write("ca.crl", &files.authority.list(number, serials))
}

/// Until it is so: the listener looks at its files once a second.
async fn becomes<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let waiting = async {
        while !so().await {
            // The interval of this bounded poll.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

async fn echoes(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"still here");
}

#[tokio::test]
async fn a_client_gets_the_certificate_that_it_names() {
    let files = Files::new();
    let (certificate, key) = files.authority.issue("*.fleet.example", 9);
    let settings = TlsSettings {
        more: vec![(files.write("b.pem", &certificate), files.write("b.key", &key))],
        ..files.settings(ClientAuth::None)
    };
    let (address, ..) = start(&tls(settings), Limits::default());
    let device = Device::new(&files, &version::TLS13, None);
    // The client would refuse a certificate of another name.
    let (one, _) = device.connect(address, "localhost").await.unwrap();
    let (two, _) = device.connect(address, "a.fleet.example").await.unwrap();
    assert_ne!(shown(&one), shown(&two));
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_nobody_is_thrown_out() {
    let files = Files::new();
    let (address, ..) = start(&tls(files.settings(ClientAuth::None)), Limits::default());
    // Sessions are not kept, or no certificate would be shown again.
    let fresh = || Device::new(&files, &version::TLS13, None);
    let (mut open, _) = fresh().connect(address, "localhost").await.unwrap();
    let former = shown(&open);

    // The certificate comes before its key, so between both the files do not fit.
    let (certificate, key) = files.authority.issue("localhost", 5);
    files.write("server.pem", &certificate);
    files.write("server.key", &key);
    becomes("the new certificate", || async {
        shown(&fresh().connect(address, "localhost").await.unwrap().0) != former
    })
    .await;
    echoes(&mut open).await;
}

/// One of those that are shown by name. The others stay.
#[tokio::test]
async fn a_new_certificate_of_another_name_is_shown_too() {
    let files = Files::new();
    let issue = |serial| {
        let (certificate, key) = files.authority.issue("*.fleet.example", serial);
        (files.write("b.pem", &certificate), files.write("b.key", &key))
    };
    let settings = TlsSettings {
        more: vec![issue(9)],
        ..files.settings(ClientAuth::None)
    };
    let (address, ..) = start(&tls(settings), Limits::default());
    let fresh = || Device::new(&files, &version::TLS13, None);
    let (first, _) = fresh().connect(address, "localhost").await.unwrap();
    let (mut open, _) = fresh().connect(address, "a.fleet.example").await.unwrap();
    let former = shown(&open);
    issue(10);
    becomes("the new certificate", || async {
        shown(&fresh().connect(address, "a.fleet.example").await.unwrap().0) != former
    })
    .await;
    let (again, _) = fresh().connect(address, "localhost").await.unwrap();
    assert_eq!(shown(&again), shown(&first));
    echoes(&mut open).await;
}

/// A certificate, the keys of tickets, the authority: each at fault while something else changes.
#[tokio::test]
async fn a_file_that_cannot_be_used_keeps_no_other_from_being_used() {
    let files = Files::new();
    let issue = |name: &str, host, serial| {
        let (certificate, key) = files.authority.issue(host, serial);
        (
            files.write(&format!("{name}.pem"), &certificate),
            files.write(&format!("{name}.key"), &key),
        )
    };
    let settings = TlsSettings {
        more: vec![issue("b", "b.example", 9)],
        client_crl: Some(revoke(&files, 1, &[])),
        ticket_keys: Some(TicketKeys::File(
            files.write("tickets", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        )),
        ..files.settings(ClientAuth::Required)
    };
    let (address, ..) = start(&tls(settings), Limits::default());
    let vins = [5, 6, 7].map(|serial| files.authority.issue(&format!("vin{serial}"), serial));
    let fresh = |vin: usize| Device::new(&files, &version::TLS13, Some(&vins[vin]));
    let certificate = async |name| shown(&fresh(2).connect(address, name).await.unwrap().0);
    let (first, named) = (certificate("localhost").await, certificate("b.example").await);
    assert_eq!(fresh(0).kind(address).await, HandshakeKind::Full);

    files.write("b.key", "no key");
    revoke(&files, 2, &[5]);
    becomes("vin5 is revoked", || async {
        fresh(0).connect(address, "localhost").await.is_err()
    })
    .await;
    assert_eq!(certificate("b.example").await, named, "it stays");
    issue("server", "localhost", 10);
    becomes("the first certificate is new", || async { certificate("localhost").await != first }).await;
    assert_eq!(certificate("b.example").await, named, "it stays");

    let device = fresh(2);
    assert_eq!(device.kind(address).await, HandshakeKind::Full);
    files.write("tickets", "");
    issue("b", "b.example", 11);
    becomes("the other certificate is mended", || async {
        certificate("b.example").await != named
    })
    .await;
    assert_eq!(device.kind(address).await, HandshakeKind::Resumed, "by the former keys");

    files.write("ca.pem", "no authority");
    revoke(&files, 3, &[5, 6]);
    becomes("vin6 is revoked", || async {
        fresh(1).connect(address, "localhost").await.is_err()
    })
    .await;
    assert_eq!(fresh(2).kind(address).await, HandshakeKind::Full, "by the former authority");
    assert_eq!(device.kind(address).await, HandshakeKind::Full, "what it rests on has changed");
    assert_eq!(device.kind(address).await, HandshakeKind::Resumed, "under the former keys");

    // Mended, and used: its list revokes nobody.
    files.write("ca.pem", &files.authority.0.pem());
    revoke(&files, 4, &[]);
    becomes("nobody is revoked", || async {
        fresh(0).connect(address, "localhost").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn who_is_revoked_is_refused_also_with_a_ticket() {
    let files = Files::new();
    let settings = TlsSettings {
        client_crl: Some(revoke(&files, 1, &[8])),
        ticket_keys: Some(TicketKeys::File(
            files.write("tickets", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        )),
        ..files.settings(ClientAuth::Required)
    };
    let (address, ..) = start(&tls(settings), Limits::default());
    let (seven, eight) = (files.authority.issue("vin7", 7), files.authority.issue("vin8", 8));
    for version in [&version::TLS12, &version::TLS13] {
        assert!(
            Device::new(&files, version, Some(&eight))
                .connect(address, "localhost")
                .await
                .is_err()
        );
    }
    let devices = [&version::TLS12, &version::TLS13].map(|version| Device::new(&files, version, Some(&seven)));
    let mut open = vec![];
    for device in &devices {
        assert_eq!(device.kind(address).await, HandshakeKind::Full);
        let (stream, name) = device.connect(address, "localhost").await.unwrap();
        assert_eq!(
            (stream.get_ref().1.handshake_kind(), name.as_str()),
            (Some(HandshakeKind::Resumed), "vin7")
        );
        open.push(stream);
    }
    revoke(&files, 2, &[8, 7]);
    for device in devices {
        becomes("the ticket is worth nothing, nor is the certificate", || async {
            device.connect(address, "localhost").await.is_err()
        })
        .await;
    }
    for stream in &mut open {
        echoes(stream).await;
    }
}

/// Both have authorities of their own, whose lists say nothing of them: only the root can.
#[tokio::test]
async fn who_is_under_a_revoked_authority_is_refused_also_with_a_ticket() {
    let files = Files::new();
    let [plant, depot] = [("plant", 20), ("depot", 21)].map(|(name, serial)| files.authority.intermediate(name, serial));
    let revoke = |number, serials: &[u64]| {
        let lists = [plant.list(1, &[]), files.authority.list(number, serials), depot.list(1, &[])];
        files.write("ca.crl", &lists.concat())
    };
    let settings = TlsSettings {
        client_crl: Some(revoke(1, &[])),
        ticket_keys: Some(TicketKeys::File(
            files.write("tickets", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        )),
        ..files.settings(ClientAuth::Required)
    };
    let (address, ..) = start(&tls(settings), Limits::default());
    let (seven, eight) = (plant.issue_chain("vin7", 7), depot.issue_chain("vin8", 8));
    for version in [&version::TLS12, &version::TLS13] {
        let device = Device::new(&files, version, Some(&seven));
        let (_, name) = device.connect(address, "localhost").await.unwrap();
        assert_eq!(name, "vin7", "its authority is good yet");
        assert_eq!(device.kind(address).await, HandshakeKind::Resumed);
        revoke(2, &[20]);
        becomes("the ticket is worth nothing, nor is the certificate", || async {
            device.connect(address, "localhost").await.is_err()
        })
        .await;
        let other = Device::new(&files, version, Some(&eight));
        let (_, name) = other.connect(address, "localhost").await.unwrap();
        assert_eq!(name, "vin8", "its authority is good");
        revoke(3, &[]);
        becomes("it is let in again", || async {
            device.connect(address, "localhost").await.is_ok()
        })
        .await;
    }
}

/// The device's own certificate needs the list of its authority, as without an intermediate one; its authority needs none.
#[tokio::test]
async fn a_device_needs_the_list_of_its_own_authority() {
    let files = Files::new();
    let root = &files.authority;
    let [plant, depot] = [("plant", 20), ("depot", 21)].map(|(name, serial)| root.intermediate(name, serial));
    let (at_root, at_plant) = (root.issue("vin6", 6), plant.issue_chain("vin7", 7));
    for (lists, six, seven) in [
        (vec![root.list(1, &[])], true, false),
        (vec![root.list(1, &[20])], true, false),
        (vec![plant.list(1, &[])], false, true),
        (vec![plant.list(1, &[7])], false, false),
        (vec![plant.list(1, &[]), depot.list(1, &[])], false, true),
        (vec![depot.list(1, &[]), root.list(1, &[])], true, false),
        (vec![plant.list(1, &[]), root.list(1, &[6])], false, true),
        (vec![plant.list(1, &[]), root.list(1, &[20])], true, false),
        // Numbers of certificates count at their own authority only.
        (vec![plant.list(1, &[20, 6]), root.list(1, &[7])], true, true),
    ] {
        let settings = TlsSettings {
            client_crl: Some(files.write("ca.crl", &lists.concat())),
            ..files.settings(ClientAuth::Required)
        };
        let (address, ..) = start(&tls(settings), Limits::default());
        for version in [&version::TLS12, &version::TLS13] {
            for (identity, good) in [(&at_root, six), (&at_plant, seven)] {
                let connected = Device::new(&files, version, Some(identity)).connect(address, "localhost").await;
                assert_eq!(connected.is_ok(), good, "{lists:?}: {connected:?}");
            }
        }
    }
}

/// Each use of a ticket brings another, which would be good for twelve hours more.
#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_also_with_a_ticket() {
    let files = Files::new();
    let settings = TlsSettings {
        ticket_keys: Some(TicketKeys::File(
            files.write("tickets", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        )),
        ..files.settings(ClientAuth::Required)
    };
    for (settings, version) in [(settings, &version::TLS13), (files.settings(ClientAuth::Optional), &version::TLS12)] {
        let (address, ..) = start(&tls(settings), Limits::default());
        let end = UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(4);
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, "vin7");
        params.not_after = date_time_ymd(1970, 1, 1) + end;
        let certificate = params.signed_by(&key, &files.authority.0).unwrap();
        let device = Device::new(&files, version, Some(&(certificate.pem(), key.serialize_pem())));
        assert_eq!(device.kind(address).await, HandshakeKind::Full);
        assert_eq!(device.kind(address).await, HandshakeKind::Resumed);
        becomes("the certificate counts no more", || async {
            let (stream, name) = match device.connect(address, "localhost").await {
                Ok(connected) => connected,
                Err(_) => return true,
            };
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!((kind, name.as_str()), (Some(HandshakeKind::Resumed), "vin7"));
            false
        })
        .await;
        assert!(UNIX_EPOCH.elapsed().unwrap().as_secs() >= end.as_secs(), "it was refused too early");
    }
}

/// What a device shows, which it renews while it remembers its sessions.
#[derive(Debug)]
struct Renewed(Mutex<Arc<CertifiedKey>>);

impl Renewed {
    fn show(&self, (certificate, key): &Identity) {
        *self.0.lock().unwrap() = certified(certificate, key);
    }
}

impl ResolvesClientCert for Renewed {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(certificate: &str, key: &str) -> Arc<CertifiedKey> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap())
}

/// Its ticket brings the former certificate, which must not stand in the way of the new one.
#[tokio::test]
async fn a_device_that_has_renewed_its_certificate_is_let_in_also_with_its_old_ticket() {
    let files = Files::new();
    let shared = TlsSettings {
        ticket_keys: Some(TicketKeys::File(
            files.write("tickets", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        )),
        ..files.settings(ClientAuth::Required)
    };
    for (settings, version) in [
        (shared.clone(), &version::TLS13),
        (shared, &version::TLS12),
        (files.settings(ClientAuth::Optional), &version::TLS13),
        (files.settings(ClientAuth::Required), &version::TLS12),
    ] {
        let (address, ..) = start(&tls(settings), Limits::default());
        let end = UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(3);
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, "vin7");
        params.not_after = date_time_ymd(1970, 1, 1) + end;
        let former = params.signed_by(&key, &files.authority.0).unwrap().pem();
        let shown = Arc::new(Renewed(Mutex::new(certified(&former, &key.serialize_pem()))));
        let mut client = files.client(&[version], None);
        client.client_auth_cert_resolver = shown.clone();
        let device = Device(Arc::new(client));
        assert_eq!(device.kind(address).await, HandshakeKind::Full);
        shown.show(&files.authority.issue("vin7", 7));
        let refused = Cell::new(0);
        becomes("the former certificate counts no more", || {
            let connecting = device.connect(address, "localhost");
            let refused = &refused;
            async move {
                let Ok((stream, name)) = connecting.await else {
                    refused.set(refused.get() + 1);
                    return false;
                };
                assert_eq!(name, "vin7");
                stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Full)
            }
        })
        .await;
        assert!(
            UNIX_EPOCH.elapsed().unwrap().as_secs() >= end.as_secs(),
            "the ticket was refused too early"
        );
        assert_eq!(device.kind(address).await, HandshakeKind::Resumed, "by the new certificate");
    }
}

#[tokio::test]
async fn a_session_goes_on_at_another_instance_that_has_the_keys_and_asks_for_the_same() {
    let files = Files::new();
    let keys = files.write("tickets", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    let with_keys = |client_auth| TlsSettings {
        ticket_keys: Some(TicketKeys::File(keys.clone())),
        ..files.settings(client_auth)
    };
    let listen = |settings| start(&tls(settings), Limits::default()).0;
    let (one, two) = (listen(with_keys(ClientAuth::None)), listen(with_keys(ClientAuth::None)));
    let (alone, stricter) = (listen(files.settings(ClientAuth::None)), listen(with_keys(ClientAuth::Optional)));
    // As a variable holds them, behind a newer one.
    let variable = "bmV3ZXI2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjA= MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let rotated = listen(TlsSettings {
        ticket_keys: Some(TicketKeys::Text(variable.to_owned().into())),
        ..files.settings(ClientAuth::None)
    });
    for version in [&version::TLS12, &version::TLS13] {
        // A ticket serves once, so each try begins with a new one.
        let kinds = async |first, second| {
            let device = Device::new(&files, version, None);
            (device.kind(first).await, device.kind(second).await)
        };
        assert_eq!(kinds(one, one).await, (HandshakeKind::Full, HandshakeKind::Resumed));
        assert_eq!(kinds(one, two).await, (HandshakeKind::Full, HandshakeKind::Resumed));
        assert_eq!(kinds(one, rotated).await, (HandshakeKind::Full, HandshakeKind::Resumed));
        assert_eq!(
            kinds(rotated, one).await,
            (HandshakeKind::Full, HandshakeKind::Full),
            "under the newer"
        );
        assert_eq!(kinds(alone, alone).await, (HandshakeKind::Full, HandshakeKind::Resumed));
        assert_eq!(kinds(alone, one).await, (HandshakeKind::Full, HandshakeKind::Full));
        assert_eq!(
            kinds(one, stricter).await,
            (HandshakeKind::Full, HandshakeKind::Full),
            "it asks for certificates"
        );
    }
}

/// They would be known to one instance only, and for as long as there is room.
#[tokio::test]
async fn sessions_of_tls_1_2_are_in_tickets_and_nowhere_else() {
    let files = Files::new();
    let address = start(&tls(files.settings(ClientAuth::None)), Limits::default()).0;
    for (kind, again) in [
        (Tls12Resumption::SessionIdOnly, HandshakeKind::Full),
        (Tls12Resumption::SessionIdOrTickets, HandshakeKind::Resumed),
    ] {
        let mut config = files.client(&[&version::TLS12], None);
        config.resumption = Resumption::in_memory_sessions(8).tls12_resumption(kind);
        let device = Device(Arc::new(config));
        assert_eq!(device.kind(address).await, HandshakeKind::Full);
        assert_eq!(device.kind(address).await, again);
    }
}

/// How a new device that has a ticket from one listener comes to another.
async fn second(files: &Files, version: &'static SupportedProtocolVersion, [from, to]: [SocketAddr; 2]) -> HandshakeKind {
    let device = Device::new(files, version, None);
    assert_eq!(device.kind(from).await, HandshakeKind::Full);
    device.kind(to).await
}

/// A newer key is put before the former one, which is dropped when its tickets have gone. Two others that know one of both each show which of
/// them a ticket is under.
#[tokio::test]
async fn keys_of_tickets_are_changed_under_a_running_listener() {
    let files = Files::new();
    let (one, two) = (
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "bmV3ZXI2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjA=",
    );
    let listen = |keys| {
        let settings = TlsSettings {
            ticket_keys: Some(keys),
            ..files.settings(ClientAuth::None)
        };
        start(&tls(settings), Limits::default()).0
    };
    let [former, newer] = [one, two].map(|key| listen(TicketKeys::Text(key.to_owned().into())));
    let address = listen(TicketKeys::File(files.write("tickets", one)));
    let versions = [&version::TLS12, &version::TLS13];
    let begun = async || {
        let devices = versions.map(|version| Device::new(&files, version, None));
        for device in &devices {
            assert_eq!(device.kind(address).await, HandshakeKind::Full);
        }
        devices
    };
    let (old, older) = (begun().await, begun().await);

    files.write("tickets", &format!("{two}\n{one}\n"));
    becomes("new tickets are under the newer key", || async {
        second(&files, &version::TLS13, [address, newer]).await == HandshakeKind::Resumed
    })
    .await;
    for (device, version) in old.iter().zip(versions) {
        assert_eq!(device.kind(address).await, HandshakeKind::Resumed, "by its old ticket");
        assert_eq!(second(&files, version, [address, newer]).await, HandshakeKind::Resumed);
        assert_eq!(second(&files, version, [address, former]).await, HandshakeKind::Full);
    }

    files.write("tickets", &format!("{two}\n"));
    becomes("tickets under the former key are worth nothing", || async {
        second(&files, &version::TLS13, [former, address]).await == HandshakeKind::Full
    })
    .await;
    for device in &older {
        assert_eq!(device.kind(address).await, HandshakeKind::Full, "its ticket is too old");
        assert_eq!(device.kind(address).await, HandshakeKind::Resumed, "by the new one");
    }
}

/// A client that names protocols (RFC 7301) means one of them: who speaks only others is no MQTT client.
#[tokio::test]
async fn the_protocol_is_the_listener_s_own_or_none() {
    let files = Files::new();
    let websocket = WebSocketSettings {
        path: None,
        frame_size: 1 << 20,
        origins: None,
    };
    let wss = ListenerSettings {
        protocol: Protocol::Wss(files.settings(ClientAuth::None), websocket),
        ..tls(files.settings(ClientAuth::None))
    };
    for (settings, own, other) in [
        (tls(files.settings(ClientAuth::None)), &b"mqtt"[..], &b"http/1.1"[..]),
        (wss, b"http/1.1", b"mqtt"),
    ] {
        let (address, ..) = start(&settings, Limits::default());
        for version in [&version::TLS12, &version::TLS13] {
            let stream = files.connect(address, &[version], None, &[b"h2", own]).await.unwrap();
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                Some(own),
                "the one of both that the listener speaks"
            );
            let stream = files.connect(address, &[version], None, &[]).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), None);
            let refused = files.connect(address, &[version], None, &[b"h2", other]).await.unwrap_err();
            assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
        }
    }
}

#[tokio::test]
async fn files_at_fault_are_told_with_their_key() {
    let files = Files::new();
    let good = files.settings(ClientAuth::Required);
    let wrong = files.write("wrong", "nothing of use");
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    params.distinguished_name.push(DnType::CommonName, "b.example");
    let nameless = params.signed_by(&key, &files.authority.0).unwrap().pem();
    let nameless = (files.write("wrong.pem", &nameless), files.write("wrong.key", &key.serialize_pem()));
    for (settings, said) in [
        (
            TlsSettings {
                more: vec![nameless],
                ..good.clone()
            },
            "has no DNS name",
        ),
        (
            TlsSettings {
                client_crl: Some(wrong.clone()),
                ..good.clone()
            },
            "client_crl",
        ),
        (
            TlsSettings {
                ticket_keys: Some(TicketKeys::File(wrong.clone())),
                ..good.clone()
            },
            "ticket_keys",
        ),
        (
            TlsSettings {
                more: vec![(good.certificate.clone(), wrong)],
                ..good.clone()
            },
            "key",
        ),
    ] {
        let line = Listener::check(&tls(settings)).unwrap_err().to_string();
        assert!(
            line.contains(said) && line.contains("wrong") && !line.contains("nothing of use"),
            "{line}"
        );
    }
}
