//! `authentication` of the file and of its listeners: the methods that tell who a client is, or that nobody is asked. The files that they name are read here, so
//! that what is wrong with them is told with line and column like everything else.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::jwt::{Demands, KeySet};
use crate::auth::passwords::Passwords;
use crate::auth::scram::Verifiers;
use crate::auth::{Binding, CertificateName, Chain, Held, Keys as TokenKeys, Method};
use crate::kafka::sasl;
use crate::pem;
use crate::relay::read_credentials;
use crate::resources::{APART, KeySetSettings, LoginSettings};
use crate::upstream::http::{HttpSettings, HttpUrl};

use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk, written};

const CERTIFICATE: Keys = Keys {
    known: &["method", "identity", "client_id"],
    later: &[],
};
const PASSWORD_FILE: Keys = Keys {
    known: &["method", "file", "client_id"],
    later: &[],
};
const JWT: Keys = Keys {
    known: &[
        "method",
        "jwks",
        "ca",
        "refresh",
        "claim",
        "issuer",
        "audience",
        "leeway",
        "client_id",
    ],
    later: &[],
};
const HTTP: Keys = Keys {
    known: &["method", "url", "ca", "token", "timeout", "concurrency", "cache", "client_id"],
    later: &[],
};
const ANONYMOUS: Keys = Keys {
    known: &["method"],
    later: &[],
};
const KEYS_EXAMPLE: &str = "https://login.example/keys";
/// How there comes to be a file of each kind.
const USERS: &str = "make it with `mqtt-kafka-proxy password users.txt NAME <FILE`";
const VERIFIERS: &str = "make it with `mqtt-kafka-proxy password --scram scram.txt NAME <FILE`";
const KEY_SET: &str = "give the JWK set of who issues the tokens";
/// Clocks that differ by more than this are broken.
const MOST_LEEWAY: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
enum Kindred {
    Certificate,
    Passwords,
    Jwt,
    Http,
    Scram,
    Anonymous,
}

const METHODS: [(&str, Kindred); 6] = [
    ("certificate", Kindred::Certificate),
    ("password_file", Kindred::Passwords),
    ("jwt", Kindred::Jwt),
    ("http", Kindred::Http),
    ("scram", Kindred::Scram),
    ("anonymous", Kindred::Anonymous),
];
const NAMES: [(&str, CertificateName); 6] = [
    ("common_name", CertificateName::CommonName),
    ("subject", CertificateName::Subject),
    ("dns", CertificateName::Dns),
    ("uri", CertificateName::Uri),
    ("email", CertificateName::Email),
    ("ip", CertificateName::Ip),
];
const BINDINGS: [(&str, Binding); 3] = [
    ("any", Binding::Any),
    ("identity", Binding::Equal),
    ("identity_prefix", Binding::Prefix),
];

/// How old a key set of a server may become.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);

/// What the methods of all lists have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// Claims that rights ask for.
    pub(super) kept: Vec<String>,
    /// Key sets of servers, each once.
    pub(super) key_sets: Vec<KeySetSettings>,
    /// Servers that are asked about logins, each once.
    pub(super) login_servers: Vec<LoginSettings>,
}

