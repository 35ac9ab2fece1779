//! Any bytes, read as a key and a value of `mqtt-sessions`: nothing panics, and what is accepted is written as a record that says the same.
//!
//! The key ends at the first line feed; the value follows.

use mqtt_kafka_proxy::ownership::{Checkpoint, Claim, Fault, Key, NewRecord, Record, Seen, State, Steps};

/// Whether key and value were accepted.
pub fn check(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (key, value) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    headers(key, value);
    let Ok(key) = Key::parse(key) else { return false };
    assert_eq!(Key::parse(key.to_string().as_bytes()), Ok(key), "a key has one spelling");
    let written = match rewritten(key, value) {
        Ok(record) => record,
        Err(Fault::TooLarge(_) | Fault::UnknownVersion(_) | Fault::Damaged(_)) => return false,
    };
    assert_eq!(written.key, key.to_string());
    let again = written.value.clone().expect("a value was written");
    assert_eq!(rewritten(key, &again), Ok(written.clone()), "what was written says the same");
    let named: Vec<(&str, &[u8])> = written.headers.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    match seen(key.to_string().as_bytes(), &named, &again) {
        Seen::Claim(_, head) | Seen::Bid(_, _, head) => assert!(head.is_ok()),
        Seen::State(_, _, head) => assert!(head.is_ok()),
        Seen::Steps(_, _, n) => assert!(n.is_ok()),
        Seen::Checkpoint(_) => {}
        other => panic!("{other:?}"),
    }
    true
}

fn seen<'a>(key: &'a [u8], headers: &'a [(&'a str, &'a [u8])], value: &'a [u8]) -> Seen<'a> {
    Seen::of(&Record {
        offset: 0,
        timestamp: 0,
        key,
        headers,
        value: Some(value),
    })
}

/// Headers that anybody may have written.
fn headers(key: &[u8], value: &[u8]) {
    let mut parts = value.split(|&byte| byte == b',');
    let mut next = || parts.next().unwrap_or_default();
    let headers = ["v", "n", "owner", "fresh", "since", "expiry", "ended"].map(|name| (name, next()));
    let _ = seen(key, &headers, value);
}

fn rewritten(key: Key<'_>, value: &[u8]) -> Result<NewRecord, Fault> {
    match key {
        Key::Claim(client) => Claim::parse(value)?.record(client),
        Key::Bid(client, claim) => Claim::parse(value)?.bid(client, claim),
        Key::State(client, claim) => {
            let (n, state) = State::parse(value)?;
            state.record(client, claim, n, "me")
        }
        Key::Steps(client, claim) => {
            let (n, steps) = Steps::parse(value)?;
            steps.record(client, claim, n)
        }
        Key::Checkpoint(instance) => Checkpoint::parse(value)?.record(instance),
    }
}
