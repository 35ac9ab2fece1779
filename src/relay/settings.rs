//! What the relay is built with.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use super::{StoreSettings, share::SharedKind};
use crate::{
    auth::{Chain, Rights},
    resources::{KeySetSettings, LoginSettings, RegistrySettings},
    session,
    upstream::StateTopic,
};

/// All of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of every session.
    pub session: Arc<session::Settings>,
    /// How long a PUBLISH may wait for memory or for a topic, and a SUBSCRIBE for its start; then its outcome is unknown.
    pub delivery_timeout: Duration,
    /// Bytes of a full batch: a sticky rule stays with a partition for so many.
    pub batch_size: usize,
    /// How long a connection may wait for answers of Kafka when the process stops.
    pub drain_timeout: Duration,
    /// How fast each client may publish.
    pub rate: ClientRate,
    /// Reading for subscribers that cannot keep up.
    pub sweeps: SweepSettings,
    /// In front of the names of the consumer groups of shared subscriptions.
    pub group_prefix: String,
    /// What groups those are.
    pub shared: SharedKind,
    /// Retained messages; `None`: no rule keeps any.
    pub retained: Option<RetainedSettings>,
    /// Names of the topics of the proxy's own state: devices neither write nor read them, whatever they put into a rule's Kafka topic.
    pub state_topics: Vec<String>,
    /// Bytes that a fetch of one partition brings, at most or one batch.
    pub fetch_size: usize,
    /// `None`: sessions end with their connections.
    pub store: Option<StoreSettings>,
    /// Schema registries that rules name.
    pub registries: Vec<RegistrySettings>,
    /// Who is let in, and what they may do.
    pub access: Access,
    /// A message that says that its payload is UTF-8 is refused if it is not.
    pub payload_format_check: bool,
}

/// Who is let in, and what they may do.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Of listeners that say nothing else; `None` lets everybody in, as nobody, whatever user name or password he shows.
    pub chain: Option<Arc<Chain>>,
    /// Of listeners that do, by their names; `None` as above.
    pub listeners: HashMap<String, Option<Arc<Chain>>>,
    /// Key sets that their methods take from servers.
    pub key_sets: Vec<KeySetSettings>,
    /// Servers that they ask, by the numbers that they have there.
    pub login_servers: Vec<LoginSettings>,
    /// Clients that may be connected at a time by the same identity; `None` is no limit.
    pub connections_per_identity: Option<NonZeroU32>,
    /// `None` allows all that rules map.
    pub rights: Option<Arc<Rights>>,
    /// What becomes of a message of a 3.x client that must not publish it.
    pub unauthorized: Unauthorized,
}

impl Access {
    /// Whether any listener asks who a client is.
    pub fn asks_who(&self) -> bool {
        self.chain.is_some() || self.listeners.values().any(Option::is_some)
    }

    /// The chain of a listener; `None`: it lets everybody in, as nobody.
    pub fn chain(&self, listener: &str) -> Option<Arc<Chain>> {
        self.listeners.get(listener).unwrap_or(&self.chain).clone()
    }
}

/// What becomes of a message of a 3.x client, which cannot be answered with a reason, that must not publish it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unauthorized {
    /// Its connection is closed.
    #[default]
    Close,
    /// It is acknowledged and stored nowhere.
    Drop,
}

/// How fast one client may send; a burst of one second is allowed. Who is faster is read more slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientRate {
    /// PUBLISHes per second; `None` is no limit.
    pub messages: Option<NonZeroU32>,
    /// Bytes of packets per second; `None` is no limit.
    pub bytes: Option<NonZeroU32>,
}

/// How retained messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedSettings {
    /// The compacted topic.
    pub topic: String,
    /// Bytes of memory for names and messages. Messages beyond are read from the log when they are asked for.
    pub memory: usize,
    /// How long a message that has expired or was cleared keeps its record, after that was read: longer than it may take until the record of
    /// an older message is there, or that would be in force again.
    pub removal_delay: Duration,
    /// The consumer group in which instances share out who looks after which partition; `None`: the stored sessions' membership says it.
    pub group: Option<String>,
}

/// The compacted topics in which the proxy keeps its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTopics {
    /// Of sessions that outlive their connections.
    pub sessions: StateTopic,
    /// Of retained messages.
    pub retained: StateTopic,
}

impl Default for StateTopics {
    fn default() -> Self {
        let topic = |name: &str| StateTopic {
            name: name.to_owned(),
            partitions: 16,
            replication: 3,
            create: true,
        };
        Self {
            sessions: topic("mqtt-sessions"),
            retained: topic("mqtt-retained"),
        }
    }
}

/// How subscribers that are behind are served from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepSettings {
    /// Sweeps of one partition that run at different places.
    pub per_partition: usize,
    /// Bytes that all of the instance may hold together of what was read and not taken by subscribers yet.
    pub memory: usize,
}

impl SweepSettings {
    /// Of the memory, what sweeps that are under way may hold: their fetches, and batches as they are decompressed. One batch that becomes
    /// larger than that is held all the same, with no other beside it.
    pub fn for_sweeps(self) -> usize {
        self.memory / 4
    }

    /// Of the memory, what is kept of fetches that were read.
    pub fn for_fetches(self) -> usize {
        self.memory / 4
    }

    /// Of the memory, what messages may hold that wait in mailboxes.
    pub fn for_messages(self) -> usize {
        self.memory / 2
    }
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self {
            per_partition: 4,
            memory: 128 * 1024 * 1024,
        }
    }
}
