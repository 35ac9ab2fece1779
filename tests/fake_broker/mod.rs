//! A small Kafka on sockets: as many brokers as a test wants, one log per partition, and faults on demand.
//!
//! It keeps the rules that matter to a client: requests of one connection are served one after the other, only leaders take and give
//! records, an idempotent producer's batches are deduplicated and gaps are refused (as measured against Apache Kafka), a fetch waits.
#![allow(dead_code)] // Each test binary uses its part.

pub mod admin;
pub mod client;
pub mod coordinator;
pub mod fetch;
pub mod groups;
pub mod records;
mod serve;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    net::TcpSocket,
    sync::{Notify, watch},
    task::JoinSet,
};
use uuid::Uuid;

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Every partition in the answer has this code; nothing is appended.
    Code(i16),
    /// Appended, then answered with this code.
    StoredBut(i16),
    /// The connection ends before the request is looked at.
    CloseBefore,
    /// The request is carried out, and the connection ends without an answer.
    CloseAfter,
    /// Carried out; half of the answer is sent, then the connection ends.
    HalfFrame,
    /// Carried out; the answer is replaced by a frame of garbage.
    Garbage,
    /// Carried out; the answer carries a wrong correlation id.
    WrongCorrelation,
    /// Carried out; no answer, and the connection stays.
    Silence,
    /// A Fetch is answered with this code for the whole of it.
    Whole(i16),
    /// The last byte of what a Fetch brings was changed on its way.
    Damaged,
    /// Metadata do not know this topic.
    Hidden(String),
}

impl Fault {
    /// Each way in which a connection ends with a request.
    pub const ENDS: [Self; 5] = [
        Self::CloseBefore,
        Self::CloseAfter,
        Self::HalfFrame,
        Self::Garbage,
        Self::WrongCorrelation,
    ];
}

/// First sequence, last sequence, offset.
pub type KnownBatch = (i32, i32, i64);

#[derive(Default)]
pub struct Partition {
    pub leader: i32,
    /// Counts its leaders (KIP-320); a request that names another is refused.
    pub epoch: i32,
    /// Leader and epoch that metadata tell instead: those of a broker that is late (see [`World::late`]).
    pub told: Option<(i32, i32)>,
    /// Batches with their base offset written in.
    pub log: Vec<(i64, Vec<u8>)>,
    pub end: i64,
    /// Offsets below this are gone.
    pub start: i64,
    /// Where the log begins that is not in remote storage only; `None`: nothing is.
    pub local: Option<i64>,
    /// Aborted transactions, told to who reads committed records only: producer id, first offset.
    pub aborted: Vec<(i64, i64)>,
    /// How far the followers are; `None`: as far as the leader.
    pub followed: Option<i64>,
    /// By producer id: epoch, and (first sequence, last sequence, offset) of the last five.
    pub producers: HashMap<i64, (i16, VecDeque<KnownBatch>)>,
    /// The code with which it refuses all that is produced.
    pub refuses: Option<i16>,
    /// It has LogAppendTime, and its leader's clock stands there.
    pub log_append_time: Option<i64>,
}

pub struct Topic {
    pub id: Uuid,
    pub partitions: Vec<Partition>,
}

