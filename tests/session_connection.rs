//! CONNECT, its answer, keep alive and every way a connection ends, with or without the will.

mod session_client;

use std::time::Duration;

use mqtt_kafka_proxy::mqtt::codec::DecodeError;
use mqtt_kafka_proxy::mqtt::{Auth, Connect, Disconnect, Packet, QoS, ReasonCode, RetainHandling, Version, Will};
use mqtt_kafka_proxy::session::{
    Accepted, Answer, Close, Expiry, Goodbye, Options, Output, Present, Session, Settings, SubscriptionKey, Taken,
};
use session_client::*;

const SECOND: Duration = Duration::from_secs(1);

fn offer(connect: Connect<'_>) -> (Client, Vec<Output>) {
    let mut client = Client::fresh(connect.version, Settings::default());
    let outputs = client.send(&Packet::Connect(Box::new(connect)));
    (client, outputs)
}

fn with_will(version: Version) -> Client {
    Client::connected_as(
        Connect {
            will: Some(will()),
            ..connect(version)
        },
        Settings::default(),
    )
}

fn end(outputs: &[Output]) -> (bool, ReasonCode) {
    match outputs {
        [Output::PublishWill, Output::Close(Close { reason, .. })] => (true, *reason),
        [Output::Close(Close { reason, .. })] => (false, *reason),
        other => panic!("{other:?}"),
    }
}

/// The goal: a session that only listens costs little beside its socket.
#[test]
fn an_idle_session_is_small() {
    let size = size_of::<Session>();
    println!("size_of::<Session>() = {size}");
    assert!(size <= 600, "{size}");
}

/// [MQTT-3.1.0-1]
#[test]
fn the_first_packet_is_a_connect() {
    let mut client = Client::fresh(Version::V311, Settings::default());
    assert_eq!(end(&client.send(&Packet::PingReq)), (false, ReasonCode::ProtocolError));
    assert!(client.received().is_empty());
}

/// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_is_a_protocol_error() {
    for version in VERSIONS {
        let mut client = with_will(version);
        let outputs = client.send(&Packet::Connect(Box::new(connect(version))));
        assert_eq!(end(&outputs), (true, ReasonCode::ProtocolError));
        let told: &[&str] = if version == Version::V5 { &["disconnect 0x82"] } else { &[] };
        assert_eq!(client.received(), told);
    }
}

/// [MQTT-3.1.3-6], [MQTT-3.1.3-8]
#[test]
fn who_may_leave_the_client_id_empty() {
    for (version, clean_start, assigned) in [
        (Version::V31, true, false),
        (Version::V311, true, true),
        (Version::V311, false, false),
        (Version::V5, false, true),
    ] {
        let (mut client, outputs) = offer(Connect {
            client_id: "",
            clean_start,
            ..connect(version)
        });
        if assigned {
            assert_eq!(outputs, [Output::Connect]);
            client.session.accept(
                Accepted {
                    assigned_client_id: Some("made-up".into()),
                    ..Accepted::default()
                },
                client.now,
            );
            assert_eq!(client.session.client_id(), "made-up");
            assert!(client.session.is_live());
        } else {
            assert_eq!(end(&outputs), (false, ReasonCode::ClientIdentifierNotValid));
            assert_eq!(client.received(), ["connack 0x02"]);
        }
    }
}

#[test]
fn connack_is_honest_about_this_release() {
    let (mut client, _) = offer(Connect {
        client_id: "",
        clean_start: false,
        keep_alive: 0,
        ..connect(Version::V5)
    });
    client.session.accept(
        Accepted {
            assigned_client_id: Some("x1".into()),
            ..Accepted::default()
        },
        client.now,
    );
    let mqttbytes::v5::Packet::ConnAck(connack) = client.packet5() else {
        panic!()
    };
    assert!(!connack.session_present);
    let properties = connack.properties.unwrap();
    assert_eq!(properties.session_expiry_interval, None, "as asked for");
    assert_eq!(properties.retain_available, Some(0));
    assert_eq!(
        properties.shared_subscription_available, None,
        "they are, unless it is said (§3.2.2.3.13)"
    );
    assert_eq!(properties.receive_max, Some(64));
    assert_eq!(properties.topic_alias_max, Some(16));
    assert_eq!(properties.max_packet_size, Some(1 << 20));
    assert_eq!(properties.assigned_client_identifier.as_deref(), Some("x1"));
    assert_eq!(properties.server_keep_alive, None);
}

