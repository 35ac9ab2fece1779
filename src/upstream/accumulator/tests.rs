//! The queue against a model of a broker and of a bad network, over random schedules; and the single cases that taught us something.

mod oversized;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::kafka::fetched;

/// What one partition of a broker remembers, as measured against Apache Kafka (see the module's head).
#[derive(Default)]
struct Broker {
    log: Vec<u32>,
    producers: HashMap<i64, Remembered>,
    /// Ids that it refuses for ever.
    dead: HashSet<i64>,
}

struct Remembered {
    epoch: i16,
    /// (first sequence, last sequence, first offset) of the last five batches.
    batches: VecDeque<(i32, i32, i64)>,
}

impl Broker {
    fn append(&mut self, stamp: Producer, ids: &[u32]) -> Answer {
        if stamp == Producer::NONE {
            self.log.extend(ids);
            return Answer::Stored(self.log.len() as i64 - ids.len() as i64);
        }
        if self.dead.contains(&stamp.producer_id) {
            return Answer::IdentityDead;
        }
        let last = stamp.base_sequence + ids.len() as i32 - 1;
        if let Some(known) = self.producers.get_mut(&stamp.producer_id) {
            if stamp.producer_epoch < known.epoch {
                return Answer::IdentityDead;
            }
            if stamp.producer_epoch > known.epoch {
                if stamp.base_sequence != 0 {
                    return Answer::OutOfOrder;
                }
                known.batches.clear();
                known.epoch = stamp.producer_epoch;
            } else {
                if let Some(batch) = known.batches.iter().find(|b| b.0 == stamp.base_sequence && b.1 == last) {
                    return Answer::Stored(batch.2);
                }
                if known.batches.back().is_some_and(|b| b.1 + 1 != stamp.base_sequence) {
                    return Answer::OutOfOrder;
                }
            }
        }
        let known = self.producers.entry(stamp.producer_id).or_insert_with(|| Remembered {
            epoch: stamp.producer_epoch,
            batches: VecDeque::new(),
        });
        let offset = self.log.len() as i64;
        known.batches.push_back((stamp.base_sequence, last, offset));
        if known.batches.len() > 5 {
            known.batches.pop_front();
        }
        self.log.extend(ids);
        Answer::Stored(offset)
    }
}

/// One request on its way.
#[derive(Clone)]
struct Attempt {
    ordinal: u64,
    stamp: Producer,
    ids: Vec<u32>,
    /// What the broker made of it, once it did.
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    Send,
    /// The broker takes the next request of the connection, as it should or with a fault.
    Serve(Fault),
    /// The client reads the next answer.
    Read,
    /// The connection ends: no answers any more, and what the broker has not seen may come late.
    Break,
    /// A late request arrives after all.
    Late(usize),
    /// A late request is lost for good.
    Lose(usize),
    Wait,
    /// The partition rests for so long that the broker forgets its producers.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Not the leader: nothing is appended.
    NotLeader,
    /// Appended, but not replicated in time.
    TimedOut,
    TooLarge,
    /// Refused for another reason.
    Refused,
    /// The id is not taken any more.
    Fenced,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        6 => Just(Step::Send),
        8 => Just(Step::Serve(Fault::None)),
        1 => Just(Step::Serve(Fault::NotLeader)),
        1 => Just(Step::Serve(Fault::TimedOut)),
        1 => Just(Step::Serve(Fault::TooLarge)),
        1 => Just(Step::Serve(Fault::Refused)),
        8 => Just(Step::Read),
        1 => Just(Step::Break),
        1 => (0usize..8).prop_map(Step::Late),
        1 => (0usize..8).prop_map(Step::Lose),
        1 => Just(Step::Wait),
    ]
}

struct World {
    queue: PartitionQueue<Vec<u32>>,
    broker: Broker,
    wire: VecDeque<Attempt>,
    late: Vec<Attempt>,
    now: Instant,
    identity: Identity,
    next_id: u32,
    /// Appended and never stamped.
    unsent: VecDeque<u32>,
    verdicts: HashMap<u32, Verdict>,
    settled: Vec<Settled<Vec<u32>>>,
    charged: std::cell::Cell<usize>,
    limits: Limits,
}

