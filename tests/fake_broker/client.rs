//! What the tests do with the client under test.

use std::{sync::Arc, time::Duration};

use mqtt_kafka_proxy::{
    kafka::RecordFields,
    upstream::{AppendError, Chunk, Cluster, Outcome, Reader, Receipt, Receipts, Settings, Topic, TopicState, WriteOptions},
};
use tokio::{sync::Notify, time::timeout};

use super::{Fake, values_in};

/// Nothing in these tests may take longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn settings(fake: &Fake) -> Settings {
    let mut settings = Settings {
        bootstrap_servers: vec![fake.addresses[0].to_string()],
        ..Settings::default()
    };
    settings.request_timeout = Duration::from_secs(5);
    settings
}

pub async fn ready(cluster: &Cluster, name: &str) -> Arc<Topic> {
    match timeout(PATIENCE, cluster.topic_known(name)).await.unwrap() {
        TopicState::Ready(topic) => topic,
        other => panic!("{name} is {other:?}"),
    }
}

/// Somebody who produces and waits.
pub struct Producer {
    pub cluster: Cluster,
    notify: Arc<Notify>,
    receipts: Arc<Receipts>,
    tickets: u64,
    pub options: WriteOptions,
}

impl Producer {
    pub fn new(cluster: &Cluster) -> Self {
        let notify = Arc::new(Notify::new());
        Self {
            cluster: cluster.clone(),
            receipts: Receipts::new(Arc::clone(&notify)),
            notify,
            tickets: 0,
            options: WriteOptions::default(),
        }
    }

    /// Appends `count` records whose values are running numbers, and does not wait.
    pub fn append(&mut self, topic: &Topic, partition: usize, count: u64) -> Result<(), AppendError> {
        let mut appender = self.cluster.appender();
        for _ in 0..count {
            let value = self.tickets.to_string();
            let fields = RecordFields {
                timestamp: 1,
                key: None,
                value: Some(value.as_bytes()),
                headers: std::iter::empty(),
            };
            appender.append(topic, partition, &fields, self.options, Some((&self.receipts, self.tickets)))?;
            self.tickets += 1;
        }
        Ok(())
    }

    /// Waits until `count` receipts have come.
    pub async fn receipts(&self, count: usize) -> Vec<Receipt> {
        let mut got = Vec::new();
        let all = async {
            while got.len() < count {
                self.notify.notified().await;
                self.receipts.take(&mut got);
            }
        };
        let in_time = timeout(PATIENCE, all).await;
        assert!(in_time.is_ok(), "{} of {count} receipts came", got.len());
        assert_eq!(got.len(), count);
        got
    }

    /// Produces `count` records, a few at a time, and waits for all.
    pub async fn produce(&mut self, topic: &Topic, partition: usize, count: u64) -> Vec<Receipt> {
        let mut got = Vec::new();
        let mut left = count;
        while left > 0 {
            let now = left.min(7);
            self.append(topic, partition, now).unwrap();
            left -= now;
            got.extend(self.receipts(now as usize).await);
        }
        got
    }
}

/// Every receipt says that its record stands where the broker has it, and the broker has each once, in order.
pub fn assert_stored_once(fake: &Fake, topic: &str, partition: usize, receipts: &[Receipt]) {
    let values = fake.values(topic, partition);
    let numbers: Vec<u64> = values.iter().map(|v| v.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "doubled or out of order: {numbers:?}");
    assert_eq!(numbers.len(), receipts.len());
    for receipt in receipts {
        let Outcome::Stored { offset, .. } = receipt.outcome else {
            panic!("{receipt:?}")
        };
        assert_eq!(
            numbers[offset as usize], receipt.ticket,
            "the receipt names another record's offset"
        );
    }
}

/// Waits for a condition of the outside world that rings no bell. Panics with `what` when it does not come.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let polled = timeout(PATIENCE, async {
        while !holds() {
            // The interval of this bounded poll.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(polled.await.is_ok(), "never: {what}");
}

/// What this thread logs from here on, as lines of level, target and text.
#[derive(Clone, Default)]
pub struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// Listens until the guard goes.
    pub fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    /// Lines that contain each of `words`.
    pub fn lines(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let wanted = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(wanted).map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The next chunk.
pub async fn next(reader: &mut Reader) -> Chunk {
    timeout(PATIENCE, reader.next())
        .await
        .expect("a chunk in time")
        .expect("not shut down")
}

/// The numbers that a reader gets, until it has `count`. Records below the offset asked for are left out, as the contract says.
pub async fn read(reader: &mut Reader, count: usize) -> Vec<u64> {
    let mut got: Vec<u64> = Vec::new();
    while got.len() < count {
        let chunk = next(reader).await;
        let values = values_in(&chunk.bytes);
        let wanted = usize::try_from(chunk.next_offset - chunk.offset).unwrap();
        got.extend(
            values[values.len().saturating_sub(wanted)..]
                .iter()
                .map(|v| v.parse::<u64>().unwrap()),
        );
    }
    got
}

/// A topic, a client that polls for so long, and both ready.
pub async fn cluster(fake: &Fake, topic: &str, partitions: usize, max_wait: Duration) -> (Cluster, Arc<Topic>) {
    fake.topic(topic, partitions);
    let mut settings = settings(fake);
    settings.consumer.max_wait = max_wait;
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, topic).await;
    (cluster, topic)
}

/// So many brokers, a topic `t` of so many partitions, and a client that knows it.
pub async fn started(brokers: i32, partitions: usize) -> (Fake, Cluster, Arc<Topic>) {
    started_as(brokers, partitions, |_| {}).await
}

/// The same with other settings.
pub async fn started_as(brokers: i32, partitions: usize, change: impl FnOnce(&mut Settings)) -> (Fake, Cluster, Arc<Topic>) {
    let fake = Fake::start(brokers).await;
    fake.topic("t", partitions);
    let mut settings = settings(&fake);
    change(&mut settings);
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    (fake, cluster, topic)
}
