//! One MQTT connection of the generator, of either version, over plain TCP, on `mqttbytes`.

use bytes::{Bytes, BytesMut};
use mqttbytes::{Error, QoS, v4, v5};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The protocol version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V4,
    /// 5.0
    V5,
}

/// What the other side said, the same for both versions; reasons are the wire's bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// CONNACK: session present, and 0 for accepted.
    ConnAck { present: bool, accepted: bool, detail: String },
    /// PUBLISH.
    Publish {
        topic: String,
        payload: Bytes,
        qos: u8,
        id: u16,
        dup: bool,
    },
    /// PUBACK: packet id and reason.
    PubAck(u16, u8),
    /// PUBREC: packet id and reason.
    PubRec(u16, u8),
    /// PUBREL.
    PubRel(u16),
    /// PUBCOMP.
    PubComp(u16),
    /// SUBACK: what each filter got; 0x80 and above is a refusal.
    SubAck(Vec<u8>),
    /// DISCONNECT of the server and its reason.
    Disconnect(u8),
    /// Everything else.
    Other,
}

/// A connection after CONNACK.
pub struct Client {
    stream: TcpStream,
    version: Version,
    input: BytesMut,
    /// What goes out with the next [`Client::flush`].
    pub output: BytesMut,
}

impl Client {
    /// Connects with a clean start and without a keep alive. An answer other than "accepted" is an error.
    pub async fn connect(address: SocketAddr, version: Version, id: &str) -> io::Result<Self> {
        Self::connect_taking(address, version, id, None).await
    }

    /// The same, with a receive maximum (version 5 only).
    pub async fn connect_taking(address: SocketAddr, version: Version, id: &str, receive_maximum: Option<u16>) -> io::Result<Self> {
        let mut client = Self::open(address, version).await?;
        client.greet(id, receive_maximum)?;
        client.flush().await?;
        match client.next().await? {
            Event::ConnAck { accepted: true, .. } => Ok(client),
            other => Err(io::Error::other(format!("CONNECT of {id} was answered {other:?}"))),
        }
    }

    /// Connects in version 5 with a session that stays so many seconds. Tells whether one was there, and how long CONNACK took from CONNECT on.
    pub async fn resume(address: SocketAddr, id: &str, expiry: u32) -> io::Result<(Self, bool, Duration)> {
        let mut client = Self::open(address, Version::V5).await?;
        let mut connect = v5::Connect::new(id);
        (connect.keep_alive, connect.clean_session) = (0, false);
        connect.properties = Some(staying(expiry));
        connect.write(&mut client.output).map_err(bad)?;
        let since = Instant::now();
        client.flush().await?;
        match client.next().await? {
            Event::ConnAck {
                present, accepted: true, ..
            } => Ok((client, present, since.elapsed())),
            other => Err(io::Error::other(format!("CONNECT of {id} was answered {other:?}"))),
        }
    }

