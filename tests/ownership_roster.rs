//! What an operator sees of the stored sessions, fed with records as their owners write them.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use mqtt_kafka_proxy::ownership::*;

const NOW: Millis = 1_764_102_345_000;

struct Log {
    roster: Roster,
    ends: [i64; 2],
}

impl Log {
    fn new(roster: Roster) -> Self {
        Self { roster, ends: [0; 2] }
    }

    fn append(&mut self, partition: usize, record: &NewRecord) -> i64 {
        let headers: Vec<(&str, &[u8])> = record.headers.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        let offset = self.ends[partition];
        self.ends[partition] += 1;
        let record = Record {
            offset,
            timestamp: NOW,
            key: record.key.as_bytes(),
            headers: &headers,
            value: record.value.as_deref(),
        };
        self.roster.read(partition as i32, &record);
        offset
    }

    fn claim(&mut self, partition: usize, client: &str, owner: &str) -> i64 {
        self.append(partition, &Claim::new(owner, 1, NOW).record(client).unwrap())
    }

    fn standings(&self) -> Vec<(String, Standing)> {
        let listed = self.roster.sessions(NOW);
        listed.map(|listed| (listed.client.to_owned(), listed.standing)).collect()
    }
}

fn state(client: &str, claim: i64, n: u64, connected: bool, expiry: u32) -> NewRecord {
    let mut body = Body::fresh(NOW - 60_000);
    (body.connected, body.expiry) = (connected, expiry);
    State::Goes(Box::new(body)).record(client, claim, n, "p1").unwrap()
}

#[test]
fn who_has_something_to_end_is_known() {
    let is_known = |records: &dyn Fn(&mut Log)| {
        let mut log = Log::new(Roster::of("c"));
        log.claim(0, "other", "p1");
        records(&mut log);
        log.roster.is_known(NOW)
    };
    assert!(!is_known(&|_| {}));
    let claimed = |log: &mut Log| log.claim(0, "c", "p1");
    assert!(
        is_known(&|log| {
            claimed(log);
        }),
        "it may be connected"
    );
    let with = |of: &dyn Fn(i64) -> Vec<NewRecord>| {
        is_known(&|log| {
            let claim = claimed(log);
            for record in of(claim) {
                log.append(0, &record);
            }
        })
    };
    assert!(with(&|claim| vec![state("c", claim, 1, true, 60)]));
    assert!(with(&|claim| vec![state("c", claim, 1, false, 61)]));
    assert!(!with(&|claim| vec![state("c", claim, 1, false, 60)]), "it has expired");
    let ended = |claim| State::Ended(NOW).record("c", claim, 2, "p1").unwrap();
    assert!(!with(&|claim| vec![state("c", claim, 1, true, 60), ended(claim)]));
}

#[test]
fn each_standing_is_told_and_what_is_over_is_not() {
    let mut log = Log::new(Roster::new());
    let claim = log.claim(0, "there", "p1");
    log.append(0, &state("there", claim, 1, true, 60));
    let claim = log.claim(1, "away", "p1");
    log.append(1, &state("away", claim, 1, false, 61));
    let claim = log.claim(0, "for-ever", "p1");
    log.append(0, &state("for-ever", claim, 1, false, NEVER));
    let claim = log.claim(0, "expired", "p1");
    log.append(0, &state("expired", claim, 1, false, 60));
    let claim = log.claim(1, "ended", "p1");
    log.append(1, &state("ended", claim, 1, true, 60));
    log.append(1, &State::Ended(NOW).record("ended", claim, 2, "p1").unwrap());
    log.claim(0, "throw-away", "p1");
    let claim = log.claim(0, "damaged", "p1");
    let mut damaged = state("damaged", claim, 1, true, 60);
    damaged.headers[0].1 = "7".to_owned();
    log.append(0, &damaged);
    let since = NOW - 60_000;
    let until = Some(NOW + 1000);
    let expected = [
        ("away", Standing::Away { since, until }),
        ("damaged", Standing::Unreadable),
        ("for-ever", Standing::Away { since, until: None }),
        ("there", Standing::Connected),
    ];
    assert_eq!(log.standings(), expected.map(|(client, standing)| (client.to_owned(), standing)));
}

#[test]
fn one_session_is_shown_with_the_records_that_count_and_those_of_others_are_not_kept() {
    let mut log = Log::new(Roster::of("c"));
    let first = log.claim(0, "c", "p1");
    log.append(0, &state("c", first, 1, true, 60));
    log.claim(0, "d", "p1");
    let second = log.claim(0, "c", "p2");
    log.append(0, &state("c", second, 1, true, 7));
    log.append(0, &state("c", first, 2, true, 60));
    log.append(0, &Steps::default().record("c", second, 2).unwrap());
    let shown = log.roster.shown(NOW).unwrap();
    assert_eq!(
        (shown.listed.client, shown.listed.owner, shown.listed.claim),
        ("c", "p1", Some(second))
    );
    assert!(shown.state.unwrap().get().contains(r#""expiry":7"#), "{shown:?}");
    assert_eq!(shown.steps.unwrap().get(), r#"{"v":1,"n":2}"#);
    assert_eq!(log.standings().len(), 1);
}

#[test]
fn a_client_without_a_session_is_not_shown() {
    let mut log = Log::new(Roster::of("c"));
    log.claim(0, "d", "p1");
    assert!(log.roster.shown(NOW).is_none());
}
