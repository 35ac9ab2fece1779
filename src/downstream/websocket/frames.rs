//! Frames of a WebSocket client taken apart where they lie (RFC 6455 §5): what they carry is one stream of bytes,
//! since an MQTT packet may begin and end anywhere in them [MQTT-6.0.0-2].
//!
//! A payload is handed on as it comes, so a frame costs no memory, whatever length it claims. That is why the frames
//! are not read by the library, which gathers each of them; it reads their headers.

use std::fmt;
use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// A header: two bytes, eight of length, four of the mask.
const LONGEST_HEADER: usize = 14;
/// A control frame carries no more (§5.5).
const LONGEST_CONTROL: u64 = 125;

/// Takes the frames of one client apart.
#[derive(Debug)]
pub struct Decoder {
    header: [u8; LONGEST_HEADER],
    /// Bytes of a header that has not come whole.
    have: usize,
    opcode: OpCode,
    mask: [u8; 4],
    /// Bytes of the frame's payload that have not come.
    left: u64,
    /// A data message goes on in the next data frame.
    unfinished: bool,
    /// Nothing has come of the payload.
    bare: bool,
    /// Headers that were begun; it may begin anew.
    begun: u8,
    /// The one that was told of, if it was the last.
    told: u8,
    max_frame_size: u64,
    /// Payload of the control frame that is being read.
    control: Vec<u8>,
    /// Payload of the last ping that nobody has answered.
    ping: Option<Vec<u8>>,
}

/// How a client's frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its close frame, with the code that it gave.
    Closed(Option<u16>),
    /// It broke the protocol.
    Fault(Fault),
}

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A text frame [MQTT-6.0.0-1].
    Text,
    /// A frame larger than is taken.
    TooLarge,
    /// What RFC 6455 forbids.
    Protocol(&'static str),
}

impl Fault {
    /// The code of the close frame that answers it (RFC 6455 §7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Text => CloseCode::Unsupported,
            Self::TooLarge => CloseCode::Size,
            Self::Protocol(_) => CloseCode::Protocol,
        }
        .into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a WebSocket text frame, MQTT takes binary ones"),
            Self::TooLarge => f.write_str("a WebSocket frame over the maximum size"),
            Self::Protocol(what) => write!(f, "WebSocket: {what}"),
        }
    }
}

impl std::error::Error for Fault {}

impl Decoder {
    /// Before the first frame; one may carry `max_frame_size` bytes.
    pub fn new(max_frame_size: u64) -> Self {
        Self {
            header: [0; LONGEST_HEADER],
            have: 0,
            opcode: OpCode::Data(Data::Continue),
            mask: [0; 4],
            left: 0,
            unfinished: false,
            bare: false,
            begun: 0,
            told: 0,
            max_frame_size,
            control: Vec::new(),
            ping: None,
        }
    }

    /// Whether of a frame nothing has come but a header, whole or in part, or it is a control frame in part: what lies in it is no input.
    pub fn has_begun(&self) -> bool {
        self.have > 0 || (self.left > 0 && (self.bare || matches!(self.opcode, OpCode::Control(_))))
    }

    /// The same, once for each.
    pub fn begins_anew(&mut self) -> bool {
        self.has_begun() && std::mem::replace(&mut self.told, self.begun) != self.begun
    }

    /// The payload of the last ping, if it has not been taken: of several only the last needs an answer (§5.5.3).
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Takes the next bytes of the connection. What they carry of data is moved to their front: its length, and the
    /// end of the frames if it came. After an end nothing more may be given.
    pub fn decode(&mut self, bytes: &mut [u8]) -> (usize, Option<End>) {
        let (mut at, mut carried) = (0, 0);
        loop {
            if self.left > 0 {
                let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.bare &= part == 0;
                unmask(&mut bytes[at..at + part], &mut self.mask);
                if matches!(self.opcode, OpCode::Data(_)) {
                    bytes.copy_within(at..at + part, carried);
                    carried += part;
                } else {
                    self.control.extend_from_slice(&bytes[at..at + part]);
                }
                at += part;
                self.left -= part as u64;
                if self.left > 0 {
                    return (carried, None);
                }
                if let Some(end) = self.frame_is_whole() {
                    return (carried, Some(end));
                }
            }
            let Some(byte) = bytes.get(at) else {
                return (carried, None);
            };
            if self.have == 0 {
                self.begun = self.begun.wrapping_add(1);
            }
            self.header[self.have] = *byte;
            (self.have, at) = (self.have + 1, at + 1);
            if self.have >= 2 && self.have == header_length(self.header[1]) {
                let begun = self.begin_frame().map_err(End::Fault);
                let end = begun.map_or_else(Some, |()| if self.left == 0 { self.frame_is_whole() } else { None });
                if end.is_some() {
                    return (carried, end);
                }
            }
        }
    }

