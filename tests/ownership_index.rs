//! The index of stored sessions: which state counts, and what a million of them cost.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use mqtt_kafka_proxy::ownership::*;

/// A partition as it grows, read by one index.
#[derive(Default)]
struct Log {
    index: Index,
    end: i64,
}

impl Log {
    /// Appends a record; its offset and what it changed, as text.
    fn append(&mut self, record: &NewRecord) -> (i64, String) {
        let headers: Vec<(&str, &[u8])> = record.headers.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        let offset = self.end;
        self.end += 1;
        let change = self.index.read(&Record {
            offset,
            timestamp: 1_764_102_345_000 + offset as u64,
            key: record.key.as_bytes(),
            headers: &headers,
            value: record.value.as_deref(),
        });
        (offset, format!("{change:?}"))
    }

    fn claim(&mut self, owner: &str) -> i64 {
        self.append(&Claim::new(owner, 1, 0).record("c").unwrap()).0
    }

    fn state(&mut self, claim: i64, n: u64) -> i64 {
        self.append(&goes(claim, n)).0
    }

    fn entry(&self) -> Entry {
        *self.index.entry("c").unwrap()
    }
}

fn goes(claim: i64, n: u64) -> NewRecord {
    let mut body = Body::fresh(1_764_102_345_678);
    body.expiry = 60;
    State::Goes(Box::new(body)).record("c", claim, n, "p").unwrap()
}

#[test]
fn the_state_under_the_highest_claim_counts_and_of_that_the_last() {
    let mut log = Log::default();
    let first = log.claim("p1");
    log.state(first, 1);
    let steps = log.append(&Steps::default().record("c", first, 2).unwrap()).0;
    assert_eq!((log.entry().generation(), log.entry().steps()), (Some(first), Some(steps)));
    let second = log.claim("p2");
    assert!(log.entry().is_between(), "the first state still counts");
    let late = log.state(first, 3);
    assert_eq!(log.entry().state(), Some(late), "the second owner has written nothing yet");
    let third = log.claim("p3");
    let state = log.state(third, 1);
    assert_eq!(
        (log.entry().state(), log.entry().steps()),
        (Some(state), None),
        "steps of another claim are not taken over"
    );
    log.state(second, 1);
    assert_eq!(log.entry().state(), Some(state), "the late state is of an older claim");
    assert_eq!(log.index.owner(&log.entry()), "p");
    let again = log.state(third, 2);
    assert_eq!((log.entry().generation(), log.entry().state()), (Some(third), Some(again)));
    assert_eq!(log.entry().due(0), Some(1_764_102_346_000 + 60_000), "rounded up to the second");
}

#[test]
fn strays_and_what_supersedes_is_told() {
    let mut log = Log::default();
    let (first, second) = (log.claim("p1"), log.claim("p2"));
    log.state(first, 1);
    assert_eq!(
        log.append(&goes(second, 1)).1,
        format!("State(\"c\", {second}, Some(1), Some({first}))")
    );
    assert_eq!(log.append(&goes(first, 2)).1, format!("Stray(\"c\", {first})"));
    assert_eq!(
        log.append(&Steps::default().record("c", first, 2).unwrap()).1,
        format!("Stray(\"c\", {first})")
    );
    assert_eq!(
        log.append(&NewRecord::tombstone(Key::State("c", first))).1,
        format!("Cleaned(\"c\", {first})")
    );
    assert!(log.entry().is_stored(), "the tombstone was the older state's");
}

#[test]
fn an_end_by_a_former_owner_ends_nothing() {
    let mut log = Log::default();
    let (first, second) = (log.claim("p1"), log.claim("p2"));
    log.state(first, 1);
    log.state(second, 1);
    log.append(&State::Ended(5).record("c", first, 2, "p1").unwrap());
    assert!(log.entry().is_stored());
    log.append(&State::Ended(1_764_102_345_000).record("c", second, 2, "p2").unwrap());
    assert!(log.entry().is_ended() && !log.entry().is_stored());
    assert_eq!(log.entry().due(3_600_000), Some(1_764_102_345_000 + 3_600_000));
    log.append(&NewRecord::claim_tombstone("c", first));
    assert!(!log.index.is_empty(), "another claim is meant");
    log.append(&NewRecord::tombstone(Key::State("c", second)));
    assert!(log.index.is_empty());
}

#[test]
fn a_bid_counts_only_for_the_claim_it_names() {
    let mut log = Log::default();
    let first = log.claim("p1");
    log.state(first, 1);
    let bid = log.append(&Claim::new("p9", 1, 0).bid("c", first).unwrap());
    assert!(bid.1.starts_with("Claimed"), "{}", bid.1);
    assert_eq!((log.entry().claim(), log.index.owner(&log.entry())), (Some(bid.0), "p9"));
    let void = log.append(&Claim::new("p8", 1, 0).bid("c", first).unwrap());
    assert_eq!(void.1, format!("VoidBid(\"c\", {first})"));
    assert_eq!((log.entry().claim(), log.index.owner(&log.entry())), (Some(bid.0), "p9"));
}

/// The client of a fresh claim was answered at once: nothing that was on its way before may become its session.
#[test]
fn after_a_fresh_claim_older_states_are_void() {
    let mut log = Log::default();
    let first = log.claim("p1");
    let mut fresh = Claim::new("p2", 1, 0);
    fresh.fresh = true;
    log.append(&fresh.record("c").unwrap());
    assert_eq!(log.append(&goes(first, 1)).1, format!("Stray(\"c\", {first})"));
    assert!(!log.entry().is_stored());
}

#[test]
fn what_a_later_build_wrote_is_marked() {
    let mut log = Log::default();
    let claim = log.claim("p1");
    let mut record = goes(claim, 1);
    record.headers[0].1 = "2".to_owned();
    log.append(&record);
    assert!(log.entry().is_unreadable() && log.entry().is_stored());
    assert_eq!(log.entry().due(0), None, "nobody ends what it cannot read");
    log.state(claim, 2);
    assert!(!log.entry().is_unreadable());
}

/// Issue: at most 96 bytes for each stored session. Counted just after the table has doubled, where it is at its worst.
#[test]
fn a_million_sessions_cost_at_most_96_bytes_each() {
    let mut index = Index::default();
    let mut worst: f64 = 0.0;
    for number in 0..1_000_000_i64 {
        // Its claim is the record before it.
        let key = format!("state:vehicle-{number:07}@{}", 2 * number);
        let headers: &[(&str, &[u8])] = &[("v", b"1"), ("n", b"1"), ("owner", b"proxy-1"), ("expiry", b"3600")];
        index.read(&Record {
            offset: 2 * number + 1,
            timestamp: 1_764_102_345_000,
            key: key.as_bytes(),
            headers,
            value: Some(b""),
        });
        if number >= 900_000 && number % 100 == 0 {
            worst = worst.max(index.bytes() as f64 / (number + 1) as f64);
        }
    }
    let each = index.bytes() as f64 / index.len() as f64;
    println!("{} sessions: {each:.1} bytes each, at worst {worst:.1}", index.len());
    assert_eq!(index.len(), 1_000_000);
    assert!(worst <= 96.0, "{worst}");
    assert_eq!(index.walk(0).count(), 1_000_000);
    assert!(index.entry("vehicle-0000042").is_some_and(Entry::is_connected));
}
