//! Looks after time: batches past their delivery timeout are given up, wherever they are.

use std::{sync::Arc, time::Duration};

use super::cluster::Core;

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>) {
    let period = (core.settings.producer.delivery_timeout / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if core.memory.used() > 0 {
            expire(&core);
        }
    }
}

fn expire(core: &Core) {
    let now = std::time::Instant::now();
    let mut settled = Vec::new();
    for partition in core.topics.partitions() {
        let mut slot = partition.lock();
        slot.queue.expire(now, &mut settled);
        if settled.is_empty() {
            continue;
        }
        // What stands behind a dropped batch may be able to go on now.
        let broker = slot.broker.clone().filter(|_| !slot.listed && slot.queue.is_ready());
        slot.listed |= broker.is_some();
        drop(slot);
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.index,
            batches = settled.len(),
            "records were not acknowledged within the delivery timeout and are given up"
        );
        core.settle(&partition, &mut settled);
        if let Some(broker) = broker {
            broker.list(partition, true);
        }
    }
}
