//! Two custodians at one log whose publishers are late, until nothing is owed any more: then compaction may come.

use std::{collections::BTreeSet, time::Duration};

use super::*;

/// The longest that the record of a message is on its way, in seconds; those of custodians take less.
const LATE: u32 = 5;
/// A message that expires does so after this.
const LIFE: u32 = 3;

/// A record of the topic `a`: where its message lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Logged {
    Cleared(i64),
    Lasting(i64),
    Expiring(i64, u32),
    Tombstone(i64),
}

#[derive(Clone, Debug)]
enum Act {
    /// What is retained, and how long its record takes.
    Retain(u8, u32),
    /// A custodian reads, looks, and what it writes takes so long.
    Look(usize, u32),
    Wait,
}

struct World {
    began: Instant,
    second: u32,
    log: Vec<Logged>,
    /// By when it is in the log.
    flying: Vec<(u32, Logged)>,
    custodians: [(Store, usize); 2],
    next: i64,
}

/// A reader takes what is new to it.
fn read(store: &mut Store, at: &mut usize, log: &[Logged], (began, second): (Instant, u32)) {
    for (offset, logged) in log.iter().enumerate().skip(*at) {
        let expires = |end: u32| {
            let mut body = body(b"x");
            body.expires = Some(began + Duration::from_secs(end.into()));
            body
        };
        let (of, body) = match *logged {
            Logged::Tombstone(of) => {
                let place = Place {
                    partition: 0,
                    offset: offset as i64,
                };
                store.tombstone("a", place, Some(&mapped(0, of)));
                continue;
            }
            Logged::Cleared(of) => (of, None),
            Logged::Lasting(of) => (of, Some(body(b"x"))),
            Logged::Expiring(of, end) => (of, Some(expires(end))),
        };
        let record = incoming("a", offset as i64, mapped(0, of), None);
        store.apply(Incoming {
            body,
            met: second,
            ..record
        });
    }
    *at = log.len();
}

impl World {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            second: 0,
            log: Vec::new(),
            flying: Vec::new(),
            custodians: [(); 2].map(|()| (Store::new(usize::MAX), 0)),
            next: 0,
        }
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_secs(self.second.into())
    }

    fn wait(&mut self) {
        self.second += 1;
        let (second, log) = (self.second, &mut self.log);
        self.flying.retain(|(due, logged)| {
            if *due <= second {
                log.push(*logged);
            }
            *due > second
        });
    }

    /// The message of the highest mapped offset.
    fn retain(&mut self, kind: u8, late: u32) {
        let of = self.next;
        self.next += 1;
        let logged = match kind {
            0 => Logged::Cleared(of),
            1 => Logged::Lasting(of),
            _ => Logged::Expiring(of, self.second + LIFE),
        };
        self.flying.push((self.second + late, logged));
    }

    /// What a custodian writes.
    fn look(&mut self, which: usize, late: u32) -> usize {
        let (now, second) = (self.now(), self.second);
        let (store, at) = &mut self.custodians[which];
        read(store, at, &self.log, (self.began, second));
        let look = Look {
            mine: &BTreeSet::from([0]),
            now,
            second,
            delay: LATE,
        };
        let (duties, _) = store.duties(None, 10, &look);
        for duty in &duties {
            let of = duty.order.offset;
            let logged = match duty.what {
                What::Remove => Logged::Tombstone(of),
                What::Clear => Logged::Cleared(of),
                What::Again { .. } => self.log[duty.place.offset as usize],
            };
            self.flying.push((second + late, logged));
        }
        duties.len()
    }

    /// Whether subscribers of a reader would get something, and of which message.
    fn in_force(&self, store: &Store) -> Option<i64> {
        let entry = store.entry("a")?;
        let gone = matches!(entry.content, Content::Cleared) || entry.expires.is_some_and(|end| end <= self.now());
        (!gone).then_some(entry.order.offset)
    }

    /// Until nothing is owed, and nothing can come.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..200 {
            self.wait();
            quiet = if self.look(0, 0) + self.look(1, 0) == 0 { quiet + 1 } else { 0 };
            if quiet > 3 * LATE + LIFE {
                return;
            }
        }
        panic!("it never ends: {:?}", self.log);
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0..3u8, 0..LATE).prop_map(|(kind, late)| Act::Retain(kind, late)),
        3 => (0..2usize, 0..3u32).prop_map(|(which, late)| Act::Look(which, late)),
        3 => Just(Act::Wait),
    ];
    prop::collection::vec(act, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    /// In the end the last record of the key, which is what compaction leaves, is that of the message retained last, or a tombstone if that is gone.
    /// Who has read all says the same as who reads only what is left.
    #[test]
    fn what_compaction_leaves_is_what_was_retained_last(acts in acts()) {
        let mut world = World::new();
        let mut last = None;
        for act in &acts {
            match *act {
                Act::Retain(kind, late) => {
                    world.retain(kind, late);
                    last = (kind == 1).then_some(world.next - 1);
                }
                Act::Look(which, late) => drop(world.look(which, late)),
                Act::Wait => world.wait(),
            }
        }
        world.settle();
        for (store, _) in &world.custodians {
            prop_assert_eq!(world.in_force(store), last, "{:?}", world.log);
        }
        let left: Vec<Logged> = world.log.last().into_iter().copied().collect();
        match left[..] {
            [Logged::Lasting(of)] => prop_assert_eq!(Some(of), last, "{:?}", world.log),
            [] | [Logged::Tombstone(_)] => prop_assert_eq!(last, None, "{:?}", world.log),
            [_] => prop_assert!(false, "it would stay for ever: {:?}", world.log),
            _ => unreachable!("one at most"),
        }
        let mut fresh = Store::new(usize::MAX);
        read(&mut fresh, &mut 0, &left, (world.began, world.second));
        prop_assert_eq!(world.in_force(&fresh), last);
    }
}

#[test]
fn what_is_retained_while_a_tombstone_is_written_survives_it() {
    let mut world = World::new();
    world.retain(0, 0);
    world.wait();
    assert_eq!(world.look(0, 0), 0, "an older one may still come");
    (0..=LATE).for_each(|_| world.wait());
    // The tombstone is on its way; a new message comes before it.
    assert_eq!(world.look(0, 2), 1);
    world.retain(1, 1);
    world.settle();
    use Logged::{Cleared, Lasting, Tombstone};
    // Both look after the partition.
    assert_eq!(world.log, [Cleared(0), Lasting(1), Tombstone(0), Lasting(1), Lasting(1)]);
    assert_eq!(world.in_force(&world.custodians[1].0), Some(1));
}

#[test]
fn only_what_is_looked_after_is_looked_at_and_in_steps() {
    let mut store = Store::new(usize::MAX);
    for (at, topic) in TOPICS.into_iter().enumerate() {
        let mut record = incoming(topic, at as i64, mapped(0, at as i64), None);
        record.place.partition = at as i32 % 2;
        store.apply(record);
    }
    let mine = BTreeSet::from([1]);
    let look = Look {
        mine: &mine,
        now: Instant::now(),
        second: 2,
        delay: 1,
    };
    let (mut found, mut behind) = (Vec::new(), None);
    loop {
        let (duties, next) = store.duties(behind.as_deref(), 1, &look);
        found.extend(duties.into_iter().map(|duty| duty.topic));
        behind = next;
        if behind.is_none() {
            break;
        }
    }
    assert_eq!(found, ["a/b".into(), "b".into()]);
    let sooner = Look { second: 1, ..look };
    assert_eq!(store.duties(None, 9, &sooner).0, []);
}
