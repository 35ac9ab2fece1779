//! `compression`, of the producer and of rules: the name of a codec, or a table of codec and level.

use crate::kafka::Compression;

use super::tree::{Kind, Node};
use super::walk::{Keys, Walk, shown};

const TABLE: Keys = Keys {
    known: &["codec", "level"],
    later: &[],
};
/// The levels are the defaults of zlib and of zstd, as in the Java client.
const WORDS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip { level: 6 }),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd { level: 3 }),
];

impl Walk<'_> {
    /// `lz4`, or `{codec: zstd, level: 9}`.
    pub(super) fn compression(&mut self, node: &Node, name: &str) -> Option<Compression> {
        let Kind::Table(_) = &node.kind else {
            return self.choice(node, name, &WORDS, &[]);
        };
        let section = self.section(node, name, &TABLE)?;
        let codec = self
            .required(&section, "codec", "zstd")
            .map(|n| self.choice(n, &section.path("codec"), &WORDS, &[]));
        match (codec.flatten()?, self.optional(&section, "level")) {
            (codec, None) => Some(codec),
            (codec, Some(level)) => self.level(codec, level, &section.path("level")),
        }
    }

    fn level(&mut self, codec: Compression, node: &Node, name: &str) -> Option<Compression> {
        match codec {
            Compression::Gzip { .. } => {
                let level = self.number(node, name, 1..=9)?;
                Some(Compression::Gzip { level: level as u32 })
            }
            Compression::Zstd { .. } => {
                let level = self.number(node, name, 1..=22)?;
                Some(Compression::Zstd { level: level as i32 })
            }
            Compression::None | Compression::Snappy | Compression::Lz4 => {
                let message = format!("{}: this codec has no levels", shown(name));
                self.fault(node.place, message, "remove the level, or choose gzip or zstd");
                None
            }
        }
    }
}
