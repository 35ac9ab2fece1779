//! Whether a connection has settled all that was handed out to it, told without waking it.

use std::sync::atomic::Ordering;

use super::Mailbox;

impl Mailbox {
    /// All that was taken out of it is settled, and all that is wanted comes into it. True if it is clear, too: then it rests, until it gets something
    /// or [stirs](Self::stir).
    pub fn rest(&self) -> bool {
        let mut inner = self.lock();
        inner.at_rest = inner.parcels.is_empty() && self.behind.load(Ordering::SeqCst) == 0;
        inner.at_rest
    }

    /// It rests no more, though nothing was taken out of it: its session reads something else than before, or will.
    pub fn stir(&self) {
        self.lock().at_rest = false;
    }

    /// Whether it rests: all that was handed out so far is settled.
    pub fn rests(&self) -> bool {
        // First: who is behind has parcels to come, and who has caught up has them.
        let behind = self.behind.load(Ordering::SeqCst);
        let inner = self.lock();
        behind == 0 && inner.at_rest && inner.parcels.is_empty()
    }
}
