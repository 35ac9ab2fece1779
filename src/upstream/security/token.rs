//! Bearer tokens: out of a file, or from an authorization server by the client credentials grant (RFC 6749 §4.4).
//!
//! A token of a server is kept until most of its time is over, and asked for by one task at a time, however many connections want
//! it. While it is still good, a server that does not answer harms nobody.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::settings::{Secret, TokenEndpoint, TokenSource};
use crate::{
    kafka::sasl::{is_token, shown},
    upstream::{
        backoff,
        http::{HttpClient, HttpSettings, OF_TOKEN_ENDPOINTS},
    },
};

/// Bound of one question: less than half the time in which a connection must be ready, so that who waits for the answer hears why.
const PATIENCE: Duration = Duration::from_secs(4);
/// Of a token's time, the part after which another is asked for.
const RENEWED_AFTER: f64 = 0.8;
/// The wait after the first failure, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(10);
/// Longest answer. Tokens are a few KiB.
const LONGEST_ANSWER: usize = 256 * 1024;
/// Longest lifetime that is believed.
const LONGEST_LIFE: f64 = 10.0 * 365.0 * 86_400.0;

/// A token, overwritten when it is dropped.
pub(super) type Token = Zeroizing<String>;

/// The tokens of one client.
pub(super) struct Tokens {
    source: Source,
    /// Held while the server is asked: the others find its answer.
    kept: Mutex<Kept>,
}

enum Source {
    Held(Secret),
    Endpoint(Box<(TokenEndpoint, HttpClient)>),
}

#[derive(Default)]
struct Kept {
    token: Option<(Token, Life)>,
    failure: Option<Failure>,
}

#[derive(Clone, Copy)]
struct Life {
    renewed: Instant,
    ends: Instant,
}

#[derive(Clone)]
struct Failure {
    why: String,
    until: Instant,
    in_a_row: u32,
}

/// What a server answers, as far as it matters (RFC 6749 §5).
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    /// Seconds; some servers write it as a text.
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    pub(super) fn new(source: TokenSource) -> Self {
        let source = match source {
            TokenSource::Held(secret) => Source::Held(secret),
            TokenSource::Endpoint(endpoint) => {
                let settings = HttpSettings {
                    url: endpoint.url.clone(),
                    ca: endpoint.ca.clone(),
                };
                // A token is asked for so rarely that no connection is kept.
                let client = HttpClient::new(settings, OF_TOKEN_ENDPOINTS, LONGEST_ANSWER, 0);
                Source::Endpoint(Box::new((endpoint, client)))
            }
        };
        Self {
            source,
            kept: Mutex::default(),
        }
    }

    /// A token that is good for a while.
    ///
    /// # Errors
    /// In words for an operator.
    pub(super) async fn get(&self) -> Result<Token, String> {
        let (endpoint, client) = match &self.source {
            Source::Held(secret) => return held(secret.clone()).await,
            Source::Endpoint(both) => (&both.0, &both.1),
        };
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        match (&kept.token, &kept.failure) {
            (Some((token, life)), _) if life.renewed > now => return Ok(token.clone()),
            (Some((token, life)), Some(failure)) if failure.until > now && life.ends > now => return Ok(token.clone()),
            (_, Some(failure)) if failure.until > now => return Err(failure.why.clone()),
            _ => {}
        }
        let asked = timeout(PATIENCE, ask(endpoint, client)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("does not answer within {} s", PATIENCE.as_secs())));
        kept.take(asked.map_err(|why| format!("{}: {why}", endpoint.url)))
    }

    /// A broker did not take it: another is asked for.
    pub(super) async fn refused(&self, token: &Token) {
        let mut kept = self.kept.lock().await;
        if kept.token.as_ref().is_some_and(|(kept, _)| kept == token) {
            kept.token = None;
        }
    }
}

async fn ask(endpoint: &TokenEndpoint, client: &HttpClient) -> Result<(Token, Duration), String> {
    let answer = client.ask(request(endpoint, client).await?).await?;
    read(answer.status(), answer.body())
}

