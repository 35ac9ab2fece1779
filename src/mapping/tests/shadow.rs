//! Which of two rules gets the records that other programs write: what the compiler says of it is compared with what the rules do.

use super::*;

/// Rules that read the topic `t`.
fn readers() -> Vec<RuleSpec> {
    let templates = [
        "a/{key}",
        "a/{key#}",
        "{key#}",
        "{key}/a",
        "a/{header.h}",
        "a/{key}/{header.h}",
        "a/{header.h}/{header.h#}",
        "a/x",
        "{topic}/{partition}",
        "a/{header.w}/{key#}",
    ];
    let mut rules: Vec<RuleSpec> = templates.map(|mqtt| subscribe("reads", mqtt, "t")).into();
    rules.extend([
        spec("one", "b/{v}", "t", Some("{v}")),
        spec("rest", "b/{v#}", "t", Some("{v}")),
        spec("dollar", "{v#}", "t", Some("{v}")),
        spec("whole", "b/+", "t", None),
        spec("lost", "b/+/{v}", "t", Some("{v}")),
        spec("form", "b/{v}", "t", Some("k{v}")),
        with_headers(spec("header", "b/{v}/{w}", "t", Some("{v}")), &[("h", "{w}")]),
        with_headers(spec("fixed", "b/{w}", "t", Some("k")), &[("h", "{w}")]),
    ]);
    rules
}

/// Whether a subscriber of a set gets each of many records.
fn gets(spec: &RuleSpec) -> Vec<bool> {
    let set = compile(vec![spec.clone()]);
    let reader = set.reader("t");
    let mut got = Vec::new();
    for key in [None, Some("k"), Some("z"), Some("k/l"), Some("b/c"), Some("$s")] {
        for h in [None, Some("x"), Some("x/y")] {
            for w in [None, Some("x")] {
                let headers = [("h", h), ("w", w)];
                let headers = headers
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_bytes(), Some((*value)?.as_bytes()))));
                let record = Stored {
                    timestamp: 0,
                    key: key.map(str::as_bytes),
                    value: Some(b""),
                    headers,
                };
                got.push(set.locate(&reader, 0, &record, &mut LocateScratch::default()).is_ok());
            }
        }
    }
    got
}

#[test]
fn a_rule_is_never_reached_just_if_one_before_it_takes_all_that_it_could() {
    let rules = readers();
    let (mut dead, mut alive) = (0, 0);
    for first in &rules {
        for second in &rules {
            let mut pair = vec![first.clone(), second.clone()];
            pair[0].name = "first".into();
            pair[1].name = "second".into();
            let (first_gets, second_gets) = (gets(first), gets(second));
            let is_shadowed = first_gets.iter().zip(&second_gets).all(|(first, second)| *first || !second);
            let told = match RuleSet::compile(pair, Unmapped::Reject) {
                Ok(set) => set.warnings().iter().any(|w| w.rule == 1 && w.message.contains("`first`")),
                Err(faults) if faults[0].message.contains("every record of") => true,
                // Of what devices publish the second gets nothing: that is told already.
                Err(_) => continue,
            };
            let gets_any = second_gets.iter().any(|got| *got);
            assert!(!told || is_shadowed, "told of {} behind {}", second.mqtt, first.mqtt);
            // Of keys with a form of their own not much is said, nor behind one that may refuse a topic of the server's own.
            let is_plain = |spec: &RuleSpec| !spec.mqtt.starts_with('{') && !matches!(spec.name.as_str(), "whole" | "form" | "fixed");
            if gets_any && is_plain(first) && second.name != "form" {
                assert!(told || !is_shadowed, "not told of {} behind {}", second.mqtt, first.mqtt);
            }
            if told { dead += 1 } else { alive += 1 }
        }
    }
    assert!(dead > 20 && alive > 100, "{dead} {alive}");
}

#[test]
fn a_rule_that_only_reads_and_gets_nothing_is_a_fault() {
    let behind = vec![subscribe("all", "a/{key#}", "t"), subscribe("one", "b/{key}", "t")];
    let faults = RuleSet::compile(behind, Unmapped::Reject).unwrap_err();
    assert_eq!(
        (faults.len(), faults[0].rule, faults[0].field, faults[0].at),
        (1, 1, Field::Mqtt, Some(0))
    );
    assert!(
        faults[0].message.contains("`all` before it takes every record of `t`"),
        "{faults:?}"
    );
    let right = vec![subscribe("one", "b/{key}", "t"), subscribe("all", "a/{key#}", "t")];
    assert_eq!(compile(right).warnings(), []);
}

#[test]
fn of_rules_that_read_topics_of_one_form_the_later_one_is_never_reached() {
    let told = |second: &str, topic: &str| {
        let rules = vec![
            subscribe("first", "a/{site}/{key}", "plant-{site}"),
            subscribe("second", second, topic),
        ];
        let faults = RuleSet::compile(rules, Unmapped::Reject).err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.rule, fault.field)).collect::<Vec<_>>()
    };
    let never = [(1, Field::Mqtt)];
    assert_eq!(told("b/{site}/{key}", "plant-{site}"), never);
    assert_eq!(told("b/{other}/{key}/x", "plant-{other}"), never);
    // It takes keys with a `/`, too; and other topics.
    assert_eq!(told("b/{site}/{key#}", "plant-{site}"), []);
    assert_eq!(told("b/{site}/{key}", "plants-{site}"), []);
    assert_eq!(told("b/{site}/{key}", "plant-{site}-x"), []);
}