impl Walk<'_> {
    /// A list of methods, or `none`: then nobody is asked. That stands in the file itself, and in no variable.
    pub(super) fn authentication(&mut self, node: &Node, name: &str, shared: &mut Shared) -> Option<Arc<Chain>> {
        let Kind::Scalar { text, .. } = &node.kind else {
            return Some(Arc::new(self.chain(node, name, shared)));
        };
        if text != "none" {
            let remedy = "write methods as `- {method: …}`, or `none`, which lets everybody in";
            self.fault(node.place, format!("`{name}`: {} is no list of methods", written(node)), remedy);
        }
        None
    }

    fn chain(&mut self, node: &Node, name: &str, shared: &mut Shared) -> Chain {
        let list = self.list(node, name);
        if let Some(none) = list.iter().find(|entry| says_none(entry)) {
            let remedy = "write `authentication: none` in the place of the list, which lets everybody in";
            self.fault(none.place, "`none` is no method", remedy);
            return Chain::new(vec![]);
        }
        let methods: Vec<_> = list
            .iter()
            .filter_map(|entry| Some((entry, self.method(entry, name, shared)?)))
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
    fn method(&mut self, node: &Node, name: &str, shared: &mut Shared) -> Option<(Method, Option<Binding>)> {
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
                "write `{method: password_file, file: users.txt}`, or certificate, jwt, http, scram, anonymous",
            );
            return None;
        };
        let kind = self.choice(method, &format!("{path}.method"), &METHODS, &[])?;
        let keys = match kind {
            Kindred::Certificate => &CERTIFICATE,
            Kindred::Passwords | Kindred::Scram => &PASSWORD_FILE,
            Kindred::Jwt => &JWT,
            Kindred::Http => &HTTP,
            Kindred::Anonymous => &ANONYMOUS,
        };
        let section = self.section(node, &path, keys)?;
        let binding = self.optional(&section, "client_id");
        let binding = binding.map(|n| self.choice(n, &section.path("client_id"), &BINDINGS, &[]));
        let method = match kind {
            Kindred::Certificate => {
                let name = match self.optional(&section, "identity") {
                    Some(n) => self.choice(n, &section.path("identity"), &NAMES, &[])?,
                    None => CertificateName::CommonName,
                };
                Method::Certificate(name)
            }
            Kindred::Passwords => Method::Passwords(self.held(&section, "file", "users.txt", USERS, Passwords::parse)?),
            Kindred::Scram => Method::Scram(self.held(&section, "file", "scram.txt", VERIFIERS, Verifiers::parse)?),
            Kindred::Jwt => self.jwt(&section, shared)?,
            Kindred::Http => self.login_server(&section, shared)?,
            Kindred::Anonymous => Method::Anonymous,
        };
        Some((method, binding.map_or(Some(None), |binding| binding.map(Some))?))
    }

    /// A file, read for the first time; `made` is how there comes to be one.
    fn held<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        example: &str,
        made: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Held<T>> {
        let node = self.required(section, key, example)?;
        let name = section.path(key);
        let path = self.path(node, &name)?;
        let read = read_credentials(&path).map_err(|why| {
            let remedy = format!("{made}, and let this user read it; a relative path begins in the folder of this configuration");
            (why, remedy)
        });
        let value = read.and_then(|text| parse(&text).map_err(|why| (why, "mend the file, or name another".to_owned())));
        match value {
            Ok(value) => Some(Held::new(path, value)),
            Err((why, remedy)) => {
                let wrong = self.without_secrets(&format!("`{name}`: {} {why}", path.display()));
                self.fault(node.place, wrong, remedy);
                None
            }
        }
    }

    fn jwt(&mut self, section: &Section<'_>, shared: &mut Shared) -> Option<Method> {
        let keys = self.token_keys(section, shared);
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
            kept: shared.kept.clone(),
        };
        Some(Method::Jwt { keys: keys?, demands })
    }

    /// A key set: of a file, or of a server.
    fn token_keys(&mut self, section: &Section<'_>, shared: &mut Shared) -> Option<TokenKeys> {
        let node = self.required(section, "jwks", "keys.json")?;
        if !is_url(&self.text(node, &section.path("jwks"))?) {
            for key in ["ca", "refresh"] {
                if let Some(n) = section.get(key) {
                    let wrong = format!("`{}` beside a `jwks` that is a file", section.path(key));
                    self.fault(n.place, wrong, "remove it: a file is read again when it changes");
                }
            }
            return self.held(section, "jwks", "keys.json", KEY_SET, KeySet::parse).map(TokenKeys::File);
        }
        let http = self.http(section, "jwks", KEYS_EXAMPLE);
        let refresh = match self.optional(section, "refresh") {
            Some(n) => self.duration(n, &section.path("refresh"), REFRESH),
            None => Some(Duration::from_secs(3600)),
        };
        let (http, refresh) = (http?, refresh?);
        // Methods of several listeners that name the same set ask for it once.
        let same = |set: &&KeySetSettings| set.http == http && set.refresh == refresh;
        if let Some(set) = shared.key_sets.iter().find(same) {
            return Some(TokenKeys::Fetched(set.keys.clone()));
        }
        let keys = Arc::default();
        shared.key_sets.push(KeySetSettings {
            http,
            refresh,
            apart: APART,
            keys: Arc::clone(&keys),
        });
        Some(TokenKeys::Fetched(keys))
    }

    /// A server that is asked about logins.
    fn login_server(&mut self, section: &Section<'_>, shared: &mut Shared) -> Option<Method> {
        let http = self.http(section, "url", "https://auth.example/mqtt");
        let token = self.optional(section, "token").map(|n| {
            let legal = |text: &str| sasl::is_token(text.trim());
            self.secret(n, &section.path("token"), legal, "is no bearer token")
        });
        let timeout = match self.optional(section, "timeout") {
            Some(n) => self.duration(n, &section.path("timeout"), Duration::from_millis(100)..=Duration::from_secs(60)),
            None => Some(Duration::from_secs(5)),
        };
        let concurrency = match self.optional(section, "concurrency") {
            Some(n) => self.number(n, &section.path("concurrency"), 1..=10_000),
            None => Some(64),
        };
        let cache = match self.optional(section, "cache") {
            Some(n) => self.duration(n, &section.path("cache"), Duration::ZERO..=Duration::from_secs(3600)),
            None => Some(Duration::from_secs(30)),
        };
        let settings = LoginSettings {
            http: http?,
            token: match token {
                Some(token) => Some(token?),
                None => None,
            },
            timeout: timeout?,
            concurrency: usize::try_from(concurrency?).expect("the range is below 2^32"),
            cache: cache?,
            kept: shared.kept.clone(),
        };
        // Methods of several listeners that name the same server share its connections and what is known of it.
        let known = shared.login_servers.iter().position(|server| *server == settings);
        Some(Method::Http(known.unwrap_or_else(|| {
            shared.login_servers.push(settings);
            shared.login_servers.len() - 1
        })))
    }

    /// An address that is asked by HTTP, and `ca`, who signs its certificate.
    pub(super) fn http(&mut self, section: &Section<'_>, key: &str, example: &str) -> Option<HttpSettings> {
        let node = self.required(section, key, example)?;
        let url = self.parsed(node, &section.path(key), |text| {
            let remedy = format!("write for example \"{example}\"");
            text.parse::<HttpUrl>().map_err(|wrong| (wrong.to_owned(), remedy))
        });
        let ca = self.optional(section, "ca").map(|n| {
            let name = section.path("ca");
            let path = self.path(n, &name);
            self.readable(n, &name, path, |path| pem::authorities(path, "ca").map(drop))
        });
        Some(HttpSettings {
            url: url?,
            ca: match ca {
                Some(ca) => Some(ca?),
                None => None,
            },
        })
    }
}

/// Whether an entry of a list means that nobody is to be asked.
fn says_none(entry: &Node) -> bool {
    let is_none = |node: &Node| matches!(&node.kind, Kind::Scalar { text, .. } if text == "none");
    match &entry.kind {
        Kind::Table(entries) => entries.iter().any(|(key, value)| key.text == "method" && is_none(value)),
        _ => is_none(entry),
    }
}

fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}
