//! A listening socket: accepts and spawns, nothing else.
//!
//! Everything that takes time (the TLS handshake, then whatever the caller does with the [`Link`]) runs in the new
//! task, so one slow or hostile peer delays nobody. A panic in such a task ends that connection, is counted and said.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::metrics::{ConnectionRefusal, Metrics};

use super::gate::{Gate, ListenerState, Seat};
use super::link::Link;
use super::settings::{BindError, ListenerSettings, Protocol};
use super::stream::Stream;
use super::tls;

/// Handshakes the kernel completes ahead of us; it caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// The pause after an accept that failed; doubles up to [`LONGEST_PAUSE`] while failures last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A bound listener. Connections queue in the kernel from here on; [`Listener::run`] takes them.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    state: Arc<ListenerState>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Checks what can be checked without taking the port: certificates, keys, authorities.
    pub fn check(settings: &ListenerSettings) -> Result<(), BindError> {
        tls_of(settings).map(drop)
    }

    /// Reads the TLS files, then takes the port. Must be called within a tokio runtime.
    pub fn bind(settings: &ListenerSettings, gate: &Arc<Gate>, metrics: &Arc<Metrics>) -> Result<Self, BindError> {
        let tls = tls_of(settings)?;
        let socket = listen(settings.address).map_err(|e| cannot_listen(settings, &e))?;
        let state = ListenerState::new(&settings.name, metrics.listener(&settings.name));
        Ok(Self {
            socket,
            tls,
            state: Arc::new(state),
            gate: gate.clone(),
            metrics: metrics.clone(),
        })
    }

    /// The address taken; tells the port where the settings said 0.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// As in the settings.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// As in the settings.
    pub fn protocol(&self) -> &'static str {
        if self.tls.is_some() { "mqtts" } else { "mqtt" }
    }

    /// Accepts until `shutdown` resolves, and gives each connection to `on_link` in a task of its own. Those tasks go
    /// on after the return; ending them is their owner's affair.
    pub async fn run<F, Fut>(self, on_link: F, shutdown: impl Future<Output = ()>)
    where
        F: Fn(Link) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut shutdown = pin!(shutdown);
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    pause = FIRST_PAUSE;
                    self.take(tcp, peer, &on_link);
                }
                Err(e) => {
                    self.metrics.accept_errors.inc();
                    if pause == FIRST_PAUSE {
                        tracing::warn!(listener = &*self.state.name, error = %e, "cannot accept; retrying with back-off");
                    }
                    tokio::select! {
                        () = &mut shutdown => return,
                        () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                    }
                }
            }
        }
    }

    fn take<F, Fut>(&self, tcp: TcpStream, peer: SocketAddr, on_link: &F)
    where
        F: Fn(Link) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let opened = Instant::now();
        let seat = match self.gate.admit(&self.state, opened) {
            Ok(seat) => seat,
            Err(reason) => return self.state.refuse(reason, opened),
        };
        // Answers are gathered by us; the kernel must not wait for more. Fails only on a socket that is dead already.
        let _ = tcp.set_nodelay(true);
        let watch = PanicWatch {
            metrics: self.metrics.clone(),
            peer,
        };
        let on_link = on_link.clone();
        match self.tls.clone() {
            // Apart from the other arm, so that a plain connection's task has no room for a handshake.
            None => {
                let link = Link::new(Stream::Plain(tcp), peer, opened, seat);
                tokio::spawn(async move {
                    let _watch = watch;
                    on_link(link).await;
                });
            }
            Some(config) => {
                tokio::spawn(async move {
                    let _watch = watch;
                    // Boxed: its memory goes when it is done, not with the connection.
                    if let Some(link) = Box::pin(handshake(config, tcp, peer, opened, seat)).await {
                        on_link(link).await;
                    }
                });
            }
        }
    }
}

/// The TLS handshake under the connect deadline; `None` is counted.
async fn handshake(config: Arc<ServerConfig>, tcp: TcpStream, peer: SocketAddr, opened: Instant, seat: Seat) -> Option<Link> {
    let deadline = tokio::time::Instant::from_std(opened + seat.connect_timeout());
    let refusal = match tokio::time::timeout_at(deadline, TlsAcceptor::from(config).accept(tcp)).await {
        Ok(Ok(stream)) => {
            let (tcp, session) = stream.into_inner();
            return Some(Link::new(Stream::tls(tcp, session), peer, opened, seat));
        }
        Ok(Err(e)) => {
            tracing::debug!(listener = &*seat.listener.name, %peer, error = %e, "TLS handshake failed");
            ConnectionRefusal::Handshake
        }
        Err(_) => ConnectionRefusal::Deadline,
    };
    seat.listener.counters.refused(refusal);
    None
}

/// Lives in a connection's task. tokio catches the panic of a task, but what lives in it is dropped while it unwinds.
struct PanicWatch {
    metrics: Arc<Metrics>,
    peer: SocketAddr,
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.metrics.connection_panics.inc();
            tracing::error!(peer = %self.peer, "a connection's task panicked; only that connection ended");
        }
    }
}

fn tls_of(settings: &ListenerSettings) -> Result<Option<Arc<ServerConfig>>, BindError> {
    let Protocol::Mqtts(tls) = &settings.protocol else {
        return Ok(None);
    };
    let named = |(message, remedy)| BindError {
        listener: settings.name.clone(),
        message,
        remedy,
    };
    tls::server_config(tls).map(Some).map_err(named)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart must not wait for the old connections' TIME_WAIT; a port that is listened on stays taken all the same.
    socket.set_reuseaddr(true)?;
    // Inherited by what is accepted: a device that asks for no MQTT keep alive and vanishes without a word is found out in the kernel's
    // time (two hours, if nobody set another), instead of never.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_listen(settings: &ListenerSettings, error: &io::Error) -> BindError {
    let address = settings.address;
    let (message, remedy) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("address {address} is in use"),
            "stop the other process or give another port",
        ),
        io::ErrorKind::PermissionDenied => (
            format!("no permission to listen on {address}"),
            "give a port from 1024 up, or the capability CAP_NET_BIND_SERVICE",
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("address {address} is not of this machine"),
            "give one of its own, or 0.0.0.0 or [::] for all of them",
        ),
        _ => (format!("cannot listen on {address}: {error}"), "check the address"),
    };
    BindError {
        listener: settings.name.clone(),
        message,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_looked_after_by_the_kernel() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(TcpSocket::from_std_stream(accepted.into_std().unwrap()).keepalive().unwrap());
    }
}
