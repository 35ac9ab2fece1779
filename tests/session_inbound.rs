//! Device to Kafka: answers and their order, QoS 2, receive maximum, aliases. Every script runs in each version it applies to.

mod session_client;

use mqtt_kafka_proxy::mqtt::{Connect, Packet, Publish, PublishProperties, QoS, ReasonCode, Version, Will};
use mqtt_kafka_proxy::session::{Answer, Close, Output, Settings};
use session_client::*;

fn small_window() -> Settings {
    Settings {
        receive_maximum: 2,
        ..Settings::default()
    }
}

fn closed(outputs: &[Output]) -> ReasonCode {
    match outputs.last() {
        Some(Output::Close(Close { reason, .. })) => *reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_puback_leaves_only_after_the_answer() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let ticket = client.ticket(7, QoS::AtLeastOnce);
        assert!(client.received().is_empty());
        client.session.answer(ticket, Answer::Acked, client.now);
        assert_eq!(client.received(), ["puback 7"]);
        client.session.answer(ticket, Answer::Acked, client.now);
        assert!(client.received().is_empty(), "a second answer is ignored");
    }
}

/// [MQTT-4.6.0-2]
#[test]
fn acknowledgements_leave_in_the_order_of_their_publishes() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let tickets = [1, 2, 3].map(|id| client.ticket(id, if id == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }));
        client.session.answer(tickets[2], Answer::Acked, client.now);
        client.session.answer(tickets[1], Answer::Acked, client.now);
        assert!(client.received().is_empty());
        client.session.answer(tickets[0], Answer::Acked, client.now);
        assert_eq!(client.received(), ["puback 1", "pubrec 2", "puback 3"]);
    }
}

#[test]
fn qos_0_has_no_ticket() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        assert_eq!(client.publish(publish(0, QoS::AtMostOnce)), [Output::Publish { ticket: None }]);
        assert!(client.received().is_empty());
    }
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-11]
#[test]
fn a_qos_2_message_is_produced_once_until_its_pubrel() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let ticket = client.ticket(5, QoS::ExactlyOnce);
        let again = mqtt_kafka_proxy::mqtt::Publish {
            dup: true,
            ..publish(5, QoS::ExactlyOnce)
        };
        assert!(client.publish(again).is_empty(), "its answer is on the way");
        client.session.answer(ticket, Answer::Acked, client.now);
        assert_eq!(client.received(), ["pubrec 5"]);
        assert!(client.publish(again).is_empty());
        assert_eq!(client.received(), ["pubrec 5"]);
        assert!(client.send(&Packet::PubRel(ack(5, ReasonCode::Success))).is_empty());
        assert_eq!(client.received(), ["pubcomp 5"]);
        client.ticket(5, QoS::ExactlyOnce);
    }
}

/// [MQTT-4.6.0-2] holds for a repeated PUBREC, too.
#[test]
fn a_repeated_pubrec_waits_its_turn() {
    let mut client = Client::connected(Version::V311);
    let first = client.ticket(1, QoS::ExactlyOnce);
    client.session.answer(first, Answer::Acked, client.now);
    client.received();
    let second = client.ticket(2, QoS::AtLeastOnce);
    client.publish(publish(1, QoS::ExactlyOnce));
    assert!(client.received().is_empty());
    client.session.answer(second, Answer::Acked, client.now);
    assert_eq!(client.received(), ["puback 2", "pubrec 1"]);
}

/// A repeats its QoS 2 message, then the first PUBREC reaches it: its PUBREL frees the id, which A uses for a message of QoS 1. A PUBREC for
/// that id would be an answer to the wrong message.
#[test]
fn a_repeated_pubrec_is_withdrawn_by_the_pubrel_that_overtakes_it() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let first = client.ticket(1, QoS::ExactlyOnce);
        client.session.answer(first, Answer::Acked, client.now);
        let second = client.ticket(2, QoS::AtLeastOnce);
        client.publish(publish(1, QoS::ExactlyOnce));
        client.received();
        client.send(&Packet::PubRel(ack(1, ReasonCode::Success)));
        let third = client.ticket(1, QoS::AtLeastOnce);
        client.session.answer(third, Answer::Acked, client.now);
        client.session.answer(second, Answer::Acked, client.now);
        assert_eq!(client.received(), ["pubcomp 1", "puback 2", "puback 1"]);
    }
}

#[test]
fn a_pubrel_of_an_unknown_id_is_answered() {
    for (version, line) in [(Version::V311, "pubcomp 9"), (Version::V5, "pubcomp 9 0x92")] {
        let mut client = Client::connected(version);
        assert!(client.send(&Packet::PubRel(ack(9, ReasonCode::Success))).is_empty());
        assert_eq!(client.received(), [line]);
    }
}

#[test]
fn a_pubrel_before_its_pubrec_is_a_protocol_error() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        client.ticket(9, QoS::ExactlyOnce);
        assert_eq!(
            closed(&client.send(&Packet::PubRel(ack(9, ReasonCode::Success)))),
            ReasonCode::ProtocolError
        );
    }
}

