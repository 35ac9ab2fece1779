//! A share session played by hand.

use kafka_protocol::messages::share_fetch_response::{AcquiredRecords, LeaderIdAndEpoch, ShareFetchableTopicResponse};

use super::*;

const TOPIC: Uuid = Uuid::from_u128(7);

fn session(partitions: i32) -> Session {
    let mut session = Session::new("g".to_owned(), "m".to_owned());
    session.want(&(0..partitions).map(|index| (TOPIC, index)).collect());
    session
}

fn lease(session: &Session, partition: i32) -> Lease {
    session.parts[&(TOPIC, partition)].lease
}

fn data(partition: i32) -> PartitionData {
    PartitionData::default().with_partition_index(partition)
}

fn locked(partition: i32, ranges: &[(i64, i64)]) -> PartitionData {
    let ranges = ranges.iter().map(|(first, last)| {
        AcquiredRecords::default()
            .with_first_offset(*first)
            .with_last_offset(*last)
            .with_delivery_count(1)
    });
    data(partition).with_acquired_records(ranges.collect())
}

fn answer(partitions: Vec<PartitionData>) -> ShareFetchResponse {
    let topic = ShareFetchableTopicResponse::default()
        .with_topic_id(TOPIC)
        .with_partitions(partitions);
    ShareFetchResponse::default()
        .with_acquisition_lock_timeout_ms(20_000)
        .with_responses(vec![topic])
}

fn batch(first: i64, last: i64, kind: AckKind) -> AckBatch {
    AckBatch { first, last, kind }
}

/// Acknowledgements of a request by their partitions.
fn acks(request: &ShareFetch) -> Vec<(i32, Vec<AckBatch>)> {
    request.pieces.iter().map(|piece| (piece.partition, piece.acks.clone())).collect()
}

/// One that has so many records of the first partition.
fn holding(last: i64, now: Instant) -> (Session, Lease) {
    let mut session = session(1);
    session.next(now, 10).unwrap();
    session.take(answer(vec![locked(0, &[(0, last)])]), now).unwrap();
    let lease = lease(&session, 0);
    (session, lease)
}

#[test]
fn it_is_opened_with_all_partitions_once_there_is_room_and_counts_its_requests() {
    let now = Instant::now();
    let mut session = session(2);
    assert_eq!(session.next(now, 0), None, "nobody has room");
    let opening = session.next(now, 5).unwrap();
    assert_eq!((opening.epoch, opening.max_records), (0, 5));
    assert_eq!(acks(&opening), [(0, vec![]), (1, vec![])]);
    let news = session.take(answer(vec![locked(1, &[(3, 4), (9, 9)])]), now).unwrap();
    let range = |first, last| AcquiredRange {
        first,
        last,
        deliveries: 1,
    };
    let acquired = News::Acquired {
        place: (TOPIC, 1),
        lease: lease(&session, 1),
        records: Bytes::new(),
        ranges: vec![range(3, 4), range(9, 9)],
    };
    assert_eq!(news, [acquired]);
    let next = session.next(now, 2).unwrap();
    assert_eq!(
        (next.epoch, next.max_records, next.pieces.len()),
        (1, 2, 0),
        "only what is new is named"
    );
    session.take(answer(vec![]), now).unwrap();
    assert_eq!(session.next(now, 2).unwrap().epoch, 2);
}

#[test]
fn acknowledgements_go_in_order_and_as_few_batches_as_can_be_and_only_of_what_is_held() {
    let now = Instant::now();
    let (mut session, lease) = holding(9, now);
    for offset in [4, 0, 1, 3, 7, 2, 7, 11] {
        session.acknowledge(lease, (offset, offset), AckKind::Accept);
    }
    session.acknowledge(lease, (5, 6), AckKind::Release);
    let request = session.next(now, 0).unwrap();
    let expected = vec![
        batch(0, 4, AckKind::Accept),
        batch(5, 6, AckKind::Release),
        batch(7, 7, AckKind::Accept),
    ];
    assert_eq!(acks(&request), [(0, expected)]);
    assert!(!request.fetches());
    session.take(answer(vec![data(0)]), now).unwrap();
    assert_eq!(session.next(now, 0), None, "each is told once");
    session.acknowledge(lease, (8, 8), AckKind::Accept);
    assert!(session.next(now, 3).unwrap().fetches(), "they go with a fetch if there is one");
}

