//! Certificates by each of the names in them, by real clients; and those that are none, also as no real client would show them.

use super::Wanted::{Closed, In};
use super::clients::{Client, VERSIONS};
use super::{Case, NOT_AUTHORIZED, certificate, proxy, rules, run};
use crate::attackers::greeting;
use crate::security::Authority;
use crate::shared_kafka;
use crate::stage::{Proxy, certificates, eventually};
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, SanType};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion, crypto,
    version,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// The Kafka topic, and the MQTT topic that each publishes to.
const TOPIC: &str = "logins-by-name";

/// What may be the identity. Each has a proxy.
const NAMES: [&str; 6] = ["common_name", "subject", "dns", "uri", "email", "ip"];

/// One alternative name of each kind.
fn alternatives(number: u8) -> [SanType; 4] {
    [
        SanType::DnsName(format!("vin{number}.fleet.example").try_into().unwrap()),
        SanType::URI(format!("spiffe://fleet/vin{number}").try_into().unwrap()),
        SanType::Rfc822Name(format!("vin{number}@fleet.example").try_into().unwrap()),
        SanType::IpAddress([10, 1, 2, number].into()),
    ]
}

/// All of them.
fn whole(params: &mut CertificateParams) {
    params.subject_alt_names.extend(alternatives(42));
}

/// An extension whose bytes are no DER.
fn broken(params: &mut CertificateParams, extension: &[u64], content: &[u8]) {
    let extension = CustomExtension::from_oid_content(extension, content.to_vec());
    params.custom_extensions.push(extension);
}

/// All certificates, each of a device of that name.
pub(super) fn fleet(folder: &Path) -> Authority {
    let fleet = Authority::new(folder, "fleet");
    fleet.issue_edited("vin42", &[], whole);
    fleet.issue("plain", &[]);
    fleet.issue("withdrawn", &[]);
    fleet.issue_edited("twins", &[], |params| {
        params.subject_alt_names.extend(alternatives(1));
        params.subject_alt_names.extend(alternatives(2));
    });
    fleet.issue_edited("pretender", &[], |params| {
        params.distinguished_name.push(DnType::CommonName, "vin42,O=other");
        let uri = SanType::URI("vin42.fleet.example".try_into().unwrap());
        params.subject_alt_names.push(uri);
    });
    fleet.issue_edited("server", &[], |params| {
        whole(params);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    // A list of timestamps (RFC 6962 §3.3) that says it is longer than it is. OpenSSL does not look into it, and shows it.
    fleet.issue_edited("broken", &[], |params| {
        whole(params);
        broken(params, &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2], &[0x04, 0x7f]);
    });
    // The same of its only alternative name. OpenSSL would not show it; the proxy's TLS does not look into it.
    fleet.issue_edited("nameless", &[], |params| {
        broken(params, &[2, 5, 29, 17], &[0x30, 3, 0x82, 0x7f, b'a']);
    });
    with_intermediates(&fleet);
    fleet
}

/// Two authorities between, each with a device and its list, in the folders of their names. One of them is revoked, as is a device.
fn with_intermediates(fleet: &Authority) {
    fleet.revoke(&["plant", "withdrawn"]);
    let list = |authority: &Authority| fs::read_to_string(authority.file("ca.crl")).unwrap();
    let mut lists = list(fleet);
    for name in ["plant", "depot"] {
        let between = fleet.intermediate(name);
        between.issue_edited("vin42", &[], whole);
        between.revoke(&[]);
        lists += &list(&between);
    }
    fs::write(fleet.file("ca.crl"), lists).unwrap();
}

fn cases(fleet: &Authority) -> Vec<Case> {
    let case = |method, state, name, wanted| Case {
        method,
        state,
        login: certificate(fleet, name),
        wanted,
    };
    let mut cases = vec![
        case("common_name", "right", "vin42", In("vin42")),
        case("common_name", "right: no other name", "plain", In("plain")),
        case("common_name", "right: an authority between", "depot/vin42", In("vin42")),
        case("subject", "right", "vin42", In("CN=vin42,O=fleet")),
        case("subject", "right: no other name", "plain", In("CN=plain,O=fleet")),
        case("subject", "right: no two names", "pretender", In("CN=vin42\\,O\\=other,O=fleet")),
        case("dns", "right", "vin42", In("vin42.fleet.example")),
        case("dns", "wrong: of another kind", "pretender", NOT_AUTHORIZED),
        case("uri", "right", "vin42", In("spiffe://fleet/vin42")),
        case("email", "right", "vin42", In("vin42@fleet.example")),
        case("ip", "right", "vin42", In("10.1.2.42")),
    ];
    for method in ["dns", "uri", "email", "ip"] {
        cases.extend([
            case(method, "missing", "plain", NOT_AUTHORIZED),
            case(method, "wrong: two of them", "twins", NOT_AUTHORIZED),
        ]);
    }
    for method in NAMES {
        cases.extend([
            case(method, "wrong: a server's", "server", Closed),
            case(method, "malformed: no DER", "broken", Closed),
            case(method, "revoked: an authority between", "plant/vin42", Closed),
        ]);
    }
    cases
}

#[test]
fn each_name_of_a_good_certificate_is_an_identity_if_it_is_the_only_one_of_its_kind() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 1);
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path());
    let own = ["ca.pem", "ca.crl"].map(|name| fleet.file(name));
    let identity = |name: &str| format!(", identity: {name}");
    let started = NAMES.map(|name| (name, proxy(&kafka, TOPIC, "certificate", &identity(name), &own)));
    let proxies = BTreeMap::from(started);
    let cases = cases(&fleet);
    let (table, mut stored) = run(&cases, TOPIC, |case| &proxies[case.method]);
    println!("{table}");
    let mut found = kafka.consume(TOPIC, "%k|%s");
    found.sort_unstable();
    stored.sort_unstable();
    assert_eq!(found, stored, "who was let in, as whom, and nobody else");
    // It is the proxy that has refused them, and not the clients that did not show them. Browsers have none.
    let logins = (Client::ALL.len() - 1) * VERSIONS.len();
    for (name, proxy) in &proxies {
        eventually("each refused handshake is counted", || {
            let refused = proxy.metric(&["connections_refused_total", "listener=\"tls\"", "reason=\"handshake\""]);
            (refused == (3 * logins) as f64).then_some(())
        });
        let log = proxy.log();
        for word in ["certificate_refused", "certificate_not_legal", "certificate_revoked"] {
            assert!(log.contains(word), "{name}: no {word} in {log}");
        }
    }
}

