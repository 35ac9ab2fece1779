//! Enhanced authentication as the session sees it (§4.12): who may send AUTH and when, and what CONNACK and AUTH carry.

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

mod session_client;

use std::time::Duration;

use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::{Auth, Connect, Disconnect, Packet, Publish, QoS, ReasonCode, Version};
use mqtt_kafka_proxy::session::{Accepted, Cause, Close, Output, Settings};
use session_client::*;

const METHOD: &str = "SCRAM-SHA-256";

fn enhanced() -> Connect<'static> {
    let mut connect = connect(Version::V5);
    connect.properties.authentication_method = Some(METHOD);
    connect.properties.authentication_data = Some(b"first");
    connect
}

fn auth(reason: ReasonCode, method: &'static str, data: &'static [u8]) -> Packet<'static> {
    Packet::Auth(Auth {
        reason,
        method: Some(method),
        data: Some(data),
        reason_string: None,
        user: Default::default(),
    })
}

/// A client whose CONNECT is with the relay.
fn offered() -> Client {
    let mut client = Client::fresh(Version::V5, Settings::default());
    assert_eq!(client.send(&Packet::Connect(Box::new(enhanced()))), [Output::Connect]);
    assert_eq!(client.session.authentication(), Some((METHOD, &b"first"[..])));
    assert!(!client.session.may_read());
    client
}

/// One that is to answer AUTH.
fn challenged() -> Client {
    let mut client = offered();
    client.session.challenge(b"challenge", client.now);
    assert_eq!(told(&mut client), ["AUTH 0x18 SCRAM-SHA-256 challenge"]);
    assert!(client.session.may_read() && !client.session.is_live());
    client
}

/// One that is connected.
fn connected() -> Client {
    let mut client = challenged();
    let outputs = client.send(&auth(ReasonCode::ContinueAuthentication, METHOD, b"second"));
    assert_eq!(outputs, [Output::Authenticate]);
    assert_eq!(client.session.authentication(), Some((METHOD, &b"second"[..])));
    let accepted = Accepted {
        authentication_data: Some(b"proof".to_vec()),
        ..Accepted::default()
    };
    client.session.accept(accepted, client.now);
    assert_eq!(told(&mut client), ["CONNACK 0x00 SCRAM-SHA-256 proof"]);
    assert_eq!(
        client.session.authentication(),
        Some((METHOD, &b""[..])),
        "what was said is forgotten"
    );
    client
}

/// What the client was sent, with method and data.
fn told(client: &mut Client) -> Vec<String> {
    let bytes = client.bytes();
    let decoder = Decoder {
        version: Some(Version::V5),
        role: Role::Client,
        max_packet_size: u32::MAX,
    };
    let (mut rest, mut lines) = (&bytes[..], Vec::new());
    while let Some((packet, used)) = decoder.decode(rest).unwrap() {
        let (name, reason, method, data) = match &packet {
            Packet::Auth(auth) => ("AUTH", auth.reason, auth.method, auth.data),
            Packet::ConnAck(ack) => {
                let properties = &ack.properties;
                (
                    "CONNACK",
                    ack.reason,
                    properties.authentication_method,
                    properties.authentication_data,
                )
            }
            Packet::Disconnect(disconnect) => ("DISCONNECT", disconnect.reason, None, None),
            other => panic!("{other:?}"),
        };
        let data = String::from_utf8_lossy(data.unwrap_or_default()).into_owned();
        let line = format!("{name} {:#04x} {} {data}", reason.as_u8(), method.unwrap_or_default());
        lines.push(line.trim_end().to_owned());
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    lines
}

fn message() -> Publish<'static> {
    Publish {
        packet_id: None,
        ..publish(1, QoS::AtMostOnce)
    }
}

