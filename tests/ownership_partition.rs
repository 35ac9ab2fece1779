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
/// A clock that is set forward by more than a minute cannot be told from a machine that was suspended; one that is set back would have the minute begin
/// in the future. Set back by less, the minute is counted from the next end of the log on.
#[test]
fn a_clock_that_is_set_forward_or_back_does_not_stretch_the_minute() {
    let gives_up = |stage: &mut Stage| {
        stage.partition.tick(stage.now);
        stage.drain().contains(&Output::Reset)
    };
    for (set, lets_go_on) in [
        (60_000, true),
        (60_001, false),
        (-60_000, true),
        (-60_001, false),
        (-3_600_000, false),
    ] {
        let mut stage = Stage::new();
        stage.connect();
        stage.now = stage.now.strict_add_signed(set);
        assert_eq!(gives_up(&mut stage), !lets_go_on, "set by {set} ms");
    }
    let mut stage = Stage::new();
    stage.connect();
    stage.now -= 50_000;
    stage.tail();
    stage.now += 60_000;
    assert!(!gives_up(&mut stage));
    stage.now += 1;
    assert!(gives_up(&mut stage), "the tail was at the end a minute ago");
}

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

/// Kafka had a message and lost it (an unclean election). The next one found the gap and went on under the next epoch, then another record of it was refused, and its
/// pairs are gone. The first is repeated, and 47 is all that Kafka says of it, however often.
#[test]
fn what_stands_before_a_higher_epoch_was_there() {
    let mut stage = Stage::new();
    stage.connect();
    let first = stage.publish(1, 40);
    stage.answer(&first, Outcome::Appended);
    stage.partition.publish(ME, 2, vec![SOURCE, OTHER], stage.now);
    let [to_gap, to_refuse] = <[Output; 2]>::try_from(stage.tail()).unwrap();
    let higher = stage.answer(&[to_gap], Outcome::Gap);
    assert_eq!(pair(&higher), (40, 1, 0));
    stage.answer(&higher, Outcome::Appended);
    assert_eq!(stage.answer(&[to_refuse], Outcome::Refused), [Output::Refused(ME, 2)]);
    stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
    stage.tail();
    stage.connect();
    let again = stage.publish(1, 41);
    assert_eq!(pair(&again), pair(&first));
    assert_eq!(stage.answer(&again, Outcome::Fenced), [Output::PubRec(ME, 1)]);
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

/// An instance with 6,000 clients dies: the custodian has found and claimed them all within seconds, among sessions however many, and never asks
/// for all of them at once.
#[test]
fn orphans_are_found_within_seconds_among_a_hundred_thousand_sessions() {
    const SESSIONS: usize = 100_000;
    const ORPHANS: usize = 6_000;
    let mut stage = Stage::unread();
    for number in 0..SESSIONS {
        let (client, claim) = (format!("c{number}"), stage.log.len() as i64);
        let mut body = Body::fresh(stage.now);
        // All in a row: those that an instance has claimed when it started.
        (body.connected, body.expiry) = (number >= SESSIONS - ORPHANS, NEVER);
        stage.log.push(Claim::new("gone", 1, stage.now).record(&client).unwrap());
        stage
            .log
            .push(State::Goes(Box::new(body)).record(&client, claim, 2, "gone").unwrap());
    }
    stage.tail();
    stage.partition.members(Some(["me".into()].into()), stage.now);
    let orphans = |stage: &Stage| stage.partition.index().walk(0).filter(|(_, entry)| entry.is_connected()).count();
    let (mut ticks, mut most) = (0, 0);
    while orphans(&stage) > 0 {
        ticks += 1;
        assert!(ticks <= 20, "{} orphans are left after {ticks} seconds", orphans(&stage));
        stage.now += 1000;
        stage.partition.tick(stage.now);
        stage.drain();
        most = most.max(stage.log.len() - stage.read);
        stage.tail();
    }
    assert!((1..=256).contains(&most), "{most} claims at once");
    println!("{ORPHANS} orphans of {SESSIONS} sessions: {ticks} ticks, {most} at once");
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

/// An owner from before writes its state, with what it was handed on, behind a fresh claim, and the tombstone of the state that this was to replace. The
/// writer of the fresh claim dies: the will is still sent, by who comes next.
#[test]
fn a_tombstone_behind_a_fresh_claim_takes_no_will_with_it() {
    let now = Stage::unread().now;
    let claim = |instance: &str, fresh| {
        let mut claim = Claim::new(instance, 1, 1_764_102_345_000);
        claim.fresh = fresh;
        claim
    };
    let mut body = Body::fresh(now);
    (body.connected, body.expiry, body.will) = (true, 3600, Some(will("gone", 0)));
    let state = |body: &Body, of, instance| State::Goes(Box::new(body.clone())).record("c", of, 1, instance).unwrap();
    let log = vec![
        claim("first", false).record("c").unwrap(),
        state(&body, 0, "first"),
        claim("slow", false).record("c").unwrap(),
        claim("dies", true).record("c").unwrap(),
        state(&Body::fresh(now), 2, "slow"),
        NewRecord::tombstone(Key::Steps("c", 0)),
        NewRecord::tombstone(Key::State("c", 0)),
    ];
    let mut next = Stage::named("next", log);
    next.tail();
    let outputs = next.connect();
    let wills: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::RouteWill { will, .. } => Some(&**will),
            _ => None,
        })
        .collect();
    assert_eq!(wills, [&will("gone", 0)], "{outputs:?}");
}

