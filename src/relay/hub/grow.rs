//! Partitions and topics that come while somebody waits for them.

use std::{sync::Arc, time::Duration};

use super::{Hub, TopicHub, Wanted};
use crate::upstream::Topic;

/// Kafka did not say where a topic ends.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Reads partitions that a topic gains, from their beginning: they are younger than the seats that are taken, so everything in
/// them was stored after those SUBSCRIBEs. So is a topic that appears. One that could not be seen may be old: it is read from where it ends
/// once it can. Ends with the last seat.
pub(super) async fn grow(hub: Arc<Hub>, topic_hub: Arc<TopicHub>, mut topic: Arc<Topic>) {
    while let Some(larger) = hub.cluster.topic_grows(&topic).await {
        let mut ends = Vec::new();
        if topic.partitions.is_empty() && !larger.appeared {
            // Who sits down from here on asks for the ends, too.
            topic_hub.lock().see(&larger, true);
            let Some(told) = hub.ends_of(&larger).await else {
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            };
            ends = told;
        }
        let mut reading = topic_hub.lock();
        // Aborted, but not yet gone.
        if reading.seats == 0 {
            return;
        }
        reading.see(&larger, true);
        // Whoever reads those of a topic whose name another has by now goes over to it.
        let known = if larger.id.may_be(topic.id) { topic.partitions.len() } else { 0 };
        for partition in known..larger.partitions.len() {
            let from = ends.get(partition).copied().unwrap_or(0);
            let partition = partition as i32;
            let wanted = reading.partitions.entry(partition).or_insert_with(Wanted::new);
            hub.run(wanted, &topic_hub, &larger, partition, from);
        }
        reading.known = reading.known.max(larger.partitions.len());
        drop(reading);
        topic = larger;
    }
}
