//! What a connection passes before it is a [`Link`]: the handshakes of TLS and WebSocket, under the connect deadline.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::metrics::ConnectionRefusal;

use super::gate::Seat;
use super::link::Link;
use super::settings::{BindError, ListenerSettings, WebSocketSettings};
use super::socket::Socket;
use super::stream::Stream;
use super::tls;
use super::websocket::{Refused, upgrade};

/// The handshakes of one listener.
#[derive(Debug)]
pub(super) struct Entrance {
    tls: Option<Arc<ServerConfig>>,
    websocket: Option<WebSocketSettings>,
}

/// Why a connection did not come in.
#[derive(Debug)]
enum Failure {
    Tls(io::Error),
    WebSocket(Refused),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(e) => write!(f, "TLS: {e}"),
            Self::WebSocket(e) => write!(f, "WebSocket: {e}"),
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
        let alpn: &[u8] = if websocket.is_some() { b"http/1.1" } else { b"mqtt" };
        let tls = settings.protocol.tls().map(|tls| tls::server_config(tls, alpn)).transpose();
        Ok(Self {
            tls: tls.map_err(named)?,
            websocket,
        })
    }

    /// Whether there is nothing to pass.
    pub(super) fn is_open(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    /// Everything in its order; `None` is counted.
    pub(super) async fn enter(&self, socket: Socket, peer: SocketAddr, opened: Instant, seat: Seat) -> Option<Link> {
        let deadline = tokio::time::Instant::from_std(opened + seat.connect_timeout());
        let refusal = match tokio::time::timeout_at(deadline, self.handshakes(socket)).await {
            Ok(Ok(stream)) => return Some(Link::new(stream, peer, opened, seat)),
            Ok(Err(e)) => {
                tracing::debug!(listener = &*seat.listener.name, %peer, error = %e, "handshake failed");
                ConnectionRefusal::Handshake
            }
            Err(_) => ConnectionRefusal::Deadline,
        };
        seat.listener.counters.refused(refusal);
        None
    }

    async fn handshakes(&self, socket: Socket) -> Result<Stream, Failure> {
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let accepted = TlsAcceptor::from(config.clone()).accept(socket).await.map_err(Failure::Tls)?;
                let (socket, session) = accepted.into_inner();
                Stream::tls(socket, session)
            }
        };
        match &self.websocket {
            Some(settings) => upgrade(stream, settings).await.map_err(Failure::WebSocket),
            None => Ok(stream),
        }
    }
}
