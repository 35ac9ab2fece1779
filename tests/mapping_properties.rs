//! Properties of the mapping over random rules, topics and records: what goes in comes back, the rule is the right
//! one, and nothing panics.

#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

use mqtt_kafka_proxy::mapping::{
    Direction, Draft, Field, Format, Inbound, KafkaSpec, LocateScratch, Located, Made, PartitionSpec, Restored, RuleId, RuleSet, RuleSpec,
    Sample, SamplePacket, Stored, Unmapped, ValueSpec, Verdict,
};
use mqtt_kafka_proxy::mqtt::properties::{PayloadFormat, UserProperties};
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::Value as Json;
use std::cell::Cell;

/// The matching of MQTT §4.7, level by level, without a trie.
fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    if topic[0].starts_with('$') && filter[0].starts_with(['{', '+', '#']) && !filter[0].starts_with("{{") {
        return false;
    }
    for (i, level) in filter.iter().enumerate() {
        match *level {
            "#" | "{r#}" => return true,
            "{{" if topic.get(i) == Some(&"{") => {}
            "{{" => return false,
            level if i < topic.len() && (level == topic[i] || level == "+" || level.starts_with('{')) => {}
            _ => return false,
        }
    }
    filter.len() == topic.len()
}

fn filter() -> impl Strategy<Value = String> {
    let level = || select(vec!["a", "b", "ü", "{{", "", "+", "{x}", "{y}", "$s"]);
    (prop::collection::vec(level(), 1..4), select(vec!["", "", "/#", "/{r#}"])).prop_map(|(levels, tail)| levels.join("/") + tail)
}

fn template() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "-",
        "/",
        "k",
        "{{",
        "é",
        "{x}",
        "{y}",
        "{r}",
        "{client}",
        "{identity}",
        "{now}",
    ]);
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// An expression that takes what this filter takes; the filter stays in the rule, for these tests to look at.
fn expression(filter: &str) -> String {
    let level = |level: &str| match level {
        "+" => "[^/]*".to_owned(),
        "{{" => r"\{".to_owned(),
        capture if capture.starts_with('{') => capture.replace('{', "(?<").replace('}', ">[^/]*)"),
        literal => literal.replace('$', r"\$"),
    };
    let (levels, tail) = match (filter.strip_suffix("/#"), filter.strip_suffix("/{r#}")) {
        (Some(levels), _) => (levels, "(?:/.*)?"),
        (_, Some(levels)) => (levels, "(?:/(?<r>.*))?"),
        _ => (filter, ""),
    };
    levels.split('/').map(level).collect::<Vec<_>>().join("/") + tail
}