const LIMITS: Limits = Limits {
    batch_size: 100,
    delivery_timeout: Duration::from_secs(10),
};

impl World {
    fn new() -> Self {
        Self {
            queue: PartitionQueue::new(Acks::All),
            broker: Broker::default(),
            wire: VecDeque::new(),
            late: Vec::new(),
            now: Instant::now(),
            identity: Identity { producer_id: 1, epoch: 0 },
            next_id: 0,
            unsent: VecDeque::new(),
            verdicts: HashMap::new(),
            settled: Vec::new(),
            charged: std::cell::Cell::new(0),
            limits: LIMITS,
        }
    }

    /// Without idempotence.
    fn of_the_leader_alone() -> Self {
        Self {
            queue: PartitionQueue::new(Acks::Leader),
            ..Self::new()
        }
    }

    /// With up to nine records in a batch.
    fn of_large_batches() -> Self {
        let limits = Limits { batch_size: 200, ..LIMITS };
        Self { limits, ..Self::new() }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append => self.append(),
            Step::Send => drop(self.send()),
            Step::Serve(fault) => self.serve(fault),
            Step::Read => self.read(),
            Step::Break => self.break_off(),
            Step::Late(at) if at < self.late.len() => {
                let attempt = self.late.remove(at);
                self.broker.append(attempt.stamp, &attempt.ids);
            }
            Step::Lose(at) if at < self.late.len() => drop(self.late.remove(at)),
            Step::Late(_) | Step::Lose(_) => {}
            Step::Wait => self.wait(Duration::from_secs(4)),
            Step::Forget => self.forget(),
        }
        self.collect();
    }

    fn append(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        let key = id.to_be_bytes();
        let fields = RecordFields {
            timestamp: 0,
            key: Some(&key),
            value: Some(b"v"),
            headers: std::iter::empty(),
        };
        let charge = |bytes| {
            self.charged.set(self.charged.get() + bytes);
            true
        };
        let appended = self
            .queue
            .append(&fields, self.now, &self.limits, Compression::None, charge, Vec::new)
            .unwrap_or_else(|r| panic!("{r:?}"));
        assert_eq!(appended.waiters.len(), appended.index as usize);
        appended.waiters.push(id);
        self.unsent.push_back(id);
    }

    /// False: there was nothing to send.
    fn send(&mut self) -> bool {
        let (ordinal, bytes) = match self.queue.next(Some(self.identity), &mut self.settled) {
            Next::Nothing => return false,
            Next::Identity { dead } => {
                assert_eq!(dead, Some(self.identity.producer_id));
                self.identity = Identity {
                    producer_id: self.identity.producer_id + 1,
                    epoch: 0,
                };
                return true;
            }
            Next::Again { ordinal, bytes } => (ordinal, bytes),
            Next::First {
                ordinal,
                builder,
                producer,
                ..
            } => {
                let sealed = builder.seal(&producer, Compression::None);
                self.queue.sealed(ordinal, sealed.bytes.clone());
                (ordinal, sealed.bytes)
            }
        };
        let (stamp, ids) = (stamp_in(&bytes), ids_in(&bytes));
        self.unsent.retain(|id| !ids.contains(id));
        self.wire.push_back(Attempt {
            ordinal,
            stamp,
            ids,
            answer: None,
        });
        assert!(
            self.wire.len() <= MOST_IN_FLIGHT as usize,
            "more in flight than the broker remembers"
        );
        true
    }

    fn serve(&mut self, fault: Fault) {
        let Some(attempt) = self.wire.iter_mut().find(|a| a.answer.is_none()) else {
            return;
        };
        attempt.answer = Some(match fault {
            Fault::None => self.broker.append(attempt.stamp, &attempt.ids),
            Fault::NotLeader => Answer::NotStored,
            Fault::TimedOut => match self.broker.append(attempt.stamp, &attempt.ids) {
                Answer::Stored(_) => Answer::Doubt,
                other => other,
            },
            Fault::TooLarge => Answer::TooLarge(ErrorCode::from(10)),
            Fault::Refused => Answer::Refused(ErrorCode::from(87)),
            Fault::Fenced => {
                self.broker.dead.insert(attempt.stamp.producer_id);
                Answer::IdentityDead
            }
        });
    }

    fn read(&mut self) {
        if self.wire.front().is_none_or(|a| a.answer.is_none()) {
            return;
        }
        let attempt = self.wire.pop_front().expect("seen above");
        self.queue
            .answered(attempt.ordinal, attempt.answer.expect("seen above"), &mut self.settled);
    }

    fn break_off(&mut self) {
        for attempt in std::mem::take(&mut self.wire) {
            self.queue.answered(attempt.ordinal, Answer::Doubt, &mut self.settled);
            if attempt.answer.is_none() {
                self.late.push(attempt);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.queue.expire(self.now, &mut self.settled);
    }

    /// Only with nothing on its way: what a paused socket holds for longer than `producer.id.expiration.ms` is the documented limit.
    fn forget(&mut self) {
        if self.wire.is_empty() && self.late.is_empty() && self.queue.flight.is_empty() {
            self.wait(2 * QUIET);
            self.broker.producers.clear();
        }
    }

    fn collect(&mut self) {
        for batch in self.settled.drain(..) {
            assert_eq!(batch.records as usize, batch.waiters.len());
            if batch.verdict == Verdict::Refused(ErrorCode::from(10)) {
                assert_eq!(batch.records, 1, "only a record by itself is too large");
            }
            self.charged.set(self.charged.get() - batch.charged);
            for id in batch.waiters {
                self.unsent.retain(|unsent| *unsent != id);
                assert!(self.verdicts.insert(id, batch.verdict).is_none(), "{id} was settled twice");
                if let Verdict::Stored(_) = batch.verdict {
                    assert!(self.broker.log.contains(&id), "{id} was acknowledged and is not stored");
                }
            }
        }
    }

    /// Everything works again; all that is left comes to an end.
    fn finish(&mut self) {
        let mut idle = 0;
        let mut steps = 0;
        while idle < 3 {
            steps += 1;
            assert!(steps < 10_000, "it does not come to an end");
            let sent = self.send();
            self.serve(Fault::None);
            self.read();
            self.collect();
            idle = if sent || !self.wire.is_empty() { 0 } else { idle + 1 };
        }
        assert!(self.queue.is_empty(), "something is stuck");
        for attempt in std::mem::take(&mut self.late) {
            self.broker.append(attempt.stamp, &attempt.ids);
        }
    }

    fn check(&self) {
        assert!(
            self.broker.log.is_sorted_by(|a, b| a < b),
            "doubled or out of order: {:?}",
            self.broker.log
        );
        self.check_verdicts();
    }

    /// Those that were acknowledged stand in order, though a record may stand there twice.
    fn check_order(&self) {
        let acknowledged = |id: &u32| matches!(self.verdicts.get(id), Some(Verdict::Stored(_)));
        let mut seen = HashSet::new();
        let mut first = self.broker.log.iter().copied().filter(acknowledged).filter(|id| seen.insert(*id));
        assert!(first.by_ref().is_sorted(), "out of order: {:?}", self.broker.log);
        self.check_verdicts();
    }

    fn check_verdicts(&self) {
        assert_eq!(self.charged.get(), 0, "the budget is not given back");
        for id in 0..self.next_id {
            let stored = self.broker.log.contains(&id);
            match self.verdicts.get(&id) {
                None => panic!("{id} has no verdict"),
                Some(Verdict::Stored(_)) => assert!(stored, "{id} was acknowledged and is missing"),
                Some(Verdict::Refused(_) | Verdict::Expired { sent: false }) => assert!(!stored, "{id} is stored against its verdict"),
                Some(Verdict::Unknown | Verdict::Expired { sent: true }) => {}
            }
        }
    }
}

/// Producer id, epoch and sequence as they stand in a sealed batch.
fn stamp_in(bytes: &[u8]) -> Producer {
    Producer {
        producer_id: i64::from_be_bytes(bytes[43..51].try_into().unwrap()),
        producer_epoch: i16::from_be_bytes(bytes[51..53].try_into().unwrap()),
        base_sequence: i32::from_be_bytes(bytes[53..57].try_into().unwrap()),
    }
}

/// The records as they stand in a sealed batch.
fn ids_in(bytes: &Bytes) -> Vec<u32> {
    let limits = fetched::Limits { max_decompressed: 1 << 20 };
    let batch = fetched::batches(bytes.clone(), limits).next().unwrap().unwrap();
    let ids = batch
        .records()
        .map(|record| u32::from_be_bytes(record.unwrap().key.unwrap().try_into().unwrap()));
    ids.collect()
}

impl Split for Vec<u32> {
    fn split_off(&mut self, at: u32) -> Self {
        Vec::split_off(self, at as usize)
    }
}

/// More by PROPTEST_CASES; a failing schedule is printed, not kept in a file.
fn config() -> ProptestConfig {
    let plain = ProptestConfig::default();
    ProptestConfig {
        cases: plain.cases.max(500),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..plain
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_acked_is_missing_and_nothing_is_doubled_or_out_of_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.finish();
        world.check();
    }

    #[test]
    fn the_same_with_identities_that_die(steps in prop::collection::vec(prop_oneof![30 => step(), 1 => Just(Step::Serve(Fault::Fenced))], 1..200)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.finish();
        world.check();
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_same_with_a_broker_that_forgets_who_was_quiet(steps in prop::collection::vec(prop_oneof![30 => step(), 4 => Just(Step::Forget)], 1..200)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.finish();
        world.check();
    }

    #[test]
    fn the_same_with_batches_that_are_split(steps in prop::collection::vec(prop_oneof![30 => step(), 3 => Just(Step::Serve(Fault::TooLarge))], 1..200)) {
        let mut world = World::of_large_batches();
        steps.into_iter().for_each(|step| world.run(step));
        world.finish();
        world.check();
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn without_idempotence_nothing_acked_is_missing_or_out_of_order(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::of_the_leader_alone();
        for step in steps {
            world.run(step);
            prop_assert!(world.wire.len() <= 1, "more than one in flight");
        }
        world.finish();
        world.check_order();
    }
}

#[test]
fn another_compression_makes_another_batch() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::Leader);
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(b"v".as_slice()),
        headers: std::iter::empty(),
    };
    let kinds = [Compression::Lz4, Compression::Lz4, Compression::None, Compression::Lz4];
    for (id, compression) in (0..).zip(kinds) {
        let limits = Limits {
            batch_size: 1_000,
            ..LIMITS
        };
        let appended = queue.append(&fields, Instant::now(), &limits, compression, |_| true, Vec::new);
        appended.unwrap_or_else(|r| panic!("{r:?}")).waiters.push(id);
    }
    let mut sent = Vec::new();
    while let Next::First {
        ordinal,
        builder,
        compression,
        ..
    } = queue.next(None, &mut Vec::new())
    {
        sent.push((compression, builder.count()));
        queue.sealed(ordinal, builder.seal(&Producer::NONE, Compression::None).bytes);
        queue.answered(ordinal, Answer::Stored(0), &mut Vec::new());
    }
    assert_eq!(sent, [(Compression::Lz4, 2), (Compression::None, 1), (Compression::Lz4, 1)]);
}

