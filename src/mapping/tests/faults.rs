//! Every fault of a rule as written: once each, with its place and words.

use super::*;
use crate::kafka::{Acks, Compression};

/// The faults of a set of rules, by rule, field and byte.
fn faults(specs: Vec<RuleSpec>) -> Vec<Fault> {
    RuleSet::compile(specs, Unmapped::Reject).map(|_| "no fault").unwrap_err()
}

/// A rule, and the one fault it has: field, byte, message.
type Row = (RuleSpec, Field, Option<usize>, &'static str);

fn check(rows: Vec<Row>) {
    for (spec, field, at, message) in rows {
        check_one(spec, field, at, message);
    }
}

fn check_one(spec: RuleSpec, field: Field, at: Option<usize>, message: &str) {
    let written = format!("{spec:?}");
    let found = faults(vec![spec]);
    let short: Vec<_> = found.iter().map(|f| (f.rule, f.field, f.at, f.message.as_str())).collect();
    assert_eq!(short, [(0, field, at, message)], "{written}");
    assert!(!found[0].remedy.is_empty());
}

fn mqtt(filter: &str) -> RuleSpec {
    spec("a", filter, "t", None)
}

fn topic(template: &str) -> RuleSpec {
    spec("a", "a/{x}", template, Some("{x}"))
}

#[test]
fn of_filters() {
    let many: String = (0..17).map(|i| format!("{{c{i}}}/")).collect();
    let used: String = (0..16).map(|i| format!("{{c{i}}}")).collect();
    let long = "x".repeat(65_536);
    let at = |at| Some(at);
    check(vec![
        (mqtt(""), Field::Mqtt, at(0), "not a topic filter"),
        (mqtt(&long), Field::Mqtt, at(0), "not a topic filter"),
        (mqtt("a\0"), Field::Mqtt, at(0), "not a topic filter"),
        (mqtt("a/{x"), Field::Mqtt, at(2), "a `{` without its `}`"),
        (mqtt("ü/x}"), Field::Mqtt, at(4), "a `}` without its `{`"),
        (mqtt("a/{}"), Field::Mqtt, at(2), "`{}` is not a placeholder"),
        (mqtt("a/{x y}"), Field::Mqtt, at(2), "`{x y}` is not a placeholder"),
        (mqtt("a/b+"), Field::Mqtt, at(3), "a wildcard that is only a part of its level"),
        (
            mqtt("{{a}}/{{b#"),
            Field::Mqtt,
            at(9),
            "a wildcard that is only a part of its level",
        ),
        (mqtt("a/#/b"), Field::Mqtt, at(2), "levels after the one that takes the rest"),
        (
            spec("a", "a{{/{r#}/b", "t", Some("{r}")),
            Field::Mqtt,
            at(4),
            "levels after the one that takes the rest",
        ),
        (
            spec("a", "a/b{x}", "t", Some("{x}")),
            Field::Mqtt,
            at(3),
            "`{x}` is only a part of its level",
        ),
        (
            spec("a", "a/{x}{y}", "t", Some("{x}{y}")),
            Field::Mqtt,
            at(5),
            "`{y}` shares its level with another capture",
        ),
        (
            spec("a", "{client}/x", "t", Some("k")),
            Field::Mqtt,
            at(0),
            "`{client}` is of the message, not a capture",
        ),
        (
            spec("a", "{x}/{x}", "t", Some("{x}")),
            Field::Mqtt,
            at(4),
            "the capture `{x}` is named twice",
        ),
        (spec("a", &many, "t", Some(&used)), Field::Mqtt, at(86), "more than 16 captures"),
        (
            spec("a", "a/{x}/{y}", "t", Some("{x}")),
            Field::Mqtt,
            at(6),
            "no template uses the capture `{y}`",
        ),
        (
            spec("a", "a/{r#}", "t", None),
            Field::Mqtt,
            at(2),
            "no template uses the capture `{r}`",
        ),
    ]);
}

#[test]
fn of_kafka_topics_and_keys() {
    let chars = "a character that no Kafka topic name has";
    let long = "x".repeat(250);
    let key = |key| spec("a", "a/{x}/{r#}", "t-{x}{r}", Some(key));
    check(vec![
        (topic(""), Field::KafkaTopic, Some(0), "the Kafka topic name is empty"),
        (topic("."), Field::KafkaTopic, Some(0), "`.` and `..` are not Kafka topic names"),
        (topic(".."), Field::KafkaTopic, Some(0), "`.` and `..` are not Kafka topic names"),
        (
            topic(&long),
            Field::KafkaTopic,
            Some(249),
            "a Kafka topic name has at most 249 characters",
        ),
        (topic("tö"), Field::KafkaTopic, Some(1), chars),
        (topic("{{t"), Field::KafkaTopic, Some(0), chars),
        (topic("a-{x}-a b"), Field::KafkaTopic, Some(7), chars),
        (
            topic("{client}"),
            Field::KafkaTopic,
            Some(0),
            "`{client}` does not choose a Kafka topic",
        ),
        (topic("t-{y}"), Field::KafkaTopic, Some(2), "`{y}` is not a capture of `mqtt`"),
        (topic("{y}"), Field::KafkaTopic, Some(0), "`{y}` is not a capture of `mqtt`"),
        (topic("t{"), Field::KafkaTopic, Some(1), "a `{` without its `}`"),
        (
            subscribe("s", "a", "{x}"),
            Field::KafkaTopic,
            Some(0),
            "`mqtt` does not use the capture `{x}`",
        ),
        (
            subscribe("s", "a/{topic}", "t-{client}"),
            Field::KafkaTopic,
            Some(2),
            "`{client}` is no capture of a Kafka topic",
        ),
        (
            subscribe("s", "a/{topic}", "t-{key}"),
            Field::KafkaTopic,
            Some(2),
            "`{key}` is no capture of a Kafka topic",
        ),
        (
            subscribe("s", "a/{x}", "t-{x}-{x}"),
            Field::KafkaTopic,
            Some(6),
            "the capture `{x}` is named twice",
        ),
        (
            subscribe("s", "a/{x}/{y}", "t-{x}{y}"),
            Field::KafkaTopic,
            Some(5),
            "nothing tells where the capture before `{y}` ends",
        ),
        (
            subscribe("s", "a/{x}", "t-{x#}"),
            Field::KafkaTopic,
            Some(2),
            "`{x#}`: the `#` belongs to the filter",
        ),
        (subscribe("s", "a", ""), Field::KafkaTopic, Some(0), "the Kafka topic name is empty"),
        (key("{x"), Field::KafkaKey, Some(0), "a `{` without its `}`"),
        (key("ü{z}"), Field::KafkaKey, Some(2), "`{z}` is not a capture of `mqtt`"),
        (key("{r#}"), Field::KafkaKey, Some(0), "`{r#}`: the `#` belongs to the filter"),
        (key("{client#}"), Field::KafkaKey, Some(0), "`{client#}` is not a capture of `mqtt`"),
    ]);
}

#[test]
fn of_headers() {
    let header = |name: &str, value: &str| with_headers(topic("t"), &[("first", "1"), (name, value)]);
    let twice = "the header `first` is named twice";
    let own = "`mqtt.x`: names with `mqtt.` are the proxy's own";
    check(vec![
        (header("", "x"), Field::HeaderName(1), Some(0), "the header has no name"),
        (header("mqtt.x", "x"), Field::HeaderName(1), Some(0), own),
        (header("first", "x"), Field::HeaderName(1), Some(0), twice),
        (
            header("h", "{z}"),
            Field::HeaderValue(1),
            Some(0),
            "`{z}` is not a capture of `mqtt`",
        ),
        (header("h", "x}"), Field::HeaderValue(1), Some(1), "a `}` without its `{`"),
    ]);
}

#[test]
fn of_subscribe_rules() {
    let sub = |mqtt| subscribe("s", mqtt, "t");
    let long = "x".repeat(65_536);
    let rest = "something follows the placeholder that takes the rest";
    check(vec![
        (sub(""), Field::Mqtt, Some(0), "not a topic name"),
        (sub(&long), Field::Mqtt, Some(0), "not a topic name"),
        (sub("a/{vin}"), Field::Mqtt, Some(2), "`{vin}` is not a placeholder here"),
        (sub("a/{header.}"), Field::Mqtt, Some(2), "`{header.}` is not a placeholder here"),
        (
            sub("a/{partition#}"),
            Field::Mqtt,
            Some(2),
            "`{partition#}` is not a placeholder here",
        ),
        (sub("a{{/+"), Field::Mqtt, Some(4), "a topic name has no `+`, `#` or U+0000"),
        (sub("{key}/#"), Field::Mqtt, Some(6), "a topic name has no `+`, `#` or U+0000"),
        (sub("a/{key#}/b"), Field::Mqtt, Some(2), rest),
        (sub("a/{key"), Field::Mqtt, Some(2), "a `{` without its `}`"),
    ]);
}

#[test]
fn of_rules_that_only_read() {
    type Written = (Field, &'static str, fn(&mut RuleSpec));
    let rows: [Written; 14] = [
        (Field::Also, "also", |s| s.also = true),
        (Field::Acknowledge, "acknowledge", |s| s.acknowledge = Some(Acknowledge::AfterKafka)),
        (Field::Overflow, "overflow", |s| s.overflow = Some(Overflow::Wait)),
        (Field::OnError, "on_error", |s| s.on_error = Some(OnError::Skip)),
        (Field::KafkaKey, "kafka.key", |s| s.kafka.key = Some("k".into())),
        // One fault: that such a placeholder could not be filled is no matter.
        (Field::KafkaKey, "kafka.key", |s| s.kafka.key = Some("{vin}".into())),
        (Field::KafkaPartition, "kafka.partition", |s| {
            s.kafka.partition = Some(PartitionSpec::Hash);
        }),
        (Field::HeaderName(0), "kafka.headers", |s| {
            s.kafka.headers.push(("h".into(), "{vin}".into()));
        }),
        (Field::HeaderName(0), "kafka.headers", |s| {
            s.kafka.headers.push(("h".into(), "v".into()));
        }),
        (Field::KafkaTimestamp, "kafka.timestamp", |s| {
            s.kafka.timestamp = Some(Timestamp::Receipt);
        }),
        (Field::KafkaTombstones, "kafka.tombstones: both", |s| {
            s.kafka.tombstones = Some(Tombstones::Both);
        }),
        (Field::KafkaClientHeader, "kafka.client_header", |s| {
            s.kafka.client_header = Some(true);
        }),
        (Field::KafkaAcks, "kafka.acks", |s| s.kafka.acks = Some(Acks::Leader)),
        (Field::KafkaCompression, "kafka.compression", |s| {
            s.kafka.compression = Some(Compression::Lz4);
        }),
    ];
    for (field, word, write) in rows {
        let mut spec = subscribe("s", "a", "t");
        write(&mut spec);
        let message = format!("`{word}` says how messages are written, but this rule only reads");
        check_one(spec, field, None, &message);
    }
}

/// Also those whose value is the default: they say something about a way that the rule does not take.
#[test]
fn of_rules_that_only_write() {
    let qos = "`qos` says what subscribers get, but this rule only writes";
    let tombstones = "`kafka.tombstones` says what subscribers get, but this rule only writes";
    let publish = RuleSpec {
        direction: Direction::Publish,
        ..mqtt("a")
    };
    for writes in [publish, also(mqtt("a"))] {
        let (mut with_qos, mut with_tombstones) = (writes.clone(), writes);
        with_qos.qos = Some(QoS::ExactlyOnce);
        with_tombstones.kafka.tombstones = Some(Tombstones::Skip);
        check(vec![
            (with_qos, Field::Qos, None, qos),
            (with_tombstones, Field::KafkaTombstones, None, tombstones),
        ]);
    }
}

#[test]
fn of_rules_beside_each_other() {
    check(vec![(spec("", "a", "t", None), Field::Name, None, "the rule has no name")]);
    let pair = |first, second| {
        let found = faults(vec![first, second]);
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].rule, found[0].field, found[0].at, found[0].message.clone())
    };
    let taken = pair(mqtt("a/#"), mqtt("b"));
    assert_eq!(taken, (1, Field::Name, Some(0), "the name `a` is taken by rule 1".into()));
    let never = "never reached: `a` before it takes every topic of this filter";
    for (wide, narrow) in [
        ("#", "b/+"),
        ("+/#", "b"),
        ("b/#", "b"),
        ("b/+", "b/c"),
        ("b", "b"),
        ("+", "{x}"),
        ("$b/#", "$b/c"),
    ] {
        let second = spec("b", narrow, "t", narrow.contains('{').then_some("{x}"));
        assert_eq!(pair(mqtt(wide), second), (1, Field::Mqtt, Some(0), never.into()), "{wide} {narrow}");
    }
    let reached = [("#", "$b"), ("+/b", "b/+"), ("b", "b/#"), ("b/+", "b/#"), ("+", "/")];
    for (first, second) in reached {
        compile(vec![mqtt(first), spec("b", second, "t", None)]);
    }
    // What makes copies or only reads takes nothing from others.
    compile(vec![
        also(mqtt("#")),
        subscribe("s", "b", "t"),
        spec("b", "b", "t", None),
        also(spec("c", "b", "t", None)),
    ]);
}

