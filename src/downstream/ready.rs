//! Both directions of a connection in one wait: what is to be written leaves, what comes is read.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use super::link::{Fill, Link};
use crate::mqtt::outbox::Outbox;

/// Bytes in an outbox above which its end is worth a word: somebody may have waited for room in it.
const LARGE: usize = 64 * 1024;

/// What [`Link::ready`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// There is more input than before.
    Bytes,
    /// The peer sends no more.
    End,
    /// A large outbox has been written; there is room again.
    Written,
    /// The peer takes nothing any more; what it has sent before can still be read. Told once.
    Deaf,
    /// No more input, but a TLS record has begun that is not whole; told once of each.
    Part,
}

impl Link {
    /// Writes what the outbox holds, and waits for input if `read` says so. Cancel-safe.
    ///
    /// A peer that closes its socket before it has read all answers resets the connection: writing fails from then on, while what it has sent, its DISCONNECT
    /// perhaps, is still there. So a failed write is no error; the outbox of who is deaf is dropped.
    ///
    /// Errors: as [`Link::fill`].
    pub async fn ready(&mut self, outbox: &mut Outbox, read: bool) -> io::Result<Ready> {
        // As it was when the wait began: a socket may take it in many pieces, and the last of them is small.
        let large = outbox.len() > LARGE;
        poll_fn(|cx| self.poll_ready(cx, outbox, large, read)).await
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox, large: bool, read: bool) -> Poll<io::Result<Ready>> {
        if self.deaf {
            outbox.clear();
        } else {
            // Also with an empty outbox: TLS may hold bytes that the socket did not take yet.
            match self.poll_flush(cx, outbox) {
                Poll::Ready(Err(_)) => {
                    self.deaf = true;
                    outbox.clear();
                    return Poll::Ready(Ok(Ready::Deaf));
                }
                Poll::Ready(Ok(())) if large => return Poll::Ready(Ok(Ready::Written)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if !read {
            self.park();
            return Poll::Pending;
        }
        match self.poll_fill(cx) {
            Poll::Ready(Ok(Fill::Bytes)) => Poll::Ready(Ok(Ready::Bytes)),
            Poll::Ready(Ok(Fill::End)) => Poll::Ready(Ok(Ready::End)),
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            // A packet in part is on the clock already.
            Poll::Pending if self.input().is_empty() && self.stream.begins_anew() => Poll::Ready(Ok(Ready::Part)),
            Poll::Pending => Poll::Pending,
        }
    }
}
