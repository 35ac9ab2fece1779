//! Wills whose time has come: sent by the current claimer, by a pair in its own state, so they cannot be sent twice.
//!
//! Each takes a producer id of its own, and one more for every five records in a partition. The client's may not be used: its last pair may be in
//! doubt until the client is back.

use std::collections::{BTreeMap, VecDeque};

use super::guard::{Guard, keeps};
use super::inbound::MOST_RECORDS;
use super::output::{Message, Outcome, Output};
use super::owner::{Dirty, Owner, Phase, Rests};
use super::record::Millis;
use super::text::{Pair, Source};
use super::will::SendingWill;

/// A will of which Kafka said nothing is sent again after this; the pair makes that harmless.
const AGAIN_AFTER: Millis = 1000;

/// How far a will is; beside [`SendingWill`], which is what the log knows.
#[derive(Debug)]
pub(super) struct WillRun {
    pub(super) number: u64,
    stage: Stage,
    targets: Vec<Source>,
    /// Producer ids for them: each has as many records in a partition as Kafka remembers of it.
    ids: Vec<(i64, i16)>,
    acked: usize,
    /// The record after those is on its way until then.
    again_at: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The rules are to be asked.
    New,
    /// The rules, or a broker for a producer id, are asked.
    Asked,
    /// The pair is not read back.
    Written,
    Ready,
}

impl WillRun {
    pub(super) fn new(number: u64, sending: &SendingWill) -> Self {
        Self {
            number,
            stage: if sending.pairs.is_empty() { Stage::New } else { Stage::Ready },
            targets: Vec::new(),
            ids: Vec::new(),
            acked: 0,
            again_at: None,
        }
    }

    pub(super) fn ready(&mut self) {
        self.stage = Stage::Ready;
    }
}

impl Owner {
    /// The will of the last connection is due.
    pub(super) fn will_is_due(&mut self) {
        if let Some(will) = self.body.will.take() {
            self.body.sending.push(SendingWill { will, pairs: Vec::new() });
            self.touch(Dirty::State);
        }
    }

    /// Moves all wills on; `numbers` counts those of the partition.
    pub(super) fn send_wills(&mut self, numbers: &mut u64, now: Millis, outputs: &mut VecDeque<Output>) {
        if self.phase != Phase::Live {
            return;
        }
        while let Some(sending) = self.body.sending.get(self.wills.len()) {
            *numbers += 1;
            self.wills.push(WillRun::new(*numbers, sending));
        }
        let tenure = self.tenure();
        for (run, sending) in self.wills.iter_mut().zip(&self.body.sending) {
            if run.stage == Stage::New {
                run.stage = Stage::Asked;
                outputs.push_back(Output::RouteWill {
                    tenure: tenure.clone(),
                    number: run.number,
                    will: Box::new(sending.will.clone()),
                });
            }
            if run.stage == Stage::Ready
                && run.again_at.is_none_or(|at| at <= now)
                && let Some(&pair) = sending.pairs.get(run.acked)
            {
                run.again_at = Some(Millis::MAX);
                outputs.push_back(Output::Produce {
                    tenure: tenure.clone(),
                    message: Message::Will(run.number),
                    index: run.acked,
                    pair,
                    doubt: true,
                    will: Some(Box::new(sending.will.clone())),
                });
            }
        }
    }

    /// When a will is to be sent again.
    pub(super) fn wills_again_at(&self) -> Option<Millis> {
        self.wills
            .iter()
            .filter_map(|run| run.again_at.filter(|at| *at != Millis::MAX))
            .min()
    }

    /// What is written down of a message.
    pub(super) fn pairs(&self, message: Message) -> &[Pair] {
        match message {
            Message::Packet(packet) => self.body.steps.inbound.get(&packet).map_or(&[], Vec::as_slice),
            Message::Will(number) => {
                let sending = self.will(number).and_then(|at| self.body.sending.get(at));
                sending.map_or(&[], |sending| &sending.pairs)
            }
        }
    }

    fn will(&self, number: u64) -> Option<usize> {
        self.wills.iter().position(|run| run.number == number)
    }

    fn forget_will(&mut self, at: usize) {
        self.wills.remove(at);
        self.body.sending.remove(at);
        self.touch(Dirty::State);
    }

    /// The rules' answer: where the will goes; nowhere if no rule maps it any more.
    pub(super) fn will_routed(&mut self, number: u64, targets: Vec<Source>, outputs: &mut VecDeque<Output>) {
        let Some(at) = self.will(number) else { return };
        if targets.is_empty() {
            return self.forget_will(at);
        }
        self.wills[at].targets = targets;
        outputs.push_back(Output::ProducerId {
            tenure: self.tenure(),
            will: Some(number),
        });
    }

    /// A producer id for a will; with the last that it needs its pairs can be written.
    ///
    /// Whoever sends a will again begins with its first record. Were there more of one producer than Kafka remembers, Kafka would say of the
    /// first that it is not there (45), though it has only forgotten it, and the rest would never be sent.
    pub(super) fn will_id(&mut self, number: u64, producer: i64, epoch: i16, outputs: &mut VecDeque<Output>) {
        let Some(at) = self.will(number) else { return };
        let tenure = self.tenure();
        let run = &mut self.wills[at];
        run.ids.push((producer, epoch));
        let mut next = BTreeMap::<Source, usize>::new();
        run.targets.iter().for_each(|source| *next.entry(*source).or_default() += 1);
        let most = next.values().copied().max().unwrap_or(0);
        if run.ids.len() * MOST_RECORDS < most {
            let will = Some(number);
            return outputs.push_back(Output::ProducerId { tenure, will });
        }
        next.clear();
        let ids = std::mem::take(&mut run.ids);
        let pair = |source| {
            let next = next.entry(source).or_default();
            let (id, sequence) = (*next / MOST_RECORDS, *next % MOST_RECORDS);
            *next += 1;
            Pair {
                source,
                producer: ids[id].0,
                epoch: ids[id].1,
                sequence: sequence as i32,
            }
        };
        self.body.sending[at].pairs = std::mem::take(&mut run.targets).into_iter().map(pair).collect();
        run.stage = Stage::Written;
        if !keeps(Guard::WillAfterReadBack) {
            run.stage = Stage::Ready;
        }
        if keeps(Guard::WillByPair) {
            self.wait(Dirty::State, Rests::Will(number));
        } else {
            run.stage = Stage::Ready;
        }
    }

    /// Kafka's answer to a record of a will; false if nobody waits for it.
    pub(super) fn will_produced(&mut self, number: u64, pair: &Pair, outcome: Outcome, now: Millis) -> bool {
        let Some(at) = self.will(number) else { return false };
        let run = &mut self.wills[at];
        if self.body.sending[at].pairs.get(run.acked) != Some(pair) {
            return false;
        }
        match outcome {
            Outcome::Appended | Outcome::Skipped => {
                run.acked += 1;
                run.again_at = None;
            }
            Outcome::Unknown | Outcome::Fenced => run.again_at = Some(now + AGAIN_AFTER),
            // What is refused for good is counted by the relay, and over.
            Outcome::Gap | Outcome::Refused => run.acked = usize::MAX,
        }
        if run.acked >= self.body.sending[at].pairs.len() {
            self.forget_will(at);
        }
        true
    }
}
