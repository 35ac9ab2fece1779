//! Topics by their names.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    cluster::Cluster,
    metadata,
    topics::{Topic, TopicState},
};

/// Between two questions for a partition that is said to be there.
const ASK_GROWN_AGAIN: Duration = Duration::from_millis(250);

impl Cluster {
    /// What is known of a topic. An unknown name is asked for; [`topic_known`](Self::topic_known) waits for the answer.
    pub fn topic(&self, name: &str) -> TopicState {
        let (state, new) = self.core().topics.look_up(name);
        if new {
            self.core().refresh.notify_one();
        }
        state
    }

    /// Waits until it is known whether the topic exists; never [`TopicState::Unknown`], unless the client is shut down. Cancel-safe.
    pub async fn topic_known(&self, name: &str) -> TopicState {
        self.topic_when(name, |state| !matches!(state, TopicState::Unknown)).await
    }

    /// Waits until the topic exists; it is asked for every few seconds meanwhile. `None` after a shutdown. Cancel-safe.
    pub async fn topic_appears(&self, name: &str) -> Option<Arc<Topic>> {
        match self.topic_when(name, |state| matches!(state, TopicState::Ready(_))).await {
            TopicState::Ready(topic) => Some(topic),
            _ => None,
        }
    }

    /// Waits until a topic has more partitions than this value of it, or another has its name. `None` after a shutdown. Cancel-safe.
    pub async fn topic_grows(&self, topic: &Topic) -> Option<Arc<Topic>> {
        let is_other = |now: &Topic| now.partitions.len() > topic.partitions.len() || !now.id.may_be(topic.id);
        let grown = |state: &TopicState| matches!(state, TopicState::Ready(now) if is_other(now));
        match self.topic_when(&topic.name, grown).await {
            TopicState::Ready(now) if is_other(&now) => Some(now),
            _ => None,
        }
    }

    /// The topic as soon as it is known to have more than `partition` partitions, at `until` as it is then known. Another client of the
    /// cluster may have heard of a partition long before this one: metadata are asked for anew, more rarely the longer it takes. Cancel-safe.
    pub async fn topic_with(&self, topic: Arc<Topic>, partition: u32, until: Instant) -> Arc<Topic> {
        let mut topic = topic;
        let mut failures = 0;
        while topic.partitions.len() <= partition as usize && Instant::now() < until {
            self.core().refresh_all(failures);
            failures += 1;
            let again = (Instant::now() + ASK_GROWN_AGAIN).min(until);
            if let Ok(known) = timeout_at(again, self.topic_grows(&topic)).await {
                match known {
                    Some(known) if known.id.may_be(topic.id) => topic = known,
                    // Another has its name, or the client is shut down.
                    _ => break,
                }
            }
        }
        topic
    }

    /// Whether there is no such topic any more, as far as is known: none of its name, or another.
    pub fn is_away(&self, topic: &Topic) -> bool {
        match self.topic(&topic.name) {
            TopicState::Ready(now) => !now.id.may_be(topic.id),
            TopicState::Missing => true,
            TopicState::Unknown => false,
        }
    }

    /// Whether a topic is missing only in so far as this client may not see it.
    pub fn is_hidden(&self, name: &str) -> bool {
        self.core().topics.lock().get(name).is_some_and(|entry| entry.hidden)
    }

    pub(super) async fn topic_when(&self, name: &str, enough: impl Fn(&TopicState) -> bool) -> TopicState {
        let mut changed = self.core().changed.subscribe();
        let mut stopped = self.core().stopped.subscribe();
        loop {
            changed.mark_unchanged();
            let state = self.topic(name);
            if enough(&state) || *stopped.borrow_and_update() {
                return state;
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = stopped.changed() => {}
                // Says again that somebody wants it.
                () = tokio::time::sleep(metadata::ASK_MISSING_AGAIN) => {}
            }
        }
    }
}
