//! The store beside a model that keeps all records and looks for the winner among them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    mapping::{Delivered, RuleId},
    mqtt::QoS,
};

const TOPICS: [&str; 4] = ["a", "a/b", "a/b/c", "b"];
const END: Place = Place {
    partition: 0,
    offset: i64::MAX,
};

fn body(payload: &[u8]) -> Body {
    let message = Delivered {
        rule: RuleId(0),
        topic: "",
        qos: QoS::AtLeastOnce,
        retain: true,
        message_expiry_interval: None,
        shared_properties: b"props",
        client: Some("client"),
        timestamp: 0,
        payload,
        left_out: 0,
    };
    Body::copy(&message, None)
}

fn mapped(partition: i32, offset: i64) -> Mapped<'static> {
    Mapped {
        topic: "t",
        id: [1; 16],
        partition,
        offset,
    }
}

fn incoming(topic: &str, at: i64, mapped: Mapped<'static>, payload: Option<&[u8]>) -> Incoming<'static> {
    Incoming {
        topic: TOPICS.into_iter().find(|known| *known == topic).unwrap(),
        place: Place { partition: 0, offset: at },
        mapped,
        as_of: None,
        rule: 0,
        met: 0,
        body: payload.map(body),
    }
}

/// All that a walk gives between two versions.
fn walked(store: &Store, filter: &str, versions: (u64, u64)) -> BTreeMap<String, Vec<u8>> {
    let (mut all, mut from) = (BTreeMap::new(), From::default());
    while let Found::Next(topic, entry) = store.next(filter, &from, usize::MAX) {
        if let Content::Here(body) = &entry.content
            && entry.version > versions.0
            && entry.version <= versions.1
        {
            all.insert(topic.to_owned(), body.payload().to_vec());
        }
        from = From::Behind(topic.to_owned());
    }
    all
}

#[derive(Clone, Debug)]
struct Step {
    topic: usize,
    offset: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..TOPICS.len(), 0..12i64).prop_map(|(topic, offset)| Step { topic, offset });
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// Whatever the order of the log: of each topic the highest mapped offset wins, the first of those that claim the same one stays in force as
    /// it was, and memory is counted to the byte.
    #[test]
    fn the_highest_mapped_offset_wins(steps in steps(), cut in any::<prop::sample::Index>()) {
        let mut store = Store::new(usize::MAX);
        let mut best: BTreeMap<usize, (i64, u8)> = BTreeMap::new();
        let (mut seen, cut) = (0, cut.index(steps.len() + 1));
        let (mut before, mut told) = (BTreeMap::new(), BTreeMap::new());
        for (at, step) in steps.iter().enumerate() {
            if at == cut {
                seen = store.version();
                before = walked(&store, "#", (0, seen));
            }
            // A record that comes again is the same record: its value follows from topic and offset. 0 clears.
            let value = (7 * step.offset + step.topic as i64) as u8 % 4;
            let payload = [value; 3];
            let record = incoming(TOPICS[step.topic], at as i64, mapped(0, step.offset), (value > 0).then_some(&payload));
            let known = best.get(&step.topic).copied();
            let applied = store.apply(record);
            let wins = known.is_none_or(|(offset, _)| step.offset >= offset);
            if wins {
                best.insert(step.topic, (step.offset, value));
            }
            let news = known.is_none_or(|(offset, _)| step.offset > offset) && value > 0;
            prop_assert_eq!(matches!(applied, Applied::New(_)), news);
            if let (Applied::New(_), true) = (applied, at >= cut) {
                told.insert(TOPICS[step.topic].to_owned(), payload.to_vec());
            }
            prop_assert_eq!(store.entry(TOPICS[step.topic]).unwrap().is_overtaken(), !wins);
        }
        let expected: BTreeMap<String, Vec<u8>> = best.iter().filter(|(_, (_, value))| *value > 0)
            .map(|(topic, (_, value))| (TOPICS[*topic].to_owned(), vec![*value; 3])).collect();
        prop_assert_eq!(&walked(&store, "#", (0, u64::MAX)), &expected);
        if cut < steps.len() {
            // A walk that began at the cut, and is done now: it and what was told since make all, and nothing twice.
            let late = walked(&store, "#", (0, seen));
            for (topic, value) in &late {
                prop_assert_eq!(before.get(topic), Some(value));
                prop_assert!(!told.contains_key(topic));
            }
            for (topic, value) in &expected {
                prop_assert!(late.get(topic) == Some(value) || told.get(topic) == Some(value));
            }
        }
        for topic in TOPICS {
            store.forget(topic);
        }
        prop_assert_eq!((store.held(), store.len()), (0, 0));
    }
}

#[test]
fn without_a_common_order_the_later_record_wins() {
    let mut store = Store::new(usize::MAX);
    store.apply(incoming("a", 0, mapped(0, 9), Some(b"first")));
    let moved = store.apply(incoming("a", 1, mapped(1, 2), Some(b"second")));
    assert_eq!(moved, Applied::New(2));
    let anew = Mapped {
        id: [2; 16],
        ..mapped(1, 0)
    };
    assert_eq!(store.apply(incoming("a", 2, anew, Some(b"third"))), Applied::New(3));
    assert_eq!(walked(&store, "a", (0, 3))["a"], b"third");
}

#[test]
fn bodies_beyond_the_budget_are_not_kept_names_are() {
    let mut store = Store::new(3 * ENTRY + body(&[0; 1_000]).weight() + 100);
    for (at, topic) in TOPICS.into_iter().take(3).enumerate() {
        store.apply(incoming(topic, at as i64, mapped(0, at as i64), Some(&[0; 1_000])));
    }
    let here = TOPICS
        .into_iter()
        .filter(|topic| store.entry(topic).is_some_and(|e| matches!(e.content, Content::Here(_))));
    assert_eq!(here.count(), 1);
    assert_eq!(store.len(), 3);
    // What is replaced gives its memory back.
    store.apply(incoming("a", 3, mapped(0, 3), None));
    store.apply(incoming("a/b", 4, mapped(0, 4), Some(&[0; 1_000])));
    assert!(matches!(store.entry("a/b").unwrap().content, Content::Here(_)));
}

#[test]
fn a_tombstone_that_was_meant_for_another_record_takes_nothing() {
    let mut store = Store::new(usize::MAX);
    store.apply(incoming("a", 0, mapped(0, 5), Some(b"x")));
    store.tombstone("a", END, Some(&mapped(0, 4)));
    assert!(store.entry("a").unwrap().is_overtaken());
    store.tombstone("a", END, Some(&mapped(0, 5)));
    assert!(store.entry("a").is_none());
    // What lost to the one that was meant goes with it.
    store.apply(incoming("a", 1, mapped(0, 6), Some(b"x")));
    store.tombstone("a", END, Some(&mapped(0, 7)));
    assert!(store.entry("a").is_none());
    store.apply(incoming("a", 1, mapped(0, 6), Some(b"x")));
    store.tombstone("a", END, None);
    store.tombstone("b", END, None);
    assert_eq!((store.len(), store.held()), (0, 0));
}

mod anew;
mod duties;
