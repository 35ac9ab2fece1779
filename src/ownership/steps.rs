//! `steps:<client>@<claim offset>`: what changes often. Each record is the whole of it, so the last one counts.
//!
//! ```json
//! {"v":1,"n":9,"in":["17 hBKuK8bnSVqDRrlT2pDEKQ/3 4711.0.5"],
//!  "out":["5 hBKuK8bnSVqDRrlT2pDEKQ/3@1234 sent","6 hBKuK8bnSVqDRrlT2pDEKQ/3@99 sent $share/crew/jobs/+"],
//!  "flight":["7 hBKuK8bnSVqDRrlT2pDEKQ/3@1250"],"positions":["hBKuK8bnSVqDRrlT2pDEKQ/3@1260"],"run":1}
//! ```
//! Lines begin with the packet id and are in its order. Of a position everything below is settled, but for what stands in `out` and
//! `flight`: that says the same as settled ranges above the lowest open message, and is bounded by the client's receive maximum. What came
//! by a shared subscription names it, and has nothing to do with positions; nor has a retained message, whose place is in the topic of those.
//! `walks` are those over retained messages that are not over, see `walk`.
//! With `run` the session is at the tail of all these sources, and later checkpoints of that run speak for it: see `checkpoints`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::record::{NewRecord, parse};
use super::text::{Pair, Place, Source, number};
use super::walk::{WalkText, Walks, from_texts, to_texts};
use super::{Fault, Key, VERSION};

/// An outgoing QoS 2 message: written before its first PUBLISH, and once more before PUBREL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The record.
    pub place: Place,
    /// PUBREC has come: only PUBREL may be sent any more.
    pub released: bool,
    /// The shared subscription that it came by, as a filter: from its pair on it is this client's alone [MQTT-4.8.2-4].
    pub share: Option<Box<str>>,
}

impl Outgoing {
    /// As it stands in a line behind its packet id. A filter may hold spaces, so it comes last.
    fn to_line(&self, packet: u16) -> String {
        let word = if self.released { "released" } else { "sent" };
        let mut line = format!("{packet} {} {word}", self.place);
        if let Some(share) = &self.share {
            let _ = write!(line, " {share}");
        }
        line
    }

    fn from_line(rest: &str) -> Result<Self, Fault> {
        let damaged = || Fault::Damaged("an outgoing message");
        let mut words = rest.splitn(3, ' ');
        let place = words.next().ok_or_else(damaged)?.parse()?;
        let released = match words.next() {
            Some("released") => true,
            Some("sent") => false,
            _ => return Err(damaged()),
        };
        let share = words.next().map(Into::into);
        if share.as_deref().is_some_and(str::is_empty) {
            return Err(damaged());
        }
        Ok(Self { place, released, share })
    }
}

/// The steps of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// QoS 2 from the client, from before it is produced until PUBREL: packet id → one pair for each record the PUBLISH makes.
    pub inbound: BTreeMap<u16, Vec<Pair>>,
    /// QoS 2 to the client.
    pub outbound: BTreeMap<u16, Outgoing>,
    /// QoS 1 to the client without PUBACK, as far as it was written.
    pub flight: BTreeMap<u16, Place>,
    /// The next offset to look at.
    pub positions: BTreeMap<Source, i64>,
    /// Checkpoints of this run of its owner speak for these positions, too.
    pub run: Option<u64>,
    /// Walks over retained messages that are not over.
    pub walks: Walks,
}

/// The lists as JSON has them; empty ones are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    #[serde(rename = "in", default, skip_serializing_if = "Vec::is_empty")]
    inbound: Vec<String>,
    #[serde(rename = "out", default, skip_serializing_if = "Vec::is_empty")]
    outbound: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flight: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    positions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    walks: Vec<WalkText>,
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        let nothing_open = self.inbound.is_empty() && self.outbound.is_empty() && self.flight.is_empty();
        nothing_open && self.positions.is_empty() && self.run.is_none() && self.walks.is_empty()
    }
}