#[test]
fn all_at_once() {
    let mut bad = spec("a", "v/{x}/{x}/{unused}", "é{y}", Some("{z}"));
    bad.kafka.headers.push(("mqtt.h".into(), "{".into()));
    let found = faults(vec![spec("a", "v/#", "t", None), bad, spec("b", "v/{x}", "t", Some("{x}"))]);
    let places: Vec<_> = found.iter().map(|fault| (fault.rule, fault.field, fault.at)).collect();
    let wanted = [
        (1, Field::Name, Some(0)),
        (1, Field::Mqtt, Some(6)),
        (1, Field::HeaderName(0), Some(0)),
        (1, Field::HeaderValue(0), Some(0)),
        (1, Field::KafkaTopic, Some(0)),
        (2, Field::Mqtt, Some(0)),
    ];
    assert_eq!(places, wanted);
}

#[test]
fn a_capture_is_used_by_the_program_of_either_way_and_by_its_whole_name() {
    let both = |program: &str| RuleSpec {
        transform_back: Some(program.into()),
        ..mqtt("a/{x}")
    };
    for program in ["{x: $x}", "\"\\($x)\"", ". + {$x}"] {
        compile(vec![both(program)]);
    }
    let only = |program: &str| RuleSpec {
        transform: Some(program.into()),
        ..spec("a", "{v}/{vin}", "t", Some("k"))
    };
    compile(vec![only("{$v, vin: $vin}")]);
    check(vec![
        (both(". as $xy | $xy"), Field::Mqtt, Some(2), "no template uses the capture `{x}`"),
        (only("{vin: $vin}"), Field::Mqtt, Some(0), "no template uses the capture `{v}`"),
        (both(". # $x"), Field::Mqtt, Some(2), "no template uses the capture `{x}`"),
        (both("\"$x\""), Field::Mqtt, Some(2), "no template uses the capture `{x}`"),
    ]);
}

#[test]
fn retained_messages_are_refused_without_offsets_only_where_they_would_be_kept() {
    let rule = |direction, retain| {
        let mut rule = spec("a", "a", "t", None);
        (rule.direction, rule.retain, rule.kafka.acks) = (direction, retain, Some(Acks::None));
        rule
    };
    let message = "retained messages cannot be kept with `acks: none`: nobody learns where they are stored";
    check_one(rule(Direction::Both, Some(Retain::Allow)), Field::Retain, None, message);
    for (direction, retain, meant) in [
        (Direction::Both, None, Retain::Deny),
        (Direction::Publish, None, Retain::Allow),
        (Direction::Publish, Some(Retain::Allow), Retain::Allow),
        (Direction::Publish, Some(Retain::Deny), Retain::Deny),
    ] {
        let set = compile(vec![rule(direction, retain)]);
        let (_, rule) = set.iter().next().unwrap();
        assert_eq!((rule.retain, rule.keeps_retained()), (meant, false), "{direction:?} {retain:?}");
    }
}
