//! Strict decoding: framing, the rules of the fixed header, and the way to each packet's own decoder.
//!
//! Nothing is believed of a length before the bytes are there, nothing is allocated for it, and every rule of the
//! specification that a decoder can see is refused with the reason code it names.

use super::{
    decode,
    packet::{Packet, Version},
    reason::ReasonCode,
};
use crate::wire::{
    read::{ReadError, Reader},
    write::varint_len,
};

/// Whose packets are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We are the server: only packets that clients send are legal.
    Server,
    /// We are a client.
    Client,
}

/// Decodes the packets of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Of the CONNECT; before it `None`, when only a CONNECT is legal.
    pub version: Option<Version>,
    /// Which side we are.
    pub role: Role,
    /// Bytes of the largest packet taken, fixed header included [MQTT-3.1.2-24].
    pub max_packet_size: u32,
}

/// Why bytes are no legal packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What a version 5 peer is told.
    pub reason: ReasonCode,
    /// The normative statement that is broken, as `MQTT-2.2.1-2`; empty where the text has no number.
    pub rule: &'static str,
    /// For logs.
    pub detail: &'static str,
}

impl DecodeError {
    pub(super) const fn malformed(rule: &'static str, detail: &'static str) -> Self {
        Self {
            reason: ReasonCode::MalformedPacket,
            rule,
            detail,
        }
    }

    pub(super) const fn protocol(rule: &'static str, detail: &'static str) -> Self {
        Self {
            reason: ReasonCode::ProtocolError,
            rule,
            detail,
        }
    }
}

impl From<ReadError> for DecodeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Short => Self::malformed("", "the packet ends within a field"),
            ReadError::Varint => Self::malformed("MQTT-1.5.5-1", "a variable byte integer that is too long"),
            ReadError::Text => Self::malformed("MQTT-1.5.4-1", "text that is not UTF-8"),
            ReadError::Null => Self::malformed("MQTT-1.5.4-2", "text that holds U+0000"),
        }
    }
}

impl Decoder {
    /// Decodes the packet at the front of `buf`; with it comes how many bytes it takes. `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError`]: nothing behind such a packet can be believed; the connection ends.
    #[inline]
    pub fn decode<'a>(&self, buf: &'a [u8]) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
        let Some((head, body_len)) = fixed_header(buf)? else {
            return Ok(None);
        };
        let whole = head + body_len;
        let padded = is_padded(head, body_len);
        if padded && self.version == Some(Version::V5) {
            return Err(ReadError::Varint.into());
        }
        self.check_header(buf[0], whole)?;
        let Some(body) = buf.get(head..whole) else { return Ok(None) };
        if buf[0] >> 4 == 3 {
            let version = self.version.unwrap_or(Version::V5);
            let publish = decode::publish::publish(buf[0], body, version, self.role)?;
            return Ok(Some((Packet::Publish(publish), whole)));
        }
        let packet = self.body(buf[0], body)?;
        if padded && self.version.is_none() && !is_connect_of_3(&packet) {
            return Err(ReadError::Varint.into());
        }
        Ok(Some((packet, whole)))
    }

    /// What can be refused before the body is there.
    fn check_header(&self, first: u8, whole: usize) -> Result<(), DecodeError> {
        let kind = first >> 4;
        if whole > self.max_packet_size as usize {
            let detail = "larger than the maximum packet size";
            return Err(DecodeError {
                reason: ReasonCode::PacketTooLarge,
                rule: "MQTT-3.1.2-24",
                detail,
            });
        }
        if kind == 0 || (kind == 15 && self.version.is_some_and(|v| v != Version::V5)) {
            return Err(DecodeError::malformed("", "a packet type that does not exist"));
        }
        if self.version.is_none() && kind != if self.role == Role::Server { 1 } else { 2 } {
            return Err(DecodeError::protocol("MQTT-3.1.0-1", "the first packet is no CONNECT"));
        }
        let sent_by_other_side = match self.role {
            Role::Server => matches!(kind, 2 | 9 | 11 | 13),
            Role::Client => matches!(kind, 1 | 8 | 10 | 12),
        };
        if sent_by_other_side {
            return Err(DecodeError::protocol("", "a packet that this side never sends"));
        }
        if self.flags_legal(first) {
            Ok(())
        } else {
            Err(DecodeError::malformed("MQTT-2.1.3-1", "reserved flags of the fixed header"))
        }
    }

    fn flags_legal(&self, first: u8) -> bool {
        let flags = first & 0x0F;
        match first >> 4 {
            3 => true,
            // 3.1 lets a client set DUP when it sends one of these again.
            6 | 8 | 10 if self.version == Some(Version::V31) => flags & 0x07 == 2,
            6 | 8 | 10 => flags == 2,
            _ => flags == 0,
        }
    }

    /// The body of any packet but PUBLISH.
    fn body<'a>(&self, first: u8, body: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
        let version = self.version.unwrap_or(Version::V5);
        let mut reader = Reader::new(body);
        let packet = match first >> 4 {
            1 => Packet::Connect(Box::new(decode::connect::connect(&mut reader)?)),
            2 => Packet::ConnAck(decode::connect::connack(&mut reader, self.version)?),
            4 => Packet::PubAck(decode::ack::ack(&mut reader, version, decode::ack::PUBLISHED)?),
            5 => Packet::PubRec(decode::ack::ack(&mut reader, version, decode::ack::PUBLISHED)?),
            6 => Packet::PubRel(decode::ack::ack(&mut reader, version, decode::ack::RELEASED)?),
            7 => Packet::PubComp(decode::ack::ack(&mut reader, version, decode::ack::RELEASED)?),
            8 => Packet::Subscribe(decode::subscribe::subscribe(&mut reader, version)?),
            9 => Packet::SubAck(decode::subscribe::suback(&mut reader, version)?),
            10 => Packet::Unsubscribe(decode::subscribe::unsubscribe(&mut reader, version)?),
            11 => Packet::UnsubAck(decode::subscribe::unsuback(&mut reader, version)?),
            12 => Packet::PingReq,
            13 => Packet::PingResp,
            14 => Packet::Disconnect(decode::ack::disconnect(&mut reader, version, self.role)?),
            _ => Packet::Auth(decode::ack::auth(&mut reader, self.role)?),
        };
        if reader.is_empty() {
            Ok(packet)
        } else {
            Err(DecodeError::malformed("", "bytes behind the end of the packet"))
        }
    }
}

/// Whether the remaining length takes more bytes than it need. That it must not is a rule of version 5 [MQTT-1.5.5-1]; there are 3.x clients that always
/// write four.
#[inline]
fn is_padded(head: usize, body_len: usize) -> bool {
    head > 2 && head - 1 > varint_len(body_len)
}

/// The first packet tells its version only once it is read.
fn is_connect_of_3(packet: &Packet<'_>) -> bool {
    matches!(packet, Packet::Connect(connect) if connect.version != Version::V5)
}

/// Bytes of the fixed header and the remaining length, which may be padded; `None` if it is not whole.
#[inline]
fn fixed_header(buf: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    if let [_, length @ 0..0x80, ..] = *buf {
        return Ok(Some((2, usize::from(length))));
    }
    let mut reader = Reader::new(buf);
    if reader.u8().is_err() {
        return Ok(None);
    }
    match reader.padded_varint() {
        Ok(length) => Ok(Some((buf.len() - reader.rest().len(), length as usize))),
        Err(ReadError::Short) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
