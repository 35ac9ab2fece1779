//! The walk over the tree: sections with known keys, values with types. It never stops at a fault; it notes it and
//! goes on, so that one run tells them all.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::downstream::ListenerSettings;
use crate::mapping::Table;
use crate::resources::RegistrySettings;

use super::environment::{ExpandFault, expand, unset};
use super::hidden::Hidden;
use super::problem::{Problem, nearest, quoted};
use super::shown::without_credentials;
use super::tree::{Kind, Node, Place};

/// What a section may hold.
pub(super) struct Keys {
    /// Keys with a function.
    pub(super) known: &'static [&'static str],
    /// Keys of the contract whose function comes with a later release.
    pub(super) later: &'static [&'static str],
}

/// A table of the file whose keys were checked.
pub(super) struct Section<'t> {
    /// As users write it, for example `kafka.producer`; empty for the file itself.
    pub(super) name: String,
    pub(super) place: Place,
    entries: Vec<(&'t str, &'t Node)>,
    /// Keys that are misspelt, as they are meant.
    meant: Vec<&'t str>,
}

impl<'t> Section<'t> {
    /// The value of a key, if it stands there.
    pub(super) fn get(&self, key: &str) -> Option<&'t Node> {
        self.entries.iter().find(|(k, _)| *k == key).map(|(_, node)| *node)
    }

    /// Whether keys are misspelt. What follows from their absence is no fault of its own.
    pub(super) fn is_misspelt(&self) -> bool {
        !self.meant.is_empty()
    }

    /// Whether a misspelt key is meant to be this one.
    pub(super) fn means(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// A key's full name.
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// The walk: what it found wrong so far, and what it needs from outside.
pub(super) struct Walk<'e> {
    pub(super) problems: Vec<Problem>,
    /// What is no fault, and yet to be told.
    pub(super) warnings: Vec<Problem>,
    /// Listeners that can be read, whatever else is wrong.
    pub(super) listeners: Vec<ListenerSettings>,
    /// A file that cannot be used is a warning, and examples are not tried: rules are read for those who have no messages to map.
    pub(super) lenient: bool,
    /// That rules name, each once.
    pub(super) registries: Vec<RegistrySettings>,
    /// Of Kafka topics that rules name as tables, each once.
    pub(super) tables: Vec<Arc<Table>>,
    /// Of files that they name, by path and key.
    pub(super) table_files: HashMap<(PathBuf, Option<String>), Arc<Table>>,
    /// Places of values that are secrets.
    pub(super) secrets: BTreeSet<Place>,
    /// Relative paths begin here: the folder of the file.
    folder: &'e Path,
    environment: &'e dyn Fn(&str) -> Option<String>,
    /// What came out of the environment: no error shows it.
    pub(super) hidden: RefCell<Hidden>,
}

