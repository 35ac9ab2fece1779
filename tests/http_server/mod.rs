//! A server that answers HTTP as a test says, by TLS if that is wanted, and remembers what it was asked.
#![allow(dead_code)] // Each test binary uses its part.
#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Ends when it is dropped.
pub struct HttpServer {
    port: u16,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// `None`: connections are closed without an answer.
    answer: Option<String>,
    /// No answer, and connections stay open.
    silent: bool,
    asked: Vec<String>,
    /// Wakes who was asked in the silence.
    speaks: Arc<Notify>,
}

impl HttpServer {
    /// In the clear, answering `body` with 200.
    pub async fn start(body: &str) -> Self {
        Self::serve(body, None).await
    }

    /// By TLS as `localhost`, under an authority of its own, whose certificate comes back as a file.
    pub async fn start_tls(body: &str) -> (Self, tempfile::TempPath) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&ca, pair.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        (Self::serve(body, Some(TlsAcceptor::from(Arc::new(config)))).await, ca)
    }

    async fn serve(body: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::<Mutex<State>>::default();
        let (shared, mut tasks) = (state.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (shared.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        let server = Self {
            port,
            scheme,
            state,
            _tasks: tasks,
        };
        server.answer("200 OK", "", body);
        server
    }

    /// Its address with this path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.port)
    }

    /// What it answers from now on, also to what it was asked in a silence; `headers` end with a line break each.
    pub fn answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        let mut state = self.state.lock().unwrap();
        (state.answer, state.silent) = (Some(answer), false);
        state.speaks.notify_waiters();
    }

    /// From now on it reads, and answers nothing.
    pub fn fall_silent(&self) {
        self.state.lock().unwrap().silent = true;
    }

    /// From now on it closes connections.
    pub fn go_away(&self) {
        self.state.lock().unwrap().answer = None;
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    loop {
        while !is_whole(&bytes) {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        state
            .lock()
            .unwrap()
            .asked
            .push(String::from_utf8(std::mem::take(&mut bytes)).unwrap());
        let Some(answer) = answer(&state).await else {
            return;
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What it says, once it says something.
async fn answer(state: &Mutex<State>) -> Option<String> {
    loop {
        let spoken = {
            let state = state.lock().unwrap();
            if !state.silent {
                return state.answer.clone();
            }
            state.speaks.clone().notified_owned()
        };
        spoken.await;
    }
}

/// One request at a time: what is there is all of it.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    body.len() >= length.map_or(0, |length| length.trim().parse().unwrap())
}
