//! Logs that were cut off (an unclean election of a leader): what stands there from the cut on is new to a session, whatever it knew of it.
//!
//! Told to the store along with the next report, places and starts alike. Were a start kept in the store that lies behind the cut: a session
//! starts at 10, and the log is cut off at 5; 5 and 6 are settled, and its client goes; up to 11 is written; who comes back begins at its start,
//! and 7 to 9 are lost.

use super::Tenancy;
use crate::{
    ownership::Source,
    relay::{chunk::SourceId, store::Report},
};

impl Tenancy {
    /// A message of `source` is looked at, or everything below `offset` was. If its log was cut off since the last look, what is known of it
    /// from `offset` on was of records that are no more, and says nothing of those that stand there now. The packet ids of messages
    /// from before that are gone with them.
    pub fn looks_at(&mut self, source: Source, log: SourceId, offset: i64) -> Vec<u16> {
        let former = self.logs.entry(source).or_insert(log);
        // A chunk of the former log may have waited somewhere.
        if log <= *former {
            return Vec::new();
        }
        *former = log;
        self.ends_at(source, offset)
    }

    /// A log that is read from now on ends at `end`: what is known of it from there on was of a log that was cut off meanwhile. The packet
    /// ids of messages from before that are gone with it.
    pub fn ends_at(&mut self, source: Source, end: i64) -> Vec<u16> {
        if let Some(progress) = self.sources.get_mut(&source) {
            progress.cut(end);
        }
        let starts = self.starts.values_mut().filter_map(|places| places.get_mut(&source));
        let behind: Vec<_> = starts.filter(|start| **start > end).collect();
        if !behind.is_empty() {
            behind.into_iter().for_each(|start| *start = end);
            self.cut.insert(source, end);
        }
        let lost = self.again.range((source, end)..=(source, i64::MAX));
        let lost: Vec<_> = lost.map(|(at, packet)| (at.1, *packet)).collect();
        lost.iter().for_each(|(offset, _)| self.came_again(source, *offset));
        lost.into_iter().map(|(_, packet)| packet).collect()
    }

    /// The log ended at `end` when a session went on that knew places behind that, or starts: tells the store of it at once.
    pub fn was_cut_off(&mut self, source: Source, end: i64) -> Vec<u16> {
        let gone = self.ends_at(source, end);
        self.cut.insert(source, end);
        gone
    }

    /// A report begins with what else must be known before.
    pub(super) fn begin_report(&mut self) -> Report {
        Report {
            cut: std::mem::take(&mut self.cut).into_iter().collect(),
            settled: std::mem::take(&mut self.settled),
            ..Report::default()
        }
    }
}
