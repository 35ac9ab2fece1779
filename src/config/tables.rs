//! `lookup` of a rule: the tables that its programs look into, with their files read.

use std::sync::Arc;

use crate::mapping::Table;
use crate::resources::table_files;

use super::rule_places::child;
use super::tree::{Kind, Node};
use super::walk::{Keys, Walk};

const TABLE: Keys = Keys {
    known: &["file", "key"],
    later: &["topic"],
};

impl Walk<'_> {
    /// Tables of a rule's programs, with their files read.
    pub(super) fn lookup(&mut self, node: &Node) -> Option<Vec<(String, Arc<Table>)>> {
        let Kind::Table(entries) = &node.kind else {
            let remedy = "write names with files, for example {sites: sites.csv}";
            self.fault(node.place, "`rules[].lookup` is not a table", remedy);
            return None;
        };
        // All of them, so that all their faults are told.
        let read: Vec<_> = entries
            .iter()
            .map(|(name, node)| Some((name.text.clone(), self.table_file(node)?)))
            .collect();
        read.into_iter().collect()
    }

    fn table_file(&mut self, node: &Node) -> Option<Arc<Table>> {
        let (file, key) = match &node.kind {
            Kind::Table(_) => {
                let section = self.section(node, "rules[].lookup.NAME", &TABLE)?;
                if child(node, "topic").is_some() {
                    return None;
                }
                let key = self.optional(&section, "key").map(|n| self.text(n, "rules[].lookup.NAME.key"));
                (self.required(&section, "file", "sites.csv")?, key)
            }
            _ => (node, None),
        };
        let key = key.map_or(Some(None), |key| key.map(Some))?;
        let path = self.path(file, "rules[].lookup.NAME.file")?;
        let table = table_files::read(&path).and_then(|content| Table::new(path.clone(), key, &content));
        match table {
            Ok(table) => Some(Arc::new(table)),
            Err(why) => {
                let wrong = self.without_secrets(format!("{} {why}", path.display()));
                self.fault(
                    file.place,
                    wrong,
                    "give a .csv or .json file that this user may read, as docs/transforms.md tells",
                );
                None
            }
        }
    }
}