/// Records are about half a batch here, so two appends make a batch and the third opens the next.
fn fill(world: &mut World, records: usize) {
    (0..records).for_each(|_| world.append());
}

#[test]
fn without_faults_all_is_stored_under_one_epoch() {
    let mut world = World::new();
    fill(&mut world, 40);
    world.finish();
    world.check();
    assert_eq!(world.broker.log.len(), 40);
    assert_eq!(world.broker.producers[&1].epoch, 0);
}

#[test]
fn a_batch_that_was_stored_before_the_connection_broke_is_acknowledged_once() {
    let mut world = World::new();
    fill(&mut world, 1);
    assert!(world.send());
    world.serve(Fault::None);
    world.break_off();
    world.finish();
    world.check();
    assert_eq!(world.broker.log, [0]);
    assert_eq!(world.verdicts[&0], Verdict::Stored(0));
}

#[test]
fn a_refused_batch_alone_leaves_no_gap() {
    let mut world = World::new();
    fill(&mut world, 1);
    assert!(world.send());
    world.serve(Fault::Refused);
    world.read();
    world.collect();
    fill(&mut world, 1);
    world.finish();
    world.check();
    assert_eq!(world.broker.producers[&1].epoch, 0);
    assert_eq!(world.broker.log, [1]);
}

