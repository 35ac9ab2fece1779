//! QoS 2 from the client: exactly once into Kafka (§4.3.3 of MQTT, KIP-98).
//!
//! A PUBLISH gets its *pair* for each record it makes, the pair is written and read back, then the record is produced with it. Whoever
//! owns the session next produces the repeated PUBLISH by the pair, and Kafka drops what it has.
//!
//! **One at a time**: of a session and a Kafka partition, the next record gets its sequence only when the one before is known to be there.
//! So records keep their order, and of one producer id and partition only the highest pair is in doubt: *a higher pair proves the lower
//! ones*, and nothing ever has to be asked about two pairs at once. Kafka knows a producer's last five batches, so a producer id is left
//! for a new one before five sequences lie between the lowest open pair and the next: a 45 means "not there", never "too old to know".
//!
//! Nothing is promised of a message that is *refused*: of its records some may be in Kafka, and one that is still on its way may come late.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::guard::{Guard, keeps};
use super::output::{ConnectionId, Message, Outcome, Output};
use super::owner::{Dirty, Owner, Rests};
use super::text::{Pair, Source};
use crate::mqtt::ReasonCode;

/// Batches of a producer that Kafka remembers in each partition.
const REMEMBERED: i32 = 5;
/// So many records may a PUBLISH of QoS 2 make in one partition.
pub const MOST_RECORDS: usize = REMEMBERED as usize;

/// The exchange of this connection; what must outlive it is in the steps.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Producer id and epoch for new pairs.
    id: Option<(i64, i16)>,
    asked: bool,
    /// The next sequence of that id.
    next: BTreeMap<Source, i32>,
    /// In order of arrival.
    queue: VecDeque<Arrival>,
    /// Kafka has all of it, PUBREC may be repeated.
    acked: BTreeSet<u16>,
}

/// A PUBLISH on its way into Kafka.
#[derive(Debug)]
struct Arrival {
    packet: u16,
    targets: Vec<Source>,
    stage: Stage,
    /// For each record.
    progress: Vec<Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has no pairs yet.
    Waiting,
    /// They are not read back.
    Written,
    /// It may be produced.
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Sent,
    Acked,
}

impl Inbound {
    pub(super) fn ready(&mut self, packet: u16) {
        let arrivals = self.queue.iter_mut().filter(|arrival| arrival.packet == packet);
        arrivals.for_each(|arrival| arrival.stage = Stage::Ready);
    }

    pub(super) fn new_id(&mut self, producer: i64, epoch: i16) {
        self.asked = false;
        if self.id.is_none() {
            self.id = Some((producer, epoch));
            self.next.clear();
        }
    }

    fn arrival(&mut self, packet: u16) -> Option<&mut Arrival> {
        self.queue.iter_mut().find(|arrival| arrival.packet == packet)
    }
}

/// How many records of a message go into one partition.
fn records_in(target: Source, targets: &[Source]) -> i32 {
    targets.iter().filter(|other| **other == target).count() as i32
}

impl Owner {
    /// PUBLISH of QoS 2. One that makes more than five records in one partition is refused.
    pub(super) fn publish(&mut self, connection: ConnectionId, packet: u16, targets: Vec<Source>, outputs: &mut VecDeque<Output>) {
        if self.inbound.acked.contains(&packet) {
            return outputs.push_back(Output::PubRec(connection, packet));
        }
        if self.inbound.arrival(packet).is_some() {
            return;
        }
        let known = self.body.steps.inbound.get(&packet);
        // Whoever repeats it could be told that the first is not there, though Kafka has only forgotten it.
        if known.is_none() && targets.iter().any(|target| records_in(*target, &targets) > REMEMBERED) {
            return outputs.push_back(Output::Refused(connection, packet));
        }
        let (stage, records) = known.map_or((Stage::Waiting, targets.len()), |pairs| (Stage::Ready, pairs.len()));
        self.inbound.queue.push_back(Arrival {
            packet,
            targets,
            stage,
            progress: vec![Progress::Open; records],
        });
        self.pump(outputs);
    }

    /// Moves on whatever can move, in order of arrival.
    pub(super) fn pump(&mut self, outputs: &mut VecDeque<Output>) {
        let mut blocked = BTreeSet::new();
        let mut queue = std::mem::take(&mut self.inbound.queue);
        queue.retain_mut(|arrival| {
            self.advance(arrival, &mut blocked, outputs);
            if arrival.stage != Stage::Ready || arrival.progress.iter().any(|progress| *progress != Progress::Acked) {
                return true;
            }
            self.inbound.acked.insert(arrival.packet);
            outputs.extend(self.connection.map(|connection| Output::PubRec(connection, arrival.packet)));
            false
        });
        self.inbound.queue = queue;
    }

