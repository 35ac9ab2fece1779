//! The membership of this instance in the group of one shared subscription: partitions come and go, their messages go out, what is settled
//! is committed.
//!
//! Where a partition begins of which the group has committed nothing: at its end as it was when the first subscriber of this instance came,
//! before its SUBACK. Each owner commits that before anybody gets a SUBACK on the strength of it, or the next owner would begin
//! later, and what was stored in between would be lost.

mod coming;
mod commits;
mod found;
mod going;

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout_at},
};

use super::{
    REFUSED, Readiness, Share, SharedKind, Shares,
    grace::{Grace, WRITTEN},
    locking,
    messages::Scratch,
    reading::Reading,
};
use crate::{
    mapping::Source,
    relay::{allowance, placing::UNAVAILABLE},
    upstream::{Assigned, Chunk, Committer, Group, GroupEvent, GroupSettings},
};
use commits::Outcome;
use found::{Ends, LateEnds, late_ends};
pub(super) use found::{Found, begin_to_look};
use going::Going;

/// What was acknowledged is committed so often: after a crash that much comes again.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Who comes to a group waits for the others to notice: they do with their next sign of life.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After so long without a sign of life an instance is taken for dead.
const SESSION: Duration = Duration::from_secs(15);
/// How long others wait for partitions that are to be given up. Four fifths of it must be enough for what is lent and the last commit.
const REBALANCE: Duration = Duration::from_secs(30);
const _: () = assert!(5 * (WRITTEN.as_secs() + commits::LAST_COMMIT.as_secs()) < 4 * REBALANCE.as_secs());
/// Times that messages are made and handed out before anything else is looked at.
const MOST_ROUNDS: usize = 16;
/// A member that others have given nothing after so long has nothing to begin with.
const NOTHING_YET: Duration = Duration::from_millis(500);
struct Task {
    shares: Arc<Shares>,
    share: Arc<Share>,
    ends: Ends,
    /// Those of topics that were away.
    late: JoinSet<LateEnds>,
    /// What is read by names with holes, and was found so far.
    found: Found,
    readings: Vec<Reading>,
    /// Partitions that are ours, of topics that are not known here yet.
    unknown: Vec<Assigned>,
    going: Vec<Going>,
    /// For those who have left, the last of all.
    patience: Option<Grace>,
    committer: Committer,
    /// At most one.
    commits: JoinSet<Outcome>,
    commit_at: Interval,
    /// The first generation, and how many members it has.
    generation: Option<(Instant, usize)>,
    scratch: Scratch,
    /// How many wait for memory, in all of the instance.
    wanted: watch::Receiver<usize>,
}

enum Event {
    Group(Option<GroupEvent>),
    Fetched(usize, Option<Chunk>),
    Committed(Outcome),
    Woken,
    CommitNow,
    /// Where a topic ends that was away.
    Appeared(LateEnds),
    /// The topics with the names that are looked out for; `None` after a shutdown.
    Listed(Option<Vec<Arc<str>>>),
}

/// Begins the membership. What the sources are is asked for until `until`.
pub(super) fn begin(shares: Arc<Shares>, share: Arc<Share>, sources: &[Source], until: Instant) {
    let sources = sources.to_vec();
    shares.running.send_modify(|running| *running += 1);
    shares.hub.metrics.shared.memberships.inc();
    tokio::spawn(async move {
        let tables = timeout_at(until, shares.hub.tables.settled_for_readers()).await;
        match (tables, shares.kind) {
            // What would be made of records by then might be nothing.
            (Err(_), _) => {
                shares.end(&share, true);
                share.ready.send_replace(Readiness::Refused(UNAVAILABLE));
            }
            (Ok(()), SharedKind::ConsumerGroup) => run(&shares, &share, &sources, until).await,
            (Ok(()), SharedKind::ShareGroup) => locking::run(&shares, &share, &sources, until).await,
        }
        shares.hub.metrics.shared.memberships.dec();
        shares.running.send_modify(|running| *running -= 1);
    });
}

