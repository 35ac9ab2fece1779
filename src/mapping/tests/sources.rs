//! What a subscriber's filter reads.

use super::*;

#[test]
fn filters_name_their_sources() {
    let set = compile(vec![spec("a", "v/{x}/{s}", "t-{s}", Some("{x}"))]);
    assert_eq!(set.sources("v/1/s").unwrap(), [source(0, "t-s", Some("1"))]);
    assert_eq!(set.sources("+/+/s").unwrap(), [source(0, "t-s", None)]);
    assert_eq!(set.sources("v/1/#").unwrap(), [source(0, "t-*", Some("1"))]);
    assert_eq!(set.sources("#").unwrap(), [source(0, "t-*", None)]);
    assert_eq!(set.sources("w/1/s"), Err(Unmapped::Reject));
    assert_eq!(set.sources("v/1"), Err(Unmapped::Reject));
}

#[test]
fn only_rules_that_deliver_are_sources() {
    let set = compile(vec![
        also(spec("copy", "a/{x}", "copies", Some("{x}"))),
        RuleSpec {
            direction: Direction::Publish,
            ..spec("in", "a/b", "in", None)
        },
        spec("both", "a/{x}", "both", Some("{x}")),
        subscribe("out", "a/{key}/{header.h}", "out"),
    ]);
    assert_eq!(set.sources("a/b").unwrap(), [source(2, "both", Some("b"))]);
    assert_eq!(set.sources("a/b/c").unwrap(), [source(3, "out", None)]);
    assert_eq!(set.sources("#").unwrap(), [source(2, "both", None), source(3, "out", None)]);
    assert_eq!(set.sources("$SYS/#"), Err(Unmapped::Reject));
}

#[test]
fn a_key_is_a_source_only_where_it_chooses_the_partition() {
    let sticky = |partition| {
        let mut rule = spec("a", "a/{x}", "t", None);
        rule.kafka.key = Some("{x}".into());
        rule.kafka.partition = partition;
        compile(vec![rule]).sources("a/1").unwrap()
    };
    assert_eq!(sticky(None), [source(0, "t", Some("1"))]);
    assert_eq!(sticky(Some(PartitionSpec::Sticky)), [source(0, "t", None)]);
    assert_eq!(sticky(Some(PartitionSpec::Number(1))), [source(0, "t", None)]);
    let whole = compile(vec![spec("a", "a/#", "t", None)]);
    assert_eq!(whole.sources("a/1").unwrap(), [source(0, "t", Some("a/1"))]);
    assert_eq!(whole.sources("a/+").unwrap(), [source(0, "t", None)]);
}

#[test]
fn a_filter_that_leaves_the_kafka_topic_open_reads_all_that_the_rule_may_name() {
    let set = compile(vec![spec("a", "plants/{site}/{x}", "plant-{site}-{x}", None)]);
    assert_eq!(set.sources("plants/a/b").unwrap(), [source(0, "plant-a-b", Some("plants/a/b"))]);
    assert_eq!(set.sources("plants/+/b").unwrap(), [source(0, "plant-*-b", None)]);
    assert_eq!(set.sources("plants/a/+").unwrap(), [source(0, "plant-a-*", None)]);
    assert_eq!(set.sources("plants/#").unwrap(), [source(0, "plant-*-*", None)]);
    assert_eq!(set.sources("plants/a b/+"), Err(Unmapped::Reject), "no Kafka topic has such a name");
    let any = compile(vec![spec("a", "t/{name}/x", "{name}", None)]);
    assert_eq!(any.sources("t/+/x").unwrap(), [source(0, "*", None)]);
    assert_eq!(any.sources("t/__consumer_offsets/x"), Err(Unmapped::Reject), "Kafka's own");
}

#[test]
fn a_rule_that_only_reads_has_captures_of_its_kafka_topic() {
    let set = compile(vec![subscribe("s", "plants/{site}/{key}/x", "plant-{site}")]);
    assert_eq!(set.sources("plants/+/+/x").unwrap(), [source(0, "plant-*", None)]);
    assert_eq!(set.sources("plants/a/+/x").unwrap(), [source(0, "plant-a", None)]);
    assert_eq!(set.sources("plants/a/k/x").unwrap(), [source(0, "plant-a", None)]);
    assert_eq!(set.sources("plants/a/k/y"), Err(Unmapped::Reject));
    let back = |topic: &str| back(&set, topic, Some(b"k"), &[]);
    assert_eq!(back("plant-a").as_deref(), Ok("plants/a/k/x"));
    assert_eq!(back("plant-a-b").as_deref(), Ok("plants/a-b/k/x"));
    assert!(set.reader("other-a").is_empty());
}

#[test]
fn each_capture_of_a_kafka_topic_takes_as_little_as_it_can() {
    let set = compile(vec![subscribe("s", "{tenant}/{kind}", "t-{tenant}-{kind}-log")]);
    let back = |topic: &str| back(&set, topic, None, &[]);
    assert_eq!(back("t-a-b-log").as_deref(), Ok("a/b"));
    assert_eq!(back("t-a-b-c-log").as_deref(), Ok("a/b-c"));
    assert_eq!(set.sources("a/+").unwrap(), [source(0, "t-a-*-log", None)]);
    // Read, and what it holds has another topic.
    assert_eq!(set.sources("a-b/c").unwrap(), [source(0, "t-a-b-c-log", None)]);
    assert_eq!(set.sources("x/y z"), Err(Unmapped::Reject));
    let merged = compile(vec![subscribe("m", "alarms/{key}", "{_any}-alarms")]);
    assert_eq!(merged.sources("alarms/#").unwrap(), [source(0, "*-alarms", None)]);
}
