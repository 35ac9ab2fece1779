//! One record every few seconds for all sessions of an instance, instead of one a second for each whose position moves; and the positions of
//! those that nothing is sent to stay young.
//!
//! **Who is spoken for.** A session whose last record (state or steps, whichever counts) names the *run* of its owner. It does while
//! it is at the tail: nothing of it is open and nothing waits for it, or all its positions are younger than one checkpoint. Of the sources
//! that this record has positions for, everything below a checkpoint of that run which lies behind it is settled, but for what the
//! record says to be open. Whoever falls behind says so in steps without a run, and goes by its own.
//! A source that nobody reads, or not yet since its session has just come back, is no proof of that: the last checkpoint speaks for
//! it, too, so nobody who stands below that is spoken for.
//!
//! **What a claimer reads**: the last checkpoint of the writer of the state that is found, before the own claim. The higher of both positions counts.
//! One that comes after the claim may rest on steps that come after it, too, which nobody will go by.
//!
//! Why a checkpoint is never too high, each as a sequence of events:
//! * *What it rests on comes before it.* A message is sent and its packet id noted in memory; a checkpoint passes it; the process dies before the
//!   steps are written: the claimer would find it neither open nor above the position. So all that is to be written of those who are
//!   spoken for is wanted first, in the same breath.
//! * *It waits for who has something open*, for as long as one checkpoint. Whoever is slower falls out, so it holds nobody else up for longer.
//! * *Who was forgotten is still spoken for.* A session is claimed elsewhere, its connection here is closed, and the claimer dies before it has
//!   written a state: whoever claims next goes by our last record, and by our checkpoints. So none passes the place of the last one of which the
//!   session was part, until the state of another claim is read. There may never be one (the claimer cannot read the session), so after a minute
//!   another run begins instead: who is held goes by the own record then, and all others say once that they are spoken for by that run.
//! * *Who has forgotten everything* (the minute) begins another run, which speaks for nobody of before.
//!
//! A checkpoint that is missing, damaged or older does no harm: the session's own position counts, which is older, and of QoS 2 never too old, since each such
//! message is told with a position behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::change::Change;
use super::checkpoint::Checkpoint;
use super::guard::{Guard, keeps};
use super::output::{ConnectionId, Output};
use super::owner::{Dirty, Owner, Phase};
use super::partition::Partition;
use super::record::{Millis, Record};
use super::steps::Steps;
use super::text::Source;

/// Sources in one checkpoint; sessions write their positions in others by themselves.
const MOST_SOURCES: usize = 4096;

/// Longest time that checkpoints wait for who was forgotten.
const LONGEST_HOLD: Millis = 60_000;

type Places = BTreeMap<Source, i64>;

/// The last checkpoint of each instance, as the tail has read them. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known(Arc<BTreeMap<Box<str>, Arc<Latest>>>);

#[derive(Debug, PartialEq, Eq)]
struct Latest {
    at: i64,
    checkpoint: Checkpoint,
}

impl Known {
    /// A record under an instance's key. One that cannot be read is none.
    pub(super) fn read(&mut self, instance: &str, record: &Record<'_>) {
        let known = Arc::make_mut(&mut self.0);
        match record.value.map(Checkpoint::parse) {
            Some(Ok(checkpoint)) => {
                let latest = Latest {
                    at: record.offset,
                    checkpoint,
                };
                known.insert(instance.into(), latest.into());
            }
            // A tombstone of what is not there any more is no news.
            None if !known.contains_key(instance) => {}
            _ => drop(known.remove(instance)),
        }
    }

    /// Has the checkpoints of `writer` speak for a session, the last record of which lies at `at`.
    pub(super) fn speak(&self, writer: &str, at: i64, steps: &mut Steps) {
        let run = steps.run.take();
        let speaks = |latest: &&Arc<Latest>| latest.at > at && Some(latest.checkpoint.run) == run || !keeps(Guard::OnlyAtTheTail);
        let Some(latest) = self.0.get(writer).filter(speaks) else { return };
        raise(&mut steps.positions, &latest.checkpoint.positions);
    }

    /// Whose they are, and where.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(instance, latest)| (&**instance, latest.at))
    }
}

/// Positions are as high as these.
fn raise(positions: &mut Places, to: &Places) {
    for (source, position) in positions {
        *position = to.get(source).map_or(*position, |to| *to.max(position));
    }
}

