//! `authentication`, `authorization` and `unauthorized`: who is let in, and what they may do. The files that they name are read here, so
//! that what is wrong with them is told with line and column like everything else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::jwt::{Demands, KeySet};
use crate::auth::passwords::Passwords;
use crate::auth::{Binding, CertificateName, Chain, Held, Method, Pattern, Right, Rights, Who};
use crate::mqtt::QoS;
use crate::relay::{Access, Unauthorized, read_credentials};

use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk};

const CERTIFICATE: Keys = Keys {
    known: &["method", "identity", "client_id"],
    later: &[],
};
const PASSWORD_FILE: Keys = Keys {
    known: &["method", "file", "client_id"],
    later: &[],
};
const JWT: Keys = Keys {
    known: &["method", "jwks", "claim", "issuer", "audience", "leeway", "client_id"],
    later: &[],
};
const ANONYMOUS: Keys = Keys {
    known: &["method"],
    later: &[],
};
const RIGHT: Keys = Keys {
    known: &["allow", "deny", "who", "topics", "qos", "retain"],
    later: &[],
};
const WHO: Keys = Keys {
    known: &["identity", "client", "claims"],
    later: &[],
};

/// Clocks that differ by more than this are broken.
const MOST_LEEWAY: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
enum Kindred {
    Certificate,
    Passwords,
    Jwt,
    Anonymous,
}

const METHODS: [(&str, Kindred); 4] = [
    ("certificate", Kindred::Certificate),
    ("password_file", Kindred::Passwords),
    ("jwt", Kindred::Jwt),
    ("anonymous", Kindred::Anonymous),
];
const NAMES: [(&str, CertificateName); 5] = [
    ("common_name", CertificateName::CommonName),
    ("subject", CertificateName::Subject),
    ("dns", CertificateName::Dns),
    ("uri", CertificateName::Uri),
    ("email", CertificateName::Email),
];
const BINDINGS: [(&str, Binding); 3] = [
    ("any", Binding::Any),
    ("identity", Binding::Equal),
    ("identity_prefix", Binding::Prefix),
];