/// Ten thousand throw-away clients are let on before the log is read, and their claims wait for its end; ten thousand more wait for a barrier that
/// lies a hundred thousand records ahead. No record asks after each of them.
#[test]
fn who_waits_for_a_barrier_costs_the_reading_of_the_log_nothing() {
    const CLIENTS: usize = 10_000;
    const RECORDS: i64 = 100_000;
    let mut stage = Stage::unread();
    let now = stage.now;
    let offer = Offer {
        clean_start: true,
        expiry: 0,
        will: None,
    };
    let other = Claim::new("other", 1, now).record("another").unwrap();
    let answered = |stage: &mut Stage| {
        let outputs = stage.drain();
        assert!(
            outputs
                .iter()
                .all(|output| matches!(output, Output::Connected { present: None, .. }))
        );
        outputs.len()
    };
    LOOKED_AT.set(0);
    let mut claims = 0;
    for (round, barrier) in [(0, 0), (1, 2 * RECORDS)] {
        for number in 0..CLIENTS {
            let id = ConnectionId((round * CLIENTS + number) as u64);
            stage
                .partition
                .connect(id, &format!("{round}c{number}"), offer.clone(), barrier, now);
            assert!(LOOKED_AT.get() <= 8 * CLIENTS, "{number} clients are there");
        }
        assert_eq!(answered(&mut stage), if barrier == 0 { CLIENTS } else { 0 });
        let first = round as i64 * RECORDS;
        for offset in first..first + RECORDS {
            assert_eq!(stage.log.len(), claims, "nothing is claimed before that");
            record_of(&other, offset, |record| stage.partition.read(record, now));
            assert!(LOOKED_AT.get() <= 8 * CLIENTS, "{offset} records are read");
        }
        stage.partition.at_end(first + RECORDS, now, now);
        assert_eq!(answered(&mut stage), if barrier == 0 { 0 } else { CLIENTS });
        claims += CLIENTS;
        assert_eq!(stage.log.len(), claims);
    }
}

