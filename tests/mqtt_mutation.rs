//! Damaged packets by the hundred thousand, the same in each run: nothing panics, and what is accepted all the same obeys the rules
//! and comes back as it was when it is written and read again (`fuzz/bodies/mqtt_decode.rs` says which).

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

#[allow(dead_code)] // The fuzz target begins at another function.
#[path = "../fuzz/bodies/mqtt_decode.rs"]
mod body;
mod mqtt_packets;

use mqtt_kafka_proxy::mqtt::Version;
use mqtt_kafka_proxy::mqtt::codec::Role;
use mqtt_kafka_proxy::mqtt::encode::encode;
use mqtt_packets::{VERSIONS, parts, receivers};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const CASES: usize = 200_000;
const SEEDS: usize = 400;

/// The same numbers in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

struct Seed {
    version: Version,
    role: Role,
    bytes: Vec<u8>,
}

fn seeds() -> Vec<Seed> {
    let (mut runner, strategy) = (TestRunner::deterministic(), parts());
    let mut seeds = vec![];
    while seeds.len() < SEEDS {
        let parts = strategy.new_tree(&mut runner).unwrap().current();
        let packet = parts.packet();
        let mut bytes = vec![];
        encode(&packet, parts.version, &mut bytes).unwrap();
        if bytes.len() <= 200 {
            let role = receivers(&packet, parts.version)[0];
            let version = parts.version;
            seeds.push(Seed { version, role, bytes });
        }
    }
    seeds
}

/// One damage, or several.
fn damage(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.throw(bytes.len());
    match dice.throw(8) {
        0 => bytes[at] ^= 1 << dice.throw(8),
        1 => bytes[at] = dice.throw(256) as u8,
        2 => bytes[at] = [0x00, 0x01, 0x7F, 0x80, 0xFF, b'+', b'#', b'/'][dice.throw(8)],
        3 => bytes.truncate(at),
        4 => drop(bytes.remove(at)),
        5 => bytes.insert(at, dice.throw(256) as u8),
        // The remaining length, one more or less, or made longer than it need be.
        6 if bytes.len() > 1 => match dice.throw(3) {
            0 => bytes[1] = bytes[1].wrapping_add(1),
            1 => bytes[1] = bytes[1].wrapping_sub(1),
            _ => {
                bytes[1] |= 0x80;
                bytes.insert(2, dice.throw(2) as u8);
            }
        },
        // The end of another packet behind the beginning of this one.
        _ => {
            let from = dice.throw(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
}

/// Makes the remaining length right again, so that damage reaches what lies behind it.
fn frame(bytes: &mut [u8]) {
    if (2..130).contains(&bytes.len()) {
        bytes[1] = (bytes.len() - 2) as u8;
    }
}

#[test]
fn damaged_packets() {
    let seeds = seeds();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut accepted = 0;
    for case in 0..CASES {
        let seed = &seeds[case % seeds.len()];
        let other = &seeds[dice.throw(seeds.len())].bytes;
        let mut bytes = seed.bytes.clone();
        for _ in 0..=dice.throw(3) {
            damage(&mut bytes, other, &mut dice);
        }
        if dice.throw(4) > 0 {
            frame(&mut bytes);
        }
        // Now and then as another version, by the other side, or before the CONNECT.
        let version = if dice.throw(16) == 0 {
            VERSIONS[dice.throw(3)]
        } else {
            seed.version
        };
        let role = if dice.throw(16) == 0 { Role::Server } else { seed.role };
        let known = bytes.first().is_some_and(|first| first >> 4 != 1) || dice.throw(2) == 0;
        accepted += usize::from(body::check_as(known.then_some(version), role, &bytes));
    }
    println!("{accepted} of {CASES} accepted");
    assert!(
        (CASES / 20..CASES / 2).contains(&accepted),
        "{accepted} of {CASES}: damage that is neither nothing nor all"
    );
}
