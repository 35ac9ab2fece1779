//! `proxy.yaml`: the file as written → the settings as meant.
//!
//! [`load`] reads the file, `tree` makes values of it that know their line and column, `walk` takes them as what they
//! should be and notes every fault, and each file beside this one knows a part of the contract: `listeners`, `limits`,
//! `sessions`, `cluster` (`kafka`), `rules`, `values` (of rules). The settings themselves belong to the modules that obey them. Nothing is ignored: a key
//! that has no function in this release is a fault that says so. A value that came from the environment is in no error.

mod access;
mod authentication;
mod cluster;
mod compression;
mod environment;
mod examples;
mod hidden;
mod limits;
mod listener_tls;
mod listener_websocket;
mod listeners;
mod problem;
mod rule_kafka;
mod rule_places;
mod rules;
mod sasl;
mod scalar;
mod security;
mod sessions;
mod shown;
mod stored;
mod tables;
mod topics;
mod tree;
mod units;
mod values;
mod walk;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::mapping::{RuleSet, Unmapped};
use crate::resources::RegistrySettings;
use crate::{admin, downstream, relay, session, upstream};

pub use hidden::Hidden;
pub use problem::{LoadError, Problem};
pub use stored::{Stored, load_stored};

use tree::{Node, Place};
use walk::{Keys, Section, Walk};

/// JSON Schema of the file, for editors; the tests hold it against the parser.
pub const SCHEMA: &str = include_str!("../../docs/proxy.schema.json");

/// Largest file that is read, in bytes.
pub const LARGEST_FILE: u64 = 4 << 20;

const KAFKA_EXAMPLE: &str = "{bootstrap_servers: [\"localhost:9092\"]}";
const RULES_EXAMPLE: &str = "[{name: all, mqtt: \"{topic#}\", kafka: {topic: mqtt}}]";

const TOP: Keys = Keys {
    known: &[
        "listeners",
        "limits",
        "kafka",
        "rules",
        "unmapped",
        "payload_format_check",
        "sessions",
        "retained",
        "authentication",
        "authorization",
        "unauthorized",
        "admin",
    ],
    later: &[],
};

/// All that the file says, checked. Defaults stand where it is silent.
#[derive(Debug)]
pub struct Config {
    /// `listeners`: at least one, their names and addresses differ.
    pub listeners: Vec<downstream::ListenerSettings>,
    /// Of `limits`, what holds before the first packet.
    pub limits: downstream::Limits,
    /// Of `limits`, what holds for each session.
    pub session: session::Settings,
    /// Of `limits`, how fast each client may publish.
    pub rate: relay::ClientRate,
    /// `kafka`.
    pub kafka: upstream::Settings,
    /// Of `kafka.consumer`, what concerns subscribers that cannot keep up.
    pub sweeps: relay::SweepSettings,
    /// `kafka.topics`.
    pub state_topics: relay::StateTopics,
    /// `sessions`: how they are stored; `None`: they end with their connections.
    pub store: Option<relay::StoreSettings>,
    /// `sessions.group_prefix`: in front of the names of consumer groups.
    pub group_prefix: String,
    /// `sessions.shared`: what groups those are.
    pub shared: relay::SharedKind,
    /// `retained.memory`, in bytes.
    pub retained_memory: usize,
    /// `rules`, with `unmapped`: at least one.
    pub rules: RuleSet,
    /// Of `rules[].value`: the registries that they name, each once.
    pub registries: Vec<RegistrySettings>,
    /// `payload_format_check`: a message that says that its payload is UTF-8 is refused if it is not.
    pub payload_format_check: bool,
    /// `authentication`, `authorization`, `unauthorized`.
    pub access: relay::Access,
    /// `admin`; `None` opens no such port.
    pub admin: Option<admin::Settings>,
    /// The file as it is written, in JSON and without secrets, for `/config`; empty without `admin`.
    pub shown: String,
    /// What is no fault, and yet to be told: rules that do less than one might think.
    pub warnings: Vec<Problem>,
    /// What came out of the environment: no error of what this configuration names may show it.
    pub hidden: Hidden,
}

/// Reads a file. Relative paths in it begin at its folder; `${NAME}` is taken from the process's environment.
///
/// # Errors
/// The file cannot be read, or all that is wrong with it.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let text = text_of(path)?;
    let mut walk = Walk::new(folder_of(path), &of_process);
    read(&text, &mut walk, Walk::file).map_err(|problems| LoadError::Faults {
        path: path.to_owned(),
        problems,
        listeners: walk.listeners,
        hidden: walk.hidden.into_inner(),
    })
}

/// As [`load`], of a text: `folder` is where relative paths begin, `environment` what `${NAME}` stands for.
///
/// # Errors
/// All that is wrong, at least one, in the order of the text.
pub fn parse(text: &str, folder: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    read(text, &mut Walk::new(folder, environment), Walk::file)
}

