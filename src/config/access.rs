//! `authorization` and `unauthorized`: what those may do who are let in. Who they are says `authentication`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::auth::{Pattern, Right, Rights, Who};
use crate::mqtt::QoS;
use crate::relay::{Access, Unauthorized};

use super::authentication::Shared;
use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk};

const RIGHT: Keys = Keys {
    known: &["allow", "deny", "who", "topics", "qos", "retain"],
    later: &[],
};
const WHO: Keys = Keys {
    known: &["identity", "client", "claims"],
    later: &[],
};

impl Walk<'_> {
    /// All of it. `authentication` of listeners comes in `listeners`.
    pub(super) fn access(
        &mut self,
        top: &Section<'_>,
        listeners: Vec<(Option<String>, &Node)>,
        connections_per_identity: Option<NonZeroU32>,
    ) -> Access {
        let rights = self.optional(top, "authorization").map(|n| Arc::new(self.rights(n)));
        let mut shared = Shared {
            kept: rights.as_ref().map(|r| r.claims()).unwrap_or_default(),
            ..Shared::default()
        };
        let chain = self
            .optional(top, "authentication")
            .map(|n| Arc::new(self.chain(n, "authentication", &mut shared)));
        let listeners: HashMap<_, _> = listeners
            .into_iter()
            .filter_map(|(name, n)| {
                let chain = self.chain(n, "listeners[].authentication", &mut shared);
                Some((name?, Arc::new(chain)))
            })
            .collect();
        let words = [("close", Unauthorized::Close), ("drop", Unauthorized::Drop)];
        let unauthorized = self
            .optional(top, "unauthorized")
            .and_then(|n| self.choice(n, "unauthorized", &words, &[]))
            .unwrap_or_default();
        if let Some(limits) = top.get("limits")
            && connections_per_identity.is_some()
            && chain.is_none()
            && listeners.is_empty()
        {
            let remedy = "add `authentication`, or remove it: where everybody is let in nobody has an identity";
            self.fault(limits.place, "`limits.connections_per_identity` without `authentication`", remedy);
        }
        Access {
            chain,
            listeners,
            key_sets: shared.key_sets,
            login_servers: shared.login_servers,
            connections_per_identity,
            rights,
            unauthorized,
        }
    }

    fn rights(&mut self, node: &Node) -> Rights {
        let list = self.list(node, "authorization");
        Rights::new(list.iter().filter_map(|entry| self.right(entry)).collect())
    }

    fn right(&mut self, node: &Node) -> Option<Right> {
        let section = self.section(node, "authorization[]", &RIGHT)?;
        let allow = match (section.get("allow"), section.get("deny")) {
            (Some(_), None) => Some(true),
            (None, Some(_)) => Some(false),
            // Misspelt, which is told.
            (None, None) if section.is_misspelt() => None,
            _ => {
                let remedy = "write `allow: [publish]`, `deny: [subscribe]` or both words in one list";
                self.fault(section.place, "an entry of `authorization` has one of `allow` and `deny`", remedy);
                None
            }
        };
        let (mut publish, mut subscribe) = (false, false);
        for key in ["allow", "deny"] {
            if let Some(n) = self.optional(&section, key) {
                let named = self.actions(n, &section.path(key));
                (publish, subscribe) = (publish || named.0, subscribe || named.1);
            }
        }
        let who = self.optional(&section, "who").map_or(Some(Who::default()), |n| self.who(n));
        let topics = self.required(&section, "topics", "[\"vehicles/{identity}/#\"]");
        let topics = topics.map(|n| self.patterns(n)).unwrap_or_default();
        if allow == Some(false) {
            for key in ["qos", "retain"] {
                if let Some(n) = section.get(key) {
                    self.fault(
                        n.place,
                        format!("`authorization[].{key}` beside `deny`"),
                        "write it beside `allow`: what no rule allows is denied",
                    );
                }
            }
        }
        let levels = [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)];
        let max_qos = self.optional(&section, "qos");
        let max_qos = max_qos.map_or(Some(QoS::ExactlyOnce), |n| self.choice(n, "authorization[].qos", &levels, &[]));
        let retain = self.optional(&section, "retain");
        let retain = retain.map_or(Some(true), |n| self.flag(n, "authorization[].retain"));
        Some(Right {
            allow: allow?,
            publish,
            subscribe,
            who: who?,
            topics,
            max_qos: max_qos?,
            retain: retain?,
        })
    }

    /// Whether publishing and subscribing are named.
    fn actions(&mut self, node: &Node, name: &str) -> (bool, bool) {
        let words = [("publish", true), ("subscribe", false)];
        let list = self.list(node, name);
        let named: Vec<bool> = list.iter().filter_map(|n| self.choice(n, name, &words, &[])).collect();
        (named.contains(&true), named.contains(&false))
    }

    fn who(&mut self, node: &Node) -> Option<Who> {
        let section = self.section(node, "authorization[].who", &WHO)?;
        let text = |walk: &mut Self, key: &str| {
            let node = walk.optional(&section, key)?;
            walk.text(node, &section.path(key))
        };
        let (identity, client) = (text(self, "identity"), text(self, "client"));
        let mut claims = vec![];
        if let Some(n) = self.optional(&section, "claims") {
            let Kind::Table(entries) = &n.kind else {
                self.fault(n.place, "`authorization[].who.claims` is not a table", "write `{claim: value}`");
                return None;
            };
            for (claim, value) in entries {
                if let Some(value) = self.text(value, "authorization[].who.claims") {
                    claims.push((claim.text.clone(), value));
                }
            }
        }
        Some(Who { identity, client, claims })
    }

    fn patterns(&mut self, node: &Node) -> Vec<Pattern> {
        let remedy = "write a filter such as \"vehicles/{identity}/#\"".to_owned();
        let list = self.list(node, "authorization[].topics");
        list.iter()
            .filter_map(|n| {
                self.parsed(n, "authorization[].topics", |text| {
                    Pattern::parse(text).map_err(|why| (format!("is no pattern: {why}"), remedy.clone()))
                })
            })
            .collect()
    }
}
