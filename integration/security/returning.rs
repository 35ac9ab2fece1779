//! Devices that come back again and again with the TLS session of their last connection, each time to publish one number.

use super::authority::Authority;
use crate::attackers::{REQUEST, greeting, packet};
use crate::stage::DEADLINE;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion, crypto};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// One of them, until it has come often enough.
pub struct Returning {
    comes: JoinHandle<()>,
    enough: Arc<AtomicBool>,
    visits: Arc<AtomicU32>,
}

impl Returning {
    pub fn start(visitor: Visitor) -> Self {
        let (enough, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (until, count) = (enough.clone(), visits.clone());
        let comes = spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                let resumed = visitor.publish(number);
                assert_eq!(resumed, number > 0, "visit {number} of {}", visitor.id);
                count.fetch_add(1, Ordering::Relaxed);
                // The load: some dozen connections a second of each.
                sleep(Duration::from_millis(10));
            }
        });
        Self { comes, enough, visits }
    }

    /// How often it has been there.
    pub fn visits(&self) -> u32 {
        self.visits.load(Ordering::Relaxed)
    }

    /// The same, once it comes no more.
    pub fn end(self) -> u32 {
        self.enough.store(true, Ordering::Relaxed);
        self.comes.join().expect("it was welcome each time");
        self.visits.load(Ordering::Relaxed)
    }
}

/// Who comes, and to where.
pub struct Visitor {
    id: String,
    topic: String,
    at: SocketAddr,
    /// Whether WebSocket is spoken there.
    framed: bool,
    /// With what it remembers.
    tls: Arc<ClientConfig>,
}

type Wire = StreamOwned<ClientConnection, TcpStream>;

impl Visitor {
    /// It speaks this version, and trusts the authority.
    pub fn new(topic: &str, at: SocketAddr, framed: bool, version: &'static SupportedProtocolVersion, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.resumption = Resumption::in_memory_sessions(8);
        Self {
            id: topic.replace('/', "-"),
            topic: topic.to_owned(),
            at,
            framed,
            tls: Arc::new(tls),
        }
    }

    /// Comes, publishes a number, and goes once it is acknowledged. Whether it went on with its session.
    fn publish(&self, number: u32) -> bool {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(self.tls.clone(), name).unwrap();
        let tcp = TcpStream::connect(self.at).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut wire = StreamOwned::new(session, tcp);
        if self.framed {
            upgrade(&mut wire);
        }
        self.say(&mut wire, &greeting(&self.id));
        assert_eq!(self.hear(&mut wire), [0x20, 2, 0, 0]);
        let topic = self.topic.as_bytes();
        let number = number.to_string();
        let publish = [&[0, topic.len() as u8], topic, &[0, 1], number.as_bytes()].concat();
        self.say(&mut wire, &packet(0x32, &publish));
        assert_eq!(self.hear(&mut wire), [0x40, 2, 0, 1]);
        self.say(&mut wire, &[0xe0, 0]);
        let resumed = wire.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        while wire.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        resumed
    }

    fn say(&self, wire: &mut Wire, packet: &[u8]) {
        if self.framed {
            // Final, binary, masked by zeros.
            assert!(packet.len() < 126);
            wire.write_all(&[0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0]).unwrap();
        }
        wire.write_all(packet).unwrap();
        wire.flush().unwrap();
    }

    /// An answer of four bytes.
    fn hear(&self, wire: &mut Wire) -> [u8; 4] {
        if self.framed {
            let mut head = [0; 2];
            wire.read_exact(&mut head).unwrap();
            assert_eq!(head, [0x82, 4]);
        }
        let mut answer = [0; 4];
        wire.read_exact(&mut answer).unwrap();
        answer
    }
}

fn upgrade(wire: &mut Wire) {
    wire.write_all(REQUEST.as_bytes()).unwrap();
    let (mut answer, mut byte) = (vec![], [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        wire.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
}