async fn run(shares: &Arc<Shares>, share: &Arc<Share>, sources: &[Source], until: Instant) {
    let (found, ends, away) = match begin_to_look(shares, sources, until).await {
        Ok(found) => found,
        Err(why) => {
            shares.end(share, true);
            share.ready.send_replace(Readiness::Refused(why));
            return;
        }
    };
    let mut group = shares.hub.cluster.join(GroupSettings {
        group: shares.group(share),
        topics: found.topics.iter().map(|name| name.to_string()).collect(),
        session_timeout: SESSION,
        heartbeat_interval: HEARTBEAT,
        rebalance_timeout: REBALANCE,
        ..GroupSettings::default()
    });
    share.ready.send_replace(Readiness::Joining);
    let mut commit_at = interval(COMMIT_EVERY);
    commit_at.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut task = Task {
        shares: shares.clone(),
        share: share.clone(),
        ends,
        late: away.into_iter().map(|name| late_ends(shares.hub.clone(), name)).collect(),
        found,
        readings: Vec::new(),
        unknown: Vec::new(),
        patience: None,
        going: Vec::new(),
        committer: group.committer(),
        commits: JoinSet::new(),
        commit_at,
        generation: None,
        scratch: Scratch::default(),
        wanted: shares.hub.sweeps.permits().wanted(),
    };
    task.live(&mut group).await;
    task.last_commit(group.halted()).await;
    group.leave().await;
}

impl Task {
    /// Until nobody here takes part any more, or the client is shut down.
    async fn live(&mut self, group: &mut Group) {
        loop {
            self.work();
            self.give_up();
            self.regard_ready();
            if self.is_deserted() && self.shares.end(&self.share, false) {
                return;
            }
            if allowance::is_used_up() {
                allowance::next_turn().await;
            }
            match self.event(group).await {
                Event::Group(Some(event)) => self.told(event),
                Event::Group(None) => {
                    self.shares.end(&self.share, true);
                    return;
                }
                Event::Fetched(at, Some(chunk)) => self.take(at, chunk),
                Event::Fetched(at, None) => self.readings[at].end(),
                Event::Committed((parts, true)) => self.readings.iter_mut().for_each(|reading| {
                    reading.is_committed |= parts.contains(&reading.part);
                }),
                Event::Committed((parts, false)) => {
                    let mut inner = self.share.lock();
                    parts.into_iter().for_each(|part| inner.state.tell_again(part));
                }
                Event::Woken => {}
                Event::Appeared(found) => {
                    self.ends.extend(found);
                    self.take_known();
                }
                Event::Listed(None) => self.found.lookout = None,
                Event::Listed(Some(names)) => {
                    if let Some(topics) = self.found.take(names, &self.shares.hub) {
                        group.subscribe(topics).await;
                    }
                }
                Event::CommitNow => {
                    self.take_known();
                    self.commit();
                    self.readings.iter_mut().for_each(Reading::revive);
                }
            }
        }
    }

