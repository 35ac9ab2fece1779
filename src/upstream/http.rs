//! HTTP/1.1 as a client of one address: a token endpoint, a key set, whoever decides about logins.
//!
//! One request at a time on a connection, and a connection is kept for the next one where its user wants so. Redirects are not followed: what
//! is asked, and by whose certificate, is what the configuration says. Time is bounded by the caller, the answer's size here.

mod url;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    client::conn::http1::{self, SendRequest},
    header::{ACCEPT, HOST, USER_AGENT},
    http::request,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use super::{
    dial::dial,
    security::{Remedies, Tls, TlsSettings},
};

pub use super::security::{OF_KEY_SETS, OF_LOGINS, OF_REGISTRIES, OF_TOKEN_ENDPOINTS};
pub use url::HttpUrl;

/// A connection that has been idle for longer is not used again: servers close theirs, some after five seconds, most after a minute.
const IDLE: Duration = Duration::from_secs(30);

/// Where to ask, and whom to believe there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// The address.
    pub url: HttpUrl,
    /// PEM of the authorities that sign its certificate; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
}

/// A client of one address.
pub struct HttpClient {
    url: HttpUrl,
    tls: Option<Arc<Tls>>,
    /// Bytes of the longest answer.
    longest: usize,
    /// Connections kept while nothing is asked.
    most_idle: usize,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Ends with it.
    _driver: JoinSet<hyper::Result<()>>,
    used: Instant,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpClient({})", self.url)
    }
}

impl HttpClient {
    /// With answers of at most `longest` bytes, and at most `most_idle` connections kept while nothing is asked.
    pub fn new(settings: HttpSettings, remedies: &'static Remedies, longest: usize, most_idle: usize) -> Self {
        let HttpSettings { url, ca } = settings;
        let tls = url
            .is_tls()
            .then(|| Arc::new(Tls::new(TlsSettings { ca, identity: None }, remedies)));
        Self {
            url,
            tls,
            longest,
            most_idle,
            idle: Mutex::default(),
        }
    }

    /// What is asked.
    pub fn url(&self) -> &HttpUrl {
        &self.url
    }

    /// A request of this address, for JSON; the rest is its user's.
    pub fn request(&self, method: Method) -> request::Builder {
        Request::builder()
            .method(method)
            .uri(self.url.path())
            .header(HOST, self.url.authority())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("mqtt-kafka-proxy/", env!("CARGO_PKG_VERSION")))
    }

    /// The same, of what lies below this address.
    pub fn request_below(&self, method: Method, path: &str) -> request::Builder {
        self.request(method)
            .uri(format!("{}/{path}", self.url.path().trim_end_matches('/')))
    }

    /// Asks. What is asked must bear being asked twice: a kept connection may break when it is used, and then a new one is.
    ///
    /// # Errors
    /// There is no answer, or one that is too long: in words for an operator.
    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        if let Some(connection) = self.kept() {
            match self.exchange(connection, request.clone()).await {
                Err(Failure::Unanswered(_)) => {}
                Err(Failure::Unreadable(why)) => return Err(why),
                Ok(answer) => return Ok(answer),
            }
        }
        let connection = self.open().await?;
        self.exchange(connection, request).await.map_err(|failure| match failure {
            Failure::Unanswered(why) | Failure::Unreadable(why) => why,
        })
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| connection.used.elapsed() < IDLE && connection.sender.is_ready());
        idle.pop()
    }

    fn keep(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most_idle {
            idle.push(connection);
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let address = self.url.address();
        let tcp = dial(&address).await.map_err(|e| e.to_string())?;
        // Its questions are small, and someone waits for the answer.
        let _ = tcp.set_nodelay(true);
        match &self.tls {
            None => handshake(tcp).await,
            Some(tls) => {
                let (stream, _) = tls.connect(tcp, &address).await.map_err(|e| e.to_string())?;
                handshake(stream).await
            }
        }
    }

    async fn exchange(&self, mut connection: Connection, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failure> {
        let response = connection.sender.send_request(request).await;
        let response = response.map_err(|e| Failure::Unanswered(format!("no HTTP answer: {e}")))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, self.longest).collect().await;
        let body = body.map_err(|e| Failure::Unreadable(format!("its answer cannot be read: {e}")))?;
        if self.most_idle > 0 && connection.sender.ready().await.is_ok() {
            self.keep(connection);
        }
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

enum Failure {
    /// The connection broke before an answer began.
    Unanswered(String),
    /// While it was read.
    Unreadable(String),
}

async fn handshake<S>(stream: S) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok(Connection {
        sender,
        _driver: driver,
        used: Instant::now(),
    })
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
