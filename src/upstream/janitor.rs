//! Looks after what will not be sent any more: batches past their delivery timeout, wherever they are, those of topics that are gone, and
//! memory that a request held for longer than anybody waited for it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    accumulator::Verdict,
    cluster::Core,
    topics::{Partition, Topic},
};

/// Runs until the client stops.
pub(crate) async fn run(core: Arc<Core>) {
    let period = (core.settings.producer.delivery_timeout / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if core.memory.used() > 0 {
            look(&core);
            // Who stops waits for records, not for sockets.
            core.memory.look_for_lent(core.closing.load(Relaxed));
        }
    }
}

fn look(core: &Core) {
    let now = Instant::now();
    for partition in core.topics.partitions() {
        if partition.is_gone() {
            // From somebody who appended to the old topic after it was cleared.
            give_up(core, &partition);
        } else {
            expire(core, partition, now);
        }
    }
}

fn expire(core: &Core, partition: Arc<Partition>, now: Instant) {
    let mut settled = Vec::new();
    let mut slot = partition.lock();
    slot.queue.expire(now, &mut settled);
    if settled.is_empty() {
        return;
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

/// Settles what waits in the partitions of a topic that is laid to rest, so that nobody waits for the delivery timeout. What may be stored, by an
/// attempt without an answer, is unknown.
pub(crate) fn clear(core: &Core, topic: &Topic) {
    topic
        .partitions
        .iter()
        .flat_map(Partition::family)
        .for_each(|one| give_up(core, one));
}

fn give_up(core: &Core, partition: &Arc<Partition>) {
    let mut settled = Vec::new();
    partition.lock().queue.abandon(Verdict::Unknown, &mut settled);
    if settled.is_empty() {
        return;
    }
    tracing::warn!(
        topic = &*partition.topic,
        partition = partition.index,
        batches = settled.len(),
        "records for a topic that was made anew are given up"
    );
    core.settle(partition, &mut settled);
}
