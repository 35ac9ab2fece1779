//! Topic filters of one rule, and what they have in common.

/// Whether a topic may match both filters.
pub(super) fn meet(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

/// Whether all that the second matches the first matches, too.
fn covers(wide: &str, narrow: &str) -> bool {
    // Topics that begin with `$` are not taken by a wildcard in front.
    if narrow.starts_with('$') && wide.starts_with(['#', '+']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Which of the other filters makes the one at `at` needless; of two that match the same the first stays.
pub(super) fn covering<'f>(filters: &[&'f str], at: usize) -> Option<&'f str> {
    let own = filters[at];
    let mut others = filters.iter().enumerate().filter(|(other, _)| *other != at);
    let found = others.find(|(other, wide)| covers(wide, own) && (*other < at || !covers(own, wide)));
    found.map(|(_, wide)| *wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_may_match_the_same_topic_meet() {
        for (one, other, met) in [
            ("a/#", "a", true),
            ("a/+", "+/b", true),
            ("a/+/c", "a/b", false),
            ("a", "b", false),
            ("#", "x/y", true),
        ] {
            assert_eq!((meet(one, other), meet(other, one)), (met, met), "{one} {other}");
        }
    }

    #[test]
    fn a_filter_covers_those_that_match_nothing_else() {
        for (wide, narrow, covered) in [
            ("t/#", "t/a", true),
            ("t/#", "t", true),
            ("t/#", "t/+/#", true),
            ("t/+", "t/a", true),
            ("+/+", "t/+", true),
            ("t/a", "t/+", false),
            ("t/+", "t/#", false),
            ("t/+/#", "t/#", false),
            ("t/+", "t", false),
            ("a/+", "+/b", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ] {
            assert_eq!(covers(wide, narrow), covered, "{wide} {narrow}");
        }
    }

    #[test]
    fn of_filters_that_match_the_same_one_stays() {
        let filters = ["a/b", "a/#", "c", "a/#"];
        let covered: Vec<Option<&str>> = (0..filters.len()).map(|at| covering(&filters, at)).collect();
        assert_eq!(covered, [Some("a/#"), None, None, Some("a/#")]);
    }
}
