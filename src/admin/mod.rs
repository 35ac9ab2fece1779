//! The listener for operators: `/metrics`, `/healthz`, `/readyz`, `/config` over HTTP/1.1, and nothing that changes anything.
//!
//! It runs beside the devices' listeners and must not be hurt by them, nor hurt them: few connections, one request
//! each, small headers, no body read, one deadline for all of it. Readiness is a snapshot that the application hands in,
//! and so is the configuration, from which it has taken what is secret: this listener has no login. A browser that somebody
//! else's page leads here is turned away (`host`).

mod host;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::host::Hosts;
use crate::metrics::{self, Metrics};

/// Connections served at once; one more waits in the kernel's queue.
const CONNECTIONS: usize = 32;

/// From accept to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Request line and headers together (hyper's smallest).
const HEADER_BYTES: usize = 8 * 1024;

/// Connections that the kernel takes ahead of us.
const BACKLOG: u32 = 1024;

/// The pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The `admin` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen. Port 0 takes any free port.
    pub address: SocketAddr,
    /// Whether `[::]` is none of IPv4, one of whose addresses is a listener's with the same port; otherwise the system says.
    pub only_ipv6: bool,
    /// Names by which requests may ask for it, without ports.
    pub hosts: Vec<String>,
}

/// Whether this instance can carry messages now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It can.
    Yes,
    /// It cannot, and this is why, in words for an operator.
    No(String),
}

/// What it answers with.
#[derive(Clone, Debug)]
pub struct Pages {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub ready: watch::Receiver<Ready>,
    /// For `/config`: JSON without secrets.
    pub configuration: Bytes,
}

/// Why the admin listener cannot be had, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindError {
    /// What is wrong, with the address.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "admin: {}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for BindError {}

/// The bound admin listener.
#[derive(Debug)]
pub struct Admin {
    socket: TcpListener,
    hosts: Hosts,
}

impl Admin {
    /// Takes the port.
    pub async fn bind(settings: &Settings) -> Result<Self, BindError> {
        let address = settings.address;
        let socket = listen(address, settings.only_ipv6).await.map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => {
                let message = format!("address {address} is in use");
                BindError {
                    message,
                    remedy: "stop the other process or give another port in admin.address".to_owned(),
                }
            }
            _ => BindError {
                message: format!("cannot listen on {address}: {e}"),
                remedy: "check admin.address".to_owned(),
            },
        })?;
        let hosts = Hosts::new(address, &settings.hosts);
        Ok(Self { socket, hosts })
    }

    /// The address taken; tells the port where the settings said 0.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown` resolves. Requests already accepted are still answered, within their deadline.
    pub async fn run(self, pages: Pages, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut shutdown = pin!(shutdown);
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                self.socket.accept().await.map(|(tcp, _)| (tcp, place))
            };
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                accepted = next => accepted,
            };
            match accepted {
                Ok((tcp, place)) => drop(tokio::spawn(serve(tcp, place, pages.clone(), self.hosts.clone()))),
                Err(e) => {
                    tracing::warn!(error = %e, "admin cannot accept");
                    tokio::select! {
                        () = &mut shutdown => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
}

async fn listen(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    if !only_ipv6 {
        return TcpListener::bind(address).await;
    }
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One connection, one request, one deadline.
async fn serve(tcp: TcpStream, _place: OwnedSemaphorePermit, pages: Pages, hosts: Hosts) {
    let service = service_fn(|request| answer(request, &pages, &hosts));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(tcp), service);
    // A peer that is too slow or breaks the protocol is its own loss.
    let _ = tokio::time::timeout(DEADLINE, connection).await;
}

async fn answer(request: Request<Incoming>, pages: &Pages, hosts: &Hosts) -> Result<Response<Full<Bytes>>, Infallible> {
    if !hosts.take(&request) {
        return Ok(text(
            StatusCode::MISDIRECTED_REQUEST,
            "no host of this listener; admin.hosts names others\n",
        ));
    }
    let Pages {
        metrics,
        ready,
        configuration,
    } = pages;
    let known = matches!(request.uri().path(), "/metrics" | "/healthz" | "/readyz" | "/config");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            metrics.ready.set(i64::from(matches!(&*ready.borrow(), Ready::Yes)));
            scrape(metrics.clone()).await
        }
        "/healthz" => text(StatusCode::OK, "alive\n"),
        "/readyz" => match &*ready.borrow() {
            Ready::Yes => text(StatusCode::OK, "ready\n"),
            Ready::No(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/config" => typed(StatusCode::OK, JSON, configuration.clone()),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and /config\n"),
    })
}

/// A scrape reads `/proc`, so it runs where blocking is allowed.
async fn scrape(metrics: Arc<Metrics>) -> Response<Full<Bytes>> {
    let tasks = Handle::current().metrics().num_alive_tasks();
    metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    match tokio::task::spawn_blocking(move || metrics.encode()).await {
        Ok(body) => typed(StatusCode::OK, metrics::CONTENT_TYPE, body),
        // Only while the runtime ends.
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, TEXT, body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // An answer about now must not come out of a proxy's store.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
