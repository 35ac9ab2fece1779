//! What is settled is committed, every second and at the end.

use std::{collections::HashMap, time::Duration};

use tokio::time::timeout;

use super::Task;
use crate::{
    progress::Position,
    relay::share::{reading::Reading, state::PartId},
    upstream::{Commit, MOST_METADATA},
};

/// How long the last commit is waited for.
const LAST_COMMIT: Duration = Duration::from_secs(3);

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
        let committer = self.committer.clone();
        let failures = self.shares.hub.metrics.clone();
        self.commits.spawn(async move {
            let outcomes = committer.commit(commits).await;
            let all = outcomes.iter().all(Result::is_ok);
            if !all {
                failures.shared.commit_failures.inc();
                tracing::debug!(?outcomes, "a commit of a shared subscription failed");
            }
            (parts, all)
        });
    }

    /// Before the goodbye.
    pub(super) async fn last_commit(&mut self) {
        // One that is on its way is not overtaken by this.
        self.commits.detach_all();
        self.commit();
        let commits = &mut self.commits;
        if timeout(LAST_COMMIT, async { while commits.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            tracing::warn!(
                share = self.share.share_name(),
                "the last commit of a shared subscription was not answered: some of it comes again"
            );
        }
    }
}

/// The commit of a position.
pub(super) fn commit(reading: &Reading, position: &Position) -> Commit {
    Commit {
        tenure: reading.tenure.clone(),
        offset: position.offset,
        metadata: position.metadata(reading.topic.id.as_bytes(), MOST_METADATA),
    }
}
