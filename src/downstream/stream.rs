//! The bytes of one connection, in the clear or through TLS, in WebSocket frames or not, without buffers of our own.

mod tls_session;

use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll};

use rustls::ServerConnection;

use crate::mqtt::outbox::Outbox;

use super::identity::CertificateIdentity;
use super::records::{Followed, Records};
use super::socket::Socket;
use super::websocket::WebSocket;
use tls_session::Tls;

/// Segments of one gathered write: 1 KiB of stack, and more would not make a call cheaper.
pub(super) const SLICES: usize = 64;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    /// Boxed: a session is a kilobyte, which plain connections shall not pay.
    Tls(Box<Tls>),
    /// Frames over one of the others.
    WebSocket(Box<WebSocket>),
}

impl Stream {
    /// After the handshake; what came with its last message is still in the session.
    pub(super) fn tls(socket: Followed, session: ServerConnection) -> Self {
        Self::Tls(Box::new(Tls::new(socket, session)))
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
            Self::WebSocket(frames) => frames.below().socket(),
        }
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket_mut(),
            Self::WebSocket(frames) => frames.below_mut().socket_mut(),
        }
    }

    /// Ready when a read is worth a buffer.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_readable(cx),
            Self::WebSocket(frames) => frames.poll_readable(cx),
        }
    }

    /// Reads what there is, as much as fits; 0 is the end. A plain socket takes one system call for it.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read_into(cx, into),
            Self::Tls(tls) => tls.poll_read(cx, into),
            Self::WebSocket(frames) => frames.poll_read(cx, into),
        }
    }

    /// Writes some of the segments; `WouldBlock` if the socket takes none. What TLS keeps of them leaves with the next
    /// [`Stream::try_flush`].
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(slices),
            Self::Tls(tls) => tls.try_write(slices),
            Self::WebSocket(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// Writes until everything is gone (true) or the socket takes no more (false). What is written has left the outbox.
    pub(super) fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        match self {
            Self::Plain(socket) => try_flush_plain(socket, outbox),
            Self::Tls(tls) => tls.try_flush(outbox),
            Self::WebSocket(frames) => frames.try_flush(outbox),
        }
    }

    /// Queues what the protocols say before the end of the stream.
    pub(super) fn announce_end(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => tls.announce_end(),
            Self::WebSocket(frames) => frames.announce_end(),
        }
    }

    /// It is known who sends what comes from now on.
    pub(super) fn let_in(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => tls.nothing().let_in(),
            Self::WebSocket(frames) => frames.let_in(),
        }
    }

    /// Whether a read has ended since so much came that carried nothing; once for each.
    pub(super) fn has_paused(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.nothing().has_paused(),
            Self::WebSocket(frames) => frames.has_paused(),
        }
    }

    /// Bytes that carried nothing since this was asked last.
    pub(super) fn carried_nothing(&mut self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.nothing().take(),
            Self::WebSocket(frames) => frames.carried_nothing(),
        }
    }

    /// Whether of a WebSocket frame something has come that is no input.
    pub(super) fn has_begun_frame(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Tls(_) => false,
            Self::WebSocket(frames) => frames.has_begun(),
        }
    }

    /// Whether bytes wait here that have left the outbox.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.holds(),
            Self::WebSocket(frames) => frames.holds(),
        }
    }

    /// Whether such bytes have left since this was asked last. Of others the outbox tells.
    pub(super) fn has_sent(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_sent(),
            Self::WebSocket(frames) => frames.below_mut().has_sent(),
        }
    }

    /// Where the records of TLS stand.
    pub(super) fn records(&self) -> Option<&Records> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.records()),
            Self::WebSocket(frames) => frames.below().records(),
        }
    }

    /// Whether what has come in part of a TLS record, or of what is no input of a WebSocket frame, is another than the last time; once for each.
    pub(super) fn begins_anew(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.begins_anew(),
            Self::WebSocket(frames) => frames.begins_anew(),
        }
    }

    pub(super) fn identity(&self) -> Option<&CertificateIdentity> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.identity(),
            Self::WebSocket(frames) => frames.below().identity(),
        }
    }
}

fn try_flush_plain(socket: &Socket, outbox: &mut Outbox) -> io::Result<bool> {
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = outbox.io_slices(&mut slices);
        match socket.try_write_vectored(&slices[..count]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => outbox.advance(written),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
