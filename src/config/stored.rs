//! What operators of stored sessions need of a file: the cluster, and how sessions are stored. What is wrong with other sections does not keep
//! anybody from them.

use std::path::Path;

use crate::mapping::RuleSet;
use crate::relay::{Access, StoreSettings};
use crate::{session, upstream};

use super::hidden::Hidden;
use super::problem::{LoadError, Problem};
use super::tree::Node;
use super::walk::Walk;
use super::{KAFKA_EXAMPLE, RULES_EXAMPLE, TOP, folder_of, in_order, name_topics, of_process, read, text_of};

/// The part of a file that concerns stored sessions.
#[derive(Debug)]
pub struct Stored {
    /// `kafka`.
    pub kafka: upstream::Settings,
    /// The Kafka topic of sessions.
    pub topic: String,
    /// `sessions`: how they are stored; `None`: they end with their connections.
    pub store: Option<StoreSettings>,
    /// `rules`, by which wills are sent, without their files where those cannot be read; or what is wrong with them.
    pub rules: Result<RuleSet, LoadError>,
    /// What is wrong with files that rules name.
    pub unfit: Vec<Problem>,
}

/// Reads a file as [`super::load`] does, only for that.
///
/// # Errors
/// The file cannot be read, or all that is wrong with `kafka`, `sessions`, or keys of the file itself.
pub fn load_stored(path: &Path) -> Result<Stored, LoadError> {
    let text = text_of(path)?;
    let faults = |problems| LoadError::Faults {
        path: path.to_owned(),
        problems,
        listeners: vec![],
        hidden: Hidden::default(),
    };
    let mut walk = Walk::new(folder_of(path), &of_process);
    read(&text, &mut walk, |walk, root| walk.stored(root, &faults)).map_err(faults)
}

impl Walk<'_> {
    fn stored(&mut self, root: &Node, faults: &impl Fn(Vec<Problem>) -> LoadError) -> Option<Stored> {
        let top = self.section(root, "", &TOP)?;
        let kafka = self.required(&top, "kafka", KAFKA_EXAMPLE).and_then(|n| self.kafka(n, &top));
        let mut session = session::Settings::default();
        let mut store = self.optional(&top, "sessions").and_then(|n| self.sessions(n, &mut session));
        let before = self.problems.len();
        self.lenient = true;
        let unmapped = self.unmapped(&top);
        let rules = self.required(&top, "rules", RULES_EXAMPLE);
        let rules = rules.and_then(|n| self.rules(n, unmapped, &Access::default()));
        let wrong = self.problems.split_off(before);
        let (kafka, _, topics) = kafka?;
        if let Some(store) = &mut store {
            name_topics(store, &topics, rules.as_ref().is_some_and(RuleSet::keeps_retained));
        }
        Some(Stored {
            kafka,
            topic: topics.sessions.name,
            store,
            rules: rules.filter(|_| wrong.is_empty()).ok_or_else(|| faults(in_order(wrong))),
            unfit: std::mem::take(&mut self.warnings),
        })
    }
}
