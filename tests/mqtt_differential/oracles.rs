//! Three codecs that share no line with ours, each as one function: read a packet, write what was read.

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

/// The written packet, or why it was not read or could not be written.
pub type Echo = Result<Vec<u8>, String>;

/// Reads and writes.
pub type Codec = fn(&[u8]) -> Echo;

const MOST: usize = 1 << 20;

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

pub fn symqtt_v5(bytes: &[u8]) -> Echo {
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let packet = symqtt_codec::v5::Packet::decode(&mut input).map_err(text)?.ok_or("asks for more")?;
    packet.encode(&mut out).map_err(text)?;
    Ok(out.to_vec())
}

pub fn symqtt_v311(bytes: &[u8]) -> Echo {
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let packet = symqtt_codec::v3::Packet::decode(&mut input).map_err(text)?.ok_or("asks for more")?;
    packet.encode(&mut out).map_err(text)?;
    Ok(out.to_vec())
}

pub fn rmqtt_v5(bytes: &[u8]) -> Echo {
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let mut codec = rmqtt_codec::v5::Codec::default();
    let (packet, _) = codec.decode(&mut input).map_err(text)?.ok_or("asks for more")?;
    codec.encode(packet, &mut out).map_err(text)?;
    Ok(out.to_vec())
}

pub fn rmqtt_v311(bytes: &[u8]) -> Echo {
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let mut codec = rmqtt_codec::v3::Codec::new(0);
    let (packet, _) = codec.decode(&mut input).map_err(text)?.ok_or("asks for more")?;
    codec.encode(packet, &mut out).map_err(text)?;
    Ok(out.to_vec())
}

/// Writes what was read. Packets of both versions bear the same names, and have types of their own.
macro_rules! write_again {
    ($read:ident, $out:ident, $disconnect:pat => $goodbye:expr) => {
        match $read {
            Packet::Connect(packet) => packet.write(&mut $out),
            Packet::ConnAck(packet) => packet.write(&mut $out),
            Packet::Publish(packet) => packet.write(&mut $out),
            Packet::PubAck(packet) => packet.write(&mut $out),
            Packet::PubRec(packet) => packet.write(&mut $out),
            Packet::PubRel(packet) => packet.write(&mut $out),
            Packet::PubComp(packet) => packet.write(&mut $out),
            Packet::Subscribe(packet) => packet.write(&mut $out),
            Packet::SubAck(packet) => packet.write(&mut $out),
            Packet::Unsubscribe(packet) => packet.write(&mut $out),
            Packet::UnsubAck(packet) => packet.write(&mut $out),
            Packet::PingReq => PingReq.write(&mut $out),
            Packet::PingResp => PingResp.write(&mut $out),
            $disconnect => $goodbye.write(&mut $out),
        }
    };
}

pub fn mqttbytes_v5(bytes: &[u8]) -> Echo {
    use mqttbytes::v5::{Packet, PingReq, PingResp};
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let read = mqttbytes::v5::read(&mut input, MOST).map_err(text)?;
    write_again!(read, out, Packet::Disconnect(packet) => packet).map_err(text)?;
    Ok(out.to_vec())
}

pub fn mqttbytes_v311(bytes: &[u8]) -> Echo {
    use mqttbytes::v4::{Disconnect, Packet, PingReq, PingResp};
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let read = mqttbytes::v4::read(&mut input, MOST).map_err(text)?;
    write_again!(read, out, Packet::Disconnect => Disconnect).map_err(text)?;
    Ok(out.to_vec())
}
