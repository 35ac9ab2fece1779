//! What runs for each broker.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{broker::Broker, cluster::Core, fetch, offsets, sender, singles};
use crate::kafka::Acks;

/// Brokers that are kept track of, far beyond any cluster: each has tasks.
const MOST_BROKERS: usize = 10_000;

/// Begins with a broker that was not heard of before.
pub(super) fn begin(core: &Arc<Core>, id: i32, address: String) {
    if core.all_brokers().len() >= MOST_BROKERS {
        return;
    }
    let (fetcher, commands) = mpsc::unbounded_channel();
    let (questions, asked) = mpsc::unbounded_channel();
    let broker = Broker::new(id, address, fetcher, questions);
    core.add_broker(&broker);
    for acks in Acks::EACH {
        core.spawn(sender::run(Arc::clone(core), Arc::clone(&broker), acks));
    }
    core.spawn(fetch::run(Arc::clone(core), Arc::clone(&broker), commands));
    core.spawn(offsets::run(Arc::clone(core), Arc::clone(&broker), asked));
    for _ in 0..core.settings.producer.qos2_connections {
        core.spawn(singles::run(Arc::clone(core), Arc::clone(&broker)));
    }
}