/// [MQTT-2.2.1-3]
#[test]
fn a_packet_id_in_use_may_not_name_another_message() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        client.ticket(4, QoS::AtLeastOnce);
        let again = mqtt_kafka_proxy::mqtt::Publish {
            dup: true,
            ..publish(4, QoS::AtLeastOnce)
        };
        assert!(client.publish(again).is_empty(), "the answer to the first serves both");
        assert_eq!(closed(&client.publish(publish(4, QoS::AtLeastOnce))), ReasonCode::ProtocolError);
    }
}

#[test]
fn refusals_have_a_reason_in_version_5_and_close_3() {
    let refused = Answer::Refused {
        reason: ReasonCode::QuotaExceeded,
        reason_string: Some("full"),
    };
    for (qos, line) in [(QoS::AtLeastOnce, "puback 1 0x97"), (QoS::ExactlyOnce, "pubrec 1 0x97")] {
        let mut client = Client::connected(Version::V5);
        let ticket = client.ticket(1, qos);
        client.session.answer(ticket, refused, client.now);
        assert_eq!(client.received(), [line]);
        client.ticket(1, qos);

        let mut client = Client::connected(Version::V311);
        let ticket = client.ticket(1, qos);
        client.session.answer(ticket, refused, client.now);
        assert_eq!(closed(&client.outputs()), ReasonCode::QuotaExceeded);
        assert!(client.received().is_empty());
    }
}

/// PUBACK has no 0x95 (§3.4.2.1).
#[test]
fn a_reason_that_puback_does_not_have_becomes_implementation_specific() {
    let mut client = Client::connected(Version::V5);
    let ticket = client.ticket(1, QoS::AtLeastOnce);
    client.session.answer(
        ticket,
        Answer::Refused {
            reason: ReasonCode::PacketTooLarge,
            reason_string: Some("too large"),
        },
        client.now,
    );
    let mqttbytes::v5::Packet::PubAck(puback) = client.packet5() else {
        panic!()
    };
    assert_eq!(puback.reason as u8, 0x83);
    assert_eq!(puback.properties.unwrap().reason_string.as_deref(), Some("too large"));
}

/// [MQTT-3.1.2-29]
#[test]
fn no_reason_string_for_who_does_not_want_it() {
    let mut connect = connect(Version::V5);
    connect.properties.request_problem_information = Some(false);
    let mut client = Client::connected_as(connect, Settings::default());
    let ticket = client.ticket(1, QoS::AtLeastOnce);
    client.session.answer(
        ticket,
        Answer::Refused {
            reason: ReasonCode::QuotaExceeded,
            reason_string: Some("full"),
        },
        client.now,
    );
    let mqttbytes::v5::Packet::PubAck(puback) = client.packet5() else {
        panic!()
    };
    assert!(puback.properties.is_none_or(|properties| properties.reason_string.is_none()));
}

#[test]
fn an_unknown_outcome_closes_all_but_qos_1_of_version_5() {
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = Client::connected(version);
            let ticket = client.ticket(1, qos);
            client.session.answer(ticket, Answer::Unknown, client.now);
            if version == Version::V5 && qos == QoS::AtLeastOnce {
                assert_eq!(client.received(), ["puback 1 0x83"]);
            } else {
                assert_eq!(closed(&client.outputs()), ReasonCode::ImplementationSpecificError);
                assert!(!client.received().iter().any(|line| line.starts_with("pub")));
            }
        }
    }
}

/// [MQTT-3.3.4-7]
#[test]
fn version_5_beyond_its_receive_maximum_is_told_0x93() {
    let mut client = Client::connected_as(connect(Version::V5), small_window());
    client.ticket(1, QoS::AtLeastOnce);
    let second = client.ticket(2, QoS::ExactlyOnce);
    client.publish(publish(0, QoS::AtMostOnce));
    assert_eq!(
        closed(&client.publish(publish(3, QoS::AtLeastOnce))),
        ReasonCode::ReceiveMaximumExceeded
    );
    assert_eq!(client.received(), ["disconnect 0x93"]);
    client.session.answer(second, Answer::Acked, client.now);
    assert!(client.received().is_empty(), "nothing after the end");
}

#[test]
fn version_3_is_left_unread_at_the_window_and_may_write_many_publishes_before_the_first_pubrel() {
    let mut client = Client::connected_as(connect(Version::V311), small_window());
    assert!(client.session.may_read());
    let tickets = [1, 2].map(|id| client.ticket(id, QoS::ExactlyOnce));
    assert!(!client.session.may_read());
    tickets
        .into_iter()
        .for_each(|ticket| client.session.answer(ticket, Answer::Acked, client.now));
    assert!(client.session.may_read(), "PUBRELs lie behind the PUBLISHes");
    // It was told no limit.
    for id in 3..=8192 {
        let ticket = client.ticket(id, QoS::ExactlyOnce);
        client.session.answer(ticket, Answer::Acked, client.now);
    }
    assert!(client.session.may_read());
    client.received();
    for id in 1..=8192 {
        assert_eq!(client.send(&Packet::PubRel(ack(id, ReasonCode::Success))), []);
    }
    assert_eq!(client.received().last().map(String::as_str), Some("pubcomp 8192"));
}

