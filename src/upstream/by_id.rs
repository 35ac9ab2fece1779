//! Partitions by the ids of their topics: where a record is to go that somebody has written down, perhaps another instance, with other rules and
//! newer metadata. What this client has in use says little then, so Kafka is asked (Metadata by topic id, KIP-516).
//!
//! That a topic is gone is not one broker's to say: it may be late. An id is never given again, so what is gone stays so.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::{
    bootstrap::{Among, any_connection},
    cluster::{Cluster, Core},
    connection::Connection,
    topics::{Partition, Topic, TopicId, TopicState},
};
use crate::kafka::error::ErrorCode;

/// The first version of Metadata that takes topic ids.
const TAKES_IDS: i16 = 12;
/// Answers, of brokers in turn, that make a topic one that is gone.
const CONFIRM_GONE: u32 = 5;
/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long a broker may owe an answer before another is asked.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Ids of topics that are gone that are remembered.
const MOST_GONE: usize = 256;

/// Where a partition is.
#[derive(Debug)]
pub enum Located {
    /// There: the topic and its partition.
    Here(Arc<Topic>, Arc<Partition>),
    /// Kafka has no topic of that id.
    Gone,
    /// Kafka did not say in time, or not to this client.
    Unknown,
}

/// Asks for topics by their ids, one question at a time.
#[derive(Default)]
pub(crate) struct ById(tokio::sync::Mutex<Asker>);

#[derive(Default)]
struct Asker {
    link: Option<Connection>,
    /// Counts the brokers that were asked, so that another one is next.
    turn: usize,
    gone: VecDeque<TopicId>,
}

impl Cluster {
    /// A partition by its topic's id. Kafka is asked for what is not in use here, for as long as the delivery timeout. Cancel-safe.
    pub async fn partition_by_id(&self, topic: &[u8; 16], index: u32) -> Located {
        let id = TopicId(Uuid::from_bytes(*topic));
        // No topic has it, and brokers that are too old for ids say it of all.
        if id == TopicId::default() {
            return Located::Unknown;
        }
        let until = Instant::now() + self.core().settings.producer.delivery_timeout;
        let mut stopped = self.core().stopped.subscribe();
        let found = tokio::select! {
            found = timeout_at(until, self.topic_by_id(id)) => found,
            _ = stopped.wait_for(|stopped| *stopped) => return Located::Unknown,
        };
        let topic = match found {
            Ok(Some(TopicState::Ready(topic))) => topic,
            Ok(None) => return Located::Gone,
            Ok(Some(_)) | Err(_) => return Located::Unknown,
        };
        // Topics lose no partitions: one that is not known is one that the topic has gained.
        let topic = self.topic_with(topic, index, until).await;
        let at = usize::try_from(index).ok();
        match at.and_then(|at| topic.partitions.get(at)).cloned() {
            Some(partition) => Located::Here(topic, partition),
            None => Located::Unknown,
        }
    }

    /// `None`: Kafka has none of that id. Otherwise a topic that is ready, unless the client is shut down.
    async fn topic_by_id(&self, id: TopicId) -> Option<TopicState> {
        let core = self.core();
        if let Some(topic) = core.topics.there(id) {
            return Some(TopicState::Ready(topic));
        }
        let name = core.by_id.0.lock().await.name(core, id).await?;
        let is_it = |state: &TopicState| matches!(state, TopicState::Ready(topic) if topic.id == id);
        let mut failures = 0;
        loop {
            // The broker that the metadata come from may be late: until others are asked another topic may have the name.
            match timeout(ASK_AGAIN, self.topic_when(&name, is_it)).await {
                Ok(state) => return Some(state),
                Err(_) => core.refresh_all(failures),
            }
            failures += 1;
        }
    }
}

impl Asker {
    /// The name of a topic; `None`: it is gone. Asks until it is told.
    async fn name(&mut self, core: &Core, id: TopicId) -> Option<String> {
        let mut denials = 0;
        while denials < CONFIRM_GONE && !self.gone.contains(&id) {
            match self.ask(core, id).await {
                Ok(Some(name)) => return Some(name),
                Ok(None) => denials += 1,
                Err(why) => tracing::debug!(why, "a topic cannot be asked for by its id"),
            }
            self.turn += 1;
            sleep(ASK_AGAIN).await;
        }
        if denials > 0 {
            self.gone.truncate(MOST_GONE - 1);
            self.gone.push_front(id);
        }
        None
    }

    /// What the broker says whose turn it is; `None`: it knows of no such topic. Its connection is kept only if it does.
    async fn ask(&mut self, core: &Core, id: TopicId) -> Result<Option<String>, String> {
        let connection = match self.link.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => any_connection(core, Among::All(self.turn)).await?,
        };
        let version = connection.version(ApiKey::Metadata, 13).filter(|version| *version >= TAKES_IDS);
        let version = version.ok_or("the broker takes no topic ids in Metadata")?;
        let topic = MetadataRequestTopic::default().with_topic_id(id.0).with_name(None);
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        let within = ANSWERED_WITHIN.min(core.settings.request_timeout);
        let mut call = connection
            .send(ApiKey::Metadata, version, &request, within)
            .map_err(|e| e.to_string())?;
        let answer: MetadataResponse = call.answer().await.map_err(|e| e.to_string())?;
        let told = answer.topics.into_iter().find(|told| told.topic_id == id.0);
        let told = told.ok_or("an answer without the topic")?;
        match (ErrorCode::from(told.error_code), told.name) {
            (ErrorCode::UNKNOWN_TOPIC_ID, _) => Ok(None),
            (code, Some(name)) if code.is_ok() => {
                self.link = Some(connection);
                Ok(Some(name.to_string()))
            }
            (code, _) => Err(code.name().to_owned()),
        }
    }
}
