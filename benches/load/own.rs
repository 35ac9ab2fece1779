//! The proxy's own Kafka client as a program: what `benches/clients/*.c` do with librdkafka, done with `upstream`. Each runs in a
//! process of its own, so that the CPU time of the process is the client's.

use mqtt_kafka_proxy::kafka::{Compression, RecordFields, fetched};
use mqtt_kafka_proxy::mapping::partition_for_key;
use mqtt_kafka_proxy::upstream::{
    AppendError, Appender, Chunk, Cluster, Outcome, ProducerSettings, Receipts, Settings, Start, Topic, TopicState, WriteOptions,
};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Notify, mpsc};

/// Payloads that are made before the clock starts; together they are more than a codec looks back.
const PAYLOADS: usize = 1024;
/// One compressed batch may become so many bytes, as in the proxy.
const LIMITS: fetched::Limits = fetched::Limits {
    max_decompressed: 64 * 1024 * 1024,
};
/// Records between two looks at who must be woken: those of a few reads of sockets.
const TOGETHER: u64 = 64;

/// What to produce.
#[derive(Clone, Debug, clap::Args)]
pub struct Produce {
    bootstrap: String,
    topic: String,
    messages: u64,
    clients: u64,
    window: u64,
    size: usize,
    codec: String,
}

/// What to read.
#[derive(Clone, Debug, clap::Args)]
pub struct Consume {
    bootstrap: String,
    topic: String,
    messages: u64,
}

/// Appends all records, `window` of them without a receipt at a time. Prints microseconds of CPU per message and messages per second.
pub async fn produce(what: &Produce) -> io::Result<()> {
    let compression = match what.codec.as_str() {
        "none" => Compression::None,
        "lz4" => Compression::Lz4,
        other => return Err(io::Error::other(format!("no codec of this benchmark: {other}"))),
    };
    let (cluster, topic) = connect(&what.bootstrap, &what.topic, compression).await?;
    let payloads = payloads(what.size);
    let notify = Arc::new(Notify::new());
    let receipts = Receipts::new(Arc::clone(&notify));
    let mut producer = Producer {
        appender: cluster.appender(),
        topic,
        receipts,
        client: Vec::new(),
        key: Vec::new(),
    };
    let (start, before) = (Instant::now(), crate::measure::cpu("self")?);
    let (mut sent, mut done, mut got) = (0, 0, Vec::new());
    while done < what.messages {
        while sent < what.messages && sent - done < what.window {
            match producer.append(sent, sent % what.clients, &payloads[sent as usize % PAYLOADS]) {
                Ok(()) => sent += 1,
                Err(AppendError::MemoryFull) => producer.appender.memory_available().await,
                Err(error) => return Err(io::Error::other(format!("{error:?}"))),
            }
            if sent % TOGETHER == 0 {
                producer.appender.kick();
            }
        }
        producer.appender.kick();
        notify.notified().await;
        producer.receipts.take(&mut got);
        done += got.len() as u64;
        if let Some(lost) = got.iter().find(|receipt| !matches!(receipt.outcome, Outcome::Stored { .. })) {
            return Err(io::Error::other(format!("{lost:?}")));
        }
        got.clear();
    }
    let (wall, used) = (start.elapsed(), crate::measure::cpu("self")? - before);
    let messages = what.messages as f64;
    println!("{:.4} {:.0}", used.as_secs_f64() * 1e6 / messages, messages / wall.as_secs_f64());
    cluster.shutdown().await;
    Ok(())
}

