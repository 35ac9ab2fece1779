//! Kafka to device: subscriptions, deliveries, the send window, packet size, aliases.

mod session_client;

use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_kafka_proxy::mqtt::{Connect, Packet, QoS, ReasonCode, SubscribeFilter, Version};
use mqtt_kafka_proxy::session::{Close, Message, Output, Requested, Settings, SubscriptionKey, Taken};
use session_client::*;

fn closed(outputs: &[Output]) -> ReasonCode {
    match outputs.last() {
        Some(Output::Close(Close { reason, .. })) => *reason,
        other => panic!("{other:?}"),
    }
}

fn listening(connect: Connect<'_>, settings: Settings) -> (Client, Vec<SubscriptionKey>) {
    let mut client = Client::connected_as(connect, settings);
    let keys = client.subscribed(&[filter("a/#", QoS::ExactlyOnce)], None);
    (client, keys)
}

fn payload() -> Bytes {
    Bytes::from_static(b"payload")
}

#[test]
fn a_subscription_delivers_from_its_answer_on() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let [Output::Subscribe { ticket }] = client.send(&subscribe(3, &[filter("a/+", QoS::AtLeastOnce)], None))[..] else {
            panic!()
        };
        let [Requested::Subscribe { key, new: true }] = client.session.requested(ticket)[..] else {
            panic!()
        };
        let payload = payload();
        assert_eq!(
            client.session.deliver(&message(&payload, QoS::AtMostOnce, &[key]), client.now),
            Taken::NotSubscribed
        );
        client.session.answer_subscribe(ticket, &[ReasonCode::GrantedQoS2], client.now);
        let granted = if version == Version::V5 {
            "suback 3 [QoS1]"
        } else {
            "suback 3 [Success(AtLeastOnce)]"
        };
        assert_eq!(client.received(), [granted], "not above what was asked for");
        let taken = client.session.deliver(&message(&payload, QoS::ExactlyOnce, &[key]), client.now);
        assert_eq!(taken, Taken::Sent { qos: QoS::AtLeastOnce });
        assert_eq!(client.received(), ["publish 1 a/b q1"]);
    }
}

#[test]
fn refusals_by_the_relay() {
    for (version, line) in [
        (Version::V311, "suback 3 [Failure, Failure, Success(AtMostOnce)]"),
        (Version::V5, "suback 3 [QuotaExceeded, TopicFilterInvalid, QoS0]"),
    ] {
        let mut client = Client::connected(version);
        let filters = [
            filter("$share/g/a", QoS::AtMostOnce),
            filter("b", QoS::AtMostOnce),
            filter("c", QoS::AtMostOnce),
        ];
        let [Output::Subscribe { ticket }] = client.send(&subscribe(3, &filters, None))[..] else {
            panic!()
        };
        let answers = [ReasonCode::QuotaExceeded, ReasonCode::TopicFilterInvalid, ReasonCode::Success];
        client.session.answer_subscribe(ticket, &answers, client.now);
        assert_eq!(client.received(), [line]);
        let left: Vec<_> = client
            .session
            .subscriptions()
            .iter()
            .map(|subscription| &*subscription.filter)
            .collect();
        assert_eq!(left, ["c"]);
    }
}