/// What a device shows, whatever it is.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A device that shows these bytes, and has the key of that name.
fn device(
    proxy: &Proxy,
    version: &'static SupportedProtocolVersion,
    shown: Vec<u8>,
    (fleet, name): (&Authority, &str),
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates().join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_file(fleet.file(&format!("{name}.key"))).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = Shown(Arc::new(CertifiedKey::new(vec![CertificateDer::from(shown)], key)));
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let config = builder.with_root_certificates(roots).with_client_cert_resolver(Arc::new(shown));
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, TcpStream::connect(proxy.tls).unwrap())
}

/// What CONNECT is answered with.
fn answer(mut device: impl Read + Write) -> [u8; 4] {
    device.write_all(&greeting("bytes")).unwrap();
    let mut answer = [0; 4];
    device.read_exact(&mut answer).unwrap();
    answer
}

/// What the proxy's TLS says before it closes.
fn refusal(mut device: impl Read, what: &str) -> AlertDescription {
    let refused = device.read(&mut [0; 1]).expect_err(what);
    let told = refused.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match told {
        Some(Error::AlertReceived(alert)) => *alert,
        _ => panic!("{what}: {refused}"),
    }
}

#[test]
fn bytes_that_are_no_certificate_of_its_own_end_the_handshake_and_names_that_cannot_be_read_are_none() {
    let kafka = shared_kafka();
    let folder = tempfile::tempdir().unwrap();
    let fleet = fleet(folder.path());
    let own = ["ca.pem", "ca.crl"].map(|name| fleet.file(name));
    let topic = "logins-by-bytes";
    kafka.topic(topic, 1);
    // Where certificates are asked for, and where nobody comes in without.
    let proxies = [
        proxy(&kafka, topic, "certificate", "", &own),
        Proxy::start_requiring(&own, &kafka.bootstrap, &rules(topic, "certificate", "")),
    ];
    let der = |name: &str| {
        let certificate = CertificateDer::from_pem_file(fleet.file(&format!("{name}.pem")));
        certificate.unwrap().to_vec()
    };
    let good = der("vin42");
    let bad = [
        ("cut", good[..good.len() / 2].to_vec()),
        ("longer", [&good[..], &[0]].concat()),
        ("a length without content", b"0\x82\xff\xff".to_vec()),
        ("a length of no end", [&[0x30, 0x80][..], &good[4..]].concat()),
        ("text", b"-----BEGIN CERTIFICATE-----".to_vec()),
        ("an extension", der("broken")),
    ];
    for (proxy, version) in proxies
        .iter()
        .flat_map(|proxy| [(proxy, &version::TLS12), (proxy, &version::TLS13)])
    {
        for (what, shown) in &bad {
            let device = device(proxy, version, shown.clone(), (&fleet, "vin42"));
            assert_eq!(refusal(device, what), AlertDescription::BadCertificate, "{what}, {version:?}");
        }
        // Certificates are no secret: who has seen one comes with it.
        let stolen = device(proxy, version, good.clone(), (&fleet, "plain"));
        assert_eq!(refusal(stolen, "another's"), AlertDescription::DecryptError, "{version:?}");
        let nameless = device(proxy, version, der("nameless"), (&fleet, "nameless"));
        assert_eq!(answer(nameless), [0x20, 2, 0, 5], "its common name is not taken either");
        let good = device(proxy, version, good.clone(), (&fleet, "vin42"));
        assert_eq!(answer(good), [0x20, 2, 0, 0], "who shows one is let in");
    }
    for proxy in &proxies {
        assert_eq!(proxy.metric(&["connection_panics_total"]), 0.0);
    }
}
