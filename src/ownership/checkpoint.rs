//! `checkpoint:<instance>`: per source the offset below which everything is settled for all sessions of an instance that are at the tail.
//!
//! ```json
//! {"v":1,"run":1,"n":41,"positions":["hBKuK8bnSVqDRrlT2pDEKQ/3@1260"]}
//! ```
//! It speaks for the sessions whose last state or steps name the same run, and lie before it; `checkpoints` has the rules.
//! Each partition of `mqtt-sessions` has its own, for the sessions in it. Only so is there an order between a checkpoint and a claim:
//! a session that falls behind says so in its steps; were the checkpoint in another partition, a claimer could read the old steps and
//! the checkpoint that was written after the new ones, and would leave out what lies between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{NewRecord, parse};
use super::steps::{positions_from_lines, positions_to_lines};
use super::text::Source;
use super::{Fault, Key, VERSION};

/// What is settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// For whom it speaks: those whose last steps name this run.
    pub run: u64,
    /// Counts the checkpoints of an instance.
    pub n: u64,
    /// By source.
    pub positions: BTreeMap<Source, i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u32,
    run: u64,
    n: u64,
    positions: Vec<String>,
}

impl Checkpoint {
    /// As a record.
    ///
    /// # Errors
    /// [`Fault::TooLarge`].
    pub fn record(&self, instance: &str) -> Result<NewRecord, Fault> {
        let written = Written {
            v: VERSION,
            run: self.run,
            n: self.n,
            positions: positions_to_lines(&self.positions),
        };
        NewRecord::json(Key::Checkpoint(instance), vec![("v", VERSION.to_string())], &written)
    }

    /// Reads a value.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn parse(value: &[u8]) -> Result<Self, Fault> {
        let written: Written = parse(value, "a checkpoint")?;
        Ok(Self {
            run: written.run,
            n: written.n,
            positions: positions_from_lines(&written.positions)?,
        })
    }
}
