//! What a subscriber's filter reads.

use super::*;

#[test]
fn filters_name_their_sources() {
    let set = compile(vec![spec("a", "v/{x}/{s}", "t-{s}", Some("{x}"))]);
    assert_eq!(set.sources("v/1/s").unwrap(), [source(0, "t-s", Some("1"))]);
    assert_eq!(set.sources("+/+/s").unwrap(), [source(0, "t-s", None)]);
    assert!(matches!(set.sources("v/1/#"), Err(NoSources::NotReadable { rule: RuleId(0), .. })));
    assert_eq!(set.sources("w/1/s"), Err(NoSources::Unmapped(Unmapped::Reject)));
    assert_eq!(set.sources("v/1"), Err(NoSources::Unmapped(Unmapped::Reject)));
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
    assert_eq!(set.sources("$SYS/#"), Err(NoSources::Unmapped(Unmapped::Reject)));
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