impl Walk<'_> {
    /// All of it. `authentication` of listeners comes in `listeners`.
    pub(super) fn access(&mut self, top: &Section<'_>, listeners: HashMap<String, &Node>) -> Access {
        let rights = self.optional(top, "authorization").map(|n| Arc::new(self.rights(n)));
        let kept = rights.as_ref().map(|r| r.claims()).unwrap_or_default();
        let chain = self
            .optional(top, "authentication")
            .map(|n| Arc::new(self.chain(n, "authentication", &kept)));
        let listeners = listeners
            .into_iter()
            .map(|(name, n)| (name, Arc::new(self.chain(n, "listeners[].authentication", &kept))))
            .collect();
        let words = [("close", Unauthorized::Close), ("drop", Unauthorized::Drop)];
        let unauthorized = self
            .optional(top, "unauthorized")
            .and_then(|n| self.choice(n, "unauthorized", &words, &[]))
            .unwrap_or_default();
        Access {
            chain,
            listeners,
            rights,
            unauthorized,
        }
    }

    fn chain(&mut self, node: &Node, name: &str, kept: &[String]) -> Chain {
        let list = self.list(node, name);
        let methods: Vec<_> = list
            .iter()
            .filter_map(|entry| Some((entry, self.method(entry, name, kept)?)))
            .collect();
        let binds = |binding: &Option<Binding>| binding.is_some_and(|binding| binding != Binding::Any);
        if methods.iter().any(|(_, (_, binding))| binds(binding)) {
            for (entry, (method, binding)) in &methods {
                if binding.is_none() && !matches!(method, Method::Anonymous) {
                    self.fault(
                        entry.place,
                        format!("an entry of `{name}` says nothing of client ids, and another binds them"),
                        "write `client_id: identity`, or `client_id: any` if whoever comes by it may take each client id",
                    );
                }
            }
        }
        let bindings = methods
            .into_iter()
            .map(|(_, (method, binding))| (method, binding.unwrap_or_default()));
        Chain::new(bindings.collect())
    }

    /// A method, and how it binds client ids, if it says so.
    fn method(&mut self, node: &Node, name: &str, kept: &[String]) -> Option<(Method, Option<Binding>)> {
        // The method says which keys there are, so it is looked for before the keys are.
        let method = match &node.kind {
            Kind::Table(entries) => entries.iter().find(|(key, _)| key.text == "method").map(|(_, value)| value),
            _ => None,
        };
        let path = format!("{name}[]");
        let Some(method) = method.filter(|n| !n.is_nothing()) else {
            self.fault(
                node.place,
                format!("an entry of `{name}` has no `method`"),
                "write `{method: password_file, file: users.txt}`, or certificate, jwt, anonymous",
            );
            return None;
        };
        let kind = self.choice(method, &format!("{path}.method"), &METHODS, &["http", "scram"])?;
        let keys = match kind {
            Kindred::Certificate => &CERTIFICATE,
            Kindred::Passwords => &PASSWORD_FILE,
            Kindred::Jwt => &JWT,
            Kindred::Anonymous => &ANONYMOUS,
        };
        let section = self.section(node, &path, keys)?;
        let binding = match self.optional(&section, "client_id") {
            Some(n) => Some(self.choice(n, &section.path("client_id"), &BINDINGS, &[])?),
            None => None,
        };
        let method = match kind {
            Kindred::Certificate => {
                let name = match self.optional(&section, "identity") {
                    Some(n) => self.choice(n, &section.path("identity"), &NAMES, &[])?,
                    None => CertificateName::CommonName,
                };
                Method::Certificate(name)
            }
            Kindred::Passwords => Method::Passwords(self.held(&section, "file", "users.txt", Passwords::parse)?),
            Kindred::Jwt => self.jwt(&section, kept)?,
            Kindred::Anonymous => Method::Anonymous,
        };
        Some((method, binding))
    }

    /// A file, read for the first time.
    fn held<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Held<T>> {
        let node = self.required(section, key, example)?;
        let name = section.path(key);
        let path = self.path(node, &name)?;
        match read_credentials(&path).and_then(|text| parse(&text)) {
            Ok(value) => Some(Held::new(path, value)),
            Err(why) => {
                let wrong = self.without_secrets(format!("`{name}`: {} {why}", path.display()));
                self.fault(
                    node.place,
                    wrong,
                    "give a file that this user may read, as README.md tells how to make one",
                );
                None
            }
        }
    }

    fn jwt(&mut self, section: &Section<'_>, kept: &[String]) -> Option<Method> {
        let keys = self.held(section, "jwks", "keys.json", KeySet::parse);
        let text = |walk: &mut Self, key: &str| {
            let node = walk.optional(section, key)?;
            Some(walk.text(node, &section.path(key)))
        };
        let claim = text(self, "claim");
        let (issuer, audience) = (text(self, "issuer"), text(self, "audience"));
        let leeway = match self.optional(section, "leeway") {
            Some(n) => self.duration(n, &section.path("leeway"), Duration::ZERO..=MOST_LEEWAY)?,
            None => Duration::from_secs(30),
        };
        let demands = Demands {
            claim: claim.unwrap_or_else(|| Some("sub".to_owned()))?,
            issuer: issuer.map_or(Some(None), |text| text.map(Some))?,
            audience: audience.map_or(Some(None), |text| text.map(Some))?,
            leeway,
            kept: kept.to_vec(),
        };
        Some(Method::Jwt { keys: keys?, demands })
    }

    fn rights(&mut self, node: &Node) -> Rights {
        let list = self.list(node, "authorization");
        Rights::new(list.iter().filter_map(|entry| self.right(entry)).collect())
    }

    fn right(&mut self, node: &Node) -> Option<Right> {
        let section = self.section(node, "authorization[]", &RIGHT)?;
        let (allow, actions) = match (self.optional(&section, "allow"), self.optional(&section, "deny")) {
            (Some(actions), None) => (true, actions),
            (None, Some(actions)) => (false, actions),
            _ => {
                let remedy = "write `allow: [publish]`, `deny: [subscribe]` or both words in one list";
                self.fault(section.place, "an entry of `authorization` has one of `allow` and `deny`", remedy);
                return None;
            }
        };
        let (publish, subscribe) = self.actions(actions);
        let who = match self.optional(&section, "who") {
            Some(n) => self.who(n)?,
            None => Who::default(),
        };
        let topics = self.required(&section, "topics", "[\"vehicles/{identity}/#\"]");
        let topics = topics.map(|n| self.patterns(n)).unwrap_or_default();
        if !allow {
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
        let max_qos = match self.optional(&section, "qos") {
            Some(n) => self.choice(n, "authorization[].qos", &levels, &[])?,
            None => QoS::ExactlyOnce,
        };
        let retain = match self.optional(&section, "retain") {
            Some(n) => self.flag(n, "authorization[].retain")?,
            None => true,
        };
        Some(Right {
            allow,
            publish,
            subscribe,
            who,
            topics,
            max_qos,
            retain,
        })
    }

    /// Whether publishing and subscribing are named.
    fn actions(&mut self, node: &Node) -> (bool, bool) {
        let words = [("publish", true), ("subscribe", false)];
        let list = self.list(node, "authorization[].allow");
        let named: Vec<bool> = list
            .iter()
            .filter_map(|n| self.choice(n, "authorization[].allow", &words, &[]))
            .collect();
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