impl Kept {
    /// Remembers how the question went. What is still good is good enough after one that went wrong.
    fn take(&mut self, asked: Result<(Token, Duration), String>) -> Result<Token, String> {
        let now = Instant::now();
        match asked {
            Ok((token, lifetime)) => {
                let life = Life {
                    renewed: now + lifetime.mul_f64(RENEWED_AFTER),
                    ends: now + lifetime,
                };
                self.failure = None;
                self.token = Some((token.clone(), life));
                Ok(token)
            }
            Err(why) => {
                let in_a_row = self.failure.as_ref().map_or(0, |f| f.in_a_row + 1);
                let still_good = self
                    .token
                    .as_ref()
                    .filter(|(_, life)| life.ends > now)
                    .map(|(token, _)| token.clone());
                if still_good.is_some() {
                    tracing::warn!(why, "no new token for Kafka; the one there is stays in use until it expires");
                }
                self.failure = Some(Failure {
                    why: why.clone(),
                    until: now + backoff::wait(in_a_row, FIRST, MOST),
                    in_a_row,
                });
                still_good.ok_or(why)
            }
        }
    }
}

/// Reads a file, so off the runtime's threads.
async fn held(secret: Secret) -> Result<Token, String> {
    let read = move || {
        let text = secret.read()?;
        let token = text.trim();
        if is_token(token) {
            return Ok(Zeroizing::new(token.to_owned()));
        }
        Err(format!("{secret:?}: what it holds is no bearer token"))
    };
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|_| Err("closed by us".to_owned()))
}

async fn request(endpoint: &TokenEndpoint, client: &HttpClient) -> Result<Request<Full<Bytes>>, String> {
    let secret = endpoint.client_secret.clone();
    let secret = tokio::task::spawn_blocking(move || secret.read()).await;
    let secret = secret.unwrap_or_else(|_| Err("closed by us".to_owned()))?;
    // Both are encoded as a form before they are joined (§2.3.1).
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let login = Zeroizing::new(format!("{}:{}", encoded(&endpoint.client_id), *Zeroizing::new(encoded(&secret))));
    let login = Zeroizing::new(format!("Basic {}", BASE64.encode(login.as_bytes())));
    let mut authorization = HeaderValue::from_str(&login).map_err(|_| "the client's secret cannot be sent".to_owned())?;
    authorization.set_sensitive(true);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &endpoint.scope {
        form.append_pair("scope", scope);
    }
    client
        .request(Method::POST)
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form.finish())))
        .map_err(|e| e.to_string())
}

fn read(status: StatusCode, body: &[u8]) -> Result<(Token, Duration), String> {
    let answer: Result<Answer, _> = serde_json::from_slice(body);
    if status != StatusCode::OK {
        let words = answer.ok().and_then(|answer| {
            let error = answer.error?;
            Some(format!(" {error} {}", answer.error_description.unwrap_or_default()))
        });
        let words = shown(&words.unwrap_or_default());
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                ": check `client_id`, `client_secret` and `scope` of `kafka.security.sasl`"
            }
            StatusCode::NOT_FOUND => ": check `kafka.security.sasl.token_endpoint`",
            _ => "",
        };
        return Err(format!("answers {} {words}", status.as_u16()).trim_end().to_owned() + remedy);
    }
    let Ok(answer) = answer else {
        return Err("answers no JSON: check `kafka.security.sasl.token_endpoint`".to_owned());
    };
    let token = Zeroizing::new(answer.access_token.unwrap_or_default());
    let bearer = answer.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !bearer || !is_token(&token) {
        return Err("gives no bearer token".to_owned());
    }
    Ok((token, answer.expires_in.as_ref().map_or(Duration::ZERO, lifetime)))
}

/// Without one that can be believed a token is asked for each time.
fn lifetime(told: &serde_json::Value) -> Duration {
    let seconds = told
        .as_f64()
        .or_else(|| told.as_str()?.parse().ok())
        .filter(|s: &f64| s.is_finite());
    Duration::try_from_secs_f64(seconds.unwrap_or(0.0).min(LONGEST_LIFE)).unwrap_or_default()
}

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;
