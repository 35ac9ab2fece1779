//! Files of EMQX in HOCON, as far as they are about Kafka: what rules send to `kafka_producer` actions, and what they republish of
//! `kafka_consumer` sources; and the bridges that came before both. There every rule that matches has its say; here the first takes a message, and
//! copies are made beside it.

mod access;
mod connector;
mod consumers;
mod engine;
mod filters;
mod includes;
mod listeners;
mod mqtt;
mod producers;
mod sql;
mod template;
mod tree;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::{
    Source,
    yaml::{comment, told},
};
use consumers::Reads;
use tree::Tree;

/// What was read, and what is to be said of it.
#[derive(Default)]
struct Import {
    tree: Tree,
    /// Rules, as they are written.
    rules: Vec<String>,
    names: HashSet<String>,
    /// The filters of those that are no copies.
    filters: Vec<String>,
    /// The servers that all of it is about.
    servers: Option<Vec<String>>,
    /// `security` of them.
    security: String,
    /// Connectors by their paths: of these servers, or why not.
    connectors: HashMap<String, Result<(), String>>,
    /// Sources by their paths, or why nothing is read of them.
    sources: HashMap<String, Result<Reads, String>>,
    /// The MQTT topics of Kafka topics that are read: a record becomes one message.
    read: HashMap<String, String>,
    /// What is to be done by hand, or is good to know; each once.
    notes: Vec<String>,
    /// What would have to be decided.
    open: Vec<String>,
    /// Clients of all listeners are asked who they are, or may be: that is not known here.
    asks_all: bool,
}

impl Import {
    fn note(&mut self, words: &str) {
        if !self.notes.iter().any(|known| known == words) {
            self.notes.push(words.to_owned());
        }
    }

    fn open(&mut self, words: String) {
        if !self.open.contains(&words) {
            self.open.push(words);
        }
    }

    /// What is not imported; why is to be decided.
    fn leave_out(&mut self, path: &[&str]) {
        self.tree.leave(path, "not imported, see what is to be decided");
    }

    /// What nothing that is imported has asked for.
    fn leave_unused(&mut self, path: &[&str]) {
        let is_off = self.tree.is_off(path);
        self.tree
            .leave(path, if is_off { "it is switched off" } else { "no imported rule uses it" });
    }
}

/// Writes `proxy.yaml` of files of EMQX.
///
/// # Errors
/// A file is no HOCON, or has nothing that rules could be made of; in words.
pub fn emqx(sources: &[Source]) -> Result<String, String> {
    let mut import = Import::default();
    for source in sources {
        import.tree.read(source)?;
        for words in includes::missing(source) {
            import.asks_all = true;
            import.open(words);
        }
    }
    let consumers = consumers::all(&import);
    producers::producers(&mut import);
    consumers::consumers(&mut import, &consumers);
    connector::unused(&mut import);
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    if import.rules.is_empty() {
        let why = match import.open.as_slice() {
            [] => "there is no rule that sends to Kafka or gets something from it".to_owned(),
            open => open.join("; "),
        };
        return Err(format!("{}: no rule can be made: {why}", names.join(", ")));
    }
    let kafka = connector::kafka(&mut import).map_err(|why| format!("{}: {why}", names.join(", ")))?;
    access::access(&mut import);
    let listeners = listeners::listeners(&mut import);
    let limits = mqtt::limits(&mut import);
    let mut out = comment(&format!("Made by `mqtt-kafka-proxy import emqx {}`.", names.join(" ")));
    told(&mut out, "To be decided:", &import.open);
    told(&mut out, "To be done, or to be known:", &import.notes);
    told(&mut out, "Without an equal:", &import.tree.left(why));
    write!(out, "\n{listeners}{limits}\n{kafka}\nrules:\n{}", import.rules.concat()).expect("a String takes all");
    out.push_str("\n# As there: what no rule matches is acknowledged, and a SUBSCRIBE is granted, though nothing comes.\n");
    out.push_str("# `reject` tells the devices.\nunmapped: drop\n");
    Ok(out)
}

/// Why a setting that nothing has asked for has no equal, and how many names of its path tell it.
fn why(path: &[String]) -> (usize, &'static str) {
    let of_kafka = matches!(
        path.first().map(String::as_str),
        Some("connectors" | "actions" | "sources" | "bridges" | "rule_engine")
    );
    if path.first().is_some_and(|name| name == "listeners") && path.len() > 3 {
        return (4, access::why_of_listener(path));
    }
    if !of_kafka {
        return (1, "not about Kafka");
    }
    if path[0] == "rule_engine" && path.get(1).is_none_or(|name| name != "rules") {
        return (2, "not about Kafka");
    }
    if path[0] != "rule_engine" && path.get(1).is_none_or(|name| !name.starts_with("kafka")) {
        return (2, "not about Kafka");
    }
    let has = |name: &str| path.iter().position(|own| own == name).map(|at| at + 1);
    let tells = |names: &[&str], why| names.iter().find_map(|name| has(name)).map(|depth| (depth, why));
    tells(
        &["resource_opts"],
        "what may be tried again is, until `delivery_timeout`; /readyz tells the state",
    )
    .or_else(|| {
        tells(
            &["buffer"],
            "what waits is in memory, `kafka.producer.memory`; then the devices wait",
        )
    })
    .or_else(|| tells(&["socket_opts"], "sockets are the system's"))
    .or_else(|| {
        tells(
            &["max_batch_bytes", "max_linger_time", "max_linger_bytes"],
            "`kafka.producer` has one `batch_size` and `linger` for all",
        )
    })
    .or_else(|| {
        tells(
            &["max_inflight", "query_mode", "sync_query_timeout"],
            "the order is kept, and a PUBLISH is acknowledged when Kafka has it",
        )
    })
    .or_else(|| tells(&["description", "tags", "created_at", "last_modified_at", "metadata"], "a comment"))
    .or_else(|| {
        tells(
            &[
                "group_id",
                "offset_reset_policy",
                "offset_commit_interval_seconds",
                "max_rejoin_attempts",
            ],
            "subscribers read: each from when it came, stored sessions from where they were",
        )
    })
    .unwrap_or((path.len(), "not known, or the client of Kafka looks after it"))
}
