//! One partition's machine played by hand: what the simulation meets too rarely, and what it does not play (gaps, refusals, damage).
//!
//! The source is compiled into this test, so that guards can be left out: of those that the simulation meets too rarely a play must then
//! go wrong.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

#[path = "../src/ownership/mod.rs"]
#[allow(dead_code, unused_imports, missing_docs)]
mod ownership;

// What the room knows as `crate::mqtt`.
use mqtt_kafka_proxy::mqtt;

use mqtt::{QoS, ReasonCode, RetainHandling};
use ownership::*;

const SOURCE: Source = Source {
    topic: [7; 16],
    partition: 0,
};
const ME: ConnectionId = ConnectionId(1);

/// A log that one instance reads, and others write to.
struct Stage {
    partition: Partition,
    log: Vec<NewRecord>,
    read: usize,
    now: Millis,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self::unread();
        stage.tail();
        stage
    }

    /// Nothing is known of the log yet.
    fn unread() -> Self {
        Self::named("me", Vec::new())
    }

    /// An instance that has read nothing yet of a log.
    fn named(instance: &str, log: Vec<NewRecord>) -> Self {
        let settings = Settings {
            instance: instance.into(),
            fresh_if_damaged: false,
            operator: false,
        };
        Self {
            partition: Partition::new(settings),
            log,
            read: 0,
            now: 1_764_102_345_000,
        }
    }

    /// Everything that is wanted; what is to be appended is in the log, and bodies are fetched.
    fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.partition.poll() {
            match output {
                Output::Append(records) => self.log.extend(records),
                Output::Fetch { serial, offset } => {
                    let record = self.log[offset as usize].clone();
                    let now = self.now;
                    record_of(&record, offset, |record| self.partition.fetched(serial, Some(record), now));
                }
                output => outputs.push(output),
            }
        }
        outputs
    }

    /// Reads to the end of the log, and what that brings about.
    fn tail(&mut self) -> Vec<Output> {
        let mut outputs = self.drain();
        while self.read < self.log.len() {
            let record = self.log[self.read].clone();
            let now = self.now;
            record_of(&record, self.read as i64, |record| self.partition.read(record, now));
            self.read += 1;
            outputs.extend(self.drain());
        }
        self.partition.at_end(self.read as i64, self.now, self.now);
        outputs.extend(self.drain());
        outputs
    }

    fn connect(&mut self) -> Vec<Output> {
        let offer = Offer {
            clean_start: false,
            expiry: 3600,
            will: None,
        };
        self.partition.connect(ME, "c", offer, 0, self.now);
        self.tail()
    }

    /// A PUBLISH, up to what is to be produced; producer ids are given when asked for.
    fn publish(&mut self, packet: u16, id: i64) -> Vec<Output> {
        self.partition.publish(ME, packet, vec![SOURCE], self.now);
        let mut outputs = self.tail();
        if let Some(Output::ProducerId { tenure, will: None }) = outputs.first().cloned() {
            self.partition.producer_id(&tenure, None, id, 0, self.now);
            outputs = self.tail();
        }
        outputs
    }

    fn answer(&mut self, outputs: &[Output], outcome: Outcome) -> Vec<Output> {
        let Some(Output::Produce { tenure, message, pair, .. }) = outputs.last() else {
            panic!("{outputs:?}")
        };
        assert!(self.partition.produced(tenure, *message, pair, outcome, self.now));
        self.tail()
    }
}

