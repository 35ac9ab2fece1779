//! Servers that are asked who clients are: one question for each login, as a POST of what the client shows.
//!
//! A bounded number of questions is under way, on connections that are kept, and answers are known for a while, so a fleet that comes back costs
//! the server one question for each device. Whatever goes wrong lets nobody in.

use std::{
    io,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{freshness::lifetime, known::Known, news::News};
use crate::{
    auth::{Credentials, Decision},
    metrics::OutsideCounters,
    upstream::{
        Secret,
        http::{HttpClient, HttpSettings, OF_LOGINS},
    },
};

/// Bytes of the longest answer.
const LONGEST_ANSWER: usize = 64 << 10;
/// Questions that may wait for their turn at one server.
const MOST_WAITING: usize = 4096;

/// A server that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// Where.
    pub http: HttpSettings,
    /// What we show as a bearer token (RFC 6750).
    pub token: Option<Secret>,
    /// From a question, the wait for its turn included, to its answer.
    pub timeout: Duration,
    /// Questions under way.
    pub concurrency: usize,
    /// How long an answer is known at most; zero: it is not.
    pub cache: Duration,
    /// Claims that rights ask for.
    pub kept: Vec<String>,
}

/// The servers of the process.
#[derive(Debug, Default)]
pub struct LoginServers(Vec<LoginServer>);

#[derive(Debug)]
struct LoginServer {
    settings: LoginSettings,
    client: HttpClient,
    turns: Semaphore,
    /// Of those that wait for a turn, or have one.
    places: Semaphore,
    known: Known,
    counters: OutsideCounters,
    /// What was told of it.
    news: Mutex<News>,
}

impl LoginServers {
    /// Asks nothing yet.
    pub fn new(settings: &[LoginSettings], counters: &OutsideCounters) -> Self {
        let servers = settings.iter().map(|settings| {
            let url = &settings.http.url;
            if !url.is_tls() {
                tracing::warn!(%url, "logins are asked for by http://: whoever is on the way reads passwords, and can let anybody in");
            }
            LoginServer {
                client: HttpClient::new(settings.http.clone(), OF_LOGINS, LONGEST_ANSWER, settings.concurrency),
                turns: Semaphore::new(settings.concurrency),
                places: Semaphore::new(MOST_WAITING + settings.concurrency),
                known: Known::default(),
                counters: counters.clone(),
                news: Mutex::default(),
                settings: settings.clone(),
            }
        });
        Self(servers.collect())
    }

    /// What the server `number` says of a client that comes from this address. Bounded in time. Cancel-safe.
    pub async fn ask(&self, number: usize, shown: &Credentials<'_>, address: Option<IpAddr>) -> Decision {
        match self.0.get(number) {
            Some(server) => server.decide(shown, address).await,
            None => Decision::Unable,
        }
    }
}

impl LoginServer {
    async fn decide(&self, shown: &Credentials<'_>, address: Option<IpAddr>) -> Decision {
        let key = self.known.key(&question(shown, address));
        if let Some(decision) = self.known.get(&key, Instant::now()) {
            self.counters.login_cached.inc();
            return decision;
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Decision::Unable;
        };
        self.counters.login_requests.inc();
        let began = Instant::now();
        let asked = timeout(self.settings.timeout, self.ask(shown, address)).await;
        self.counters.login_latency.observe(began.elapsed().as_secs_f64());
        match asked.unwrap_or_else(|_| Err(format!("does not answer within {:?}", self.settings.timeout))) {
            Ok((decision, lifetime)) => {
                self.tell(None);
                let lifetime = lifetime.unwrap_or(self.settings.cache).min(self.settings.cache);
                let lifetime = lifetime.min(good_for(&decision, SystemTime::now()));
                self.known.put(key, &decision, Instant::now(), lifetime);
                decision
            }
            Err(why) => {
                self.counters.login_failures.inc();
                self.tell(Some(&why));
                Decision::Unable
            }
        }
    }

    /// The question is made when its turn has come: control characters are six times as long in JSON, and thousands may wait.
    async fn ask(&self, shown: &Credentials<'_>, address: Option<IpAddr>) -> Result<(Decision, Option<Duration>), String> {
        let _turn = self.turns.acquire().await.map_err(|_| "closed by us".to_owned())?;
        let answer = self.client.ask(self.request(question(shown, address)).await?).await?;
        let lifetime = lifetime(answer.headers());
        Ok((read(&answer, &self.settings.kept)?, lifetime))
    }

    async fn request(&self, question: Zeroizing<Vec<u8>>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = self.client.request(Method::POST).header(CONTENT_TYPE, "application/json");
        if let Some(token) = self.settings.token.clone() {
            // It may be a file's.
            let read = tokio::task::spawn_blocking(move || token.read()).await;
            let token = read.unwrap_or_else(|_| Err("closed by us".to_owned()))?;
            let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
            let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| "`authentication[].token` cannot be sent".to_owned())?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        // Overwritten when nobody holds it any more.
        request.body(Full::new(Bytes::from_owner(question))).map_err(|e| e.to_string())
    }

