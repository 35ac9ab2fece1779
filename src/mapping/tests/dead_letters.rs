//! Messages that a rule cannot map, as records for its dead letter topic.

use super::*;
use crate::mqtt::PayloadFormat;

fn buries(spec: RuleSpec) -> RuleSpec {
    RuleSpec {
        on_error: Some(OnError::DeadLetter),
        dead_letter: Some("dead".into()),
        ..spec
    }
}

/// The headers of the dead letter that the first refusal of a message makes, with key and value.
fn letter(set: &RuleSet, packet: &Publish<'_>) -> (String, Vec<u8>, Vec<(String, String)>) {
    let inbound = inbound(packet);
    let mut draft = Draft::new();
    set.route(&inbound, &mut draft).unwrap();
    let refusal = draft.dead_letters()[0];
    let letter = DeadLetter::copy(set, refusal.rule, &inbound, None);
    assert_eq!(letter.rule(), refusal.rule);
    let fields = letter.fields(refusal.into());
    assert_eq!(fields.timestamp, 7);
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let headers = fields.headers.map(|(name, value)| (name.to_owned(), text(value))).collect();
    (text(fields.key), fields.value.unwrap().to_vec(), headers)
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn a_dead_letter_has_all_of_its_message_and_the_reason() {
    let set = compile(vec![buries(with_headers(
        spec("strict", "a/{x}", "t", Some("{payload.id}")),
        &[("x", "{x}")],
    ))]);
    let mut packet = publish("a/b", b"\xffnot json");
    let plain = [
        ("__connect.errors.connector.name", "strict"),
        ("mqtt.topic", "a/b"),
        ("mqtt.client", "c1"),
        ("mqtt.qos", "1"),
    ];
    let why = [
        ("__connect.errors.stage", "TRANSFORMATION"),
        ("__connect.errors.exception.message", "not_json"),
    ];
    let (key, value, headers) = letter(&set, &packet);
    assert_eq!((key.as_str(), value.as_slice()), ("a/b", &b"\xffnot json"[..]));
    assert_eq!(headers, owned(&[&plain[..], &why].concat()));

    // A device cannot forge what the proxy says, nor does it lose what it says itself.
    let block = user(&[
        ("unit", "C"),
        ("__connect.errors.stage", "NONE"),
        ("mqtt.topic", "z"),
        ("x", "y"),
        ("unit", "F"),
    ]);
    packet.retain = true;
    packet.qos = QoS::ExactlyOnce;
    packet.properties = PublishProperties {
        user: crate::mqtt::properties::UserProperties::from_block(&block),
        message_expiry_interval: Some(60),
        content_type: Some("json"),
        payload_format: Some(PayloadFormat::Utf8),
        response_topic: Some("answers"),
        correlation_data: Some(b"7"),
        ..PublishProperties::default()
    };
    let said = [
        ("__connect.errors.connector.name", "strict"),
        ("mqtt.topic", "a/b"),
        ("mqtt.client", "c1"),
        ("mqtt.qos", "2"),
        ("mqtt.retain", "1"),
        ("mqtt.expiry", "60"),
        ("mqtt.content-type", "json"),
        ("mqtt.payload-format", "1"),
        ("mqtt.response-topic", "answers"),
        ("mqtt.correlation-data", "7"),
        ("unit", "C"),
        ("mqtt.user.__connect.errors.stage", "NONE"),
        ("mqtt.user.mqtt.topic", "z"),
        ("x", "y"),
        ("unit", "F"),
    ];
    assert_eq!(letter(&set, &packet).2, owned(&[&said[..], &why].concat()));
}

#[test]
fn what_kafka_refuses_names_where_it_should_have_gone() {
    let mut rule = buries(spec("a", "a", "t", None));
    rule.kafka.client_header = Some(false);
    let set = compile(vec![rule]);
    let packet = publish("a", b"");
    let letter = DeadLetter::copy(&set, RuleId(0), &inbound(&packet), Some("t"));
    let (stage, why) = (Stage::Produce, "MESSAGE_TOO_LARGE");
    let fields = letter.fields(Failure { stage, why });
    let named: Vec<_> = fields
        .headers
        .map(|(name, value)| (name, std::str::from_utf8(value.unwrap()).unwrap()))
        .collect();
    let expected = [
        ("__connect.errors.topic", "t"),
        ("__connect.errors.connector.name", "a"),
        ("mqtt.topic", "a"),
        ("mqtt.qos", "1"),
        ("__connect.errors.stage", "KAFKA_PRODUCE"),
        ("__connect.errors.exception.message", why),
    ];
    assert_eq!(named, expected);
    assert!(letter.weight() > named.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() - stage_len());
}

/// Of the two headers that come with the reason.
fn stage_len() -> usize {
    [
        "__connect.errors.stage",
        "KAFKA_PRODUCE",
        "__connect.errors.exception.message",
        "MESSAGE_TOO_LARGE",
    ]
    .map(str::len)
    .iter()
    .sum()
}

#[test]
fn each_rule_of_a_message_decides_for_itself_and_a_rejection_is_for_all() {
    let strict = |name: &str| spec(name, "a/#", "t", Some("{payload.id}"));
    let plain = || also(spec("plain", "a/#", "u", None));
    let route = |specs: Vec<RuleSpec>| {
        let set = compile(specs);
        let (packet, mut draft) = (publish("a/b", b"x"), Draft::new());
        let routed = set.route(&inbound(&packet), &mut draft);
        routed.map(|()| (draft.len(), draft.skipped().len(), draft.dead_letters().len()))
    };
    assert_eq!(route(vec![buries(strict("one")), plain()]), Ok((1, 0, 1)));
    let skips = RuleSpec {
        on_error: Some(OnError::Skip),
        ..also(strict("two"))
    };
    assert_eq!(route(vec![buries(strict("one")), skips, plain()]), Ok((1, 1, 1)));
    assert!(matches!(route(vec![buries(strict("one")), also(strict("two"))]), Err(NoRoute::Refused(refusal)) if refusal.rule == RuleId(1)));
}

#[test]
fn dead_letters_have_a_topic_that_no_rule_writes_to() {
    let faults = |specs| RuleSet::compile(specs, Unmapped::Reject).unwrap_err();
    let named = |topic: &str| RuleSpec {
        dead_letter: Some(topic.into()),
        ..buries(spec("a", "a", "t", None))
    };
    for illegal in ["", "a b", "..", "dead-{x}"] {
        let found = faults(vec![named(illegal)]);
        assert_eq!((found.len(), found[0].field), (1, Field::DeadLetter), "{illegal}");
    }
    for writer in [
        spec("w", "w", "dead", None),
        spec("w", "w/{x}/#", "de{x}", None),
        also(spec("w", "w", "dead", None)),
    ] {
        let found = faults(vec![writer, buries(spec("a", "a", "t", None))]);
        assert_eq!((found.len(), found[0].rule, found[0].field), (1, 1, Field::DeadLetter));
        assert!(found[0].message.contains("written by rule `w`"), "{found:?}");
    }
    assert_eq!(faults(vec![named("t")])[0].message, "`t` is written by rule `a`, too");
    let reads = subscribe("watch", "dead/{key#}", "dead");
    compile(vec![buries(spec("a", "a", "t", None)), buries(spec("b", "b", "t", None)), reads]);
    let only_reads = RuleSpec {
        direction: Direction::Subscribe,
        ..buries(spec("a", "a", "t", None))
    };
    assert_eq!(faults(vec![only_reads])[0].field, Field::OnError);
}