/// Reads all records, each partition by a task that hands them to a function. Prints what [`produce`] prints and the bytes that were seen.
pub async fn consume(what: &Consume) -> io::Result<()> {
    let (cluster, topic) = connect(&what.bootstrap, &what.topic, Compression::None).await?;
    let (start, before) = (Instant::now(), crate::measure::cpu("self")?);
    let (told, mut counted) = mpsc::channel(topic.partitions.len());
    for partition in 0..topic.partitions.len() {
        let mut reader = cluster.read(&topic, partition as i32, Start::Offset(0));
        let told = told.clone();
        tokio::spawn(async move {
            while let Some(chunk) = reader.next().await {
                let mut seen = Seen::default();
                walk(&chunk, &mut |key, value| seen.record(key, value));
                if told.send(seen).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut all = Seen::default();
    while all.records < what.messages {
        let seen = counted.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        all.records += seen.records;
        all.bytes += seen.bytes;
    }
    let (wall, used) = (start.elapsed(), crate::measure::cpu("self")? - before);
    let messages = all.records as f64;
    println!(
        "{:.4} {:.0} {}",
        used.as_secs_f64() * 1e6 / messages,
        messages / wall.as_secs_f64(),
        all.bytes
    );
    cluster.shutdown().await;
    Ok(())
}

async fn connect(bootstrap: &str, topic: &str, compression: Compression) -> io::Result<(Cluster, Arc<Topic>)> {
    let producer = ProducerSettings {
        compression,
        ..ProducerSettings::default()
    };
    let cluster = Cluster::start(Settings {
        bootstrap_servers: bootstrap.split(',').map(str::to_owned).collect(),
        producer,
        ..Settings::default()
    });
    match cluster.topic_known(topic).await {
        TopicState::Ready(topic) => Ok((cluster, topic)),
        other => Err(io::Error::other(format!("{topic}: {other:?}"))),
    }
}

struct Producer {
    appender: Appender,
    topic: Arc<Topic>,
    receipts: Arc<Receipts>,
    client: Vec<u8>,
    key: Vec<u8>,
}

impl Producer {
    fn append(&mut self, ticket: u64, client: u64, payload: &[u8]) -> Result<(), AppendError> {
        self.key.clear();
        self.client.clear();
        write!(self.key, "v{client}").expect("memory takes all");
        write!(self.client, "bench-{client}").expect("memory takes all");
        let partition = partition_for_key(&self.key, self.topic.partitions.len() as u32);
        let headers = [("mqtt.client", Some(self.client.as_slice())), ("sensor", Some(b"rpm".as_slice()))];
        let fields = RecordFields {
            timestamp: crate::load::publish::epoch().as_millis() as i64,
            key: Some(&self.key),
            value: Some(payload),
            headers: headers.into_iter(),
        };
        let waiter = Some((&self.receipts, ticket));
        self.appender
            .append(&self.topic, partition as usize, &fields, WriteOptions::default(), waiter)
    }
}

/// Calls `each` with the length of key and value, and that of each header's name and value, of every record.
fn walk(chunk: &Chunk, each: &mut impl FnMut(usize, usize)) {
    for batch in fetched::batches(chunk.bytes.clone(), LIMITS) {
        let batch = batch.expect("Kafka sends whole batches");
        for record in batch.records() {
            let record = record.expect("a batch has whole records");
            let headers = record.headers().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
            let fields = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            each(fields, headers.sum());
        }
    }
}

#[derive(Default)]
struct Seen {
    records: u64,
    bytes: usize,
}

impl Seen {
    fn record(&mut self, fields: usize, headers: usize) {
        self.records += 1;
        self.bytes += fields + headers;
    }
}

/// The payloads of `benches/clients/producer.c`.
fn payloads(size: usize) -> Vec<Vec<u8>> {
    let mut state: u64 = 1;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut payload = || {
        let [engine, lat, lon, fuel, seq] = [draw(), draw(), draw(), draw(), draw()];
        let text = format!(
            "{{\"rpm\":{:04},\"speed\":{:03}.{},\"lat\":{:02}.{:06},\"lon\":{:02}.{:06},\"fuel\":{:02},\"seq\":{seq:010}}}",
            engine % 8000,
            engine / 8000 % 200,
            engine % 10,
            lat % 90,
            lat % 1_000_000,
            lon % 90,
            lon % 1_000_000,
            fuel % 100
        );
        let mut bytes = text.into_bytes();
        bytes.resize(size, b'x');
        bytes
    };
    (0..PAYLOADS).map(|_| payload()).collect()
}