/// The checkpoints of this instance.
#[derive(Debug)]
pub(super) struct Checkpoints {
    run: u64,
    n: u64,
    /// What the last of this run says.
    last: Arc<Places>,
    /// A log was cut off since.
    cut: bool,
    /// Where the feeds were then.
    feeds: Places,
    /// Those who are forgotten and spoken for.
    held: BTreeMap<Box<str>, Held>,
}

#[derive(Debug)]
struct Held {
    /// Of the last record.
    claim: i64,
    /// Those that it has positions for.
    sources: Vec<Source>,
    /// The first checkpoint that was held back.
    since: Option<Millis>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            run: 1,
            n: 0,
            last: Arc::default(),
            cut: false,
            feeds: Places::new(),
            held: BTreeMap::new(),
        }
    }
}

impl Checkpoints {
    /// Of one that has forgotten everything.
    pub(super) fn afresh(self) -> Self {
        Self {
            run: if keeps(Guard::OwnRun) { self.run + 1 } else { self.run },
            n: self.n,
            ..Self::default()
        }
    }

    /// What the last of this run says.
    pub(super) fn last(&self) -> Arc<Places> {
        self.last.clone()
    }

    /// An owner is forgotten.
    pub(super) fn hold(&mut self, owner: &Owner) {
        if owner.spoken_by.is_some() && keeps(Guard::HoldForgotten) {
            let sources = owner.body.steps.positions.keys().copied().collect();
            let held = Held {
                claim: owner.key_claim(),
                sources,
                since: None,
            };
            self.held.insert(owner.client.clone(), held);
        }
    }

    /// Lets those go whom another state speaks for. `at` is the offset of the record.
    pub(super) fn notice(&mut self, change: &Change<'_>, at: i64) {
        if self.held.is_empty() {
            return;
        }
        let over = match *change {
            Change::State(client, claim, ..) => self.held.get(client).is_some_and(|held| claim > held.claim).then_some(client),
            Change::Cleaned(client, claim) if claim < at => self.held.get(client).is_some_and(|held| claim >= held.claim).then_some(client),
            _ => None,
        };
        over.map(|client| self.held.remove(client));
    }

    /// Begins another run if somebody is held for too long: it speaks for nobody who is held.
    fn release(&mut self, now: Millis) -> bool {
        let mut too_long = false;
        for held in self.held.values_mut() {
            too_long |= *held.since.get_or_insert(now) + LONGEST_HOLD <= now;
        }
        if too_long {
            self.run += u64::from(keeps(Guard::ReleaseByRun));
            self.held.clear();
        }
        too_long
    }

    /// Logs that were cut off (an unclean election of a leader): what is written from there on is new.
    fn go_back(&mut self, feeds: &Places) -> Vec<Source> {
        let cut = |(source, at): (&Source, &i64)| feeds.get(source).is_some_and(|feed| feed < at).then_some(*source);
        let cut: Vec<_> = self.last.iter().filter_map(cut).collect();
        self.cut |= !cut.is_empty();
        for source in &cut {
            Arc::make_mut(&mut self.last).insert(*source, feeds[source]);
            self.feeds.insert(*source, feeds[source]);
        }
        cut
    }

    /// The next one: as far as the feeds are, but no further than `low` says, nor than those who are held were.
    fn next(&mut self, feeds: &Places, low: &Places) -> Option<Checkpoint> {
        let waits = |(source, feed): (&Source, &i64)| {
            let low = low.get(source).filter(|_| keeps(Guard::CheckpointWaits));
            (*source, low.map_or(*feed, |low| *feed.min(low)))
        };
        let mut positions: Places = feeds.iter().take(MOST_SOURCES).map(waits).collect();
        for source in self.held.values().flat_map(|held| &held.sources) {
            match (self.last.get(source), positions.get_mut(source)) {
                (Some(last), Some(position)) => *position = *last.min(position),
                (None, Some(_)) => drop(positions.remove(source)),
                _ => {}
            }
        }
        self.feeds.clone_from(feeds);
        if positions == *self.last && !std::mem::take(&mut self.cut) {
            return None;
        }
        self.n += 1;
        self.last = Arc::new(positions.clone());
        Some(Checkpoint {
            run: self.run,
            n: self.n,
            positions,
        })
    }
}