fn record_of(record: &NewRecord, offset: i64, take: impl FnOnce(&Record<'_>)) {
    let headers: Vec<(&str, &[u8])> = record.headers.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    take(&Record {
        offset,
        timestamp: 1_764_102_345_000,
        key: record.key.as_bytes(),
        headers: &headers,
        value: record.value.as_deref(),
    });
}

fn pair(outputs: &[Output]) -> (i64, i16, i32) {
    match outputs.last() {
        Some(Output::Produce { pair, .. }) => (pair.producer, pair.epoch, pair.sequence),
        _ => panic!("{outputs:?}"),
    }
}

/// Only what was read back before is answered: no pair is produced while its steps are not read.
#[test]
fn a_message_is_produced_after_its_pair_was_read_back_and_answered_after_kafka() {
    let mut stage = Stage::new();
    assert!(matches!(
        stage.connect()[..],
        [Output::Connected {
            present: None,
            stored: true,
            ..
        }]
    ));
    stage.partition.publish(ME, 5, vec![SOURCE], stage.now);
    let outputs = stage.drain();
    let Output::ProducerId { tenure, .. } = &outputs[0] else {
        panic!("{outputs:?}")
    };
    stage.partition.producer_id(tenure, None, 40, 0, stage.now);
    assert_eq!(stage.drain(), [], "the pair is written, but not read back");
    let outputs = stage.tail();
    assert_eq!(pair(&outputs), (40, 0, 0));
    assert_eq!(stage.answer(&outputs, Outcome::Appended), [Output::PubRec(ME, 5)]);
    stage.partition.pubrel(ME, 5, stage.now);
    assert_eq!(stage.drain(), []);
    assert_eq!(stage.tail(), [Output::PubComp(ME, 5)]);
}

/// The cleaner may have removed the claim that took the session away: who has slept longer than a minute reads everything anew.
#[test]
fn who_sleeps_longer_than_a_minute_gives_up_before_it_acts() {
    let mut stage = Stage::new();
    stage.connect();
    let outputs = stage.publish(5, 40);
    stage.answer(&outputs, Outcome::Appended);
    // The next pair is written; then the process sleeps, and wakes with the record in its socket.
    stage.partition.publish(ME, 6, vec![SOURCE], stage.now);
    stage.drain();
    stage.now += 60_001;
    let reason = ReasonCode::ServerUnavailable;
    let outputs = stage.tail();
    assert_eq!(outputs, [Output::Close { connection: ME, reason }, Output::Reset]);
    assert!(stage.partition.index().is_empty());
    let mut stage = Stage::new();
    stage.connect();
    stage.now += 60_000;
    assert_eq!(pair(&stage.publish(5, 40)), (40, 0, 0), "a minute is not too long");
}

/// The pair is on its way to the log as its owner falls asleep; another claims before it arrives, and once more long after. The cleaner
/// removes the first of those claims: nothing tells the sleeper that the pair is no longer its to use, until it is too late.
#[test]
fn a_sleeper_produces_nothing_by_a_pair_that_came_behind_a_claim_that_was_cleaned_up() {
    let mut stage = Stage::new();
    stage.connect();
    let outputs = stage.publish(5, 40);
    stage.answer(&outputs, Outcome::Appended);
    stage.partition.publish(ME, 6, vec![SOURCE], stage.now);
    let (end, mut outputs) = (stage.log.len(), stage.drain());
    assert!(stage.log.len() > end, "the pair is on its way");
    stage.log.push(Claim::new("other", 2, stage.now).record("c").unwrap());
    stage.now += 1_200_000;
    outputs.extend(stage.tail());
    assert!(
        !outputs.iter().any(|output| matches!(output, Output::Produce { .. })),
        "{outputs:?}"
    );
}

/// Kafka knows the last five batches of a producer: with the first message open, the sixth takes another id.
#[test]
fn a_producer_id_is_left_before_kafka_forgets_its_lowest_open_pair() {
    let mut stage = Stage::new();
    stage.connect();
    for packet in 1..=7 {
        let outputs = stage.publish(packet, 40 + i64::from(packet));
        let expected = if packet <= 5 {
            (41, 0, i32::from(packet) - 1)
        } else {
            (46, 0, i32::from(packet) - 6)
        };
        assert_eq!(pair(&outputs), expected);
        assert_eq!(stage.answer(&outputs, Outcome::Appended), [Output::PubRec(ME, packet)]);
    }
}

/// 45: the record is not there. The next epoch shuts out whatever of the old one is still on its way, and is read back before it is used.
#[test]
fn after_a_gap_the_same_producer_goes_on_with_the_next_epoch() {
    let mut stage = Stage::new();
    stage.connect();
    let outputs = stage.publish(1, 40);
    stage.answer(&outputs, Outcome::Appended);
    let outputs = stage.publish(2, 41);
    assert_eq!(pair(&outputs), (40, 0, 1));
    let records = stage.log.len();
    let outputs = stage.answer(&outputs, Outcome::Gap);
    assert_eq!(pair(&outputs), (40, 1, 0));
    let written = String::from_utf8(stage.log[records].value.clone().unwrap()).unwrap();
    assert!(written.contains("40.1.0"), "{written}");
    assert_eq!(stage.answer(&outputs, Outcome::Appended), [Output::PubRec(ME, 2)]);
    // What follows takes a new id, and the first message needs no question: the higher pair proves it.
    assert_eq!(pair(&stage.publish(3, 42)), (42, 0, 0));
}

/// Its claim could be removed by the cleaner before it has read it, and no minute would tell.
#[test]
fn nobody_is_connected_before_the_log_was_read_once() {
    let mut stage = Stage::unread();
    let reason = ReasonCode::ServerUnavailable;
    assert_eq!(stage.connect(), [Output::Refuse { connection: ME, reason }]);
    assert!(matches!(stage.connect()[..], [Output::Connected { .. }]));
}

#[test]
fn an_unknown_outcome_keeps_the_pair_and_a_refusal_removes_it() {
    let mut stage = Stage::new();
    stage.connect();
    let outputs = stage.publish(1, 40);
    assert_eq!(stage.answer(&outputs, Outcome::Refused), [Output::Refused(ME, 1)]);
    let outputs = stage.publish(2, 41);
    assert_eq!(pair(&outputs), (41, 0, 0), "nothing follows a sequence that was not used up");
    assert!(matches!(outputs[..], [.., Output::Produce { doubt: false, .. }]), "{outputs:?}");
    let reason = ReasonCode::ImplementationSpecificError;
    assert_eq!(stage.answer(&outputs, Outcome::Unknown), [Output::Close { connection: ME, reason }]);
    stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
    stage.tail();
    let outputs = stage.connect();
    let [Output::Connected { present: Some(body), .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(body.steps.inbound.len(), 1);
    let again = stage.publish(2, 42);
    assert_eq!(pair(&again), (41, 0, 0), "the message that is sent again goes by the pair");
    assert!(matches!(again[..], [.., Output::Produce { doubt: true, .. }]), "{again:?}");
}

/// A custodian that acts on old news must not take the session from a client that is back.
#[test]
fn a_bid_that_came_too_late_disturbs_nobody() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
    stage.tail();
    stage.connect();
    let bid = Claim::new("custodian", 1, 0).bid("c", 0).unwrap();
    stage.log.push(bid);
    assert_eq!(stage.tail(), []);
    assert_eq!(pair(&stage.publish(1, 40)), (40, 0, 0));
    stage.log.push(Claim::new("other", 1, 0).record("c").unwrap());
    let reason = ReasonCode::SessionTakenOver;
    assert_eq!(stage.tail(), [Output::Close { connection: ME, reason }]);
}

/// The custodian finds a session of a dead instance, and asks for it as its client comes back elsewhere: the client is left alone.
#[test]
fn a_custodian_that_is_late_takes_no_session_from_a_client_that_is_back() {
    let mut stage = Stage::unread();
    let mut body = Body::fresh(stage.now);
    (body.connected, body.expiry) = (true, 3600);
    let state = |claim, owner| State::Goes(Box::new(body.clone())).record("c", claim, 2, owner).unwrap();
    stage.log.push(Claim::new("gone", 1, stage.now).record("c").unwrap());
    stage.log.push(state(0, "gone"));
    stage.tail();
    stage.partition.members(Some(["me".into(), "other".into()].into()), stage.now);
    while stage.log.len() == 2 {
        stage.partition.at_end(2, stage.now, stage.now);
        stage.now += 1000;
        stage.partition.tick(stage.now);
        stage.drain();
    }
    // What it has asked for comes behind the claim of the other.
    let late = stage.log.split_off(2);
    stage.log.push(Claim::new("other", 1, stage.now).record("c").unwrap());
    stage.log.extend(late);
    stage.log.push(state(2, "other"));
    stage.tail();
    let index = stage.partition.index();
    let entry = index.entry("c").unwrap();
    assert_eq!((index.owner(entry), entry.claim()), ("other", Some(2)));
}

/// An instance joins the group and claims a session; the custodian hears of the generation later than of the claim.
#[test]
fn a_claim_that_is_newer_than_what_is_known_of_the_members_is_no_orphans() {
    let mut stage = Stage::unread();
    // When the log says that it was written.
    stage.now = 1_764_102_345_000;
    let mut body = Body::fresh(stage.now);
    (body.connected, body.expiry) = (true, 3600);
    stage.partition.members(Some(["me".into()].into()), stage.now);
    stage.log.push(Claim::new("new", 1, stage.now).record("c").unwrap());
    stage.log.push(State::Goes(Box::new(body)).record("c", 0, 2, "new").unwrap());
    stage.tail();
    let bids = |stage: &mut Stage, seconds: usize| {
        for _ in 0..seconds {
            stage.now += 1000;
            stage.partition.tick(stage.now);
            stage.tail();
        }
        stage.log.len() > 2
    };
    assert!(!bids(&mut stage, 30));
    // It is none indeed, or is none any more.
    stage.partition.members(Some(["me".into()].into()), stage.now);
    assert!(bids(&mut stage, 3));
}

/// A client with nothing stored is answered before its claim is read. An owner from before writes its state behind that claim, and the
/// client's instance dies: whoever gets the client next finds nothing, as the client was told.
#[test]
fn a_state_of_an_older_claim_that_comes_behind_a_fresh_one_brings_nothing_back() {
    let mut stage = Stage::unread();
    stage.log.push(Claim::new("slow", 1, stage.now).record("c").unwrap());
    stage.tail();
    let offer = Offer {
        clean_start: true,
        expiry: 0,
        will: None,
    };
    stage.partition.connect(ME, "c", offer, 1, stage.now);
    let outputs = stage.tail();
    assert!(matches!(outputs[..], [Output::Connected { present: None, .. }]), "{outputs:?}");
    let mut body = Body::fresh(stage.now);
    body.expiry = 3600;
    stage.log.push(State::Goes(Box::new(body)).record("c", 0, 2, "slow").unwrap());
    let mut next = Stage::named("next", stage.log);
    next.tail();
    let outputs = next.connect();
    assert!(matches!(outputs[..], [Output::Connected { present: None, .. }]), "{outputs:?}");
}

#[test]
fn a_client_whose_session_an_operator_ends_is_told_so() {
    let mut stage = Stage::new();
    stage.connect();
    let mut claim = Claim::new("operator", 1, 0);
    claim.operator = true;
    stage.log.push(claim.record("c").unwrap());
    let reason = ReasonCode::AdministrativeAction;
    assert_eq!(stage.tail(), [Output::Close { connection: ME, reason }]);
}

/// The owner writes state, steps, and the state again as its client leaves. The cleaner removes the first state. An instance that starts
/// then meets the steps first: those of nobody, as far as it has read. The state that follows makes itself, and them, what counts.
#[test]
fn a_custodian_that_reads_a_compacted_log_takes_no_session_for_a_stray() {
    let mut stage = Stage::unread();
    let mut body = Body::fresh(stage.now);
    body.expiry = 3600;
    stage.log.push(Claim::new("other", 1, stage.now).record("c").unwrap());
    stage.log.push(Steps::default().record("c", 0, 2).unwrap());
    stage.log.push(State::Goes(Box::new(body)).record("c", 0, 3, "other").unwrap());
    stage.partition.members(Some(["me".into(), "other".into()].into()), stage.now);
    for _ in 0..10 {
        stage.tail();
        stage.now += 30_000;
        stage.partition.tick(stage.now);
    }
    stage.tail();
    assert_eq!(stage.log.len(), 3, "{:?}", stage.log.last());
    assert!(stage.partition.index().entry("c").is_some_and(Entry::is_stored));
}

#[test]
fn a_session_that_cannot_be_read_is_left_as_it_is() {
    for (from, to) in [(r#""v":1"#, r#""v":2"#), (r#""connected""#, r#""colour""#)] {
        let mut stage = Stage::new();
        stage.connect();
        stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
        stage.tail();
        let last = stage.log.last_mut().unwrap();
        let damaged = String::from_utf8(last.value.clone().unwrap()).unwrap().replace(from, to);
        last.value = Some(damaged.into_bytes());
        let records = stage.log.len();
        let reason = ReasonCode::ServerUnavailable;
        assert_eq!(stage.connect(), [Output::Refuse { connection: ME, reason }]);
        assert_eq!(stage.log.len(), records + 1, "a claim, and nothing over the state");
    }
}

const OTHER: Source = Source {
    topic: [7; 16],
    partition: 1,
};

/// Two records, the one for `OTHER` is refused: the message is over and its packet id free, while the record for `SOURCE` is on its way.
#[test]
fn a_late_answer_is_not_taken_for_one_to_the_next_message_of_that_packet_id() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.publish(ME, 1, vec![SOURCE, OTHER], stage.now);
    let Some(Output::ProducerId { tenure, .. }) = stage.tail().first().cloned() else {
        panic!()
    };
    stage.partition.producer_id(&tenure, None, 40, 0, stage.now);
    let first = stage.tail();
    let [late, Output::Produce { message, pair, .. }] = &first[..] else {
        panic!("{first:?}")
    };
    assert!(stage.partition.produced(&tenure, *message, pair, Outcome::Refused, stage.now));
    assert_eq!(stage.tail(), [Output::Refused(ME, 1)]);
    let second = stage.publish(1, 41);
    assert_eq!(self::pair(&second), (41, 0, 0));
    for outcome in [Outcome::Refused, Outcome::Unknown, Outcome::Gap, Outcome::Appended] {
        let Output::Produce { message, pair, .. } = late else { panic!() };
        assert!(!stage.partition.produced(&tenure, *message, pair, outcome, stage.now));
        assert_eq!(stage.tail(), [], "{outcome:?}");
    }
    assert_eq!(stage.answer(&second, Outcome::Appended), [Output::PubRec(ME, 1)]);
}

#[test]
fn as_many_records_of_a_message_as_kafka_remembers_go_into_a_partition_and_more_are_refused() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.publish(ME, 1, vec![SOURCE; 6], stage.now);
    assert_eq!(stage.tail(), [Output::Refused(ME, 1)]);
    stage
        .partition
        .publish(ME, 1, vec![SOURCE, SOURCE, SOURCE, SOURCE, SOURCE, OTHER], stage.now);
    let Some(Output::ProducerId { tenure, .. }) = stage.tail().first().cloned() else {
        panic!()
    };
    stage.partition.producer_id(&tenure, None, 40, 0, stage.now);
    let mut outputs = stage.tail();
    let mut produced = Vec::new();
    while let Some(Output::Produce { message, pair, .. }) = outputs.pop() {
        produced.push((pair.source.partition, pair.sequence));
        assert!(stage.partition.produced(&tenure, message, &pair, Outcome::Appended, stage.now));
        outputs.extend(stage.tail());
        if outputs.last() == Some(&Output::PubRec(ME, 1)) {
            break;
        }
    }
    produced.sort();
    assert_eq!(produced, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]);
    assert_eq!(outputs, [Output::PubRec(ME, 1)]);
}