/// The text of a file.
fn text_of(path: &Path) -> Result<String, LoadError> {
    let unreadable = |why: String| LoadError::Unreadable {
        path: path.to_owned(),
        why,
    };
    let mut bytes = vec![];
    // One byte more than allowed tells "too large" without trusting what the file system says of its size.
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|e| unreadable(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(unreadable(format!("is larger than {} MiB", LARGEST_FILE >> 20)));
    }
    String::from_utf8(bytes).map_err(|e| LoadError::Faults {
        path: path.to_owned(),
        problems: vec![not_utf8(e.as_bytes(), e.utf8_error().valid_up_to())],
        listeners: vec![],
        hidden: Hidden::default(),
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The environment of the process.
fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What `take` makes of a text, or all that is wrong with it, in its order.
fn read<'e, T>(text: &str, walk: &mut Walk<'e>, take: impl FnOnce(&mut Walk<'e>, &Node) -> Option<T>) -> Result<T, Vec<Problem>> {
    let (root, mut problems) = tree::read(text.strip_prefix('\u{feff}').unwrap_or(text));
    let taken = match root {
        Some(root) if !root.is_nothing() => take(walk, &root),
        _ if problems.is_empty() => {
            walk.fault(Place::START, "the file is empty", "begin with `listeners`, `kafka` and `rules`");
            None
        }
        _ => None,
    };
    problems.append(&mut walk.problems);
    match taken {
        Some(taken) if problems.is_empty() => Ok(taken),
        _ => Err(in_order(problems)),
    }
}

/// As they stand in the file; an alias brings the same fault to each place that it fills.
fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    problems
}

impl Walk<'_> {
    /// The whole file. `None`: something that cannot be missing is, or is at fault; that is noted.
    fn file(&mut self, root: &Node) -> Option<Config> {
        let config = self.sections(root);
        if !self.problems.is_empty() {
            self.tell_unset(root);
        }
        config
    }

    fn sections(&mut self, root: &Node) -> Option<Config> {
        let top = self.section(root, "", &TOP)?;
        let mut taken = listeners::Taken::default();
        let mut listeners = self
            .required(&top, "listeners", "[{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt}]")
            .map(|n| self.listeners(n, &mut taken));
        self.listeners = listeners.clone().unwrap_or_default();
        let mut admin = self.optional(&top, "admin").and_then(|n| self.admin(n, &mut taken));
        Self::divide(listeners.as_deref_mut().unwrap_or_default(), admin.as_mut(), &taken);
        let mut limits = self.optional(&top, "limits").map(|n| self.limits(n)).unwrap_or_default();
        let kafka = self.required(&top, "kafka", KAFKA_EXAMPLE).and_then(|n| self.kafka(n, &top));
        let sessions = self.optional(&top, "sessions");
        let mut store = sessions.and_then(|n| self.sessions(n, &mut limits.session));
        let (group_prefix, shared) = sessions.map(|n| self.shared(n)).unwrap_or_default();
        let retained_memory = self.retained(&top);
        let unmapped = self.unmapped(&top);
        let access = self.access(&top, &taken.authentication, limits.connections_per_identity);
        let rules = self
            .required(&top, "rules", RULES_EXAMPLE)
            .and_then(|n| self.rules(n, unmapped, &access));
        let payload_format_check = self.optional(&top, "payload_format_check");
        let payload_format_check = payload_format_check
            .and_then(|n| self.flag(n, "payload_format_check"))
            .unwrap_or(false);
        let (kafka, sweeps, state_topics) = kafka?;
        let rules = rules?;
        if let Some(store) = &mut store {
            name_topics(store, &state_topics, rules.keeps_retained());
        }
        limits.session.retain_available = rules.takes_retained();
        Some(Config {
            listeners: listeners?,
            limits: limits.downstream,
            session: limits.session,
            rate: limits.rate,
            kafka,
            sweeps,
            state_topics,
            group_prefix: group_prefix.unwrap_or_else(|| "mqtt-".to_owned()),
            shared,
            retained_memory,
            rules,
            store,
            registries: std::mem::take(&mut self.registries),
            payload_format_check,
            access,
            shown: admin.as_ref().map_or_else(String::new, |_| shown::file(root, &self.secrets)),
            admin,
            warnings: std::mem::take(&mut self.warnings),
            hidden: self.hidden.borrow().clone(),
        })
    }

    fn unmapped(&mut self, top: &Section<'_>) -> Unmapped {
        self.optional(top, "unmapped")
            .and_then(|n| self.choice(n, "unmapped", &rules::UNMAPPED, &[]))
            .unwrap_or_default()
    }
}

/// What `kafka.topics` and the rules say of stored sessions.
fn name_topics(store: &mut relay::StoreSettings, topics: &relay::StateTopics, keeps_retained: bool) {
    store.topic.clone_from(&topics.sessions.name);
    store.retained = keeps_retained.then(|| topics.retained.name.clone());
    store.state_topics = vec![topics.sessions.name.clone(), topics.retained.name.clone()];
}

fn not_utf8(bytes: &[u8], valid: usize) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        line: bounded(line),
        column: bounded(column),
    }
    .problem("this is not UTF-8", "save the file as UTF-8")
}