#[test]
fn those_that_are_refused_together_go_in_halves_and_only_the_late_ones_count() {
    let now = Instant::now();
    let (mut session, lease) = holding(2, now);
    session.acknowledge(lease, (0, 2), AckKind::Accept);
    session.next(now, 0).unwrap();
    let refused = || answer(vec![data(0).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code())]);
    assert_eq!(session.take(refused(), now).unwrap(), [], "some of them may be good");
    for ((first, last), is_late, news) in [
        ((0, 0), false, vec![]),
        ((1, 2), true, vec![]),
        ((1, 1), true, vec![News::Late(1)]),
        ((2, 2), false, vec![]),
    ] {
        let request = session.next(now, 5).unwrap();
        assert_eq!(acks(&request), [(0, vec![batch(first, last, AckKind::Accept)])]);
        let told = if is_late { refused() } else { answer(vec![data(0)]) };
        assert_eq!(session.take(told, now).unwrap(), news);
    }
    assert_eq!(session.next(now, 0), None);
}

/// Some are given back too late, in a request whose answer hands them out anew: to give them back once more would take them from who has them.
#[test]
fn a_release_that_was_refused_is_not_of_what_is_acquired_anew() {
    let now = Instant::now();
    let (mut session, lease) = holding(9, now);
    session.acknowledge(lease, (0, 3), AckKind::Accept);
    session.acknowledge(lease, (4, 9), AckKind::Release);
    session.next(now, 5).unwrap();
    let anew = locked(0, &[(5, 6)]).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code());
    session.take(answer(vec![anew]), now).unwrap();
    let mut released = Vec::new();
    let mut accepted = Vec::new();
    while let Some(request) = session.next(now, 0) {
        for ack in acks(&request).into_iter().flat_map(|(_, acks)| acks) {
            let kept = match ack.kind {
                AckKind::Release => &mut released,
                _ => &mut accepted,
            };
            kept.extend(ack.first..=ack.last);
        }
        session.take(answer(vec![data(0)]), now).unwrap();
    }
    released.sort_unstable();
    accepted.sort_unstable();
    assert_eq!((accepted, released), (vec![0, 1, 2, 3], vec![4, 7, 8, 9]));
}

#[test]
fn what_is_held_for_half_of_its_lock_is_renewed_alone_until_it_is_acknowledged_or_gone() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let (mut session, lease) = holding(2, start);
    assert_eq!(session.next(at(9), 0), None);
    session.acknowledge(lease, (0, 0), AckKind::Accept);
    let request = session.next(at(15), 9).unwrap();
    let renewed = vec![batch(0, 0, AckKind::Accept), batch(1, 2, AckKind::Renew)];
    assert_eq!((acks(&request), request.fetches()), (vec![(0, renewed)], false));
    session.take(answer(vec![data(0)]), at(15)).unwrap();
    assert_eq!(session.next(at(22), 0), None, "their locks have begun anew");
    // Refused together, one is acknowledged meanwhile, and one is gone.
    session.next(at(30), 0).unwrap();
    let refused = || answer(vec![data(0).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code())]);
    session.take(refused(), at(30)).unwrap();
    session.acknowledge(lease, (1, 1), AckKind::Accept);
    assert_eq!(acks(&session.next(at(30), 0).unwrap()), [(0, vec![batch(2, 2, AckKind::Renew)])]);
    assert_eq!(session.take(refused(), at(30)).unwrap(), [News::Expired(lease, 2)]);
    assert_eq!(acks(&session.next(at(30), 0).unwrap()), [(0, vec![batch(1, 1, AckKind::Accept)])]);
    session.take(answer(vec![data(0)]), at(30)).unwrap();
    session.acknowledge(lease, (2, 2), AckKind::Accept);
    assert_eq!(session.next(at(60), 0), None, "nothing is said of what is gone");
}

