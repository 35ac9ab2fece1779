//! Partitions that this instance gives up, or has lost.

use tokio::time::Instant;

use super::Task;
use crate::{
    relay::share::{grace::Grace, reading::Reading},
    upstream::{Revocation, TopicPartition},
};

/// Partitions that are being given up.
pub(super) struct Going {
    pub(super) readings: Vec<Reading>,
    revocation: Revocation,
    pub(super) grace: Grace,
}

impl Task {
    /// Whether nobody here takes part any more, and what was sent is acknowledged or has had time for that: who has sent UNSUBSCRIBE still
    /// acknowledges what it got before.
    pub(super) fn is_deserted(&mut self) -> bool {
        let inner = self.share.lock();
        if !inner.state.is_deserted() {
            self.patience = None;
            return false;
        }
        let now = Instant::now();
        let grace = *self.patience.get_or_insert(Grace::from(now));
        let is_quiet = self.going.is_empty() && inner.state.is_all_quiet();
        grace.is_over(now, is_quiet, self.shares.awaits(&inner.state))
    }

    /// Takes the readings of partitions out. If they are `lost`, nothing that is still done for them counts.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition], lost: bool) -> Vec<Reading> {
        let of = |reading: &mut Reading| partitions.contains(&reading.tenure.of);
        self.unknown.retain(|assigned| !partitions.contains(&assigned.tenure.of));
        let mut removed: Vec<Reading> = self.readings.extract_if(.., of).collect();
        removed.iter_mut().for_each(Reading::stop);
        let mut inner = self.share.lock();
        if lost {
            for going in &mut self.going {
                removed.extend(going.readings.extract_if(.., of));
            }
            removed.iter().for_each(|reading| inner.state.end(reading.part));
        } else {
            removed.iter().for_each(|reading| inner.state.close(reading.part));
        }
        removed
    }

    pub(super) fn revoked(&mut self, revocation: Revocation) {
        let readings = self.remove(revocation.partitions(), false);
        self.going.push(Going {
            readings,
            revocation,
            grace: Grace::from(Instant::now()),
        });
    }

    /// Gives partitions up whose last messages are acknowledged, or have had time for that.
    pub(super) fn give_up(&mut self) {
        let now = Instant::now();
        let share = &self.share;
        let is_over = |going: &mut Going| {
            let inner = share.lock();
            let mut parts = going.readings.iter().map(|reading| reading.part);
            let is_quiet = parts.clone().all(|part| inner.state.is_quiet(part));
            going.grace.is_over(now, is_quiet, parts.any(|part| inner.state.lends_of(part)))
        };
        let over: Vec<Going> = self.going.extract_if(.., is_over).collect();
        for Going { readings, revocation, .. } in over {
            let commits = self.end(&readings);
            let metrics = self.shares.hub.metrics.clone();
            // Now: a goodbye that comes next would close the membership to them, and what is acknowledged come again.
            let outcomes = self.committer.begin_to_commit(commits);
            tokio::spawn(async move {
                if !outcomes.await.iter().all(Result::is_ok) {
                    metrics.shared.commit_failures.inc();
                }
                revocation.release();
            });
        }
    }
}
