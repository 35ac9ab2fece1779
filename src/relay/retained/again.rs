//! Retains a message whose mapped record Kafka had from before, if that brings nothing back that is gone (`store::repeats`).

use std::time::Duration;

use tokio::time::timeout;

use super::{Job, Retained, store::Repeat};
use crate::{audit::cut, mapping::partition_for_key, relay::inbound::now_ms, upstream::Outcome};

impl Retained {
    /// As [`keep`](Self::keep), of a message whose mapped record has a timestamp, in milliseconds since 1970: that of its first attempt. If it
    /// has been retained, or may have been and is gone, that counts as done.
    pub async fn keep_again(&self, mut job: Job, (partition, offset): (i32, i64), timestamp: i64) -> Outcome {
        // Else nothing is known here.
        if self.reads {
            job.as_of = match timeout(self.youth(), self.as_of(&job, (partition, offset), timestamp)).await {
                Ok(Some(Some(as_of))) => Some(as_of),
                Ok(Some(None)) => return Outcome::Stored { partition, offset },
                // It is tried again.
                Ok(None) | Err(_) => return Outcome::Unknown,
            };
        }
        self.keep(job, partition, offset).await
    }

    /// So long after its mapped record a message may still be written without a look at what has become of it: then its record is there before
    /// one that has cleared it can have a tombstone.
    fn youth(&self) -> Duration {
        self.settings.removal_delay / 2
    }

    /// As of which record it is to be written, if at all. `None`: Kafka does not say what is in the log.
    async fn as_of(&self, job: &Job, at: (i32, i64), timestamp: i64) -> Option<Option<i64>> {
        self.caught_up(&[job.topic()]).await?;
        let read = {
            let progress = self.progress.borrow();
            let partition = partition_for_key(job.topic().as_bytes(), progress.positions.len() as u32);
            progress.positions.get(partition as usize)? - 1
        };
        let repeat = self.store().repeat(job.topic(), &job.mapped(at));
        let is_older = match repeat {
            Repeat::Other { place, .. } => {
                let other = self.record(place, |record| record.timestamp).await?;
                // One that is not there any more was written once more meanwhile.
                other.is_some_and(|other| other < timestamp)
            }
            Repeat::Known | Repeat::Newer { .. } | Repeat::Missing => false,
        };
        let age = Duration::from_millis(now_ms().saturating_sub(timestamp).try_into().unwrap_or(0));
        let as_of = repeat.as_of(read, age <= self.youth(), is_older);
        if as_of.is_none() && repeat == Repeat::Missing {
            tracing::warn!(
                topic = &*cut(job.topic()),
                seconds = age.as_secs(),
                "a client repeats a retained message so late that it may have been cleared: it is not retained anew"
            );
        }
        Some(as_of)
    }
}
