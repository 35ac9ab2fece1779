//! Where a reader that has no position begins.

use std::sync::Arc;

use super::Command;
use crate::upstream::{broker::Broker, cluster::Core, offsets, topics::Partition};

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sought {
    /// The end of the log.
    End,
    /// The first record of this time (milliseconds since 1970) or later.
    Time(i64),
    /// The nearest there is to an offset that is out of range.
    Nearest(i64),
}

/// Finds a position and tells the fetcher of `broker`.
pub(super) async fn find(core: Arc<Core>, broker: Arc<Broker>, slot: u64, partition: Arc<Partition>, sought: Sought) {
    let offset = match sought {
        Sought::End => ask(&core, &partition, offsets::LATEST).await,
        Sought::Time(time) => since(&core, &partition, time).await,
        Sought::Nearest(lost) => match ask(&core, &partition, offsets::EARLIEST).await {
            Some(earliest) if earliest > lost => Some(earliest),
            Some(_) => ask(&core, &partition, offsets::LATEST).await,
            None => None,
        },
    };
    let _ = broker.fetcher.send(Command::Positioned { slot, offset });
}

async fn ask(core: &Core, partition: &Arc<Partition>, timestamp: i64) -> Option<i64> {
    offsets::list(core, vec![Some(partition)], timestamp)
        .await
        .pop()
        .and_then(Result::ok)
}

async fn since(core: &Core, partition: &Arc<Partition>, time: i64) -> Option<i64> {
    offsets::since(core, vec![Some(partition)], time).await.pop().and_then(Result::ok)
}