/// Each filter looked for by itself, these would be some ten thousand million comparisons of texts: minutes, for a packet of a megabyte.
#[test]
fn very_many_filters_cost_what_they_are() {
    const MANY: usize = 100_000;
    let settings = Settings {
        subscriptions_maximum: MANY,
        ..Settings::default()
    };
    let began = Instant::now();
    let mut client = Client::connected_as(connect(Version::V5), settings);
    let names: Vec<String> = (0..MANY).map(|n| format!("{n:07}")).collect();
    let filters: Vec<_> = names.iter().map(|name| filter(name, QoS::AtMostOnce)).collect();
    // Twice: the second finds each of the first, and both are refused but for every tenth.
    let answers: Vec<_> = (0..MANY)
        .map(|n| [ReasonCode::NotAuthorized, ReasonCode::Success][usize::from(n % 10 == 0)])
        .collect();
    let tickets: Vec<_> = (1..=2).flat_map(|packet| client.send(&subscribe(packet, &filters, None))).collect();
    for output in &tickets {
        let Output::Subscribe { ticket } = output else {
            panic!("{output:?}")
        };
        client.session.answer_subscribe(*ticket, &answers, client.now);
    }
    assert_eq!(tickets.len(), 2);
    assert_eq!(client.session.subscriptions().len(), MANY / 10);
    // Twice as well, in one packet.
    let names: Vec<_> = names.iter().map(String::as_str).step_by(2).flat_map(|name| [name, name]).collect();
    let [Output::Unsubscribe { ticket }] = client.send(&unsubscribe(3, &names))[..] else {
        panic!()
    };
    let removed = |requested: &&Requested| matches!(requested, Requested::Removed { .. });
    assert_eq!(client.session.requested(ticket).iter().filter(removed).count(), MANY / 10);
    assert_eq!(client.session.requested(ticket)[..4].iter().filter(removed).count(), 1);
    assert!(client.session.subscriptions().is_empty());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// [MQTT-3.8.3-4]
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut client = Client::connected(Version::V5);
    let shared = SubscribeFilter {
        no_local: true,
        ..filter("$share/g/a", QoS::AtMostOnce)
    };
    assert_eq!(closed(&client.send(&subscribe(1, &[shared], None))), ReasonCode::ProtocolError);
}

/// [MQTT-3.8.4-3]
#[test]
fn a_second_subscribe_replaces_the_options_and_keeps_the_key() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let first = client.subscribed(&[filter("a/#", QoS::AtLeastOnce)], None);
        let second = client.subscribed(&[filter("a/#", QoS::AtMostOnce)], None);
        assert_eq!(first, second);
        let payload = payload();
        let taken = client.session.deliver(&message(&payload, QoS::AtLeastOnce, &first), client.now);
        assert_eq!(taken, Taken::Sent { qos: QoS::AtMostOnce });
    }
}

/// [MQTT-3.10.4-1], [MQTT-3.11.3-2]
#[test]
fn unsubscribe_takes_out_what_is_there() {
    for (version, line) in [
        (Version::V311, "unsuback 4"),
        (Version::V5, "unsuback 4 [Success, NoSubscriptionExisted]"),
    ] {
        let mut client = Client::connected(version);
        let keys = client.subscribed(&[filter("a/#", QoS::AtLeastOnce)], None);
        let [Output::Unsubscribe { ticket }] = client.send(&unsubscribe(4, &["a/#", "other"]))[..] else {
            panic!()
        };
        assert_eq!(
            client.session.requested(ticket),
            [Requested::Removed { key: keys[0] }, Requested::NotFound]
        );
        let payload = payload();
        assert_eq!(
            client.session.deliver(&message(&payload, QoS::AtLeastOnce, &keys), client.now),
            Taken::NotSubscribed
        );
        client.session.answer_unsubscribe(ticket, client.now);
        assert_eq!(client.received(), [line]);
        assert_ne!(
            client.subscribed(&[filter("a/#", QoS::AtLeastOnce)], None),
            keys,
            "a key is never used again"
        );
    }
}

#[test]
fn an_unsubscribe_that_overtakes_the_answer_wins() {
    let mut client = Client::connected(Version::V5);
    let [Output::Subscribe { ticket }] = client.send(&subscribe(1, &[filter("a", QoS::AtMostOnce)], None))[..] else {
        panic!()
    };
    let [Output::Unsubscribe { ticket: gone }] = client.send(&unsubscribe(2, &["a"]))[..] else {
        panic!()
    };
    client.session.answer_unsubscribe(gone, client.now);
    client.session.answer_subscribe(ticket, &[ReasonCode::Success], client.now);
    assert_eq!(client.received(), ["unsuback 2 [Success]", "suback 1 [QoS0]"]);
    assert!(client.session.subscriptions().is_empty());
}

