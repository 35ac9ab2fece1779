//! Rules whose MQTT side is a regular expression: what they take, in what order, what comes back, and their faults.

use super::*;

fn regex(name: &str, expression: &str, topic: &str, key: Option<&str>) -> RuleSpec {
    RuleSpec {
        mqtt_regex: Some(expression.into()),
        ..spec(name, "", topic, key)
    }
}

#[test]
fn named_groups_fill_the_templates() {
    let expression = "plants/(?<site>[a-z]+)-(?P<hall>[0-9]+)(?:/line-(?<line>[0-9]+))?/(?:temp|press)";
    let rule = with_headers(regex("a", expression, "plant-{site}", Some("{hall}.{line}")), &[("hall", "{hall}")]);
    let set = compile(vec![rule]);
    let record = first(&set, "plants/nord-7/line-12/temp");
    assert_eq!((record.topic.as_str(), record.key()), ("plant-nord", "7.12"));
    assert_eq!(record.header("hall"), Some(&b"7"[..]));
    assert_eq!(record.header("mqtt.topic"), Some(&b"plants/nord-7/line-12/temp"[..]));
    assert_eq!(read(&set, &record).unwrap().topic, "plants/nord-7/line-12/temp");
    // A group that takes no part holds nothing.
    assert_eq!(first(&set, "plants/nord-7/press").key(), "7.");
}

#[test]
fn an_expression_takes_whole_topics_only() {
    let set = compile(vec![regex("a", "a/b|a/bc|x", "t", None)]);
    for topic in ["a/b", "a/bc", "x"] {
        assert_eq!(first(&set, topic).key(), topic);
    }
    for topic in ["a/bcd", "xa/b", "x/", "A/b", "a/b\n", "a", "\nx"] {
        assert_eq!(
            write(&set, &publish(topic, b"")),
            Err(NoRoute::Unmapped(Unmapped::Reject)),
            "{topic:?}"
        );
    }
    let anchored = compile(vec![regex("a", "^(?i)zähler/.+$", "t", None)]);
    assert_eq!(first(&anchored, "ZÄHLER/1").rule, 0);
}

/// What all topics of an expression begin with is not searched, but what follows may look back at it; and groups may be such that no one pass
/// finds them.
#[test]
fn what_is_searched_knows_what_stands_before_it() {
    for (expression, topic, key) in [
        (r"a/(?-u:\b)(?<x>[b-z]+)", "a/bc", Some("bc")),
        (r"ab(?-u:\b)(?<x>[b-z]+)", "abc", None),
        (r"ab(?-u:\B)(?<x>[b-z]+)", "abc", Some("c")),
        (r"zähler/\b(?<x>.+)", "zähler/ü", Some("ü")),
        (r"a/(?:^|-)(?<x>b)", "a/b", None),
        (r"a/(?:^|-)(?<x>b)", "a/-b", Some("b")),
        (r"a/(?<x>[a-z]*)(?:[a-z]*)/z", "a/bc/z", Some("bc")),
        (r"a/(?<x>[a-z]*)(?:[a-z]*)/z", "b/bc/z", None),
    ] {
        let set = compile(vec![regex("a", expression, "t", Some("{x}"))]);
        let found = write(&set, &publish(topic, b"")).ok().map(|records| records[0].key().to_owned());
        assert_eq!(found.as_deref(), key, "{expression} {topic}");
    }
}

#[test]
fn no_expression_takes_a_topic_of_the_servers_own_unless_it_is_written_out() {
    let set = compile(vec![regex("all", ".*", "t", None), regex("own", r"\$app/(?:x|y)", "t", None)]);
    assert_eq!(write(&set, &publish("$SYS/x", b"")), Err(NoRoute::Unmapped(Unmapped::Reject)));
    assert_eq!(first(&set, "$app/y").rule, 1);
    assert_eq!(first(&set, "a/$app/y").rule, 0);
}