    /// The TCP connection alone.
    pub async fn open(address: SocketAddr, version: Version) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            version,
            input: BytesMut::with_capacity(1 << 14),
            output: BytesMut::with_capacity(1 << 14),
        })
    }

    /// Queues a CONNECT.
    pub fn greet(&mut self, id: &str, receive_maximum: Option<u16>) -> io::Result<()> {
        match self.version {
            Version::V4 => {
                let mut connect = v4::Connect::new(id);
                connect.keep_alive = 0;
                connect.write(&mut self.output).map_err(bad)?;
            }
            Version::V5 => {
                let mut connect = v5::Connect::new(id);
                connect.keep_alive = 0;
                connect.properties = receive_maximum.map(taking);
                connect.write(&mut self.output).map_err(bad)?;
            }
        }
        Ok(())
    }

    /// Subscribes to one filter; `Ok` is the granted QoS or the reason of the refusal.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<u8> {
        match self.version {
            Version::V4 => {
                let mut subscribe = v4::Subscribe::new(filter, level(qos));
                subscribe.pkid = 1;
                subscribe.write(&mut self.output).map_err(bad)?;
            }
            Version::V5 => {
                let mut subscribe = v5::Subscribe::new(filter, level(qos));
                subscribe.pkid = 1;
                subscribe.write(&mut self.output).map_err(bad)?;
            }
        }
        self.flush().await?;
        match self.next().await? {
            Event::SubAck(codes) if codes.len() == 1 => Ok(codes[0]),
            other => Err(io::Error::other(format!("SUBSCRIBE {filter} was answered {other:?}"))),
        }
    }

    /// Takes one filter back.
    pub async fn unsubscribe(&mut self, filter: &str) -> io::Result<()> {
        let out = &mut self.output;
        match self.version {
            Version::V4 => {
                let mut unsubscribe = v4::Unsubscribe::new(filter);
                unsubscribe.pkid = 2;
                unsubscribe.write(out).map_err(bad)?;
            }
            Version::V5 => {
                let mut unsubscribe = v5::Unsubscribe::new(filter);
                unsubscribe.pkid = 2;
                unsubscribe.write(out).map_err(bad)?;
            }
        }
        self.flush().await?;
        match self.next().await? {
            Event::Other => Ok(()),
            other => Err(io::Error::other(format!("UNSUBSCRIBE {filter} was answered {other:?}"))),
        }
    }

    /// Queues one PUBLISH; `id` is ignored at QoS 0.
    pub fn publish(&mut self, topic: &str, qos: u8, id: u16, payload: &[u8]) -> io::Result<()> {
        encode_publish(self.version, topic, qos, id, payload, &mut self.output)
    }

    /// Queues the answer that an incoming PUBLISH or PUBREL asks for, if any.
    pub fn answer(&mut self, event: &Event) -> io::Result<()> {
        let out = &mut self.output;
        match (event, self.version) {
            (Event::Publish { qos: 1, id, .. }, Version::V4) => v4::PubAck::new(*id).write(out).map_err(bad)?,
            (Event::Publish { qos: 1, id, .. }, Version::V5) => v5::PubAck::new(*id).write(out).map_err(bad)?,
            (Event::Publish { qos: 2, id, .. }, Version::V4) => v4::PubRec::new(*id).write(out).map_err(bad)?,
            (Event::Publish { qos: 2, id, .. }, Version::V5) => v5::PubRec::new(*id).write(out).map_err(bad)?,
            (Event::PubRec(id, reason), Version::V4) if *reason < 0x80 => v4::PubRel::new(*id).write(out).map_err(bad)?,
            (Event::PubRec(id, reason), Version::V5) if *reason < 0x80 => v5::PubRel::new(*id).write(out).map_err(bad)?,
            (Event::PubRel(id), Version::V4) => v4::PubComp::new(*id).write(out).map_err(bad)?,
            (Event::PubRel(id), Version::V5) => v5::PubComp::new(*id).write(out).map_err(bad)?,
            _ => 0,
        };
        Ok(())
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }

    /// Says DISCONNECT, so that the end counts as a normal one.
    pub async fn goodbye(mut self) -> io::Result<()> {
        self.output.extend_from_slice(&[0xe0, 0]);
        self.flush().await
    }

    /// The next packet. Cancel-safe. The end of the connection is [`io::ErrorKind::UnexpectedEof`].
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(event);
            }
            self.read_more().await?;
        }
    }

    /// The next packet within a time, else [`io::ErrorKind::TimedOut`].
    pub async fn next_within(&mut self, time: Duration) -> io::Result<Event> {
        tokio::time::timeout(time, self.next())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Waits for bytes. Cancel-safe.
    pub async fn read_more(&mut self) -> io::Result<()> {
        self.input.reserve(1 << 12);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// A packet that is already here.
    pub fn buffered(&mut self) -> io::Result<Option<Event>> {
        // An empty DISCONNECT is legal in version 5, and an error to `mqttbytes`.
        if self.input.starts_with(&[0xe0, 0]) {
            return Ok(Some(Event::Disconnect(0)));
        }
        let event = match self.version {
            Version::V4 => v4::read(&mut self.input, 1 << 20).map(from_v4),
            Version::V5 => v5::read(&mut self.input, 1 << 20).map(from_v5),
        };
        match event {
            Ok(event) => Ok(Some(event)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(bad(error)),
        }
    }
}

/// Appends one PUBLISH.
pub fn encode_publish(version: Version, topic: &str, qos: u8, id: u16, payload: &[u8], out: &mut BytesMut) -> io::Result<()> {
    match version {
        Version::V4 => {
            let mut publish = v4::Publish::new(topic, level(qos), payload);
            publish.pkid = id;
            publish.write(out).map_err(bad)?;
        }
        Version::V5 => {
            let mut publish = v5::Publish::new(topic, level(qos), payload);
            publish.pkid = id;
            publish.write(out).map_err(bad)?;
        }
    }
    Ok(())
}

fn taking(receive_maximum: u16) -> v5::ConnectProperties {
    v5::ConnectProperties {
        receive_maximum: Some(receive_maximum),
        ..no_properties()
    }
}

fn staying(expiry: u32) -> v5::ConnectProperties {
    v5::ConnectProperties {
        session_expiry_interval: Some(expiry),
        ..no_properties()
    }
}

fn no_properties() -> v5::ConnectProperties {
    v5::ConnectProperties {
        receive_maximum: None,
        session_expiry_interval: None,
        max_packet_size: None,
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    }
}

fn level(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn bad(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}"))
}

fn from_v4(packet: v4::Packet) -> Event {
    match packet {
        v4::Packet::ConnAck(ack) => Event::ConnAck {
            present: ack.session_present,
            accepted: ack.code == v4::ConnectReturnCode::Success,
            detail: format!("{:?}", ack.code),
        },
        v4::Packet::Publish(p) => Event::Publish {
            topic: p.topic,
            payload: p.payload,
            qos: p.qos as u8,
            id: p.pkid,
            dup: p.dup,
        },
        v4::Packet::PubAck(ack) => Event::PubAck(ack.pkid, 0),
        v4::Packet::PubRec(ack) => Event::PubRec(ack.pkid, 0),
        v4::Packet::PubRel(ack) => Event::PubRel(ack.pkid),
        v4::Packet::PubComp(ack) => Event::PubComp(ack.pkid),
        v4::Packet::SubAck(ack) => Event::SubAck(
            ack.return_codes
                .into_iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => qos as u8,
                    v4::SubscribeReasonCode::Failure => 0x80,
                })
                .collect(),
        ),
        _ => Event::Other,
    }
}

fn from_v5(packet: v5::Packet) -> Event {
    match packet {
        v5::Packet::ConnAck(ack) => Event::ConnAck {
            present: ack.session_present,
            accepted: ack.code == v5::ConnectReturnCode::Success,
            detail: format!("{:?}", ack.code),
        },
        v5::Packet::Publish(p) => Event::Publish {
            topic: p.topic,
            payload: p.payload,
            qos: p.qos as u8,
            id: p.pkid,
            dup: p.dup,
        },
        v5::Packet::PubAck(ack) => Event::PubAck(ack.pkid, ack.reason as u8),
        v5::Packet::PubRec(ack) => Event::PubRec(ack.pkid, ack.reason as u8),
        v5::Packet::PubRel(ack) => Event::PubRel(ack.pkid),
        v5::Packet::PubComp(ack) => Event::PubComp(ack.pkid),
        v5::Packet::SubAck(ack) => Event::SubAck(ack.return_codes.into_iter().map(|code| code as u8).collect()),
        v5::Packet::Disconnect(packet) => Event::Disconnect(packet.reason_code as u8),
        _ => Event::Other,
    }
}