    fn advance(&mut self, arrival: &mut Arrival, blocked: &mut BTreeSet<Source>, outputs: &mut VecDeque<Output>) {
        if arrival.stage == Stage::Waiting {
            let held = arrival.targets.iter().any(|target| blocked.contains(target));
            if !held && self.take_pairs(arrival, outputs) {
                arrival.stage = Stage::Written;
                if keeps(Guard::ProduceAfterReadBack) {
                    self.wait(Dirty::Steps, Rests::Produce(arrival.packet));
                } else {
                    self.touch(Dirty::Steps);
                    arrival.stage = Stage::Ready;
                }
            }
        }
        if arrival.stage == Stage::Ready {
            self.produce(arrival, blocked, outputs);
        } else if keeps(Guard::OneAtATime) {
            let pairs = self.body.steps.inbound.get(&arrival.packet);
            blocked.extend(pairs.into_iter().flatten().map(|pair| pair.source));
            blocked.extend(&arrival.targets);
        }
    }

    /// Gives a message its sequences; false if it needs a producer id first.
    fn take_pairs(&mut self, arrival: &Arrival, outputs: &mut VecDeque<Output>) -> bool {
        if !keeps(Guard::FreshIds) && self.inbound.id.is_none() {
            self.go_on_with_an_old_id();
        }
        if keeps(Guard::Span)
            && let Some((producer, epoch)) = self.inbound.id
            && arrival.targets.iter().any(|target| {
                let span = self.span(*target, producer, epoch);
                span > 0 && span + records_in(*target, &arrival.targets) > REMEMBERED
            })
        {
            self.inbound.id = None;
        }
        let Some((producer, epoch)) = self.inbound.id else {
            if !std::mem::replace(&mut self.inbound.asked, true) {
                outputs.push_back(Output::ProducerId {
                    tenure: self.tenure(),
                    will: None,
                });
            }
            return false;
        };
        let pair = |&source: &Source| {
            let next = self.inbound.next.entry(source).or_default();
            *next += 1;
            Pair {
                source,
                producer,
                epoch,
                sequence: *next - 1,
            }
        };
        let pairs = arrival.targets.iter().map(pair).collect();
        self.body.steps.inbound.insert(arrival.packet, pairs);
        true
    }

    /// Sequences from the lowest open one of a producer id up to the next.
    fn span(&self, source: Source, producer: i64, epoch: i16) -> i32 {
        let open = self.body.steps.inbound.values().flatten();
        let same = open.filter(|pair| (pair.source, pair.producer, pair.epoch) == (source, producer, epoch));
        let next = self.inbound.next.get(&source).copied().unwrap_or(0);
        same.map(|pair| next - pair.sequence).max().unwrap_or(0)
    }

    /// What the guard forbids: the sequences of an earlier owner are continued.
    fn go_on_with_an_old_id(&mut self) {
        let open: Vec<Pair> = self.body.steps.inbound.values().flatten().copied().collect();
        if let Some(last) = open.iter().max_by_key(|pair| (pair.producer, pair.epoch, pair.sequence)) {
            self.inbound.id = Some((last.producer, last.epoch));
            for pair in open.iter().filter(|pair| pair.producer == last.producer) {
                let next = self.inbound.next.entry(pair.source).or_default();
                *next = (*next).max(pair.sequence + 1);
            }
        }
    }

    fn produce(&mut self, arrival: &mut Arrival, blocked: &mut BTreeSet<Source>, outputs: &mut VecDeque<Output>) {
        let pairs = self.body.steps.inbound.get(&arrival.packet).cloned().unwrap_or_default();
        for (index, pair) in pairs.iter().enumerate() {
            if arrival.progress[index] != Progress::Acked && self.is_proven(arrival.packet, pair) {
                arrival.progress[index] = Progress::Acked;
            }
            if arrival.progress[index] == Progress::Open && !blocked.contains(&pair.source) {
                arrival.progress[index] = Progress::Sent;
                outputs.push_back(Output::Produce {
                    tenure: self.tenure(),
                    message: Message::Packet(arrival.packet),
                    index,
                    pair: *pair,
                    doubt: self.inbound.id.is_none_or(|(producer, _)| producer != pair.producer),
                    will: None,
                });
            }
            if arrival.progress[index] != Progress::Acked && keeps(Guard::OneAtATime) {
                blocked.insert(pair.source);
            }
        }
    }

