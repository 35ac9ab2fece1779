//! What waits to be written to one socket: bytes of its own, and bodies shared with other connections, in their order.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

/// Bodies below this are copied: a copy is cheaper than one more segment of a gathered write.
const COPY_BELOW: usize = 1024;
/// So many bytes that have left are forgotten, once they are more than those that wait.
const FORGET: usize = 64 * 1024;
/// Capacity that an empty outbox keeps.
const KEEP: usize = 1024;

/// Bytes on their way to one socket.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Encoded packets. Bytes before `written` have left.
    own: Vec<u8>,
    written: usize,
    /// Shared bodies and where in `own` each belongs; ordered.
    shared: VecDeque<(usize, Bytes)>,
    shared_len: usize,
}

impl Outbox {
    /// An empty outbox; owns no memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where encoded packets are appended. Only append, or take back what was just appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends a body: small ones are copied, large ones stay shared.
    pub fn push_shared(&mut self, body: Bytes) {
        if body.len() < COPY_BELOW {
            self.own.extend_from_slice(&body);
        } else {
            self.shared_len += body.len();
            self.shared.push_back((self.own.len(), body));
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.own.len() - self.written + self.shared_len
    }

    /// Fills `out` with what to write first; the result is how many are filled.
    pub fn io_slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let (mut filled, mut from) = (0, self.written);
        let bodies = self
            .shared
            .iter()
            .map(|(at, body)| (*at, &body[..]))
            .chain([(self.own.len(), &[][..])]);
        for (at, body) in bodies {
            for part in [&self.own[from..at], body] {
                if filled == out.len() {
                    return filled;
                }
                if !part.is_empty() {
                    out[filled] = IoSlice::new(part);
                    filled += 1;
                }
            }
            from = at;
        }
        filled
    }

    /// Notes that `count` bytes, no more than wait, have left. Gives large memory back when nothing is left.
    pub fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let end = self.shared.front().map_or(self.own.len(), |(at, _)| *at);
            let own = count.min(end - self.written);
            self.written += own;
            count -= own;
            if count == 0 {
                break;
            }
            let Some((_, body)) = self.shared.front_mut() else { break };
            let part = count.min(body.len());
            bytes::Buf::advance(body, part);
            self.shared_len -= part;
            count -= part;
            if body.is_empty() {
                self.shared.pop_front();
            }
        }
        if self.is_empty() {
            self.written = 0;
            self.own.clear();
            if self.own.capacity() > KEEP {
                self.own = Vec::new();
            }
        } else if self.written > FORGET && self.written > self.own.len() / 2 {
            self.forget_written();
        }
    }

    /// What has left is no memory of ours, however long the rest takes: a client that never takes all of it would have what it ever got kept here.
    fn forget_written(&mut self) {
        // A byte stays as a sign that a part of a packet may have left.
        let gone = self.written - 1;
        self.own.drain(..gone);
        self.own.shrink_to(2 * self.own.len());
        self.written = 1;
        for (at, _) in &mut self.shared {
            *at -= gone;
        }
    }

    /// Drops what waits. False: a part of a packet may have left, so nothing can follow.
    pub fn clear(&mut self) -> bool {
        // Each body has a head before it.
        let whole = self.written == 0;
        *self = Self::default();
        whole
    }

    /// Gives all memory back if nothing waits.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut all = vec![];
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = outbox.io_slices(&mut slices);
            assert!(filled > 0, "something waits, so something is offered");
            let offered: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).take(step).collect();
            all.extend_from_slice(&offered);
            outbox.advance(offered.len());
        }
        all
    }

    #[test]
    fn bytes_leave_in_their_order_however_the_socket_takes_them() {
        for step in [1, 7, 1000, 1024, 1_000_000] {
            let mut outbox = Outbox::new();
            let mut expected = vec![];
            for i in 0..20u8 {
                outbox.buffer().extend_from_slice(&[i; 3]);
                let body = Bytes::from(vec![100 + i; 700 + 40 * usize::from(i)]);
                expected.extend_from_slice(&[i; 3]);
                expected.extend_from_slice(&body);
                outbox.push_shared(body);
            }
            assert_eq!(outbox.len(), expected.len());
            assert!(drain(&mut outbox, step) == expected, "step {step}");
            assert_eq!(outbox.len(), 0);
        }
    }

    /// A client that is as slow as what is for it comes.
    #[test]
    fn an_outbox_that_is_never_empty_keeps_little_more_than_what_waits() {
        let mut outbox = Outbox::new();
        let mut number = 0u32;
        let mut put = |outbox: &mut Outbox| {
            outbox.buffer().extend_from_slice(&number.to_be_bytes());
            number += 1;
            if number.is_multiple_of(100) {
                outbox.push_shared(Bytes::from(number.to_be_bytes().repeat(COPY_BELOW)));
            }
        };
        let (mut taken, mut expected) = (Vec::new(), Outbox::new());
        for _ in 0..30_000 {
            put(&mut outbox);
        }
        for round in 0..500_000 {
            put(&mut outbox);
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = outbox.io_slices(&mut slices);
            let some: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).take(45).collect();
            outbox.advance(some.len());
            taken.extend_from_slice(&some);
            assert!(
                !outbox.is_empty() && outbox.own.capacity() < 1 << 20,
                "{round}: {}",
                outbox.own.capacity()
            );
        }
        number = 0;
        let mut put = |outbox: &mut Outbox| {
            outbox.buffer().extend_from_slice(&number.to_be_bytes());
            number += 1;
            if number.is_multiple_of(100) {
                outbox.push_shared(Bytes::from(number.to_be_bytes().repeat(COPY_BELOW)));
            }
        };
        while expected.len() < taken.len() {
            put(&mut expected);
        }
        assert!(drain(&mut expected, 1 << 20).starts_with(&taken), "in its order");
        assert!(!outbox.clear(), "a part of a packet may have left");
    }

    #[test]
    fn an_idle_outbox_owns_nothing() {
        let mut outbox = Outbox::new();
        outbox.buffer().extend_from_slice(&[1; 100]);
        drain(&mut outbox, 100);
        outbox.shrink();
        assert_eq!(outbox.own.capacity(), 0);
        outbox.buffer().extend_from_slice(&[1; 100_000]);
        drain(&mut outbox, 1000);
        assert_eq!(outbox.own.capacity(), 0, "large memory is given back by itself");
    }
}