#[test]
fn whatever_a_partition_is_refused_for_what_was_acquired_of_it_is_lost_and_it_is_asked_for_anew() {
    // Another leads; the leader's epoch; the topic is gone; the state is fenced; the log cannot be read; no right to it.
    for code in [6, 74, 3, 100, 124, 56, 29, -1] {
        for by_acknowledgement in [false, true] {
            let now = Instant::now();
            let (mut session, lease) = holding(3, now);
            session.acknowledge(lease, (0, 0), AckKind::Accept);
            session.next(now, 5).unwrap();
            let leader = LeaderIdAndEpoch::default().with_leader_id(2).with_leader_epoch(9);
            let data = data(0).with_current_leader(leader);
            let data = if by_acknowledgement {
                data.with_acknowledge_error_code(code)
            } else {
                data.with_error_code(code)
            };
            let refused = News::Refused {
                place: (TOPIC, 0),
                error: code.into(),
                leader: (2, 9),
            };
            assert_eq!(session.take(answer(vec![data]), now).unwrap(), [News::Lost(lease), refused]);
            session.acknowledge(lease, (1, 1), AckKind::Accept);
            let request = session.next(now, 5).unwrap();
            assert_eq!(acks(&request), [(0, vec![])], "{code}: no word of what is lost");
        }
    }
}

#[test]
fn a_session_that_the_broker_does_not_know_so_is_begun_anew() {
    // Not found, not the epoch that was expected, no room for one more; and what no broker should say.
    for code in [122, 123, 133, -1] {
        let now = Instant::now();
        let (mut session, lease) = holding(3, now);
        session.next(now, 5).unwrap();
        let refused = answer(vec![]).with_error_code(code);
        assert_eq!(session.take(refused, now).unwrap_err().code(), code);
        assert_eq!(session.restart(), [lease]);
        let opening = session.next(now, 5).unwrap();
        assert_eq!((opening.epoch, acks(&opening)), (0, vec![(0, vec![])]));
        assert_ne!(self::lease(&session, 0), lease);
    }
    let now = Instant::now();
    let mut session = session(1);
    session.next(now, 5).unwrap();
    for range in [(0, i64::MAX), (5, 4), (0, MOST_ACQUIRED)] {
        assert!(session.take(answer(vec![locked(0, &[range])]), now).is_err(), "{range:?}");
    }
}

#[test]
fn a_partition_that_is_not_read_any_more_is_forgotten_and_can_still_be_acknowledged() {
    let now = Instant::now();
    let (mut session, lease) = holding(1, now);
    session.want(&BTreeSet::from([(TOPIC, 1)]));
    let request = session.next(now, 5).unwrap();
    assert_eq!((acks(&request), request.forgotten), (vec![(1, vec![])], vec![(TOPIC, 0)]));
    session.take(answer(vec![]), now).unwrap();
    session.acknowledge(lease, (0, 1), AckKind::Accept);
    let request = session.next(now, 5).unwrap();
    assert_eq!(acks(&request), [(0, vec![batch(0, 1, AckKind::Accept)])]);
    session.take(answer(vec![]), now).unwrap();
    // To be acknowledged it was named, which is to be forgotten again.
    assert_eq!(session.next(now, 5).unwrap().forgotten, [(TOPIC, 0)]);
    session.take(answer(vec![]), now).unwrap();
    assert_eq!(session.parts.len(), 1);
}

#[test]
fn the_last_request_takes_acknowledgements_with_it() {
    let now = Instant::now();
    assert_eq!(session(1).close(), None, "it was never opened");
    let (mut session, lease) = holding(3, now);
    session.acknowledge(lease, (2, 2), AckKind::Accept);
    let last = session.close().unwrap();
    assert_eq!((last.epoch, acks(&last)), (-1, vec![(0, vec![batch(2, 2, AckKind::Accept)])]));
}

/// One lock among two hundred has run out: what was acknowledged in time is told in a few requests, none of which waits for records.
#[test]
fn one_that_comes_too_late_holds_up_none_of_those_that_are_acknowledged_with_it() {
    for late in [0, 77, 199] {
        for closes in [false, true] {
            let now = Instant::now();
            let (mut session, lease) = holding(199, now);
            session.acknowledge(lease, (0, 199), AckKind::Accept);
            if closes {
                session.begin_close();
            }
            let (mut told, mut requests) = (BTreeSet::new(), 0);
            while told.len() < 199 {
                let request = session.next(now, if closes { 0 } else { 5 }).unwrap();
                let [(0, sent)] = &acks(&request)[..] else { panic!("{request:?}") };
                requests += 1;
                assert_eq!(request.max_records > 0, requests == 1 && !closes);
                let offsets: Vec<i64> = sent.iter().flat_map(|ack| ack.first..=ack.last).collect();
                if offsets.contains(&late) {
                    let refused = data(0).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code());
                    session.take(answer(vec![refused]), now).unwrap();
                } else {
                    told.extend(offsets);
                    session.take(answer(vec![data(0)]), now).unwrap();
                }
            }
            assert!(requests <= 18, "{requests} requests");
            assert!(!told.contains(&late));
        }
    }
}

