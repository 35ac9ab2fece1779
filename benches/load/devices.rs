//! Devices of the connection scenarios, over TCP or TLS: they come, are told that they are welcome, and stay or go.

use crate::stage::certificates;
use bytes::BytesMut;
use mqttbytes::v4;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion, crypto, version};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Addresses that devices come from: a connection that has ended holds its port for a minute.
const SOURCES: usize = 64;
const WELCOME: [u8; 4] = [0x20, 2, 0, 0];

/// What a device says before MQTT.
#[derive(Clone, Copy)]
pub enum Shake {
    /// Nothing.
    Plain,
    /// A whole TLS handshake of this version.
    Full(&'static SupportedProtocolVersion),
    /// One that goes on with the session of the connection before.
    Resumed(&'static SupportedProtocolVersion),
}

pub const TLS12: &SupportedProtocolVersion = &version::TLS12;
pub const TLS13: &SupportedProtocolVersion = &version::TLS13;

/// One device, which has its own tickets.
pub struct Device {
    number: usize,
    shake: Shake,
    tls: Option<TlsConnector>,
    /// Whether it has a session to go on with.
    known: bool,
}

/// Its connection.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Device {
    pub fn new(number: usize, shake: Shake) -> io::Result<Self> {
        let tls = match shake {
            Shake::Plain => None,
            Shake::Full(version) => Some(connector(version, Resumption::disabled())?),
            Shake::Resumed(version) => Some(connector(version, Resumption::in_memory_sessions(8))?),
        };
        let known = false;
        Ok(Self { number, shake, tls, known })
    }

    /// Connects, up to CONNACK.
    pub async fn come(&mut self, to: SocketAddr) -> io::Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        let source = Ipv4Addr::new(127, 0, 1, 1 + (self.number % SOURCES) as u8);
        socket.bind((source, 0).into())?;
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            greet(&mut stream, self.number).await?;
            return Ok(Wire::Plain(stream));
        };
        let name = ServerName::try_from("localhost").expect("it is one");
        let mut stream = Box::new(tls.connect(name, stream).await?);
        let wanted = match self.shake {
            Shake::Resumed(_) if self.known => HandshakeKind::Resumed,
            _ => HandshakeKind::Full,
        };
        let kind = stream.get_ref().1.handshake_kind();
        if kind != Some(wanted) {
            return Err(io::Error::other(format!("a handshake was {kind:?} instead of {wanted:?}")));
        }
        greet(&mut *stream, self.number).await?;
        self.known = true;
        Ok(Wire::Tls(stream))
    }

    /// Connects, says goodbye, and waits for the end.
    pub async fn visit(&mut self, to: SocketAddr) -> io::Result<()> {
        match self.come(to).await? {
            Wire::Plain(stream) => leave(stream).await,
            Wire::Tls(stream) => leave(stream).await,
        }
    }
}

fn connector(version: &'static SupportedProtocolVersion, sessions: Resumption) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates().join("ca.pem")).map_err(io::Error::other)?;
    roots.add(ca).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[version]).map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = sessions;
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), number: usize) -> io::Result<()> {
    let mut connect = BytesMut::new();
    let mut packet = v4::Connect::new(format!("device-{number}"));
    packet.keep_alive = 3600;
    packet.write(&mut connect).map_err(|error| io::Error::other(format!("{error:?}")))?;
    stream.write_all(&connect).await?;
    stream.flush().await?;
    let mut told = [0; WELCOME.len()];
    stream.read_exact(&mut told).await?;
    if told == WELCOME {
        return Ok(());
    }
    Err(io::Error::other(format!("CONNECT was answered {told:02x?}")))
}

async fn leave(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(&[0xe0, 0]).await?;
    stream.flush().await?;
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