    /// What there is to do next.
    async fn event(&mut self, group: &mut Group) -> Event {
        let deadline = self.deadline();
        let Self {
            share,
            readings,
            commits,
            commit_at,
            wanted,
            late,
            found,
            ..
        } = self;
        let keeps = readings.iter().any(|reading| reading.leaves_at().is_some());
        let fetched = poll_fn(|context| {
            for (at, reading) in readings.iter_mut().enumerate() {
                if reading.is_over || !reading.wants_fetch() {
                    continue;
                }
                // From now on it may have to make way.
                if reading.poll_turn(context).is_ready() {
                    return Poll::Ready(Event::Woken);
                }
                let wanted = reading.has_room() && share.lock().state.wants(reading.part);
                if let Poll::Ready(chunk) = reading.poll_fetch(context, wanted) {
                    return Poll::Ready(Event::Fetched(at, chunk));
                }
            }
            Poll::Pending
        });
        let may_commit = commits.is_empty();
        tokio::select! {
            event = group.next() => Event::Group(event),
            event = fetched => event,
            Some(outcome) = commits.join_next() => Event::Committed(outcome.unwrap_or_default()),
            () = share.wake.notified() => Event::Woken,
            names = found.change() => Event::Listed(names),
            Some(found) = late.join_next() => Event::Appeared(found.ok().flatten()),
            _ = commit_at.tick(), if may_commit => Event::CommitNow,
            Ok(()) = wanted.changed(), if keeps => Event::Woken,
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Event::Woken,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let waits = self.share.ready.borrow().is_open();
        let ready = self.generation.filter(|_| waits && self.has_nothing());
        let ready = ready.map(|(since, _)| since + NOTHING_YET).filter(|at| *at > Instant::now());
        let now = Instant::now();
        let going = self.going.iter().map(|going| going.grace);
        let graces = going.chain(self.patience).map(|grace| grace.ends(now));
        let others_wait = *self.wanted.borrow() > 0;
        let leaves = self
            .readings
            .iter()
            .filter_map(|reading| reading.leaves_at().filter(|_| others_wait));
        graces.chain(ready).chain(leaves).min()
    }

    /// Makes messages and hands them out, as long as somebody takes any and programs leave time for it; then the others get their turn.
    fn work(&mut self) {
        allowance::begin();
        for _ in 0..MOST_ROUNDS {
            let mut at_work = 0;
            for (at, reading) in self.readings.iter_mut().enumerate() {
                while !allowance::is_used_up()
                    && !reading.wants_fetch()
                    && reading.has_room()
                    && self.share.lock().state.wants(reading.part)
                {
                    at_work = at;
                    let read = reading.read(self.share.filter(), &mut self.scratch);
                    let mut inner = self.share.lock();
                    for (offset, message) in read.messages {
                        inner.state.push(reading.part, offset, message);
                    }
                    inner.state.reach(reading.part, read.reached);
                }
            }
            let handed_out = self.share.hand_out();
            if allowance::is_used_up() {
                return self.break_off(at_work);
            }
            if handed_out == 0 {
                return self.settle_down();
            }
        }
        self.share.wake.notify_one();
    }

    /// Programs have had what they may take of this turn. The next goes on with the partition that was at work, until its fetch is handed out, and
    /// then begins with another; the others have to find memory for what they keep meanwhile.
    fn break_off(&mut self, at_work: usize) {
        let is_done = self.readings[at_work].wants_fetch();
        self.readings.rotate_left(at_work);
        if is_done {
            self.readings.rotate_left(1);
        }
        self.readings.iter_mut().skip(1).for_each(Reading::park);
        self.make_way();
        self.share.wake.notify_one();
    }

    /// Keeps what nobody takes now, as far as there is memory, and has what was thrown away fetched again where more is wanted.
    fn settle_down(&mut self) {
        self.readings.iter_mut().for_each(Reading::park);
        self.make_way();
    }

    /// Throws away what had its time, if others wait for memory, and has fetched again what is wanted of that.
    fn make_way(&mut self) {
        let (now, others_wait) = (Instant::now(), *self.wanted.borrow() > 0);
        for reading in &mut self.readings {
            if others_wait {
                reading.make_way(now);
            }
            if reading.wants_fetch() && reading.has_room() && self.share.lock().state.wants(reading.part) {
                reading.resume();
            }
        }
    }

    fn told(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Generation { size, .. } => {
                self.generation.get_or_insert((Instant::now(), size));
            }
            GroupEvent::Assigned(assigned) => {
                self.assigned(assigned);
                self.commit_at.reset_immediately();
            }
            GroupEvent::Revoked(revocation) => self.revoked(revocation),
            GroupEvent::Lost { partitions, .. } => drop(self.remove(&partitions, true)),
            GroupEvent::Refused { .. } => {
                self.share.ready.send_if_modified(|ready| {
                    let waits = ready.is_open();
                    if waits {
                        *ready = Readiness::Refused(REFUSED);
                    }
                    waits
                });
            }
            // Only static members are.
            GroupEvent::Fenced => {}
        }
    }

    /// Takes a fetch.
    fn take(&mut self, at: usize, chunk: Chunk) {
        let reading = &mut self.readings[at];
        if let Some(offset) = reading.take(chunk) {
            reading.tenure.log_cut_off();
            self.share.lock().state.cut_off(reading.part, offset);
        }
    }

    /// Whether no partition is ours.
    fn has_nothing(&self) -> bool {
        self.readings.is_empty() && self.unknown.is_empty()
    }

    /// Lets SUBSCRIBEs be answered, once whatever is stored from now on will be delivered.
    fn regard_ready(&self) {
        let Some((since, members)) = self.generation else { return };
        let nothing = self.found.topics.is_empty() || members > 1 && since.elapsed() >= NOTHING_YET;
        let begun = match self.has_nothing() {
            true => nothing,
            false => self.unknown.is_empty() && self.readings.iter().all(|reading| reading.is_committed),
        };
        if begun {
            self.share.ready.send_if_modified(|ready| {
                let news = *ready != Readiness::Ready;
                *ready = Readiness::Ready;
                news
            });
        }
    }
}