/// Renewals were refused together, and all of them are acknowledged before they go one by one: what is asked next is for records.
#[test]
fn renewals_that_are_needless_by_now_keep_nothing_from_being_fetched() {
    let start = Instant::now();
    let later = start + Duration::from_secs(15);
    let (mut session, lease) = holding(1, start);
    session.next(later, 0).unwrap();
    let refused = data(0).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code());
    session.take(answer(vec![refused]), later).unwrap();
    session.acknowledge(lease, (0, 1), AckKind::Accept);
    let request = session.next(later, 5).unwrap();
    assert!(request.fetches());
    assert_eq!(acks(&request), [(0, vec![batch(0, 1, AckKind::Accept)])]);
}

/// An instance that slept longer than its locks last: nobody is asked about them, and what was being taken apart is forgotten.
#[test]
fn locks_that_have_run_out_by_our_own_clock_cost_no_request() {
    let start = Instant::now();
    let renewed = start + Duration::from_secs(15);
    let (mut session, lease) = holding(199, start);
    assert_eq!(acks(&session.next(renewed, 0).unwrap()), [(0, vec![batch(0, 199, AckKind::Renew)])]);
    let refused = || answer(vec![data(0).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code())]);
    session.take(refused(), renewed).unwrap();
    let half = session.next(renewed, 5).unwrap();
    assert_eq!((half.pieces[0].acks.len(), half.fetches()), (100, false));
    session.take(refused(), renewed).unwrap();
    assert_eq!(session.lapsed(), []);
    session.acknowledge(lease, (150, 150), AckKind::Accept);
    // Their locks began before the renewals were sent.
    let request = session.next(renewed + Duration::from_secs(20), 5).unwrap();
    assert!(request.fetches());
    assert_eq!(acks(&request), [(0, vec![batch(150, 150, AckKind::Accept)])]);
    let expired = (0..200).filter(|offset| *offset != 150).map(|offset| News::Expired(lease, offset));
    assert_eq!(session.lapsed(), expired.collect::<Vec<_>>());
    assert_eq!(session.lapsed(), [], "each is told once");
    session.take(answer(vec![data(0)]), renewed + Duration::from_secs(20)).unwrap();
    assert_eq!(session.look_at(), None, "nothing is held");
}

/// The bound of what a refusal costs: here all of two hundred have run out, and only the broker knows.
#[test]
fn all_that_are_refused_one_by_one_take_two_requests_each_at_most() {
    let start = Instant::now();
    let renewed = start + Duration::from_secs(15);
    let (mut session, _) = holding(199, start);
    let (mut requests, mut expired) = (0, 0);
    while let Some(request) = session.next(renewed, 0) {
        assert!(!request.fetches());
        requests += 1;
        let refused = data(0).with_acknowledge_error_code(ErrorCode::INVALID_RECORD_STATE.code());
        expired += session.take(answer(vec![refused]), renewed).unwrap().len();
    }
    assert_eq!(expired, 200);
    assert!(requests < 2 * 200, "{requests}");
}

/// How long locks last is heard with the first of them.
#[test]
fn the_first_locks_are_renewed_in_time_however_short_they_are() {
    let start = Instant::now();
    let mut session = session(1);
    session.next(start, 10).unwrap();
    let short = answer(vec![locked(0, &[(0, 0)])]).with_acquisition_lock_timeout_ms(2_000);
    session.take(short, start).unwrap();
    let look_at = session.look_at().unwrap();
    assert!(look_at <= start + Duration::from_millis(500), "{:?}", look_at - start);
    let request = session.next(start + Duration::from_secs(1), 0).unwrap();
    assert_eq!(acks(&request), [(0, vec![batch(0, 0, AckKind::Renew)])]);
}
