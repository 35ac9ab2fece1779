//! The settings of the Kafka client, as meant (the file as written is `config`'s business).

use std::time::Duration;

use super::security::SecuritySettings;
use crate::kafka::Compression;

/// All that [`Cluster::start`](super::Cluster::start) needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `host:port` of brokers that are asked first; any one that answers is enough.
    pub bootstrap_servers: Vec<String>,
    /// The client id told to the brokers; appears in their logs and quotas.
    pub client_id: String,
    /// Bound of one attempt to connect, the handshakes included.
    pub connect_timeout: Duration,
    /// How long a broker may owe an answer before its connection is given up.
    pub request_timeout: Duration,
    /// Age at which topics and leaders are asked for again, though nothing went wrong: how late new partitions may be seen.
    pub metadata_max_age: Duration,
    /// How brokers are spoken to, and who we are.
    pub security: SecuritySettings,
    /// Producing.
    pub producer: ProducerSettings,
    /// Reading.
    pub consumer: ConsumerSettings,
    /// The topics in which the proxy keeps state: made and checked before [`State::Ready`](super::State::Ready) is told.
    pub state_topics: Vec<StateTopic>,
}

/// A compacted topic in which the proxy keeps its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it has, for ever: a key must not move.
    pub partitions: i32,
    /// The least number of replicas.
    pub replication: i16,
    /// Whether it is made when it is missing.
    pub create: bool,
}

/// How records are gathered and how long they may take.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerSettings {
    /// Upper bound of the time a record waits for company while other requests are in flight. With nothing in flight it leaves at once.
    pub linger: Duration,
    /// A batch that reaches this many bytes (before compression) is closed.
    pub batch_size: usize,
    /// Compression of batches.
    pub compression: Compression,
    /// Bytes of records that may be held at one time, sent or not.
    pub memory: usize,
    /// Time from the first record of a batch to giving its outcome up as unknown.
    pub delivery_timeout: Duration,
    /// Connections to each broker for records that are produced by themselves (QoS 2 of stored sessions), opened when they are needed.
    pub qos2_connections: usize,
}

/// How partitions are read.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerSettings {
    /// How long a broker may hold an empty fetch.
    pub max_wait: Duration,
    /// Bytes asked for from one partition at a time.
    pub fetch_size: usize,
    /// Whether records of open and aborted transactions are seen.
    pub isolation: Isolation,
    /// Where we are, as the brokers call it (`broker.rack`, KIP-392): partitions are read from a replica there, if there is one.
    pub rack: Option<String>,
}

/// `isolation.level` of fetches and of end offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Everything up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset; aborted transactions are listed in each [`Chunk`](super::Chunk).
    #[default]
    ReadCommitted,
}

impl Isolation {
    /// The byte that stands for it in requests.
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap_servers: vec!["localhost:9092".to_owned()],
            client_id: "mqtt-kafka-proxy".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            metadata_max_age: Duration::from_secs(60),
            security: SecuritySettings::default(),
            producer: ProducerSettings::default(),
            consumer: ConsumerSettings::default(),
            state_topics: Vec::new(),
        }
    }
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_size: 256 * 1024,
            compression: Compression::None,
            memory: 64 * 1024 * 1024,
            delivery_timeout: Duration::from_secs(30),
            qos2_connections: 4,
        }
    }
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            fetch_size: 1024 * 1024,
            isolation: Isolation::default(),
            rack: None,
        }
    }
}
