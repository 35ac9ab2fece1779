//! What the configuration says of listeners, and the one line that says why a listener cannot be had.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Unique among the listeners; the label of its metrics.
    pub name: String,
    /// Where to listen. Port 0 takes any free port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS 1.2 or 1.3.
    Mqtts(TlsSettings),
}

/// The `tls` of a listener: paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Authorities that sign the devices' certificates; needed unless `client_auth` is none.
    pub client_ca: Option<PathBuf>,
    /// Whether devices show a certificate.
    pub client_auth: ClientAuth,
}

/// Whether devices show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that shows a certificate must show a good one.
    Optional,
    /// Without a good certificate the handshake fails.
    Required,
}

/// Of `limits`, what holds before the first packet, for all listeners together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, handshakes included. More are closed at once.
    pub connections: u32,
    /// Connections taken per second, with a burst of one second's worth; `None` is no limit.
    pub connect_rate: Option<NonZeroU32>,
    /// From accept to CONNECT. The handshake is held to it here, CONNECT by the reader of
    /// [`Link::connect_deadline`](super::Link::connect_deadline).
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connect_rate: NonZeroU32::new(5_000),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Why a listener cannot be had, as one line: listener, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindError {
    /// The listener's name.
    pub listener: String,
    /// What is wrong, with the path or the address.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener \"{}\": {}; {}", self.listener, self.message, self.remedy)
    }
}

impl std::error::Error for BindError {}
