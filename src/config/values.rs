//! `value` of rules: how payloads and the values of records are written, and the registry that has the schemas of those. Rules that name the
//! same registry in the same way share what is known of it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::kafka::sasl;
use crate::mapping::{Direction, Format as Plain, SchemaSpec, ValueSpec, Writing};
use crate::resources::{RegistryLogin, RegistrySettings, SubjectSettings};
use crate::schema::{Catalog, Format, Writer};
use crate::upstream::http::HttpSettings;

use super::rule_kafka::ReadKafka;
use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk};

const VALUE: Keys = Keys {
    known: &["format", "payload"],
    later: &[],
};
const WITH_SCHEMA: Keys = Keys {
    known: &[
        "format", "payload", "registry", "subject", "message", "ca", "username", "password", "token", "refresh",
    ],
    later: &[],
};
const PAYLOADS: [(&str, Plain); 4] = [
    ("json", Plain::Json),
    ("text", Plain::Text),
    ("bytes", Plain::Bytes),
    ("cbor", Plain::Cbor),
];

#[derive(Clone, Copy)]
enum Written {
    Plain(Plain),
    Schema(Format),
}

const FORMATS: [(&str, Written); 7] = [
    ("json", Written::Plain(Plain::Json)),
    ("text", Written::Plain(Plain::Text)),
    ("bytes", Written::Plain(Plain::Bytes)),
    ("cbor", Written::Plain(Plain::Cbor)),
    ("avro", Written::Schema(Format::Avro)),
    ("json_schema", Written::Schema(Format::JsonSchema)),
    ("protobuf", Written::Schema(Format::Protobuf)),
];
const EXAMPLE: &str = "https://registry.example:8081";
/// How often registries are asked for the newest schemas.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

