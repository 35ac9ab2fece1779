//! MQTT over WebSocket (MQTT 5 §6, RFC 6455): a stream of bytes in the binary frames of another stream.
//!
//! Reading takes frames apart in the reader's buffer. Writing makes one frame of all that waits, and only its header
//! is made here: the payload leaves from where it lies.

mod frames;
mod upgrade;

use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll, ready};

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::mqtt::outbox::Outbox;

use super::nothing::Nothing;
use super::stream::{SLICES, Stream};

pub use frames::{Decoder, End, Fault};
pub(super) use upgrade::{Refused, upgrade};

/// One connection after its upgrade.
#[derive(Debug)]
pub(super) struct WebSocket {
    below: Stream,
    decoder: Decoder,
    /// Set once the client's frames have ended.
    end: Option<End>,
    /// Headers, pings and the like.
    nothing: Nothing,
    /// What came behind the request already.
    early: Vec<u8>,
    /// A header or a control frame that is on its way.
    head: Vec<u8>,
    /// Bytes of the frame on its way that are still in the outbox.
    left: usize,
    closing: Closing,
}

/// How far our own end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// The close frame has to leave, then the end of what is below.
    Wanted,
    /// The close frame is on its way.
    Sending,
    /// Nothing more is said.
    Said,
}

impl WebSocket {
    /// `early` is what came behind the request.
    pub(super) fn new(below: Stream, early: Vec<u8>, max_frame_size: u32) -> Self {
        Self {
            below,
            decoder: Decoder::new(max_frame_size.into()),
            end: None,
            nothing: Nothing::of_stranger(),
            early,
            head: Vec::new(),
            left: 0,
            closing: Closing::No,
        }
    }

    pub(super) fn below(&self) -> &Stream {
        &self.below
    }

    pub(super) fn below_mut(&mut self) -> &mut Stream {
        &mut self.below
    }

    /// Whether bytes wait here, or below, that are in no outbox.
    pub(super) fn holds(&self) -> bool {
        !self.head.is_empty() || self.below.holds()
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let known = self.end.is_some() && self.closing == Closing::No;
        if known || !self.early.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.below.poll_readable(cx)
    }

