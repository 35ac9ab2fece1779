//! Routes among rules of other shapes than those that fleets have, and of messages that no rule takes: each row with the goal of all.

use std::hint::black_box;

use mqtt_kafka_proxy::mapping::{NoRoute, RuleSet, Unmapped};

use super::{ROUTE, SIZES, judge, numbered, published, route, row, rules_of};

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

/// Messages among rules of those shapes, and such that no rule takes.
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
    for (name, (_, filter)) in [
        ("no rule, by the first level", SHAPES[0]),
        ("no rule, by the last level", SHAPES[2]),
    ] {
        judged(name, SIZES.map(|count| in_vain(&set(filter, count), &topic(filter, count))));
    }
}