#[test]
fn those_behind_a_refused_batch_are_stored_in_order_under_a_new_epoch() {
    let mut world = World::new();
    fill(&mut world, 12);
    // The first is stored, so that the broker knows the producer and sees the gap.
    assert!(world.send());
    assert!(!world.send(), "a second batch must not leave before the id is known to the broker");
    world.serve(Fault::None);
    world.read();
    for _ in 0..3 {
        assert!(world.send());
    }
    world.serve(Fault::Refused);
    world.serve(Fault::None);
    world.serve(Fault::None);
    (0..3).for_each(|_| world.read());
    world.collect();
    let refused: Vec<u32> = world
        .verdicts
        .iter()
        .filter(|(_, v)| matches!(v, Verdict::Refused(_)))
        .map(|(id, _)| *id)
        .collect();
    assert!(!refused.is_empty());
    world.finish();
    world.check();
    assert_eq!(world.broker.log.len(), 12 - refused.len());
    assert_eq!(world.broker.producers[&1].epoch, 1);
}

/// The schedule that forbids stamping anew what is in doubt: a stopped broker still holds both requests of the old connection.
/// The first expires, the second is answered 45 on a new connection, and then the old ones are served after all.
#[test]
fn a_batch_in_doubt_behind_a_gap_is_unknown_and_never_doubled() {
    let mut world = World::new();
    fill(&mut world, 1);
    assert!(world.send());
    world.serve(Fault::None);
    world.read();
    world.append();
    assert!(world.send());
    world.wait(Duration::from_secs(5));
    world.append();
    assert!(world.send());
    world.break_off();
    world.wait(Duration::from_secs(6));
    world.collect();
    assert_eq!(world.verdicts[&1], Verdict::Expired { sent: true });
    assert!(world.send());
    world.serve(Fault::None);
    world.read();
    for late in std::mem::take(&mut world.late) {
        world.broker.append(late.stamp, &late.ids);
    }
    world.append();
    world.finish();
    world.check();
    assert_eq!(world.verdicts[&2], Verdict::Unknown);
    assert_eq!(world.broker.log, [0, 1, 2, 3]);
}

