//! A log that is read anew, all of it or what is left.

use super::*;

/// All that is known, but for bodies: by topic version, order, place, and whether it was cleared.
fn known(store: &Store) -> BTreeMap<String, (u64, i64, Place, bool)> {
    let of = |e: &Entry| (e.version, e.order.offset, e.place, matches!(e.content, Content::Cleared));
    store.entries.iter().map(|(topic, entry)| (topic.to_string(), of(entry))).collect()
}

fn forget_unmet(store: &mut Store) {
    let mut behind = None;
    loop {
        behind = store.forget_unmet(behind.as_deref(), 2);
        if behind.is_none() {
            return;
        }
    }
}

/// What a log holds at an offset.
#[derive(Clone, Debug)]
enum Logged {
    Record {
        topic: usize,
        partition: i32,
        offset: i64,
        as_of: Option<i64>,
    },
    /// Of the record that it was written for, or of none.
    Tombstone { topic: usize, of: Option<(i32, i64)> },
}

fn log() -> impl Strategy<Value = Vec<Logged>> {
    let (topic, order) = (0..TOPICS.len(), (0..2i32, 0..6i64));
    let record = (topic.clone(), order.clone(), prop::option::weighted(0.3, 0..40i64)).prop_map(|(topic, (partition, offset), as_of)| {
        Logged::Record {
            topic,
            partition,
            offset,
            as_of,
        }
    });
    let tombstone = (topic, prop::option::of(order)).prop_map(|(topic, of)| Logged::Tombstone { topic, of });
    prop::collection::vec(prop_oneof![5 => record, 1 => tombstone], 0..40)
}

fn read(store: &mut Store, at: i64, logged: &Logged) -> Applied {
    match logged {
        Logged::Record {
            topic,
            partition,
            offset,
            as_of,
        } => {
            let payload = (offset % 3 != 0).then_some(&b"x"[..]);
            store.apply(Incoming {
                // Nobody knows of more than there is.
                as_of: as_of.map(|as_of| as_of.min(at - 1)),
                ..incoming(TOPICS[*topic], at, mapped(*partition, *offset), payload)
            })
        }
        Logged::Tombstone { topic, of } => {
            let of = of.map(|(partition, offset)| mapped(partition, offset));
            let place = Place { partition: 0, offset: at };
            store.tombstone(TOPICS[*topic], place, of.as_ref());
            Applied::Nothing
        }
    }
}

/// A store that has read a log.
fn reader(log: &[Logged]) -> Store {
    let mut store = Store::new(usize::MAX);
    store.begin(vec![]);
    for (logged, at) in log.iter().zip(0..) {
        read(&mut store, at, logged);
    }
    store
}

fn is_empty_when_all_is_forgotten(mut store: Store) -> bool {
    TOPICS.into_iter().for_each(|topic| store.forget(topic));
    (store.held(), store.len()) == (0, 0)
}

proptest! {
    /// Also if a reading ends before it is complete.
    #[test]
    fn what_is_read_anew_is_no_news(log in log(), broken in any::<prop::sample::Index>()) {
        let mut store = reader(&log);
        let (before, held) = (known(&store), store.held());
        for end in [broken.index(log.len() + 1), log.len()] {
            store.begin(vec![log.len() as i64]);
            for (logged, at) in log[..end].iter().zip(0..) {
                prop_assert_eq!(read(&mut store, at, logged), Applied::Nothing);
            }
        }
        forget_unmet(&mut store);
        prop_assert_eq!((known(&store), store.held()), (before, held));
        prop_assert!(is_empty_when_all_is_forgotten(store));
    }

    /// What is known in the end is what is known to who reads first what is left. Nothing is told that was read
    /// before.
    #[test]
    fn of_a_log_that_has_lost_records_what_is_left_counts(
        log in log(), gone in prop::collection::vec(any::<bool>(), 40), cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(log.len() + 1);
        let mut store = reader(&log[..cut]);
        let mut fresh = reader(&[]);
        store.begin(vec![cut as i64]);
        for ((logged, at), _) in log.iter().zip(0i64..).zip(&gone).filter(|(_, gone)| !**gone) {
            read(&mut fresh, at, logged);
            let applied = read(&mut store, at, logged);
            prop_assert!(applied == Applied::Nothing || at >= cut as i64);
        }
        forget_unmet(&mut store);
        let without_version = |known: &BTreeMap<String, (u64, i64, Place, bool)>| -> Vec<_> {
            known.iter().map(|(topic, (_, offset, place, cleared))| (topic.clone(), *offset, *place, *cleared)).collect()
        };
        prop_assert_eq!(without_version(&known(&store)), without_version(&known(&fresh)));
        prop_assert!(is_empty_when_all_is_forgotten(store));
    }
}