#[test]
fn of_version_3_no_more_packet_ids_are_open_than_memory_and_a_record_are_to_hold() {
    let clean = |settings| Client::connected_as(connect(Version::V311), settings);
    let stored = |settings| Client::stored(Version::V311, settings);
    for (receive_maximum, unstored, stored_most) in [(2, 8192, 1024), (300, 8192, 1200), (2100, 8400, 8400)] {
        let settings = Settings {
            receive_maximum,
            ..Settings::default()
        };
        for (mut client, most) in [(clean(settings), unstored), (stored(settings), stored_most)] {
            for id in 1..=most {
                let ticket = client.ticket(id, QoS::ExactlyOnce);
                client.session.answer(ticket, Answer::Acked, client.now);
            }
            let again = client.publish(publish(most, QoS::ExactlyOnce));
            assert_eq!(again, [], "one that is open comes again");
            let one_more = client.publish(publish(most + 1, QoS::ExactlyOnce));
            assert_eq!(closed(&one_more), ReasonCode::ReceiveMaximumExceeded);
        }
    }
}

#[test]
fn aliases_stand_for_topics() {
    let mut client = Client::connected(Version::V5);
    let aliased = |topic, alias| {
        let properties = PublishProperties {
            topic_alias: Some(alias),
            ..Default::default()
        };
        mqtt_kafka_proxy::mqtt::Publish {
            topic,
            properties,
            ..publish(0, QoS::AtMostOnce)
        }
    };
    client.publish(aliased("long/topic", 1));
    assert_eq!(client.session.resolved_topic(&aliased("long/topic", 1)), "long/topic");
    assert_eq!(client.publish(aliased("", 1)), [Output::Publish { ticket: None }]);
    assert_eq!(client.session.resolved_topic(&aliased("", 1)), "long/topic");
    assert_eq!(closed(&client.publish(aliased("", 2))), ReasonCode::ProtocolError);

    let mut client = Client::connected(Version::V5);
    assert_eq!(closed(&client.publish(aliased("t", 17))), ReasonCode::TopicAliasInvalid);
    assert_eq!(client.received(), ["disconnect 0x94"]);

    let (mut client, longest) = (Client::connected(Version::V5), "a".repeat(u16::MAX.into()));
    client.publish(aliased(&longest, 1));
    assert_eq!(closed(&client.publish(aliased(&longest, 2))), ReasonCode::QuotaExceeded);
    assert_eq!(client.received(), ["disconnect 0x97"]);
}

#[test]
fn a_retained_publish_is_refused_not_ignored() {
    for version in VERSIONS {
        let mut client = Client::connected(version);
        let retained = mqtt_kafka_proxy::mqtt::Publish {
            retain: true,
            ..publish(1, QoS::AtLeastOnce)
        };
        assert_eq!(closed(&client.publish(retained)), ReasonCode::RetainNotSupported);
        let told: &[&str] = if version == Version::V5 { &["disconnect 0x9a"] } else { &[] };
        assert_eq!(client.received(), told);
    }
}

#[test]
fn a_topic_over_the_limits_ends_the_connection() {
    let settings = || Settings {
        topic_levels: 3,
        topic_length: 9,
        ..Settings::default()
    };
    let slashes = "/".repeat(65_535);
    for version in VERSIONS {
        for (topic, fits) in [("aa/bb/ccc", true), ("a/b/c/d", false), ("aa/bb/cccc", false), (&*slashes, false)] {
            let mut client = Client::connected_as(connect(version), settings());
            let outputs = client.publish(Publish {
                topic,
                ..publish(0, QoS::AtMostOnce)
            });
            if fits {
                assert_eq!(outputs, [Output::Publish { ticket: None }], "{topic}");
            } else {
                assert_eq!(closed(&outputs), ReasonCode::TopicNameInvalid, "{} bytes", topic.len());
            }
            let mut client = Client::connected_as(connect(version), settings());
            let outputs = client.send(&subscribe(1, &[filter(topic, QoS::AtMostOnce)], None));
            let Some(Output::Subscribe { ticket }) = outputs.last() else {
                panic!("{outputs:?}")
            };
            client.session.answer_subscribe(*ticket, &[ReasonCode::Success], client.now);
            let refused = if version == Version::V5 { 0x8f } else { 0x80 };
            assert_eq!(client.bytes().last(), Some(&if fits { 0 } else { refused }), "{version:?}");
        }
        let mut client = Client::fresh(version, settings());
        let will = Will {
            topic: "a/b/c/d",
            ..will()
        };
        let outputs = client.send(&Packet::Connect(Box::new(Connect {
            will: Some(will),
            ..connect(version)
        })));
        assert_eq!(closed(&outputs), ReasonCode::TopicNameInvalid);
    }
}