/// Kafka refuses the old epoch from the first of the new one on: whatever of the message follows in that partition needs it, too.
#[test]
fn after_a_gap_all_records_behind_it_take_the_next_epoch() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.publish(ME, 1, vec![SOURCE, SOURCE, SOURCE], stage.now);
    let Some(Output::ProducerId { tenure, .. }) = stage.tail().first().cloned() else {
        panic!()
    };
    stage.partition.producer_id(&tenure, None, 40, 0, stage.now);
    let mut outputs = stage.tail();
    let mut seen = Vec::new();
    for outcome in [Outcome::Appended, Outcome::Gap, Outcome::Appended, Outcome::Appended] {
        seen.push(pair(&outputs));
        outputs = stage.answer(&outputs, outcome);
    }
    assert_eq!(seen, [(40, 0, 0), (40, 0, 1), (40, 1, 0), (40, 1, 1)]);
    assert_eq!(outputs, [Output::PubRec(ME, 1)]);
}

/// Its sequence was not used: the next record would be answered with a gap, or its repetition with one.
#[test]
fn no_record_follows_the_sequence_of_one_that_is_left_out() {
    let mut stage = Stage::new();
    stage.connect();
    let first = stage.publish(1, 40);
    stage.answer(&first, Outcome::Appended);
    let left_out = stage.publish(2, 40);
    assert_eq!(pair(&left_out), (40, 0, 1));
    assert_eq!(stage.answer(&left_out, Outcome::Skipped), [Output::PubRec(ME, 2)]);
    assert_eq!(pair(&stage.publish(3, 41)), (41, 0, 0));
}

