//! One connection as the relay holds it: bytes in, an outbox out, who is there, and the end.
//!
//! Where the input lies. `lent` is a buffer of this thread's pool and is here only between a read that brought bytes
//! and their use. What is left of an incomplete packet moves to `kept`, which is as large as the bytes that came and
//! never as large as a packet says it will be. An idle connection has neither.
//!
//! ```text
//!   idle ──bytes──▶ lent ──all consumed──▶ idle
//!    ▲                └──part of a packet, nothing more to read──▶ kept ──bytes──▶ lent, or appended if large
//!    └───────────────────────all consumed────────────────────────────┘
//! ```

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::mqtt::outbox::Outbox;

use super::gate::Seat;
use super::identity::CertificateIdentity;
use super::pool::{self, BUFFER_SIZE, Buffer, Loan};
use super::records::Records;
use super::stream::Stream;
use super::turns;

/// A close takes no longer than this, whatever the peer does.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Kept bytes beyond this are not copied into a lent buffer for the next read; the read is appended to them.
const COPIED_AT_MOST: usize = BUFFER_SIZE / 2;

/// What [`Link::fill`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// There is more input than before, or so much has come that carried nothing that it is to be looked at ([`Link::carried_nothing`]).
    Bytes,
    /// The peer sends no more. Input that was not consumed stays readable.
    End,
}

/// One accepted connection, its handshake done. Dropping it closes the socket and leaves the listener's counts.
#[derive(Debug)]
pub struct Link {
    pub(super) stream: Stream,
    lent: Loan,
    kept: Vec<u8>,
    /// The unconsumed input within `lent`, or within `kept` if nothing is lent.
    start: usize,
    end: usize,
    max_packet_size: u32,
    /// A write has failed.
    pub(super) deaf: bool,
    /// The client is let in: what it sends behind a packet is no longer a stranger's.
    let_in: bool,
    opened: Instant,
    seat: Seat,
    /// Of a device whose TLS has ended at a balancer that is believed; without a name if the device has shown no certificate.
    told: Option<Box<CertificateIdentity>>,
}

impl Link {
    pub(super) fn new(stream: Stream, opened: Instant, seat: Seat) -> Self {
        Self {
            stream,
            lent: Loan::default(),
            kept: Vec::new(),
            start: 0,
            end: 0,
            max_packet_size: u32::MAX,
            deaf: false,
            let_in: false,
            opened,
            seat,
            told: None,
        }
    }

    /// Who the device is by the word of a balancer.
    pub(super) fn told(mut self, identity: Option<Box<CertificateIdentity>>) -> Self {
        self.told = identity;
        self
    }

    /// Told in each turn in which the client is let in: from then on its connection grows up.
    pub fn served(&mut self) {
        turns::served();
        self.let_in = true;
        self.stream.let_in();
    }

    /// The most bytes that may lie here unconsumed before [`Link::fill`] refuses; the codec refuses a larger packet
    /// earlier, by its declared length.
    pub fn set_max_packet_size(&mut self, bytes: u32) {
        self.max_packet_size = bytes;
    }

    /// Waits for input and takes all that is there, up to 64 KiB, and of a stranger no more than the maximum and a byte. Cancel-safe: nothing read is ever lost.
    ///
    /// Errors: what the socket or TLS reports, and `InvalidData` when an incomplete packet is over the maximum.
    pub async fn fill(&mut self) -> io::Result<Fill> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// [`Link::fill`] for a caller that polls by hand.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Fill>> {
        if self.end - self.start > self.max_packet_size as usize {
            return Poll::Ready(Err(io::Error::new(
                ErrorKind::InvalidData,
                "incomplete packet over the maximum packet size",
            )));
        }
        if self.stream.has_paused() {
            return Poll::Ready(Ok(Fill::Bytes));
        }
        if self.stream.poll_readable(cx)?.is_pending() {
            self.park();
            return Poll::Pending;
        }
        let mut buffer = self.take_buffer();
        let from = if self.appends() { 0 } else { self.end };
        let to = BUFFER_SIZE.min(from.saturating_add(self.most_at_once()));
        let read = self.stream.poll_read(cx, &mut buffer[from..to]);
        let count = match &read {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        self.settle(buffer, count);
        Poll::Ready(Ok(if ready!(read)? == 0 { Fill::End } else { Fill::Bytes }))
    }

    /// The input that has not been consumed.
    pub fn input(&self) -> &[u8] {
        &self.lent.as_ref().map_or(&self.kept[..], |lent| &lent[..])[self.start..self.end]
    }

