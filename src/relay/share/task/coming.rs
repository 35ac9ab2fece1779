//! Partitions that become this instance's.

use super::Task;
use crate::{
    audit::cut,
    progress::{Position, Progress},
    relay::share::reading::Reading,
    upstream::{Assigned, Topic, TopicPartition, TopicState},
};

impl Task {
    /// Takes partitions. The instance that shares them out may have heard earlier of a topic than this one: then they wait until it is known
    /// here. If it has just been deleted, the group takes them away.
    pub(super) fn assigned(&mut self, assigned: Vec<Assigned>) {
        self.unknown.extend(assigned);
        self.take_known();
    }

    /// Begins with the partitions whose topics are known.
    pub(super) fn take_known(&mut self) {
        for one in std::mem::take(&mut self.unknown) {
            if let Some(unknown) = self.take_one(one) {
                self.unknown.push(unknown);
            }
        }
    }

    fn take_one(&mut self, assigned: Assigned) -> Option<Assigned> {
        let TopicPartition { topic, partition } = &assigned.tenure.of;
        let TopicState::Ready(topic) = self.shares.hub.cluster.topic(topic) else {
            return Some(assigned);
        };
        let progress = match &assigned.committed {
            // What was committed of a topic that is gone is nothing of the one that has its name.
            Some(known) => Position::read(known.offset, &known.metadata, topic.id.as_bytes()).map_or(Progress::at(0), Progress::resume),
            None => match self.start(&topic, *partition) {
                Some(start) => Progress::at(start),
                None => return Some(assigned),
            },
        };
        let from = progress.reached();
        let part = self.share.lock().state.begin(progress);
        tracing::debug!(
            share = &*cut(self.share.share_name()),
            topic = &*topic.name,
            partition,
            from,
            "a partition of a shared subscription has come"
        );
        let (hub, bell) = (&self.shares.hub, &self.share.wake);
        self.readings.push(Reading::new(hub, bell, (part, assigned.tenure), topic, from));
        None
    }

    /// Where a partition begins of which nothing is committed. Those that were not there are younger than the subscription. `None`: it is not
    /// known yet where the topic ended when it could be seen first.
    fn start(&self, topic: &Topic, partition: i32) -> Option<i64> {
        match self.ends.get(&(topic.name.clone(), topic.id)) {
            Some(ends) => Some(ends.get(partition as usize).copied().unwrap_or(0)),
            // Another had its name when the subscription began.
            None if self.ends.keys().any(|(name, _)| *name == topic.name) => Some(0),
            None => (topic.appeared || self.found.is_young(&topic.name)).then_some(0),
        }
    }
}
