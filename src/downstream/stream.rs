//! The bytes of one connection, in the clear or through TLS, without buffers of our own.
//!
//! rustls' session is driven directly instead of through `AsyncRead`/`AsyncWrite`: a read takes all records that the
//! socket holds, a write hands all segments to the session at once (full records, one gathered system call for all of
//! them), and `try_flush` needs no task.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::mqtt::outbox::Outbox;

use super::identity::CertificateIdentity;

/// Segments of one gathered write: 1 KiB of stack, and more would not make a call cheaper.
const SLICES: usize = 64;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    /// Boxed: a session is a kilobyte, which plain connections shall not pay.
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Tls {
    tcp: TcpStream,
    session: ServerConnection,
    /// The last read ended with more to take (or an end to report), so the socket's readiness alone says nothing.
    more: bool,
    identity: OnceLock<Option<CertificateIdentity>>,
}

impl Stream {
    /// After the handshake; what came with its last message is still in the session.
    pub(super) fn tls(tcp: TcpStream, session: ServerConnection) -> Self {
        Self::Tls(Box::new(Tls {
            tcp,
            session,
            more: true,
            identity: OnceLock::new(),
        }))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.tcp,
        }
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }

    /// Ready when a read is worth a buffer.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(tls) if tls.more => Poll::Ready(Ok(())),
            stream => stream.tcp().poll_read_ready(cx),
        }
    }

    /// Reads what there is, as much as fits; 0 is the end. TCP takes one system call for it.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => poll_tcp(tcp, cx, into),
            Self::Tls(tls) => tls.poll_read(cx, into),
        }
    }

    /// Writes until everything is gone (true) or the socket takes no more (false). What is written has left the outbox.
    pub(super) fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        match self {
            Self::Plain(tcp) => try_flush_tcp(tcp, outbox),
            Self::Tls(tls) => tls.try_flush(outbox),
        }
    }

    /// Queues what the protocol says before the end of the stream.
    pub(super) fn announce_end(&mut self) {
        if let Self::Tls(tls) = self {
            tls.session.send_close_notify();
        }
    }

    pub(super) fn identity(&self) -> Option<&CertificateIdentity> {
        let Self::Tls(tls) = self else { return None };
        let read = || CertificateIdentity::from_der(tls.session.peer_certificates()?.first()?);
        tls.identity.get_or_init(read).as_ref()
    }
}

impl Tls {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut total = 0;
        self.more = true;
        while total < into.len() {
            match self.session.reader().read(&mut into[total..]) {
                Ok(0) => break,
                Ok(n) => {
                    total += n;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // The socket ended without close_notify. MQTT frames itself, so nothing can have been cut unseen.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
                Err(e) => return Poll::Ready(Err(e)),
            }
            match self.take_records(cx) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.more = false;
                    return if total > 0 { Poll::Ready(Ok(total)) } else { Poll::Pending };
                }
                // What came before the fault is handed over first; the session reports the fault again.
                Err(_) if total > 0 => break,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(total))
    }

    /// One read of the socket into the session. `WouldBlock`: the waker is registered.
    fn take_records(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.session.read_tls(&mut Polled { tcp: &mut self.tcp, cx })?;
        let processed = self.session.process_new_packets();
        // An alert or the answer to a key update; what does not fit now leaves with the next flush.
        if self.session.wants_write() {
            let _ = self.session.write_tls(&mut Trying(&self.tcp));
        }
        processed.map(drop).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
    }

    fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        loop {
            while self.session.wants_write() {
                match self.session.write_tls(&mut Trying(&self.tcp)) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            if outbox.is_empty() {
                return Ok(true);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = outbox.io_slices(&mut slices);
            // The session takes up to 64 KiB and cuts full records out of all slices together.
            match self.session.writer().write_vectored(&slices[..count])? {
                0 => return Err(ErrorKind::WriteZero.into()),
                taken => outbox.advance(taken),
            }
        }
    }
}

fn poll_tcp(tcp: &mut TcpStream, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    // Not `try_read`: after a read that did not fill the buffer this one spares the next call, which would find nothing.
    ready!(Pin::new(tcp).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

fn try_flush_tcp(tcp: &TcpStream, outbox: &mut Outbox) -> io::Result<bool> {
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = outbox.io_slices(&mut slices);
        match tcp.try_write_vectored(&slices[..count]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => outbox.advance(written),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// The socket as rustls reads it.
struct Polled<'a, 'c> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match poll_tcp(self.tcp, self.cx, into) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket as rustls writes it: all its records with one call.
struct Trying<'a>(&'a TcpStream);

impl Write for Trying<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
