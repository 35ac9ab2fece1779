//! The byte stream to a broker: TCP, with TLS in it or not.

use std::{io, time::Duration};

use bytes::Buf;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::client::TlsStream;

use super::{
    connection::CallError,
    dial::dial,
    security::{Peer, Security},
};

/// Whoever stands between us and the brokers (a NAT, a firewall, a balancer of a cloud) may forget a connection that is idle for some minutes, and
/// tell nobody: the first request after that would wait for its whole time. So the kernel asks whether the other end is there after this time, and
/// again so often, which also keeps it known.
const ALIVE: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;

/// The half that is read.
pub(crate) enum ReadHalf {
    /// PLAINTEXT and SASL_PLAINTEXT. `sasl`: we say who we are.
    Tcp { half: OwnedReadHalf, sasl: bool },
    /// SSL and SASL_SSL.
    Tls {
        half: tokio::io::ReadHalf<TlsStream<TcpStream>>,
        peer: Peer,
        sasl: bool,
    },
}

/// The half that is written.
pub(crate) enum WriteHalf {
    /// PLAINTEXT and SASL_PLAINTEXT.
    Tcp(OwnedWriteHalf),
    /// SSL and SASL_SSL.
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
}

/// Connects to `host:port`. The caller bounds the time.
pub(crate) async fn connect(address: &str, security: &Security) -> Result<(ReadHalf, WriteHalf), CallError> {
    let broken = |e: io::Error| CallError::Broken(e.to_string().into());
    let tcp = dial(address).await.map_err(broken)?;
    tcp.set_nodelay(true).map_err(broken)?;
    let alive = TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE).with_retries(PROBES);
    SockRef::from(&tcp).set_tcp_keepalive(&alive).map_err(broken)?;
    let sasl = security.sasl.is_some();
    if !security.is_tls() {
        let (half, write) = tcp.into_split();
        return Ok((ReadHalf::Tcp { half, sasl }, WriteHalf::Tcp(write)));
    }
    let (tls, peer) = security.secure(tcp, address).await?;
    let (half, write) = tokio::io::split(tls);
    Ok((ReadHalf::Tls { half, peer, sasl }, WriteHalf::Tls(write)))
}

impl ReadHalf {
    /// Appends what the socket has; 0 is its end. Cancel-safe.
    pub(crate) async fn read_buf(&mut self, into: &mut bytes::BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp { half, .. } => half.read_buf(into).await,
            Self::Tls { half, .. } => half.read_buf(into).await,
        }
    }

    /// Why there is no more to read, after so many answers. `error`: what the read gave; `None` is the end of the stream.
    pub(crate) fn ended(&self, error: Option<&io::Error>, answers: u64) -> CallError {
        let why = match (self, error) {
            (Self::Tls { peer, .. }, Some(e)) => peer.while_reading(e),
            (_, Some(e)) => CallError::Broken(format!("read: {e}").into()),
            (_, None) => CallError::Broken("closed by the broker".into()),
        };
        let (Self::Tcp { sasl, .. } | Self::Tls { sasl, .. }) = self;
        let hint = match (self, answers, &why) {
            (Self::Tcp { .. }, 0, CallError::Broken(_)) => {
                " before its first answer; if this port speaks TLS, set `kafka.security.protocol` to ssl or sasl_ssl"
            }
            // The versions were told, which everybody may ask for.
            (_, 1, CallError::Broken(_)) if !sasl => {
                " at the first request; if this port asks for SASL, set `kafka.security.protocol` to sasl_plaintext or sasl_ssl"
            }
            _ => return why,
        };
        CallError::Broken(format!("{why}{hint}").into())
    }
}

impl WriteHalf {
    /// Writes all of `bytes`, many pieces at a time.
    pub(crate) async fn write_all(&mut self, bytes: &mut impl Buf) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.write_all_buf(bytes).await,
            Self::Tls(half) => {
                half.write_all_buf(bytes).await?;
                // What is encrypted may still wait in the session.
                half.flush().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::settings::Settings;

    #[tokio::test]
    async fn the_kernel_asks_whether_a_broker_is_still_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let security = Security::new(&Settings::default().security);
        let (_read, write) = connect(&address, &security).await.unwrap();
        let WriteHalf::Tcp(half) = write else {
            panic!("no TLS was asked for")
        };
        let socket = SockRef::from(half.as_ref());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap()),
            (ALIVE, ALIVE)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
    }
}
