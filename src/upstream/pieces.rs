//! A request as it goes to the socket: in pieces, of which the large ones are record batches where they lie.
//!
//! A Produce request would otherwise be a second copy of its batches for as long as the broker takes no bytes, beside the producer's memory.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// What is shorter is copied: a piece of its own costs more.
const SMALL: usize = 1024;

/// Bytes that are written one piece after the other; what is written is let go of.
#[derive(Default)]
pub(crate) struct Pieces {
    /// The first, which can still be changed.
    pub(super) head: BytesMut,
    rest: VecDeque<Bytes>,
    /// Behind `rest`, and to become its last.
    tail: BytesMut,
}

impl Pieces {
    pub(super) fn starting(head: BytesMut) -> Self {
        Self { head, ..Self::default() }
    }

    /// Where what comes next is written.
    pub(super) fn end(&mut self) -> &mut BytesMut {
        if self.rest.is_empty() { &mut self.head } else { &mut self.tail }
    }

    /// Appends `bytes`, without a copy if there are many.
    pub(super) fn lend(&mut self, bytes: &Bytes) {
        if bytes.len() < SMALL {
            return self.end().extend_from_slice(bytes);
        }
        self.close();
        self.rest.push_back(bytes.clone());
    }

    /// All of it, to be written.
    pub(super) fn ready(&mut self) -> Ready {
        self.close();
        let mut pieces = std::mem::take(&mut self.rest);
        pieces.push_front(std::mem::take(&mut self.head).freeze());
        Ready(pieces)
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.rest.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    fn close(&mut self) {
        if !self.tail.is_empty() {
            self.rest.push_back(self.tail.split().freeze());
        }
    }
}

/// What is left to be written; none of its pieces is empty but the only one.
pub(super) struct Ready(VecDeque<Bytes>);

impl Buf for Ready {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        self.0.front().is_some_and(|first| !first.is_empty())
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |first| first)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let filled = into.iter_mut().zip(&self.0).map(|(slice, piece)| *slice = IoSlice::new(piece));
        filled.count()
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.0.front_mut().filter(|_| written > 0) {
            let of_it = written.min(first.len());
            first.advance(of_it);
            written -= of_it;
            if first.is_empty() {
                self.0.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_lent_small_ones_copied_and_all_come_in_order() {
        let large = Bytes::from(vec![7; 3 * SMALL]);
        let mut pieces = Pieces::starting(BytesMut::from(&b"head"[..]));
        pieces.lend(&Bytes::from_static(b"small"));
        pieces.lend(&large);
        pieces.end().extend_from_slice(b"between");
        pieces.lend(&large);
        pieces.lend(&Bytes::from_static(b"last"));
        let whole = [b"headsmall", &large[..], b"between", &large[..], b"last"].concat();
        assert_eq!(pieces.len(), whole.len());
        let mut ready = pieces.ready();
        let mut slices = [IoSlice::new(&[]); 3];
        assert_eq!(ready.chunks_vectored(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr(), "it was copied");
        let mut written = Vec::new();
        // Sockets take what they like.
        for step in [1, 8, 2000, 4000].into_iter().cycle() {
            if !ready.has_remaining() {
                break;
            }
            let taken = ready.remaining().min(step);
            written.extend_from_slice(&ready.copy_to_bytes(taken));
        }
        assert!(written == whole);
        drop(ready);
        assert!(large.is_unique(), "what is written is let go of");
    }
}
