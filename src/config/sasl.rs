//! `kafka.security.sasl`: the mechanism and what it needs; secrets from the environment or from files.

use zeroize::Zeroizing;

use crate::kafka::sasl::{self, Hash, Mechanism};
use crate::pem;
use crate::upstream::http::HttpUrl;
use crate::upstream::{SaslSettings, Secret, TokenEndpoint, TokenSource};

use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk, is_filled};

const SASL: Keys = Keys {
    known: &[
        "mechanism",
        "username",
        "password",
        "token",
        "token_endpoint",
        "token_endpoint_ca",
        "client_id",
        "client_secret",
        "scope",
    ],
    later: &[],
};

/// Keys of PLAIN and SCRAM.
const OF_USERS: &[&str] = &["username", "password"];
/// Keys of OAUTHBEARER: of a token that is there, and of a server that gives some.
const OF_TOKENS: &[&str] = &["token"];
const OF_ENDPOINTS: &[&str] = &["token_endpoint", "token_endpoint_ca", "client_id", "client_secret", "scope"];

const MECHANISMS: [(&str, Mechanism); 4] = [
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::Scram(Hash::Sha256)),
    ("SCRAM-SHA-512", Mechanism::Scram(Hash::Sha512)),
    ("OAUTHBEARER", Mechanism::OauthBearer),
];

impl Walk<'_> {
    /// `kafka.security.sasl`. `None`: at fault, which is noted.
    pub(super) fn sasl(&mut self, node: &Node) -> Option<SaslSettings> {
        let section = self.section(node, "kafka.security.sasl", &SASL)?;
        let mechanism = self
            .required(&section, "mechanism", "SCRAM-SHA-512")
            .and_then(|n| self.choice(n, "kafka.security.sasl.mechanism", &MECHANISMS, &["GSSAPI", "AWS_MSK_IAM"]));
        match mechanism? {
            Mechanism::OauthBearer => self.tokens(&section).map(SaslSettings::OauthBearer),
            mechanism => self.user(&section, mechanism),
        }
    }

    fn user(&mut self, section: &Section<'_>, mechanism: Mechanism) -> Option<SaslSettings> {
        self.out_of_place(section, &[OF_TOKENS, OF_ENDPOINTS], &format!("`mechanism: {}`", mechanism.name()));
        let username = self
            .required(section, "username", "proxy")
            .and_then(|n| self.username(n, mechanism));
        let password = self
            .required(section, "password", "\"${KAFKA_PASSWORD}\"")
            .and_then(|n| self.secret(n, "kafka.security.sasl.password", sasl::is_plain_text, "is empty or holds NUL"));
        let (username, password) = (username?, password?);
        Some(match mechanism {
            Mechanism::Scram(hash) => SaslSettings::Scram { hash, username, password },
            _ => SaslSettings::Plain { username, password },
        })
    }

    fn tokens(&mut self, section: &Section<'_>) -> Option<TokenSource> {
        self.out_of_place(section, &[OF_USERS], "`mechanism: OAUTHBEARER`");
        if let Some(token) = self.optional(section, "token") {
            self.out_of_place(section, &[OF_ENDPOINTS], "`token`");
            let legal = |text: &str| sasl::is_token(text.trim());
            return self
                .secret(token, "kafka.security.sasl.token", legal, "is no bearer token")
                .map(TokenSource::Held);
        }
        if section.get("token_endpoint").is_none() {
            self.fault(
                section.place,
                "`kafka.security.sasl` has neither `token` nor `token_endpoint`",
                "add `token: \"file:PATH\"`, or `token_endpoint` with `client_id` and `client_secret`",
            );
            return None;
        }
        self.endpoint(section).map(TokenSource::Endpoint)
    }

    fn endpoint(&mut self, section: &Section<'_>) -> Option<TokenEndpoint> {
        let url = self.optional(section, "token_endpoint").and_then(|n| {
            let remedy = "write for example \"https://login.example/oauth2/token\"";
            self.parsed(n, "kafka.security.sasl.token_endpoint", |text| {
                text.parse::<HttpUrl>().map_err(|wrong| (wrong.to_owned(), remedy.to_owned()))
            })
        });
        let ca = self.optional(section, "token_endpoint_ca").map(|n| {
            let path = self.path(n, "kafka.security.sasl.token_endpoint_ca");
            self.readable(n, "kafka.security", path, |path| {
                pem::authorities(path, "token_endpoint_ca").map(drop)
            })
        });
        let client_id = self
            .required(section, "client_id", "mqtt-kafka-proxy")
            .and_then(|n| self.text(n, "kafka.security.sasl.client_id"));
        let client_secret = self
            .required(section, "client_secret", "\"${KAFKA_CLIENT_SECRET}\"")
            .and_then(|n| self.secret(n, "kafka.security.sasl.client_secret", sasl::is_plain_text, "is empty or holds NUL"));
        let scope = self.optional(section, "scope").map(|n| self.text(n, "kafka.security.sasl.scope"));
        Some(TokenEndpoint {
            url: url?,
            ca: match ca {
                Some(ca) => Some(ca?),
                None => None,
            },
            client_id: client_id?,
            client_secret: client_secret?,
            scope: match scope {
                Some(scope) => Some(scope?),
                None => None,
            },
        })
    }

    /// Keys beside another that has no use for them: one of the two is a mistake.
    fn out_of_place(&mut self, section: &Section<'_>, keys: &[&[&str]], beside: &str) {
        for key in keys.iter().flat_map(|keys| keys.iter()) {
            if let Some(node) = section.get(key) {
                self.fault(
                    node.place,
                    format!("`kafka.security.sasl.{key}` beside {beside}, which does not use it"),
                    "remove one of the two",
                );
            }
        }
    }

    fn username(&mut self, node: &Node, mechanism: Mechanism) -> Option<String> {
        let (legal, wrong): (fn(&str) -> bool, _) = match mechanism {
            Mechanism::Scram(_) => (sasl::is_scram_name, "is empty or not ASCII, which Kafka's SCRAM asks for"),
            _ => (sasl::is_plain_text, "is empty or holds NUL"),
        };
        self.parsed(node, "kafka.security.sasl.username", |text| {
            if legal(text) {
                return Ok(text.to_owned());
            }
            Err((wrong.to_owned(), "give the name as the brokers know it".to_owned()))
        })
    }
    /// A secret: from the environment, or the text of a file. Nothing of it is ever shown.
    pub(super) fn secret(&mut self, node: &Node, name: &str, legal: impl FnOnce(&str) -> bool, wrong: &str) -> Option<Secret> {
        const REMEDY: &str = "write \"${NAME}\", which the environment holds, or \"file:PATH\"";
        self.secrets.insert(node.place);
        let text = Zeroizing::new(self.text(node, name)?);
        // As written: what a variable holds is never taken as a path.
        let written = match &node.kind {
            Kind::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        let path = text.strip_prefix("file:").filter(|_| written.starts_with("file:"));
        let secret = if let Some(path) = path {
            self.shown_as_written(node, "file:", path);
            Secret::File(self.beside(path))
        } else if is_filled(node) {
            Secret::Text(text)
        } else {
            self.fault(node.place, format!("`{name}` stands in the file itself"), REMEDY);
            return None;
        };
        match secret.read() {
            Ok(value) if legal(&value) => Some(secret),
            Ok(_) => {
                self.fault(node.place, format!("`{name}` {wrong}"), REMEDY);
                None
            }
            Err(why) => {
                let why = self.without_secrets(&why);
                self.fault(node.place, format!("`{name}`: {why}"), "give a file that this user may read");
                None
            }
        }
    }
}
