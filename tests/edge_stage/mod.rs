//! Listeners that echo, certificates for them, and clients.

// The tests use a part of it each; clippy.toml allows unwrap in test functions, and the functions they share are not seen as such.
#![allow(dead_code, clippy::unwrap_used)]

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mqtt_kafka_proxy::downstream::{
    Address, ClientAuth, Fill, Gate, Limits, Link, Listener, ListenerLimits, ListenerSettings, Protocol, TlsSettings,
};
use mqtt_kafka_proxy::metrics::Metrics;
use mqtt_kafka_proxy::mqtt::outbox::Outbox;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes; only a defect meets it.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(Self::params(name), KeyPair::generate().unwrap()).unwrap())
    }

    /// One that this one has signed.
    pub fn intermediate(&self, name: &str, serial: u64) -> Self {
        let mut params = Self::params(name);
        params.serial_number = Some(SerialNumber::from(serial));
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// Certificate and key as PEM.
    pub fn sign(&self, common_name: &str, expired: bool) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// The same for this host name, with a serial number, so that it can be revoked.
    pub fn issue(&self, name: &str, serial: u64) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// The same with this authority's own certificate behind it, as devices show it whose authority is no root.
    pub fn issue_chain(&self, name: &str, serial: u64) -> (String, String) {
        let (certificate, key) = self.issue(name, serial);
        (certificate + &self.0.pem(), key)
    }

    /// Its list of what is revoked, as PEM.
    pub fn list(&self, number: u64, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A folder with the server's files; gone with the value.
pub struct Files {
    pub folder: tempfile::TempDir,
    pub authority: Authority,
}

impl Files {
    pub fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::new("fleet"),
        };
        let (certificate, key) = files.authority.sign("proxy", false);
        files.write("server.pem", &certificate);
        files.write("server.key", &key);
        files.write("ca.pem", &files.authority.0.pem());
        files
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn settings(&self, client_auth: ClientAuth) -> TlsSettings {
        let path = |name: &str| self.folder.path().join(name);
        TlsSettings {
            certificate: path("server.pem"),
            key: path("server.key"),
            client_ca: Some(path("ca.pem")),
            client_auth,
            more: vec![],
            client_crl: None,
            ticket_keys: None,
        }
    }

    /// What a device needs that trusts the authority, and shows this certificate, and what stands behind it, with its key.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], identity: Option<&(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    CertificateDer::pem_slice_iter(certificate.as_bytes())
                        .collect::<Result<_, _>>()
                        .unwrap(),
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }

    pub async fn connect(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<(String, String)>,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await.unwrap();
        self.connect_over(tcp, versions, identity, alpn).await
    }

    /// The same on a connection that has said something before.
    pub async fn connect_over(
        &self,
        tcp: TcpStream,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<(String, String)>,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = self.client(versions, identity.as_ref());
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
    }
}

pub fn tcp() -> ListenerSettings {
    ListenerSettings {
        name: "edge".to_owned(),
        address: Address::Ip("127.0.0.1:0".parse().unwrap()),
        protocol: Protocol::Mqtt,
        proxy: None,
        limits: ListenerLimits::default(),
    }
}

pub fn tls(settings: TlsSettings) -> ListenerSettings {
    ListenerSettings {
        protocol: Protocol::Mqtts(settings),
        ..tcp()
    }
}

/// First the certificate's common name (or `-`) and a line end, then everything back until the peer ends.
pub async fn echo(mut link: Link) {
    let mut outbox = Outbox::default();
    let name = link
        .identity()
        .and_then(|i| i.common_name.clone())
        .unwrap_or_else(|| "-".to_owned());
    outbox.buffer().extend_from_slice(name.as_bytes());
    outbox.buffer().push(b'\n');
    link.flush(&mut outbox).await.unwrap();
    while let Ok(Fill::Bytes) = link.fill().await {
        assert!(!link.input().starts_with(b"panic"), "asked to");
        outbox.buffer().extend_from_slice(link.input());
        link.consume(link.input().len());
        if link.flush(&mut outbox).await.is_err() {
            return;
        }
    }
    link.close().await;
}

pub fn start(settings: &ListenerSettings, limits: Limits) -> (SocketAddr, Arc<Metrics>, Arc<Gate>) {
    let (metrics, gate) = (Arc::new(Metrics::new()), Gate::new(limits));
    let listener = Listener::bind(settings, &gate, &metrics).unwrap();
    let address = listener.local_address().unwrap();
    tokio::spawn(listener.run(echo, pending()));
    (address, metrics, gate)
}

pub async fn greeting(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8(line).unwrap()),
            byte => line.push(byte),
        }
    }
}

/// Waits until a scrape shows the line.
pub async fn shows(metrics: &Metrics, line: &str) {
    let seen = async {
        while !metrics.encode().lines().any(|l| l == line) {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, seen).await.is_ok(),
        "never {line:?} in\n{}",
        metrics.encode()
    );
}

pub fn refused(reason: &str, count: u32) -> String {
    format!("mqtt_kafka_proxy_connections_refused_total{{listener=\"edge\",reason=\"{reason}\"}} {count}")
}
