//! Every few seconds one record says how far all sessions of a partition are that are at the tail (`ownership/checkpoints.rs`).

use std::time::Instant;

use super::task::{Task, now};

impl Task {
    /// Has one written if it is time. The feeds are asked before the connections: what they hand out after that is not counted.
    pub(super) fn checkpoint(&mut self) {
        let moment = Instant::now();
        let due = self.checkpoint_at.is_none_or(|at| at <= moment);
        let Some(hub) = self
            .around
            .hub
            .as_ref()
            .filter(|_| due && self.is_member && self.partition.has_connections())
        else {
            return;
        };
        self.checkpoint_at = Some(moment + self.around.settings.checkpoint_every);
        let feeds = hub.frontiers();
        let guests = &self.guests;
        let rests = |id| guests.get(&id).is_some_and(|guest| guest.mailbox.rests());
        self.partition.checkpoint(&feeds, rests, now());
    }
}