#[test]
fn credentials_and_will_are_readable_until_the_answer() {
    let (mut client, _) = offer(Connect {
        username: Some("u"),
        password: Some(b"p"),
        will: Some(will()),
        ..connect(Version::V311)
    });
    assert_eq!((client.session.username(), client.session.password()), (Some("u"), Some(&b"p"[..])));
    assert_eq!(client.session.will().unwrap().publish().topic, "gone");
    assert!(!client.session.may_read());
    client.session.accept(Accepted::default(), client.now);
    assert_eq!((client.session.username(), client.session.password()), (None, None));
    assert!(client.session.may_read());
}

#[test]
fn a_refused_connect_forgets_its_will() {
    for (version, line) in [(Version::V311, "connack 0x05"), (Version::V5, "connack 0x87")] {
        let (mut client, _) = offer(Connect {
            will: Some(will()),
            ..connect(version)
        });
        client.session.refuse(ReasonCode::NotAuthorized, client.now);
        assert_eq!(end(&client.outputs()), (false, ReasonCode::NotAuthorized));
        assert_eq!(client.received(), [line]);
        assert!(client.session.take_will().is_none());
    }
}

/// [MQTT-3.2.2-13], [MQTT-4.12.0-1]
#[test]
fn what_this_release_lacks_is_refused_by_name() {
    let retained = Will { retain: true, ..will() };
    let (mut client, outputs) = offer(Connect {
        will: Some(retained),
        ..connect(Version::V5)
    });
    assert_eq!(end(&outputs), (false, ReasonCode::RetainNotSupported));
    assert_eq!(client.received(), ["connack 0x9a"]);

    let mut client = Client::connected(Version::V5);
    let auth = Auth {
        reason: ReasonCode::ReAuthenticate,
        method: Some("x"),
        data: None,
        reason_string: None,
        user: Default::default(),
    };
    assert_eq!(end(&client.send(&Packet::Auth(auth))), (false, ReasonCode::ProtocolError));
}

/// What 3.x has no word for, and what trying again does not help, is "not authorized" there, not "server unavailable".
#[test]
fn what_this_release_lacks_does_not_ask_a_3_client_to_try_again() {
    for version in [Version::V31, Version::V311] {
        let (mut client, _) = offer(Connect {
            will: Some(Will { retain: true, ..will() }),
            ..connect(version)
        });
        assert_eq!(client.received(), ["connack 0x05"]);
    }
}

/// [MQTT-3.1.2-24], [MQTT-3.2.0-1]: a client that does not take the CONNACK was never connected. It gets no DISCONNECT before it, and
/// its will is not sent.
#[test]
fn a_client_that_cannot_take_connack_is_refused_and_leaves_no_will() {
    for (maximum, told) in [(12, &["connack 0x95"][..]), (4, &[])] {
        let mut small = Connect {
            will: Some(will()),
            ..connect(Version::V5)
        };
        small.properties.maximum_packet_size = Some(maximum);
        let (mut client, _) = offer(small);
        client.session.accept(Accepted::default(), client.now);
        assert!(!client.session.is_live());
        assert_eq!(end(&client.outputs()), (false, ReasonCode::PacketTooLarge));
        assert_eq!(client.received(), told);
    }
}

