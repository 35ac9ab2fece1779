//! Compacted Kafka topics as lookup tables: each is read from its beginning to its end when the proxy starts, and kept live from then on.
//!
//! What comes before a table was read waits for it, in its connection or unread in Kafka, for a bounded time after Kafka was reached. From then on
//! it goes without, which is what a program meets that looks into the table: never a row that is not there, where nobody knows.

mod reading;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    mapping::Table,
    metrics::Metrics,
    upstream::{Cluster, State},
};

use reading::Reading;

/// How far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Tables that were never read to their ends.
    unread: usize,
    /// Nobody waits any more.
    over: bool,
}

/// All tables of Kafka topics, and their tasks.
#[derive(Debug, Default)]
pub struct LiveTables {
    progress: watch::Sender<Progress>,
    /// Programs for the way back look into them.
    for_readers: bool,
    _tasks: JoinSet<()>,
}

impl LiveTables {
    /// Begins to read the topics of those of `tables` that have one, each once. They are waited for until Kafka has been there for `patience`:
    /// before, nothing goes on anyway, and that there is no table yet says nothing. `for_readers`: what is made of records needs them.
    pub fn start(tables: Vec<Arc<Table>>, for_readers: bool, cluster: &Cluster, metrics: &Arc<Metrics>, patience: Duration) -> Self {
        let mut met = HashSet::new();
        let topics = tables.into_iter().filter_map(|table| {
            let name = table.topic()?.topic.clone();
            met.insert(Arc::as_ptr(&table)).then_some((name, table))
        });
        let topics: Vec<_> = topics.collect();
        let unread = topics.len();
        let progress = watch::Sender::new(Progress { unread, over: unread == 0 });
        let mut tasks = JoinSet::new();
        for (name, table) in &topics {
            let (reading, progress) = (
                Reading::new(table.clone(), cluster.clone(), metrics.clone(), name),
                progress.clone(),
            );
            tasks.spawn(reading.keep(move || progress.send_modify(|progress| progress.unread = progress.unread.saturating_sub(1))));
        }
        if unread > 0 {
            tasks.spawn(end_of_patience(progress.clone(), cluster.state(), topics, patience));
        }
        Self {
            progress,
            for_readers,
            _tasks: tasks,
        }
    }

    /// How many tables are still to be waited for; `None`: none, or patience is over.
    pub fn pending(&self) -> Option<usize> {
        let Progress { unread, over } = *self.progress.borrow();
        (unread > 0 && !over).then_some(unread)
    }

    /// Waits until there are less to be waited for than so many.
    pub async fn progressed(&self, pending: usize) {
        let is_other = |progress: &Progress| progress.over || progress.unread < pending;
        // An error: the process ends.
        let _ = self.progress.subscribe().wait_for(is_other).await;
    }

    /// For who makes messages of records: waits until nothing is to be waited for, if programs for that look into tables.
    pub async fn settled_for_readers(&self) {
        if self.for_readers {
            self.progressed(1).await;
        }
    }

    /// Waits until the number of those that are to be waited for is another than the one that was told.
    pub async fn changed(&self, told: Option<usize>) {
        let mut progress = self.progress.subscribe();
        while self.pending() == told && progress.changed().await.is_ok() {}
    }
}

async fn end_of_patience(
    progress: watch::Sender<Progress>,
    mut state: watch::Receiver<State>,
    topics: Vec<(String, Arc<Table>)>,
    patience: Duration,
) {
    // An error: the client was shut down.
    let _ = state.wait_for(|state| *state == State::Ready).await;
    let mut read = progress.subscribe();
    let all = read.wait_for(|progress| progress.unread == 0);
    if tokio::time::timeout(patience, async { drop(all.await) }).await.is_err() {
        let unread = topics.iter().filter(|(_, table)| !table.is_read());
        let topics: Vec<&str> = unread.map(|(name, _)| name.as_str()).collect();
        tracing::error!(
            ?topics,
            ?patience,
            "Kafka topics of lookup tables could not be read in time: until they are, messages whose programs look into them get the rule's `on_error`"
        );
    }
    progress.send_modify(|progress| progress.over = true);
}
