//! A listening socket: accepts and spawns, nothing else.
//!
//! Everything that takes time (handshakes, then whatever the caller does with the [`Link`]) runs in the new
//! task, so one slow or hostile peer delays nobody. A panic in such a task ends that connection, is counted and said.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use crate::metrics::Metrics;

use super::doors::Door;
use super::entrance::Entrance;
use super::gate::{Gate, ListenerState};
use super::link::Link;
use super::settings::{Address, BindError, ListenerSettings};
use super::socket::Socket;
use super::stream::Stream;

/// The pause after an accept that failed; doubles up to [`LONGEST_PAUSE`] while failures last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// After so many that are let in others have their turn. To refuse one costs next to nothing.
const AT_A_TIME: u32 = 16;
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A bound listener. Connections queue in the kernel from here on; [`Listener::run`] takes them.
#[derive(Debug)]
pub struct Listener {
    door: Door,
    entrance: Arc<Entrance>,
    address: Address,
    protocol: &'static str,
    state: Arc<ListenerState>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Checks what can be checked without taking the port: certificates, keys, authorities.
    pub fn check(settings: &ListenerSettings) -> Result<(), BindError> {
        Entrance::new(settings).map(drop)
    }

    /// Reads the TLS files, then takes the port. Must be called within a tokio runtime.
    pub fn bind(settings: &ListenerSettings, gate: &Arc<Gate>, metrics: &Arc<Metrics>) -> Result<Self, BindError> {
        let entrance = Entrance::new(settings)?;
        let door = Door::open(settings)?;
        let state = ListenerState::new(&settings.name, metrics.listener(&settings.name), settings.limits);
        Ok(Self {
            door,
            address: settings.address.clone(),
            entrance: Arc::new(entrance),
            protocol: settings.protocol.as_str(),
            state: Arc::new(state),
            gate: gate.clone(),
            metrics: metrics.clone(),
        })
    }

    /// The address taken; tells the port where the settings said 0. 0.0.0.0:0 of a Unix socket.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.door.local_address()
    }

    /// The address as it is told: that of the settings, with the port taken.
    pub fn address(&self) -> Address {
        match (&self.address, self.local_address()) {
            (Address::Ip(_) | Address::OnlyIpv6(_), Ok(taken)) => taken.into(),
            (written, _) => written.clone(),
        }
    }

    /// As in the settings.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// As in the settings.
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Has the TLS files read at once when it is called, also if they do not look changed, while the listener runs.
    pub fn read_files_anew(&self) -> impl Fn() + Send + Sync + use<> {
        let entrance = self.entrance.clone();
        move || entrance.read_files_anew()
    }

    /// Accepts until `shutdown` resolves, and runs what `on_link` makes of each connection in a task of its own. Those tasks go
    /// on after the return; ending them is their owner's affair.
    pub async fn run<F, Fut>(self, on_link: F, shutdown: impl Future<Output = ()>)
    where
        F: Fn(Link) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut shutdown = pin!(shutdown);
        let mut files = pin!(self.entrance.follow_files(self.state.name.clone()));
        let (mut pause, mut taken) = (FIRST_PAUSE, 0);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                // Never ends, but with the runtime.
                () = &mut files => return,
                accepted = self.door.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    pause = FIRST_PAUSE;
                    taken += u32::from(self.take(socket, peer, &on_link));
                    if taken == AT_A_TIME {
                        taken = 0;
                        yield_now().await;
                    }
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

    /// Whether it is let in.
    fn take<F, Fut>(&self, socket: Socket, peer: SocketAddr, on_link: &F) -> bool
    where
        F: Fn(Link) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let opened = Instant::now();
        let admitted = self.gate.admit(&self.state, peer).and_then(|mut seat| {
            if !self.entrance.tells_clients() {
                // A Unix socket is of this machine, its clients have no address.
                let client = matches!(socket, Socket::Tcp(_)).then(|| peer.ip());
                seat.enter(client, opened)?;
            }
            Ok(seat)
        });
        let seat = match admitted {
            Ok(seat) => seat,
            Err(reason) => {
                self.state.refuse(reason, opened);
                return false;
            }
        };
        if self.entrance.is_open() {
            // Nothing around it: a plain connection's task has no room for handshakes, nor for a second link.
            tokio::spawn(self.gate.turns.of(opened, on_link(Link::new(Stream::Plain(socket), opened, seat))));
            return true;
        }
        // Boxed: its memory goes when it is done, not with the connection.
        let entered = Box::pin(self.entrance.clone().enter(socket, opened, seat));
        let on_link = on_link.clone();
        let connection = async move {
            if let Some(link) = entered.await {
                on_link(link).await;
            }
        };
        tokio::spawn(self.gate.turns.of(opened, connection));
        true
    }
}