/// A rule that may be wrong in many ways; its filter is one, or written as an expression. Half of them have a header that holds every capture of the filter.
fn rule() -> impl Strategy<Value = RuleSpec> {
    let topic = select(vec!["t", "t", "u", "t-{x}", "{x}.{y}"]);
    let parts = (
        filter(),
        topic,
        option::of(template()),
        option::of(template()),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    parts.prop_map(|(mqtt, topic, key, header, all, client_header, regex)| {
        let mut headers: Vec<(String, String)> = header.map(|value| ("h".into(), value)).into_iter().collect();
        if all {
            let used: Vec<&str> = ["{x}", "{y}", "{r}"]
                .into_iter()
                .filter(|name| mqtt.contains(&name.replace("{r}", "{r#}")))
                .collect();
            headers.push(("all".into(), used.join("/")));
        }
        let kafka = KafkaSpec {
            topic: topic.into(),
            key,
            headers,
            client_header: Some(client_header),
            ..KafkaSpec::default()
        };
        RuleSpec {
            mqtt_regex: regex.then(|| expression(&mqtt)),
            mqtt,
            kafka,
            ..RuleSpec::default()
        }
    })
}

/// Such a rule, with a say in the partition; of a template that makes no number the message is refused.
fn parted() -> impl Strategy<Value = RuleSpec> {
    let partition = select(vec![
        PartitionSpec::Hash,
        PartitionSpec::RoundRobin,
        PartitionSpec::Sticky,
        PartitionSpec::Number(1),
        PartitionSpec::Template("{x}".into()),
        PartitionSpec::Template("{x}".into()),
        PartitionSpec::Template("1{y}".into()),
    ]);
    (rule(), option::weighted(0.8, partition)).prop_map(|(mut spec, partition)| {
        spec.kafka.partition = partition;
        spec
    })
}

/// A rule that only reads.
fn reading() -> impl Strategy<Value = RuleSpec> {
    let part = || select(vec!["a", "-", "/", "{key}", "{partition}", "{topic}", "{header.h}"]);
    let parts = (prop::collection::vec(part(), 1..4), select(vec!["", "", "{key#}", "{header.h#}"]));
    parts.prop_map(|(parts, tail)| RuleSpec {
        direction: Direction::Subscribe,
        mqtt: parts.concat() + tail,
        kafka: KafkaSpec {
            topic: "t".into(),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    })
}

/// Those of the rules that are right, one after the other; `None` if none is.
fn accepted(specs: Vec<RuleSpec>) -> Option<(RuleSet, Vec<RuleSpec>)> {
    let (mut kept, mut set): (Vec<RuleSpec>, _) = (Vec::new(), None);
    for mut spec in specs {
        spec.name = format!("r{}", kept.len());
        kept.push(spec);
        match RuleSet::compile(kept.clone(), Unmapped::Reject) {
            Ok(right) => set = Some(right),
            Err(_) => drop(kept.pop()),
        }
    }
    set.map(|set| (set, kept))
}

fn topic() -> impl Strategy<Value = String> {
    let level = select(vec!["a", "b", "ü", "{", "", "1", "-", "k-", "$s", "t"]);
    prop::collection::vec(level, 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has a character", |topic| !topic.is_empty())
}

/// Encoded user properties, some with names that must be escaped.
fn user() -> impl Strategy<Value = SharedProperties> {
    let name = select(vec!["h", "all", "mqtt.topic", "mqtt.copy", "mqtt.user.h", "u", ""]);
    prop::collection::vec((name, "[a-zü/]{0,3}"), 0..4).prop_map(|pairs| {
        let mut block = SharedProperties::new();
        assert!(pairs.iter().all(|(name, value)| block.user(name, value)));
        block
    })
}

/// Where a foreign record belongs, as rule and topic.
fn locate(set: &RuleSet, kafka_topic: &str, key: Option<&[u8]>, headers: &[(&str, &str)]) -> Option<(u32, String)> {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
    let record = Stored {
        timestamp: 1,
        key,
        value: Some(b"v"),
        headers,
    };
    let mut scratch = LocateScratch::default();
    let reader = set.reader(kafka_topic);
    let Located { rule, topic, .. } = set.locate(&reader, 0, &record, &mut scratch).ok()?;
    Some((rule.0, topic.to_owned()))
}

/// Whether a message to this topic, published through this rule, makes a record of this Kafka topic and key.
fn could_write(set: &RuleSet, spec: &RuleSpec, topic: &str, kafka_topic: &str, key: Option<&[u8]>) -> bool {
    let packet = plain(topic);
    let inbound = Inbound {
        publish: &packet,
        topic,
        client: "c",
        identity: Some("who"),
        now_ms: 0,
    };
    let mut draft = Draft::new();
    if set.route(&inbound, &mut draft).is_err() || draft.kafka_topic(0, set) != kafka_topic {
        return false;
    }
    // Which client it was is not known, and when.
    let any = |key: &String| ["{client}", "{identity}", "{now}"].iter().any(|hole| key.contains(hole));
    key.is_some() && (spec.kafka.key.as_ref().is_some_and(any) || draft.fields(0, set, &inbound).key == key)
}

fn plain(topic: &str) -> Publish<'_> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload: b"",
    }
}

/// A rule, and a topic that its filter takes.
fn rule_and_topic() -> impl Strategy<Value = (RuleSpec, String)> {
    let level = select(vec!["a", "ü", "{", "", "0", "1", "7", "19", "-", "k-", "t"]);
    let filled = (parted(), prop::collection::vec(level, 8)).prop_map(|(spec, fill)| {
        let mut fill = fill.into_iter();
        let mut next = || fill.next().expect("a filter has five levels at most");
        let mut levels: Vec<String> = Vec::new();
        for level in spec.mqtt.split('/') {
            match level {
                // Of what takes the rest also none.
                "#" | "{r#}" => levels.extend((0..levels.len() % 3).map(|_| next().to_owned())),
                "{{" => levels.push("{".to_owned()),
                level if level == "+" || level.starts_with('{') => levels.push(next().to_owned()),
                level => levels.push(level.to_owned()),
            }
        }
        (spec, levels.join("/"))
    });
    filled.prop_filter("a topic has a character", |(_, topic)| !topic.is_empty())
}

/// What a rule says of its payloads: two programs that undo each other, and formats.
type Conversion = (Option<(&'static str, &'static str)>, Option<ValueSpec>);

fn formats(payload: Format, format: Format) -> Option<ValueSpec> {
    let payload = Some(payload);
    Some(ValueSpec { format, payload })
}

/// JSON as the proxy writes it.
fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        select(vec![0.5, -1.25]).prop_map(Json::from),
        "[aü\"\\\\\n]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[abü]{0,2}", inner, 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Bytes of no format, of a rule that does not look into them; JSON and CBOR with programs that wrap them; and text and bytes, as which any text is
/// meant, that become texts, base64 and JSON.
fn conversion_and_payload() -> impl Strategy<Value = (Conversion, Vec<u8>)> {
    let plain = prop::collection::vec(any::<u8>(), 0..9).prop_map(|payload| ((None, None), payload));
    let wraps = select(vec![
        None,
        Some(("{v: ., at: $topic}", ".v")),
        Some(("[., $client, $qos]", "first")),
        Some(("{a: [{b: .}]}", ".a[0].b")),
        Some(("[tojson, type]", "select(.[1] | type == \"string\") | .[0] | fromjson")),
    ]);
    let kinds = select(vec![Format::Json, Format::Cbor]);
    let structured = (wraps, kinds.clone(), kinds, json()).prop_map(|(programs, payload, value, json)| {
        let mut written = Vec::new();
        match payload {
            Format::Cbor => ciborium::into_writer(&json, &mut written).unwrap(),
            _ => written = serde_json::to_vec(&json).unwrap(),
        }
        ((programs, formats(payload, value)), written)
    });
    let of_texts = select(vec![
        (None, formats(Format::Text, Format::Json)),
        (None, formats(Format::Bytes, Format::Text)),
        (None, formats(Format::Bytes, Format::Cbor)),
        (Some(("{line: .}", ".line")), formats(Format::Text, Format::Cbor)),
        (Some(("{bytes: .}", ".bytes")), formats(Format::Bytes, Format::Json)),
        (Some((". + \"!\"", ".[:-1]")), formats(Format::Text, Format::Text)),
        (Some(("@base64", "@base64d")), formats(Format::Text, Format::Bytes)),
    ]);
    let texts = (of_texts, "[aü\n!]{0,5}").prop_map(|(conversion, text)| (conversion, text.into_bytes()));
    prop_oneof![3 => plain, 2 => structured, 2 => texts]
}

/// By a rule that has an inverse, whatever else is in it, to a record and back: what the proxy writes for itself is not in the record, but for
/// `mqtt.topic` where there is no level for the rest, and the message is the same. Published again it makes the same record in the same partition.
/// Whether it has an inverse; `None` if it takes no such message.
fn goes_round(spec: RuleSpec, topic: &str, payload: &[u8]) -> Result<Option<bool>, TestCaseError> {
    let spec = RuleSpec { name: "r".into(), ..spec };
    // Its other warning is of the inverse that it lacks.
    let Ok(set) = RuleSet::compile(vec![spec.clone()], Unmapped::Reject) else {
        return Ok(None);
    };
    let has_inverse = set.warnings().iter().all(|warning| warning.field == Field::KafkaClientHeader);
    let publish = |topic: &str, payload: &[u8]| {
        let packet = Publish {
            payload,
            qos: QoS::AtLeastOnce,
            ..plain(topic)
        };
        let inbound = Inbound {
            publish: &packet,
            topic,
            client: "c",
            identity: Some("who"),
            now_ms: 0,
        };
        let mut draft = Draft::new();
        let routed = set.route(&inbound, &mut draft);
        let ran = draft.ran().iter().all(|ran| ran.made == Made::Records(1));
        assert!(ran, "{:?} of {payload:?}: {:?}", draft.ran(), draft.trouble());
        routed.ok()?;
        let fields = draft.fields(0, &set, &inbound);
        let own = fields
            .headers
            .filter(|(name, _)| !name.starts_with("mqtt.") || *name == "mqtt.topic");
        let headers: Vec<(String, Vec<u8>)> = own.map(|(name, value)| (name.to_owned(), value.unwrap().to_vec())).collect();
        let stored = (
            draft.kafka_topic(0, &set).to_owned(),
            fields.key.unwrap().to_vec(),
            fields.value.unwrap().to_vec(),
            headers,
        );
        Some((stored, draft.partition(0, &set, &inbound, 20)))
    };
    let Some(record) = publish(topic, payload) else { return Ok(None) };
    let ((kafka_topic, key, value, headers), _) = &record;
    let names_topic = headers.iter().any(|(name, _)| name == "mqtt.topic");
    let rest = spec
        .mqtt
        .strip_suffix("/{r#}")
        .is_some_and(|before| before.split('/').count() == topic.split('/').count());
    prop_assert!(!has_inverse || !names_topic || rest, "{headers:?}");
    let kept = headers.iter().filter(|(name, _)| has_inverse || name != "mqtt.topic");
    let headers = kept.map(|(name, value)| (name.as_bytes(), Some(value.as_slice())));
    let stored = Stored {
        timestamp: 1,
        key: Some(key),
        value: Some(value),
        headers,
    };
    let (mut scratch, mut block) = (LocateScratch::default(), SharedProperties::new());
    let reader = set.reader(kafka_topic);
    let located = set.locate(&reader, 0, &stored, &mut scratch);
    if has_inverse {
        let located = located.unwrap();
        let (message, mut restored) = (set.message(&located, &stored, &mut block), Restored::default());
        let outcome = set.restore(&located, &stored, stored.value, stored.key, 0, &mut restored);
        prop_assert!(outcome.is_ok(), "{outcome:?} {:?}", restored.trouble);
        let back = restored.payload().unwrap_or(message.payload);
        prop_assert_eq!((message.topic, back), (topic, payload));
        prop_assert_eq!(publish(message.topic, back), Some(record.clone()));
    } else {
        // Which the check has told.
        prop_assert!(located.is_err(), "{:?}", located.map(|located| located.topic.to_owned()));
    }
    Ok(Some(has_inverse))
}

/// With captures in the Kafka topic, the key, headers and the partition, of filters and of expressions, with programs that undo each other and with
/// formats. Most rules that are made at random have a fault
/// or lack an inverse: it is counted that many have one.
#[test]
fn what_has_an_inverse_goes_round() {
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(4_000)
    };
    let counters: [Cell<usize>; 6] = Default::default();
    let [with, without, regex, parted, programs, formats] = &counters;
    let count = |of: &Cell<usize>, is: bool| of.set(of.get() + usize::from(is));
    let case = (rule_and_topic(), conversion_and_payload());
    let outcome = TestRunner::new(config).run(&case, |((mut spec, topic), ((pair, value), payload))| {
        (spec.transform, spec.transform_back) = pair.map(|(forth, back)| (forth.to_owned(), back.to_owned())).unzip();
        spec.value = value;
        let (by_regex, by_template) = (
            spec.mqtt_regex.is_some(),
            matches!(spec.kafka.partition, Some(PartitionSpec::Template(_))),
        );
        let found = goes_round(spec, &topic, &payload)?;
        count(without, found == Some(false));
        count(with, found == Some(true));
        count(regex, by_regex && found == Some(true));
        count(parted, by_template && found == Some(true));
        count(programs, pair.is_some() && found == Some(true));
        count(formats, value.is_some() && found == Some(true));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let counts = counters.map(|counter| counter.get());
    assert!(
        counts
            .iter()
            .zip([300, 100, 20, 20, 100, 150])
            .all(|(found, least)| *found >= least),
        "{counts:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Through every rule that is accepted: the first that matches takes the message, and all of it comes back.
    #[test]
    fn what_a_device_publishes_comes_back_whole(
        specs in prop::collection::vec(parted(), 1..12),
        topic in topic(), user in user(), payload in prop::collection::vec(any::<u8>(), 0..9),
        expiry in option::of(any::<u32>()), retain in any::<bool>(), text in option::of("[a-zü]{0,3}"),
    ) {
        let Some((set, specs)) = accepted(specs) else { return Ok(()) };
        let properties = PublishProperties {
            payload_format: text.as_ref().map(|_| PayloadFormat::Utf8),
            message_expiry_interval: expiry,
            response_topic: text.as_deref().filter(|text| !text.is_empty()),
            correlation_data: text.as_deref().map(str::as_bytes),
            content_type: text.as_deref(),
            user: UserProperties::from_block(user.as_bytes()),
            ..PublishProperties::default()
        };
        let packet = Publish {
            dup: false, qos: QoS::AtLeastOnce, retain, topic: &topic, packet_id: None, properties, payload: &payload,
        };
        let inbound = Inbound { publish: &packet, topic: &topic, client: "c/1", identity: Some("who"), now_ms: 1 };
        let mut draft = Draft::new();
        let routed = set.route(&inbound, &mut draft);
        let wanted = specs.iter().position(|spec| matches(&spec.mqtt, &topic)).map(|i| RuleId(i as u32));
        if draft.is_empty() {
            // Either no filter matches, or the Kafka topic that is made is none, or the partition.
            prop_assert!(routed.is_err());
            let makes = |spec: &RuleSpec| spec.kafka.topic.contains('{') || matches!(spec.kafka.partition, Some(PartitionSpec::Template(_)));
            let may_fail = wanted.is_none_or(|rule| makes(&specs[rule.0 as usize]));
            prop_assert!(may_fail);
            return Ok(());
        }
        prop_assert_eq!(Some(draft.rule(0)), wanted);
        let fields = draft.fields(0, &set, &inbound);
        let headers = fields.headers.clone().map(|(name, value)| (name.as_bytes(), value));
        let record = Stored { timestamp: 1, key: fields.key, value: fields.value, headers };
        let (mut scratch, mut block, mut sent) = (LocateScratch::default(), SharedProperties::new(), SharedProperties::new());
        let reader = set.reader(draft.kafka_topic(0, &set));
        let located = set.locate(&reader, 0, &record, &mut scratch).unwrap();
        let message = set.message(&located, &record, &mut block);
        prop_assert!(sent.extend(&properties));
        prop_assert_eq!((message.topic, message.payload, Some(message.rule)), (topic.as_str(), payload.as_slice(), wanted));
        prop_assert_eq!(message.shared_properties, sent.as_bytes());
        prop_assert_eq!((message.message_expiry_interval, message.retain, message.left_out), (expiry, retain, 0));
        prop_assert_eq!(message.qos, QoS::AtLeastOnce);
        let client = specs[message.rule.0 as usize].kafka.client_header.filter(|written| *written).map(|_| "c/1");
        prop_assert_eq!(message.client, client);
    }

    /// The indexes find what a walk over all rules finds, each alone: by `mqtt.topic` if one could have written it,
    /// else the first that makes any topic.
    #[test]
    fn the_rule_of_a_foreign_record_is_the_first_that_can(
        specs in prop::collection::vec(prop_oneof![3 => rule(), 1 => reading()], 1..12),
        kafka_topic in select(vec!["t", "t", "t-a", "1.b"]),
        key in option::of(prop_oneof![topic(), Just("k".to_owned()), Just("k-1".to_owned())]),
        named in option::of(topic()), header in option::of("[a1/]{0,3}"),
    ) {
        let Some((set, specs)) = accepted(specs) else { return Ok(()) };
        let key = key.as_deref().map(str::as_bytes);
        let plain: Vec<(&str, &str)> = header.iter().flat_map(|value| [("h", value.as_str()), ("all", value)]).collect();
        let mut headers = plain.clone();
        headers.extend(named.as_deref().map(|topic| ("mqtt.topic", topic)));
        let alone = |spec: &RuleSpec| RuleSet::compile(vec![spec.clone()], Unmapped::Reject).unwrap();
        let made = |spec: &RuleSpec, headers: &[(&str, &str)]| Some(locate(&alone(spec), kafka_topic, key, headers)?.1);
        let named = named.as_deref();
        let writer = named.and_then(|named| specs.iter().position(|spec| could_write(&alone(spec), spec, named, kafka_topic, key)));
        let maker = || specs.iter().position(|spec| made(spec, &plain).is_some());
        let wanted = writer.map(|i| (i, named.map(str::to_owned))).or_else(|| maker().map(|i| (i, made(&specs[i], &plain))));
        let wanted = wanted.map(|(i, topic)| (i as u32, topic.unwrap()));
        prop_assert_eq!(locate(&set, kafka_topic, key, &headers), wanted);
    }

    /// `explain` says what happens: the records are those of `route`, and the rules that it says take part made them.
    #[test]
    fn what_is_explained_is_what_happens(
        specs in prop::collection::vec((prop_oneof![3 => parted(), 1 => reading()], any::<bool>()), 1..12), topic in topic(),
    ) {
        let copies = |(spec, also): (RuleSpec, bool)| RuleSpec { also: also && spec.direction == Direction::Both, ..spec };
        let Some((set, specs)) = accepted(specs.into_iter().map(copies).collect()) else { return Ok(()) };
        let packet = Publish { qos: QoS::AtLeastOnce, ..plain(&topic) };
        let inbound = Inbound { publish: &packet, topic: &topic, client: "c", identity: Some("who"), now_ms: 0 };
        let mut draft = Draft::new();
        let routed = set.route(&inbound, &mut draft);
        let sample = Sample { topic: &topic, client: "c", identity: Some("who"), now_ms: 0, payload: packet.payload, user: &[], packet: SamplePacket::default(), partitions: None, state_topics: &[] };
        let told = set.explain_publish(&sample).unwrap();
        prop_assert_eq!(told.verdicts.len(), specs.len());
        for ((id, verdict), spec) in told.verdicts.iter().zip(&specs) {
            let reads = spec.direction == Direction::Subscribe;
            let differs = matches!(verdict, Verdict::OnlyReads | Verdict::Differs(_));
            prop_assert_eq!(!differs, !reads && matches(&spec.mqtt, &topic), "{:?}", spec.mqtt);
            let made = routed.is_ok() && (0..draft.len()).any(|i| draft.rule(i) == *id);
            prop_assert_eq!(matches!(verdict, Verdict::Takes | Verdict::Copies), made);
        }
        prop_assert_eq!(routed.err(), told.outcome.as_ref().err().copied());
        for (i, record) in told.outcome.iter().flatten().enumerate() {
            let fields = draft.fields(i, &set, &inbound);
            prop_assert_eq!((record.rule, record.kafka_topic.as_str()), (draft.rule(i), draft.kafka_topic(i, &set)));
            prop_assert_eq!((Some(record.key.as_slice()), record.value.as_deref()), (fields.key, fields.value));
            let headers = fields.headers.map(|(name, value)| (name.to_owned(), value.unwrap().to_vec()));
            prop_assert_eq!(&record.headers, &headers.collect::<Vec<_>>());
        }
    }

    /// What a subscriber of the topic reads holds the record of a message to that topic.
    #[test]
    fn the_sources_of_a_topic_hold_its_records(specs in prop::collection::vec(rule(), 1..12), topic in topic()) {
        let Some((set, _)) = accepted(specs) else { return Ok(()) };
        let packet = plain(&topic);
        let inbound = Inbound { publish: &packet, topic: &topic, client: "c", identity: Some("who"), now_ms: 0 };
        let mut draft = Draft::new();
        if set.route(&inbound, &mut draft).is_ok() {
            let key = draft.fields(0, &set, &inbound).key;
            let sources = set.sources(&topic).unwrap();
            let source = sources.iter().find(|source| source.rule == draft.rule(0)).unwrap();
            prop_assert_eq!(source.named(), Some(draft.kafka_topic(0, &set)));
            prop_assert!(source.key.is_none() || source.key.as_deref() == key);
        }
    }

    #[test]
    fn no_text_panics(filter in ".{0,20}", key in ".{0,20}", topic in ".{0,20}", subscribed in "[ab+#$/]{1,9}") {
        let kafka = KafkaSpec { topic: "t".into(), key: Some(key), ..KafkaSpec::default() };
        for direction in [Direction::Both, Direction::Subscribe] {
            let kafka = KafkaSpec { key: kafka.key.clone().filter(|_| direction == Direction::Both), ..kafka.clone() };
            let spec = RuleSpec { name: "r".into(), direction, mqtt: filter.clone(), kafka, ..RuleSpec::default() };
            let Ok(set) = RuleSet::compile(vec![spec], Unmapped::Reject) else { continue };
            let _ = set.sources(&subscribed);
            locate(&set, "t", Some(topic.as_bytes()), &[("mqtt.topic", &filter)]);
            let packet = plain(&topic);
            let _ = set.route(&Inbound { publish: &packet, topic: &topic, client: "", identity: Some("who"), now_ms: 0 }, &mut Draft::new());
        }
        let regex = Some(filter.clone());
        let kafka = KafkaSpec { topic: "t".into(), ..KafkaSpec::default() };
        let spec = RuleSpec { name: "r".into(), mqtt_regex: regex, kafka, ..RuleSpec::default() };
        if let Ok(set) = RuleSet::compile(vec![spec], Unmapped::Reject) {
            let _ = set.sources(&subscribed);
            locate(&set, "t", Some(topic.as_bytes()), &[("mqtt.topic", &filter)]);
            let packet = plain(&topic);
            let _ = set.route(&Inbound { publish: &packet, topic: &topic, client: "", identity: Some("who"), now_ms: 0 }, &mut Draft::new());
        }
    }
}