/// The first of two records of a message in one partition is left out, then the connection is lost before PUBREC. The client repeats the
/// message, and the first is not tried again: it would be taken now, should the topic's limit have been raised, or be fenced.
#[test]
fn a_record_behind_one_that_is_left_out_takes_the_next_epoch_and_proves_the_first_is_done_with() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.publish(ME, 1, vec![SOURCE, SOURCE], stage.now);
    let Some(Output::ProducerId { tenure, .. }) = stage.tail().first().cloned() else {
        panic!()
    };
    stage.partition.producer_id(&tenure, None, 40, 0, stage.now);
    let first = stage.tail();
    assert_eq!(pair(&first), (40, 0, 0));
    let second = stage.answer(&first, Outcome::Skipped);
    assert_eq!(pair(&second), (40, 1, 0));
    stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
    stage.connect();
    stage.partition.publish(ME, 1, vec![SOURCE, SOURCE], stage.now);
    let again = stage.tail();
    assert_eq!((again.len(), pair(&again)), (1, (40, 1, 0)));
    assert_eq!(stage.answer(&again, Outcome::Appended), [Output::PubRec(ME, 1)]);
}

/// A subscription that takes a little more than 1,000 bytes.
fn subscription(n: usize) -> StoredSubscription {
    StoredSubscription {
        filter: format!("{n:0>1000}"),
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
        id: None,
        starts: BTreeMap::new(),
    }
}

