//! How far a client has come, and what is told of it.

use super::*;
use crate::{
    ownership::{Steps, Walk},
    session::Reached,
};
use tokio::sync::mpsc;

const SOURCE: Source = Source {
    topic: [7; 16],
    partition: 3,
};

fn tenancy() -> (Tenancy, mpsc::UnboundedReceiver<Order>) {
    let (orders, taken) = mpsc::unbounded_channel();
    let mut tenancy = Tenancy::new(orders, ConnectionId(1));
    tenancy.stored = true;
    (tenancy, taken)
}

fn standing_at(position: i64) -> Steps {
    Steps {
        positions: [(SOURCE, position)].into(),
        ..Steps::default()
    }
}

fn at(offset: i64) -> Place {
    Place { source: SOURCE, offset }
}

#[test]
fn a_qos_2_message_is_told_with_a_position_behind_it_and_what_is_open_below() {
    let (mut tenancy, mut orders) = tenancy();
    let now = Instant::now();
    tenancy.passed(SOURCE, 10, Some(1), now);
    tenancy.asked(SOURCE, 11, 2);
    let Ok(Order::Send(_, 2, place, report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!(place, at(11));
    assert_eq!((report.positions, report.sent), (vec![(SOURCE, 12)], vec![(1, at(10))]));
    tenancy.passed(SOURCE, 12, Some(3), now);
    assert_eq!(tenancy.report(), Report::default(), "12 is open, and below it all is told");
    tenancy.settled(2, now);
    tenancy.settled(1, now);
    let report = tenancy.report();
    assert_eq!((report.settled, report.positions), (vec![2, 1], vec![]));
    tenancy.end(End::Lost { expiry: None });
    let Ok(Order::Ended(_, End::Lost { .. }, report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!((report.positions, report.sent), (vec![(SOURCE, 13)], vec![(3, at(12))]));
}

#[test]
fn what_is_open_from_before_comes_again_and_nothing_else_does() {
    let (mut tenancy, _orders) = tenancy();
    let mut steps = standing_at(20);
    steps.flight = [(9, at(11)), (8, at(13))].into();
    let out = |offset, released| crate::ownership::Outgoing {
        place: at(offset),
        released,
        share: None,
    };
    steps.outbound = [(5, out(15, false)), (6, out(12, true))].into();
    let open: Vec<_> = tenancy
        .goes_on(&steps, None)
        .into_iter()
        .map(|open| (open.packet_id.0.get(), open.reached))
        .collect();
    assert_eq!(
        open,
        [
            (9, Reached::AtLeastOnce),
            (6, Reached::Released),
            (8, Reached::AtLeastOnce),
            (5, Reached::ExactlyOnce)
        ]
    );
    assert_eq!(tenancy.known(SOURCE, 11), Known::Again(9));
    tenancy.came_again(SOURCE, 11);
    assert_eq!(tenancy.known(SOURCE, 12), Known::Settled);
    tenancy.overtaken(SOURCE, 14);
    assert_eq!(tenancy.leftover.take(), [8], "13 was compacted away, or no subscription matches it");
    assert_eq!(tenancy.known(SOURCE, 15), Known::Again(5));
    assert_eq!(tenancy.known(SOURCE, 20), Known::New);
    tenancy.unread(|_| false);
    assert_eq!(tenancy.leftover.take(), [5]);
    assert_eq!(tenancy.report(), Report::default(), "the store knows all that");
}

#[test]
fn a_position_waits_for_the_lowest_message_without_an_answer() {
    let (mut tenancy, mut orders) = tenancy();
    let now = Instant::now();
    tenancy.goes_on(&standing_at(10), None);
    assert_eq!(tenancy.report(), Report::default(), "the store knows that");
    for offset in 10..13 {
        assert_eq!(tenancy.token(), offset as u64 - 9);
        tenancy.passed(SOURCE, offset, Some(offset as u16), now);
    }
    tenancy.settled(2, now);
    assert_eq!(tenancy.report(), Report::default(), "10 is open");
    tenancy.settled(1, now);
    assert_eq!(tenancy.report().positions, [(SOURCE, 12)]);
    tenancy.settled(3, now);
    tenancy.passed(SOURCE, 20, None, now);
    assert_eq!(tenancy.deadline(), Some(now + REPORT_EVERY));
    assert!(!tenancy.is_due(now) && tenancy.is_due(now + REPORT_EVERY));
    tenancy.tick();
    let Ok(Order::Report(ConnectionId(1), report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!(report.positions, [(SOURCE, 21)]);
    assert_eq!(tenancy.deadline(), None);
}

/// A client that takes its time keeps no position down: what it has open is told, once.
#[test]
fn a_message_that_is_open_for_long_is_told_with_its_packet_id() {
    let (mut tenancy, mut orders) = tenancy();
    let now = Instant::now();
    tenancy.passed(SOURCE, 10, Some(1), now);
    tenancy.passed(SOURCE, 11, Some(2), now);
    tenancy.settled(2, now);
    tenancy.tick();
    let Ok(Order::Report(_, report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!((report.positions, report.sent), (vec![(SOURCE, 10)], vec![]));
    assert!(!tenancy.is_settled());
    tenancy.reached(SOURCE, 40);
    tenancy.tick();
    let Ok(Order::Report(_, report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!((report.positions, report.sent), (vec![(SOURCE, 40)], vec![(1, at(10))]));
    tenancy.tick();
    assert!(orders.try_recv().is_err(), "there is nothing new");
    tenancy.settled(1, now);
    tenancy.tick();
    let Ok(Order::Report(_, report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!((report.settled, report.positions), (vec![1], vec![]));
    assert!(tenancy.is_settled());
}

/// A checkpoint speaks of all of them, so it rests only when all are read for it.
#[test]
fn each_partition_in_which_it_has_a_place_is_asked_for() {
    let (mut tenancy, _orders) = tenancy();
    tenancy.goes_on(&standing_at(10), None);
    assert!(tenancy.all_places(|place| *place == SOURCE));
    let partition = SOURCE.partition + 1;
    tenancy.reached(Source { partition, ..SOURCE }, 3);
    assert!(!tenancy.all_places(|place| *place == SOURCE));
}

/// Who waits behind others is looked at ever more rarely, until something comes.
#[test]
fn who_does_not_rest_is_looked_at_again_and_soon_if_something_comes() {
    let (mut tenancy, _orders) = tenancy();
    let now = Instant::now();
    let pause = |tenancy: &mut Tenancy, is_clear| {
        tenancy.report();
        tenancy.look_again(is_clear, now);
        tenancy.deadline().unwrap() - now
    };
    assert_eq!(pause(&mut tenancy, true), 2 * REPORT_EVERY);
    assert_eq!([0; 2].map(|_| pause(&mut tenancy, true)), [OPEN_EVERY; 2]);
    assert!((0..9).any(|_| pause(&mut tenancy, false) == LOOK_EVERY));
    tenancy.passed(SOURCE, 10, None, now);
    assert_eq!(tenancy.deadline(), Some(now + REPORT_EVERY));
}

#[test]
fn a_new_subscription_takes_no_other_one_forward() {
    let (mut tenancy, _orders) = tenancy();
    tenancy.goes_on(&standing_at(10), None);
    let start = StartAt {
        key: SubscriptionKey(1),
        source: crate::relay::chunk::SourceId(1),
        place: SOURCE,
        offset: 50,
    };
    tenancy.begins(&start, true);
    assert_eq!(tenancy.report(), Report::default());
    assert_eq!(tenancy.starts(SubscriptionKey(1)), [(SOURCE, 50)].into());
    // All were unsubscribed: what lies between is nobody's.
    tenancy.ends(start.key);
    tenancy.begins(&start, false);
    assert_eq!(tenancy.report().positions, [(SOURCE, 50)]);
}

/// Delivery that has begun is completed after an UNSUBSCRIBE [MQTT-3.10.4-3], also by whoever finds the session after a crash.
#[test]
fn a_subscription_that_begins_anew_leaves_what_is_open_of_the_former_one_to_the_session() {
    let (mut tenancy, _orders) = tenancy();
    let now = Instant::now();
    let start = |key, offset| StartAt {
        key: SubscriptionKey(key),
        source: crate::relay::chunk::SourceId(1),
        place: SOURCE,
        offset,
    };
    tenancy.begins(&start(1, 10), false);
    tenancy.passed(SOURCE, 10, Some(1), now);
    tenancy.passed(SOURCE, 11, Some(2), now);
    tenancy.ends(SubscriptionKey(1));
    tenancy.begins(&start(2, 50), false);
    let report = tenancy.report();
    assert_eq!(report.positions, [(SOURCE, 50)]);
    assert_eq!(report.sent, [(1, at(10)), (2, at(11))]);
    tenancy.settled(1, now);
    assert_eq!(tenancy.report().settled, [1], "the store takes it for open");
    tenancy.settled(2, now);
    tenancy.passed(SOURCE, 50, None, now);
    let report = tenancy.report();
    assert_eq!((report.settled, report.positions), (vec![2], vec![(SOURCE, 51)]));
}

/// Two SUBSCRIBEs over one Kafka topic, the second before the first is answered: what comes between the two is for the first.
#[test]
fn a_subscription_that_is_not_answered_yet_keeps_its_position() {
    let (mut tenancy, _orders) = tenancy();
    let start = |key, offset| StartAt {
        key: SubscriptionKey(key),
        source: crate::relay::chunk::SourceId(1),
        place: SOURCE,
        offset,
    };
    tenancy.begins(&start(1, 10), false);
    tenancy.begins(&start(2, 12), false);
    // The client asks for the first once more: what it is promised first counts.
    tenancy.begins(&start(1, 13), false);
    assert_eq!(tenancy.report().positions, [(SOURCE, 10)]);
    assert_eq!(tenancy.starts(SubscriptionKey(1)), [(SOURCE, 10)].into());
    assert_eq!(tenancy.starts(SubscriptionKey(2)), [(SOURCE, 12)].into());
    // Both are gone: a new one begins anew.
    tenancy.ends(SubscriptionKey(1));
    tenancy.ends(SubscriptionKey(2));
    tenancy.begins(&start(3, 50), false);
    assert_eq!(tenancy.report().positions, [(SOURCE, 50)]);
}

#[test]
fn a_subscription_that_reads_a_topic_that_is_away_by_several_rules_waits_once() {
    let (mut tenancy, _orders) = tenancy();
    let (first, new) = (SubscriptionKey(0), SubscriptionKey(1));
    tenancy.away = vec![Away {
        topic: "t".into(),
        hidden: false,
        keys: vec![first],
    }];
    assert!(tenancy.waits_too("t", new) && tenancy.waits_too("t", new));
    assert!(!tenancy.waits_too("other", new));
    assert_eq!(tenancy.has_come("t"), [first, new]);
    assert!(!tenancy.waits_too("t", new), "it is there");
}

/// Of a retained message no position says anything: it is told by itself, once, and its packet id is given back.
#[test]
fn a_retained_message_is_told_while_it_is_open_and_is_no_part_of_a_position() {
    const RETAINED: [u8; 16] = [9; 16];
    let (mut tenancy, mut orders) = tenancy();
    let now = Instant::now();
    let kept = |offset| Place {
        source: Source {
            topic: RETAINED,
            partition: 0,
        },
        offset,
    };
    let mut steps = standing_at(10);
    steps.flight = [(3, kept(40))].into();
    let open = tenancy.goes_on(&steps, Some(RETAINED));
    assert_eq!((open.len(), open[0].reached), (1, Reached::AtLeastOnce));
    tenancy.unread(|_| false);
    assert!(tenancy.leftover.is_empty(), "no seat comes by it");
    tenancy.sent_retained(kept(41), 1, now);
    tenancy.sent_retained(kept(42), 2, now);
    tenancy.settled(2, now);
    tenancy.asked_retained(kept(43), 4);
    let Ok(Order::Send(_, 4, place, report)) = orders.try_recv() else {
        panic!()
    };
    assert_eq!((place, report.sent, report.positions), (kept(43), vec![(2, kept(42))], vec![]));
    tenancy.tick();
    assert!(orders.try_recv().is_err(), "it is told");
    assert!(!tenancy.is_settled());
    [1, 3, 4].into_iter().for_each(|token| tenancy.settled(token, now));
    assert!(tenancy.is_settled() && tenancy.all_places(|place| *place == SOURCE));
    assert_eq!(tenancy.report().settled, [3, 2, 4]);
}

/// Each report that tells a place has how far walks have come, and that one is over: else it would be walked again over what has come since.
#[test]
fn a_walk_is_told_with_whatever_is_told_next() {
    let (mut tenancy, mut orders) = tenancy();
    let (key, now) = (SubscriptionKey(1), Instant::now());
    let mut told = |tenancy: &mut Tenancy, offset| {
        tenancy.asked(SOURCE, offset, 1);
        match orders.try_recv() {
            Ok(Order::Send(_, _, _, report)) => report.walks,
            other => panic!("{other:?}"),
        }
    };
    let walk = |behind: &str| {
        let behind = behind.to_owned();
        ("t/#".into(), Some(Walk { behind, again: false }))
    };
    tenancy.walk_begins(key, "t/#", false);
    assert_eq!(told(&mut tenancy, 10), [walk("")]);
    ["t/1", "t/2"].into_iter().for_each(|topic| tenancy.walked(key, topic, now));
    assert_eq!(told(&mut tenancy, 11), [walk("t/2")]);
    assert_eq!(told(&mut tenancy, 12), []);
    tenancy.walked(key, "t/3", now);
    tenancy.walk_is_over(key);
    assert_eq!(told(&mut tenancy, 13), [("t/#".into(), None)]);
    // One that is not stored, at QoS 0.
    tenancy.walked(key, "t/4", now);
    assert_eq!(told(&mut tenancy, 14), []);
    // Of those that were open before, one whose subscription is gone is over.
    let walks = [walk("t/5"), ("u/#".into(), Some(Walk::default()))].map(|(filter, walk)| (filter, walk.unwrap_or_default()));
    let steps = Steps {
        walks: walks.into(),
        ..Steps::default()
    };
    tenancy.walks_go_on(&steps, &[(key, "t/#")]);
    assert_eq!(told(&mut tenancy, 15), [("u/#".into(), None)]);
}