#[derive(Default)]
pub struct World {
    pub topics: HashMap<String, Topic>,
    /// Broker ids to addresses that Metadata tells.
    pub brokers: Vec<(i32, SocketAddr)>,
    /// Faults for the next Produce requests, in order; none when empty.
    pub produce_faults: VecDeque<Fault>,
    pub fetch_faults: VecDeque<Fault>,
    /// By topic: how long a Fetch takes that brings records of it.
    pub fetch_takes: HashMap<String, Duration>,
    /// Of ListOffsets.
    pub offset_faults: VecDeque<Fault>,
    /// Questions for the offset of a time are refused: NOT_LEADER_OR_FOLLOWER. Those for ends are not.
    pub without_times: bool,
    /// Of Metadata; a code is told for each topic.
    pub metadata_faults: VecDeque<Fault>,
    /// The only broker whose metadata are late; all are, if `None`.
    pub late: Option<i32>,
    /// By topic: the id that late metadata tell, of the topic that had the name before.
    pub former: HashMap<String, Uuid>,
    /// By topic: how many partitions late metadata tell.
    pub fewer: HashMap<String, usize>,
    /// By client id: a topic that the client does not hear of yet.
    pub hidden: HashMap<String, String>,
    /// A topic that nobody has the right to see.
    pub forbidden: Option<String>,
    /// Of InitProducerId.
    pub identity_faults: VecDeque<Fault>,
    /// An answer of every InitProducerId request from now on.
    pub identity_always: Option<Fault>,
    /// This broker has no producer ids left, and its controllers give it no more: COORDINATOR_LOAD_IN_PROGRESS, each time.
    pub without_identities: Option<i32>,
    /// The code of the next Metadata answer as a whole.
    pub metadata_error: i16,
    /// By API key: the next answer asks for so many milliseconds of quiet on its connection (KIP-219).
    pub throttles: HashMap<i16, i32>,
    /// What a connection brings while it was asked to be quiet is served only afterwards, as Kafka does.
    pub mutes: bool,
    /// API keys of requests that came while their connection was asked to be quiet.
    pub too_early: Vec<i16>,
    /// By broker and API key: the version of the last request.
    pub asked_in: HashMap<(i32, i16), i16>,
    /// By broker and API key: other versions than the usual ones, or none.
    pub versions: HashMap<(i32, i16), Option<(i16, i16)>>,
    /// An answer of every Produce request from now on.
    pub produce_always: Option<Fault>,
    /// How many names each Metadata request had.
    pub named: Vec<usize>,
    /// Metadata requests for all topics.
    pub listings: usize,
    /// Requests seen, by API key.
    pub seen: HashMap<i16, usize>,
    /// Partitions named in each Fetch, in order of arrival.
    pub polls: Vec<Vec<(String, i32)>>,
    /// How many partitions each Fetch named: those of its session are not named again.
    pub fetch_named: Vec<usize>,
    /// Bytes of the requests seen, by API key.
    pub received: HashMap<i16, usize>,
    pub sessions: HashMap<i32, fetch::Session>,
    pub last_session: i32,
    /// A broker that does not lead says who does (KIP-951).
    pub tells_leader: bool,
    /// Each fetch stands alone, as with a broker that has too many sessions.
    pub no_sessions: bool,
    /// Where the brokers are (KIP-392).
    pub racks: HashMap<i32, &'static str>,
    /// The broker for which all offsets that are fetched are out of range.
    pub refuses: Option<i32>,
    /// Answers with records, by broker.
    pub reads: HashMap<i32, usize>,
    /// Partitions in each Produce.
    pub produces: Vec<usize>,
    /// `acks` of each Produce.
    pub acks: Vec<i16>,
    pub next_producer_id: i64,
    /// How topics are set, and how many replicas they have.
    pub admin: admin::Admin,
    /// Consumer groups.
    pub groups: groups::Groups,
    /// Knows ApiVersions 0 only and no topic ids.
    pub old: bool,
    next_uuid: u128,
}

/// The cluster. Its sockets close when it is dropped.
pub struct Fake {
    pub world: Arc<Mutex<World>>,
    /// Rung at each append.
    pub appended: Arc<Notify>,
    /// While true no request is served.
    pub paused: watch::Sender<bool>,
    /// Brokers that are as after SIGSTOP: connections to them open and stay, and no byte of them is read.
    pub stopped: watch::Sender<BTreeSet<i32>>,
    /// Brokers that carry Produce requests out and keep the answers to themselves.
    pub produce_held: watch::Sender<BTreeSet<i32>>,
    /// The same for ListOffsets, of all brokers.
    pub offsets_held: watch::Sender<bool>,
    /// The same for InitProducerId.
    pub identities_held: watch::Sender<bool>,
    /// Counts how often all idle connections were closed.
    hang_ups: watch::Sender<u64>,
    tasks: JoinSet<()>,
    pub addresses: Vec<SocketAddr>,
}

impl Fake {
    /// `brokers` brokers with ids from 1.
    pub async fn start(brokers: i32) -> Self {
        Self::listen(brokers, || TcpSocket::new_v4().unwrap()).await
    }