#[test]
fn rules_with_filters_and_with_expressions_stand_in_one_order() {
    let set = compile(vec![
        regex("odd", "v/[0-9]*[13579]/.*", "odd", None),
        also(regex("copies", ".*/alarm", "alarms", None)),
        spec("seven", "v/+/seven", "seven", None),
        regex("digits", "v/[0-9]+/.*", "digits", None),
        spec("rest", "v/#", "rest", None),
    ]);
    let rules = |topic| -> Vec<u32> {
        write(&set, &publish(topic, b""))
            .unwrap()
            .iter()
            .map(|record| record.rule)
            .collect()
    };
    assert_eq!(rules("v/1/seven"), [0]);
    assert_eq!(rules("v/2/seven"), [2]);
    assert_eq!(rules("v/2/x"), [3]);
    assert_eq!(rules("v/x/y"), [4]);
    assert_eq!(rules("v/x/alarm"), [4, 1]);
    assert_eq!(rules("v/3/alarm"), [0, 1]);
    // Only a copy is made of what no ordinary rule takes.
    assert_eq!(rules("w/alarm"), [1]);
}

#[test]
fn records_of_other_programs_come_back_by_whole_keys_and_by_the_header() {
    let whole = compile(vec![regex("a", "v/[0-9]+", "t", None)]);
    assert_eq!(back(&whole, "t", Some(b"v/12"), &[]), Ok("v/12".into()));
    assert_eq!(back(&whole, "t", Some(b"v/x"), &[]), Err(SkipReason::OtherForm));
    let keyed = compile(vec![regex("a", "v/(?<id>[0-9]+)", "t", Some("{id}"))]);
    assert_eq!(back(&keyed, "t", Some(b"12"), &[]), Err(SkipReason::NoInverse));
    assert_eq!(back(&keyed, "t", Some(b"12"), &[("mqtt.topic", b"v/12")]), Ok("v/12".into()));
    // Such a record this rule cannot have written.
    assert_eq!(
        back(&keyed, "t", Some(b"13"), &[("mqtt.topic", b"v/12")]),
        Err(SkipReason::NoInverse)
    );
    assert_eq!(back(&keyed, "t", Some(b"x"), &[("mqtt.topic", b"v/x")]), Err(SkipReason::NoInverse));
}

#[test]
fn subscribers_read_what_the_expression_may_take() {
    let set = compile(vec![
        regex(
            "by-site",
            "plants/(?<site>[a-z]+)(?:-(?<hall>[0-9]+))?/.*",
            "plant-{site}",
            Some("{hall}"),
        ),
        regex("meters", "meters/[0-9]+", "meters", None),
    ]);
    assert_eq!(set.sources("plants/nord-7/x").unwrap(), [source(0, "plant-nord", Some("7"))]);
    assert_eq!(set.sources("plants/nord/x").unwrap(), [source(0, "plant-nord", Some(""))]);
    assert_eq!(set.sources("plants/+/x").unwrap(), [source(0, "plant-*", None)]);
    assert_eq!(set.sources("#").unwrap()[0], source(0, "plant-*", None));
    assert_eq!(set.sources("plants/7/x"), Err(Unmapped::Reject));
    assert_eq!(set.sources("meters/7").unwrap(), [source(1, "meters", Some("meters/7"))]);
    // With a wildcard only what stands before it is compared.
    assert_eq!(set.sources("meters/#").unwrap(), [source(1, "meters", None)]);
    assert_eq!(set.sources("meters/7/#").unwrap(), [source(1, "meters", None)]);
    assert_eq!(set.sources("+/x").unwrap()[0], source(0, "plant-*", None));
    for filter in ["meters/x/#", "meters/x/+", "meters/7/+", "meters/7/x/#"] {
        assert_eq!(set.sources(filter), Err(Unmapped::Reject), "{filter}");
    }
    let bounded = compile(vec![regex("a", r"v/\b[0-9]+", "t", None)]);
    assert_eq!(bounded.sources("v/x/#").unwrap(), [source(0, "t", None)], "it cannot be told");
    assert_eq!(set.sources("other/#"), Err(Unmapped::Reject));
}

#[test]
fn retained_messages_find_their_rule() {
    let set = compile(vec![regex("a", "v/[0-9]+", "t", None), regex("b", "v/[a-z]+", "t", None)]);
    let reader = set.reader("t");
    assert_eq!(set.retained_rule(&reader, "v/x"), Some(RuleId(1)));
    assert_eq!(set.retained_rule(&reader, "v/X"), None);
}

#[test]
fn explain_says_that_an_expression_does_not_match() {
    let set = compile(vec![regex("a", "v/[0-9]+", "t", None), regex("b", "v/x", "t", None)]);
    let sample = |topic| Sample {
        state_topics: &[],
        topic,
        client: "c",
        identity: None,
        now_ms: 0,
        payload: b"",
        user: &[],
        packet: SamplePacket::default(),
        partitions: None,
    };
    let verdict = |topic, rule: usize| set.explain_publish(&sample(topic)).unwrap().verdicts[rule].1.to_string();
    assert_eq!(verdict("v/x", 0), "no: the expression does not match");
    assert_eq!(verdict("v/x", 1), "takes it");
    assert_eq!(verdict("w/x", 0), "no: level 1 is `w`, not `v`");
}

