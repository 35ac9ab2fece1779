//! A message at QoS 2 on its way from a group to a stored session: settled for the group when the session's pair is read back, and not before,
//! or a crash in between would leave it with nobody.

use std::sync::Arc;

use super::{HandoutId, Share};

/// See the head of the file. Dropping it says that the session does not have it: another member gets it.
#[derive(Debug)]
pub struct Lent {
    share: Arc<Share>,
    id: HandoutId,
    is_kept: bool,
}

impl Lent {
    /// Of a message that [`Share::send`] was told to be lent.
    pub fn new(share: Arc<Share>, id: HandoutId) -> Self {
        let is_kept = false;
        Self { share, id, is_kept }
    }

    /// The shared subscription, as a filter.
    pub fn filter(&self) -> String {
        let (name, filter) = &self.share.name;
        format!("$share/{name}/{filter}")
    }

    /// The session has it. False: so may another member, since its partition or its lock went elsewhere before.
    pub fn keep(mut self) -> bool {
        self.is_kept = true;
        self.share.lock().state.keep(self.id)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_kept {
            self.share.lock().state.take_back(self.id);
        }
        // There is something to hand out, or to commit.
        self.share.wake.notify_one();
    }
}
