//! The queue, the broker and the network between them, one step at a time; and what must hold in the end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{super::*, broker::Broker};
use crate::{kafka::fetched, upstream::produce::meaning};

/// One request on its way.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) ordinal: u64,
    pub(super) stamp: Producer,
    pub(super) ids: Vec<u32>,
    /// What the broker made of it, once it did.
    pub(super) answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
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
    /// The client hears that the topic is another, to which it has written by name.
    Anew,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// Not the leader: nothing is appended.
    NotLeader,
    /// The leader appends, is demoted while it waits for its replicas, and says the same; its heir has the batch.
    Demoted,
    /// Too few replicas are in sync: nothing is appended.
    Short,
    /// Appended, but not replicated in time.
    TimedOut,
    TooLarge,
    /// Refused for one of its records.
    Unfit,
    /// Refused for another reason.
    Refused,
    /// The id is not taken any more.
    Fenced,
}

pub(super) struct World {
    pub(super) queue: PartitionQueue<Vec<u32>>,
    pub(super) broker: Broker,
    pub(super) wire: VecDeque<Attempt>,
    pub(super) late: Vec<Attempt>,
    pub(super) now: Instant,
    pub(super) identity: Identity,
    pub(super) next_id: u32,
    /// Appended and never stamped.
    pub(super) unsent: VecDeque<u32>,
    pub(super) verdicts: HashMap<u32, Verdict>,
    pub(super) settled: Vec<Settled<Vec<u32>>>,
    pub(super) charged: std::cell::Cell<usize>,
    pub(super) limits: Limits,
}

pub(super) const LIMITS: Limits = Limits {
    batch_size: 100,
    delivery_timeout: Duration::from_secs(10),
};

impl World {
    pub(super) fn new() -> Self {
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
    pub(super) fn of_the_leader_alone() -> Self {
        Self {
            queue: PartitionQueue::new(Acks::Leader),
            ..Self::new()
        }
    }

    /// With up to nine records in a batch.
    pub(super) fn of_large_batches() -> Self {
        let limits = Limits { batch_size: 200, ..LIMITS };
        Self { limits, ..Self::new() }
    }

    pub(super) fn run(&mut self, step: Step) {
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
            Step::Anew => self.anew(),
        }
        self.collect();
    }

    pub(super) fn append(&mut self) {
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
    pub(super) fn send(&mut self) -> bool {
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

    pub(super) fn serve(&mut self, fault: Fault) {
        let Some(attempt) = self.wire.iter_mut().find(|a| a.answer.is_none()) else {
            return;
        };
        attempt.answer = Some(match fault {
            Fault::None => self.broker.append(attempt.stamp, &attempt.ids),
            Fault::NotLeader => meaning(ErrorCode::from(6), -1),
            Fault::Demoted => match self.broker.append(attempt.stamp, &attempt.ids) {
                Answer::Stored(_) => meaning(ErrorCode::from(6), -1),
                other => other,
            },
            Fault::TimedOut => match self.broker.append(attempt.stamp, &attempt.ids) {
                Answer::Stored(_) => meaning(ErrorCode::from(7), -1),
                other => other,
            },
            Fault::Short => meaning(ErrorCode::from(19), -1),
            Fault::TooLarge => Answer::TooLarge(ErrorCode::from(10)),
            Fault::Unfit => Answer::Unfit(ErrorCode::from(32)),
            Fault::Refused => Answer::Refused(ErrorCode::from(87)),
            Fault::Fenced => {
                self.broker.dead.insert(attempt.stamp.producer_id);
                Answer::IdentityDead
            }
        });
    }

    pub(super) fn read(&mut self) {
        if self.wire.front().is_none_or(|a| a.answer.is_none()) {
            return;
        }
        let attempt = self.wire.pop_front().expect("seen above");
        self.queue
            .answered(attempt.ordinal, attempt.answer.expect("seen above"), &mut self.settled);
    }

    pub(super) fn break_off(&mut self) {
        for attempt in std::mem::take(&mut self.wire) {
            self.queue.answered(attempt.ordinal, Answer::Doubt, &mut self.settled);
            if attempt.answer.is_none() {
                self.late.push(attempt);
            }
        }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.queue.expire(self.now, &mut self.settled);
    }

    /// Only with nothing on its way: what a paused socket holds for longer than `producer.id.expiration.ms` is the documented limit.
    pub(super) fn forget(&mut self) {
        if self.wire.is_empty() && self.late.is_empty() && self.queue.flight.is_empty() {
            self.wait(2 * QUIET);
            self.broker.producers.clear();
        }
    }

    /// Answers that are owed go to the former queue, and what the broker has not seen may come late.
    pub(super) fn anew(&mut self) {
        self.queue.abandon(Verdict::Unknown, &mut self.settled);
        self.queue = self.queue.heir(Acks::All);
        self.late.extend(self.wire.drain(..).filter(|attempt| attempt.answer.is_none()));
    }

    pub(super) fn collect(&mut self) {
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
    pub(super) fn finish(&mut self) {
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

    pub(super) fn check(&self) {
        assert!(
            self.broker.log.is_sorted_by(|a, b| a < b),
            "doubled or out of order: {:?}",
            self.broker.log
        );
        self.check_verdicts();
    }

    /// Those that were acknowledged stand in order, though a record may stand there twice.
    pub(super) fn check_order(&self) {
        let acknowledged = |id: &u32| matches!(self.verdicts.get(id), Some(Verdict::Stored(_)));
        let mut seen = HashSet::new();
        let mut first = self.broker.log.iter().copied().filter(acknowledged).filter(|id| seen.insert(*id));
        assert!(first.by_ref().is_sorted(), "out of order: {:?}", self.broker.log);
        self.check_verdicts();
    }

    pub(super) fn check_verdicts(&self) {
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
pub(super) fn stamp_in(bytes: &[u8]) -> Producer {
    Producer {
        producer_id: i64::from_be_bytes(bytes[43..51].try_into().unwrap()),
        producer_epoch: i16::from_be_bytes(bytes[51..53].try_into().unwrap()),
        base_sequence: i32::from_be_bytes(bytes[53..57].try_into().unwrap()),
    }
}

/// The records as they stand in a sealed batch.
pub(super) fn ids_in(bytes: &Bytes) -> Vec<u32> {
    let limits = fetched::Limits { max_decompressed: 1 << 20 };
    let batch = fetched::batches(bytes.clone(), limits).next().unwrap().unwrap();
    let ids = batch
        .records()
        .map(|record| u32::from_be_bytes(record.unwrap().key.unwrap().try_into().unwrap()));
    ids.collect()
}

impl Split for Vec<u32> {
    fn held(&self) -> usize {
        self.capacity() * size_of::<u32>()
    }

    fn split_off(&mut self, at: u32) -> Self {
        Vec::split_off(self, at as usize)
    }
}

/// Records are about half a batch here, so two appends make a batch and the third opens the next.
pub(super) fn fill(world: &mut World, records: usize) {
    (0..records).for_each(|_| world.append());
}