/// Its claim comes behind CONNACK, and here behind a session that the same client has made elsewhere meanwhile, as an instance that has not
/// noticed that the client is gone may bring it about. One whose claim was there before is discarded.
#[test]
fn a_claim_that_comes_late_discards_no_session_that_is_younger() {
    for is_younger in [true, false] {
        let mut stage = Stage::unread();
        stage.log.push(Claim::new("elsewhere", 1, stage.now).record("another").unwrap());
        let mut claim = 1;
        if !is_younger {
            claim = 0;
            stage.log[0] = Claim::new("elsewhere", 1, stage.now).record("c").unwrap();
        }
        stage.tail();
        let offer = Offer {
            clean_start: true,
            expiry: 0,
            will: None,
        };
        stage.partition.connect(ME, "c", offer, 1, stage.now);
        if is_younger {
            stage.log.push(Claim::new("elsewhere", 2, stage.now).record("c").unwrap());
        }
        let mut body = Body::fresh(stage.now);
        (body.expiry, body.connected) = (3600, true);
        stage
            .log
            .push(State::Goes(Box::new(body)).record("c", claim, 1, "elsewhere").unwrap());
        let outputs = stage.tail();
        assert!(matches!(outputs[0], Output::Connected { present: None, .. }), "{outputs:?}");
        let reason = ReasonCode::SessionTakenOver;
        let closes = outputs.contains(&Output::Close { connection: ME, reason });
        assert_eq!(closes, is_younger, "{outputs:?}");
        let outputs = stage.connect();
        let Some(Output::Connected { present, .. }) = outputs.last() else {
            panic!("{outputs:?}")
        };
        assert_eq!(present.is_some(), is_younger);
    }
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

/// No claim lies behind its own state: such a key is of another cluster's topic, copied, or somebody's who plays. Were it the highest claim, each state
/// that is written for the client from now on would be one of the past.
#[test]
fn a_state_under_a_claim_that_is_still_to_come_is_nobodys() {
    for claim in [9_000_000_000, 1] {
        let mut stage = Stage::unread();
        let mut body = Body::fresh(stage.now);
        body.expiry = 3600;
        stage.log.push(NewRecord::tombstone(Key::Claim("another")));
        stage
            .log
            .push(State::Goes(Box::new(body)).record("c", claim, 1, "elsewhere").unwrap());
        stage.log.push(Steps::default().record("c", claim.max(2), 2).unwrap());
        stage.tail();
        for present in [false, true] {
            let outputs = stage.connect();
            let [Output::Connected { present: found, .. }] = &outputs[..] else {
                panic!("under {claim}: {outputs:?}")
            };
            assert_eq!(found.is_some(), present, "under {claim}");
            stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
            stage.tail();
        }
        // And it leaves the log, alone.
        stage.partition.members(Some(["me".into()].into()), stage.now);
        for _ in 0..70 {
            stage.now += 1000;
            stage.partition.tick(stage.now);
            stage.tail();
        }
        let foreign = Key::State("c", claim).to_string();
        assert!(stage.log.iter().any(|record| record.key == foreign && record.value.is_none()));
        assert!(stage.partition.index().entry("c").is_some_and(Entry::is_stored), "under {claim}");
    }
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
    for (from, to, fault) in [
        (r#""v":1"#, r#""v":2"#, Fault::UnknownVersion(2)),
        (r#""connected""#, r#""colour""#, Fault::Damaged("a state")),
    ] {
        let mut stage = Stage::new();
        stage.connect();
        stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
        stage.tail();
        let last = stage.log.last_mut().unwrap();
        let damaged = String::from_utf8(last.value.clone().unwrap()).unwrap().replace(from, to);
        last.value = Some(damaged.into_bytes());
        let records = stage.log.len();
        let reason = ReasonCode::ServerUnavailable;
        let told = Output::Unreadable {
            client: "c".into(),
            fault,
            replaced: false,
        };
        assert_eq!(stage.connect(), [told, Output::Refuse { connection: ME, reason }]);
        assert_eq!(stage.log.len(), records + 1, "a claim, and nothing over the state");
    }
}

fn state_of(log: &[NewRecord]) -> Option<Body> {
    let value = log
        .iter()
        .rev()
        .find(|record| record.key.starts_with("state:c@") && record.value.is_some())?;
    match State::parse(value.value.as_ref()?).unwrap() {
        (_, State::Goes(body)) => Some(*body),
        _ => None,
    }
}

fn will(text: &str, delay: u32) -> StoredWill {
    StoredWill {
        topic: "gone".into(),
        payload: text.into(),
        delay,
        qos: QoS::AtLeastOnce,
        retain: false,
        payload_format: None,
        expiry: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user: Vec::new(),
        identity: None,
    }
}

/// A client that is away, with its will on the way, comes back with another expiry and another will, and is refused before it is answered: by the relay
/// when the session is its own, or because Kafka is slow. Nothing of that CONNECT counts.
#[test]
fn a_connect_that_was_never_answered_leaves_the_session_as_it_was() {
    for is_read_back in [true, false] {
        let mut stage = Stage::new();
        let offer = |expiry, text| Offer {
            clean_start: false,
            expiry,
            will: Some(will(text, 30)),
        };
        stage.partition.connect(ME, "c", offer(3600, "first"), 0, stage.now);
        stage.tail();
        stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
        stage.tail();
        let left = stage.now;
        stage.now += 10_000;
        stage.partition.connect(ConnectionId(2), "c", offer(0, "second"), 0, stage.now);
        if is_read_back {
            stage.tail();
        } else {
            // The claim is read; the state is on its way.
            stage.drain();
            let claim = stage.log.len();
            while stage.read < claim {
                let (record, now) = (stage.log[stage.read].clone(), stage.now);
                record_of(&record, stage.read as i64, |record| stage.partition.read(record, now));
                stage.read += 1;
                stage.drain();
            }
        }
        stage.partition.disconnected(ConnectionId(2), End::Refused, stage.now);
        stage.tail();
        let body = state_of(&stage.log).expect("the session goes on");
        assert_eq!((body.connected, body.since, body.expiry), (false, left, 3600), "{is_read_back}");
        assert_eq!(body.will, Some(will("first", 30)));
        assert_eq!(body.sending, []);
        stage.now += 20_000;
        stage.partition.tick(stage.now);
        let outputs = stage.tail();
        let [Output::RouteWill { will: sent, .. }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(**sent, will("first", 30));
    }
}

/// Kafka is slow; the client gives up before it is answered, and comes again. What was written for it before says that it is there and has a will:
/// nobody is told "gone" of a client that never was there.
#[test]
fn the_will_of_a_connect_that_was_never_answered_is_not_sent() {
    for gives_up in [true, false] {
        let mut stage = Stage::new();
        let reads = |stage: &mut Stage| {
            stage.drain();
            for _ in stage.read..stage.log.len() {
                let (record, now) = (stage.log[stage.read].clone(), stage.now);
                record_of(&record, stage.read as i64, |record| stage.partition.read(record, now));
                stage.read += 1;
            }
            stage.drain();
        };
        for number in 1..4 {
            let offer = Offer {
                clean_start: false,
                expiry: 3600,
                will: Some(will("gone", 0)),
            };
            let id = ConnectionId(number);
            stage.partition.connect(id, "c", offer, 0, stage.now);
            // Its claim, and what was written for the one before.
            reads(&mut stage);
            if gives_up {
                stage.partition.disconnected(id, End::Refused, stage.now);
            }
        }
        assert_eq!(state_of(&stage.log).and_then(|body| body.will), Some(will("gone", 0)));
        let outputs = stage.connect();
        let sent = outputs.iter().any(|output| matches!(output, Output::RouteWill { .. }));
        assert!(!sent, "{outputs:?}");
        let Some(Output::Connected { present: None, .. }) = outputs.last() else {
            panic!("it has no session yet: {outputs:?}")
        };
    }
}

/// The client does not know of the session that it would have got: it is not there the next time.
#[test]
fn a_connect_that_was_never_answered_makes_no_session() {
    let mut stage = Stage::new();
    stage.connect();
    stage.partition.disconnected(ME, End::Refused, stage.now);
    stage.tail();
    let outputs = stage.connect();
    assert!(matches!(outputs[..], [Output::Connected { present: None, .. }]), "{outputs:?}");
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

/// A SUBSCRIBE costs one record, however short the walk over its retained messages is.
#[test]
fn a_walk_that_goes_on_is_written_once_a_second_and_that_one_is_over_with_the_next_record() {
    let mut stage = Stage::new();
    stage.connect();
    let walked = |stage: &mut Stage, behind: Option<&str>| {
        let walk = behind.map(|behind| Walk {
            behind: behind.to_owned(),
            again: false,
        });
        stage.partition.walked(ME, "a/#".into(), walk, stage.now);
    };
    let ticks = |stage: &mut Stage| {
        stage.now += 1001;
        stage.partition.tick(stage.now);
        stage.tail();
        stage.log.len()
    };
    let stands = |stage: &Stage| found(&stage.log, "c").walks.get("a/#").map(|walk| walk.behind.clone());
    walked(&mut stage, Some(""));
    stage.partition.subscribe(ME, 1, vec![subscription(0)], stage.now);
    stage.tail();
    let records = stage.log.len();
    assert_eq!(ticks(&mut stage), records);
    ["a/1", "a/2", "a/3"].into_iter().for_each(|topic| walked(&mut stage, Some(topic)));
    assert_eq!(ticks(&mut stage), records + 1);
    walked(&mut stage, None);
    assert_eq!(ticks(&mut stage), records + 1);
    assert_eq!(stands(&stage).as_deref(), Some("a/3"));
    stage.partition.position(ME, SOURCE, 7, stage.now);
    assert_eq!(ticks(&mut stage), records + 2);
    assert_eq!(stands(&stage), None);
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
/// what was stored; but not what may be of a later connection, and if it has left by then it claims nothing.
#[test]
fn a_clean_start_before_the_log_is_read_is_claimed_after_that() {
    for (leaves, age) in [(false, 120_000), (false, 0), (true, 120_000)] {
        let mut stage = Stage::unread();
        let mut body = Body::fresh(stage.now - age);
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
        assert_eq!(present.is_some(), leaves || age == 0, "{outputs:?}");
    }
}

/// Another connection.
const NEIGHBOUR: ConnectionId = ConnectionId(2);

impl Stage {
    /// A session that has settled everything below 10.
    fn reads(&mut self, connection: ConnectionId, client: &str) {
        let offer = Offer {
            clean_start: false,
            expiry: 3600,
            will: None,
        };
        self.partition.connect(connection, client, offer, 0, self.now);
        self.tail();
        self.partition.position(connection, SOURCE, 10, self.now);
        self.partition.subscribe(connection, 1, vec![subscription(1)], self.now);
        self.tail();
    }

    /// A checkpoint with the feed there, while these have settled all. How many records it came to.
    fn checkpoint(&mut self, feed: i64, rest: &[ConnectionId]) -> usize {
        self.checkpoint_of(&[(SOURCE, feed)].into(), rest)
    }

    /// The same with these feeds.
    fn checkpoint_of(&mut self, feeds: &BTreeMap<Source, i64>, rest: &[ConnectionId]) -> usize {
        let before = self.log.len();
        self.partition.checkpoint(feeds, |connection| rest.contains(&connection), self.now);
        self.tail();
        self.log.len() - before
    }
}

/// Another instance claims the session: where it stands, and what is open.
fn found(log: &[NewRecord], client: &str) -> Steps {
    let mut other = Stage::named("other", log.to_vec());
    other.tail();
    let offer = Offer {
        clean_start: false,
        expiry: 3600,
        will: None,
    };
    other.partition.connect(NEIGHBOUR, client, offer, 0, other.now);
    match &other.tail()[..] {
        [Output::Connected { present: Some(body), .. }] => body.steps.clone(),
        outputs => panic!("{outputs:?}"),
    }
}

fn position(log: &[NewRecord], client: &str) -> i64 {
    found(log, client).positions[&SOURCE]
}

#[test]
fn a_session_at_the_tail_stands_at_the_checkpoint_of_who_owned_it_and_writes_nothing() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    assert_eq!(stage.checkpoint(50, &[ME]), 2, "it says that it is at the tail");
    assert_eq!(stage.checkpoint(50, &[ME]), 0, "there is nothing new");
    for feed in 51..100 {
        stage.partition.position(ME, SOURCE, feed, stage.now);
        stage.now += 1001;
        stage.partition.tick(stage.now);
        assert_eq!(stage.checkpoint(feed, &[ME]), 1);
    }
    assert_eq!(
        found(&stage.log, "c"),
        Steps {
            positions: [(SOURCE, 99)].into(),
            ..Steps::default()
        }
    );
    // What the next owner writes is its own: checkpoints of the former speak for it no more.
    let mut log = stage.log.clone();
    let mut other = Stage::named("other", log.clone());
    other.tail();
    other.reads(NEIGHBOUR, "c");
    log = other.log;
    stage.checkpoint(500, &[ME]);
    log.extend(stage.log.last().cloned());
    assert_eq!(position(&log, "c"), 10);
}

#[test]
fn a_session_that_is_slower_than_a_checkpoint_goes_by_its_own_and_holds_nobody_up() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.reads(NEIGHBOUR, "d");
    stage.checkpoint(50, &[ME, NEIGHBOUR]);
    stage.partition.position(ME, SOURCE, 60, stage.now);
    stage.checkpoint(100, &[NEIGHBOUR]);
    assert_eq!(position(&stage.log, "d"), 60, "it waits once");
    assert_eq!(
        stage.checkpoint(200, &[NEIGHBOUR]),
        2,
        "c says that it is behind, and the checkpoint goes on"
    );
    assert_eq!((position(&stage.log, "c"), position(&stage.log, "d")), (60, 200));
    // It writes for itself.
    stage.partition.position(ME, SOURCE, 70, stage.now);
    stage.now += 1001;
    stage.partition.tick(stage.now);
    stage.tail();
    stage.checkpoint(300, &[NEIGHBOUR]);
    assert_eq!((position(&stage.log, "c"), position(&stage.log, "d")), (70, 300));
    stage.checkpoint(400, &[ME, NEIGHBOUR]);
    assert_eq!(position(&stage.log, "c"), 400, "it has caught up");
}

/// Who is behind comes back, and a checkpoint is due before it has taken its seats: nobody reads its source then, and what the last checkpoint says
/// of that source was settled by somebody else.
#[test]
fn a_session_that_reads_nothing_yet_stands_where_it_stood_and_not_at_the_last_checkpoint() {
    for last_has_left in [false, true] {
        let mut stage = Stage::new();
        stage.reads(ME, "c");
        stage.reads(NEIGHBOUR, "d");
        for _ in 0..2 {
            stage.checkpoint(1000, &[NEIGHBOUR]);
        }
        assert_eq!((position(&stage.log, "c"), position(&stage.log, "d")), (10, 1000));
        if last_has_left {
            stage.partition.disconnected(NEIGHBOUR, End::Lost { expiry: None }, stage.now);
        }
        stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
        stage.tail();
        let outputs = stage.connect();
        let [Output::Connected { present: Some(body), .. }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(body.steps.positions[&SOURCE], 10);
        for rest in [&[][..], &[NEIGHBOUR]] {
            stage.checkpoint_of(&BTreeMap::new(), rest);
            assert_eq!(position(&stage.log, "c"), 10);
        }
        // It sits in it now, among others.
        for _ in 0..3 {
            stage.checkpoint(1000, &[NEIGHBOUR]);
            assert_eq!(position(&stage.log, "c"), 10);
        }
        stage.checkpoint(1000, &[ME]);
        assert_eq!(position(&stage.log, "c"), 1000);
    }
}

/// The process dies between any two records: a message that was to be sent is open, or lies above the position.
#[test]
fn what_a_checkpoint_rests_on_comes_before_it() {
    for exactly_once in [true, false] {
        let mut stage = Stage::new();
        stage.reads(ME, "c");
        stage.checkpoint(50, &[ME]);
        let before = stage.log.len();
        let place = Place {
            source: SOURCE,
            offset: 60,
        };
        match exactly_once {
            true => stage.partition.send(ME, 5, place, stage.now),
            false => stage.partition.sent(ME, 5, place, stage.now),
        }
        stage.partition.position(ME, SOURCE, 61, stage.now);
        stage.checkpoint(100, &[]);
        assert!(stage.log.len() > before + 1);
        for end in before..=stage.log.len() {
            let Steps {
                outbound,
                flight,
                positions,
                ..
            } = found(&stage.log[..end], "c");
            let is_open = outbound.contains_key(&5) || flight.contains_key(&5);
            assert!(is_open || positions[&SOURCE] <= 60, "{positions:?} after {end} records");
        }
    }
}

/// It has forgotten its sessions, and what it writes afterwards speaks for those only that it has claimed since.
#[test]
fn an_instance_that_stepped_down_speaks_for_nobody_of_before() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.checkpoint(50, &[ME]);
    stage.partition.step_down();
    stage.drain();
    stage.read = 0;
    stage.tail();
    stage.reads(NEIGHBOUR, "d");
    stage.checkpoint(500, &[NEIGHBOUR]);
    assert_eq!(position(&stage.log, "d"), 500);
    assert!(position(&stage.log, "c") <= 50);
}

/// It is claimed elsewhere by somebody who dies before it has written a state: whoever is next goes by what the former owner wrote.
#[test]
fn a_session_that_was_taken_away_is_spoken_for_until_another_state_is_read() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.reads(NEIGHBOUR, "d");
    stage.checkpoint(50, &[ME, NEIGHBOUR]);
    stage.log.push(Claim::new("gone", 1, stage.now).record("c").unwrap());
    stage.tail();
    stage.checkpoint(100, &[ME, NEIGHBOUR]);
    assert_eq!(position(&stage.log, "c"), 50);
    let claim = stage.log.len() as i64;
    stage.log.push(Claim::new("third", 1, stage.now).record("c").unwrap());
    let body = Box::new(Body::fresh(stage.now));
    stage.log.push(State::Goes(body).record("c", claim, 2, "third").unwrap());
    stage.tail();
    stage.checkpoint(200, &[NEIGHBOUR]);
    assert_eq!(position(&stage.log, "d"), 200);
}

/// It is claimed by one that cannot read it, and writes no state: others are kept back for a minute and no longer, and it stands where it stood.
#[test]
fn a_session_that_is_claimed_and_never_written_holds_checkpoints_for_a_minute() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.reads(NEIGHBOUR, "d");
    stage.checkpoint(50, &[ME, NEIGHBOUR]);
    stage.log.push(Claim::new("gone", 1, stage.now).record("c").unwrap());
    stage.tail();
    let before = stage.log.len();
    for feed in 100..115 {
        stage.now += 5000;
        stage.tail();
        stage.checkpoint(feed, &[NEIGHBOUR]);
    }
    let mut past = 50;
    for end in before..=stage.log.len() {
        let (c, d) = (position(&stage.log[..end], "c"), position(&stage.log[..end], "d"));
        assert_eq!(c, 50, "after {end} records");
        assert!(d >= past, "{d} after {end} records");
        past = d;
    }
    assert_eq!(past, 114);
    assert!(stage.log.len() <= before + 1 + 15, "each says once that another run speaks for it");
}

/// The former owner does not know yet that it is one: steps that it writes behind the claim are nobody's, and its checkpoint rests on them. By the
/// time that the claimer has got the bodies it has read that checkpoint.
#[test]
fn a_checkpoint_that_comes_behind_a_claim_says_nothing_to_the_claimer() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.checkpoint(50, &[ME]);
    let before = stage.log.len();
    stage.partition.send(
        ME,
        5,
        Place {
            source: SOURCE,
            offset: 60,
        },
        stage.now,
    );
    stage.partition.position(ME, SOURCE, 61, stage.now);
    stage.checkpoint(100, &[]);
    let late = stage.log.split_off(before);
    assert!(late.len() > 1, "steps, and a checkpoint");
    let mut other = Stage::named("other", stage.log);
    other.tail();
    let offer = Offer {
        clean_start: false,
        expiry: 3600,
        will: None,
    };
    other.partition.connect(NEIGHBOUR, "c", offer, 0, other.now);
    let Some(Output::Append(claim)) = other.partition.poll() else {
        panic!()
    };
    other.log.extend(claim);
    other.log.extend(late);
    let mut fetches = Vec::new();
    while other.read < other.log.len() {
        let (record, now) = (other.log[other.read].clone(), other.now);
        record_of(&record, other.read as i64, |record| other.partition.read(record, now));
        other.read += 1;
        while let Some(output) = other.partition.poll() {
            let Output::Fetch { serial, offset } = output else {
                panic!("{output:?}")
            };
            fetches.push((serial, offset));
        }
    }
    for (serial, offset) in fetches {
        let (record, now) = (other.log[offset as usize].clone(), other.now);
        record_of(&record, offset, |record| other.partition.fetched(serial, Some(record), now));
    }
    let outputs = other.tail();
    let [Output::Connected { present: Some(body), .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert!(body.steps.outbound.is_empty());
    assert_eq!(body.steps.positions[&SOURCE], 50);
}

/// An unclean election: what is written where the log was cut off is new.
#[test]
fn a_checkpoint_goes_back_with_a_log_that_was_cut_off() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.checkpoint(100, &[ME]);
    stage.checkpoint(70, &[ME]);
    assert_eq!(position(&stage.log, "c"), 70);
    stage.checkpoint(80, &[ME]);
    assert_eq!(position(&stage.log, "c"), 80);
    // Its connection was told sooner.
    stage.partition.position(ME, SOURCE, 60, stage.now);
    stage.now += 1001;
    stage.partition.tick(stage.now);
    stage.tail();
    assert_eq!(position(&stage.log, "c"), 60);
}

/// A checkpoint that cannot be read, or is none of ours, costs the age of a position and nothing else.
#[test]
fn a_damaged_checkpoint_counts_as_none() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.checkpoint(50, &[ME]);
    stage.checkpoint(60, &[ME]);
    let mut log = stage.log.clone();
    let last = log.last_mut().unwrap();
    last.value = Some(b"{\"v\":1,\"run\":1}".to_vec());
    assert_eq!(position(&log, "c"), 50);
    log.last_mut().unwrap().value = Some(b"{\"v\":2}".to_vec());
    assert_eq!(position(&log, "c"), 50);
}

/// As long as a session may go by it, it stays; then the custodian removes it.
#[test]
fn checkpoints_of_an_instance_that_is_gone_are_removed_after_its_sessions_were_claimed() {
    let mut stage = Stage::new();
    stage.reads(ME, "c");
    stage.checkpoint(50, &[ME]);
    stage.checkpoint(90, &[ME]);
    let mut custodian = Stage::named("custodian", stage.log.clone());
    custodian.tail();
    custodian.partition.members(Some(["custodian".into()].into()), custodian.now);
    let removed = |stage: &Stage| {
        stage
            .log
            .iter()
            .position(|record| record.key == "checkpoint:me" && record.value.is_none())
    };
    for _ in 0..200 {
        custodian.now += 1000;
        custodian.partition.tick(custodian.now);
        custodian.tail();
    }
    let at = removed(&custodian).expect("it is removed");
    assert_eq!(position(&custodian.log[..at], "c"), 90, "it was claimed before");
    assert_eq!(position(&custodian.log, "c"), 90);
    let tombstones = custodian
        .log
        .iter()
        .filter(|record| record.key == "checkpoint:me" && record.value.is_none());
    assert_eq!(tombstones.count(), 1);
}

#[test]
fn without_the_steps_of_a_checkpoint() {
    goes_wrong_without(Guard::CheckpointAfterSteps, what_a_checkpoint_rests_on_comes_before_it);
}

#[test]
fn without_a_run_of_its_own() {
    goes_wrong_without(Guard::OwnRun, an_instance_that_stepped_down_speaks_for_nobody_of_before);
}

#[test]
fn without_a_look_at_the_claim() {
    goes_wrong_without(
        Guard::CheckpointBeforeClaim,
        a_checkpoint_that_comes_behind_a_claim_says_nothing_to_the_claimer,
    );
}

#[test]
fn without_holding_for_who_was_taken_away() {
    goes_wrong_without(
        Guard::HoldForgotten,
        a_session_that_was_taken_away_is_spoken_for_until_another_state_is_read,
    );
}

#[test]
fn without_another_run_for_who_is_held_too_long() {
    goes_wrong_without(
        Guard::ReleaseByRun,
        a_session_that_is_claimed_and_never_written_holds_checkpoints_for_a_minute,
    );
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

/// What a session finds that nothing is known of is read from when its client left. A connection that was never let in, or whose instance died,
/// leaves that as it is: it may have got nothing.
#[test]
fn when_a_client_has_left_is_known_until_one_is_let_in_and_gone() {
    let mut stage = Stage::new();
    stage.connect();
    let left = |outputs: &[Output]| match outputs {
        [Output::Connected { present, .. }] => present.as_ref().unwrap().left,
        _ => panic!("{outputs:?}"),
    };
    stage.now += 10_000;
    stage.partition.disconnected(ME, End::Lost { expiry: None }, stage.now);
    stage.tail();
    let first = stage.now;
    stage.now += 10_000;
    assert_eq!(left(&stage.connect()), Some(first));
    stage.now += 10_000;
    stage.partition.disconnected(ME, End::Refused, stage.now);
    stage.tail();
    stage.now += 10_000;
    assert_eq!(left(&stage.connect()), Some(first), "nobody was let in");
    let mut other = Stage::named("other", stage.log.clone());
    other.now = stage.now + 10_000;
    other.tail();
    assert_eq!(left(&other.connect()), Some(first), "the instance has died");
    other.now += 10_000;
    other.partition.disconnected(ME, End::Goodbye { expiry: None }, other.now);
    other.tail();
    let second = other.now;
    other.now += 10_000;
    assert_eq!(left(&other.connect()), Some(second));
}

/// What Kafka says to a record of a partition: of each producer it remembers the last five.
fn kafka_says(known: &mut BTreeMap<i64, Vec<i32>>, pair: &Pair) -> Outcome {
    let there = known.entry(pair.producer).or_default();
    match (there.iter().rev().take(5).any(|known| *known == pair.sequence), there.len() as i32) {
        (true, _) => Outcome::Appended,
        (false, next) if next == pair.sequence => {
            there.push(pair.sequence);
            Outcome::Appended
        }
        _ => Outcome::Gap,
    }
}

/// A will that makes twelve records in one partition: its owner dies when eleven of them are there, and the heir begins with the first.
#[test]
fn a_will_of_more_records_than_kafka_remembers_of_a_producer_is_sent_whole() {
    let mut a = Stage::new();
    let offer = Offer {
        clean_start: false,
        expiry: 3600,
        will: Some(will("gone", 0)),
    };
    a.partition.connect(ME, "c", offer, 0, a.now);
    a.tail();
    a.partition.disconnected(ME, End::Lost { expiry: None }, a.now);
    let outputs = a.tail();
    let Some(Output::RouteWill { tenure, number, .. }) = outputs.last().cloned() else {
        panic!("{outputs:?}")
    };
    a.partition.will_routed(&tenure, number, vec![SOURCE; 12], a.now);
    let mut outputs = a.tail();
    let mut ids = 5..;
    while matches!(outputs.last(), Some(Output::ProducerId { .. })) {
        a.partition.producer_id(&tenure, Some(number), ids.next().unwrap(), 0, a.now);
        outputs = a.tail();
    }
    let mut kafka = BTreeMap::new();
    for _ in 0..11 {
        let Some(Output::Produce { pair, .. }) = outputs.last() else {
            panic!("{outputs:?}")
        };
        let outcome = kafka_says(&mut kafka, pair);
        outputs = a.answer(&outputs, outcome);
    }
    let mut b = Stage::named("b", a.log.clone());
    b.tail();
    let mut outputs = b.connect();
    outputs.retain(|output| matches!(output, Output::Produce { .. }));
    while let Some(Output::Produce { pair, .. }) = outputs.last() {
        let outcome = kafka_says(&mut kafka, pair);
        outputs = b.answer(&outputs, outcome);
    }
    assert_eq!(kafka.values().map(Vec::len).sum::<usize>(), 12);
    assert_eq!(state_of(&b.log).map(|body| body.sending.len()), Some(0), "it is over");
}
