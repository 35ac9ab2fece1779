//! What an operator asks of the stored sessions: who there is, and all that is stored of one.
//!
//! Fed like the index, with every record in log order, but it keeps the client ids, which an instance has no use for. One roster may be
//! fed with all partitions, one after the other: no client is in two.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::index::{Entry, Index};
use super::record::{Millis, Record};
use super::{Key, NEVER};

/// See the head of the file.
#[derive(Default)]
pub struct Roster {
    /// Offsets are compared within a partition only.
    partitions: BTreeMap<i32, Index>,
    clients: BTreeSet<(Box<str>, i32)>,
    wanted: Option<Box<str>>,
    /// Values of the states and steps of the client that is wanted, by offset.
    values: BTreeMap<i64, Box<[u8]>>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A connection is there, as far as its owner has written.
    Connected,
    /// No connection is there. Times are milliseconds since 1970.
    Away {
        /// Since then.
        since: Millis,
        /// The session is over then, if nobody comes back; `None` for never.
        until: Option<Millis>,
    },
    /// Written by a later build, or damaged.
    Unreadable,
}

/// A session in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Client id.
    pub client: &'a str,
    /// The partition it lies in.
    pub partition: i32,
    /// Where it stands.
    pub standing: Standing,
    /// The instance that wrote the last claim.
    pub owner: &'a str,
    /// Offset of that claim.
    pub claim: Option<i64>,
    /// It has a will, or one on its way.
    pub has_will: bool,
}

/// What is stored of one session: the values of its records as they lie in the topic. Each is `None` if there is none, or if it is no JSON.
#[derive(Debug)]
pub struct Shown<'a> {
    /// As in the list.
    pub listed: Listed<'a>,
    /// The state that counts.
    pub state: Option<&'a RawValue>,
    /// The steps that belong to it.
    pub steps: Option<&'a RawValue>,
}

impl Roster {
    /// An empty one, for a list.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that keeps what is stored of one client.
    pub fn of(client: &str) -> Self {
        Self {
            wanted: Some(client.into()),
            ..Self::default()
        }
    }

    /// Takes the next record of a partition.
    pub fn read(&mut self, partition: i32, record: &Record<'_>) {
        let Ok(key) = Key::parse(record.key) else { return };
        let client = key.id();
        if matches!(key, Key::Checkpoint(_)) || self.wanted.as_deref().is_some_and(|wanted| wanted != client) {
            return;
        }
        self.partitions.entry(partition).or_default().read(record);
        if matches!(key, Key::Claim(_) | Key::State(..)) && record.value.is_some() {
            self.clients.insert((client.into(), partition));
        }
        if let (Some(value), true) = (record.value, self.wanted.is_some()) {
            self.values.insert(record.offset, value.into());
            self.forget(client, partition);
        }
    }

    /// Of the client that is wanted only what counts is kept.
    fn forget(&mut self, client: &str, partition: i32) {
        let entry = self.partitions.get(&partition).and_then(|index| index.entry(client));
        let counts = [entry.and_then(Entry::state), entry.and_then(Entry::steps)];
        self.values.retain(|offset, _| counts.contains(&Some(*offset)));
    }

    /// All sessions that go on at the moment `now`, in the order of their client ids.
    pub fn sessions(&self, now: Millis) -> impl Iterator<Item = Listed<'_>> {
        self.clients
            .iter()
            .filter_map(move |(client, partition)| self.listed(client, *partition, now))
    }

    /// The client that is wanted, if it has a session.
    pub fn shown(&self, now: Millis) -> Option<Shown<'_>> {
        let listed = self.sessions(now).next()?;
        let entry = self.partitions.get(&listed.partition)?.entry(listed.client)?;
        let value = |offset: Option<i64>| serde_json::from_slice(self.values.get(&offset?)?).ok();
        Some(Shown {
            listed,
            state: value(entry.state()),
            steps: value(entry.steps()),
        })
    }

    /// Whether there is something to end of the client that is wanted: its session, or a connection of which nothing is stored, as far
    /// as its claim tells.
    pub fn is_known(&self, now: Millis) -> bool {
        let claimed = |(client, partition): &(Box<str>, i32)| {
            let entry = self.partitions.get(partition).and_then(|index| index.entry(client));
            entry.is_some_and(|entry| !entry.is_stored() && entry.is_between())
        };
        self.sessions(now).next().is_some() || self.clients.iter().any(claimed)
    }

    fn listed<'a>(&'a self, client: &'a str, partition: i32, now: Millis) -> Option<Listed<'a>> {
        let index = self.partitions.get(&partition)?;
        let entry = index.entry(client)?;
        Some(Listed {
            client,
            partition,
            standing: standing(entry, now)?,
            owner: index.owner(entry),
            claim: entry.claim(),
            has_will: entry.has_will(),
        })
    }
}

/// `None`: nothing goes on.
fn standing(entry: &Entry, now: Millis) -> Option<Standing> {
    match () {
        () if entry.is_unreadable() => Some(Standing::Unreadable),
        // Claims alone are those of connections of which nothing is stored.
        () if !entry.is_stored() => None,
        () if entry.is_connected() => Some(Standing::Connected),
        // Over with its connection: an index knows the second only, rounded up.
        () if entry.expiry() == 0 => None,
        () => {
            let until = (entry.expiry() != NEVER).then(|| entry.since() + Millis::from(entry.expiry()) * 1000);
            let since = entry.since();
            // What is over is listed no more, although its record may stand until the custodian has been there.
            until.is_none_or(|at| at > now).then_some(Standing::Away { since, until })
        }
    }
}
