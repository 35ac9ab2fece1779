//! An MQTT client over a socket, on `mqttbytes`: what comes is told as short lines, so that one script serves both versions.
//!
//! "connack 0x00", "puback 1", "pubrec 2 0x83 why", "publish 3 a/b q1 payload", "suback 1 1,0x8f", "disconnect 0x8e", "closed".

use std::{io, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use mqttbytes::{Error, QoS, v4, v5};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;

pub struct Device {
    pub stream: TcpStream,
    pub version: u8,
    input: BytesMut,
}

/// CONNECT, to be changed before it is sent.
pub fn connect(client: &str) -> v5::Connect {
    let mut connect = v5::Connect::new(client);
    connect.clean_session = true;
    connect.keep_alive = 0;
    connect
}

/// CONNECT of a client that takes so many messages without an answer.
pub fn taking(client: &str, receive_maximum: u16) -> v5::Connect {
    let mut connect = connect(client);
    connect.properties = Some(v5::ConnectProperties {
        session_expiry_interval: None,
        receive_maximum: Some(receive_maximum),
        max_packet_size: None,
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    });
    connect
}

/// A will for `topic` with the payload "gone".
pub fn will(topic: &str) -> Option<v5::LastWill> {
    Some(v5::LastWill {
        topic: topic.to_owned(),
        message: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: None,
    })
}

/// CONNECT with a user name and a password.
pub fn login(client: &str, username: &str, password: &str) -> v5::Connect {
    let mut connect = connect(client);
    connect.login = Some(v5::Login {
        username: username.to_owned(),
        password: password.to_owned(),
    });
    connect
}

/// SUBSCRIBE to one filter, to be changed before it is sent.
pub fn subscribe(filter: &str, qos: u8) -> v5::Subscribe {
    let mut subscribe = v5::Subscribe::new(filter, level(qos));
    subscribe.pkid = 1;
    subscribe
}

pub fn level(qos: u8) -> QoS {
    mqttbytes::qos(qos).unwrap()
}

impl Device {
    pub async fn open(address: SocketAddr, version: u8) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::on(stream, version)
    }

    pub fn on(stream: TcpStream, version: u8) -> Self {
        Self {
            stream,
            version,
            input: BytesMut::new(),
        }
    }

    pub async fn connected(address: SocketAddr, version: u8, client: &str) -> Self {
        Self::connected_as(address, version, &connect(client)).await
    }

    pub async fn connected_as(address: SocketAddr, version: u8, connect: &v5::Connect) -> Self {
        let mut device = Self::open(address, version).await;
        device.connect(connect).await;
        assert_eq!(device.line().await, "connack 0x00");
        device
    }

    /// The client identifier in a CONNACK that accepts.
    pub async fn assigned_id(&mut self) -> String {
        loop {
            match v5::read(&mut self.input, usize::MAX) {
                Ok(v5::Packet::ConnAck(p)) => return p.properties.and_then(|p| p.assigned_client_identifier).unwrap(),
                Ok(other) => panic!("{other:?}"),
                Err(_) => assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0),
            }
        }
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn send5<E: std::fmt::Debug>(&mut self, write: impl FnOnce(&mut BytesMut) -> Result<usize, E>) {
        let mut out = BytesMut::new();
        write(&mut out).unwrap();
        self.bytes(&out).await;
    }

    /// Sends CONNECT in the device's version; of a version 5 one only what version 3.1.1 has.
    pub async fn connect(&mut self, connect: &v5::Connect) {
        if self.version == 5 {
            return self.send5(|out| connect.write(out)).await;
        }
        let mut old = v4::Connect::new(connect.client_id.clone());
        old.keep_alive = connect.keep_alive;
        old.clean_session = connect.clean_session;
        old.login = connect.login.as_ref().map(|l| v4::Login {
            username: l.username.clone(),
            password: l.password.clone(),
        });
        old.last_will = connect.last_will.as_ref().map(|w| v4::LastWill {
            topic: w.topic.clone(),
            message: w.message.clone(),
            qos: w.qos,
            retain: w.retain,
        });
        self.send5(|out| old.write(out)).await;
    }

    pub async fn publish(&mut self, topic: &str, qos: u8, id: u16, payload: impl Into<Vec<u8>>) {
        let mut publish = v5::Publish::new(topic, level(qos), payload);
        publish.pkid = id;
        self.send_publish(&publish).await;
    }

    pub async fn send_publish(&mut self, publish: &v5::Publish) {
        let mut out = BytesMut::new();
        self.encode_publish(publish, &mut out);
        self.bytes(&out).await;
    }

    /// For packets that leave with one write.
    pub fn encode_publish(&self, publish: &v5::Publish, out: &mut BytesMut) {
        if self.version == 5 {
            publish.write(out).unwrap();
        } else {
            let mut old = v4::Publish::from_bytes(publish.topic.clone(), publish.qos, publish.payload.clone());
            (old.pkid, old.retain, old.dup) = (publish.pkid, publish.retain, publish.dup);
            old.write(out).unwrap();
        }
    }

    pub async fn send_subscribe(&mut self, subscribe: &v5::Subscribe) {
        if self.version == 5 {
            return self.send5(|out| subscribe.write(out)).await;
        }
        let filters = subscribe.filters.iter().map(|f| v4::SubscribeFilter::new(f.path.clone(), f.qos));
        let mut old = v4::Subscribe::new_many(filters);
        old.pkid = subscribe.pkid;
        self.send5(|out| old.write(out)).await;
    }

    /// Subscribes and is granted `qos`.
    pub async fn subscribed(&mut self, filter: &str, qos: u8) {
        self.send_subscribe(&subscribe(filter, qos)).await;
        assert_eq!(self.line().await, format!("suback 1 {qos}"));
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        if self.version == 5 {
            let mut unsubscribe = v5::Unsubscribe::new(filter);
            unsubscribe.pkid = 9;
            self.send5(|out| unsubscribe.write(out)).await;
        } else {
            let mut unsubscribe = v4::Unsubscribe::new(filter);
            unsubscribe.pkid = 9;
            self.send5(|out| unsubscribe.write(out)).await;
        }
        assert_eq!(self.line().await, "unsuback 9");
    }

    /// PUBACK of either version.
    pub async fn puback(&mut self, id: u16) {
        self.bytes(&[0x40, 2, (id >> 8) as u8, id as u8]).await;
    }

    pub async fn pubrel(&mut self, id: u16) {
        self.bytes(&[0x62, 2, (id >> 8) as u8, id as u8]).await;
    }

    /// DISCONNECT with a reason of version 5; of 3.1.1 without.
    pub async fn disconnect(&mut self, reason: u8) {
        if self.version == 5 {
            self.bytes(&[0xe0, 1, reason]).await;
        } else {
            self.bytes(&[0xe0, 0]).await;
        }
    }

    /// Everything that comes before the answer to a PINGREQ.
    pub async fn fence(&mut self) -> Vec<String> {
        self.bytes(&[0xc0, 0]).await;
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line == "pingresp" {
                return lines;
            }
            assert_ne!(line, "closed", "after {lines:?}");
            lines.push(line);
        }
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line == "closed" {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The next packet, a PUBLISH of this content; its packet id.
    pub async fn message(&mut self, content: &str) -> u16 {
        let line = self.line().await;
        let parts: Vec<&str> = line.splitn(3, ' ').collect();
        assert_eq!((parts[0], parts[2]), ("publish", content));
        parts[1].parse().unwrap()
    }

    /// The next packet; "closed" at the end of the connection.
    pub async fn line(&mut self) -> String {
        loop {
            let read = if self.version == 5 {
                line5(&mut self.input)
            } else {
                line4(&mut self.input)
            };
            match read {
                Ok(line) => return line,
                Err(Error::InsufficientBytes(_)) => {}
                Err(other) => panic!("{other:?} in {:x?}", &self.input[..]),
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return self.closed(),
                Ok(Ok(_)) => {}
                Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset => return self.closed(),
                Ok(Err(e)) => panic!("{e}"),
                Err(_) => panic!("nothing comes"),
            }
        }
    }

    fn closed(&self) -> String {
        assert!(self.input.is_empty(), "half a packet at the end: {:x?}", &self.input[..]);
        "closed".to_owned()
    }
}

fn ack(name: &str, id: u16, code: u8, why: Option<&str>) -> String {
    let code = if code == 0 { String::new() } else { format!(" {code:#04x}") };
    format!("{name} {id}{code}{}", why.map_or(String::new(), |why| format!(" {why}")))
}

fn publish_line(id: u16, topic: &str, qos: QoS, dup: bool, retain: bool, payload: &[u8]) -> String {
    let flags = format!("{}{}", if dup { " dup" } else { "" }, if retain { " retain" } else { "" });
    // Long payloads are only counted, but for the blanks at their end.
    let payload = payload.trim_ascii_end();
    let payload = if payload.len() > 100 {
        format!("{} bytes", payload.len())
    } else {
        String::from_utf8_lossy(payload).into_owned()
    };
    format!("publish {id} {topic} q{}{flags} {payload}", qos as u8)
}

fn line5(input: &mut BytesMut) -> Result<String, Error> {
    // `mqttbytes` keeps no codes of SUBACK, and takes the third subscription identifier for payload: these two are read here.
    if let Some(line) = suback(input, true).or_else(|| publish5(input)) {
        return Ok(line);
    }
    Ok(match v5::read(input, usize::MAX)? {
        v5::Packet::ConnAck(p) => {
            let why = p
                .properties
                .and_then(|p| p.reason_string)
                .map_or(String::new(), |why| format!(" {why}"));
            format!("connack {:#04x}{why}", p.code as u8)
        }
        v5::Packet::PubAck(p) => ack(
            "puback",
            p.pkid,
            p.reason as u8,
            p.properties.and_then(|p| p.reason_string).as_deref(),
        ),
        v5::Packet::PubRec(p) => ack(
            "pubrec",
            p.pkid,
            p.reason as u8,
            p.properties.and_then(|p| p.reason_string).as_deref(),
        ),
        v5::Packet::PubRel(p) => ack("pubrel", p.pkid, p.reason as u8, None),
        v5::Packet::PubComp(p) => ack("pubcomp", p.pkid, p.reason as u8, None),
        v5::Packet::UnsubAck(p) => format!("unsuback {}", p.pkid),
        v5::Packet::PingResp => "pingresp".into(),
        v5::Packet::Disconnect(p) => format!("disconnect {:#04x}", p.reason_code as u8),
        other => panic!("{other:?}"),
    })
}

fn line4(input: &mut BytesMut) -> Result<String, Error> {
    if let Some(line) = suback(input, false) {
        return Ok(line);
    }
    Ok(match v4::read(input, usize::MAX)? {
        v4::Packet::ConnAck(p) => format!("connack {:#04x}", p.code as u8),
        v4::Packet::Publish(p) => publish_line(p.pkid, &p.topic, p.qos, p.dup, p.retain, &p.payload),
        v4::Packet::PubAck(p) => ack("puback", p.pkid, 0, None),
        v4::Packet::PubRec(p) => ack("pubrec", p.pkid, 0, None),
        v4::Packet::PubRel(p) => ack("pubrel", p.pkid, 0, None),
        v4::Packet::PubComp(p) => ack("pubcomp", p.pkid, 0, None),
        v4::Packet::UnsubAck(p) => format!("unsuback {}", p.pkid),
        v4::Packet::PingResp => "pingresp".into(),
        other => panic!("{other:?}"),
    })
}

/// SUBACK by its bytes (§3.9): the codes as they stand on the wire. These tests' are shorter than 128 bytes and have no properties.
fn suback(input: &mut BytesMut, properties: bool) -> Option<String> {
    if input.len() < 2 || input[0] != 0x90 || input.len() < 2 + usize::from(input[1]) {
        return None;
    }
    let packet = input.split_to(2 + usize::from(input[1]));
    let id = u16::from_be_bytes([packet[2], packet[3]]);
    let from = if properties {
        assert_eq!(packet[4], 0, "properties in SUBACK");
        5
    } else {
        4
    };
    let code = |c: &u8| if *c < 0x80 { c.to_string() } else { format!("{c:#04x}") };
    Some(format!(
        "suback {id} {}",
        packet[from..].iter().map(code).collect::<Vec<_>>().join(",")
    ))
}

/// PUBLISH of version 5 by its bytes (§3.3), with the properties that these tests look at.
fn publish5(input: &mut BytesMut) -> Option<String> {
    let first = *input.first().filter(|first| **first >> 4 == 3)?;
    let mut at = 1;
    let length = variable(input, &mut at)?;
    if input.len() < at + length {
        return None;
    }
    let packet = input.split_to(at + length);
    let two = |at: usize| usize::from(packet[at]) << 8 | usize::from(packet[at + 1]);
    let topic = std::str::from_utf8(&packet[at + 2..at + 2 + two(at)]).unwrap();
    at += 2 + two(at);
    let qos = first >> 1 & 3;
    let id = if qos == 0 { 0 } else { two(at) };
    at += if qos == 0 { 0 } else { 2 };
    let block = variable(&packet, &mut at).unwrap();
    let (end, mut properties) = (at + block, String::new());
    let text = |at: usize| String::from_utf8_lossy(&packet[at + 2..at + 2 + two(at)]).into_owned();
    while at < end {
        at += 1;
        match packet[at - 1] {
            0x02 => {
                properties += &format!(" expires{}", two(at) << 16 | two(at + 2));
                at += 4;
            }
            0x0b => properties += &format!(" sub{}", variable(&packet, &mut at).unwrap()),
            0x26 => {
                let name = text(at);
                at += 2 + name.len();
                let value = text(at);
                at += 2 + value.len();
                properties += &format!(" {name}={value}");
            }
            other => panic!("property {other:#04x}"),
        }
    }
    let line = publish_line(id as u16, topic, level(qos), first & 8 > 0, first & 1 > 0, &packet[end..]);
    Some(line + &properties)
}

fn variable(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