    /// Another message has a higher pair of the same producer: it got it only because this one was known to be there. A later record of
    /// the same message proves that by its epoch only, since all of them get their sequences at one time.
    fn is_proven(&self, packet: u16, pair: &Pair) -> bool {
        let pairs = self.body.steps.inbound.iter();
        let mut others = pairs.flat_map(|(of, pairs)| pairs.iter().map(move |pair| (*of == packet, pair)));
        keeps(Guard::OneAtATime)
            && others.any(|(same, other)| {
                (other.source, other.producer) == (pair.source, pair.producer)
                    && (other.epoch > pair.epoch || !same && (other.epoch, other.sequence) > (pair.epoch, pair.sequence))
            })
    }

    /// Kafka's answer to one record of a PUBLISH; false if nobody waits for it.
    ///
    /// Of two records of message A in two partitions one is refused while the other is still on its way: A is refused, and its packet id
    /// is free. The client takes it for message B. Then comes the answer to the other record of A, and must not be taken for one of B's:
    /// the pair tells them apart.
    pub(super) fn produced(&mut self, packet: u16, pair: &Pair, outcome: Outcome, outputs: &mut VecDeque<Output>) -> bool {
        let pairs = self.body.steps.inbound.get(&packet);
        let Some(index) = pairs.and_then(|pairs| pairs.iter().position(|known| known == pair)) else {
            return false;
        };
        let progress = self.inbound.arrival(packet).and_then(|arrival| arrival.progress.get_mut(index));
        let Some(progress) = progress.filter(|progress| **progress == Progress::Sent) else {
            return false;
        };
        match outcome {
            // An epoch is raised behind a pair that is known to be there, so it was, as by `is_proven`; but the message with the higher pair may have been
            // refused since, and its pairs with it.
            Outcome::Appended | Outcome::Fenced => *progress = Progress::Acked,
            // The pair is kept; only a new connection makes the client say it again.
            Outcome::Unknown => {
                let reason = ReasonCode::ImplementationSpecificError;
                outputs.extend(self.connection.map(|connection| Output::Close { connection, reason }));
                return true;
            }
            Outcome::Gap => {
                *progress = Progress::Open;
                if keeps(Guard::EpochAfterGap) {
                    self.take_next_epoch(packet, pair, pair.sequence);
                }
            }
            // Nor was that of one that is left out; what follows it in the same message has its sequence already.
            Outcome::Skipped => {
                *progress = Progress::Acked;
                self.take_next_epoch(packet, pair, pair.sequence + 1);
            }
            Outcome::Refused => {
                // Its sequence was not used up: nothing may follow it.
                self.inbound.id = None;
                self.inbound.queue.retain(|arrival| arrival.packet != packet);
                self.body.steps.inbound.remove(&packet);
                self.wait(Dirty::Steps, Rests::Refused(packet));
            }
        }
        self.pump(outputs);
        true
    }

    /// The records of a message from a sequence on are not there, and neither is what stands before them (a broker has lost it, or it is
    /// left out): the same producer id with the next epoch makes Kafka refuse whatever of the old one is still on its way (47).
    fn take_next_epoch(&mut self, packet: u16, of: &Pair, from: i32) {
        self.inbound.id = None;
        let Some(epoch) = of.epoch.checked_add(1) else { return };
        let pairs = self.body.steps.inbound.get_mut(&packet).into_iter().flatten();
        let behind = pairs.filter(|pair| {
            let same = (pair.source, pair.producer, pair.epoch) == (of.source, of.producer, of.epoch);
            same && pair.sequence >= from
        });
        let mut moved = 0;
        for pair in behind {
            (pair.epoch, pair.sequence) = (epoch, moved);
            moved += 1;
        }
        if moved == 0 {
            return;
        }
        if let Some(arrival) = self.inbound.arrival(packet) {
            arrival.stage = Stage::Written;
        }
        self.wait(Dirty::Steps, Rests::Produce(packet));
    }

    /// PUBREL: the client has forgotten the message. PUBCOMP makes it forget the packet id, so it rests on the removal of the pair.
    pub(super) fn pubrel(&mut self, connection: ConnectionId, packet: u16, outputs: &mut VecDeque<Output>) {
        if self.inbound.arrival(packet).is_some() {
            let reason = ReasonCode::ProtocolError;
            return outputs.push_back(Output::Close { connection, reason });
        }
        self.inbound.acked.remove(&packet);
        if self.body.steps.inbound.remove(&packet).is_some() {
            self.rest(Guard::PubCompAfterReadBack, Dirty::Steps, Rests::PubComp(packet), outputs);
        } else if !self.waiting.iter().any(|(_, rests)| *rests == Rests::PubComp(packet)) {
            outputs.push_back(Output::PubComp(connection, packet));
        }
    }
}