#[test]
fn qos_1_and_2_settle_with_their_acknowledgements() {
    for version in VERSIONS {
        let (mut client, keys) = listening(connect(version), Settings::default());
        let payload = payload();
        for (token, qos) in [(11, QoS::AtLeastOnce), (12, QoS::ExactlyOnce)] {
            assert_eq!(
                client.session.deliver(
                    &Message {
                        token,
                        ..message(&payload, qos, &keys)
                    },
                    client.now
                ),
                Taken::Sent { qos }
            );
        }
        assert_eq!(client.received(), ["publish 1 a/b q1", "publish 2 a/b q2"]);
        assert_eq!(
            client.send(&Packet::PubAck(ack(1, ReasonCode::Success))),
            [Output::Settled { token: 11 }]
        );
        assert!(client.send(&Packet::PubRec(ack(2, ReasonCode::Success))).is_empty());
        assert_eq!(client.received(), ["pubrel 2"]);
        assert!(client.send(&Packet::PubRec(ack(2, ReasonCode::Success))).is_empty());
        assert_eq!(client.received(), ["pubrel 2"], "asked again, told again");
        assert_eq!(
            client.send(&Packet::PubComp(ack(2, ReasonCode::Success))),
            [Output::Settled { token: 12 }]
        );
        assert!(client.received().is_empty());
    }
}

/// §4.3.3
#[test]
fn an_error_in_pubrec_settles() {
    let (mut client, keys) = listening(connect(Version::V5), Settings::default());
    let payload = payload();
    client.session.deliver(
        &Message {
            token: 5,
            ..message(&payload, QoS::ExactlyOnce, &keys)
        },
        client.now,
    );
    client.received();
    assert_eq!(
        client.send(&Packet::PubRec(ack(1, ReasonCode::QuotaExceeded))),
        [Output::Settled { token: 5 }]
    );
    assert!(client.received().is_empty());
    assert!(client.send(&Packet::PubRec(ack(1, ReasonCode::Success))).is_empty());
    assert_eq!(client.received(), ["pubrel 1 0x92"]);
}

