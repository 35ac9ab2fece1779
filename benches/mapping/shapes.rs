//! Routes among rules of other shapes than those that fleets have, with a copy, and of messages that no rule takes: each row with the goal
//! of all.

use std::hint::black_box;

use mqtt_kafka_proxy::mapping::{Direction, NoRoute, RuleSet, RuleSpec, Unmapped};

use super::{ROUTE, SIZES, compiled, judge, numbered, published, route, row, rule_of, rules_of, walk};

/// Filters of other shapes; `@` is the number of their rule.
const SHAPES: [(&str, &str); 4] = [
    ("route, a level by +", "fleet@/+/{vin}/{sensor}"),
    ("route, the rest by #", "fleet@/{vin}/{sensor}/#"),
    ("route, apart in the last level", "plants/{vin}/lines/{sensor}/machine@"),
    ("route, apart behind a +", "+/{vin}/{sensor}/machine@"),
];

/// It was told that no rule matches.
fn in_vain(set: &RuleSet, topic: &str) -> f64 {
    published(topic, |inbound, draft| {
        let told = set.route(inbound, draft);
        assert_eq!(black_box(told), Err(NoRoute::Unmapped(Unmapped::Reject)));
    })
}

/// Rules in pairs: of what the first takes the second makes a copy.
fn pairs(count: usize) -> RuleSet {
    let rule = |i: usize| {
        let rule = rule_of(i, format!("fleet{}/{{vin}}/telemetry/{{sensor}}", i / 2));
        match i % 2 {
            0 => rule,
            _ => RuleSpec {
                also: true,
                direction: Direction::Publish,
                ..rule
            },
        }
    };
    compiled((0..count).map(rule))
}

/// A PUBLISH found its rule and the one that makes a copy, if there is one, and all headers of its records were walked: of each record its part.
fn copied(count: usize) -> f64 {
    let (set, topic) = (pairs(count), format!("fleet{}/WVW12345678901234/telemetry/rpm", count / 4));
    published(&topic, |inbound, draft| {
        set.route(inbound, draft).expect("a rule matches");
        assert_eq!(draft.len(), count.min(2));
        black_box((0..draft.len()).map(|i| walk(draft, i, &set, inbound)).sum::<usize>());
    }) / count.min(2) as f64
}

/// Messages among rules of those shapes, such of which there is a copy, and such that no rule takes.
pub(super) fn judge_all(missed: &mut Vec<String>) {
    let set = |filter: &str, count: usize| rules_of(count, |i| numbered(filter, i));
    let topic = |filter: &str, i: usize| {
        let topic = numbered(filter, i).replace("{vin}", "WVW12345678901234");
        topic.replace("{sensor}", "rpm").replace('+', "gate").replace('#', "engine/left")
    };
    let mut judged = |name: &str, figures: [f64; 3]| {
        row(name, &figures, "300 at 10,000 rules");
        judge(missed, &format!("ns among 10,000 rules, {name}"), figures[2], ROUTE);
    };
    for (name, filter) in SHAPES {
        judged(name, SIZES.map(|count| route(&set(filter, count), &topic(filter, count / 2))));
    }
    judged("route, with a copy, each record", SIZES.map(copied));
    for (name, (_, filter)) in [
        ("no rule, by the first level", SHAPES[0]),
        ("no rule, by the last level", SHAPES[2]),
    ] {
        judged(name, SIZES.map(|count| in_vain(&set(filter, count), &topic(filter, count))));
    }
}
