//! How far the TLS records of a client have come: their headers are in the clear (RFC 8446 §5.1), and rustls does not tell
//! of one that it holds in part.
//!
//! They are followed from the first byte of the connection, so a client that sends half a record with the end of its handshake
//! is seen, too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;

/// Type, version, and two bytes of length.
const HEADER: u8 = 5;

/// Where the records of a client stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records {
    /// Bytes of a header that has not come whole.
    have: u8,
    /// The length in it, as far as it has come.
    length: u16,
    /// Bytes of the record that have not come.
    left: u16,
    /// Records that were whole; it may begin anew.
    whole: u32,
    /// So many were whole before the record that was told of.
    told: u32,
}

impl Records {
    /// Follows the next bytes of the connection.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let part = bytes.len().min(self.left.into());
                self.left -= u16::try_from(part).unwrap_or(self.left);
                bytes = &bytes[part..];
            } else {
                self.length = self.length << 8 | u16::from(*first);
                self.have += 1;
                bytes = rest;
                if self.have < HEADER {
                    continue;
                }
                (self.have, self.left) = (0, self.length);
            }
            if self.left == 0 {
                self.whole = self.whole.wrapping_add(1);
            }
        }
    }

    /// Whether one has come in part.
    pub fn has_begun(&self) -> bool {
        self.have > 0 || self.left > 0
    }

    /// Records that were whole; it begins anew behind the last number.
    pub(super) fn whole(&self) -> u32 {
        self.whole
    }

    /// Bytes that have come of one in part.
    pub(super) fn in_part(&self) -> usize {
        match self.left {
            0 => self.have.into(),
            left => usize::from(HEADER) + usize::from(self.length - left),
        }
    }

    /// Whether one has come in part, and another than the last time; once for each.
    pub(super) fn begins_anew(&mut self) -> bool {
        self.has_begun() && std::mem::replace(&mut self.told, self.whole) != self.whole
    }
}

/// A socket whose records are followed, for the handshake.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) socket: Socket,
    pub(super) records: Records,
}

impl Followed {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            records: Records::default(),
        }
    }

    /// Reads what there is, as much as fits; 0 is the end.
    pub(super) fn poll_read_into(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = ready!(self.socket.poll_read_into(cx, into))?;
        self.records.follow(&into[..count]);
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Followed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(self.poll_read_into(cx, into.initialize_unfilled()))?;
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Followed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_followed_however_they_are_cut() {
        // Of three bytes, of none, of 258.
        let stream = [&b"\x16\x03\x01\0\x03abc\x17\x03\x03\0\0\x17\x03\x03\x01\x02"[..], &[7; 258]].concat();
        let ends = [8, 13, stream.len()];
        for step in 1..stream.len() {
            let (mut records, mut at) = (Records::default(), 0);
            for piece in stream.chunks(step) {
                records.follow(piece);
                at += piece.len();
                assert_eq!(records.has_begun(), !ends.contains(&at), "{at} bytes, {step} at a time");
                let of_former = ends.iter().rev().find(|end| **end <= at).unwrap_or(&0);
                assert_eq!(records.in_part(), at - of_former);
                assert_eq!(records.whole as usize, ends.iter().filter(|end| **end <= at).count());
            }
        }
    }

    #[test]
    fn each_record_in_part_is_told_of_once() {
        let mut records = Records::default();
        records.follow(b"\x16\x03\x01\0\x01a");
        assert!(!records.begins_anew());
        records.follow(b"\x17");
        assert!(records.begins_anew());
        records.follow(b"\x03\x03\0\x02a");
        assert!(!records.begins_anew());
        records.follow(b"b\x17\x03");
        assert!(records.begins_anew() && !records.begins_anew());
    }
}