#[test]
fn acknowledgements_of_the_wrong_kind_are_protocol_errors_and_stray_ones_nothing() {
    for version in VERSIONS {
        type Make = fn(mqtt_kafka_proxy::mqtt::Ack<'static>) -> Packet<'static>;
        let wrong: [(QoS, Make); 4] = [
            (QoS::AtLeastOnce, Packet::PubRec),
            (QoS::AtLeastOnce, Packet::PubComp),
            (QoS::ExactlyOnce, Packet::PubAck),
            (QoS::ExactlyOnce, Packet::PubComp),
        ];
        for (qos, packet) in wrong {
            let (mut client, keys) = listening(connect(version), Settings::default());
            let payload = payload();
            client.session.deliver(&message(&payload, qos, &keys), client.now);
            assert!(client.send(&Packet::PubAck(ack(99, ReasonCode::Success))).is_empty());
            assert!(client.send(&Packet::PubComp(ack(99, ReasonCode::Success))).is_empty());
            assert_eq!(
                closed(&client.send(&packet(ack(1, ReasonCode::Success)))),
                ReasonCode::ProtocolError
            );
        }
    }
}

/// [MQTT-3.3.4-9]
#[test]
fn the_window_is_the_clients_receive_maximum() {
    let mut connect = connect(Version::V5);
    connect.properties.receive_maximum = Some(2);
    let (mut client, keys) = listening(connect, Settings::default());
    let payload = payload();
    let next = |client: &mut Client, qos| client.session.deliver(&message(&payload, qos, &keys), client.now);
    assert_eq!(client.session.window(), 2);
    next(&mut client, QoS::AtLeastOnce);
    next(&mut client, QoS::ExactlyOnce);
    assert_eq!(next(&mut client, QoS::AtLeastOnce), Taken::WindowFull);
    assert_eq!(next(&mut client, QoS::AtMostOnce), Taken::Sent { qos: QoS::AtMostOnce });
    assert!(
        client.send(&Packet::PubRec(ack(2, ReasonCode::Success))).is_empty(),
        "open until PUBCOMP"
    );
    assert_eq!(client.send(&Packet::PubComp(ack(2, ReasonCode::Success))), [Output::WindowOpen]);
    assert_eq!(next(&mut client, QoS::AtLeastOnce), Taken::Sent { qos: QoS::AtLeastOnce });
    assert!(
        client.send(&Packet::PubAck(ack(1, ReasonCode::Success))).is_empty(),
        "nobody was turned away since"
    );
}

#[test]
fn a_socket_that_is_behind_gets_no_more() {
    let settings = Settings {
        outbound_queue: 10,
        ..Settings::default()
    };
    let (mut client, keys) = listening(connect(Version::V311), settings);
    let payload = payload();
    client.session.deliver(&message(&payload, QoS::AtMostOnce, &keys), client.now);
    assert_eq!(
        client.session.deliver(&message(&payload, QoS::AtMostOnce, &keys), client.now),
        Taken::Dropped
    );
    assert_eq!(
        client.session.deliver(&message(&payload, QoS::AtLeastOnce, &keys), client.now),
        Taken::OutboxFull
    );
    client.received();
    assert_eq!(
        client.session.deliver(&message(&payload, QoS::AtLeastOnce, &keys), client.now),
        Taken::Sent { qos: QoS::AtLeastOnce }
    );
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
#[test]
fn a_message_beyond_the_clients_packet_size_is_left_out() {
    let mut connect = connect(Version::V5);
    connect.properties.maximum_packet_size = Some(100);
    connect.properties.topic_alias_maximum = Some(4);
    let (mut client, keys) = listening(connect, Settings::default());
    // Fixed header 2, topic 5, packet id 2, property length 1.
    let (fits, beyond) = (Bytes::from(vec![0; 90]), Bytes::from(vec![0; 91]));
    let long_topic = |payload| Message {
        topic: "a/b",
        ..message(payload, QoS::AtLeastOnce, &keys)
    };
    assert_eq!(client.session.deliver(&long_topic(&beyond), client.now), Taken::TooLarge);
    assert!(client.bytes().is_empty());
    assert_eq!(client.session.window(), 1024, "it counts as settled");
    assert!(matches!(client.session.deliver(&long_topic(&fits), client.now), Taken::Sent { .. }));
    assert_eq!(client.bytes().len(), 100);
    // The alias of a longer topic would need three bytes more than there are: it goes without.
    let fits = Bytes::from(vec![0; 88]);
    let message = Message {
        topic: "a/bcd",
        ..message(&fits, QoS::AtLeastOnce, &keys)
    };
    assert!(matches!(client.session.deliver(&message, client.now), Taken::Sent { .. }));
    assert_eq!(client.received(), ["publish 3 a/bcd q1"]);
}

/// [MQTT-3.1.2-24]
#[test]
fn suback_beyond_the_clients_packet_size_ends_the_session() {
    let mut connect = connect(Version::V5);
    connect.properties.maximum_packet_size = Some(60);
    let mut client = Client::connected_as(connect, Settings::default());
    let names: Vec<String> = (0..60).map(|n| format!("t/{n}")).collect();
    let filters: Vec<_> = names.iter().map(|name| filter(name, QoS::AtMostOnce)).collect();
    let [Output::Subscribe { ticket }] = client.send(&subscribe(1, &filters, None))[..] else {
        panic!()
    };
    client.session.answer_subscribe(ticket, &[ReasonCode::Success; 60], client.now);
    assert_eq!(closed(&client.outputs()), ReasonCode::PacketTooLarge);
    assert!(client.bytes().len() <= 60);
}

#[test]
fn aliases_are_taught_once_and_bounded() {
    let mut connect = connect(Version::V5);
    connect.properties.topic_alias_maximum = Some(1);
    let (mut client, keys) = listening(connect, Settings::default());
    let payload = payload();
    for topic in ["topic/1", "topic/2", "topic/1", "topic/2"] {
        client.session.deliver(
            &Message {
                topic,
                ..message(&payload, QoS::AtMostOnce, &keys)
            },
            client.now,
        );
    }
    assert_eq!(
        client.received(),
        [
            "publish 0 topic/1 q0 alias1",
            "publish 0 topic/2 q0",
            "publish 0  q0 alias1",
            "publish 0 topic/2 q0"
        ]
    );
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3]
#[test]
fn overlapping_subscriptions_get_one_copy_with_all_identifiers() {
    let mut client = Client::connected(Version::V5);
    client.subscribed(&[filter("a/#", QoS::AtMostOnce)], Some(7));
    client.subscribed(&[filter("+/b", QoS::AtLeastOnce)], Some(300));
    let keys = client.subscribed(&[filter("a/b", QoS::AtMostOnce)], None);
    let payload = payload();
    client.session.deliver(&message(&payload, QoS::ExactlyOnce, &keys), client.now);
    assert_eq!(client.received(), ["publish 1 a/b q1 sub7 sub300"]);
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_hides_the_clients_own_messages() {
    let mut client = Client::connected(Version::V5);
    let keys = client.subscribed(
        &[SubscribeFilter {
            no_local: true,
            ..filter("a/b", QoS::AtMostOnce)
        }],
        None,
    );
    let payload = payload();
    let own = Message {
        publisher: Some("device"),
        ..message(&payload, QoS::AtMostOnce, &keys)
    };
    assert_eq!(client.session.deliver(&own, client.now), Taken::NoLocal);
    let foreign = Message {
        publisher: Some("other"),
        ..own
    };
    assert_eq!(client.session.deliver(&foreign, client.now), Taken::Sent { qos: QoS::AtMostOnce });
    let keys = client.subscribed(&[filter("a/#", QoS::AtMostOnce)], None);
    let own = Message {
        subscriptions: &keys,
        ..own
    };
    assert_eq!(
        client.session.deliver(&own, client.now),
        Taken::Sent { qos: QoS::AtMostOnce },
        "another subscription wants it"
    );
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13]
#[test]
fn the_retain_flag_stays_for_who_asked() {
    for (retain_as_published, line) in [(false, "publish 0 a/b q0"), (true, "publish 0 a/b q0 retain")] {
        let mut client = Client::connected(Version::V5);
        let keys = client.subscribed(
            &[SubscribeFilter {
                retain_as_published,
                ..filter("a/b", QoS::AtMostOnce)
            }],
            None,
        );
        let payload = payload();
        client.session.deliver(
            &Message {
                retain: true,
                ..message(&payload, QoS::AtMostOnce, &keys)
            },
            client.now,
        );
        assert_eq!(client.received(), [line]);
    }
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
#[test]
fn expiry_travels_and_ends_a_message() {
    let (mut client, keys) = listening(connect(Version::V5), Settings::default());
    let payload = payload();
    let lasting = Message {
        message_expiry_interval: Some(9),
        ..message(&payload, QoS::AtMostOnce, &keys)
    };
    assert_eq!(
        client.session.deliver(
            &Message {
                message_expiry_interval: Some(0),
                ..lasting
            },
            client.now
        ),
        Taken::Expired
    );
    client.session.deliver(&lasting, client.now);
    let mqttbytes::v5::Packet::Publish(publish) = client.packet5() else {
        panic!()
    };
    assert_eq!(publish.properties.unwrap().message_expiry_interval, Some(9));
}

/// [MQTT-3.3.2-6]: the time for which a QoS 2 message of a stored session waits for its permission counts.
#[test]
fn expiry_goes_on_while_a_message_waits_to_be_written_down() {
    let mut client = Client::stored(Version::V5, Settings::default());
    let keys = client.subscribed(&[filter("a/b", QoS::ExactlyOnce)], Some(300));
    let payload = payload();
    for (waits, left) in [(0, Some(9)), (4_900, Some(5)), (60_000, Some(1))] {
        let lasting = Message {
            message_expiry_interval: Some(9),
            shared_properties: &[0x03, 0x00, 0x01, b't'],
            ..message(&payload, QoS::ExactlyOnce, &keys)
        };
        assert_eq!(client.session.deliver_stored(&lasting, client.now), Taken::Asked);
        let packet = id(client.session.last_packet_id());
        client.now += Duration::from_millis(waits);
        client.session.permit(packet, client.now);
        let mqttbytes::v5::Packet::Publish(publish) = client.packet5() else {
            panic!()
        };
        let properties = publish.properties.unwrap();
        assert_eq!(properties.message_expiry_interval, left, "after {waits} ms");
        assert_eq!(properties.subscription_identifiers, [300]);
        assert_eq!(properties.content_type.as_deref(), Some("t"));
    }
    for version in VERSIONS {
        let mut client = Client::stored(version, Settings::default());
        let keys = client.subscribed(&[filter("a/b", QoS::ExactlyOnce)], None);
        let message = Message {
            message_expiry_interval: (version != Version::V5).then_some(9),
            ..message(&payload, QoS::ExactlyOnce, &keys)
        };
        assert_eq!(client.session.deliver_stored(&message, client.now), Taken::Asked);
        client.now += Duration::from_secs(4);
        client.session.permit(id(1), client.now);
        assert_eq!(client.received(), ["publish 1 a/b q2"], "no expiry, nothing to count");
    }
}

/// A packet costs no more than its bytes: what it may ask for is bounded, also where it asks for the same again and again.
#[test]
fn the_filters_of_one_packet_are_bounded() {
    let mut client = Client::connected(Version::V5);
    let filters = vec![filter("a", QoS::AtMostOnce); 1002];
    let [Output::Subscribe { ticket }] = client.send(&subscribe(1, &filters, None))[..] else {
        panic!()
    };
    let requested = client.session.requested(ticket);
    // Of those beyond their number is kept, and nothing else.
    assert_eq!((requested.len(), client.session.asked_options(ticket).len()), (1000, 1000));
    assert_eq!(client.session.beyond(ticket), 2);
    let refused = Requested::Refused(ReasonCode::QuotaExceeded);
    assert!(requested.iter().all(|requested| *requested != refused));
    client
        .session
        .answer_subscribe(ticket, &vec![ReasonCode::Success; 1000], client.now);
    let granted = "QoS0, ".repeat(1000);
    assert_eq!(client.received(), [format!("suback 1 [{granted}QuotaExceeded, QuotaExceeded]")]);

    assert!(client.send(&unsubscribe(2, &vec!["b"; 1000])).len() == 1);
    assert_eq!(closed(&client.send(&unsubscribe(3, &vec!["b"; 1001]))), ReasonCode::QuotaExceeded);
}

/// A thousand filters of the longest kind would be 64 MB.
#[test]
fn the_filters_of_a_client_are_bounded_together() {
    let mut client = Client::connected(Version::V5);
    let refused = Requested::Refused(ReasonCode::QuotaExceeded);
    let ask = |client: &mut Client, packet_id: u16, filters: &[String], answers: &[ReasonCode]| {
        let filters: Vec<_> = filters.iter().map(|name| filter(name, QoS::AtMostOnce)).collect();
        let [Output::Subscribe { ticket }] = client.send(&subscribe(packet_id, &filters, None))[..] else {
            panic!()
        };
        let taken = client.session.requested(ticket).iter().filter(|r| **r != refused).count();
        client.session.answer_subscribe(ticket, answers, client.now);
        client.bytes();
        taken
    };
    // 256 bytes for each of a thousand subscriptions.
    let long: Vec<String> = (0..10).map(|n| format!("{n}{}", "x".repeat(63_999))).collect();
    assert_eq!(ask(&mut client, 1, &long, &[ReasonCode::Success; 10]), 4);
    assert_eq!(ask(&mut client, 2, &long[..1], &[ReasonCode::Success]), 1, "it is there already");
    assert_eq!(ask(&mut client, 3, &["y".to_owned()], &[ReasonCode::NotAuthorized]), 0);
    client.send(&unsubscribe(4, &[&long[0]]));
    assert_eq!(
        ask(&mut client, 5, &["y".to_owned(), long[4].clone()], &[ReasonCode::NotAuthorized; 2]),
        1
    );
    assert_eq!(
        ask(&mut client, 6, &long[4..5], &[ReasonCode::Success]),
        1,
        "what was refused takes no room"
    );
}

#[test]
fn unanswered_subscribes_are_bounded() {
    let mut client = Client::connected(Version::V311);
    for _ in 0..16 {
        assert!(client.session.may_read());
        client.send(&subscribe(1, &[filter("a", QoS::AtMostOnce)], None));
    }
    assert!(!client.session.may_read());
    assert_eq!(closed(&client.send(&unsubscribe(1, &["a"]))), ReasonCode::MessageRateTooHigh);
}

/// [MQTT-2.2.1-4]
#[test]
fn packet_ids_wrap_around_those_in_use() {
    let (mut client, keys) = listening(connect(Version::V311), Settings::default());
    let payload = payload();
    let held = client.session.deliver(&message(&payload, QoS::AtLeastOnce, &keys), client.now);
    assert_eq!(held, Taken::Sent { qos: QoS::AtLeastOnce });
    for n in 2..=65_535 {
        client.session.deliver(&message(&payload, QoS::AtLeastOnce, &keys), client.now);
        client.bytes();
        client.send(&Packet::PubAck(ack(n, ReasonCode::Success)));
    }
    client.session.deliver(&message(&payload, QoS::AtLeastOnce, &keys), client.now);
    assert_eq!(client.received(), ["publish 2 a/b q1"], "neither 0 nor 1");
}