/// What holds without being said is not said: devices with little memory take packets of some 20 bytes.
#[test]
fn connack_is_small_enough_for_a_small_client() {
    let mut small = connect(Version::V5);
    small.properties.maximum_packet_size = Some(20);
    let (mut client, _) = offer(small);
    client.session.accept(Accepted::default(), client.now);
    assert!(client.session.is_live());
    assert_eq!(client.bytes().len(), 18);
}

#[test]
fn silence_before_connect_ends_silently_and_before_its_answer_does_not() {
    let mut client = Client::fresh(Version::V5, Settings::default());
    assert!(client.wait(9 * SECOND).is_empty());
    assert_eq!(client.session.deadline(), Some(client.now + SECOND));
    assert!(!end(&client.wait(SECOND)).0);
    assert!(client.received().is_empty());

    for (version, line) in [(Version::V311, "connack 0x03"), (Version::V5, "connack 0x88")] {
        let (mut client, _) = offer(connect(version));
        assert_eq!(end(&client.wait(10 * SECOND)), (false, ReasonCode::ServerUnavailable));
        assert_eq!(client.received(), [line]);
    }
}

/// [MQTT-3.1.2-22]
#[test]
fn keep_alive_ends_a_silent_client_and_gives_its_will() {
    for version in VERSIONS {
        let mut client = with_will(version);
        assert!(client.wait(89 * SECOND).is_empty());
        assert!(client.send(&Packet::PingReq).is_empty());
        assert_eq!(client.received(), ["pingresp"]);
        assert!(client.wait(89 * SECOND).is_empty());
        assert_eq!(end(&client.wait(SECOND)), (true, ReasonCode::KeepAliveTimeout));
        assert_eq!(client.session.take_will().unwrap().topic.as_ref(), "gone");
        assert!(client.session.take_will().is_none());
        assert_eq!(client.session.deadline(), None);
    }
}

#[test]
fn keep_alive_rests_while_the_socket_is_not_read() {
    let mut client = Client::connected(Version::V311);
    client.session.reading_paused(client.now);
    assert_eq!(client.session.deadline(), None);
    assert!(client.wait(1000 * SECOND).is_empty());
    client.session.resumed(client.now);
    assert_eq!(client.session.deadline(), Some(client.now + 90 * SECOND));
}

/// What makes us pause again and again is not kept by that.
#[test]
fn the_clocks_go_on_from_where_they_stood() {
    let mut client = Client::connected(Version::V5);
    let due = |client: &Client| client.session.deadline().map(|due| due - client.now);
    assert!(client.wait(30 * SECOND).is_empty());
    for rounds in 1..=5 {
        client.session.reading_paused(client.now);
        assert!(client.wait(1000 * SECOND).is_empty());
        client.session.resumed(client.now);
        assert!(client.wait(10 * SECOND).is_empty());
        assert_eq!(due(&client), Some((60 - 10 * rounds) * SECOND));
    }
    // What is taken within a pause is heard then, and stands on.
    client.session.reading_paused(client.now);
    assert!(client.wait(1000 * SECOND).is_empty());
    assert!(client.send(&Packet::PingReq).is_empty());
    assert!(client.wait(1000 * SECOND).is_empty());
    client.session.resumed(client.now);
    assert_eq!(due(&client), Some(90 * SECOND));
    // Of a client that does not take what it is sent keep alive goes on, and the clock of a packet stands.
    client.session.waits_for_rest(1, client.now);
    assert!(client.wait(80 * SECOND).is_empty());
    client.session.reading_put_off(client.now);
    client.session.taken(client.now);
    assert_eq!(due(&client), Some(90 * SECOND));
    assert!(client.wait(60 * SECOND).is_empty());
    client.session.reading_paused(client.now);
    assert_eq!(due(&client), None);
    assert!(client.wait(60 * SECOND).is_empty());
    client.session.resumed(client.now);
    assert_eq!(due(&client), Some(30 * SECOND));
    client.session.taken(client.now);
    assert_eq!(due(&client), Some(40 * SECOND), "that of the packet");
    assert_eq!(end(&client.wait(40 * SECOND)), (false, ReasonCode::QuotaExceeded));
}

