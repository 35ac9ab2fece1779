//! After a pause of the process: nothing is said of a stored session before it is known whose it is.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::Connection;
use crate::{mqtt::ReasonCode, relay::store::Pauses};

/// The longest wait; the task of a partition gives up a tail that was not at the end for so long, and closes its clients.
const AT_MOST: Duration = Duration::from_secs(60);

/// Of a connection that speaks for a stored session.
pub(super) struct Awake {
    pauses: Arc<Pauses>,
    /// As many of them are known to have taken nothing from it.
    seen: u64,
}

impl Awake {
    /// Whether it may speak.
    pub(super) fn is_sure(awake: Option<&Self>) -> bool {
        awake.is_none_or(|awake| awake.pauses.are(awake.seen))
    }

    /// What `poll` finds, or nothing where it may not speak.
    pub(super) fn poll<T>(
        awake: Option<&Self>,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        if Self::is_sure(awake) {
            poll(context).map(Some)
        } else {
            Poll::Ready(None)
        }
    }
}

impl Connection {
    /// Whether what it says rests on who owns the session. What a client with nothing stored is told does not.
    pub(super) fn regard_pauses(&mut self) {
        let rests = self.desk.is_owner();
        if rests == self.awake.is_some() {
            return;
        }
        let store = self.desk.shared.store.as_ref().filter(|_| rests);
        self.awake = store.map(|store| {
            let seen = store.pauses.count();
            let pauses = store.pauses.clone();
            Box::new(Awake { pauses, seen })
        });
    }

    /// Told as a sequence of events what follows of speaking at once: this process is stopped between a record that was read back and the PUBREC that
    /// rests on it; the client goes to another instance, ends its exchange there, and uses the packet id again; this process wakes up. So it
    /// waits here until its partition is read to the end, or it hears that it is no owner any more. Then nothing of what it had to say leaves,
    /// nor what the next turn makes of older letters and receipts: only the end.
    pub(super) async fn make_sure(&mut self) {
        let Some(awake) = &mut self.awake else { return };
        let (mailbox, wake) = (&self.desk.mailbox, &self.wake);
        let ends = async {
            while !mailbox.is_to_end() {
                wake.notified().await;
            }
        };
        let mut given_up = false;
        tokio::select! {
            seen = awake.pauses.over(self.session.client_id()) => awake.seen = seen,
            () = ends => {}
            () = tokio::time::sleep(AT_MOST) => given_up = true,
        }
        self.session.hush();
        if given_up {
            let why = "the instance was paused, and cannot see who has the session now";
            self.session.give_up(ReasonCode::ServerUnavailable, why, Instant::now());
        }
    }
}
