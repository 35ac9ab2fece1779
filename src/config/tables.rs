//! `lookup` of a rule: the tables that its programs look into, with their files read; topics are read when the proxy runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mapping::{Format, Table, TopicTable, illegal_kafka_topic};
use crate::resources::table_files;

use super::rule_places::child;
use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk};

const FILE: Keys = Keys {
    known: &["file", "key"],
    later: &[],
};
const TOPIC: Keys = Keys {
    known: &["topic", "key", "format", "memory", "sample"],
    later: &[],
};
const EITHER: Keys = Keys {
    known: &["file", "topic", "key", "format", "memory", "sample"],
    later: &[],
};
const FORMATS: [(&str, Format); 4] = [
    ("json", Format::Json),
    ("text", Format::Text),
    ("bytes", Format::Bytes),
    ("cbor", Format::Cbor),
];

/// Memory for the rows of a topic, in bytes: by default, and what may be set.
const MEMORY: u64 = 64 << 20;
const MEMORY_RANGE: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;

/// Of a file that cannot be had, and of one that holds something else.
const THERE: &str = "make the file, or let this user read it; a relative path begins in the folder of this configuration";
const WELL: &str = "mend the file, a .csv or .json with rows as docs/transforms.md tells";

impl Walk<'_> {
    /// Tables of a rule's programs, with their files read. `None`: they have no names.
    pub(super) fn lookup(&mut self, node: &Node) -> Option<Vec<(String, Arc<Table>)>> {
        let Kind::Table(entries) = &node.kind else {
            let remedy = "write names with files, for example {sites: sites.csv}";
            self.fault(node.place, "`rules[].lookup` is not a table", remedy);
            return None;
        };
        // One that cannot be read has its name all the same: what else is wrong with the programs is told, too.
        let unread = || Arc::new(Table::unread(PathBuf::new(), None));
        let read = entries
            .iter()
            .map(|(name, node)| (name.text.clone(), self.lookup_table(node).unwrap_or_else(unread)));
        Some(read.collect())
    }

    fn lookup_table(&mut self, node: &Node) -> Option<Arc<Table>> {
        const NAME: &str = "rules[].lookup.NAME";
        if !matches!(node.kind, Kind::Table(_)) {
            return self.table_file(node, None);
        }
        match (child(node, "file"), child(node, "topic")) {
            (None, None) => {
                self.section(node, NAME, &EITHER)?;
                let remedy = "write `file: sites.csv`, or `topic: sites` for a compacted Kafka topic";
                self.fault(node.place, format!("`{NAME}` names neither `file` nor `topic`"), remedy);
                None
            }
            (Some(_), Some(topic)) => {
                self.fault(
                    topic.place,
                    format!("`{NAME}` names a `file` and a `topic`"),
                    "a table has one of them",
                );
                None
            }
            (Some(_), None) => {
                let section = self.section(node, NAME, &FILE)?;
                let key = self.key(&section);
                let file = self.required(&section, "file", "sites.csv")?;
                self.table_file(file, key?)
            }
            (None, Some(_)) => {
                let section = self.section(node, NAME, &TOPIC)?;
                self.table_topic(&section)
            }
        }
    }

    /// `Some(None)`: there is none.
    fn key(&mut self, section: &Section<'_>) -> Option<Option<String>> {
        let key = self.optional(section, "key").map(|n| self.text(n, "rules[].lookup.NAME.key"));
        key.map_or(Some(None), |key| key.map(Some))
    }

    /// The table of a file; rules that name it with the same key share it.
    fn table_file(&mut self, file: &Node, key: Option<String>) -> Option<Arc<Table>> {
        let path = self.path(file, "rules[].lookup.NAME.file")?;
        let named = (path, key);
        if let Some(known) = self.table_files.get(&named) {
            return Some(known.clone());
        }
        let (path, key) = &named;
        let table = table_files::read(path).and_then(|content| Table::new(path.clone(), key.clone(), &content));
        match table {
            Ok(table) => Some(self.table_files.entry(named).or_insert(Arc::new(table)).clone()),
            Err(why) => {
                self.unfit_table(file, path, &why);
                let (path, key) = named;
                self.lenient.then(|| Arc::new(Table::unread(path, key)))
            }
        }
    }

    fn unfit_table(&mut self, file: &Node, path: &Path, why: &str) {
        let remedy = if why.starts_with("cannot be read") { THERE } else { WELL };
        self.unfit(file.place, &format!("{} {why}", path.display()), remedy);
    }

    /// The table of a topic; rules that name it in the same way share it.
    fn table_topic(&mut self, section: &Section<'_>) -> Option<Arc<Table>> {
        let node = self.required(section, "topic", "sites")?;
        let topic = self.parsed(node, "rules[].lookup.NAME.topic", |text| match illegal_kafka_topic(text) {
            None => Ok(text.to_owned()),
            Some((_, why)) => Err((
                format!("is no name of a Kafka topic: {why}"),
                "write up to 249 letters, digits, `.`, `_` and `-`".to_owned(),
            )),
        });
        let key = self.key(section);
        let format = self.chosen(section, "format", &FORMATS, &[]);
        let memory = self
            .optional(section, "memory")
            .and_then(|n| self.size(n, "rules[].lookup.NAME.memory", MEMORY_RANGE));
        let unreadable = |key, read: bool| section.get(key).is_some() && !read;
        if unreadable("format", format.is_some()) || unreadable("memory", memory.is_some()) || section.is_misspelt() {
            return None;
        }
        let sample = self.optional(section, "sample");
        let path = sample.map(|n| self.path(n, "rules[].lookup.NAME.sample"));
        let wanted = TopicTable {
            topic: topic?,
            key: key?,
            format: format.unwrap_or_default(),
            memory: usize::try_from(memory.unwrap_or(MEMORY)).unwrap_or(usize::MAX),
            sample: path.map_or(Some(None), |path| path.map(Some))?,
        };
        let same = |table: &&Arc<Table>| table.topic().is_some_and(|known| known.topic == wanted.topic);
        if let Some(known) = self.tables.iter().find(same).cloned() {
            if known.topic() == Some(&wanted) {
                return Some(known);
            }
            let message = format!(
                "the topic `{}` is a table of other keys, format, memory or sample in a rule before",
                self.without_secrets(&wanted.topic)
            );
            self.fault(section.place, message, "write the same in both: a topic is read once");
            return None;
        }
        let table = Arc::new(Table::of_topic(wanted));
        // Samples are for examples and for those who explain.
        if let (Some(node), false) = (sample, self.lenient)
            && let Err((path, why)) = table_files::stand_in(&table)
        {
            self.unfit_table(node, &path, &why);
            return None;
        }
        self.tables.push(table.clone());
        Some(table)
    }
}
