//! Rules of the rule engine: a statement, and what is done with what it selects.

use super::Import;
use super::sql::{Select, filters, select};

/// One of them, as far as it is about Kafka.
pub(super) struct EngineRule {
    pub(super) id: String,
    pub(super) select: Select,
    /// Type and name of actions of Kafka: where they are written.
    pub(super) actions: Vec<[String; 3]>,
    pub(super) republished: Vec<Republish>,
}

/// An action that publishes anew.
#[derive(Clone)]
pub(super) struct Republish {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: Option<String>,
    /// Whether it is retained; `None`: as what it is made of is, and a record never is.
    pub(super) retain: Option<String>,
}

/// Those of Kafka that are on; what is wrong with the others is told.
pub(super) fn rules(import: &mut Import) -> Vec<EngineRule> {
    let ids = import.tree.below(&["rule_engine", "rules"]);
    ids.into_iter().filter_map(|id| rule(import, id)).collect()
}

fn rule(import: &mut Import, id: String) -> Option<EngineRule> {
    let path = ["rule_engine", "rules", &id];
    let at = |more: &[&'static str]| [&path[..], more].concat();
    if import.tree.is_off(&path) {
        import.tree.leave(&path, "it is switched off");
        return None;
    }
    let (mut actions, mut republished) = (Vec::new(), Vec::new());
    for number in import.tree.below(&at(&["actions"])) {
        let action = [&path[..], &["actions", &number]].concat();
        if let Some(named) = import.tree.take(&action) {
            match named.split_once(':').and_then(|(kind, name)| Some((section(kind)?, kind, name))) {
                Some((section, kind, name)) => actions.push([section.to_owned(), kind.to_owned(), name.to_owned()]),
                None => import.tree.leave_told(&action.join("."), "not about Kafka"),
            }
            continue;
        }
        let function = import.tree.take(&[&action[..], &["function"]].concat());
        let mut take = |key: &str| import.tree.take(&[&action[..], &["args", key]].concat());
        if function.as_deref() == Some("republish") {
            let [topic, payload, qos, retain] = ["topic", "payload", "qos", "retain"].map(&mut take);
            republished.push(Republish {
                topic: topic.unwrap_or_default(),
                payload: payload.unwrap_or_else(|| "${payload}".to_owned()),
                qos,
                retain,
            });
        } else {
            import.tree.leave(&action, "not about Kafka");
        }
    }
    let sql = import.tree.take(&at(&["sql"])).unwrap_or_default();
    let of_source = sql.contains("kafka_consumer:");
    if actions.is_empty() && !of_source {
        import.tree.leave(&path, "not about Kafka");
        return None;
    }
    match select(&sql) {
        Ok(select) => Some(EngineRule {
            id,
            select,
            actions,
            republished,
        }),
        Err(why) => {
            let from = match filters(&sql) {
                from if from.is_empty() => String::new(),
                from => format!(" (FROM {})", quoted(&from)),
            };
            import.open(format!("{}: its SQL: {why}{from}", path.join(".")));
            None
        }
    }
}

/// Names as they are told.
pub(super) fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Where actions of a type are written.
fn section(kind: &str) -> Option<&'static str> {
    match kind {
        "kafka_producer" => Some("actions"),
        // Before actions there were bridges.
        "kafka" => Some("bridges"),
        _ => None,
    }
}
