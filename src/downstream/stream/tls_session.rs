//! A TLS session over a socket, without buffers of our own.
//!
//! rustls' session is driven directly instead of through `AsyncRead`/`AsyncWrite`: a read takes all records that the
//! socket holds, a write hands all segments to the session at once (full records, one gathered system call for all of
//! them), and `try_flush` needs no task.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::OnceLock;
use std::task::{Context, Poll};

use rustls::ServerConnection;

use crate::downstream::identity::CertificateIdentity;
use crate::downstream::nothing::Nothing;
use crate::downstream::records::{Followed, Records};
use crate::downstream::socket::Socket;
use crate::mqtt::outbox::Outbox;

use super::SLICES;

/// What a record needs beside what it carries: header, explicit nonce, tag (RFC 5288 §3); one of TLS 1.3 needs less.
const AROUND: usize = 29;

#[derive(Debug)]
pub(in crate::downstream) struct Tls {
    followed: Followed,
    session: ServerConnection,
    /// Bytes have left since this was asked last.
    sent: bool,
    /// The last read ended with more to take (or an end to report), so the socket's readiness alone says nothing.
    more: bool,
    /// What fills up its records, and records with nothing in them.
    nothing: Nothing,
    /// Bytes of records that have come and are not counted.
    uncounted: usize,
    identity: OnceLock<Option<CertificateIdentity>>,
}

impl Tls {
    /// After the handshake; what came with its last message is still in the session.
    pub(super) fn new(followed: Followed, session: ServerConnection) -> Self {
        Self {
            nothing: Nothing::of_stranger(),
            uncounted: followed.records.in_part(),
            followed,
            session,
            sent: false,
            more: true,
            identity: OnceLock::new(),
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.followed.socket
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.followed.socket
    }

    pub(super) fn records(&self) -> &Records {
        &self.followed.records
    }

    pub(super) fn nothing(&mut self) -> &mut Nothing {
        &mut self.nothing
    }

    pub(super) fn begins_anew(&mut self) -> bool {
        self.followed.records.begins_anew()
    }

    /// Whether the session has records that are not written.
    pub(super) fn holds(&self) -> bool {
        self.session.wants_write()
    }

    /// Whether bytes have left since this was asked last.
    pub(super) fn has_sent(&mut self) -> bool {
        std::mem::take(&mut self.sent)
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.more {
            Poll::Ready(Ok(()))
        } else {
            self.followed.socket.poll_read_ready(cx)
        }
    }

    pub(super) fn announce_end(&mut self) {
        self.session.send_close_notify();
    }

    pub(super) fn identity(&self) -> Option<&CertificateIdentity> {
        let read = || CertificateIdentity::from_der(self.session.peer_certificates()?.first()?);
        self.identity.get_or_init(read).as_ref()
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
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
            // Others have their turn. Each of the records may have carried a byte.
            if self.nothing.pauses() {
                cx.waker().wake_by_ref();
                return if total > 0 { Poll::Ready(Ok(total)) } else { Poll::Pending };
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
        if self.nothing.is_too_much() {
            let fault = "too much TLS that carries nothing before CONNECT";
            return Err(io::Error::new(ErrorKind::InvalidData, fault));
        }
        let before = self.followed.records.whole();
        self.uncounted += self.session.read_tls(&mut Polled {
            followed: &mut self.followed,
            cx,
        })?;
        let processed = self.session.process_new_packets();
        // An alert or the answer to a key update; what does not fit now leaves with the next flush.
        if self.session.wants_write() {
            let _ = self.session.write_tls(&mut Trying(&self.followed.socket));
        }
        let state = processed.map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        let records = self.followed.records.whole().wrapping_sub(before);
        self.count_nothing(records as usize, state.plaintext_bytes_to_read());
        Ok(())
    }

    /// What has come in so many records and was nothing of so many bytes in them. A client may cut those as small as it likes.
    fn count_nothing(&mut self, records: usize, carried: usize) {
        let in_part = self.followed.records.in_part();
        let bytes = self.uncounted.saturating_sub(in_part);
        self.uncounted = in_part;
        self.nothing.add(bytes.saturating_sub(carried + AROUND * records.min(carried)));
    }

    pub(super) fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        loop {
            if !self.send_records()? {
                return Ok(false);
            }
            if outbox.is_empty() {
                return Ok(true);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = outbox.io_slices(&mut slices);
            outbox.advance(self.take(&slices[..count])?);
        }
    }

    /// Takes some of the segments, once the records made before are gone. `WouldBlock`: the socket does not take those.
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.send_records()? {
            self.take(slices)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    /// Writes the records that the session holds; false if the socket takes no more.
    fn send_records(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Trying(&self.followed.socket)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => self.sent = true,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// The session takes up to 64 KiB and cuts full records out of all slices together.
    fn take(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.session.writer().write_vectored(slices)? {
            0 => Err(ErrorKind::WriteZero.into()),
            taken => Ok(taken),
        }
    }
}

/// The socket as rustls reads it.
struct Polled<'a, 'c> {
    followed: &'a mut Followed,
    cx: &'a mut Context<'c>,
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.followed.poll_read_into(self.cx, into) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// The socket as rustls writes it: all its records with one call.
struct Trying<'a>(&'a Socket);

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
