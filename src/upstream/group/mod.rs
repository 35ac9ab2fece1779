//! Membership in a consumer group: who has which partition of some topics, and what is committed for it.
//!
//! Kafka's coordinator keeps the members and the commits, one of the members shares the partitions out (`assign`). `membership` is the
//! protocol as a pure state machine, `requests` its seam, `coordinator` turns that into Kafka's requests, `task` drives both.
//! Reading the partitions is the user's business.
//!
//! `share` is membership in a share group (KIP-932), which is another protocol.
//!
//! Groups are joined under an assignment protocol of this proxy's own, so a group cannot be shared with other clients: the coordinator
//! refuses whoever knows no protocol in common with all members. What is sent is Kafka's consumer protocol all the same, and so are
//! the commits: Kafka's tools show both.

mod assign;
mod coordinator;
mod embedded;
mod event;
mod finding;
mod limits;
mod membership;
mod offsets;
mod requests;
mod settings;
pub(super) mod share;
mod task;
#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::cluster::Core;
pub use event::{Assigned, Commit, CommitError, Committed, GroupEvent, Revocation, Tenure, TopicPartition};
pub use settings::{GroupSettings, MOST_METADATA, MOST_USER_DATA};
pub use share::{AckKind, Acquired, AcquiredRange, Lease, ShareEvent, ShareGroup, ShareStart, Terms};
use task::Command;

/// Events that wait for the user beside those of one generation.
const MOST_EVENTS: usize = 8;
/// Calls that wait for the membership's task.
const MOST_COMMANDS: usize = 64;
/// Answers to revocations that wait for it. There is one revocation at a time; late answers to those that timed out come to it.
const MOST_RELEASES: usize = 64;

/// A membership. Dropping it ends it without a word: the coordinator finds out after the session timeout, and a member with the same
/// `group.instance.id` may go on where this one stopped. [`leave`](Self::leave) lets the others have the partitions at once.
#[derive(Debug)]
pub struct Group {
    events: mpsc::Receiver<GroupEvent>,
    halted: watch::Receiver<bool>,
    committer: Committer,
}

/// Commits for a membership. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Committer(mpsc::Sender<Command>);

/// Begins a membership.
pub(crate) fn join(core: &Arc<Core>, mut settings: GroupSettings) -> Group {
    settings.user_data.truncate(MOST_USER_DATA);
    let (events, taken) = mpsc::channel(MOST_EVENTS);
    let (commands, calls) = mpsc::channel(MOST_COMMANDS);
    let (halts, halted) = watch::channel(false);
    core.spawn(task::run(Arc::clone(core), Arc::new(settings), (events, halts), calls));
    Group {
        events: taken,
        halted,
        committer: Committer(commands),
    }
}

impl Group {
    /// The next thing that happens to the membership. `None` when it is over: fenced, or the client was shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        self.events.recv().await
    }

    /// Whether the coordinator takes no commits at the moment: it waits for the assignment of the member that leads. If that one was killed, for as
    /// long as its session.
    pub fn halted(&self) -> watch::Receiver<bool> {
        self.halted.clone()
    }

    /// For those who commit.
    pub fn committer(&self) -> Committer {
        self.committer.clone()
    }

    /// Wants all partitions of these topics instead of those from before: another generation is asked for. Cancel-safe.
    pub async fn subscribe(&self, topics: impl IntoIterator<Item = Arc<str>>) {
        // If the task has ended there is nothing to be had.
        drop(self.committer.0.send(Command::Subscribe(topics.into_iter().collect())).await);
    }

    /// Says goodbye, a static member too: commits that were accepted reach Kafka first, then the others get the partitions. Takes the
    /// request timeout at most; if the coordinator is away by then, it finds out by itself.
    pub async fn leave(self) {
        let (reply, gone) = oneshot::channel();
        if self.committer.0.send(Command::Leave(reply)).await.is_ok() {
            let _ = gone.await;
        }
    }
}

impl Committer {
    /// Commits, and waits for Kafka's answer: one outcome for each, in order. What comes while a commit is on its way waits for it, and
    /// of several for a partition only the last is sent. Takes the commit timeout at most. A call that is given up may still be
    /// carried out.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
        let (calls, outcomes): (Vec<_>, Vec<_>) = commits
            .into_iter()
            .map(|commit| {
                let (reply, outcome) = oneshot::channel();
                ((commit, reply), outcome)
            })
            .unzip();
        // If the task has ended the replies are dropped with the command.
        drop(self.0.send(Command::Commit(calls)).await);
        let mut all = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            all.push(outcome.await.unwrap_or(Err(CommitError::Closed)));
        }
        all
    }

    /// [`commit`](Self::commit) for who does not wait: the commits stand in line when this returns, before all that the membership is asked for later.
    pub fn begin_to_commit(&self, commits: Vec<Commit>) -> impl Future<Output = Vec<Result<(), CommitError>>> + Send + 'static {
        let committer = self.clone();
        let mut outcomes: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move { committer.commit(commits).await });
        // The first look has them sent, or takes a place in the line of those that send.
        let at_once = outcomes.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        async move {
            match at_once {
                Poll::Ready(all) => all,
                Poll::Pending => outcomes.await,
            }
        }
    }
}
