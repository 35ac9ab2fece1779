//! The id ledger: every payload names its client and its number, so whoever receives them can tell what was lost, came twice
//! or out of order. Pure; driven by the subscribers and by [`read_topic`], which reads a Kafka topic through `kcat`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the client that sent it.
    pub client: u32,
    /// Its place among the client's messages, from 0.
    pub sequence: u64,
    /// When it was due, in microseconds since the Unix epoch.
    pub micros: u64,
}

/// The least length of a payload in bytes: three numbers in hexadecimal.
pub const STAMP_LEN: usize = 40;

impl Stamp {
    /// Writes the stamp over the first [`STAMP_LEN`] bytes of a payload; text, so that any Kafka tool shows it.
    pub fn write(&self, payload: &mut [u8]) {
        hex(u64::from(self.client), &mut payload[..8]);
        hex(self.sequence, &mut payload[8..24]);
        hex(self.micros, &mut payload[24..40]);
    }

    /// The stamp of a payload, `None` if it bears none.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload.get(..STAMP_LEN)?).ok()?;
        Some(Self {
            client: u32::from_str_radix(&text[..8], 16).ok()?,
            sequence: u64::from_str_radix(&text[8..24], 16).ok()?,
            micros: u64::from_str_radix(&text[24..40], 16).ok()?,
        })
    }
}

fn hex(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// What came of each client's messages, and where it came wrong.
#[derive(Debug, Default)]
pub struct Ledger {
    clients: HashMap<u32, Seen>,
    /// Messages seen, every kind counted.
    pub received: u64,
    /// Came again.
    pub doubled: u64,
    /// Came for the first time, but behind a later one.
    pub reordered: u64,
    /// Bore no stamp.
    pub foreign: u64,
}

#[derive(Debug, Default)]
struct Seen {
    numbers: Vec<bool>,
    highest: Option<u64>,
    partition: Option<i32>,
}

impl Ledger {
    /// Takes one payload in the order of its arrival.
    pub fn observe(&mut self, payload: &[u8]) {
        self.observe_in(None, payload);
    }

    /// The same for a record of a partition. Two partitions have no order between them, so a client whose records lie in
    /// more than one counts as reordered.
    pub fn observe_in(&mut self, partition: Option<i32>, payload: &[u8]) {
        self.received += 1;
        let Some(stamp) = Stamp::read(payload) else {
            self.foreign += 1;
            return;
        };
        let seen = self.clients.entry(stamp.client).or_default();
        let place = stamp.sequence as usize;
        if seen.numbers.len() <= place {
            seen.numbers.resize(place + 1, false);
        }
        let elsewhere = seen.partition.is_some() && seen.partition != partition;
        if std::mem::replace(&mut seen.numbers[place], true) {
            self.doubled += 1;
        } else if elsewhere || seen.highest.is_some_and(|highest| highest > stamp.sequence) {
            self.reordered += 1;
        }
        seen.highest = seen.highest.max(Some(stamp.sequence));
        seen.partition = partition;
    }

    /// How many of `clients` × `messages` never came.
    pub fn missing(&self, clients: u32, messages: u64) -> u64 {
        let came = |client| {
            self.clients
                .get(&client)
                .map_or(0, |seen| seen.numbers.iter().take(messages as usize).filter(|came| **came).count())
        };
        (0..clients).map(|client| messages - came(client) as u64).sum()
    }

    /// Whether of each client everything came from the first to the last that was seen, once and in order: for who came late. Payloads
    /// without a stamp do not count.
    pub fn is_unbroken(&self) -> bool {
        let whole = |seen: &Seen| seen.numbers.iter().skip_while(|came| !**came).all(|came| *came);
        self.doubled + self.reordered == 0 && self.clients.values().all(whole)
    }

    /// `Ok` if each of `clients` × `messages` came once and in order, and nothing else did.
    pub fn exact(&self, clients: u32, messages: u64) -> Result<(), String> {
        let missing = self.missing(clients, messages);
        if missing + self.doubled + self.reordered + self.foreign == 0 && self.received == u64::from(clients) * messages {
            return Ok(());
        }
        Err(format!("{self}, {missing} missing of {}", u64::from(clients) * messages))
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            received,
            doubled,
            reordered,
            foreign,
            ..
        } = self;
        write!(
            f,
            "{received} received, {doubled} doubled, {reordered} reordered, {foreign} foreign"
        )
    }
}

/// Reads a whole topic with `kcat` (librdkafka: the client most consumers have), up to the end it has at this moment.
pub fn read_topic(bootstrap: &str, topic: &str) -> io::Result<Ledger> {
    let mut kcat = Command::new("kcat")
        .args([
            "-C",
            "-q",
            "-e",
            "-b",
            bootstrap,
            "-t",
            topic,
            "-o",
            "beginning",
            "-X",
            "check.crcs=true",
            "-f",
            "%p %s\n",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ledger = Ledger::default();
    let output = kcat.stdout.take().ok_or_else(|| io::Error::other("kcat has no output"))?;
    for line in BufReader::with_capacity(1 << 16, output).split(b'\n') {
        let line = line?;
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let partition = std::str::from_utf8(&line[..space]).ok().and_then(|text| text.parse().ok());
        ledger.observe_in(partition, line.get(space + 1..).unwrap_or_default());
    }
    let status = kcat.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("kcat: {status}")));
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(client: u32, sequence: u64) -> Vec<u8> {
        let mut payload = vec![b'x'; 64];
        Stamp {
            client,
            sequence,
            micros: 7,
        }
        .write(&mut payload);
        payload
    }

    #[test]
    fn a_stamp_is_read_as_written() {
        assert_eq!(
            Stamp::read(&payload(0xabcd_ef01, u64::MAX)),
            Some(Stamp {
                client: 0xabcd_ef01,
                sequence: u64::MAX,
                micros: 7
            })
        );
        assert_eq!(Stamp::read(b"short"), None);
        assert_eq!(Stamp::read(&[b'z'; 40]), None);
    }

    #[test]
    fn a_whole_set_in_order_is_exact() {
        let mut ledger = Ledger::default();
        for (client, sequence) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            ledger.observe(&payload(client, sequence));
        }
        assert_eq!(ledger.exact(2, 2), Ok(()));
        assert!(ledger.exact(2, 3).is_err());
        assert!(ledger.exact(1, 2).is_err(), "more than was sent is no success");
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let mut ledger = Ledger::default();
        for sequence in [0, 2, 1, 1, 4] {
            ledger.observe(&payload(0, sequence));
        }
        ledger.observe(b"of another producer");
        assert_eq!((ledger.received, ledger.doubled, ledger.reordered, ledger.foreign), (6, 1, 1, 1));
        assert_eq!(ledger.missing(1, 5), 1);
        assert!(!ledger.is_unbroken());
    }

    #[test]
    fn who_came_late_misses_nothing_in_between() {
        let mut ledger = Ledger::default();
        for (client, sequence) in [(0, 7), (1, 2), (0, 8), (1, 3)] {
            ledger.observe(&payload(client, sequence));
        }
        ledger.observe(b"of another producer");
        assert!(ledger.is_unbroken());
        ledger.observe(&payload(1, 5));
        assert!(!ledger.is_unbroken());
    }

    #[test]
    fn a_client_spread_over_partitions_has_no_order() {
        let mut ledger = Ledger::default();
        ledger.observe_in(Some(0), &payload(0, 0));
        ledger.observe_in(Some(1), &payload(0, 1));
        assert_eq!(ledger.reordered, 1);
    }
}
