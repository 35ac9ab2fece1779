//! The records of `mqtt-sessions`: what is written is read back the same, anything else is refused as a value.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use mqtt_kafka_proxy::mqtt::{PayloadFormat, QoS, RetainHandling};
use mqtt_kafka_proxy::ownership::*;

fn source() -> impl Strategy<Value = Source> {
    (any::<[u8; 16]>(), any::<u32>()).prop_map(|(topic, partition)| Source { topic, partition })
}

fn place() -> impl Strategy<Value = Place> {
    (source(), 0..i64::MAX).prop_map(|(source, offset)| Place { source, offset })
}

fn pair() -> impl Strategy<Value = Pair> {
    (source(), 0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX).prop_map(|(source, producer, epoch, sequence)| Pair {
        source,
        producer,
        epoch,
        sequence,
    })
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn positions() -> impl Strategy<Value = BTreeMap<Source, i64>> {
    btree_map(source(), 0..=i64::MAX, 0..4)
}

fn steps() -> impl Strategy<Value = Steps> {
    let share = proptest::option::of("\\$share/[a-z]{1,3}/[a-z +/#]{1,5}").prop_map(|share| share.map(Into::into));
    let outgoing = (place(), any::<bool>(), share).prop_map(|(place, released, share)| Outgoing { place, released, share });
    let open = btree_map(1..=u16::MAX, vec(pair(), 1..3), 0..4);
    let walk = (".{0,8}", any::<bool>()).prop_map(|(behind, again)| Walk { behind, again });
    (
        open,
        btree_map(1..=30_000_u16, outgoing, 0..4),
        btree_map(30_001..=u16::MAX, place(), 0..4),
        positions(),
        any::<Option<u64>>(),
        btree_map(".{1,8}".prop_map(Into::into), walk, 0..3),
    )
        .prop_map(|(inbound, outbound, flight, positions, run, walks)| Steps {
            inbound,
            outbound,
            flight,
            positions,
            run,
            walks,
        })
}

fn will() -> impl Strategy<Value = StoredWill> {
    let first = (".*", vec(any::<u8>(), 0..40), qos(), any::<bool>(), any::<u32>());
    let format = prop_oneof![Just(PayloadFormat::Bytes), Just(PayloadFormat::Utf8)];
    let second = (
        of(format),
        of(any::<u32>()),
        of(".*"),
        of(".*"),
        of(vec(any::<u8>(), 0..20)),
        vec((".*", ".*"), 0..3),
        of(".*"),
    );
    (first, second).prop_map(|(a, b)| StoredWill {
        topic: a.0,
        payload: a.1,
        qos: a.2,
        retain: a.3,
        delay: a.4,
        payload_format: b.0,
        expiry: b.1,
        content_type: b.2,
        response_topic: b.3,
        correlation_data: b.4,
        user: b.5,
        identity: b.6,
    })
}

fn subscription() -> impl Strategy<Value = StoredSubscription> {
    let handling = prop_oneof![
        Just(RetainHandling::Always),
        Just(RetainHandling::IfNew),
        Just(RetainHandling::Never)
    ];
    (".*", qos(), any::<(bool, bool)>(), handling, of(any::<u32>()), positions()).prop_map(
        |(filter, qos, (no_local, retain_as_published), retain_handling, id, starts)| StoredSubscription {
            filter,
            qos,
            no_local,
            retain_as_published,
            retain_handling,
            id,
            starts,
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let sending = vec(
        (will(), vec(pair(), 0..3)).prop_map(|(will, pairs)| SendingWill { will, pairs }),
        0..2,
    );
    let rest = (vec(subscription(), 0..3), of(will()), sending, steps(), of(any::<u64>()));
    (any::<bool>(), any::<u64>(), any::<u32>(), rest).prop_map(|(connected, since, expiry, rest)| Body {
        connected,
        since,
        left: rest.4,
        expiry,
        subscriptions: rest.0,
        will: rest.1,
        sending: rest.2,
        steps: rest.3,
    })
}

fn client() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("car-42".to_owned()),
        Just("a@7".to_owned()),
        Just("state:b@".to_owned()),
        ".{1,20}"
    ]
}

/// What a tail sees of a record that was written.
fn seen<T>(record: &NewRecord, look: impl FnOnce(Seen<'_>) -> T) -> T {
    let headers: Vec<(&str, &[u8])> = record.headers.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    look(Seen::of(&Record {
        offset: 1,
        timestamp: 1,
        key: record.key.as_bytes(),
        headers: &headers,
        value: record.value.as_deref(),
    }))
}

proptest! {
    #[test]
    fn keys_come_back(client in client(), claim in 0..=i64::MAX) {
        for key in [Key::Claim(&client), Key::Bid(&client, claim), Key::State(&client, claim), Key::Steps(&client, claim), Key::Checkpoint(&client)] {
            let text = key.to_string();
            prop_assert_eq!(Key::parse(text.as_bytes()), Ok(key));
        }
    }

    #[test]
    fn claims_come_back(client in client(), owner in ".{1,20}", n: u64, since: u64, fresh: bool, operator: bool, of in 0..=i64::MAX) {
        let mut claim = Claim::new(&owner, n, since);
        (claim.fresh, claim.operator) = (fresh, operator);
        let record = claim.record(&client).unwrap();
        let bid = claim.bid(&client, of).unwrap();
        prop_assert_eq!(Claim::parse(record.value.as_deref().unwrap()), Ok(claim));
        let head = ClaimHead { owner: &owner, n, fresh, operator };
        seen(&record, |seen| assert_eq!(seen, Seen::Claim(&client, Ok(head))));
        seen(&bid, |seen| assert_eq!(seen, Seen::Bid(&client, of, Ok(head))));
    }

    #[test]
    fn steps_come_back(client in client(), claim in 0..=i64::MAX, n: u64, steps in steps()) {
        let record = steps.record(&client, claim, n).unwrap();
        prop_assert_eq!(Steps::parse(record.value.as_deref().unwrap()), Ok((n, steps)));
        seen(&record, |seen| assert_eq!(seen, Seen::Steps(&client, claim, Ok(n))));
    }

    #[test]
    fn states_come_back(client in client(), claim in 0..=i64::MAX, n: u64, body in body()) {
        let state = State::Goes(Box::new(body.clone()));
        let record = state.record(&client, claim, n, "proxy-1").unwrap();
        prop_assert_eq!(State::parse(record.value.as_deref().unwrap()), Ok((n, state)));
        let head = StateHead {
            n,
            owner: "proxy-1",
            ended: false,
            since: (!body.connected).then_some(body.since),
            expiry: body.expiry,
            will: body.will.is_some() || !body.sending.is_empty(),
        };
        seen(&record, |seen| assert_eq!(seen, Seen::State(&client, claim, Ok(head))));
    }

    #[test]
    fn checkpoints_come_back(run: u64, n: u64, positions in positions()) {
        let checkpoint = Checkpoint { run, n, positions };
        let record = checkpoint.record("proxy-1").unwrap();
        prop_assert_eq!(Checkpoint::parse(record.value.as_deref().unwrap()), Ok(checkpoint));
        seen(&record, |seen| assert_eq!(seen, Seen::Checkpoint("proxy-1")));
    }

    /// One byte changed: refused, or another value that is written as it is read.
    #[test]
    fn damage_is_a_value(body in body(), at: prop::sample::Index, byte: u8) {
        let record = State::Goes(Box::new(body)).record("c", 1, 1, "p").unwrap();
        let mut value = record.value.unwrap();
        let at = at.index(value.len());
        value[at] = byte;
        if let Ok((n, state)) = State::parse(&value) {
            let again = state.record("c", 1, n, "p").unwrap();
            prop_assert_eq!(State::parse(again.value.as_deref().unwrap()), Ok((n, state)));
        }
        prop_assert!(State::parse(&value[..at]).is_err(), "a part is never a whole");
    }
}

#[test]
fn an_end_comes_back() {
    let record = State::Ended(77).record("c", 5, 3, "p").unwrap();
    assert_eq!(State::parse(record.value.as_deref().unwrap()), Ok((3, State::Ended(77))));
    let head = StateHead {
        n: 3,
        owner: "p",
        ended: true,
        since: Some(77),
        expiry: 0,
        will: false,
    };
    seen(&record, |seen| assert_eq!(seen, Seen::State("c", 5, Ok(head))));
    let gone = NewRecord::claim_tombstone("c", 5);
    seen(&gone, |seen| assert_eq!(seen, Seen::ClaimGone("c", Some(5))));
    let tombstone = NewRecord::tombstone(Key::State("c", 5));
    seen(&tombstone, |seen| assert_eq!(seen, Seen::StateGone("c", 5)));
}

#[test]
fn what_a_later_build_writes_is_told_apart_from_damage() {
    assert_eq!(State::parse(br#"{"v":2,"what":"ever"}"#), Err(Fault::UnknownVersion(2)));
    assert_eq!(Claim::parse(br#"{"v":0}"#), Err(Fault::UnknownVersion(0)));
    assert!(matches!(Steps::parse(br#"{"n":1}"#), Err(Fault::Damaged(_))));
    let headers: &[(&str, &[u8])] = &[("v", b"2"), ("n", b"1")];
    let record = Record {
        offset: 0,
        timestamp: 0,
        key: b"state:c@1",
        headers,
        value: Some(b"{}"),
    };
    assert_eq!(Seen::of(&record), Seen::State("c", 1, Err(Fault::UnknownVersion(2))));
}

#[test]
fn there_is_one_spelling() {
    let topic = "hBKuK8bnSVqDRrlT2pDEKQ";
    assert!(format!("{topic}/3").parse::<Source>().is_ok());
    for damaged in [
        "/3",
        &format!("{topic}/03"),
        &format!("{topic}/+3"),
        &format!("{topic}/"),
        topic,
        &format!("{topic}A/3"),
    ] {
        assert!(damaged.parse::<Source>().is_err(), "{damaged}");
    }
    // The last digit holds four bits that mean nothing.
    assert!(format!("{}R/3", &topic[..21]).parse::<Source>().is_err());
    for damaged in [
        "state:c",
        "state:c@",
        "state:c@-1",
        "state:@1",
        "claim:",
        "clam:c",
        "claim",
        "state:c@9223372036854775808",
    ] {
        assert!(Key::parse(damaged.as_bytes()).is_err(), "{damaged}");
    }
    let lines = [
        format!(r#""in":["0 {topic}/3 1.0.0"]"#),
        r#""in":["1"]"#.to_owned(),
        format!(r#""in":["1 {topic}/3"]"#),
        format!(r#""in":["1 {topic}/3 1.0"]"#),
        format!(r#""in":["1 {topic}/3 1.0.0.0"]"#),
        format!(r#""in":["1 {topic}/3 1.32768.0"]"#),
        format!(r#""in":["2 {topic}/3 1.0.0","1 {topic}/3 1.0.1"]"#),
        format!(r#""out":["1 {topic}/3@1"]"#),
        format!(r#""out":["1 {topic}/3@1 maybe"]"#),
        format!(r#""out":["1 {topic}/3@1 sent"],"flight":["1 {topic}/3@2"]"#),
        format!(r#""flight":["1 {topic}/3@-2"]"#),
        format!(r#""positions":["{topic}/3@1","{topic}/3@1"]"#),
    ];
    for line in lines {
        let value = format!(r#"{{"v":1,"n":1,{line}}}"#);
        assert!(matches!(Steps::parse(value.as_bytes()), Err(Fault::Damaged(_))), "{value}");
    }
}

#[test]
fn no_record_is_larger_than_its_bound() {
    let mut body = Body::fresh(0);
    body.will = Some(StoredWill {
        topic: "t".to_owned(),
        payload: vec![0; MAX_VALUE],
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: 0,
        payload_format: None,
        expiry: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user: vec![],
        identity: None,
    });
    let refused = State::Goes(Box::new(body)).record("c", 1, 1, "p");
    assert!(matches!(refused, Err(Fault::TooLarge(bytes)) if bytes > MAX_VALUE));
    assert_eq!(State::parse(&vec![b' '; MAX_VALUE + 1]), Err(Fault::TooLarge(MAX_VALUE + 1)));
}

/// What is written for people to read stays as the documentation shows it.
#[test]
fn the_text_is_the_documented_one() {
    let source: Source = "hBKuK8bnSVqDRrlT2pDEKQ/3".parse().unwrap();
    let pair = Pair {
        source,
        producer: 4711,
        epoch: 0,
        sequence: 5,
    };
    let place = |offset| Place { source, offset };
    let steps = Steps {
        inbound: BTreeMap::from([(17, vec![pair])]),
        outbound: BTreeMap::from([
            (
                5,
                Outgoing {
                    place: place(1234),
                    released: false,
                    share: None,
                },
            ),
            (
                6,
                Outgoing {
                    place: place(99),
                    released: false,
                    share: Some("$share/crew/jobs/+".into()),
                },
            ),
        ]),
        flight: BTreeMap::from([(7, place(1250))]),
        positions: BTreeMap::from([(source, 1260)]),
        run: Some(1),
        walks: BTreeMap::from([(
            "plant/#".into(),
            Walk {
                behind: "plant/7/site".to_owned(),
                again: false,
            },
        )]),
    };
    let body = Body {
        connected: false,
        since: 1_764_102_400_123,
        left: Some(1_764_102_300_456),
        expiry: 3600,
        subscriptions: vec![StoredSubscription {
            filter: "vehicles/42/commands".to_owned(),
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::IfNew,
            id: Some(3),
            starts: BTreeMap::from([(source, 1100)]),
        }],
        will: Some(StoredWill {
            topic: "vehicles/42/gone".to_owned(),
            payload: b"bye".to_vec(),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay: 30,
            payload_format: Some(PayloadFormat::Utf8),
            expiry: Some(600),
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user: vec![("site".to_owned(), "7".to_owned())],
            identity: Some("vin42".to_owned()),
        }),
        sending: vec![],
        steps: Steps {
            positions: steps.positions.clone(),
            ..Steps::default()
        },
    };
    let checkpoint = Checkpoint {
        run: 1,
        n: 41,
        positions: steps.positions.clone(),
    };
    let claim = Claim::new("proxy-5f1c", 17, 1_764_102_345_678);
    let records = [
        claim.record("car-42"),
        State::Goes(Box::new(body)).record("car-42", 1200, 18, "proxy-5f1c"),
        steps.record("car-42", 1200, 19),
        checkpoint.record("proxy-5f1c"),
        claim.bid("car-42", 1200),
        State::Ended(1_764_106_000_000).record("car-42", 1200, 20, "proxy-5f1c"),
    ];
    let documentation = include_str!("../docs/kafka.md");
    let lines = records.map(|record| {
        let record = record.unwrap();
        format!("    {}  {}\n", record.key, String::from_utf8(record.value.unwrap()).unwrap())
    });
    let missing: String = lines.into_iter().filter(|line| !documentation.contains(line)).collect();
    assert!(missing.is_empty(), "docs/kafka.md does not have\n{missing}");
}