fn end(outputs: &[Output]) -> (ReasonCode, Cause) {
    match outputs {
        [Output::Close(Close { reason, cause, .. })] => (*reason, *cause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_messages_each_way_and_the_last_one_in_connack() {
    let mut client = connected();
    assert_eq!(client.publish(message()), [Output::Publish { ticket: None }]);
}

#[test]
fn without_a_method_connack_has_none() {
    let mut client = Client::fresh(Version::V5, Settings::default());
    client.send(&Packet::Connect(Box::new(connect(Version::V5))));
    assert_eq!(client.session.authentication(), None);
    let accepted = Accepted {
        authentication_data: Some(b"proof".to_vec()),
        ..Accepted::default()
    };
    client.session.accept(accepted, client.now);
    assert_eq!(told(&mut client), ["CONNACK 0x00"]);
}

/// [MQTT-3.1.2-30]
#[test]
fn nothing_but_auth_and_a_goodbye_comes_in_between() {
    for packet in [
        Packet::PingReq,
        Packet::Publish(publish(1, QoS::AtLeastOnce)),
        Packet::Connect(Box::new(enhanced())),
        auth(ReasonCode::ReAuthenticate, METHOD, b""),
        auth(ReasonCode::ContinueAuthentication, "other", b""),
    ] {
        let mut client = challenged();
        assert_eq!(
            end(&client.send(&packet)),
            (ReasonCode::ProtocolError, Cause::Session),
            "{packet:?}"
        );
        assert_eq!(told(&mut client), ["CONNACK 0x82"], "{packet:?}");
    }
    let mut client = challenged();
    let goodbye = Disconnect {
        reason: ReasonCode::Success,
        session_expiry_interval: None,
        reason_string: None,
        server_reference: None,
        user: Default::default(),
    };
    assert_eq!(
        end(&client.send(&Packet::Disconnect(goodbye))),
        (ReasonCode::Success, Cause::Client)
    );
    assert_eq!(told(&mut client), [] as [&str; 0]);
}

#[test]
fn who_does_not_answer_is_refused_at_the_deadline() {
    let mut client = challenged();
    let deadline = client.session.deadline().unwrap();
    client.session.tick(deadline - Duration::from_millis(1));
    assert!(!client.session.is_closed());
    client.session.tick(deadline);
    assert_eq!(end(&client.outputs()), (ReasonCode::NotAuthorized, Cause::Outside));
    assert_eq!(told(&mut client), ["CONNACK 0x87"]);
}

#[test]
fn the_relay_refuses_at_each_step() {
    for mut client in [offered(), {
        let mut client = challenged();
        client.send(&auth(ReasonCode::ContinueAuthentication, METHOD, b"second"));
        client
    }] {
        client.session.refuse(ReasonCode::BadUserNameOrPassword, client.now);
        assert_eq!(told(&mut client), ["CONNACK 0x86"]);
        assert!(client.session.is_closed());
    }
}

#[test]
fn a_client_that_lives_authenticates_again_while_other_packets_come() {
    let mut client = connected();
    for _ in 0..2 {
        let outputs = client.send(&auth(ReasonCode::ReAuthenticate, METHOD, b"again"));
        assert_eq!(outputs, [Output::Authenticate]);
        assert_eq!(client.session.authentication(), Some((METHOD, &b"again"[..])));
        assert_eq!(client.publish(message()), [Output::Publish { ticket: None }]);
        client.session.challenge(b"challenge", client.now);
        assert_eq!(told(&mut client), ["AUTH 0x18 SCRAM-SHA-256 challenge"]);
        assert_eq!(client.publish(message()), [Output::Publish { ticket: None }]);
        let outputs = client.send(&auth(ReasonCode::ContinueAuthentication, METHOD, b"second"));
        assert_eq!(outputs, [Output::Authenticate]);
        client.session.reauthenticated(b"proof", client.now);
        assert_eq!(told(&mut client), ["AUTH 0x00 SCRAM-SHA-256 proof"]);
    }
    assert!(client.session.is_live());
}

/// [MQTT-4.12.1-1]
#[test]
fn auth_out_of_turn_ends_the_connection() {
    let again = auth(ReasonCode::ReAuthenticate, METHOD, b"again");
    for packets in [
        vec![auth(ReasonCode::ContinueAuthentication, METHOD, b"")],
        vec![auth(ReasonCode::ReAuthenticate, "other", b"")],
        vec![again.clone(), again.clone()],
        vec![again.clone(), auth(ReasonCode::ContinueAuthentication, METHOD, b"")],
    ] {
        let mut client = connected();
        let (last, before) = packets.split_last().unwrap();
        before.iter().for_each(|packet| drop(client.send(packet)));
        assert_eq!(end(&client.send(last)), (ReasonCode::ProtocolError, Cause::Session), "{packets:?}");
        assert_eq!(told(&mut client), ["DISCONNECT 0x82"]);
    }
    let mut client = Client::connected(Version::V5);
    assert_eq!(
        end(&client.send(&again)),
        (ReasonCode::ProtocolError, Cause::Session),
        "CONNECT had no method"
    );
}