    /// The same behind sockets that keep little of what is not read yet.
    pub async fn narrow(brokers: i32) -> Self {
        let socket = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(64 * 1024).unwrap();
            socket
        };
        Self::listen(brokers, socket).await
    }

    async fn listen(brokers: i32, socket: impl Fn() -> TcpSocket) -> Self {
        let mut fake = Self {
            world: Arc::default(),
            appended: Arc::default(),
            paused: watch::Sender::new(false),
            stopped: watch::Sender::default(),
            produce_held: watch::Sender::default(),
            offsets_held: watch::Sender::new(false),
            identities_held: watch::Sender::new(false),
            hang_ups: watch::Sender::new(0),
            tasks: JoinSet::new(),
            addresses: Vec::new(),
        };
        fake.tasks.spawn(groups::keep_time(Arc::clone(&fake.world)));
        for id in 1..=brokers {
            let socket = socket();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(1024).unwrap();
            let address = listener.local_addr().unwrap();
            fake.addresses.push(address);
            fake.world().brokers.push((id, address));
            let node = serve::Node {
                id,
                world: Arc::clone(&fake.world),
                appended: Arc::clone(&fake.appended),
                paused: fake.paused.subscribe(),
                stopped: fake.stopped.subscribe(),
                produce_held: fake.produce_held.subscribe(),
                offsets_held: fake.offsets_held.subscribe(),
                identities_held: fake.identities_held.subscribe(),
                hang_ups: fake.hang_ups.subscribe(),
            };
            fake.tasks.spawn(serve::accept(node, listener));
        }
        fake
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Makes a topic; partitions are led by the brokers in turn.
    pub fn topic(&self, name: &str, partitions: usize) {
        let mut world = self.world();
        world.next_uuid += 1;
        let brokers = world.brokers.len();
        let id = if world.old { Uuid::nil() } else { Uuid::from_u128(world.next_uuid) };
        let partitions = (0..partitions)
            .map(|i| Partition {
                leader: (i % brokers) as i32 + 1,
                ..Partition::default()
            })
            .collect();
        world.topics.insert(name.to_owned(), Topic { id, partitions });
    }

    /// Gives a topic one more partition, led by broker 1.
    pub fn grow(&self, topic: &str) {
        let fresh = Partition {
            leader: 1,
            ..Partition::default()
        };
        self.world().topics.get_mut(topic).unwrap().partitions.push(fresh);
    }

    pub fn lead(&self, topic: &str, partition: usize, leader: i32) {
        let mut world = self.world();
        let partition = &mut world.topics.get_mut(topic).unwrap().partitions[partition];
        partition.leader = leader;
        partition.epoch += 1;
    }

    /// An unclean election: the new leader's log ends at `end`. Whole batches only.
    pub fn cut_off(&self, topic: &str, partition: usize, leader: i32, end: i64) {
        let mut world = self.world();
        let partition = &mut world.topics.get_mut(topic).unwrap().partitions[partition];
        partition.log.retain(|(base, _)| *base < end);
        partition.end = end;
        partition.leader = leader;
        partition.epoch += 1;
        drop(world);
        self.appended.notify_waiters();
    }

    /// Retention deletes all there is.
    pub fn empty(&self, topic: &str, partition: usize) {
        let mut world = self.world();
        let partition = &mut world.topics.get_mut(topic).unwrap().partitions[partition];
        partition.log.clear();
        partition.start = partition.end;
    }

    /// Compaction takes the batch that begins at an offset.
    pub fn compact(&self, topic: &str, partition: usize, offset: i64) {
        let mut world = self.world();
        let log = &mut world.topics.get_mut(topic).unwrap().partitions[partition].log;
        let before = log.len();
        log.retain(|(base, _)| *base != offset);
        assert_eq!(log.len() + 1, before, "no batch begins at {offset}");
    }

    /// Keeps back the answers of brokers to Produce requests; an empty list gives all of them free.
    pub fn hold_produce(&self, brokers: &[i32]) {
        self.produce_held.send_replace(brokers.iter().copied().collect());
    }

    /// Stops brokers, and lets all others go on.
    pub fn stop(&self, brokers: &[i32]) {
        self.stopped.send_replace(brokers.iter().copied().collect());
    }

    /// Closes all connections on which no request is being served, as `connections.max.idle.ms` does.
    pub fn hang_up(&self) {
        self.hang_ups.send_modify(|n| *n += 1);
    }

    /// Writes a record batch made by [`records::Batch`]; its first offset.
    pub fn write(&self, topic: &str, partition: usize, batch: &[u8]) -> i64 {
        let offset = self.world().topics.get_mut(topic).unwrap().partitions[partition].push(batch);
        self.appended.notify_waiters();
        offset
    }

    /// Writes one record without headers.
    pub fn record(&self, topic: &str, partition: usize, key: &str, value: &str) -> i64 {
        self.write(topic, partition, &records::Batch::of(&[records::record(key, value)]).bytes())
    }

    /// How many requests of an API were seen.
    pub fn seen(&self, api: kafka_protocol::messages::ApiKey) -> usize {
        self.world().seen.get(&(api as i16)).copied().unwrap_or(0)
    }

    /// The values of all records of a topic, partition by partition.
    pub fn all_values(&self, topic: &str) -> Vec<String> {
        let partitions = self.world().topics[topic].partitions.len();
        (0..partitions).flat_map(|partition| self.values(topic, partition)).collect()
    }

    /// The values of all records of a partition, in order, as text.
    pub fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let world = self.world();
        world.topics[topic].partitions[partition]
            .log
            .iter()
            .flat_map(|(_, batch)| values_in(batch))
            .collect()
    }
}