/// It begins in the turn that ends the pause, before that is said.
#[test]
fn what_begins_behind_a_pause_is_not_put_off_by_it() {
    for below in [false, true] {
        let silent = Connect {
            keep_alive: 0,
            ..connect(Version::V5)
        };
        let mut client = Client::connected_as(silent, Settings::default());
        client.session.reading_paused(client.now);
        assert!(client.wait(1000 * SECOND).is_empty());
        match below {
            true => client.session.waits_for_carrier(client.now),
            false => assert!(client.session.waits_for_rest(1, client.now)),
        }
        client.session.resumed(client.now);
        assert_eq!(client.session.deadline(), Some(client.now + 120 * SECOND));
    }
}

/// A ping of WebSocket in two pieces becomes whole without a word to the session.
#[test]
fn the_clock_of_a_packet_begins_with_its_first_byte() {
    let mut client = Client::connected(Version::V5);
    let due = |client: &Client| client.session.deadline().map(|due| due - client.now);
    client.session.taken(client.now);
    client.session.waits_for_carrier(client.now);
    assert!(client.wait(50 * SECOND).is_empty());
    client.session.waits_for_carrier(client.now);
    client.session.taken(client.now);
    assert_eq!(due(&client), Some(70 * SECOND), "it is the same");
    assert!(client.session.waits_for_rest(1, client.now));
    assert!(client.wait(80 * SECOND).is_empty());
    client.session.taken(client.now);
    assert_eq!(due(&client), Some(40 * SECOND), "120 from the first byte");
    assert!(!client.session.waits_for_rest(2, client.now));
    assert_eq!(due(&client), Some(40 * SECOND));
}

/// Without keep alive nothing else would end who begins packets and does not go on.
#[test]
fn a_packet_that_has_begun_goes_on() {
    for version in VERSIONS {
        let silent = Connect {
            keep_alive: 0,
            ..connect(version)
        };
        let mut client = Client::connected_as(silent, Settings::default());
        let begun = |client: &mut Client, bytes| client.session.waits_for_rest(bytes, client.now);
        let due = |client: &Client| client.session.deadline().map(|due| due - client.now);
        assert_eq!(due(&client), None);
        begun(&mut client, 1);
        assert!(client.wait(119 * SECOND).is_empty());
        begun(&mut client, 1024);
        assert_eq!(due(&client), Some(SECOND), "not a KiB more");
        begun(&mut client, 1025);
        assert_eq!(due(&client), Some(120 * SECOND), "it goes on");
        assert!(client.wait(119 * SECOND).is_empty());
        assert!(client.send(&Packet::PingReq).is_empty());
        assert_eq!(due(&client), None, "it was whole");
        begun(&mut client, 1025);
        assert_eq!(due(&client), Some(120 * SECOND), "this is another");
        begun(&mut client, 0);
        assert_eq!(due(&client), None, "it is not waited for");
        begun(&mut client, 1);
        assert!(client.wait(119 * SECOND).is_empty());
        assert_eq!(end(&client.wait(SECOND)), (false, ReasonCode::QuotaExceeded));
        assert_eq!(client.session.deadline(), None);
    }
}

#[test]
fn the_longest_keep_alive_is_told_to_version_5() {
    let settings = Settings {
        keep_alive_max: Some(30 * SECOND),
        ..Settings::default()
    };
    for asked in [0, 31, 30] {
        let mut client = Client::fresh(Version::V5, settings);
        client.send(&Packet::Connect(Box::new(Connect {
            keep_alive: asked,
            ..connect(Version::V5)
        })));
        client.session.accept(Accepted::default(), client.now);
        let mqttbytes::v5::Packet::ConnAck(connack) = client.packet5() else {
            panic!()
        };
        assert_eq!(connack.properties.unwrap().server_keep_alive, (asked != 30).then_some(30));
        assert_eq!(client.session.deadline(), Some(client.now + 45 * SECOND));
    }
    let client = Client::connected_as(
        Connect {
            keep_alive: 0,
            ..connect(Version::V311)
        },
        settings,
    );
    assert_eq!(client.session.deadline(), None, "3.1.1 cannot be told");
}

