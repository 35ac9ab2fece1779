//! The place of a subscription in a Kafka topic.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use super::{Hub, Reading, Subscriber, TopicHub};
use crate::{
    mqtt::QoS,
    ownership::Source,
    relay::{frontier::Reached, retained::Starts},
    upstream::Topic,
};

/// The place of one subscription in one Kafka topic; dropping it leaves.
#[derive(Debug)]
pub struct Seat {
    pub(super) hub: Arc<TopicHub>,
    pub(super) topic: Arc<Topic>,
    pub(super) filter: Box<str>,
    pub(super) subscriber: Subscriber,
    pub(super) partitions: Vec<i32>,
}

impl Seat {
    /// Changes the QoS that the subscription was granted, when the client subscribes again with the same filter.
    pub fn grant(&mut self, granted: QoS) {
        self.subscriber.granted = granted;
        let mut index = self.hub.index.write().unwrap_or_else(PoisonError::into_inner);
        index.insert(&self.filter, self.subscriber.clone());
    }

    /// Where its subscription starts, if it gets retained messages. All seats of a subscription share it.
    pub fn starts(&self) -> Option<&Arc<Starts>> {
        self.subscriber.starts.as_ref()
    }

    /// Its Kafka topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// How far all partitions of its topic are read.
    pub fn frontiers(&self) -> Vec<Reached> {
        self.hub.lock().frontiers()
    }

    /// Whether a partition is read for it.
    pub fn reads(&self, place: &Source) -> bool {
        place.topic == *self.topic.id.as_bytes() || place.topic == self.hub.lock().id
    }

    /// The partitions it needs.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }
}

impl Hub {
    /// How far all partitions are read that somebody sits in.
    pub fn frontiers(&self) -> BTreeMap<Source, i64> {
        let topics = self.known().all();
        let all = topics.iter().flat_map(|topic| topic.lock().frontiers());
        all.map(|reached| (reached.source, reached.next)).collect()
    }
}

impl Reading {
    /// How far its partitions are read.
    fn frontiers(&self) -> Vec<Reached> {
        self.partitions.values().filter_map(|wanted| wanted.frontier.get()).collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.filter, &self.subscriber);
        let mut reading = self.hub.lock();
        reading.seats -= 1;
        if reading.seats == 0 {
            let Reading { partitions, growth, .. } = std::mem::take(&mut *reading);
            partitions.values().for_each(|wanted| wanted.arrivals.end());
            let feeds = partitions.into_values().filter_map(|wanted| wanted.feed);
            feeds.map(|feed| feed.task).chain(growth).for_each(|task| task.abort());
        }
    }
}
