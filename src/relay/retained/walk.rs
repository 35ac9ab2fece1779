//! The topics of an ordered map that a filter matches, one after the other: an ordered map of names is walked like a trie.
//!
//! Names stand in the order of their bytes, so those with a common beginning stand together. Where a name does not match, the next one that
//! can is sought, over all between: a level that is named is jumped to, a branch that cannot match is jumped over. Nothing is held between
//! two steps but a name, so the map may change.

use std::{collections::BTreeMap, ops::Bound};

/// What a name is to a filter.
enum Look {
    Matches,
    /// It does not match, nor does any before this text.
    Seek(String),
    /// Neither does any behind it.
    End,
}

/// Where a walk goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// At the first name that is not before this text.
    At(String),
    /// Behind this name.
    Behind(String),
}

impl Default for From {
    fn default() -> Self {
        Self::At(String::new())
    }
}

/// What a step found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'m, V> {
    /// The next name that matches.
    Next(&'m str, &'m V),
    /// As many names were looked at as one step may look at.
    Pause(From),
    /// There is none.
    End,
}

/// The next name from `from` on that a valid filter matches; `most` names are looked at.
pub fn next<'m, V>(map: &'m BTreeMap<Box<str>, V>, filter: &str, from: &From, most: usize) -> Found<'m, V> {
    let mut bound = match from {
        From::At(text) => Bound::Included(text.clone()),
        From::Behind(name) => Bound::Excluded(name.clone()),
    };
    if !filter.contains(['+', '#']) {
        let there = map.range::<str, _>((bound.as_ref().map(String::as_str), Bound::Unbounded)).next();
        // Its own place is the only one.
        let exact = || map.get_key_value(filter);
        return match there {
            Some((name, _)) if **name <= *filter => exact().map_or(Found::End, |(name, value)| Found::Next(name, value)),
            _ => Found::End,
        };
    }
    let levels: Vec<&str> = filter.split('/').collect();
    for _ in 0..most {
        let range = (bound.as_ref().map(String::as_str), Bound::Unbounded);
        let Some((name, value)) = map.range::<str, _>(range).next() else {
            return Found::End;
        };
        match look(&levels, name) {
            Look::Matches => return Found::Next(name, value),
            Look::Seek(text) => bound = Bound::Included(text),
            Look::End => return Found::End,
        }
    }
    Found::Pause(match bound {
        Bound::Included(text) => From::At(text),
        Bound::Excluded(name) => From::Behind(name),
        Bound::Unbounded => From::default(),
    })
}

/// The first text behind all names that begin with this one and a slash.
fn behind_branch(of: &str) -> String {
    // '0' is the byte after '/'.
    format!("{of}0")
}

/// Compares level by level. Whatever is sought lies behind `name`.
fn look(filter: &[&str], name: &str) -> Look {
    // [MQTT-4.7.2-1]; '%' is the byte after '$'.
    if name.starts_with('$') && matches!(filter[0], "+" | "#") {
        return Look::Seek("%".to_owned());
    }
    // Where the level in hand begins, and where the branch of the last `+` before it ends.
    let (mut start, mut open) = (0, None);
    for (at, wanted) in filter.iter().enumerate() {
        if *wanted == "#" {
            return Look::Matches;
        }
        let end = name[start..].find('/').map_or(name.len(), |length| start + length);
        if *wanted == "+" {
            open = Some(end);
        } else if *wanted != &name[start..end] {
            return elsewhere(name, start, wanted, open);
        }
        if end == name.len() {
            return match &filter[at + 1..] {
                [] | ["#"] => Look::Matches,
                // Too short: what is below comes later.
                _ => Look::Seek(format!("{name}\0")),
            };
        }
        if at + 1 == filter.len() {
            // Too long, and so is all of this branch.
            return Look::Seek(behind_branch(&name[..end]));
        }
        start = end + 1;
    }
    Look::End
}

/// The level that begins at `start` is another than `wanted`.
fn elsewhere(name: &str, start: usize, wanted: &str, open: Option<usize>) -> Look {
    let before = &name[..start];
    let target = format!("{before}{wanted}");
    if *target > *name {
        return Look::Seek(target);
    }
    // The name itself is past; what lies below it may still come.
    let below = format!("{target}/");
    if *below > *name {
        return Look::Seek(below);
    }
    match open {
        Some(end) => Look::Seek(behind_branch(&name[..end])),
        None => Look::End,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topic::matches;

    fn all(map: &BTreeMap<Box<str>, ()>, filter: &str, most: usize) -> (Vec<String>, usize) {
        let (mut found, mut from, mut steps) = (vec![], From::default(), 0);
        loop {
            steps += 1;
            from = match next(map, filter, &from, most) {
                Found::Next(name, ()) => {
                    found.push(name.to_owned());
                    From::Behind(name.to_owned())
                }
                Found::Pause(from) => from,
                Found::End => return (found, steps),
            };
        }
    }

    // Few letters, so that names meet; those before and behind the slash in order, and none.
    const LEVEL: &str = "[ab!0$]{0,2}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn it_finds_what_each_name_alone_says(
            names in prop::collection::btree_set(prop::collection::vec(LEVEL, 1..5), 0..40),
            filter in prop::collection::vec(prop_oneof![3 => LEVEL.boxed(), 3 => Just("+".to_owned()).boxed()], 1..5),
            rest in any::<bool>(), most in 1..4usize,
        ) {
            let map: BTreeMap<Box<str>, ()> = names.iter().map(|levels| (levels.join("/").into(), ())).collect();
            let mut filter = filter.join("/");
            if rest { filter.push_str("/#"); }
            let expected: Vec<String> = map.keys().filter(|name| matches(&filter, name)).map(|name| name.to_string()).collect();
            prop_assert_eq!(all(&map, &filter, most).0, expected, "{}", filter);
        }
    }

    #[test]
    fn branches_that_cannot_match_are_not_walked() {
        let name = |vehicle: usize, sensor: usize| format!("v/{vehicle}/s{sensor}").into_boxed_str();
        let names = (0..300).flat_map(|vehicle| (0..300).map(move |sensor| (name(vehicle, sensor), ())));
        let map: BTreeMap<_, _> = names.collect();
        let (found, steps) = all(&map, "v/+/s7", 1);
        assert_eq!(found.len(), 300);
        assert!(steps < 1_500, "{steps} of 90,000 names");
        let (found, steps) = all(&map, "v/77/#", 1);
        assert_eq!(found.len(), 300);
        assert!(steps < 310, "{steps}");
        assert_eq!(all(&map, "v/77/s9", 1).0, ["v/77/s9"]);
        assert_eq!(all(&map, "w/+", 1).1, 2);
    }

    #[test]
    fn the_map_may_change_under_a_walk() {
        let mut map: BTreeMap<Box<str>, ()> = ["a/1", "a/2", "a/3"].map(|name| (name.into(), ())).into();
        let Found::Next(name, ()) = next(&map, "a/+", &From::default(), 9) else {
            panic!("a/1")
        };
        let from = From::Behind(name.to_owned());
        map.remove("a/1");
        map.remove("a/2");
        map.insert("a/15".into(), ());
        assert_eq!(next(&map, "a/+", &from, 9), Found::Next("a/15", &()));
        assert_eq!(next(&map, "a/3", &From::default(), 9), Found::Next("a/3", &()));
        assert_eq!(next(&map, "a/3", &From::Behind("a/3".to_owned()), 9), Found::End);
        assert_eq!(next(&map, "a/4", &From::default(), 9), Found::End);
    }
}
