//! What a connection passes before it is a [`Link`]: PROXY header, the handshakes of TLS and WebSocket, under the connect deadline.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

use crate::metrics::ConnectionRefusal;

use super::doors::plain;
use super::gate::Seat;
use super::identity::CertificateIdentity;
use super::link::Link;
use super::proxy::{self, Header, Progress};
use super::records::Followed;
use super::settings::{BindError, ListenerSettings, ProxySettings, WebSocketSettings};
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{Tls, certificate_fault};
use super::websocket::{Refused, upgrade};

/// The handshakes of one listener.
#[derive(Debug)]
pub(super) struct Entrance {
    proxy: Option<ProxySettings>,
    tls: Option<Arc<Tls>>,
    websocket: Option<WebSocketSettings>,
}

/// What is known of a connection that has passed.
struct Entered {
    stream: Stream,
    told: Option<Box<CertificateIdentity>>,
}

/// Why a connection did not come in.
#[derive(Debug)]
enum Failure {
    /// A limit or rate does not let its client in.
    Limit(ConnectionRefusal, SocketAddr),
    /// It did not come from where balancers are.
    Stranger,
    Header(proxy::Fault),
    /// The socket failed or ended within the PROXY header.
    Cut(io::Error),
    Tls(io::Error),
    WebSocket(Refused),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit, client) => write!(f, "{} is not let in: {}", client.ip(), limit.as_str()),
            Self::Stranger => f.write_str("the address is not in `proxy_from`"),
            Self::Header(e) => e.fmt(f),
            Self::Cut(e) => write!(f, "PROXY header: {e}"),
            Self::Tls(e) => write!(f, "TLS: {e}"),
            Self::WebSocket(e) => write!(f, "WebSocket: {e}"),
        }
    }
}

impl Failure {
    fn refusal(&self) -> ConnectionRefusal {
        match self {
            Self::Limit(limit, _) => *limit,
            Self::Stranger | Self::Header(_) | Self::Cut(_) => ConnectionRefusal::ProxyHeader,
            Self::Tls(_) | Self::WebSocket(_) => ConnectionRefusal::Handshake,
        }
    }
}

impl Entrance {
    /// Reads the files that the listener names.
    pub(super) fn new(settings: &ListenerSettings) -> Result<Self, BindError> {
        let named = |(message, remedy)| BindError {
            listener: settings.name.clone(),
            message,
            remedy,
        };
        let websocket = settings.protocol.websocket().cloned();
        // A browser says what it speaks over TLS, and for WebSocket that is HTTP.
        let alpn: &'static [u8] = if websocket.is_some() { b"http/1.1" } else { b"mqtt" };
        let tls = settings.protocol.tls().map(|tls| Tls::new(tls, alpn)).transpose();
        Ok(Self {
            proxy: settings.proxy.clone(),
            tls: tls.map_err(named)?.map(Arc::new),
            websocket,
        })
    }

    /// Reads certificates again when their files change, for ever. `listener` is its name.
    pub(super) async fn follow_files(&self, listener: Box<str>) {
        match &self.tls {
            Some(tls) => tls.clone().follow(listener).await,
            None => std::future::pending().await,
        }
    }

    /// Has them read at once, also if they do not look changed.
    pub(super) fn read_files_anew(&self) {
        if let Some(tls) = &self.tls {
            tls.read_anew();
        }
    }

    /// Whether there is nothing to pass.
    pub(super) fn is_open(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none()
    }

    /// Whether who the client is shows only in the connection.
    pub(super) fn tells_clients(&self) -> bool {
        self.proxy.is_some()
    }

    /// Everything in its order; `None` is counted.
    pub(super) async fn enter(self: Arc<Self>, socket: Socket, opened: Instant, mut seat: Seat) -> Option<Link> {
        // A balancer may say another one.
        let mut peer = seat.peer;
        let deadline = tokio::time::Instant::from_std(opened + seat.connect_timeout());
        let refusal = match tokio::time::timeout_at(deadline, self.pass(socket, &mut peer, &mut seat)).await {
            Ok(Ok(entered)) => {
                seat.peer = peer;
                return Some(Link::new(entered.stream, opened, seat).told(entered.told));
            }
            Ok(Err(e)) => {
                tracing::debug!(listener = &*seat.listener.name, %peer, error = %e, "refused before CONNECT");
                if let Failure::Tls(error) = &e
                    && let Some(fault) = certificate_fault(error)
                {
                    seat.tell_certificate(peer, fault);
                }
                e.refusal()
            }
            Err(_) => ConnectionRefusal::Deadline,
        };
        match refusal {
            ConnectionRefusal::AddressLimit | ConnectionRefusal::ListenerRate | ConnectionRefusal::Rate => {
                seat.listener.refuse(refusal, Instant::now());
            }
            refusal => seat.listener.counters.refused(refusal),
        }
        None
    }

    async fn pass(&self, mut socket: Socket, peer: &mut SocketAddr, seat: &mut Seat) -> Result<Entered, Failure> {
        let mut told = None;
        if let Some(proxy) = &self.proxy {
            // A balancer on a Unix socket has no address; who may connect there, the folder says.
            if matches!(socket, Socket::Tcp(_)) && !proxy.from.iter().any(|net| net.contains(&peer.ip())) {
                return Err(Failure::Stranger);
            }
            let header = read_header(&mut socket).await?;
            let client = header.source.map(plain);
            *peer = client.unwrap_or(*peer);
            seat.enter(client.map(|client| client.ip()), Instant::now())
                .map_err(|limit| Failure::Limit(limit, *peer))?;
            told = proxy.identity.then(|| Box::new(CertificateIdentity::named(header.common_name)));
        }
        let stream = self.handshakes(socket).await?;
        Ok(Entered { stream, told })
    }

    async fn handshakes(&self, socket: Socket) -> Result<Stream, Failure> {
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let accepted = TlsAcceptor::from(tls.config())
                    .accept(Followed::new(socket))
                    .await
                    .map_err(Failure::Tls)?;
                let (followed, session) = accepted.into_inner();
                let verified = tls.verify_resumed(&session);
                verified.map_err(|e| Failure::Tls(io::Error::new(io::ErrorKind::InvalidData, e)))?;
                Stream::tls(followed, session)
            }
        };
        match &self.websocket {
            Some(settings) => upgrade(stream, settings).await.map_err(Failure::WebSocket),
            None => Ok(stream),
        }
    }
}

/// Exactly the header: what follows stays in the socket.
async fn read_header(socket: &mut Socket) -> Result<Header, Failure> {
    let mut bytes = Vec::new();
    loop {
        match proxy::parse(&bytes).map_err(Failure::Header)? {
            Progress::Whole(header) => return Ok(header),
            Progress::More(count) => {
                let have = bytes.len();
                bytes.resize(have + count, 0);
                let read = socket.read(&mut bytes[have..]).await.map_err(Failure::Cut)?;
                if read == 0 {
                    return Err(Failure::Cut(io::ErrorKind::UnexpectedEof.into()));
                }
                bytes.truncate(have + read);
            }
        }
    }
}
