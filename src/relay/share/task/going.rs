//! Partitions that this instance gives up, or has lost.

use std::time::Duration;

use tokio::time::Instant;

use super::{Task, commits::commit};
use crate::{
    relay::share::reading::Reading,
    upstream::{Commit, Revocation, TopicPartition},
};

/// How long what was sent may still be acknowledged when its partition is to be given up. After that the next owner sends it again.
const GRACE: Duration = Duration::from_secs(2);

/// Partitions that are being given up.
pub(super) struct Going {
    pub(super) readings: Vec<Reading>,
    revocation: Revocation,
    pub(super) until: Instant,
}

impl Task {
    /// Takes the readings of partitions out. If they are `lost`, nothing that is still done for them counts.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition], lost: bool) -> Vec<Reading> {
        let of = |reading: &mut Reading| partitions.contains(&reading.tenure.of);
        let mut removed: Vec<Reading> = self.readings.extract_if(.., of).collect();
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
