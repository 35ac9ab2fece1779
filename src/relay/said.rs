//! What is said once: a log line that would otherwise come with every message.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

/// Names that are kept apart; beyond it nothing more is said.
const MOST: usize = 1000;

/// Names of which something was said.
#[derive(Debug, Default)]
pub struct Said(Mutex<HashSet<Box<str>>>);

impl Said {
    /// True the first time a name comes.
    pub fn first(&self, name: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < MOST && !said.contains(name) && said.insert(name.into())
    }

    /// Says that the cluster has no such topic, once for each name.
    pub fn missing(&self, topic: &str) {
        if self.first(topic) {
            tracing::error!(
                topic,
                "a rule needs a Kafka topic that does not exist; create it (it is looked for every few seconds)"
            );
        }
    }
}