// `flatten` and `deny_unknown_fields` exclude each other, so the lists stand here once more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u32,
    n: u64,
    #[serde(rename = "in", default, skip_serializing_if = "Vec::is_empty")]
    inbound: Vec<String>,
    #[serde(rename = "out", default, skip_serializing_if = "Vec::is_empty")]
    outbound: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flight: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    positions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    walks: Vec<WalkText>,
}

impl Steps {
    /// As the `n`-th record under a claim.
    ///
    /// # Errors
    /// [`Fault::TooLarge`].
    pub fn record(&self, client: &str, claim: i64, n: u64) -> Result<NewRecord, Fault> {
        let lines = self.lines();
        let written = Written {
            v: VERSION,
            n,
            inbound: lines.inbound,
            outbound: lines.outbound,
            flight: lines.flight,
            positions: lines.positions,
            run: lines.run,
            walks: lines.walks,
        };
        let headers = vec![("v", VERSION.to_string()), ("n", n.to_string())];
        NewRecord::json(Key::Steps(client, claim), headers, &written)
    }

    /// Reads a value: its number under its claim, and the steps.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(value: &[u8]) -> Result<(u64, Self), Fault> {
        let written: Written = parse(value, "steps")?;
        let lines = Lines {
            inbound: written.inbound,
            outbound: written.outbound,
            flight: written.flight,
            positions: written.positions,
            run: written.run,
            walks: written.walks,
        };
        Ok((written.n, Self::from_lines(&lines)?))
    }

    pub(super) fn lines(&self) -> Lines {
        let inbound = self.inbound.iter().map(|(id, pairs)| {
            pairs.iter().fold(id.to_string(), |mut line, pair| {
                let _ = write!(line, " {pair}");
                line
            })
        });
        Lines {
            inbound: inbound.collect(),
            outbound: self.outbound.iter().map(|(id, out)| out.to_line(*id)).collect(),
            flight: self.flight.iter().map(|(id, place)| format!("{id} {place}")).collect(),
            positions: positions_to_lines(&self.positions),
            run: self.run,
            walks: to_texts(&self.walks),
        }
    }

    pub(super) fn from_lines(lines: &Lines) -> Result<Self, Fault> {
        let mut steps = Self::default();
        for line in &lines.inbound {
            let (id, rest) = packet_id(line)?;
            append(&mut steps.inbound, id, Pair::parse_all(rest.split(' '))?)?;
        }
        for line in &lines.outbound {
            let (id, rest) = packet_id(line)?;
            append(&mut steps.outbound, id, Outgoing::from_line(rest)?)?;
        }
        for line in &lines.flight {
            let (id, rest) = packet_id(line)?;
            if steps.outbound.contains_key(&id) {
                return Err(Fault::Damaged("a packet id in use twice"));
            }
            append(&mut steps.flight, id, rest.parse()?)?;
        }
        steps.positions = positions_from_lines(&lines.positions)?;
        steps.run = lines.run;
        steps.walks = from_texts(&lines.walks)?;
        Ok(steps)
    }
}

pub(super) fn positions_to_lines(positions: &BTreeMap<Source, i64>) -> Vec<String> {
    let place = |(&source, &offset)| Place { source, offset }.to_string();
    positions.iter().map(place).collect()
}

pub(super) fn positions_from_lines(lines: &[String]) -> Result<BTreeMap<Source, i64>, Fault> {
    let mut positions = BTreeMap::new();
    for line in lines {
        let place: Place = line.parse()?;
        append(&mut positions, place.source, place.offset)?;
    }
    Ok(positions)
}

fn packet_id(line: &str) -> Result<(u16, &str), Fault> {
    let (id, rest) = line.split_once(' ').ok_or(Fault::Damaged("a line without a packet id"))?;
    match number(id)? {
        0 => Err(Fault::Damaged("packet id 0")),
        id => Ok((id, rest)),
    }
}

/// Enters the next key of an ordered list; one that is not higher than the last is damage.
fn append<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), Fault> {
    if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
        return Err(Fault::Damaged("a list out of order"));
    }
    map.insert(key, value);
    Ok(())
}
