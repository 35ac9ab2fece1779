//! Encoding of every packet. What a version does not have is left out; reason codes become 3.1.1 return codes.

mod properties;

use super::{
    packet::{
        Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, SubAck, Subscribe, UnsubAck, Unsubscribe, Version, Will,
    },
    properties::UserProperties,
    reason::ReasonCode,
};
use crate::wire::write;
use properties::Block;

/// A packet that MQTT cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A text or binary field above 65,535 bytes, or a packet above 268,435,455.
    TooLong,
}

/// Appends a packet as `version` writes it.
///
/// # Errors
/// [`EncodeError::TooLong`]; nothing is appended.
#[inline]
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match packet {
        Packet::Publish(publish) => publish_packet(publish, version, out),
        packet => other(packet, version, out),
    }
}

fn other(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) -> Written {
    let start = out.len();
    // Room for the shortest fixed header; what follows moves if the length turns out to take more.
    out.extend_from_slice(&[0; 2]);
    let written = Body { out, version }.packet(packet).and_then(|first| finish(first, start, out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// PUBLISH knows its length beforehand, so it is written in one go.
fn publish_packet(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) -> Written {
    match version {
        // What most messages are: with the length known here the compiler leaves out all that properties need.
        Version::V5 if publish.properties.is_empty() => whole_publish(publish, Some(0), out),
        Version::V5 => whole_publish(publish, Some(properties::publish_len(&publish.properties)?), out),
        _ => whole_publish(publish, None, out),
    }
}

/// `properties`: the bytes of the properties, if the version has any.
#[inline(always)]
fn whole_publish(publish: &Publish<'_>, properties: Option<usize>, out: &mut Vec<u8>) -> Written {
    let first = 0x30 | u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    let payload = publish.payload.len();
    begin_publish(first, publish.topic, publish.packet_id, properties, payload, payload, out)?;
    if properties.is_some_and(|len| len > 0) {
        properties::publish(&publish.properties, out);
    }
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// Bytes of a PUBLISH behind its fixed header, given those of its properties.
#[inline]
pub(super) fn publish_remaining(topic: &str, id: Option<PacketId>, properties: Option<usize>, payload: usize) -> usize {
    let block = properties.map_or(0, |len| write::varint_len(len) + len);
    2 + topic.len() + id.map_or(0, |_| 2) + block + payload
}

/// Appends a PUBLISH up to the length of its properties, and makes room for those and for `room` bytes behind them.
#[inline(always)] // Seven arguments and two callers, both on the hot path.
pub(super) fn begin_publish(
    first: u8,
    topic: &str,
    id: Option<PacketId>,
    properties: Option<usize>,
    payload: usize,
    room: usize,
    out: &mut Vec<u8>,
) -> Written {
    let remaining = publish_remaining(topic, id, properties, payload);
    if topic.len() > usize::from(u16::MAX) || remaining > write::VARINT_MAX {
        return Err(EncodeError::TooLong);
    }
    // The fixed header takes five bytes at most, and each `Short` eight for a moment.
    out.reserve(remaining - payload + room + 16);
    let mut head = write::Short::default();
    head.u8(first);
    head.varint(remaining);
    head.u16(topic.len() as u16);
    head.append_to(out);
    out.extend_from_slice(topic.as_bytes());
    let mut tail = write::Short::default();
    if let Some(PacketId(id)) = id {
        tail.u16(id.get());
    }
    if let Some(len) = properties {
        tail.varint(len);
    }
    tail.append_to(out);
    Ok(())
}

/// Writes the fixed header in front of the body.
fn finish(first: u8, start: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length = out.len() - start - 2;
    if length > write::VARINT_MAX {
        return Err(EncodeError::TooLong);
    }
    let more = write::varint_len(length) - 1;
    if more > 0 {
        let end = out.len();
        out.resize(end + more, 0);
        out.copy_within(start + 2..end, start + 2 + more);
    }
    out[start] = first;
    let mut rest = length;
    for (at, byte) in out[start + 1..=start + 1 + more].iter_mut().enumerate() {
        *byte = (rest & 0x7F) as u8 | if at < more { 0x80 } else { 0 };
        rest >>= 7;
    }
    Ok(())
}

struct Body<'o> {
    out: &'o mut Vec<u8>,
    version: Version,
}

type Written = Result<(), EncodeError>;

impl Body<'_> {
    fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    fn binary(&mut self, bytes: &[u8]) -> Written {
        if bytes.len() > usize::from(u16::MAX) {
            return Err(EncodeError::TooLong);
        }
        write::binary(bytes, self.out);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Written {
        self.binary(text.as_bytes())
    }

    fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn id(&mut self, id: PacketId) {
        self.u16(id.0.get());
    }

    /// Writes the body; the result is the first byte of the fixed header.
    fn packet(&mut self, packet: &Packet<'_>) -> Result<u8, EncodeError> {
        match packet {
            Packet::Connect(connect) => self.connect(connect).map(|()| 0x10),
            Packet::ConnAck(connack) => self.connack(connack).map(|()| 0x20),
            Packet::Publish(_) => Ok(0x30),
            Packet::PubAck(ack) => self.ack(ack).map(|()| 0x40),
            Packet::PubRec(ack) => self.ack(ack).map(|()| 0x50),
            Packet::PubRel(ack) => self.ack(ack).map(|()| 0x62),
            Packet::PubComp(ack) => self.ack(ack).map(|()| 0x70),
            Packet::Subscribe(subscribe) => self.subscribe(subscribe).map(|()| 0x82),
            Packet::SubAck(suback) => self.suback(suback).map(|()| 0x90),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe).map(|()| 0xA2),
            Packet::UnsubAck(unsuback) => self.unsuback(unsuback).map(|()| 0xB0),
            Packet::PingReq => Ok(0xC0),
            Packet::PingResp => Ok(0xD0),
            Packet::Disconnect(disconnect) => self.disconnect(disconnect).map(|()| 0xE0),
            Packet::Auth(auth) => self.auth(auth).map(|()| 0xF0),
        }
    }

    fn connect(&mut self, connect: &Connect<'_>) -> Written {
        self.text(if self.version == Version::V31 { "MQIsdp" } else { "MQTT" })?;
        self.out.push(self.version as u8);
        let (will_qos, will_retain) = connect.will.as_ref().map_or((QoS::AtMostOnce, false), |w| (w.qos, w.retain));
        let flags = u8::from(connect.clean_start) << 1
            | u8::from(connect.will.is_some()) << 2
            | (will_qos as u8) << 3
            | u8::from(will_retain) << 5
            | u8::from(connect.password.is_some()) << 6
            | u8::from(connect.username.is_some()) << 7;
        self.out.push(flags);
        self.u16(connect.keep_alive);
        if self.is_v5() {
            Block::connect(&connect.properties)?.put(self.out)?;
        }
        self.text(connect.client_id)?;
        if let Some(will) = &connect.will {
            self.will(will)?;
        }
        connect.username.map_or(Ok(()), |name| self.text(name))?;
        connect.password.map_or(Ok(()), |password| self.binary(password))
    }

    fn will(&mut self, will: &Will<'_>) -> Written {
        if self.is_v5() {
            Block::will(will)?.put(self.out)?;
        }
        self.text(will.topic)?;
        self.binary(will.payload)
    }

    fn connack(&mut self, connack: &ConnAck<'_>) -> Written {
        if !self.is_v5() {
            let code = connack.reason.connack_return_code();
            let present = self.version == Version::V311 && connack.session_present;
            self.out.extend_from_slice(&[u8::from(present), code]);
            return Ok(());
        }
        self.out
            .extend_from_slice(&[u8::from(connack.session_present), connack.reason.as_u8()]);
        Block::connack(&connack.properties)?.put(self.out)
    }

    /// Two bytes if there is nothing but success to say; never three, which some clients take for malformed.
    fn ack(&mut self, ack: &Ack<'_>) -> Written {
        self.id(ack.packet_id);
        if !self.is_v5() || (ack.reason == ReasonCode::Success && ack.reason_string.is_none() && ack.user.is_empty()) {
            return Ok(());
        }
        self.out.push(ack.reason.as_u8());
        self.reason_block(ack.reason_string, &ack.user)
    }

    fn reason_block(&mut self, reason_string: Option<&str>, user: &UserProperties<'_>) -> Written {
        Block::reason(reason_string, user)?.put(self.out)
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Written {
        self.id(subscribe.packet_id);
        if self.is_v5() {
            Block::subscribe(subscribe.subscription_id, &subscribe.user)?.put(self.out)?;
        }
        for filter in &subscribe.filters {
            self.text(filter.filter)?;
            let newer = u8::from(filter.no_local) << 2 | u8::from(filter.retain_as_published) << 3 | (filter.retain_handling as u8) << 4;
            self.out.push(filter.qos as u8 | if self.is_v5() { newer } else { 0 });
        }
        Ok(())
    }

    fn suback(&mut self, suback: &SubAck<'_>) -> Written {
        self.id(suback.packet_id);
        if self.is_v5() {
            self.reason_block(suback.reason_string, &suback.user)?;
        }
        let v5 = self.is_v5();
        let code = |reason: &ReasonCode| if reason.is_error() && !v5 { 0x80 } else { reason.as_u8() };
        self.out.extend(suback.reasons.iter().map(code));
        Ok(())
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) -> Written {
        self.id(unsubscribe.packet_id);
        if self.is_v5() {
            self.reason_block(None, &unsubscribe.user)?;
        }
        unsubscribe.filters.iter().try_for_each(|filter| self.text(filter))
    }

    fn unsuback(&mut self, unsuback: &UnsubAck<'_>) -> Written {
        self.id(unsuback.packet_id);
        if self.is_v5() {
            self.reason_block(unsuback.reason_string, &unsuback.user)?;
            self.out.extend(unsuback.reasons.iter().map(|reason| reason.as_u8()));
        }
        Ok(())
    }

    fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Written {
        if !self.is_v5() {
            return Ok(());
        }
        self.out.push(disconnect.reason.as_u8());
        Block::disconnect(disconnect)?.put(self.out)
    }

    fn auth(&mut self, auth: &Auth<'_>) -> Written {
        let bare = auth.method.is_none() && auth.data.is_none() && auth.reason_string.is_none() && auth.user.is_empty();
        if auth.reason == ReasonCode::Success && bare {
            return Ok(());
        }
        self.out.push(auth.reason.as_u8());
        Block::auth(auth)?.put(self.out)
    }
}
