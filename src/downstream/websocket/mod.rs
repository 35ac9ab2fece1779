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

use super::stream::{SLICES, Stream};

pub use frames::{Decoder, End, Fault};
pub(super) use upgrade::{Refused, upgrade};

/// Bytes of headers, pings and the like that may come before it is known who sends them: a CONNECT in frames of one byte each has six of
/// them for each, and may have 10 KiB.
const STRANGERS: usize = 64 << 10;
/// After so many of them others have their turn, and whoever reads is told, as after a read of data.
const AT_A_TIME: usize = 64 << 10;

/// One connection after its upgrade.
#[derive(Debug)]
pub(super) struct WebSocket {
    below: Stream,
    decoder: Decoder,
    /// Set once the client's frames have ended.
    end: Option<End>,
    /// Bytes that carry nothing and may still come; `None`: the client is let in.
    spare: Option<usize>,
    /// Those that came since this was asked last.
    empty: usize,
    /// Those that came since the reader was told of anything.
    untold: usize,
    /// The reader is to be told of them.
    paused: bool,
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
            spare: Some(STRANGERS),
            empty: 0,
            untold: 0,
            paused: false,
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
            self.end = end.or_else(|| self.spend(read - carried));
            self.answer_ping();
            if carried > 0 {
                self.untold = 0;
                return Poll::Ready(Ok(carried));
            }
            if self.end.is_none() && self.untold >= AT_A_TIME {
                (self.untold, self.paused) = (0, true);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Whether there was such a pause; once for each.
    pub(super) fn has_paused(&mut self) -> bool {
        std::mem::take(&mut self.paused)
    }

    /// Bytes that carried nothing since this was asked last.
    pub(super) fn carried_nothing(&mut self) -> usize {
        std::mem::take(&mut self.empty)
    }

    /// Counts what carried nothing, and takes it from what may still come of that; the end, if that was too much.
    fn spend(&mut self, bytes: usize) -> Option<End> {
        self.empty = self.empty.saturating_add(bytes);
        self.untold = self.untold.saturating_add(bytes);
        let left = self.spare.as_mut()?;
        match left.checked_sub(bytes) {
            Some(rest) => *left = rest,
            None => return Some(End::Fault(Fault::Protocol("too much that carries nothing before CONNECT"))),
        }
        None
    }

    /// See [`Decoder::has_begun`].
    pub(super) fn has_begun(&self) -> bool {
        self.decoder.has_begun()
    }

    /// The same, or a TLS record below it; once for each.
    pub(super) fn begins_anew(&mut self) -> bool {
        self.decoder.begins_anew() | self.below.begins_anew()
    }

    /// It is known who sends what comes from now on.
    pub(super) fn let_in(&mut self) {
        self.spare = None;
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
