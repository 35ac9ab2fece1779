//! Walks over retained messages that a session has not come to the end of: they go on behind the topic that was given last.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use crate::{
    ownership::{Body, Source, StoredSubscription, Walk},
    relay::{
        retained::{Retained, Starts, Stream},
        subscribing::StartAt,
    },
    session::SubscriptionKey,
};

/// The walks that go on; `starts` are those of the session's seats. `None`: Kafka did not say in time what was retained before.
pub(super) async fn go_on(retained: Option<&Arc<Retained>>, body: &Body, starts: &[StartAt], until: Instant) -> Option<Vec<Stream>> {
    let Some(retained) = retained.filter(|_| !body.steps.walks.is_empty()) else {
        return Some(Vec::new());
    };
    let mut wanted = Vec::new();
    let mut walks = Vec::new();
    for (at, subscription) in body.subscriptions.iter().enumerate() {
        let Some(walk) = body.steps.walks.get(&*subscription.filter) else {
            continue;
        };
        let key = SubscriptionKey(at as u32);
        let read = starts.iter().filter(|start| start.key == key).map(|start| start.place);
        let read: BTreeSet<Source> = read.chain(subscription.starts.keys().copied()).collect();
        let own = Starts::default();
        own.begin(read.into_iter().map(|source| (source, start(body, subscription, walk, source))));
        wanted.push((at, key, subscription.filter.as_str().into(), Some(Arc::new(own))));
        walks.push(walk);
    }
    let streams = retained.streams(&wanted, until).await?;
    Some(
        streams
            .into_iter()
            .zip(walks)
            .map(|(stream, walk)| stream.behind(&walk.behind))
            .collect(),
    )
}

/// From where on a subscription gets the records of a partition as ordinary messages. One that it did not know is younger, and read whole. What waits
/// behind a walk was not handed out, so where it is walked again the session's place is still the one of that SUBSCRIBE.
fn start(body: &Body, subscription: &StoredSubscription, walk: &Walk, source: Source) -> i64 {
    let start = subscription.starts.get(&source).copied().unwrap_or(0);
    let place = body.steps.positions.get(&source).filter(|_| walk.again);
    place.map_or(start, |place| start.max(*place))
}
