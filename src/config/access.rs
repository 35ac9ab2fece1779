//! `authorization` and `unauthorized`: what those may do who are let in. Who they are says `authentication`.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::auth::{CertificateName, Method, Pattern, Right, Rights, Who};
use crate::downstream::{ClientAuth, ListenerSettings};
use crate::mqtt::QoS;
use crate::relay::{Access, Unauthorized};

use super::authentication::Shared;
use super::listeners::Own;
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
    pub(super) fn access(&mut self, top: &Section<'_>, listeners: &[Own<'_>], connections_per_identity: Option<NonZeroU32>) -> Access {
        let rights = self.optional(top, "authorization").map(|n| Arc::new(self.rights(n)));
        let words = [("close", Unauthorized::Close), ("drop", Unauthorized::Drop)];
        let unauthorized = self
            .optional(top, "unauthorized")
            .and_then(|n| self.choice(n, "unauthorized", &words, &[]));
        let mut access = Access {
            connections_per_identity,
            rights,
            unauthorized: unauthorized.unwrap_or_default(),
            ..Access::default()
        };
        let before = self.problems.len();
        self.tell_unasked(top, listeners);
        self.asked(top, listeners, &mut access);
        self.warn_of_certificates(listeners, &access);
        let (is_known, is_asked) = (self.problems.len() == before, access.asks_who());
        if let Some(limits) = top.get("limits")
            && connections_per_identity.is_some()
            && is_known
            && !is_asked
        {
            let remedy = "give `authentication` methods, or remove it: where everybody is let in nobody has an identity";
            self.fault(
                limits.place,
                "`limits.connections_per_identity` with `authentication: none`",
                remedy,
            );
        }
        access
    }

    /// What clients are asked, of all listeners and of those that have their own.
    fn asked(&mut self, top: &Section<'_>, listeners: &[Own<'_>], access: &mut Access) {
        let mut shared = Shared {
            kept: access.rights.as_ref().map(|r| r.claims()).unwrap_or_default(),
            ..Shared::default()
        };
        let of_all = self.optional(top, "authentication");
        access.chain = of_all.and_then(|n| self.authentication(n, "authentication", &mut shared));
        for Own { name, node, .. } in listeners {
            let Some(node) = node else { continue };
            let chain = self.authentication(node, "listeners[].authentication", &mut shared);
            access.listeners.extend(name.clone().map(|name| (name, chain)));
        }
        // What counts at no listener is as if it were not there.
        if listeners.iter().all(|own| own.is_there) && !listeners.is_empty() {
            access.chain = None;
        }
        (access.key_sets, access.login_servers) = (shared.key_sets, shared.login_servers);
    }

    /// Nobody comes in where only certificates count and no client can show one that does.
    fn warn_of_certificates(&mut self, listeners: &[Own<'_>], access: &Access) {
        for Own { name, place, .. } in listeners {
            let is_its = |listener: &&ListenerSettings| Some(&listener.name) == name.as_ref();
            let Some(listener) = self.listeners.iter().find(is_its) else {
                continue;
            };
            let by_balancer = listener.proxy.as_ref().is_some_and(|proxy| proxy.identity);
            let by_tls = listener.protocol.tls().is_some_and(|tls| tls.client_auth != ClientAuth::None);
            let is_vain = |method: &Method| match method {
                Method::Certificate(CertificateName::CommonName) => !by_balancer && !by_tls,
                Method::Certificate(_) => by_balancer || !by_tls,
                _ => false,
            };
            if access.chain(&listener.name).is_some_and(|chain| chain.methods().all(is_vain)) {
                let (why, remedy) = if by_balancer {
                    (
                        "a balancer tells no other name than the common one",
                        "write `identity: common_name`",
                    )
                } else {
                    (
                        "no client is asked for one",
                        "add `client_ca` and `client_auth` to its `tls`, `proxy_identity` behind a balancer, or another method",
                    )
                };
                let name = self.without_secrets(&listener.name);
                let message = format!("nobody comes in at `{name}`: only certificates count there, and {why}");
                self.warnings.push(place.problem(message, remedy));
            }
        }
    }

    /// Nobody is let in by an omission: who a listener lets in is written there or for all of them.
    fn tell_unasked(&mut self, top: &Section<'_>, listeners: &[Own<'_>]) {
        const REMEDY: &str =
            "add `authentication: [{method: password_file, file: users.txt}]`, or `authentication: none`, which lets everybody in";
        // What is noted already: the key is misspelt, or has no value, or listeners cannot be read, which may have theirs.
        let is_there = |key| top.get(key).is_some() || top.means(key);
        if is_there("authentication") || (listeners.is_empty() && is_there("listeners")) {
            return;
        }
        if listeners.iter().any(|own| own.is_there) {
            for own in listeners.iter().filter(|own| !own.is_there) {
                let message = "`listeners[]` has no `authentication`, and the file has none for all";
                self.fault(own.place, message, REMEDY);
            }
        } else {
            let remedy = format!("{REMEDY}; a listener may have its own");
            self.fault(top.place, "the file has no `authentication`", remedy);
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