/// [MQTT-3.14.4-3]
#[test]
fn only_a_normal_disconnect_removes_the_will() {
    for (reason, given) in [
        (ReasonCode::Success, false),
        (ReasonCode::DisconnectWithWillMessage, true),
        (ReasonCode::ImplementationSpecificError, true),
    ] {
        let mut client = with_will(Version::V5);
        let outputs = client.send(&disconnect(reason));
        assert_eq!(end(&outputs), (given, reason));
        assert_eq!(client.session.take_will().is_some(), given);
        assert!(client.received().is_empty());
    }
}

fn malformed() -> DecodeError {
    DecodeError {
        reason: ReasonCode::MalformedPacket,
        rule: "",
        detail: "bad flags",
    }
}

#[test]
fn every_abnormal_end_gives_the_will_once() {
    for version in VERSIONS {
        type Act = fn(&mut Client, DecodeError);
        let ends: [(&str, Act); 5] = [
            ("", |client, _| client.session.lost(client.now)),
            ("disconnect 0x8e", |client, _| client.session.take_over(client.now)),
            ("disconnect 0x8b", |client, _| client.session.shut_down(client.now)),
            ("disconnect 0x81", |client, error| client.session.malformed(error, client.now)),
            ("disconnect 0x8d", |client, _| {
                client.now += 90 * SECOND;
                client.session.tick(client.now);
            }),
        ];
        for (line, act) in ends {
            let mut client = with_will(version);
            act(&mut client, malformed());
            assert!(end(&client.outputs()).0);
            let told = client.received();
            assert_eq!(told.join(""), if version == Version::V5 { line } else { "" });
            act(&mut client, malformed());
            assert!(client.outputs().is_empty(), "the end comes once");
            assert!(client.received().is_empty());
        }
    }
}

/// A process that was paused asks first whose the session is.
#[test]
fn what_was_to_be_said_is_dropped_at_an_end_while_it_is_unknown_whose_the_session_is() {
    let answered = |asks: &dyn Fn(&mut Client)| {
        let mut client = Client::connected(Version::V5);
        client.send(&Packet::PingReq);
        asks(&mut client);
        client.session.take_over(client.now);
        client
    };
    let told = |asks: &dyn Fn(&mut Client)| answered(asks).received();
    assert_eq!(told(&|_| {}), ["pingresp", "disconnect 0x8e"]);
    assert_eq!(told(&|client| client.session.hush()), ["disconnect 0x8e"]);
    assert_eq!(
        told(&|client| {
            client.session.hush();
            client.session.speak();
        }),
        ["pingresp", "disconnect 0x8e"]
    );
    // A packet that has left in part cannot be followed by another.
    let mut client = answered(&|client| {
        client.session.outbox().advance(1);
        client.session.hush();
    });
    assert!(client.session.is_closed() && client.session.outbox().is_empty());
}

/// [MQTT-3.1.2-2]
#[test]
fn an_unknown_version_is_told_so_and_other_garbage_nothing() {
    let mut client = Client::fresh(Version::V311, Settings::default());
    let error = DecodeError {
        reason: ReasonCode::UnsupportedProtocolVersion,
        rule: "MQTT-3.1.2-2",
        detail: "level 6",
    };
    client.session.malformed(error, client.now);
    assert_eq!(client.received(), ["connack 0x01"]);

    let mut client = Client::fresh(Version::V311, Settings::default());
    client.session.malformed(
        DecodeError {
            reason: ReasonCode::MalformedPacket,
            ..error
        },
        client.now,
    );
    assert!(client.received().is_empty());
    assert_eq!(end(&client.outputs()), (false, ReasonCode::MalformedPacket));
}