    /// A header has come whole.
    fn begin_frame(&mut self) -> Result<(), Fault> {
        let bytes = &self.header[..self.have];
        self.have = 0;
        let parsed = FrameHeader::parse(&mut Cursor::new(bytes)).map_err(|_| Fault::Protocol("an illegal header"))?;
        let (header, length) = parsed.ok_or(Fault::Protocol("an illegal header"))?;
        // No extension is ever agreed on, so none of these has a meaning (§5.2). Nothing is compressed.
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Fault::Protocol("reserved bits are set"));
        }
        self.mask = header.mask.ok_or(Fault::Protocol("a frame without a mask"))?;
        match header.opcode {
            OpCode::Data(data) => self.begin_data(data, header.is_final, length)?,
            OpCode::Control(Control::Reserved(_)) => return Err(Fault::Protocol("an unknown control frame")),
            OpCode::Control(_) if !header.is_final || length > LONGEST_CONTROL => {
                return Err(Fault::Protocol("a control frame in parts, or over 125 bytes"));
            }
            OpCode::Control(_) => {}
        }
        (self.opcode, self.left, self.bare) = (header.opcode, length, true);
        Ok(())
    }

    fn begin_data(&mut self, data: Data, is_final: bool, length: u64) -> Result<(), Fault> {
        match (data, self.unfinished) {
            (Data::Text, _) => return Err(Fault::Text),
            (Data::Reserved(_), _) => return Err(Fault::Protocol("an unknown data frame")),
            (Data::Continue, false) => return Err(Fault::Protocol("a message goes on that never began")),
            (Data::Binary, true) => return Err(Fault::Protocol("a message begins within another")),
            (Data::Binary, false) | (Data::Continue, true) => {}
        }
        if length > self.max_frame_size {
            return Err(Fault::TooLarge);
        }
        self.unfinished = !is_final;
        Ok(())
    }

    fn frame_is_whole(&mut self) -> Option<End> {
        let OpCode::Control(control) = self.opcode else { return None };
        let payload = std::mem::take(&mut self.control);
        match control {
            Control::Ping => self.ping = Some(payload),
            Control::Close => return Some(close(&payload)),
            Control::Pong | Control::Reserved(_) => {}
        }
        None
    }
}

/// §5.5.1: nothing, or a code that may be sent, and a reason in UTF-8.
fn close(payload: &[u8]) -> End {
    match payload {
        [] => End::Closed(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if CloseCode::from(code).is_allowed() && std::str::from_utf8(reason).is_ok() {
                End::Closed(Some(code))
            } else {
                End::Fault(Fault::Protocol("an illegal close frame"))
            }
        }
        _ => End::Fault(Fault::Protocol("an illegal close frame")),
    }
}

/// From the second byte: two bytes, those of the length, those of the mask.
fn header_length(second: u8) -> usize {
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

/// Eight bytes at a time; afterwards the mask is turned to where the next byte needs it.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let four = u32::from_ne_bytes(*mask);
    let eight = (u64::from(four) << 32 | u64::from(four)).to_ne_bytes();
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        for (byte, m) in chunk.iter_mut().zip(eight) {
            *byte ^= m;
        }
    }
    let rest = chunks.into_remainder();
    for (byte, m) in rest.iter_mut().zip(eight) {
        *byte ^= m;
    }
    mask.rotate_left(rest.len() % 4);
}
