//! What a registry is asked, and how its answers are read.

use std::{collections::HashSet, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::Deserialize;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{RegistryLogin, RegistrySettings};
use crate::{
    metrics::OutsideCounters,
    schema::{Format, LARGEST_SCHEMA, SchemaText},
    upstream::http::{HttpClient, HttpUrl, OF_REGISTRIES},
};

/// Bound of one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the longest answer: a schema in which each character is escaped.
const LONGEST_ANSWER: usize = 4 * LARGEST_SCHEMA;
/// Connections kept.
const IDLE: usize = 2;
/// Schemas that one may refer to, directly and by others.
const MOST_REFERENCES: usize = 100;

/// Asks one registry.
#[derive(Debug)]
pub(super) struct RegistryClient {
    http: HttpClient,
    login: RegistryLogin,
    counters: OutsideCounters,
}

/// A schema of the registry, with all that it refers to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: u32,
    pub(super) text: SchemaText,
}

/// Why there is none.
#[derive(Debug, PartialEq)]
pub(super) enum NotFound {
    /// The registry says so, or its schema is not what is wanted: asking again soon will not help.
    Missing(String),
    /// It cannot be asked.
    Away(String),
}

#[derive(Deserialize)]
struct Registered {
    id: Option<u32>,
    schema: String,
    /// Not there: Avro.
    #[serde(rename = "schemaType")]
    format: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Clone, Deserialize, PartialEq, Eq, Hash)]
struct Reference {
    name: String,
    subject: String,
    version: u32,
}

impl RegistryClient {
    pub(super) fn new(settings: &RegistrySettings, counters: OutsideCounters) -> Self {
        Self {
            http: HttpClient::new(settings.http.clone(), OF_REGISTRIES, LONGEST_ANSWER, IDLE),
            login: settings.login.clone(),
            counters,
        }
    }

    pub(super) fn url(&self) -> &HttpUrl {
        self.http.url()
    }

    /// The newest version of a subject.
    pub(super) async fn newest(&self, subject: &str, format: Format) -> Result<Found, NotFound> {
        let path = format!("subjects/{}/versions/latest", in_path(subject));
        let registered = self
            .ask(&path)
            .await?
            .ok_or_else(|| NotFound::Missing(format!("has no subject `{subject}`")))?;
        let id = registered.id;
        let id = id.ok_or_else(|| NotFound::Away("tells no id".to_owned()))?;
        self.whole(id, registered, format).await
    }

    /// The schema of an id.
    pub(super) async fn of_id(&self, id: u32, format: Format) -> Result<Found, NotFound> {
        let registered = self.ask(&format!("schemas/ids/{id}")).await?;
        let registered = registered.ok_or_else(|| NotFound::Missing(format!("has no schema of the id {id}")))?;
        self.whole(id, registered, format).await
    }

    /// With all that it refers to, the innermost first.
    async fn whole(&self, id: u32, registered: Registered, format: Format) -> Result<Found, NotFound> {
        check_format(&registered, format)?;
        let (mut references, mut seen) = (Vec::new(), HashSet::new());
        // Each with what it refers to still to be looked at in front of it.
        let mut open: Vec<(Reference, Option<String>)> = listed(registered.references);
        let mut size = registered.schema.len();
        while let Some((reference, text)) = open.pop() {
            if let Some(text) = text {
                references.push((reference.name, text));
                continue;
            }
            if !seen.insert(reference.clone()) {
                continue;
            }
            let Reference { subject, version, .. } = &reference;
            let path = format!("subjects/{}/versions/{version}", in_path(subject));
            let missing = || NotFound::Missing(format!("has no version {version} of `{subject}`, which the schema {id} refers to"));
            let referred = self.ask(&path).await?.ok_or_else(missing)?;
            check_format(&referred, format)?;
            size += referred.schema.len();
            if seen.len() > MOST_REFERENCES || size > LARGEST_SCHEMA {
                return Err(NotFound::Missing(format!("has a schema {id} that refers to too much")));
            }
            open.push((reference, Some(referred.schema)));
            open.extend(listed(referred.references));
        }
        let text = registered.schema;
        Ok(Found {
            id,
            text: SchemaText { text, references },
        })
    }

    /// `None`: there is no such thing.
    async fn ask(&self, path: &str) -> Result<Option<Registered>, NotFound> {
        self.counters.registry_requests.inc();
        let asked = async {
            let request = self.request(path).await?;
            self.http.ask(request).await
        };
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("does not answer within {} s", PATIENCE.as_secs())));
        let read = answer.and_then(|answer| read(&answer));
        read.map_err(|why| {
            self.counters.registry_failures.inc();
            NotFound::Away(why)
        })
    }

    async fn request(&self, path: &str) -> Result<Request<Full<Bytes>>, String> {
        let mut request = self.http.request_below(Method::GET, path);
        if let Some(shown) = self.shown().await? {
            let mut shown = HeaderValue::from_str(&shown).map_err(|_| "what it is to be shown cannot be sent".to_owned())?;
            shown.set_sensitive(true);
            request = request.header(AUTHORIZATION, shown);
        }
        request.body(Full::default()).map_err(|e| e.to_string())
    }

    async fn shown(&self) -> Result<Option<Zeroizing<String>>, String> {
        let login = self.login.clone();
        // It may be a file's.
        let read = tokio::task::spawn_blocking(move || match login {
            RegistryLogin::Nobody => Ok(None),
            RegistryLogin::Bearer(token) => Ok(Some(Zeroizing::new(format!("Bearer {}", token.read()?.trim())))),
            RegistryLogin::Basic(username, password) => {
                let both = Zeroizing::new(format!("{username}:{}", *password.read()?));
                Ok(Some(Zeroizing::new(format!("Basic {}", BASE64.encode(both.as_bytes())))))
            }
        });
        read.await.unwrap_or_else(|_| Err("closed by us".to_owned()))
    }
}

fn listed(references: Option<Vec<Reference>>) -> Vec<(Reference, Option<String>)> {
    references.into_iter().flatten().map(|reference| (reference, None)).collect()
}

fn check_format(registered: &Registered, format: Format) -> Result<(), NotFound> {
    let theirs = registered.format.as_deref().unwrap_or("AVRO");
    match theirs == format.registry_name() {
        true => Ok(()),
        false => Err(NotFound::Missing(format!(
            "has a schema of the type {theirs}, and the rule says `{format}`"
        ))),
    }
}

fn read(answer: &Response<Bytes>) -> Result<Option<Registered>, String> {
    match answer.status() {
        StatusCode::OK => serde_json::from_slice(answer.body())
            .map(Some)
            .map_err(|e| format!("what it answers is no schema: {e}")),
        StatusCode::NOT_FOUND => Ok(None),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(format!("answers {}: check `username` and `password`, or `token`", status.as_u16()))
        }
        status => Err(format!("answers {}: check `rules[].value.registry`", status.as_u16())),
    }
}

/// As one segment of a path.
fn in_path(text: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_subjects_stay_one_segment() {
        for (name, path) in [("a-value", "a-value"), ("a/b c+d", "a%2Fb%20c%2Bd"), ("../x?y#z", "..%2Fx%3Fy%23z")] {
            assert_eq!(in_path(name), path);
        }
    }
}