/// The values in an uncompressed record set, as text. Independent of the code under test.
pub fn values_in(set: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut at = 0;
    while at + 61 <= set.len() {
        let length = i32::from_be_bytes(set[at + 8..at + 12].try_into().unwrap()) as usize;
        let count = i32::from_be_bytes(set[at + 57..at + 61].try_into().unwrap());
        let mut rest = &set[at + 61..at + 12 + length];
        for _ in 0..count {
            let size = varint(&mut rest) as usize;
            let (mut record, tail) = rest.split_at(size);
            rest = tail;
            record = &record[1..];
            varint(&mut record);
            varint(&mut record);
            let key = varint(&mut record).max(0) as usize;
            record = &record[key..];
            let value = varint(&mut record).max(0) as usize;
            values.push(String::from_utf8_lossy(&record[..value]).into_owned());
        }
        at += 12 + length;
    }
    values
}

fn varint(from: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = from[0];
        *from = &from[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}

impl Partition {
    /// What is wrong with the leader epoch that a request names; 0 if nothing is.
    pub fn epoch_error(&self, asked: i32) -> i16 {
        match asked {
            -1 => 0,
            asked if asked < self.epoch => 74,
            asked if asked > self.epoch => 75,
            _ => 0,
        }
    }

    /// As a leader appends: error code and base offset.
    pub fn append(&mut self, batch: &[u8]) -> (i16, i64) {
        let read_i32 = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
        let id = i64::from_be_bytes(batch[43..51].try_into().unwrap());
        let epoch = i16::from_be_bytes(batch[51..53].try_into().unwrap());
        let (first, count) = (read_i32(53), read_i32(57));
        let last = first + count - 1;
        if id >= 0 {
            if let Some((known, batches)) = self.producers.get_mut(&id) {
                if epoch < *known {
                    return (47, -1);
                }
                if epoch > *known {
                    if first != 0 {
                        return (45, -1);
                    }
                    *known = epoch;
                    batches.clear();
                } else if let Some(batch) = batches.iter().find(|b| (b.0, b.1) == (first, last)) {
                    return (0, batch.2);
                } else if batches.back().is_some_and(|b| b.1 + 1 != first) {
                    return (45, -1);
                }
            }
            let (_, batches) = self.producers.entry(id).or_insert_with(|| (epoch, VecDeque::new()));
            batches.push_back((first, last, self.end));
            if batches.len() > 5 {
                batches.pop_front();
            }
        }
        (0, self.push(batch))
    }

    /// Appends without a look at the producer; the first offset.
    pub fn push(&mut self, batch: &[u8]) -> i64 {
        let count = i32::from_be_bytes(batch[57..61].try_into().unwrap());
        let offset = self.end;
        let mut stored = batch.to_vec();
        stored[..8].copy_from_slice(&offset.to_be_bytes());
        stored[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        self.log.push((offset, stored));
        self.end += i64::from(count);
        offset
    }
}
