//! What becomes of topics and filters that no rule maps, where a rule has a word of its own for them.

use super::*;

fn says(unmapped: Unmapped, spec: RuleSpec) -> RuleSpec {
    RuleSpec {
        unmapped: Some(unmapped),
        ..spec
    }
}

fn only_publishes(spec: RuleSpec) -> RuleSpec {
    RuleSpec {
        direction: Direction::Publish,
        ..spec
    }
}

/// Of a message.
#[track_caller]
fn of(set: &RuleSet, topic: &str, expected: Option<Unmapped>) {
    let packet = publish(topic, b"");
    let routed = set.route(&inbound(&packet), &mut Draft::new());
    assert_eq!(
        routed,
        expected.map_or(Ok(()), |unmapped| Err(NoRoute::Unmapped(unmapped))),
        "{topic}"
    );
}

/// Of a subscription.
#[track_caller]
fn of_filter(set: &RuleSet, filter: &str, expected: Option<Unmapped>) {
    match (set.sources(filter), expected) {
        (Ok(_), None) => {}
        (Err(unmapped), Some(expected)) => assert_eq!(unmapped, expected, "{filter}"),
        (found, _) => panic!("{filter}: {found:?}"),
    }
}

use Unmapped::{Drop, Reject};

#[test]
fn a_rule_that_only_reads_has_a_word_for_messages_of_its_topics() {
    let set = compile(vec![
        says(Reject, subscribe("exact", "v/42/commands", "one")),
        says(Drop, subscribe("commands", "v/{key}/commands", "two")),
        says(Drop, subscribe("part", "w/x{key}y/{header.h#}", "three")),
        subscribe("silent", "v/{key}/silent", "four"),
        spec("mapped", "v/7/commands", "five", None),
    ]);
    of(&set, "v/1/commands", Some(Drop));
    of(&set, "v/42/commands", Some(Reject));
    of(&set, "v/7/commands", None);
    of(&set, "v/1/silent", Some(Reject));
    of(&set, "v/1", Some(Reject));
    of(&set, "w/x1y/a/b", Some(Drop));
    for other in ["w/x1/a", "w/1y/a", "w/x1y", "$SYS/x"] {
        of(&set, other, Some(Reject));
    }
    // What it delivers is mapped.
    of_filter(&set, "v/1/commands", None);
    of_filter(&set, "x", Some(Reject));
}

#[test]
fn a_rule_that_only_writes_has_a_word_for_subscriptions_that_meet_its_topics() {
    let set = RuleSet::compile(
        vec![
            says(Reject, only_publishes(spec("alarms", "v/+/alarms", "one", None))),
            only_publishes(spec("silent", "silent/#", "two", None)),
            says(Reject, also(spec("copies", "c/{x}", "three", Some("{x}")))),
            spec("both", "b/{x}", "four", Some("{x}")),
        ],
        Drop,
    )
    .unwrap();
    of_filter(&set, "v/1/alarms", Some(Reject));
    of_filter(&set, "v/#", Some(Reject));
    of_filter(&set, "c/+", Some(Reject));
    of_filter(&set, "silent/x", Some(Drop));
    of_filter(&set, "elsewhere", Some(Drop));
    of_filter(&set, "#", None);
    of(&set, "v/1/alarms", None);
    of(&set, "x", Some(Drop));
}
