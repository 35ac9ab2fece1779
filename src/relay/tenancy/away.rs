//! Kafka topics that a session reads and that were not there, or could not be seen, when it went on: it reads them on when they can be read
//! (`resuming`).

use super::Tenancy;
use crate::{kafka::TopicPattern, ownership::Body, session::SubscriptionKey};

/// Such a topic.
#[derive(Debug)]
pub struct Away {
    pub topic: Box<str>,
    /// It cannot be seen, and may well be there.
    pub hidden: bool,
    /// The subscriptions that read it.
    pub keys: Vec<SubscriptionKey>,
}

impl Tenancy {
    /// Subscriptions wait for topics; where they start there is known.
    pub fn waits(&mut self, away: Vec<Away>, body: &Body) {
        for key in away.iter().flat_map(|away| &away.keys) {
            let starts = body.subscriptions[key.0 as usize].starts.clone();
            self.starts.entry(*key).or_default().extend(starts);
        }
        self.away = away;
    }

    /// Whether a subscription waits for a topic.
    pub fn is_waiting(&self, key: SubscriptionKey) -> bool {
        self.away.iter().any(|away| away.keys.contains(&key))
    }

    /// A new subscription reads a topic. If the session waits for it, it waits with the others: a session has one place in a log.
    pub fn waits_too(&mut self, topic: &str, key: SubscriptionKey) -> bool {
        let Some(away) = self.away.iter_mut().find(|away| *away.topic == *topic) else {
            return false;
        };
        // Several rules may read one Kafka topic; one seat in it is enough.
        if !away.keys.contains(&key) {
            away.keys.push(key);
        }
        true
    }

    /// A new subscription reads all topics with such names. Where the session waits for one, it waits with the others; the names of these.
    pub fn waits_along(&mut self, pattern: &TopicPattern, key: SubscriptionKey) -> Vec<Box<str>> {
        let of_it = |away: &&mut Away| pattern.matches(&away.topic);
        let mut names = Vec::new();
        for away in self.away.iter_mut().filter(of_it) {
            if !away.keys.contains(&key) {
                away.keys.push(key);
            }
            names.push(away.topic.clone());
        }
        names
    }

    /// A topic can be read; the subscriptions that have waited for it.
    pub fn has_come(&mut self, topic: &str) -> Vec<SubscriptionKey> {
        let at = self.away.iter().position(|away| *away.topic == *topic);
        at.map(|at| self.away.swap_remove(at).keys).unwrap_or_default()
    }
}