    /// Data of the client; 0 once it has closed. While we end, what comes is of no interest, so it is not looked at. Frames without end that
    /// carry nothing make it pending now and then, with a wake.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.closing != Closing::No {
            return self.below.poll_read(cx, into);
        }
        loop {
            match self.end {
                Some(End::Closed(_)) => return Poll::Ready(Ok(0)),
                Some(End::Fault(fault)) => return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, fault))),
                None => {}
            }
            let read = if self.early.is_empty() {
                ready!(self.below.poll_read(cx, into))?
            } else {
                self.take_early(into)
            };
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            let (carried, end) = self.decoder.decode(&mut into[..read]);
            self.nothing.add(read - carried);
            let too_much = "too much that carries nothing before CONNECT";
            self.end = end.or(self.nothing.is_too_much().then_some(End::Fault(Fault::Protocol(too_much))));
            self.answer_ping();
            if carried > 0 {
                self.nothing.is_told();
                return Poll::Ready(Ok(carried));
            }
            if self.below.has_paused() {
                self.nothing.pause();
            }
            if self.end.is_none() && self.nothing.pauses() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Whether there was such a pause, here or below; once for each.
    pub(super) fn has_paused(&mut self) -> bool {
        self.nothing.has_paused() | self.below.has_paused()
    }

    /// Bytes that carried nothing since this was asked last.
    pub(super) fn carried_nothing(&mut self) -> usize {
        self.nothing.take().saturating_add(self.below.carried_nothing())
    }

    /// See [`Decoder::has_begun`].
    pub(super) fn has_begun(&self) -> bool {
        self.decoder.has_begun()
    }

    /// Whether what has begun of a frame, or else of a TLS record below it, is another than the last time; once for each. Where a frame has begun it is that
    /// which must go on, however many records it comes in.
    pub(super) fn begins_anew(&mut self) -> bool {
        if self.decoder.has_begun() {
            self.decoder.begins_anew()
        } else {
            self.below.begins_anew()
        }
    }

    /// It is known who sends what comes from now on.
    pub(super) fn let_in(&mut self) {
        self.nothing.let_in();
        self.below.let_in();
    }

    fn take_early(&mut self, into: &mut [u8]) -> usize {
        let count = self.early.len().min(into.len());
        into[..count].copy_from_slice(&self.early[..count]);
        self.early.drain(..count);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
        count
    }

    /// A pong leaves at once if the socket takes it and no frame is half written, otherwise with what is written next.
    fn answer_ping(&mut self) {
        if self.end.is_some() || self.left > 0 || !self.head.is_empty() {
            return;
        }
        if let Some(payload) = self.decoder.take_ping() {
            self.head = frame(OpCode::Control(Control::Pong), &payload);
            // What the client has said stands, also if it takes no answer: whoever writes next hears of that.
            let _ = self.try_flush(&mut Outbox::default());
        }
    }

    pub(super) fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        loop {
            if self.head.is_empty() && self.left == 0 {
                self.begin_frame(outbox)?;
            }
            // The second: we end while a frame is half written, whose rest nobody has any more.
            if self.head.is_empty() && (self.left == 0 || outbox.is_empty()) {
                self.end_below();
                return self.below.try_flush(&mut Outbox::default());
            }
            match self.write_some(outbox) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.note_written(written, outbox),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Between two frames: decides what the next one is, if any.
    fn begin_frame(&mut self, outbox: &Outbox) -> io::Result<()> {
        match self.closing {
            Closing::Sending => self.closing = Closing::Said,
            Closing::Said if !outbox.is_empty() => return Err(ErrorKind::BrokenPipe.into()),
            _ => {}
        }
        if self.closing == Closing::Said {
            return Ok(());
        }
        if let Some(payload) = self.decoder.take_ping() {
            self.head = frame(OpCode::Control(Control::Pong), &payload);
        } else if !outbox.is_empty() {
            self.left = outbox.len();
            self.head = header(OpCode::Data(Data::Binary), self.left);
        } else if self.closing == Closing::Wanted {
            self.head = frame(OpCode::Control(Control::Close), &self.close_code().to_be_bytes());
            self.closing = Closing::Sending;
        }
        Ok(())
    }

    fn write_some(&mut self, outbox: &Outbox) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        if !self.head.is_empty() {
            slices[0] = IoSlice::new(&self.head);
            count = 1;
        }
        let mut left = self.left;
        let mut body = [IoSlice::new(&[]); SLICES - 1];
        let filled = outbox.io_slices(&mut body);
        for slice in &body[..filled] {
            // What came into the outbox after the header belongs to the next frame.
            let slice = &slice[..slice.len().min(left)];
            if slice.is_empty() {
                break;
            }
            slices[count] = IoSlice::new(slice);
            (count, left) = (count + 1, left - slice.len());
        }
        self.below.try_write(&slices[..count])
    }

    fn note_written(&mut self, written: usize, outbox: &mut Outbox) {
        let of_head = written.min(self.head.len());
        self.head.drain(..of_head);
        if self.head.is_empty() {
            self.head = Vec::new();
        }
        self.left -= written - of_head;
        outbox.advance(written - of_head);
    }

    /// Queues the close frame, and the end of what is below.
    pub(super) fn announce_end(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Wanted;
        }
    }

    /// What is below ends when our last word has been handed to it.
    fn end_below(&mut self) {
        if self.closing != Closing::No {
            self.closing = Closing::Said;
            self.below.announce_end();
        }
    }

    fn close_code(&self) -> u16 {
        match self.end {
            Some(End::Fault(fault)) => fault.close_code(),
            Some(End::Closed(Some(code))) => code,
            Some(End::Closed(None)) | None => CloseCode::Normal.into(),
        }
    }
}

fn header(opcode: OpCode, length: usize) -> Vec<u8> {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let mut bytes = Vec::with_capacity(10);
    header.format(length as u64, &mut bytes).expect("a Vec takes any bytes");
    bytes
}

fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(opcode, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}
