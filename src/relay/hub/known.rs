//! The topics that somebody sits in, by name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock},
};

use super::TopicHub;

/// Fewer than that are not worth a look for those that nobody sits in any more.
const MOST_UNLOOKED: usize = 64;

/// Clients name topics, so those that nobody sits in any more are forgotten.
#[derive(Default)]
pub(super) struct Known {
    topics: HashMap<Arc<str>, Arc<TopicHub>>,
    /// How many the last look left: the next one comes when there are twice as many, so that a look costs little for each new name.
    left: usize,
}

impl Known {
    /// The topic, if somebody sits in it, or did not long ago.
    pub(super) fn get(&self, name: &str) -> Option<Arc<TopicHub>> {
        self.topics.get(name).cloned()
    }

    /// All that somebody sits in, or did not long ago.
    pub(super) fn all(&self) -> Vec<Arc<TopicHub>> {
        self.topics.values().cloned().collect()
    }

    /// The topic, to sit down in.
    pub(super) fn topic(&mut self, name: &str) -> Arc<TopicHub> {
        if let Some(topic) = self.get(name) {
            return topic;
        }
        if self.topics.len() >= MOST_UNLOOKED.max(2 * self.left) {
            self.forget_empty();
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(TopicHub {
            name: name.clone(),
            index: RwLock::default(),
            reading: Mutex::default(),
        });
        self.topics.insert(name, topic.clone());
        topic
    }

    /// Whoever sits in a topic, is about to, or reads it holds it, and gets it here or from another who does: what is held here only is nobody's.
    fn forget_empty(&mut self) {
        self.topics.retain(|_, topic| Arc::strong_count(topic) > 1);
        self.left = self.topics.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_nobody_sits_in_are_forgotten_and_no_other_is() {
        let mut known = Known::default();
        let held: Vec<_> = (0..100).map(|at| known.topic(&format!("held-{at}"))).collect();
        for at in 0..10_000 {
            drop(known.topic(&format!("passing-{at}")));
            assert!(known.topics.len() <= 202, "{}", known.topics.len());
        }
        for topic in &held {
            assert!(Arc::ptr_eq(topic, &known.topic(topic.name())));
        }
    }
}