#[test]
fn what_was_never_sent_expires_as_surely_not_stored() {
    let mut world = World::new();
    fill(&mut world, 3);
    world.wait(Duration::from_secs(11));
    world.collect();
    assert!(world.queue.is_empty());
    assert_eq!(world.verdicts[&2], Verdict::Expired { sent: false });
    world.check();
}

#[test]
fn sequences_and_epochs_run_out_without_harm() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    queue.next_sequence = i32::MAX;
    queue.proven = true;
    queue.identity = Some(Identity {
        producer_id: 7,
        epoch: i16::MAX,
    });
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(&[0u8; 60][..]),
        headers: std::iter::empty(),
    };
    let mut stamps = Vec::new();
    for _ in 0..2 {
        queue
            .append(&fields, Instant::now(), &LIMITS, Compression::None, |_| true, Vec::new)
            .unwrap_or_else(|r| panic!("{r:?}"));
        let Next::First {
            ordinal,
            producer,
            builder,
            ..
        } = queue.next(None, &mut Vec::new())
        else {
            panic!("nothing to send")
        };
        queue.sealed(ordinal, builder.seal(&producer, Compression::None).bytes);
        stamps.push((ordinal, producer.base_sequence));
    }
    assert_eq!(stamps.iter().map(|s| s.1).collect::<Vec<_>>(), [i32::MAX, 0]);
    // The first is dropped for good and the second stands behind the gap: there is no further epoch, so another id is asked for.
    queue.answered(stamps[0].0, Answer::Refused(ErrorCode::from(10)), &mut Vec::new());
    queue.answered(stamps[1].0, Answer::OutOfOrder, &mut Vec::new());
    assert!(matches!(
        queue.next(Some(Identity { producer_id: 7, epoch: 0 }), &mut Vec::new()),
        Next::Identity { dead: Some(7) }
    ));
    let Next::Again { bytes, .. } = queue.next(Some(Identity { producer_id: 8, epoch: 0 }), &mut Vec::new()) else {
        panic!("nothing to send")
    };
    assert_eq!(
        stamp_in(&bytes),
        Producer {
            producer_id: 8,
            producer_epoch: 0,
            base_sequence: 0
        }
    );
}

