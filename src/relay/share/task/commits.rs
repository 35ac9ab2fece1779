//! What is settled is committed, every second and at the end.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{SESSION, Task};
use crate::{
    audit::cut,
    progress::Position,
    relay::share::{reading::Reading, state::PartId},
    upstream::{Commit, MOST_METADATA},
};

/// How long the last commit is waited for while the coordinator takes commits, or when the proxy ends.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(3);
/// The same in all. A coordinator takes none while it waits for the assignment of a leader that was killed: until that one's session is over.
const LAST_OF_ALL: Duration = Duration::from_secs(20);
/// It has so long in any case, for one answer of the coordinator.
const MOMENT: Duration = Duration::from_millis(500);
const _: () = assert!(LAST_OF_ALL.as_secs() > SESSION.as_secs() + LAST_COMMIT.as_secs());

/// The outcome of a commit: the partitions, and whether Kafka has all of it.
pub(super) type Outcome = (Vec<PartId>, bool);

impl Task {
    /// Commits what has changed.
    pub(super) fn commit(&mut self) {
        let moved = self.share.lock().state.moved();
        let going = self.going.iter().flat_map(|going| &going.readings);
        let readings: HashMap<PartId, &Reading> = self.readings.iter().chain(going).map(|reading| (reading.part, reading)).collect();
        let (mut parts, mut commits) = (Vec::new(), Vec::new());
        for (part, position) in moved {
            if let Some(reading) = readings.get(&part) {
                parts.push(part);
                commits.push(commit(reading, &position));
            }
        }
        if commits.is_empty() {
            return;
        }
        let failures = self.shares.hub.metrics.clone();
        let outcomes = self.committer.begin_to_commit(commits);
        self.commits.spawn(async move {
            let outcomes = outcomes.await;
            let all = outcomes.iter().all(Result::is_ok);
            if !all {
                failures.shared.commit_failures.inc();
                tracing::debug!(?outcomes, "a commit of a shared subscription failed");
            }
            (parts, all)
        });
    }

    /// Before the goodbye: whatever is said from then on about messages counts for nothing.
    pub(super) async fn last_commit(&mut self, halted: watch::Receiver<bool>) {
        // One that is on its way is not overtaken by this.
        self.commits.detach_all();
        let going = self.going.iter_mut().flat_map(|going| going.readings.drain(..));
        let readings: Vec<Reading> = self.readings.drain(..).chain(going).collect();
        let commits = self.end(&readings);
        let too_late = too_late(halted, self.shares.draining.subscribe());
        let done = tokio::select! {
            outcomes = self.committer.commit(commits) => outcomes.iter().all(Result::is_ok),
            () = too_late => false,
        };
        if !done {
            self.shares.hub.metrics.shared.commit_failures.inc();
            tracing::warn!(
                share = &*cut(self.share.share_name()),
                "the last commit of a shared subscription was not taken: some of it comes again"
            );
        }
        // Only now: what is committed of them after that is refused.
        self.going.clear();
    }

    /// Ends partitions; what is to be committed of them. What is settled in the very moment is in it, or does not count.
    pub(super) fn end(&self, readings: &[Reading]) -> Vec<Commit> {
        let mut inner = self.share.lock();
        let position = |reading: &Reading| Some(commit(reading, &inner.state.position(reading.part)?));
        let commits = readings.iter().filter_map(position).collect();
        readings.iter().for_each(|reading| inner.state.end(reading.part));
        commits
    }
}

/// When the last commit has had its time.
async fn too_late(mut halted: watch::Receiver<bool>, mut draining: watch::Receiver<Option<Instant>>) {
    let taken = async {
        while matches!(timeout(LAST_COMMIT, halted.wait_for(|halted| *halted)).await, Ok(Ok(_))) {
            // Its outcome is known if the membership is over.
            let is_over = halted.wait_for(|halted| !*halted).await.is_err();
            if is_over {
                return;
            }
        }
    };
    let ends = async {
        let told = draining.wait_for(Option::is_some).await.ok().and_then(|told| *told);
        let begun = Instant::now();
        sleep_until(told.map_or(begun, |told| told + LAST_COMMIT).max(begun + MOMENT)).await;
    };
    tokio::select! {
        () = taken => {}
        () = ends => {}
        () = sleep(LAST_OF_ALL) => {}
    }
}

/// The commit of a position.
fn commit(reading: &Reading, position: &Position) -> Commit {
    Commit {
        tenure: reading.tenure.clone(),
        offset: position.offset,
        metadata: position.metadata(reading.topic.id.as_bytes(), MOST_METADATA),
    }
}
