//! Rights over topics and filters, and what hostile identities do not get.

use proptest::prelude::*;

use super::*;
use crate::mqtt::topic;

fn right(allow: bool, patterns: &[&str]) -> Right {
    Right {
        allow,
        publish: true,
        subscribe: true,
        who: Who::default(),
        topics: patterns.iter().map(|p| Pattern::parse(p).unwrap()).collect(),
        max_qos: QoS::ExactlyOnce,
        retain: true,
    }
}

fn principal(name: &str) -> Principal {
    Principal {
        name: name.into(),
        claims: Box::new([("fleet".into(), "north".into())]),
    }
}

const PUBLISH: Action = Action::Publish { retain: false };

fn may(rights: &[Right], identity: Option<&str>, action: Action, topic: &str) -> bool {
    let principal = identity.map(principal);
    let subject = Subject {
        principal: principal.as_ref(),
        client: "client-7",
    };
    Rights::new(rights.to_vec()).permit(&subject, action, topic, QoS::AtLeastOnce)
}

#[test]
fn placeholders_stand_for_text() {
    let own = [right(
        true,
        &["v/{identity}/#", "c/{client}", "f/{claim.fleet}/+/x", "dev-{identity}"],
    )];
    for topic in ["v/vin42/a", "v/vin42/a/b", "v/vin42", "c/client-7", "f/north/any/x", "dev-vin42"] {
        assert!(may(&own, Some("vin42"), PUBLISH, topic), "{topic}");
        assert!(may(&own, Some("vin42"), Action::Subscribe, topic), "{topic}");
    }
    for topic in [
        "v/vin4/a",
        "v/vin423",
        "v",
        "v/",
        "c/client-8",
        "c/client-7/x",
        "f/south/any/x",
        "f/north/x",
        "dev-vin423",
        "w",
    ] {
        assert!(!may(&own, Some("vin42"), PUBLISH, topic), "{topic}");
        assert!(!may(&own, Some("vin42"), Action::Subscribe, topic), "{topic}");
    }
    assert!(!may(&own, None, PUBLISH, "v/vin42/a"), "nobody owns nothing");
    assert!(may(&own, None, PUBLISH, "c/client-7"));
    assert!(may(&own, Some("spiffe://a/b"), PUBLISH, "v/spiffe://a/b/t"));
}

#[test]
fn an_identity_that_is_a_wildcard_owns_nothing() {
    let own = [right(true, &["v/{identity}/#", "{identity}"])];
    for identity in ["+", "#", "a/#", "a/+"] {
        for filter in ["v/+/#", "#", "+", "v/a/#", "v/#"] {
            assert!(!may(&own, Some(identity), Action::Subscribe, filter), "{identity} {filter}");
        }
    }
}

#[test]
fn filters_must_lie_within() {
    let allowed = [right(true, &["v/+/t/#", "x"])];
    for (filter, expected) in [
        ("v/1/t/a", true),
        ("v/+/t/#", true),
        ("v/1/t/#", true),
        ("v/+/t", true),
        ("$share/g/v/+/t/a", true),
        ("v/#", false),
        ("#", false),
        ("+/1/t/a", false),
        ("$share/g/#", false),
        ("$share//x", false),
        ("+", false),
    ] {
        assert_eq!(may(&allowed, None, Action::Subscribe, filter), expected, "{filter}");
    }
    let all = [right(true, &["#"])];
    assert!(may(&all, None, Action::Subscribe, "#"));
    assert!(
        !may(&all, None, Action::Subscribe, "$SYS/#"),
        "wildcards hold no topics that begin with $"
    );
    assert!(!may(&all, None, PUBLISH, "$SYS/x"));
}

#[test]
fn a_denial_covers_what_meets_it() {
    let rights = [right(false, &["secret/#", "own/{claim.missing}/x"]), right(true, &["#"])];
    for filter in ["secret/a", "secret", "#", "+/a", "own/1/x", "own/#", "+/+/+"] {
        assert!(!may(&rights, Some("a"), Action::Subscribe, filter), "{filter}");
    }
    for filter in ["public/#", "own", "+"] {
        assert_eq!(
            may(&rights, Some("a"), Action::Subscribe, filter),
            filter != "own" && filter != "+",
            "{filter}"
        );
    }
    assert!(!may(&rights, Some("a"), PUBLISH, "secret/a"));
    assert!(
        !may(&rights, Some("a"), PUBLISH, "own/anything"),
        "without the claim it denies all from there on"
    );
    assert!(may(&rights, Some("a"), PUBLISH, "public"));
}