impl Walk<'_> {
    /// `None`: with faults, which are noted.
    pub(super) fn value(
        &mut self,
        node: &Node,
        direction: Option<Direction>,
        kafka: &ReadKafka,
    ) -> Option<(Option<ValueSpec>, Option<SchemaSpec>)> {
        // The format says which keys there are, so it is looked for before the keys are.
        let format = match &node.kind {
            Kind::Table(entries) => entries.iter().find(|(key, _)| key.text == "format").map(|(_, value)| value),
            _ => None,
        };
        let format = format.map(|n| self.choice(n, "rules[].value.format", &FORMATS, &[]));
        let keys = match format {
            Some(Some(Written::Plain(_))) => &VALUE,
            _ => &WITH_SCHEMA,
        };
        let section = self.section(node, "rules[].value", keys)?;
        let payload = match self.optional(&section, "payload") {
            Some(node) => self.choice(node, "rules[].value.payload", &PAYLOADS, &[]).map(Some),
            None => Some(None),
        };
        if format.is_none() {
            self.required(&section, "format", "json");
        }
        let format = format.flatten()?;
        match format {
            Written::Plain(format) => Some((Some(ValueSpec { format, payload: payload? }), None)),
            Written::Schema(format) => {
                let schema = self.schema(&section, format, direction, kafka)?;
                // What the schema is given, and gives, is JSON. Payloads that are so anyway are its own to read, as they came.
                let value = payload?.filter(|payload| *payload != Plain::Json).map(|payload| ValueSpec {
                    format: Plain::Json,
                    payload: Some(payload),
                });
                Some((value, Some(schema)))
            }
        }
    }

    fn schema(&mut self, section: &Section<'_>, format: Format, direction: Option<Direction>, kafka: &ReadKafka) -> Option<SchemaSpec> {
        let http = self.registry(section);
        let login = self.login(section);
        let refresh = match self.optional(section, "refresh") {
            Some(n) => self.duration(n, "rules[].value.refresh", REFRESH),
            None => Some(Duration::from_secs(300)),
        };
        let written = self.subject(section, direction, kafka);
        let message = self.message_type(section, format, direction);
        if section.is_misspelt() {
            return None;
        }
        let (http, login, refresh, written, message) = (http?, login?, refresh?, written?, message?);
        let registry = self.shared_registry(http, login, refresh);
        let catalog = catalog_of(registry, format);
        let writer = written.map(|subject| {
            let writer = writer_of(registry, &subject, format, message);
            Writing { subject, writer }
        });
        Some(SchemaSpec { catalog, writer })
    }

    /// Texts, at least one.
    pub(super) fn texts(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let list = self.list(node, name);
        // All of them, so that all their faults are told.
        let read: Vec<_> = list.iter().map(|node| self.text(node, name)).collect();
        read.into_iter().collect::<Option<Vec<String>>>().filter(|list| !list.is_empty())
    }
    fn registry(&mut self, section: &Section<'_>) -> Option<HttpSettings> {
        let http = self.http(section, "registry", EXAMPLE)?;
        let Some(node) = section.get("registry").filter(|_| http.url.path().contains('?')) else {
            return Some(http);
        };
        self.fault(
            node.place,
            "`rules[].value.registry` has a query",
            "write only what all paths of the registry begin with",
        );
        None
    }

    fn login(&mut self, section: &Section<'_>) -> Option<RegistryLogin> {
        let (username, password) = (self.optional(section, "username"), self.optional(section, "password"));
        let token = self.optional(section, "token");
        match (username, password, token) {
            (None, None, None) => Some(RegistryLogin::Nobody),
            (Some(username), Some(password), None) => {
                let name = self.parsed(username, "rules[].value.username", |text| {
                    match text.contains([':', '\0']) || text.is_empty() {
                        false => Ok(text.to_owned()),
                        true => Err((
                            "is empty or holds a colon".to_owned(),
                            "give the name as the registry knows it".to_owned(),
                        )),
                    }
                });
                let password = self.secret(password, "rules[].value.password", sasl::is_plain_text, "is empty or holds NUL");
                Some(RegistryLogin::Basic(name?, password?))
            }
            (None, None, Some(token)) => {
                let legal = |text: &str| sasl::is_token(text.trim());
                self.secret(token, "rules[].value.token", legal, "is no bearer token")
                    .map(RegistryLogin::Bearer)
            }
            (Some(n), ..) | (_, Some(n), _) => {
                self.fault(
                    n.place,
                    "`rules[].value` has one of `username` and `password`, or a `token` beside them",
                    "write both of them, or `token` alone",
                );
                None
            }
        }
    }

    /// The subject of a rule that writes; `Some(None)`: it only reads.
    fn subject(&mut self, section: &Section<'_>, direction: Option<Direction>, kafka: &ReadKafka) -> Option<Option<String>> {
        let kafka_topic = kafka.known_topic();
        match (self.optional(section, "subject"), direction) {
            (Some(n), Some(Direction::Subscribe)) => {
                let remedy = "remove it: what is read has the id of its schema in front";
                self.fault(n.place, "`rules[].value.subject` of a rule that only reads", remedy);
                None
            }
            (None, Some(Direction::Subscribe)) => Some(None),
            // What it is without one is not known.
            (None, None) => Some(None),
            (Some(n), _) => {
                let subject = self.parsed(n, "rules[].value.subject", |text| match text.is_empty() || text.contains('\0') {
                    false => Ok(text.to_owned()),
                    true => Err(("is no subject".to_owned(), "write for example telemetry-value".to_owned())),
                });
                subject.map(Some)
            }
            (None, _) if kafka_topic.is_some_and(|topic| topic.contains('{')) => {
                self.fault(
                    section.place,
                    "the Kafka topic has a placeholder, so it names no subject",
                    "write `subject`, the one of all its topics",
                );
                None
            }
            (None, _) if !kafka.spec.topics.is_empty() => {
                self.fault(
                    section.place,
                    "the program may choose among several Kafka topics, and one subject has the schema for all of them",
                    "write `subject`, the one of all topics of the rule",
                );
                None
            }
            // As the Java serializers' TopicNameStrategy.
            (None, _) => Some(kafka_topic.map(|topic| format!("{topic}-value"))),
        }
    }

    fn message_type(&mut self, section: &Section<'_>, format: Format, direction: Option<Direction>) -> Option<Option<String>> {
        let Some(node) = self.optional(section, "message") else {
            return Some(None);
        };
        let why = match (format, direction) {
            (Format::Avro | Format::JsonSchema, _) => "is only for `format: protobuf`",
            (_, Some(Direction::Subscribe)) => "is for rules that write: what is read says which message it is",
            _ => return self.text(node, "rules[].value.message").map(Some),
        };
        self.fault(node.place, format!("`rules[].value.message` {why}"), "remove it");
        None
    }

    fn shared_registry(&mut self, http: HttpSettings, login: RegistryLogin, refresh: Duration) -> &mut RegistrySettings {
        let same = |known: &RegistrySettings| known.http == http && known.login == login && known.refresh == refresh;
        let at = self.registries.iter().position(same).unwrap_or(self.registries.len());
        if at == self.registries.len() {
            self.registries.push(RegistrySettings {
                http,
                login,
                refresh,
                catalogs: Vec::new(),
                subjects: Vec::new(),
            });
        }
        &mut self.registries[at]
    }
}

fn catalog_of(registry: &mut RegistrySettings, format: Format) -> Arc<Catalog> {
    let known = registry.catalogs.iter().find(|catalog| catalog.format() == format).cloned();
    known.unwrap_or_else(|| {
        let catalog = Arc::new(Catalog::new(format));
        registry.catalogs.push(catalog.clone());
        catalog
    })
}

fn writer_of(registry: &mut RegistrySettings, subject: &str, format: Format, message: Option<String>) -> Arc<Writer> {
    let same = |known: &&SubjectSettings| known.name == subject && known.format == format && known.message == message;
    let known = registry.subjects.iter().find(same).map(|known| known.writer.clone());
    known.unwrap_or_else(|| {
        let writer = Arc::<Writer>::default();
        registry.subjects.push(SubjectSettings {
            name: subject.to_owned(),
            format,
            message,
            writer: writer.clone(),
        });
        writer
    })
}