    /// Declares the first `count` bytes of the input used. The last of them gives the buffer back.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start, "consumed more than there was");
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            self.forget_input();
        }
    }

    /// Gives a lent buffer back and keeps only the unconsumed bytes, in as much memory as they need. For a caller that
    /// leaves input unread for long, as under back-pressure; `fill` and `flush` do it themselves when they wait.
    pub fn park(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.kept = buffer[self.start..self.end].to_vec();
            (self.start, self.end) = (0, self.kept.len());
            pool::give_back(buffer);
        }
    }

    /// Bytes of read buffers this connection owns now: 0 when idle.
    pub fn buffered_capacity(&self) -> usize {
        self.lent.as_ref().map_or(0, |buffer| buffer.len()) + self.kept.capacity()
    }

    /// Writes what the socket takes without waiting; true when all of it is gone, from TLS too. On false, wait with
    /// [`Link::flush`].
    pub fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        self.stream.try_flush(outbox)
    }

    /// Writes everything, waiting for a slow peer. Cancel-safe: what was written has left the outbox.
    pub async fn flush(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx, outbox)).await
    }

    /// [`Link::flush`] for a caller that polls by hand.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
        while !self.stream.try_flush(outbox)? {
            if self.stream.socket().poll_write_ready(cx)?.is_pending() {
                self.park();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the peer takes nothing any more, as [`Link::ready`] has told.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Where the connection comes from; behind a balancer that says so, where its client does. 0.0.0.0:0 on a Unix socket.
    pub fn peer(&self) -> SocketAddr {
        self.seat.peer
    }

    /// The name of the listener that took it.
    pub fn listener(&self) -> &str {
        &self.seat.listener.name
    }

    /// Until when CONNECT must have come: accept plus `limits.connect_timeout`.
    pub fn connect_deadline(&self) -> Instant {
        self.opened + self.seat.connect_timeout()
    }

    /// When it was accepted.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether bytes wait here that have left the outbox: TLS makes records of up to 64 KiB before the first of them leaves.
    pub fn holds(&self) -> bool {
        self.stream.holds()
    }

    /// Whether such bytes have left since this was asked last.
    pub fn has_sent(&mut self) -> bool {
        self.stream.has_sent()
    }

    /// Bytes that have come since this was asked last and are no input: headers, pings, pongs and the like of WebSocket; of TLS what fills up its
    /// records, and records with nothing in them, but not what each record needs around what it carries.
    pub fn carried_nothing(&mut self) -> usize {
        self.stream.carried_nothing()
    }

    /// Whether a TLS record has come in part, or of a WebSocket frame what is no input: what is in it is not input yet.
    pub fn has_begun(&self) -> bool {
        self.stream.records().is_some_and(Records::has_begun) || self.stream.has_begun_frame()
    }

    /// Whether what has begun, as [`Link::has_begun`] says, is another than the last time; once for each.
    pub fn begins_anew(&mut self) -> bool {
        self.stream.begins_anew()
    }

    /// The names in the device's certificate, read at the first call; `None` without TLS or without a certificate. Where a
    /// balancer is to say them, only it does: a certificate on that connection is the balancer's own, and no device's.
    pub fn identity(&self) -> Option<&CertificateIdentity> {
        match &self.told {
            Some(told) => told.common_name.is_some().then_some(&**told),
            None => self.stream.identity(),
        }
    }

    /// Ends the connection so that everything written arrives: the protocols' own words (a close frame, close_notify), FIN, then the peer's own end is awaited,
    /// all within one second. Without that wait the kernel would answer unread input with RST, and a peer that gets RST
    /// may lose the DISCONNECT before it. Its place comes back: who still does something for the connection holds it until that is done.
    pub async fn close(mut self) -> Seat {
        self.forget_input();
        // Not finishing in time, or a peer that is gone already, leaves nothing more to do than to drop.
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.end()).await;
        self.seat
    }

    /// Ends the connection at once with RST: what is not yet with the peer is lost.
    pub fn abort(self) {
        self.stream.socket().reset_at_drop();
    }

    async fn end(&mut self) -> io::Result<()> {
        self.stream.announce_end();
        self.flush(&mut Outbox::default()).await?;
        self.stream.socket_mut().shutdown().await?;
        while self.fill().await? == Fill::Bytes {
            self.forget_input();
        }
        Ok(())
    }

    /// Bytes that the next read may take. A byte over the maximum is what [`Link::fill`] refuses.
    fn most_at_once(&self) -> usize {
        match self.let_in {
            true => BUFFER_SIZE,
            false => (self.max_packet_size as usize)
                .saturating_sub(self.end - self.start)
                .saturating_add(1),
        }
    }

    fn appends(&self) -> bool {
        self.lent.is_none() && self.end - self.start > COPIED_AT_MOST
    }

    /// A buffer whose first `end` bytes are the unconsumed input, unless that is so much that reads are appended to it.
    fn take_buffer(&mut self) -> Buffer {
        if let Some(mut buffer) = self.lent.take() {
            buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end <= COPIED_AT_MOST {
                return buffer;
            }
            self.kept = buffer[..self.end].to_vec();
            return buffer;
        }
        let mut buffer = pool::lend();
        // Without this, packets larger than a read would push what is kept further and further.
        self.kept.drain(..self.start);
        (self.start, self.end) = (0, self.end - self.start);
        if !self.appends() {
            buffer[..self.end].copy_from_slice(&self.kept);
        }
        buffer
    }

    /// After a read of `count` bytes into `buffer`: decides where the input lies from now on.
    fn settle(&mut self, buffer: Buffer, count: usize) {
        if self.appends() {
            self.kept.extend_from_slice(&buffer[..count]);
            self.end += count;
        } else if count > 0 {
            self.kept = Vec::new();
            self.end += count;
            *self.lent = Some(buffer);
            return;
        } else if self.kept.len() < self.end {
            // The input was in the lent buffer and nothing came: it moves to memory of its own size.
            self.kept = buffer[..self.end].to_vec();
        }
        pool::give_back(buffer);
    }

    fn forget_input(&mut self) {
        (self.start, self.end) = (0, 0);
        self.kept = Vec::new();
        if let Some(buffer) = self.lent.take() {
            pool::give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests;