/// The faults of a set of rules, by rule, byte and message.
fn faults(specs: Vec<RuleSpec>) -> Vec<(usize, Field, Option<usize>, String)> {
    let found = RuleSet::compile(specs, Unmapped::Reject).map(|_| "no fault").unwrap_err();
    assert!(found.iter().all(|fault| !fault.remedy.is_empty()));
    found.into_iter().map(|f| (f.rule, f.field, f.at, f.message)).collect()
}

#[test]
fn faults_of_expressions_are_told_where_they_stand() {
    let many: String = (0..17).map(|i| format!("(?<c{i}>x)")).collect();
    for (expression, at, message) in [
        ("a/(b", 2, "not a regular expression: unclosed group"),
        ("a)(b", 1, "not a regular expression: unopened group"),
        (
            "a/(?=b)",
            2,
            "not a regular expression: look-around, including look-ahead and look-behind, is not supported",
        ),
        ("ü/\\pX", 3, "not a regular expression: Unicode property not found"),
        ("a/(b|c)", 2, "a group without a name"),
        ("(?<client>.*)", 0, "`{client}` is of the message, not a group"),
        ("a/(?<x>.*)", 2, "no template uses the capture `{x}`"),
        ("[a&&b]", 0, "no topic matches this expression"),
        ("", 0, "no topic matches this expression"),
        (r"\$.*", 0, "no wildcard takes a topic that begins with `$`"),
        (r"(?:\w{9}){99}", 0, "the expression takes more than 256 KiB"),
    ] {
        let found = faults(vec![regex("a", expression, "t", None)]);
        assert_eq!(found, [(0, Field::MqttRegex, Some(at), message.to_owned())], "{expression}");
    }
    let seventeen = faults(vec![regex("a", &many, "t", None)]);
    assert_eq!(seventeen[0].3, "more than 16 groups with names");
    let deep = format!("{}x{}", "(?:".repeat(99), ")".repeat(99));
    assert!(
        faults(vec![regex("a", &deep, "t", None)])[0]
            .3
            .contains("exceed the maximum number of nested")
    );
}

#[test]
fn a_rule_that_only_reads_has_no_expression_and_unknown_groups_are_told() {
    let reading = RuleSpec {
        direction: Direction::Subscribe,
        ..regex("a", "x", "t", None)
    };
    let message = "`mqtt_regex` says how messages are written, but this rule only reads".to_owned();
    assert_eq!(faults(vec![reading]), [(0, Field::MqttRegex, None, message)]);
    let message = "`{y}` is not a capture of `mqtt_regex`".to_owned();
    assert_eq!(
        faults(vec![regex("a", "(?<x>.*)", "t", Some("{x}{y}"))]),
        [(0, Field::KafkaKey, Some(3), message)]
    );
}

#[test]
fn an_expression_that_is_never_reached_is_told() {
    let told = |first: &str| format!("never reached: `{first}` before it takes every topic of this filter");
    let rules = vec![spec("all", "v/#", "t", None), regex("none", "v/[0-9]+", "t", None)];
    assert_eq!(faults(rules), [(1, Field::MqttRegex, Some(0), told("all"))]);
    let rules = vec![regex("all", "v/.+", "t", None), regex("none", "v/.+", "t", None)];
    assert_eq!(faults(rules), [(1, Field::MqttRegex, Some(0), told("all"))]);
    // Where it cannot be told it is not.
    compile(vec![
        regex("all", ".*", "t", None),
        spec("none", "v/#", "t", None),
        regex("or", "v?.*", "t", None),
    ]);
}

#[test]
fn more_expressions_than_are_good_are_refused() {
    let rules = |count| (0..count).map(|i| regex(&format!("r{i}"), &format!("r{i}/x"), "t", None)).collect();
    assert_eq!(compile(rules(1_000)).len(), 1_000);
    let found = faults(rules(1_001));
    assert_eq!(
        found,
        [(1_000, Field::MqttRegex, None, "more than 1000 rules with `mqtt_regex`".to_owned())]
    );
}