impl<'e> Walk<'e> {
    pub(super) fn new(folder: &'e Path, environment: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            problems: vec![],
            warnings: vec![],
            listeners: vec![],
            lenient: false,
            registries: vec![],
            tables: vec![],
            table_files: HashMap::new(),
            secrets: BTreeSet::new(),
            folder,
            environment,
            hidden: RefCell::default(),
        }
    }

    /// Where relative paths begin.
    pub(super) fn folder(&self) -> &Path {
        self.folder
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(place.problem(message, remedy));
    }

    /// Notes what is wrong with a file that the configuration names.
    pub(super) fn unfit(&mut self, place: Place, message: &str, remedy: impl Into<String>) {
        let problem = place.problem(self.without_secrets(message), remedy);
        if self.lenient {
            self.warnings.push(problem);
        } else {
            self.problems.push(problem);
        }
    }

    /// Notes each variable below that is not there. A fault often hides what stands beside it, and to set one variable after another is tedious.
    pub(super) fn tell_unset(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar { text, .. } => {
                for fault in unset(text, self.environment) {
                    self.fault(node.place_at(fault.at), fault.message, fault.remedy);
                }
            }
            Kind::List(list) => list.iter().for_each(|node| self.tell_unset(node)),
            Kind::Table(entries) => entries.iter().for_each(|(_, node)| self.tell_unset(node)),
        }
    }

    /// Opens a table. `None`: it is none, and that is noted.
    pub(super) fn section<'t>(&mut self, node: &'t Node, name: &str, keys: &Keys) -> Option<Section<'t>> {
        let Kind::Table(entries) = &node.kind else {
            let known = keys.known.join(", ");
            self.fault(
                node.place,
                format!("{} is not a table", shown(name)),
                format!("write keys with values; it may have {known}"),
            );
            return None;
        };
        let mut section = Section {
            name: name.to_owned(),
            place: node.place,
            entries: Vec::with_capacity(entries.len()),
            meant: vec![],
        };
        for (key, value) in entries {
            if keys.known.contains(&key.text.as_str()) {
                if value.is_nothing() {
                    self.fault(
                        key.place,
                        format!("{} has no value", shown(&section.path(&key.text))),
                        match key.text.as_str() {
                            "mqtt" => {
                                "give it one, or remove the key; a `#` that stands in no quotes begins a comment: write `mqtt: \"#\"`"
                            }
                            _ => "give it one, or remove the key",
                        },
                    );
                }
                section.entries.push((&key.text, value));
            } else if keys.later.contains(&key.text.as_str()) {
                self.later(key.place, &shown(&section.path(&key.text)));
            } else {
                let message = format!("unknown key {} in {}", quoted(&key.text), shown(name));
                let near = nearest(&key.text, keys.known.iter().chain(keys.later).copied());
                section.meant.extend(near);
                let remedy = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    // A merge key: some YAML readers have them.
                    None if key.text == "<<" => "write the keys out; an alias stands for one whole value".to_owned(),
                    None => format!("the keys here are {}", keys.known.join(", ")),
                };
                self.fault(key.place, message, remedy);
            }
        }
        Some(section)
    }

    /// Words that others made of values, without what came out of the environment.
    pub(super) fn without_secrets(&self, words: &str) -> String {
        self.hidden.borrow().without(words)
    }

    /// Notes that something of the contract has no function in this release.
    pub(super) fn later(&mut self, place: Place, what: &str) {
        self.fault(
            place,
            format!("{what} is not supported yet"),
            "remove it; it comes with a later release",
        );
    }

    /// A key that must be there; one that is misspelt is noted already.
    pub(super) fn required<'t>(&mut self, section: &Section<'t>, key: &str, example: &str) -> Option<&'t Node> {
        let node = section.get(key);
        if node.is_none() && !section.means(key) {
            self.fault(
                section.place,
                format!("{} has no `{key}`", shown(&section.name)),
                format!("add `{key}: {example}`"),
            );
        }
        // `key:` without a value is noted already.
        node.filter(|n| !n.is_nothing())
    }

    /// A key that may be there; one without a value is noted already.
    pub(super) fn optional<'t>(&mut self, section: &Section<'t>, key: &str) -> Option<&'t Node> {
        section.get(key).filter(|n| !n.is_nothing())
    }

    /// A list, at least one long.
    pub(super) fn list<'t>(&mut self, node: &'t Node, name: &str) -> &'t [Node] {
        match &node.kind {
            Kind::List(list) if !list.is_empty() => list,
            Kind::List(_) => {
                self.fault(node.place, format!("{} is empty", shown(name)), "give at least one entry");
                &[]
            }
            _ => {
                self.fault(
                    node.place,
                    format!("{} is not a list", shown(name)),
                    "write its entries as `- …`, or in `[ ]`",
                );
                &[]
            }
        }
    }

    /// A scalar with `${NAME}` filled from the environment, which errors never show; they show what is written.
    pub(super) fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        match self.filled(node) {
            Some(Ok(filled)) => Some(filled),
            Some(Err(fault)) => {
                let message = match fault.instead {
                    Some(instead) if self.secrets.contains(&node.place) => instead.to_owned(),
                    _ => fault.message,
                };
                self.fault(node.place_at(fault.at), message, fault.remedy);
                None
            }
            None => {
                self.fault(
                    node.place,
                    format!("{} is a list or a table", shown(name)),
                    "give one value; put it in quotes if it begins with `{` or `[`",
                );
                None
            }
        }
    }

    /// As [`Walk::text`], and nothing is noted. `None`: it is no scalar.
    pub(super) fn filled(&self, node: &Node) -> Option<Result<String, ExpandFault>> {
        let Kind::Scalar { text, .. } = &node.kind else { return None };
        let given = RefCell::new(vec![]);
        let environment = |name: &str| {
            let value = (self.environment)(name);
            given.borrow_mut().extend(value.clone().filter(|v| !v.is_empty()));
            value
        };
        let filled = expand(text, &environment);
        let (given, mut hidden) = (given.take(), self.hidden.borrow_mut());
        given.iter().for_each(|value| hidden.value(value));
        if let Ok(filled) = &filled {
            hidden.whole(filled, &given);
        }
        Some(filled)
    }

    /// A scalar that `read` understands; else it is not `what`, and `remedy` says what would be right.
    pub(super) fn parsed<T>(&mut self, node: &Node, name: &str, read: impl FnOnce(&str) -> Result<T, (String, String)>) -> Option<T> {
        let text = self.text(node, name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err((wrong, remedy)) => {
                // The remedy may hold pieces of the value, which is the environment's secret then.
                let remedy = if is_filled(node) {
                    "check the variable, or its default".to_owned()
                } else {
                    remedy
                };
                self.fault(node.place, format!("{}: {} {wrong}", shown(name), written(node)), remedy);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, node: &Node, name: &str) -> Option<bool> {
        self.choice(node, name, &[("true", true), ("false", false)], &[])
    }

    /// One word of a closed set; `later` are words whose function comes with a later release.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, name: &str, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text(node, name)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        if later.iter().any(|word| word.eq_ignore_ascii_case(&text)) {
            let message = format!("{}: {} is not supported yet", shown(name), written(node));
            self.fault(node.place, message, format!("write {}", one_of(&known)));
            return None;
        }
        // A slip of the pen spares the first letter; `one` is nearer to `none` than to what it means.
        let like = |word: &&str| word.as_bytes().first() == text.to_ascii_lowercase().as_bytes().first();
        let remedy = match nearest(&text, known.iter().copied().filter(like)) {
            // A near word tells nothing of a value that came out of the environment.
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {}", one_of(&known)),
        };
        self.fault(node.place, format!("{}: {} is not a choice", shown(name), written(node)), remedy);
        None
    }

    /// A path that begins at the folder of the file if it is relative.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// A path; a relative one begins at the folder of the file.
    pub(super) fn path(&mut self, node: &Node, name: &str) -> Option<PathBuf> {
        let text = self.text(node, name)?;
        if text.is_empty() || text.contains('\0') {
            self.fault(node.place, format!("{} is no path", shown(name)), "give the path of a file");
            return None;
        }
        self.shown_as_written(node, "", &text);
        Some(self.beside(&text))
    }
}

/// A name of a section or key in an error.
pub(super) fn shown(name: &str) -> String {
    if name.is_empty() {
        "the file".to_owned()
    } else {
        format!("`{name}`")
    }
}

/// A scalar as it stands in the file: neither what came out of the environment is shown, nor credentials in an address.
pub(super) fn written(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar { text, .. } => quoted(&without_user(&without_credentials(text))),
        Kind::List(_) => "a list".to_owned(),
        Kind::Table(_) => "a table".to_owned(),
    }
}

/// An address that lacks its `://`, which may be what is wrong with it, without user and password.
fn without_user(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((user, host)) if user.contains(':') && !text.contains("://") => format!("…@{host}").into(),
        _ => text.into(),
    }
}

/// Whether the environment has a part in a scalar.
pub(super) fn is_filled(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, .. } if text.replace("$${", "").contains("${"))
}

/// `a`, `b` or `c`.
fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [head @ .., last] => format!(
            "{} or `{last}`",
            head.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}