#[test]
fn disconnect_may_not_raise_a_session_expiry_of_zero() {
    for (asked, given) in [(None, true), (Some(0), true), (Some(10), false)] {
        let mut connect = Connect {
            will: Some(will()),
            ..connect(Version::V5)
        };
        connect.properties.session_expiry_interval = asked;
        let mut client = Client::connected_as(connect, Settings::default());
        let Packet::Disconnect(mut raise) = disconnect(ReasonCode::Success) else {
            panic!()
        };
        raise.session_expiry_interval = Some(5);
        let outputs = client.send(&Packet::Disconnect(raise));
        assert_eq!(
            end(&outputs),
            (given, if given { ReasonCode::ProtocolError } else { ReasonCode::Success })
        );
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut client = Client::connected(Version::V5);
    let ticket = client.ticket(1, QoS::AtLeastOnce);
    client.send(&disconnect(ReasonCode::Success));
    client.session.answer(ticket, Answer::Acked, client.now);
    client.session.accept(Accepted::default(), client.now);
    assert!(client.send(&Packet::PingReq).is_empty());
    assert!(client.received().is_empty());
}

/// 1 h unless they say so, 2 h at most.
fn lasting() -> Settings {
    Settings {
        expiry: Some(Expiry { default: 3600, max: 7200 }),
        ..Settings::default()
    }
}

/// §3.1.2.11.2, §3.2.2.3.2
#[test]
fn the_session_expiry_is_bounded_and_told() {
    let cases = [
        (Version::V5, Some(100), 100, None),
        (Version::V5, Some(u32::MAX), 7200, Some(7200)),
        (Version::V5, None, 0, None),
        (Version::V5, Some(0), 0, None),
        (Version::V311, None, 3600, None),
    ];
    for (version, asked, kept, told) in cases {
        let mut client = Client::fresh(version, lasting());
        let mut connect = Connect {
            clean_start: false,
            ..connect(version)
        };
        connect.properties.session_expiry_interval = asked;
        client.send(&Packet::Connect(Box::new(connect)));
        assert_eq!(client.session.expiry(), kept, "{asked:?}");
        client.session.accept(Accepted::default(), client.now);
        if version == Version::V5 {
            let mqttbytes::v5::Packet::ConnAck(connack) = client.packet5() else {
                panic!()
            };
            assert_eq!(connack.properties.unwrap().session_expiry_interval, told, "{asked:?}");
        }
    }
    let clean = Client::connected_as(connect(Version::V311), lasting());
    assert_eq!(clean.session.expiry(), 0, "a clean session ends with its connection");
}

#[test]
fn a_session_that_goes_on_has_its_subscriptions() {
    let mut client = Client::fresh(Version::V311, lasting());
    client.send(&Packet::Connect(Box::new(Connect {
        clean_start: false,
        ..connect(Version::V311)
    })));
    let options = Options {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
        subscription_id: None,
    };
    let present = Some(Present {
        subscriptions: vec![("a/#".into(), options), ("b".into(), options)],
        ..Present::default()
    });
    let accepted = Accepted {
        present,
        ..Accepted::default()
    };
    client.session.accept(accepted, client.now);
    assert_eq!(client.bytes(), [0x20, 2, 1, 0], "session present");
    let keys: Vec<_> = client.session.subscriptions().iter().map(|s| (s.key, &*s.filter)).collect();
    assert_eq!(keys, [(SubscriptionKey(0), "a/#"), (SubscriptionKey(1), "b")]);
    let payload = bytes::Bytes::from_static(b"x");
    let taken = client
        .session
        .deliver(&message(&payload, QoS::ExactlyOnce, &[SubscriptionKey(1)]), client.now);
    assert_eq!(taken, Taken::Sent { qos: QoS::AtLeastOnce });
    client.received();
    let keys = client.subscribed(&[filter("c", QoS::AtMostOnce)], None);
    assert_eq!(keys.last(), Some(&SubscriptionKey(2)), "keys go on");
}

/// Each SUBSCRIBE is placed by itself, so that of two for one filter the later may be answered first: what it has asked for stays.
#[test]
fn of_two_subscribes_for_one_filter_the_later_counts_whichever_is_answered_first() {
    let asked = |client: &mut Client, packet, qos, id| {
        let outputs = client.send(&subscribe(packet, &[filter("a/#", qos)], Some(id)));
        let [Output::Subscribe { ticket }] = outputs[..] else { panic!() };
        ticket
    };
    let granted = |client: &mut Client, ticket, reason| {
        client.session.answer_subscribe(ticket, &[reason], client.now);
        client.received();
        let options = client.session.subscriptions()[0].options.unwrap();
        (options.qos, options.subscription_id)
    };
    let mut client = Client::connected(Version::V5);
    let first = asked(&mut client, 1, QoS::AtMostOnce, 1);
    let second = asked(&mut client, 2, QoS::ExactlyOnce, 2);
    let third = asked(&mut client, 3, QoS::AtLeastOnce, 3);
    let of_second = (QoS::ExactlyOnce, Some(2));
    assert_eq!(granted(&mut client, second, ReasonCode::GrantedQoS2), of_second);
    assert_eq!(granted(&mut client, first, ReasonCode::Success), of_second, "it is the earlier");
    assert_eq!(granted(&mut client, third, ReasonCode::QuotaExceeded), of_second, "it is refused");
    let fourth = asked(&mut client, 4, QoS::AtLeastOnce, 4);
    assert_eq!(granted(&mut client, fourth, ReasonCode::GrantedQoS1), (QoS::AtLeastOnce, Some(4)));
}

/// The later SUBSCRIBE has made another subscription.
#[test]
fn a_subscribe_that_an_unsubscribe_has_overtaken_changes_nothing_of_the_one_after_it() {
    let mut client = Client::connected(Version::V5);
    let ask = |client: &mut Client, packet, id| match client.send(&subscribe(packet, &[filter("a", QoS::ExactlyOnce)], Some(id)))[..] {
        [Output::Subscribe { ticket }] => ticket,
        _ => panic!(),
    };
    let first = ask(&mut client, 1, 1);
    client.send(&unsubscribe(2, &["a"]));
    let second = ask(&mut client, 3, 2);
    assert!(!client.session.grant(SubscriptionKey(0), first), "it is gone");
    for ticket in [second, first] {
        client.session.answer_subscribe(ticket, &[ReasonCode::GrantedQoS2], client.now);
        client.received();
    }
    let options: Vec<_> = client.session.subscriptions().iter().map(|s| s.options).collect();
    assert_eq!(options.len(), 1);
    assert_eq!(options[0].unwrap().subscription_id, Some(2));
}

#[test]
fn goodbye_says_how_long_the_session_stays() {
    for (expiry, kept) in [(Some(10), Some(10)), (Some(u32::MAX), Some(7200)), (None, None)] {
        let mut client = Client::fresh(Version::V5, lasting());
        let mut connect = connect(Version::V5);
        connect.properties.session_expiry_interval = Some(1);
        client.send(&Packet::Connect(Box::new(connect)));
        client.session.accept(Accepted::default(), client.now);
        assert_eq!(client.session.goodbye(), None);
        let Packet::Disconnect(packet) = disconnect(ReasonCode::Success) else {
            panic!()
        };
        client.send(&Packet::Disconnect(Disconnect {
            session_expiry_interval: expiry,
            ..packet
        }));
        let goodbye = Goodbye {
            expiry: kept,
            with_will: false,
        };
        assert_eq!(client.session.goodbye(), Some(goodbye));
    }
}
