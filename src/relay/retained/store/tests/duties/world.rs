//! The log of one key, who writes it, and two custodians that read it.

use std::{collections::BTreeSet, time::Duration};

use super::super::*;

/// The longest that the record of a message is on its way, in seconds; those of custodians take less.
pub const LATE: u32 = 5;
/// A message that expires does so after this.
pub const LIFE: u32 = 3;

/// So long after its message a record may be repeated without a look; what is repeated is on its way for as long.
pub const YOUTH: u32 = LATE / 2;

/// Partition and offset of the mapped record.
pub type Of = (i32, i64);

/// A record of the topic `a`: where its message lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    Cleared(Of),
    Lasting(Of),
    Expiring(Of, u32),
    Tombstone(Of),
}

/// A record as it is in the log.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub logged: Logged,
    pub as_of: Option<i64>,
    /// Since when.
    pub second: u32,
}

/// A message, and when it was published.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    pub kind: u8,
    pub of: Of,
    pub second: u32,
}

pub struct World {
    pub began: Instant,
    pub second: u32,
    pub log: Vec<Written>,
    /// By when it is in the log.
    pub flying: Vec<(u32, Written)>,
    pub custodians: [(Store, usize); 2],
    /// Who repeats knows what is in the log.
    pub client: (Store, usize),
    pub published: Vec<Published>,
}

/// A reader takes what is new to it.
pub fn read(store: &mut Store, at: &mut usize, log: &[Written], (began, second): (Instant, u32)) {
    for (offset, written) in log.iter().enumerate().skip(*at) {
        let expires = |end: u32| {
            let mut body = body(b"x");
            body.expires = Some(began + Duration::from_secs(end.into()));
            body
        };
        let ((partition, of), body) = match written.logged {
            Logged::Tombstone((partition, of)) => {
                let place = Place {
                    partition: 0,
                    offset: offset as i64,
                };
                store.tombstone("a", place, Some(&mapped(partition, of)));
                continue;
            }
            Logged::Cleared(of) => (of, None),
            Logged::Lasting(of) => (of, Some(body(b"x"))),
            Logged::Expiring(of, end) => (of, Some(expires(end))),
        };
        let record = incoming("a", offset as i64, mapped(partition, of), None);
        store.apply(Incoming {
            body,
            as_of: written.as_of,
            met: second,
            ..record
        });
    }
    *at = log.len();
}

impl World {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            second: 0,
            log: Vec::new(),
            flying: Vec::new(),
            custodians: [(); 2].map(|()| (Store::new(usize::MAX), 0)),
            client: (Store::new(usize::MAX), 0),
            published: Vec::new(),
        }
    }

    pub fn now(&self) -> Instant {
        self.began + Duration::from_secs(self.second.into())
    }

    pub fn wait(&mut self) {
        self.second += 1;
        let (second, log) = (self.second, &mut self.log);
        self.flying.retain(|(due, written)| {
            if *due <= second {
                log.push(Written { second, ..*written });
            }
            *due > second
        });
    }

    /// What is written now and is there so much later.
    pub fn write(&mut self, logged: Logged, as_of: Option<i64>, late: u32) {
        let second = self.second;
        self.flying.push((second + late, Written { logged, as_of, second }));
    }

    /// A message gets the next offset of its partition.
    pub fn publish(&mut self, kind: u8, partition: i32) -> Published {
        let before = self.published.iter().filter(|one| one.of.0 == partition).count();
        let published = Published {
            kind,
            of: (partition, before as i64),
            second: self.second,
        };
        self.published.push(published);
        published
    }

    pub fn logged(&self, Published { kind, of, .. }: Published) -> Logged {
        match kind {
            0 => Logged::Cleared(of),
            1 => Logged::Lasting(of),
            _ => Logged::Expiring(of, self.second + LIFE),
        }
    }

    pub fn retain(&mut self, kind: u8, partition: i32, late: u32) {
        let published = self.publish(kind, partition);
        self.write(self.logged(published), None, late);
    }

    /// As whoever has the mapped record from before does it.
    pub fn repeat(&mut self, published: Published, late: u32) {
        let (store, at) = &mut self.client;
        read(store, at, &self.log, (self.began, self.second));
        let repeat = store.repeat("a", &mapped(published.of.0, published.of.1));
        let is_older = match repeat {
            Repeat::Other { place, .. } => self.log[place.offset as usize].second < published.second,
            _ => false,
        };
        let is_young = self.second - published.second <= YOUTH;
        if let Some(as_of) = repeat.as_of(*at as i64 - 1, is_young, is_older) {
            self.write(self.logged(published), Some(as_of), late);
        }
    }

    /// What a custodian writes.
    pub fn look(&mut self, which: usize, late: u32) -> usize {
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
        let as_of: Vec<_> = duties.iter().map(|duty| store.is_owed(duty)).collect();
        for (duty, as_of) in duties.iter().zip(as_of) {
            let of = (duty.order.partition, duty.order.offset);
            let logged = match duty.what {
                What::Remove => Logged::Tombstone(of),
                What::Clear => Logged::Cleared(of),
                What::Again { .. } => self.log[duty.place.offset as usize].logged,
            };
            self.write(logged, as_of, late);
        }
        duties.len()
    }

    /// The store of who reads all that is there.
    pub fn client_now(&self) -> Store {
        let mut store = Store::new(usize::MAX);
        read(&mut store, &mut 0, &self.log, (self.began, self.second));
        store
    }

    /// Whether subscribers of a reader would get something, and of which message.
    pub fn in_force(&self, store: &Store) -> Option<Of> {
        let entry = store.entry("a")?;
        let gone = matches!(entry.content, Content::Cleared) || entry.expires.is_some_and(|end| end <= self.now());
        (!gone).then_some((entry.order.partition, entry.order.offset))
    }

    /// Until nothing is owed, and nothing can come.
    pub fn settle(&mut self) {
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