#[test]
fn a_record_that_gets_no_memory_leaves_no_trace() {
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(b"v".as_slice()),
        headers: std::iter::empty(),
    };
    let refused = queue
        .append(&fields, Instant::now(), &LIMITS, Compression::None, |_| false, Vec::new)
        .err();
    assert_eq!(refused, Some(Refusal::MemoryFull { needed: FIRST_CHARGE }));
    assert!(queue.is_empty());
}

/// Otherwise a connection is told again and again that there is room, and finds none.
#[test]
fn a_batch_grows_into_what_is_left_of_the_budget() {
    let budget = std::cell::Cell::new(FIRST_CHARGE + 700);
    let charge = |bytes: usize| {
        let left = budget.get().checked_sub(bytes);
        budget.set(left.unwrap_or(budget.get()));
        left.is_some()
    };
    let limits = Limits {
        batch_size: 64 * 1024,
        ..LIMITS
    };
    let fields = RecordFields {
        timestamp: 0,
        key: None,
        value: Some(&[0u8; 600][..]),
        headers: std::iter::empty(),
    };
    let mut queue = PartitionQueue::<Vec<u32>>::new(Acks::All);
    let mut append = || {
        let appended = queue.append(&fields, Instant::now(), &limits, Compression::None, charge, Vec::new);
        appended.map(|appended| appended.index).err()
    };
    assert_eq!(
        [append(), append(), append(), append()],
        [None; 4],
        "four records of some 600 bytes"
    );
    let Some(Refusal::MemoryFull { needed }) = append() else {
        panic!("there was memory for a fifth")
    };
    assert!(needed < 700, "what one record needs, not twice the batch: {needed}");
}

/// The span counts settled batches too: here B is settled and A is not, so the broker must still remember A when it has taken three more.
#[test]
fn the_oldest_unsettled_batch_is_never_more_than_five_behind() {
    let mut world = World::new();
    let send_one = |world: &mut World| {
        world.append();
        world.send()
    };
    assert!(send_one(&mut world));
    world.serve(Fault::None);
    world.read();
    assert!(send_one(&mut world) && send_one(&mut world), "A and B");
    world.serve(Fault::TimedOut);
    world.serve(Fault::None);
    world.read();
    world.read();
    assert!(world.send(), "A again");
    let sent = (0..6).filter(|_| send_one(&mut world)).count();
    assert_eq!(sent, 3, "A, B and three more are five");
    (0..4).for_each(|_| world.serve(Fault::None));
    world.break_off();
    world.finish();
    world.check();
    assert!(
        world.verdicts.values().all(|v| matches!(v, Verdict::Stored(_))),
        "{:?}",
        world.verdicts
    );
}

#[test]
fn a_retry_waits_until_nothing_is_outstanding() {
    let mut world = World::new();
    world.append();
    world.send();
    world.serve(Fault::None);
    world.read();
    for _ in 0..3 {
        world.append();
        assert!(world.send());
    }
    world.serve(Fault::NotLeader);
    world.read();
    world.append();
    assert!(!world.send(), "two attempts have no answer yet");
    assert!(!world.queue.is_ready());
    world.break_off();
    let ordinals: Vec<u64> = (0..3)
        .map(|_| {
            assert!(world.send());
            world.wire.back().unwrap().ordinal
        })
        .collect();
    assert_eq!(ordinals, [1, 2, 3], "in their order, before anything new");
    world.finish();
    world.check();
}
