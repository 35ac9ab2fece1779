//! The byte stream to a broker. One kind today; TLS becomes a second variant here and nowhere else.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// The half that is read.
pub(crate) enum ReadHalf {
    /// PLAINTEXT.
    Tcp(OwnedReadHalf),
}

/// The half that is written.
pub(crate) enum WriteHalf {
    /// PLAINTEXT.
    Tcp(OwnedWriteHalf),
}

/// Connects to `host:port` within `bound`. Every address that the name has is tried.
pub(crate) async fn connect(address: &str, bound: Duration) -> io::Result<(ReadHalf, WriteHalf)> {
    let tcp = timeout(bound, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt"))??;
    tcp.set_nodelay(true)?;
    let (read, write) = tcp.into_split();
    Ok((ReadHalf::Tcp(read), WriteHalf::Tcp(write)))
}

impl ReadHalf {
    /// Appends what the socket has; 0 is its end. Cancel-safe.
    pub(crate) async fn read_buf(&mut self, into: &mut bytes::BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.read_buf(into).await,
        }
    }
}

impl WriteHalf {
    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.write_all(bytes).await,
        }
    }
}