impl Partition {
    /// Time for a checkpoint. `feeds`: everything below was handed out in each source that is read. Asked after that, `rests` says of a
    /// connection that it has settled all that it was handed, that nothing waits for it and that all its subscriptions stand.
    pub fn checkpoint(&mut self, feeds: &BTreeMap<Source, i64>, rests: impl Fn(ConnectionId) -> bool, now: Millis) {
        if self.lags(now) || self.at_end.is_none() {
            return;
        }
        let cut = self.checkpoints.go_back(feeds);
        let is_another_run = self.checkpoints.release(now);
        let (mut low, mut anybody) = (Places::new(), false);
        let mut dirty = BTreeSet::new();
        for (client, owner) in &mut self.owners {
            let rests = owner.connection.filter(|_| owner.phase == Phase::Live && owner.n > 0).map(&rests);
            let Some(rests) = rests.filter(|_| !owner.body.steps.positions.is_empty()) else {
                continue;
            };
            owner.go_back(&cut, feeds);
            if is_another_run {
                owner.leave_the_tail(&self.checkpoints.last);
            }
            owner.move_to_the_tail(rests, &self.checkpoints, feeds);
            if owner.dirty.is_some() {
                dirty.insert(client.clone());
            }
            let spoken_for = owner.body.steps.run.is_some();
            anybody |= spoken_for;
            if spoken_for && !rests {
                owner.lower(&mut low, &self.checkpoints.last);
            }
        }
        self.dirty.append(&mut dirty);
        while keeps(Guard::CheckpointAfterSteps)
            && let Some(client) = self.dirty.pop_first()
        {
            self.write(&client);
        }
        let next = if anybody { self.checkpoints.next(feeds, &low) } else { None };
        let record = next.and_then(|next| next.record(&self.settings.instance).ok());
        self.outputs.extend(record.map(|record| Output::Append(vec![record])));
    }

    /// Whether a checkpoint may be of use.
    pub fn has_connections(&self) -> bool {
        !self.connections.is_empty()
    }
}

impl Owner {
    /// Decides whether it is at the tail, and so whether checkpoints speak for it.
    fn move_to_the_tail(&mut self, rests: bool, checkpoints: &Checkpoints, feeds: &Places) {
        let rested = std::mem::replace(&mut self.rested, rests);
        let steps = &mut self.body.steps;
        if rested && !rests {
            raise(&mut steps.positions, &checkpoints.feeds);
        }
        let is_young = |(source, at): (&Source, &i64)| {
            let past = if feeds.contains_key(source) {
                &checkpoints.feeds
            } else {
                &*checkpoints.last
            };
            past.get(source).is_none_or(|past| at >= past)
        };
        let spoken_by = (rests || steps.positions.iter().all(is_young)).then_some(checkpoints.run);
        if spoken_by != steps.run {
            if rests {
                raise(&mut steps.positions, feeds);
            }
            self.catch_up(&checkpoints.last);
            self.body.steps.run = spoken_by;
            self.touch(Dirty::Steps);
        } else if self.positions_due.is_some() && spoken_by.is_some() || spoken_by != self.spoken_by {
            self.touch(Dirty::Steps);
        }
    }

    /// In these it stands no higher than the feeds.
    fn go_back(&mut self, cut: &[Source], feeds: &Places) {
        for source in cut {
            if let (Some(position), Some(feed)) = (self.body.steps.positions.get_mut(source), feeds.get(source))
                && self.body.steps.run.is_some()
            {
                *position = *feed.min(position);
                self.touch(Dirty::Steps);
            }
        }
    }

    /// No checkpoint may lie higher than it stands.
    fn lower(&self, low: &mut Places, last: &Places) {
        for (source, position) in &self.body.steps.positions {
            let position = last.get(source).map_or(*position, |last| *position.max(last));
            low.entry(*source).and_modify(|low| *low = position.min(*low)).or_insert(position);
        }
    }

    /// The last checkpoint speaks for it, if any does.
    pub(super) fn catch_up(&mut self, last: &Places) {
        if self.body.steps.run.is_some() {
            raise(&mut self.body.steps.positions, last);
        }
    }

    /// It goes by its own positions from its next record on.
    pub(super) fn leave_the_tail(&mut self, last: &Places) {
        self.catch_up(last);
        self.body.steps.run = None;
    }
}