/// A state carries the steps: each has a bound of its own, so it can be written whatever the other is like.
#[test]
fn a_session_that_fills_both_of_its_parts_goes_on() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.subscribe(ME, 1, (0..200).map(subscription).collect(), stage.now);
    assert_eq!(stage.tail(), [Output::Answered(ME, 1)]);
    for packet in 1..=5000 {
        let offset = i64::from(packet);
        stage.partition.sent(ME, packet, Place { source: SOURCE, offset }, stage.now);
    }
    stage.partition.position(ME, SOURCE, 6000, stage.now);
    stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
    assert_eq!(stage.tail(), []);
    let outputs = stage.connect();
    let [Output::Connected { present: Some(body), .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!((body.subscriptions.len(), body.steps.flight.len()), (200, 5000));
    // What is too much for one of them ends the connection, once; the session goes on as it was.
    let records = stage.log.len();
    stage.partition.subscribe(ME, 2, (200..400).map(subscription).collect(), stage.now);
    let reason = ReasonCode::QuotaExceeded;
    assert_eq!(stage.tail(), [Output::Close { connection: ME, reason }]);
    assert!(stage.log.len() < records + 6, "{} records", stage.log.len() - records);
    let outputs = stage.connect();
    let [Output::Connected { present: Some(body), .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!((body.subscriptions.len(), body.steps.flight.len()), (200, 5000));
}

/// A state that this build would not write so large, from another one, claimed by a custodian: it is left as it is.
#[test]
fn a_state_that_cannot_be_written_again_is_claimed_once() {
    let mut stage = Stage::unread();
    let mut body = Body::fresh(stage.now - 7_200_000);
    body.expiry = 36_000;
    body.connected = true;
    body.subscriptions = (0..300).map(subscription).collect();
    stage.log.push(Claim::new("gone", 1, stage.now).record("c").unwrap());
    stage.log.push(State::Goes(Box::new(body)).record("c", 0, 1, "gone").unwrap());
    stage.partition.members(Some(["me".into()].into()), stage.now);
    for _ in 0..10 {
        stage.tail();
        stage.now += 30_000;
        stage.partition.tick(stage.now);
    }
    stage.tail();
    assert_eq!(
        stage.log.len(),
        3,
        "{:?}",
        stage.log.iter().map(|record| &record.key).collect::<Vec<_>>()
    );
}

/// It replaces a connection that has claimed, waits for the end of the log, and leaves before it is answered.
#[test]
fn a_clean_start_that_leaves_before_its_answer_leaves_no_session_to_nobody() {
    let mut stage = Stage::new();
    stage.connect();
    let offer = Offer {
        clean_start: true,
        expiry: 0,
        will: None,
    };
    let other = ConnectionId(2);
    stage.partition.connect(other, "c", offer, 1000, stage.now);
    let reason = ReasonCode::SessionTakenOver;
    assert_eq!(stage.tail(), [Output::Close { connection: ME, reason }]);
    stage.partition.disconnected(other, End::Lost { expiry: None }, stage.now);
    stage.tail();
    let state = stage
        .log
        .iter()
        .rev()
        .find(|record| record.key.starts_with("state:") && record.value.is_some())
        .unwrap();
    let state = String::from_utf8(state.value.clone().unwrap()).unwrap();
    assert!(state.contains(r#""connected":false"#), "{state}");
}

/// Kafka is away as the process starts: a client that wants nothing kept is let in. Its claim is written when the log was read, and discards
/// what was stored; if it has left by then it claims nothing, since the session may be of a later connection.
#[test]
fn a_clean_start_before_the_log_is_read_is_claimed_after_that() {
    for leaves in [false, true] {
        let mut stage = Stage::unread();
        let mut body = Body::fresh(stage.now);
        body.expiry = 3600;
        stage.log.push(Claim::new("other", 1, stage.now).record("c").unwrap());
        stage.log.push(State::Goes(Box::new(body)).record("c", 0, 2, "other").unwrap());
        let offer = Offer {
            clean_start: true,
            expiry: 0,
            will: None,
        };
        stage.partition.connect(ME, "c", offer, 0, stage.now);
        let outputs = stage.drain();
        assert!(matches!(
            outputs[..],
            [Output::Connected {
                present: None,
                stored: false,
                ..
            }]
        ));
        assert_eq!(stage.log.len(), 2, "nothing is claimed yet");
        if leaves {
            stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
        }
        stage.tail();
        stage.tail();
        assert_eq!(stage.log.len() > 2, !leaves);
        let outputs = stage.connect();
        let ([Output::Close { .. }, Output::Connected { present, .. }] | [Output::Connected { present, .. }]) = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(present.is_some(), leaves, "{outputs:?}");
    }
}

/// Plays with a guard left out: it must go wrong.
fn goes_wrong_without(guard: Guard, play: fn()) {
    LEFT_OUT.set(Some(guard));
    let played = std::panic::catch_unwind(play);
    LEFT_OUT.set(None);
    assert!(played.is_err(), "{guard:?} was left out, and nothing went wrong");
}

#[test]
fn without_the_minute() {
    goes_wrong_without(Guard::Minute, who_sleeps_longer_than_a_minute_gives_up_before_it_acts);
    goes_wrong_without(
        Guard::Minute,
        a_sleeper_produces_nothing_by_a_pair_that_came_behind_a_claim_that_was_cleaned_up,
    );
}

#[test]
fn without_bids() {
    goes_wrong_without(Guard::Bid, a_custodian_that_is_late_takes_no_session_from_a_client_that_is_back);
}

#[test]
fn without_the_span() {
    goes_wrong_without(Guard::Span, a_producer_id_is_left_before_kafka_forgets_its_lowest_open_pair);
}

#[test]
fn without_the_floor() {
    goes_wrong_without(
        Guard::Floor,
        a_state_of_an_older_claim_that_comes_behind_a_fresh_one_brings_nothing_back,
    );
}