#[test]
fn the_first_rule_that_speaks_decides() {
    let mut other = right(false, &["a/#"]);
    other.who.identity = Some("vin*".to_owned());
    let rights = [right(true, &["a/open"]), other, right(true, &["a/#"])];
    assert!(may(&rights, Some("vin1"), PUBLISH, "a/open"));
    assert!(!may(&rights, Some("vin1"), PUBLISH, "a/b"));
    assert!(may(&rights, Some("meter1"), PUBLISH, "a/b"));
    assert!(may(&rights, None, PUBLISH, "a/b"), "a rule for identities is not about nobody");
    assert!(!may(&[], Some("a"), PUBLISH, "a"), "what no rule allows is denied");
}

#[test]
fn qos_retain_claims_and_directions() {
    let mut low = right(true, &["t"]);
    (low.max_qos, low.retain, low.subscribe) = (QoS::AtMostOnce, false, false);
    low.who.claims = vec![("fleet".to_owned(), "nor*".to_owned())];
    let rights = Rights::new(vec![low]);
    assert_eq!(rights.claims(), ["fleet"]);
    let principal = principal("a");
    let subject = Subject {
        principal: Some(&principal),
        client: "c",
    };
    assert!(rights.permit(&subject, PUBLISH, "t", QoS::AtMostOnce));
    assert!(!rights.permit(&subject, PUBLISH, "t", QoS::AtLeastOnce));
    assert!(!rights.permit(&subject, Action::Publish { retain: true }, "t", QoS::AtMostOnce));
    assert!(!rights.permit(&subject, Action::Subscribe, "t", QoS::AtMostOnce));
    let nobody = Subject {
        principal: None,
        client: "c",
    };
    assert!(!rights.permit(&nobody, PUBLISH, "t", QoS::AtMostOnce));
}

#[test]
fn globs() {
    for (glob, text, expected) in [
        ("*", "", true),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*c", "abc", true),
        ("a*b*c", "aXbYc", true),
        ("a*a", "a", false),
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("", "x", false),
    ] {
        assert_eq!(fits(glob, text), expected, "{glob} {text}");
    }
}

#[test]
fn patterns_that_mean_nothing_are_refused() {
    for (text, words) in [
        ("", "at least one"),
        ("a/#/b", "#"),
        ("a/b+", "+"),
        ("v{identity}#", "#"),
        ("{identity", "without"),
        ("{vin}/a", "{identity}"),
        ("{claim.}/a", "{identity}"),
    ] {
        let fault = Pattern::parse(text).unwrap_err();
        assert!(fault.contains(words), "{text}: {fault}");
    }
}

fn level() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "", "$s", "+"]).prop_map(str::to_owned)
}

fn filter() -> impl Strategy<Value = String> {
    (prop::collection::vec(level(), 1..4), any::<bool>()).prop_map(|(mut levels, rest)| {
        if rest {
            levels.push("#".to_owned());
        }
        levels.join("/")
    })
}

proptest! {
    /// Against the matching of the specification: no allowed filter brings a topic that the pattern has not, no filter that a denial
    /// lets pass brings one that it has.
    #[test]
    fn no_filter_reaches_around_a_pattern(pattern in filter(), filter in filter(), topics in prop::collection::vec("[ab$s]{0,2}(/[ab]{0,1}){0,4}", 40)) {
        prop_assume!(topic::validate_plain_filter(&pattern).is_ok() && topic::validate_plain_filter(&filter).is_ok());
        let allowed = may(&[right(true, &[&pattern])], None, Action::Subscribe, &filter);
        let passes = may(&[right(false, &[&pattern]), right(true, &[&filter])], None, Action::Subscribe, &filter);
        for name in topics.iter().filter(|t| topic::validate_name(t).is_ok() && topic::matches(&filter, t)) {
            prop_assert!(!allowed || topic::matches(&pattern, name), "allowed {} within {}: {}", filter, pattern, name);
            prop_assert!(!passes || !topic::matches(&pattern, name), "not denied {} by {}: {}", filter, pattern, name);
        }
        let covers = may(&[right(true, &[&pattern])], None, PUBLISH, "a/b");
        prop_assert_eq!(covers, topic::matches(&pattern, "a/b"));
    }
}
