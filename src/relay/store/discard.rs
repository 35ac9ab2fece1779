//! The end of one session at an operator's word: as if its client had come with a clean start and said goodbye. An instance that has
//! the client closes it with 0x98, and a will that is due is sent, as with any takeover.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use super::{Around, Arrival, Letter, Order, Report, StoreSettings, task::Task};
use crate::{
    mapping::{RuleSet, partition_for_key},
    metrics::Metrics,
    mqtt::ReasonCode,
    ownership::{ConnectionId, End, Offer},
    relay::{budget::Budget, mailbox::Mailbox, retained::Retained},
    upstream::{Cluster, TopicState},
};

/// How long Kafka may take to tell of the topic, and to read and write what is needed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a session has not ended, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardError {
    /// There is no such topic, or it must not be read.
    NoTopic,
    /// Kafka did not answer in time.
    Silent,
    /// The session cannot be taken.
    Refused(ReasonCode),
    /// Its client, or an instance for it, took it back at that moment.
    TakenBack,
}

impl fmt::Display for DiscardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscardError::NoTopic => write!(f, "the topic of sessions does not exist or may not be read"),
            DiscardError::Silent => write!(f, "Kafka did not answer in time; the session may end all the same"),
            DiscardError::Refused(reason) => write!(f, "the session cannot be taken: {}", reason.name()),
            DiscardError::TakenBack => write!(f, "the client came back at the same moment; try again"),
        }
    }
}

impl std::error::Error for DiscardError {}

/// Ends the session of a client. One that has none has none afterwards.
///
/// # Errors
/// See [`DiscardError`].
pub async fn discard(settings: StoreSettings, cluster: &Cluster, rules: Arc<RuleSet>, client: &str) -> Result<(), DiscardError> {
    let known = timeout(PATIENCE, cluster.topic_known(&settings.topic)).await;
    let topic = match known.map_err(|_| DiscardError::Silent)? {
        TopicState::Ready(topic) => topic,
        _ => return Err(DiscardError::NoTopic),
    };
    let metrics = Arc::new(Metrics::new());
    let write = |topic| Retained::write_only(topic, cluster.clone(), rules.clone(), metrics.clone());
    let (retained, _tasks) = settings.retained.clone().map(write).unzip();
    let around = Arc::new(Around {
        retained,
        operator: true,
        ..Around::new(settings, cluster.clone(), rules.clone(), metrics.clone())
    });
    let partition = partition_for_key(client.as_bytes(), topic.partitions.len() as u32);
    let (orders, taken) = mpsc::unbounded_channel();
    let task = tokio::spawn(Task::new(around, topic, partition as i32, taken).run());
    let done = timeout(PATIENCE, exchange(&orders, client)).await;
    task.abort();
    done.map_err(|_| DiscardError::Silent)?
}

async fn exchange(orders: &super::Orders, client: &str) -> Result<(), DiscardError> {
    let wake = Arc::new(Notify::new());
    let mailbox = Arc::new(Mailbox::new(wake.clone(), Budget::new(0, Default::default())));
    let id = ConnectionId(mailbox.id());
    let arrival = Arrival {
        mailbox: mailbox.clone(),
        client: client.into(),
        offer: Offer {
            clean_start: true,
            expiry: 0,
            will: None,
        },
        away: false,
    };
    let order = |order| orders.send(order).map_err(|_| DiscardError::Silent);
    // No member of the group of instances: should it die in between, they take the session for an orphan and end it.
    order(Order::Member)?;
    order(Order::Connect(arrival))?;
    loop {
        let (_, letters, ending) = mailbox.letters();
        if ending.is_some() {
            return Err(DiscardError::TakenBack);
        }
        match letters.into_iter().next() {
            Some(Letter::Connected { .. }) => break,
            Some(Letter::Refuse(reason) | Letter::Close(reason)) => return Err(DiscardError::Refused(reason)),
            _ => wake.notified().await,
        }
    }
    order(Order::Ended(id, End::Goodbye { expiry: None }, Report::default()))?;
    let (flush, flushed) = oneshot::channel();
    order(Order::Flush(flush))?;
    flushed.await.map_err(|_| DiscardError::Silent)
}
