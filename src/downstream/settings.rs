//! What the configuration says of listeners, and the one line that says why a listener cannot be had.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use zeroize::Zeroizing;

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Unique among the listeners; the label of its metrics.
    pub name: String,
    /// Where to listen.
    pub address: Address,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Each connection begins with a PROXY header; `None`: none does.
    pub proxy: Option<ProxySettings>,
    /// Its own bounds, beside those of all listeners together.
    pub limits: ListenerLimits,
}

/// Balancers that say who their clients are (PROXY protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Their addresses. Who comes from elsewhere is refused.
    pub from: Vec<IpNet>,
    /// Whether the common name that a balancer has verified is taken for the device's.
    pub identity: bool,
}

/// Of a listener alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections open at once, handshakes included; `None` is no limit but that of all.
    pub connections: Option<u32>,
    /// Connections taken per second, with a burst of one second's worth.
    pub connect_rate: Option<NonZeroU32>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port; port 0 takes any free port.
    Ip(SocketAddr),
    /// All addresses of IPv6, and none of IPv4: one of those is another listener's with the same port.
    OnlyIpv6(SocketAddr),
    /// A Unix socket. A socket that nobody listens on any more is replaced; who may connect, the folder says.
    Unix(PathBuf),
    /// A listening socket that whoever started the process hands over, by its place (systemd's `LISTEN_FDS`).
    Inherited(usize),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) | Self::OnlyIpv6(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(place) => write!(f, "systemd:{place}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS 1.2 or 1.3.
    Mqtts(TlsSettings),
    /// MQTT over WebSocket.
    Ws(WebSocketSettings),
    /// MQTT over WebSocket over TLS.
    Wss(TlsSettings, WebSocketSettings),
}

impl Protocol {
    /// As the configuration writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts(_) => "mqtts",
            Self::Ws(_) => "ws",
            Self::Wss(..) => "wss",
        }
    }

    /// What it needs of TLS, if it is TLS.
    pub fn tls(&self) -> Option<&TlsSettings> {
        match self {
            Self::Mqtts(tls) | Self::Wss(tls, _) => Some(tls),
            Self::Mqtt | Self::Ws(_) => None,
        }
    }

    /// What it needs of WebSocket, if it is WebSocket.
    pub fn websocket(&self) -> Option<&WebSocketSettings> {
        match self {
            Self::Ws(websocket) | Self::Wss(_, websocket) => Some(websocket),
            Self::Mqtt | Self::Mqtts(_) => None,
        }
    }
}

/// What a WebSocket listener takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The path that requests must name, beginning with `/`; `None`: any.
    pub path: Option<String>,
    /// Bytes of the largest frame. It costs no memory: packets are read as they come.
    pub frame_size: u32,
    /// Where web pages may come from, as [`origin`] writes it; `None`: from anywhere. Who is no browser does not say where he comes from.
    pub origins: Option<Vec<String>>,
}

/// The origin of a web page (RFC 6454 §6.2) in the one form that is compared: `scheme://host` or `scheme://host:port`. `None`: it is none.
pub fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let bracketed = rest.find(']').map_or(0, |end| end + 1);
    let (host, port) = match rest[bracketed..].find(':') {
        Some(colon) => (&rest[..bracketed + colon], Some(&rest[bracketed + colon + 1..])),
        None => (rest, None),
    };
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(of_scheme);
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = is_name || inner.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    (is_scheme && is_host && port.is_none_or(is_port)).then_some(text)
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            path: Some("/mqtt".to_owned()),
            frame_size: 16 << 20,
            origins: None,
        }
    }
}

/// The `tls` of a listener: paths of PEM files, but for the ticket keys. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Further certificates with their keys, for who asks for a DNS name in them (SNI).
    pub more: Vec<(PathBuf, PathBuf)>,
    /// Authorities that sign the devices' certificates; needed unless `client_auth` is none.
    pub client_ca: Option<PathBuf>,
    /// Whether devices show a certificate.
    pub client_auth: ClientAuth,
    /// Revocation lists: of each authority that signs devices, and of others whose word on intermediate ones is to count.
    pub client_crl: Option<PathBuf>,
    /// Keys of session tickets, shared with other instances; `None`: this process makes its own.
    pub ticket_keys: Option<TicketKeys>,
}

/// Where the keys of session tickets are.
#[derive(Clone, PartialEq, Eq)]
pub enum TicketKeys {
    /// In a file, each a line; read again when it changes.
    File(PathBuf),
    /// Apart by blanks or line ends, as a variable of the environment holds them: for as long as the process lives.
    Text(Zeroizing<String>),
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "keys in {}", path.display()),
            Self::Text(_) => f.write_str("keys"),
        }
    }
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
    /// Connections open at once from one address, of IPv6 from one /64; `None` is no limit.
    pub connections_per_address: Option<u32>,
    /// From accept to CONNECT. The handshake is held to it here, CONNECT by the reader of
    /// [`Link::connect_deadline`](super::Link::connect_deadline).
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connect_rate: NonZeroU32::new(5_000),
            connections_per_address: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_perhaps_a_port() {
        for (text, read) in [
            ("https://app.example.org", Some("https://app.example.org")),
            ("HTTPS://App.Example.org:8443", Some("https://app.example.org:8443")),
            ("http://10.0.0.1:80", Some("http://10.0.0.1:80")),
            ("http://[2001:DB8::1]:8080", Some("http://[2001:db8::1]:8080")),
            ("http://[::1]", Some("http://[::1]")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("null", None),
            ("*", None),
            ("", None),
            ("app.example.org", None),
            ("https://", None),
            ("://app", None),
            ("1s://app", None),
            ("https://app/", None),
            ("https://app/path", None),
            ("https://user@app", None),
            ("https://*.example.org", None),
            ("https://app:", None),
            ("https://app:0", None),
            ("https://app:080", None),
            ("https://app:70000", None),
            ("https://app:80:80", None),
            ("https://[::1", None),
            ("https://[::1]x", None),
            ("https://[app]", None),
            ("https://\u{fc}ber.example", None),
            ("https://a b", None),
        ] {
            assert_eq!(origin(text).as_deref(), read, "{text}");
        }
    }
}