    /// Tells what goes wrong, and when it is over, as often as it is news.
    fn tell(&self, wrong: Option<&str>) {
        let url = self.client.url();
        // Held over the line: the last one that is written is the last that was decided about.
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = news.is_to_tell(wrong, Instant::now());
        match wrong {
            Some(why) if is_news => {
                tracing::error!(%url, why, "a server cannot be asked about logins; whoever it would decide about is refused");
            }
            None if is_news => tracing::info!(%url, "a server answers about logins again"),
            _ => {}
        }
    }
}

/// For how long what is decided holds: who asks after that may be told something new.
fn good_for(decision: &Decision, now: SystemTime) -> Duration {
    match decision {
        Decision::Allow { expires: Some(at), .. } => {
            let end = UNIX_EPOCH.checked_add(Duration::from_secs(*at));
            end.map_or(Duration::MAX, |end| end.duration_since(now).unwrap_or_default())
        }
        _ => Duration::MAX,
    }
}

/// What is asked. Members that the client does not show are not there.
#[derive(Serialize)]
struct Question<'a> {
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    /// Of one that is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_base64: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Names<'a>>,
}

/// The names in its certificate.
#[derive(Serialize)]
struct Names<'a> {
    common_name: Option<&'a str>,
    subject: Option<&'a str>,
    dns: &'a [String],
    uri: &'a [String],
    email: &'a [String],
    ip: &'a [String],
}

/// How long something is when it is written.
#[derive(Default)]
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// It is written once, to where it is overwritten later: a text that grows would leave pieces of passwords behind.
fn question(shown: &Credentials<'_>, address: Option<IpAddr>) -> Zeroizing<Vec<u8>> {
    let text = shown.password.map(std::str::from_utf8);
    let base64 = match (text, shown.password) {
        (Some(Err(_)), Some(bytes)) => Some(Zeroizing::new(BASE64.encode(bytes))),
        _ => None,
    };
    let question = Question {
        client: shown.client,
        address: address.map(|address| address.to_canonical()),
        username: shown.username,
        password: text.and_then(Result::ok),
        password_base64: base64.as_ref().map(|text| text.as_str()),
        certificate: shown.certificate.as_ref().map(|certificate| Names {
            common_name: certificate.common_name,
            subject: certificate.subject,
            dns: certificate.dns,
            uri: certificate.uris,
            email: certificate.emails,
            ip: certificate.addresses,
        }),
    };
    let mut length = Length::default();
    serde_json::to_writer(&mut length, &question).expect("texts are JSON");
    let mut out = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *out, &question).expect("texts are JSON");
    out
}

fn read(answer: &Response<Bytes>, kept: &[String]) -> Result<Decision, String> {
    match answer.status() {
        StatusCode::OK => Decision::read(answer.body(), kept).map_err(str::to_owned),
        status => Err(format!("answers {}: check `authentication[].url` and `token`", status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, pin::Pin, task};

    use super::*;
    use crate::{auth::Certificate, metrics::Metrics};

    #[tokio::test]
    async fn as_many_wait_as_are_said_beside_those_under_way() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let settings = LoginSettings {
            http: HttpSettings {
                url: url.parse().unwrap(),
                ca: None,
            },
            token: None,
            timeout: Duration::from_secs(60),
            concurrency: 3,
            cache: Duration::ZERO,
            kept: Vec::new(),
        };
        let servers = LoginServers::new(&[settings], &Metrics::new().outside);
        let shown = Credentials {
            client: "c",
            username: Some("u"),
            password: None,
            certificate: None,
        };
        let mut turn = task::Context::from_waker(task::Waker::noop());
        let mut asked: Vec<Pin<Box<dyn Future<Output = Decision>>>> = Vec::new();
        for _ in 0..MOST_WAITING + 3 {
            asked.push(Box::pin(servers.ask(0, &shown, None)));
            assert!(asked.last_mut().unwrap().as_mut().poll(&mut turn).is_pending(), "{}", asked.len());
        }
        let mut one_more = Box::pin(servers.ask(0, &shown, None));
        assert!(matches!(one_more.as_mut().poll(&mut turn), task::Poll::Ready(Decision::Unable)));
    }

    #[test]
    fn a_question_says_what_is_shown_and_leaves_no_copy() {
        let (dns, addresses) = (["a.example".to_owned()], ["10.1.2.4".to_owned()]);
        let certificate = Certificate {
            common_name: Some("vin42"),
            subject: None,
            dns: &dns,
            uris: &[],
            emails: &[],
            addresses: &addresses,
        };
        let shown = Credentials {
            client: "c\"",
            username: Some("u"),
            password: Some(&[0xff, 0]),
            certificate: Some(certificate),
        };
        let bytes = question(&shown, Some("::ffff:10.1.2.3".parse().unwrap()));
        assert_eq!(bytes.capacity(), bytes.len(), "it never grew");
        let names = serde_json::json!({
            "common_name": "vin42", "subject": null, "dns": ["a.example"], "uri": [], "email": [], "ip": ["10.1.2.4"],
        });
        let meant = serde_json::json!({
            "client": "c\"", "address": "10.1.2.3", "username": "u", "password_base64": "/wA=", "certificate": names,
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), meant);
    }
}
