//! Partitions that this instance gives up, or has lost.

use std::time::Duration;

use tokio::time::Instant;

use super::{Task, commits::commit};
use crate::{
    relay::share::reading::Reading,
    upstream::{Commit, Revocation, TopicPartition},
};

/// How long what was sent may still be acknowledged when its partition is to be given up, or the membership. After that the next owner sends
/// it again.
const GRACE: Duration = Duration::from_secs(2);

/// Partitions that are being given up.
pub(super) struct Going {
    pub(super) readings: Vec<Reading>,
    revocation: Revocation,
    pub(super) until: Instant,
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
        let until = *self.patience.get_or_insert(now + GRACE);
        let is_quiet = || self.readings.iter().all(|reading| inner.state.is_quiet(reading.part));
        now >= until || self.going.is_empty() && is_quiet()
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
            until: Instant::now() + GRACE,
        });
    }

    /// Gives partitions up whose last messages are acknowledged, or have had time for that.
    pub(super) fn give_up(&mut self) {
        let now = Instant::now();
        let share = &self.share;
        let is_over = |going: &mut Going| {
            let inner = share.lock();
            now >= going.until || going.readings.iter().all(|reading| inner.state.is_quiet(reading.part))
        };
        let over: Vec<Going> = self.going.extract_if(.., is_over).collect();
        for going in over {
            let mut inner = self.share.lock();
            let position = |reading: &Reading| Some(commit(reading, &inner.state.position(reading.part)?));
            let commits: Vec<Commit> = going.readings.iter().filter_map(position).collect();
            going.readings.iter().for_each(|reading| inner.state.end(reading.part));
            drop(inner);
            let committer = self.committer.clone();
            tokio::spawn(async move {
                committer.commit(commits).await;
                going.revocation.release();
            });
        }
    }
}
