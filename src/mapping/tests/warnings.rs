//! What is told of rules that are good and yet do less than one might think.

use super::*;

#[track_caller]
fn told(specs: Vec<RuleSpec>) -> Vec<(usize, Field, String)> {
    let warnings = compile(specs).warnings();
    warnings.into_iter().map(|w| (w.rule, w.field, w.message)).collect()
}

#[track_caller]
fn only(specs: Vec<RuleSpec>, rule: usize, field: Field, words: &str) {
    let told = told(specs);
    assert!(
        matches!(told.as_slice(), [(at, of, message)] if (*at, *of) == (rule, field) && message.contains(words)),
        "{told:?}"
    );
}

fn only_publishes(spec: RuleSpec) -> RuleSpec {
    RuleSpec {
        direction: Direction::Publish,
        ..spec
    }
}

fn expression(name: &str, written: &str, topic: &str, key: Option<&str>) -> RuleSpec {
    RuleSpec {
        mqtt_regex: Some(written.into()),
        ..spec(name, "", topic, key)
    }
}

#[test]
fn an_inverse_that_is_missing_is_told() {
    let wild = || spec("wild", "a/{b}/+", "t", Some("{b}"));
    only(vec![wild()], 0, Field::Mqtt, "`+` or `#`");
    let shared = || spec("two", "a/{b}/{c#}", "t", Some("{c}{b}"));
    only(vec![shared()], 0, Field::Mqtt, "`kafka.key` has `{b}` beside something");
    let regex = || expression("regex", "a/(?<b>[0-9]+)", "t", Some("{b}"));
    only(vec![regex()], 0, Field::MqttRegex, "tells no topic");
    for good in [wild(), shared(), regex()] {
        assert_eq!(told(vec![only_publishes(good)]), [], "nothing is to come back");
    }
    assert_eq!(told(vec![spec("whole", "a/+/#", "t", None)]), []);
    assert_eq!(told(vec![expression("whole", "a/.*", "t", None)]), []);
    assert_eq!(
        told(vec![with_headers(spec("both", "a/{b}/{c#}", "t", Some("{b}")), &[("c", "{c}")])]),
        []
    );
    assert_eq!(told(vec![subscribe("only", "a/{key}", "t")]), []);
}

#[test]
fn a_capture_that_only_a_partition_or_a_program_uses_is_told_by_its_name() {
    let mut lane = with_headers(spec("lane", "a/{b}/{c}", "t", Some("{b}")), &[("h", "{b}")]);
    lane.kafka.partition = Some(PartitionSpec::Template("{c}".into()));
    only(
        vec![lane],
        0,
        Field::Mqtt,
        "neither the Kafka topic nor the key nor a header has `{c}`",
    );
    let mut program = spec("program", "a/{b}", "t", Some("{b}"));
    (program.transform, program.transform_back) = (Some("record({key: .k})".into()), Some(".".into()));
    only(vec![program], 0, Field::Mqtt, "what the program made it");
}

#[test]
fn what_an_expression_leaves_nothing_of_is_told() {
    let all = || only_publishes(expression("all", ".*", "t", None));
    for later in [
        expression("later", "a/[0-9]+", "u", None),
        spec("later", "a/+/#", "u", None),
        spec("later", "a/b", "u", None),
    ] {
        let field = if later.mqtt_regex.is_some() {
            Field::MqttRegex
        } else {
            Field::Mqtt
        };
        only(
            vec![all(), later.clone()],
            1,
            field,
            "never reached: `all` before it takes every topic",
        );
        // The other way round each has its own.
        assert_eq!(told(vec![later.clone(), all()]), []);
        assert_eq!(told(vec![all(), only_publishes(also(later))]), []);
    }
    // The server's own topics are taken by no wildcard.
    assert_eq!(told(vec![all(), spec("own", "$app/#", "u", None)]), []);
    let digits = || expression("digits", "a/[0-9]+", "t", None);
    only(
        vec![digits(), expression("two", "a/[0-9]{2}", "u", None)],
        1,
        Field::MqttRegex,
        "`digits` before it",
    );
    assert_eq!(told(vec![digits(), expression("more", "a/[0-9a-f]+", "u", None)]), []);
    // By a filter that the expression's beginning alone does not show.
    let one = || spec("one", "a/+/c", "t", None);
    only(
        vec![one(), expression("three", "a/[0-9]+/c", "u", None)],
        1,
        Field::MqttRegex,
        "`one` before it",
    );
    only(
        vec![expression("none", "a/\\+", "t", None)],
        0,
        Field::MqttRegex,
        "no topic name matches",
    );
}

#[test]
fn copies_of_nothing_are_told() {
    let copy = |mqtt: &str| only_publishes(also(spec("copy", mqtt, "copies", None)));
    only(
        vec![copy("a/#"), spec("other", "b/#", "t", None)],
        0,
        Field::Also,
        "copies of nothing",
    );
    only(
        vec![copy("a/#"), subscribe("reads", "a/{key}", "t")],
        0,
        Field::Also,
        "copies of nothing",
    );
    assert_eq!(told(vec![copy("a/+/c"), spec("other", "a/#", "t", None)]), []);
    assert_eq!(told(vec![spec("some", "a/b", "t", None), copy("#")]), []);
    assert_eq!(told(vec![expression("some", "a/[a-z]+", "t", None), copy("a/b")]), []);
    only(
        vec![expression("some", "a/[a-z]+", "t", None), copy("a/1")],
        1,
        Field::Also,
        "copies of nothing",
    );
}

#[test]
fn foreign_records_that_an_earlier_rule_takes_are_told() {
    let rules = || vec![spec("first", "a/{b}", "t", Some("{b}")), spec("second", "b/{b}", "t", Some("{b}"))];
    only(rules(), 1, Field::KafkaTopic, "goes to `first`");
    let mut elsewhere = rules();
    elsewhere[1].kafka.topic = "u".into();
    assert_eq!(told(elsewhere), []);
}

#[test]
fn a_program_without_its_inverse_is_told() {
    let rule = |forth: &str, back: Option<&str>| RuleSpec {
        transform: Some(forth.into()),
        transform_back: back.map(str::to_owned),
        ..spec("a", "a/{x}", "t", Some("{x}"))
    };
    let words = "subscribers get what `transform` made";
    for forth in [
        "{v: .}",
        "select(.on) | .v",
        "select(.a) | select(.b) | .c",
        "select(.a), select(.b)",
    ] {
        only(vec![rule(forth, None)], 0, Field::Transform, words);
        assert_eq!(told(vec![only_publishes(rule(forth, None))]), []);
        assert_eq!(told(vec![rule(forth, Some(".v"))]), []);
    }
    let elsewhere = RuleSpec {
        kafka: KafkaSpec {
            topics: vec!["other".into()],
            ..spec("a", "a/{x}", "t", Some("{x}")).kafka
        },
        ..rule("record({topic: \"other\"})", Some("."))
    };
    only(
        vec![elsewhere.clone()],
        0,
        Field::KafkaTopics(0),
        "does not come back to subscribers of this rule",
    );
    let one_way = RuleSpec {
        transform_back: None,
        ..only_publishes(elsewhere)
    };
    assert_eq!(told(vec![one_way]), []);
    // What only chooses leaves payloads as they are.
    for forth in [".", " select(.on) ", "select(.t == \")\" or (.n > (1 + 2)))"] {
        assert_eq!(told(vec![rule(forth, None)]), []);
    }
}
